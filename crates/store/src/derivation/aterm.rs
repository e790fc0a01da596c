//! The ATerm form of derivations: the contents of `.drv` files.
//!
//! ```text
//! Derive([(output,path,method,hash),…],[(drv path,[output,…]),…],[source,…],
//!        platform,builder,[argument,…],[(variable,value),…])
//! ```
//!
//! Without spaces or line ends, all lists but the arguments sorted and free of repetition. In strings,
//! `"` and `\` are preceded by `\`, and line feed, carriage return and tab are written `\n`, `\r` and
//! `\t`. Inputs that are dynamic derivations need the form `DrvWithVersion("xp-dyn-drv",…)`, in which the
//! outputs of an input may be `([output,…],[(output,outputs of that),…])`.

use super::{
    Derivation, DerivationOutput, DerivationParts, InputNames, InputOutputs, MAX_DYNAMIC_DEPTH,
    OutputName, STRUCTURED_ATTRS_KEY, check_output_name, too_deep,
};
use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::error::{Error, ErrorKind, Result, excerpt};
use crate::escape::may_need_escape;
use crate::hash::{Hash, HashFormat};
use crate::store_path::{StoreDir, StorePath};
use bstr::BString;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

// Writing -------------------------------------------------------------------------------------------

/// Whether a byte needs a backslash.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'\n' as usize] = true;
    table[b'\r' as usize] = true;
    table[b'\t' as usize] = true;
    table
};

/// The place of the first byte that needs a backslash.
fn find_escaped(text: &[u8]) -> Option<usize> {
    let (words, _) = text.as_chunks::<8>();
    let plain = words.iter().take_while(|word| !may_need_escape(**word));
    let at = plain.count() * 8;
    let found = text.get(at..)?.iter().position(|b| is_escaped(*b));
    found.map(|i| at + i)
}

#[inline]
fn is_escaped(byte: u8) -> bool {
    ESCAPED[usize::from(byte)]
}

fn write_escaped<W: Write>(out: &mut W, text: &[u8]) -> io::Result<()> {
    const PIECE: usize = 512;
    let Some(first) = find_escaped(text) else {
        return out.write_all(text);
    };
    let (plain, text) = text.split_at(first);
    out.write_all(plain)?;
    // A piece whose every byte is escaped just fits.
    let mut buffer = [0; 2 * PIECE];
    for piece in text.chunks(PIECE) {
        let mut len = 0;
        let (words, rest) = piece.as_chunks::<8>();
        for word in words {
            match buffer.get_mut(len..len + 8) {
                Some(plain) if !may_need_escape(*word) => {
                    plain.copy_from_slice(word);
                    len += 8;
                }
                _ => escape_bytes(word, &mut buffer, &mut len),
            }
        }
        escape_bytes(rest, &mut buffer, &mut len);
        out.write_all(buffer.get(..len).unwrap_or(&[]))?;
    }
    Ok(())
}

/// Adds bytes to a buffer that has room for two of each. Without branches, for JSON is full of quotes.
#[inline]
fn escape_bytes<const N: usize>(bytes: &[u8], buffer: &mut [u8; N], len: &mut usize) {
    for byte in bytes {
        let escaped = usize::from(is_escaped(*byte));
        let letter = match *byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            byte => byte,
        };
        if let Some([first, second]) = buffer.get_mut(*len..*len + 2) {
            *first = b'\\';
            *second = letter;
        }
        if let Some(place) = buffer.get_mut(*len + escaped) {
            *place = letter;
        }
        *len += 1 + escaped;
    }
}

fn write_string<W: Write>(out: &mut W, text: &[u8]) -> io::Result<()> {
    out.write_all(b"\"")?;
    write_escaped(out, text)?;
    out.write_all(b"\"")
}

fn write_path<W: Write>(out: &mut W, store: &StoreDir, path: &StorePath) -> io::Result<()> {
    out.write_all(b"\"")?;
    out.write_all(store.as_str().as_bytes())?;
    out.write_all(b"/")?;
    out.write_all(path.base_name().as_bytes())?;
    out.write_all(b"\"")
}

/// `item`s in brackets, with commas between them.
fn write_list<W: Write, T>(
    out: &mut W,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut W, T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, x) in items.into_iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        item(out, x)?;
    }
    out.write_all(b"]")
}

fn write_names<'a, W: Write>(
    out: &mut W,
    names: impl IntoIterator<Item = &'a OutputName>,
) -> io::Result<()> {
    write_list(out, names, |out, name| write_string(out, name.as_bytes()))
}

// The depth of the recursion is that of the map, which `InputOutputs::add_dynamic` bounds.
fn write_input_outputs<W: Write>(out: &mut W, node: &InputOutputs) -> io::Result<()> {
    if node.dynamic().is_empty() {
        return write_names(out, node.outputs());
    }
    out.write_all(b"(")?;
    write_names(out, node.outputs())?;
    out.write_all(b",")?;
    write_list(out, node.dynamic(), |out, (name, child)| {
        out.write_all(b"(")?;
        write_string(out, name.as_bytes())?;
        out.write_all(b",")?;
        write_input_outputs(out, child)?;
        out.write_all(b")")
    })?;
    out.write_all(b")")
}

/// A place in the text where the value of an environment variable that is named like an output was left out.
pub(super) struct Hole<'a> {
    offset: usize,
    /// Which output it is.
    pub(super) output: usize,
    /// The value that was given.
    pub(super) value: &'a [u8],
}

impl Derivation {
    /// Writes the ATerm form: the exact contents of the `.drv` file.
    ///
    /// Fails only if the writer does, or when a fixed output has no path (say, a name that is too long).
    pub fn write_aterm<W: Write>(&self, store: &StoreDir, out: &mut W) -> Result<()> {
        let parts = self.as_parts();
        parts.write_head(store, Some(&parts.known_paths(store)?), out)?;
        parts.write_inputs(store, out)?;
        parts.write_tail(store, out)?;
        Ok(())
    }

    /// The ATerm form as bytes.
    pub fn to_aterm(&self, store: &StoreDir) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.as_parts().tail_size_hint() + 1024);
        self.write_aterm(store, &mut out)?;
        Ok(out)
    }
}

impl<'a> DerivationParts<'a> {
    /// Everything up to the inputs. `paths`: those of the outputs, in their order; left out if not given.
    pub(super) fn write_head<W: Write>(
        &self,
        store: &StoreDir,
        paths: Option<&[Option<StorePath>]>,
        out: &mut W,
    ) -> Result<()> {
        out.write_all(if self.has_dynamic_inputs() {
            b"DrvWithVersion(\"xp-dyn-drv\","
        } else {
            b"Derive("
        })?;
        out.write_all(b"[")?;
        for (i, (name, output)) in self.outputs.iter().enumerate() {
            out.write_all(if i == 0 { b"(" } else { b",(" })?;
            write_string(out, name.as_bytes())?;
            out.write_all(b",")?;
            match paths.and_then(|paths| paths.get(i)) {
                Some(Some(path)) => write_path(out, store, path)?,
                _ => out.write_all(b"\"\"")?,
            }
            let (method, hash) = match output {
                DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => {
                    (None, String::new())
                }
                DerivationOutput::CaFixed(ContentAddress { method, hash }) => (
                    Some((*method, hash.algorithm())),
                    hash.encode(HashFormat::Base16),
                ),
                DerivationOutput::CaFloating { method, algorithm } => {
                    (Some((*method, *algorithm)), String::new())
                }
                DerivationOutput::Impure { method, algorithm } => {
                    (Some((*method, *algorithm)), "impure".into())
                }
            };
            let (prefix, algorithm) = match method {
                Some((method, algorithm)) => (method.prefix(), algorithm.name()),
                None => ("", ""),
            };
            write!(out, ",\"{prefix}{algorithm}\",\"{hash}\")")?;
        }
        out.write_all(b"],")?;
        Ok(())
    }

    /// The input derivations by path, with a comma behind.
    pub(super) fn write_inputs<W: Write>(&self, store: &StoreDir, out: &mut W) -> io::Result<()> {
        write_list(out, &self.input_drvs, |out, (path, names)| {
            out.write_all(b"(")?;
            write_path(out, store, path)?;
            out.write_all(b",")?;
            match names {
                InputNames::One(name) => write_names(out, [*name])?,
                InputNames::Many(node) => write_input_outputs(out, node)?,
            }
            out.write_all(b")")
        })?;
        out.write_all(b",")
    }

    /// Everything after the input derivations. `value` writes the value of a variable, given the output,
    /// the variable's name and value.
    fn write_tail_with<W: Write>(
        &self,
        store: &StoreDir,
        out: &mut W,
        mut value: impl FnMut(&mut W, &'a [u8], &'a [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        write_list(out, &self.input_srcs, |out, path| {
            write_path(out, store, path)
        })?;
        // The reference does not escape the platform.
        out.write_all(b",\"")?;
        out.write_all(self.platform)?;
        out.write_all(b"\",")?;
        write_string(out, self.builder)?;
        out.write_all(b",")?;
        write_list(out, &self.args, |out, arg| write_string(out, arg))?;
        out.write_all(b",[")?;
        let mut comma: &[u8] = b"";
        let mut structured = self.structured_attrs;
        for (name, text) in &self.env {
            if let Some(json) = structured
                && *name > STRUCTURED_ATTRS_KEY.as_bytes()
            {
                write_structured_attrs(out, comma, json)?;
                comma = b",";
                structured = None;
            }
            out.write_all(comma)?;
            out.write_all(b"(")?;
            comma = b",";
            write_string(out, name)?;
            out.write_all(b",\"")?;
            value(out, name, text)?;
            out.write_all(b"\")")?;
        }
        if let Some(json) = structured {
            write_structured_attrs(out, comma, json)?;
        }
        out.write_all(b"])")
    }

    /// Everything after the input derivations.
    fn write_tail<W: Write>(&self, store: &StoreDir, out: &mut W) -> io::Result<()> {
        self.write_tail_with(store, out, |out, _, value| write_escaped(out, value))
    }

    /// Everything after the input derivations, without the values of variables that are named like an
    /// output, and the places where they are to go.
    pub(super) fn masked_tail(&self, store: &StoreDir) -> (Vec<u8>, Vec<Hole<'a>>) {
        let mut text = Vec::with_capacity(self.tail_size_hint());
        let mut holes = Vec::with_capacity(self.outputs.len());
        // Writing to a vector cannot fail.
        let _ = self.write_tail_with(store, &mut text, |out, name, value| {
            match self.output_index(name) {
                Some(output) => {
                    holes.push(Hole {
                        offset: out.len(),
                        output,
                        value,
                    });
                    Ok(())
                }
                None => write_escaped(out, value),
            }
        });
        (text, holes)
    }

    /// The whole text after the input derivations, from what [`DerivationParts::masked_tail`] gave and the paths of the
    /// outputs; where a path is not known, the variable keeps its value.
    pub(super) fn fill_tail(
        &self,
        store: &StoreDir,
        text: &[u8],
        holes: &[Hole],
        paths: &[Option<StorePath>],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + holes.len() * 100);
        let mut done = 0;
        for hole in holes {
            out.extend_from_slice(text.get(done..hole.offset).unwrap_or(&[]));
            // Writing to a vector cannot fail.
            let _ = match paths.get(hole.output) {
                Some(Some(path)) => write_escaped(&mut out, store.print(path).as_bytes()),
                _ => write_escaped(&mut out, hole.value),
            };
            done = hole.offset;
        }
        out.extend_from_slice(text.get(done..).unwrap_or(&[]));
        out
    }

    fn output_index(&self, variable: &[u8]) -> Option<usize> {
        let mut names = self.outputs.keys();
        names.position(|name| name.as_bytes() == variable)
    }

    /// About how long the text after the input derivations will be.
    pub(super) fn tail_size_hint(&self) -> usize {
        let env: usize = self.env.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
        let args: usize = self.args.iter().map(|a| a.len() + 3).sum();
        let json = self.structured_attrs.map_or(0, <[u8]>::len);
        // Escapes make text longer; JSON is full of quotes.
        (env + args) * 17 / 16 + json * 5 / 4 + self.input_srcs.len() * 80 + 256
    }
}

fn write_structured_attrs<W: Write>(out: &mut W, comma: &[u8], json: &[u8]) -> io::Result<()> {
    out.write_all(comma)?;
    write!(out, "(\"{STRUCTURED_ATTRS_KEY}\",")?;
    write_string(out, json)?;
    out.write_all(b")")
}

// Reading -------------------------------------------------------------------------------------------

struct Reader<'i> {
    input: &'i [u8],
    offset: usize,
    store: &'i StoreDir,
    dynamic: bool,
}

impl Derivation {
    /// Reads the ATerm form. `name` is that of the `.drv` file, without the suffix.
    ///
    /// Strict: accepts exactly what [`Derivation::write_aterm`] writes, so that reading and writing again
    /// gives the same bytes. In particular lists must be sorted and free of repetition, and the path of a
    /// fixed output must be the right one. (The paths of input-addressed outputs are not computed anew,
    /// which would take the inputs; [`Derivation::finish`] does that.)
    pub fn parse_aterm(store: &StoreDir, name: &str, input: &[u8]) -> Result<Derivation> {
        let mut reader = Reader {
            input,
            offset: 0,
            store,
            dynamic: false,
        };
        reader.derivation(name)
    }
}

impl<'i> Reader<'i> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::at(ErrorKind::Aterm, self.offset as u64, message))
    }

    fn rest(&self) -> &'i [u8] {
        self.input.get(self.offset..).unwrap_or(&[])
    }

    /// Takes `text` if it comes next.
    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text.as_bytes());
        if found {
            self.offset += text.len();
        }
        found
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.eat(text) {
            return Ok(());
        }
        if text.as_bytes().starts_with(self.rest()) {
            return Err(Error::at(
                ErrorKind::UnexpectedEnd,
                self.input.len() as u64,
                format!("derivation ends where '{text}' is expected"),
            ));
        }
        self.fail(format!("expected string '{text}'"))
    }

    fn string(&mut self) -> Result<Cow<'i, [u8]>> {
        self.expect("\"")?;
        let mut out = Cow::Borrowed(&[][..]);
        loop {
            let rest = self.rest();
            let Some(at) = find_escaped(rest) else {
                return Err(Error::at(
                    ErrorKind::UnexpectedEnd,
                    self.input.len() as u64,
                    "unterminated string in derivation",
                ));
            };
            let (plain, special) = rest.split_at(at);
            if out.is_empty() {
                out = Cow::Borrowed(plain);
            } else {
                out.to_mut().extend_from_slice(plain);
            }
            self.offset += at;
            let c = match special {
                [b'"', ..] => {
                    self.offset += 1;
                    return Ok(out);
                }
                [b'\\', c @ (b'"' | b'\\'), ..] => *c,
                [b'\\', b'n', ..] => b'\n',
                [b'\\', b'r', ..] => b'\r',
                [b'\\', b't', ..] => b'\t',
                [b'\\', ..] => return self.fail("unknown escape in a string of a derivation"),
                _ => return self.fail("control character in a string of a derivation"),
            };
            out.to_mut().push(c);
            self.offset += 2;
        }
    }

    fn bytes(&mut self) -> Result<BString> {
        Ok(self.string()?.into_owned().into())
    }

    /// Reads with `f`, and gives errors without an offset the one where reading began.
    fn located<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = self.offset as u64;
        f(self).map_err(|e| e.with_offset(start))
    }

    fn path(&mut self) -> Result<StorePath> {
        self.located(|r| r.store.parse(r.string()?))
    }

    fn output_name(&mut self, drv_name: &str) -> Result<OutputName> {
        self.located(|r| {
            let name = r.string()?;
            let Ok(name) = std::str::from_utf8(&name) else {
                return r.fail("output name is not valid UTF-8");
            };
            check_output_name(drv_name, name)?;
            Ok(name.into())
        })
    }

    /// A bracketed list.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect("[")?;
        if self.eat("]") {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.eat("]") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    /// Fails unless `next` comes after `last`, the previous entry of the list.
    fn in_order<T: Ord>(&self, last: Option<&T>, next: &T, what: &str, start: usize) -> Result<()> {
        if last.is_some_and(|last| last >= next) {
            return Err(Error::at(
                ErrorKind::Aterm,
                start as u64,
                format!("{what} of a derivation are not sorted, or repeated"),
            ));
        }
        Ok(())
    }

    fn derivation(&mut self, name: &str) -> Result<Derivation> {
        let mut drv = Derivation::new(name);
        if self.eat("DrvWithVersion(") {
            let start = self.offset;
            let version = self.string()?;
            if version.as_ref() != b"xp-dyn-drv" {
                return Err(Error::at(
                    ErrorKind::Aterm,
                    start as u64,
                    format!(
                        "Unknown derivation ATerm format version '{}'",
                        excerpt(&version)
                    ),
                ));
            }
            self.expect(",")?;
            self.dynamic = true;
        } else if !self.eat("Derive(") {
            return self.fail("derivation does not start with 'Derive' or 'DrvWithVersion'");
        }

        self.list(|r| {
            let start = r.offset;
            r.expect("(")?;
            let output = r.output_name(name)?;
            r.in_order(drv.outputs.keys().next_back(), &output, "outputs", start)?;
            let value = r.located(|r| r.output(name, &output))?;
            drv.outputs.insert(output, value);
            r.expect(")")
        })?;
        self.located(|_| drv.kind())?;

        self.expect(",")?;
        self.list(|r| {
            let start = r.offset;
            r.expect("(")?;
            let path = r.path()?;
            let drv_name = r.located(|_| path.derivation_name())?;
            r.in_order(drv.input_drvs.keys().next_back(), &path, "inputs", start)?;
            r.expect(",")?;
            let node = r.input_outputs(drv_name, 0)?;
            r.expect(")")?;
            drv.input_drvs.insert(path, node);
            Ok(())
        })?;
        if self.dynamic && !drv.has_dynamic_inputs() {
            return self.fail("a derivation without dynamic inputs must not have a version");
        }

        self.expect(",")?;
        self.list(|r| {
            let start = r.offset;
            let path = r.path()?;
            r.in_order(drv.input_srcs.last(), &path, "sources", start)?;
            drv.input_srcs.insert(path);
            Ok(())
        })?;
        self.expect(",")?;
        drv.platform = self.located(|r| {
            let start = r.offset;
            let platform = r.bytes()?;
            // It is written without escapes, so none can be read.
            if r.offset - start != platform.len() + 2 {
                return r.fail("escape in the platform of a derivation");
            }
            Ok(platform)
        })?;
        self.expect(",")?;
        drv.builder = self.bytes()?;
        self.expect(",")?;
        self.list(|r| {
            drv.args.push(r.bytes()?);
            Ok(())
        })?;
        self.expect(",")?;
        let mut last: Option<BString> = None;
        self.list(|r| {
            let start = r.offset;
            r.expect("(")?;
            let key = r.bytes()?;
            r.in_order(last.as_ref(), &key, "environment variables", start)?;
            r.expect(",")?;
            let value = r.bytes()?;
            r.expect(")")?;
            last = Some(key.clone());
            if key == STRUCTURED_ATTRS_KEY {
                drv.structured_attrs = Some(value);
            } else {
                drv.env.insert(key, value);
            }
            Ok(())
        })?;
        self.expect(")")?;
        if !self.rest().is_empty() {
            return self.fail("something follows the derivation");
        }
        Ok(drv)
    }

    fn output(&mut self, drv_name: &str, output: &str) -> Result<DerivationOutput> {
        self.expect(",")?;
        let start = self.offset;
        let path = self.string()?;
        self.expect(",")?;
        let method = self.string()?;
        self.expect(",")?;
        let hash = self.string()?;
        let parse_path = || {
            self.store
                .parse(&path)
                .map_err(|e| e.with_offset(start as u64))
        };
        if method.is_empty() {
            if !hash.is_empty() {
                return self.fail("output of a derivation has a hash without a method");
            }
            return Ok(match path.is_empty() {
                true => DerivationOutput::Deferred,
                false => DerivationOutput::InputAddressed(parse_path()?),
            });
        }
        let (method, algorithm) = ContentAddressMethod::parse_with_algorithm(&method)?;
        if hash.is_empty() || hash.as_ref() == b"impure" {
            if !path.is_empty() {
                return self
                    .fail("content-addressing derivation output should not specify output path");
            }
            return Ok(match hash.is_empty() {
                true => DerivationOutput::CaFloating { method, algorithm },
                false => DerivationOutput::Impure { method, algorithm },
            });
        }
        let hash = Hash::parse_base16_strict(&hash, algorithm)?;
        let fixed = DerivationOutput::CaFixed(ContentAddress { method, hash });
        let right = fixed.path(self.store, drv_name, output)?;
        if right != Some(parse_path()?) {
            let right = right.map(|p| self.store.print(&p)).unwrap_or_default();
            return Err(Error::at(
                ErrorKind::InvalidDerivation,
                start as u64,
                format!(
                    "derivation has incorrect output '{}', should be '{right}'",
                    excerpt(&path)
                ),
            ));
        }
        Ok(fixed)
    }

    fn input_outputs(&mut self, drv_name: &str, depth: usize) -> Result<InputOutputs> {
        let dynamic = self.dynamic && self.eat("(");
        let mut outputs = BTreeSet::new();
        self.list(|r| {
            let start = r.offset;
            let output = r.output_name(drv_name)?;
            r.in_order(outputs.last(), &output, "outputs of an input", start)?;
            outputs.insert(output);
            Ok(())
        })?;
        let mut children = BTreeMap::new();
        if dynamic {
            if depth >= MAX_DYNAMIC_DEPTH {
                return self.located(|_| Err(too_deep()));
            }
            self.expect(",")?;
            self.list(|r| {
                let start = r.offset;
                r.expect("(")?;
                let output = r.output_name(drv_name)?;
                let last = children.keys().next_back();
                r.in_order(last, &output, "dynamic outputs of an input", start)?;
                r.expect(",")?;
                let child = r.input_outputs(drv_name, depth + 1)?;
                children.insert(output, child);
                r.expect(")")
            })?;
            if children.is_empty() {
                return self.fail("dynamic outputs of an input are empty");
            }
            self.expect(")")?;
        }
        Ok(InputOutputs {
            outputs,
            dynamic: children,
        })
    }
}
