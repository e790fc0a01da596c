//! Values as text: what `nix-instantiate --eval` and error messages show.

use crate::error::{ErrorKind, Result};
use crate::heap::{Callee, ListRef, ThunkPtr, state};
use crate::machine::Machine;
use crate::ops::is_derivation;
use crate::symbol::Symbol;
use crate::value::{Type, Value};
use rustc_hash::FxHashSet;

/// How values are printed.
#[derive(Clone, Copy, Debug)]
pub struct PrintOptions {
    /// Print unevaluated parts as `<CODE>` and functions as `<LAMBDA>` and `<PRIMOP>`, as
    /// `nix-instantiate` does; else as `«thunk»`, `«lambda»`.
    pub classic: bool,
    /// Print derivations as `«derivation PATH»` when their path is known.
    pub derivation_paths: bool,
    /// Nesting beyond which `{ ... }` and `[ ... ]` are printed.
    pub max_depth: usize,
    /// Attributes printed in all.
    pub max_attrs: usize,
    /// List elements printed in all.
    pub max_items: usize,
    /// Bytes of a string.
    pub max_string: usize,
    /// Whether a container that was printed before is printed as `«repeated»`.
    pub track_repeated: bool,
}

impl PrintOptions {
    /// As `nix-instantiate --eval` prints.
    pub const CLASSIC: PrintOptions = PrintOptions {
        classic: true,
        derivation_paths: false,
        max_depth: usize::MAX,
        max_attrs: usize::MAX,
        max_items: usize::MAX,
        max_string: usize::MAX,
        track_repeated: true,
    };
    /// As `nix eval` prints.
    pub const PLAIN: PrintOptions = PrintOptions {
        classic: false,
        derivation_paths: true,
        ..PrintOptions::CLASSIC
    };
    /// As error messages print.
    pub const SHORT: PrintOptions = PrintOptions {
        classic: false,
        derivation_paths: false,
        max_depth: 10,
        max_attrs: 10,
        max_items: 10,
        max_string: 1024,
        track_repeated: true,
    };
}

/// Writes a string literal.
pub fn print_string(out: &mut Vec<u8>, s: &[u8], max: usize) {
    out.push(b'"');
    let mut i = 0;
    while i < s.len() {
        if i >= max {
            out.push(b'"');
            let rest = s.len() - i;
            let plural = if rest == 1 { "" } else { "s" };
            out.extend_from_slice(format!(" «{rest} byte{plural} elided»").as_bytes());
            return;
        }
        match s[i] {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', s[i]]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'$' if s.get(i + 1) == Some(&b'{') => out.extend_from_slice(b"\\$"),
            b => out.push(b),
        }
        i += 1;
    }
    out.push(b'"');
}

/// Words that cannot be attribute names without quotes.
const KEYWORDS: [&[u8]; 9] = [
    b"if", b"then", b"else", b"assert", b"with", b"let", b"in", b"rec", b"inherit",
];

/// Writes an attribute name, quoted where the grammar wants it.
pub fn print_name(out: &mut Vec<u8>, name: &[u8]) {
    let plain = name
        .first()
        .is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_')
        && name
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'\''))
        && !KEYWORDS.contains(&name);
    if plain {
        out.extend_from_slice(name);
    } else {
        print_string(out, name, usize::MAX);
    }
}

/// Writes a float as the value printer does: like C's `%g` with six digits.
pub fn print_float(f: f64) -> String {
    if f.is_nan() {
        return if f.is_sign_negative() { "-nan" } else { "nan" }.into();
    }
    if f.is_infinite() {
        return if f < 0.0 { "-inf" } else { "inf" }.into();
    }
    if f == 0.0 {
        return if f.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let scientific = format!("{f:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| {
        if s.contains('.') {
            s.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            s.to_string()
        }
    };
    if (-4..6).contains(&exponent) {
        let digits = (5 - exponent).max(0) as usize;
        return trim(&format!("{f:.digits$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

enum Item {
    Value(Value, usize),
    /// A list from an element on, and the depth of its elements.
    Elements(ListRef, usize, usize),
    /// The attributes that are left of a set, the depth of their values, and whether one was printed.
    Entries(std::vec::IntoIter<(Symbol, Value)>, usize, bool),
}

fn elided(out: &mut Vec<u8>, count: usize, what: &str) {
    let plural = if count == 1 { "" } else { "s" };
    out.extend_from_slice(format!("«{count} {what}{plural} elided» ").as_bytes());
}

impl Machine {
    /// Prints a value as far as it is evaluated. Uses no host recursion.
    ///
    /// What would go beyond the memory limit is left out.
    pub fn print(&mut self, value: Value, options: &PrintOptions) -> Vec<u8> {
        let mut out = Vec::new();
        if let Err(e) = self.print_to(&mut out, value, options) {
            let cut: &str = match e.kind() {
                ErrorKind::Memory => "«out of memory»",
                _ => "«nested too deeply»",
            };
            out.extend_from_slice(cut.as_bytes());
        }
        out
    }

    /// Like [`Machine::print`], but text that goes beyond the memory limit is an error, and so is, of what is printed as
    /// `nix-instantiate` does, nesting beyond the allowed depth of calls.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Memory`], [`crate::ErrorKind::CallDepth`].
    pub fn try_print(&mut self, value: Value, options: &PrintOptions) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.print_to(&mut out, value, options)?;
        Ok(out)
    }

    fn print_to(&self, out: &mut Vec<u8>, value: Value, o: &PrintOptions) -> Result<()> {
        /// Bytes between two looks at the limit.
        const CHUNK: usize = 1 << 20;
        let mut next_look = CHUNK;
        let mut seen: FxHashSet<u64> = FxHashSet::default();
        let mut todo = vec![Item::Value(value, 0)];
        let (mut attrs_printed, mut items_printed) = (0, 0);
        while let Some(item) = todo.pop() {
            if out.len() + seen.len() * 16 >= next_look {
                self.check_memory(2 * out.len() + seen.capacity() * 16)?;
                next_look = out.len() + seen.len() * 16 + CHUNK;
            }
            let (value, depth) = match item {
                // Elements and attributes count when they are printed, after what is in them.
                Item::Elements(list, index, depth) => {
                    if index > 0 {
                        out.push(b' ');
                        items_printed += 1;
                    }
                    if index == list.len() {
                        out.push(b']');
                    } else if items_printed >= o.max_items {
                        elided(out, list.len() - index, "item");
                        out.push(b']');
                    } else {
                        todo.push(Item::Elements(list, index + 1, depth));
                        let element = list.slot(index).unwrap_or(Value::NULL);
                        todo.push(Item::Value(element, depth));
                    }
                    continue;
                }
                Item::Entries(mut entries, depth, begun) => {
                    if begun {
                        out.extend_from_slice(b"; ");
                        attrs_printed += 1;
                    }
                    if attrs_printed >= o.max_attrs && entries.len() > 0 {
                        elided(out, entries.len(), "attribute");
                        out.push(b'}');
                    } else if let Some((symbol, v)) = entries.next() {
                        print_name(out, self.symbols.name(symbol));
                        out.extend_from_slice(b" = ");
                        todo.push(Item::Entries(entries, depth, true));
                        todo.push(Item::Value(v, depth));
                    } else {
                        out.push(b'}');
                    }
                    continue;
                }
                Item::Value(v, depth) => (v, depth),
            };
            // Lists are told apart by the place that holds them, as in Nix; sets by themselves.
            let place = value;
            let value = value.resolved();
            if o.classic && depth > self.settings.max_call_depth as usize {
                return Err(self.too_deep());
            }
            match value.type_of() {
                Type::Thunk => {
                    let text: &str = if value == Value::EMPTY {
                        "«nothing»"
                    } else if o.classic {
                        "<CODE>"
                    } else if matches!(
                        ThunkPtr::of(value).head() & state::MASK,
                        state::BLACKHOLE_CODE | state::BLACKHOLE_OTHER
                    ) {
                        "«potential infinite recursion»"
                    } else {
                        "«thunk»"
                    };
                    out.extend_from_slice(text.as_bytes());
                }
                Type::Int => {
                    out.extend_from_slice(value.as_int().unwrap_or(0).to_string().as_bytes());
                }
                Type::Float => {
                    out.extend_from_slice(print_float(value.as_float().unwrap_or(0.0)).as_bytes());
                }
                Type::Bool => out.extend_from_slice(if value == Value::TRUE {
                    b"true"
                } else {
                    b"false"
                }),
                Type::Null => out.extend_from_slice(b"null"),
                Type::String => {
                    if let Some(s) = value.as_string() {
                        print_string(out, s.bytes(), o.max_string);
                    }
                }
                Type::Path => {
                    if let Some(p) = value.as_path() {
                        out.extend_from_slice(&crate::own::shown(p.bytes()));
                    }
                }
                Type::External => out.extend_from_slice("«external»".as_bytes()),
                Type::Function => self.print_function(out, value, o),
                Type::List => {
                    let Some(list) = value.as_list() else {
                        continue;
                    };
                    if o.track_repeated && depth > 0 && !list.is_empty() && !seen.insert(place.0) {
                        out.extend_from_slice("«repeated»".as_bytes());
                        continue;
                    }
                    out.extend_from_slice(b"[ ");
                    if depth >= o.max_depth {
                        out.extend_from_slice(b"... ]");
                        continue;
                    }
                    todo.push(Item::Elements(list, 0, depth + 1));
                }
                Type::Attrs => {
                    let Some(attrs) = value.as_attrs() else {
                        continue;
                    };
                    if o.track_repeated && !attrs.is_empty() && !seen.insert(value.0) {
                        out.extend_from_slice("«repeated»".as_bytes());
                        continue;
                    }
                    if o.derivation_paths && is_derivation(self, attrs) == Ok(true) {
                        out.extend_from_slice("«derivation".as_bytes());
                        if let Some(path) =
                            attrs.get(self.known.drv_path).and_then(Value::as_string)
                        {
                            out.push(b' ');
                            out.extend_from_slice(path.bytes());
                        }
                        out.extend_from_slice("»".as_bytes());
                        continue;
                    }
                    out.extend_from_slice(b"{ ");
                    if depth >= o.max_depth {
                        out.extend_from_slice(b"... }");
                        continue;
                    }
                    let mut entries: Vec<(Symbol, Value)> = attrs
                        .iter()
                        .map(|(s, v, _)| (s, attrs.slot(s).unwrap_or(v)))
                        .collect();
                    // Where not all are shown, what says most about a set comes first.
                    let order = |symbol: Symbol| {
                        let name = self.symbols.name(symbol);
                        let telling = name == b"type" || name == b"_type";
                        (!(telling && o.max_attrs < usize::MAX), name)
                    };
                    entries.sort_by(|a, b| order(a.0).cmp(&order(b.0)));
                    todo.push(Item::Entries(entries.into_iter(), depth + 1, false));
                }
            }
        }
        Ok(())
    }

    fn print_function(&self, out: &mut Vec<u8>, value: Value, o: &PrintOptions) {
        let Some(f) = value.as_function() else { return };
        let text = match f.callee() {
            Callee::Closure(lambda, _) => {
                if o.classic {
                    "<LAMBDA>".to_string()
                } else {
                    let lambda = crate::machine::lambda_of(lambda);
                    let name = match lambda.name.get() {
                        Some(s) => format!(" {}", self.attr_text(s)),
                        None => String::new(),
                    };
                    format!("«lambda{name} @ {}»", self.describe_position(lambda.pos))
                }
            }
            Callee::Primop(i) => {
                let name = self.builtins.get(i as usize).map_or("", |b| b.name);
                if o.classic {
                    "<PRIMOP>".to_string()
                } else {
                    format!("«primop {name}»")
                }
            }
            Callee::Partial => match self.builtin_of(f) {
                Some(_) if o.classic => "<PRIMOP-APP>".to_string(),
                Some(b) => format!("«partially applied primop {}»", b.name),
                None if o.classic => "<LAMBDA>".to_string(),
                // What is left of `x: y: …` stands where `y:` does.
                None => match self.signature(f) {
                    Some(left) => format!("«lambda @ {}»", self.describe_position(left.pos)),
                    None => "«lambda»".to_string(),
                },
            },
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// A value's type with article and its abbreviated text, as error messages show it.
    pub fn describe(&self, v: Value) -> String {
        format!("{}: {}", self.describe_type(v), self.describe_value(v))
    }

    /// A value's type with article.
    pub fn describe_type(&self, v: Value) -> String {
        let v = v.resolved();
        if let Some(f) = v.as_function()
            && let Some(b) = self.builtin_of(f)
        {
            return match f.callee() {
                Callee::Partial => format!("the partially applied built-in function '{}'", b.name),
                _ => format!("the built-in function '{}'", b.name),
            };
        }
        if let Some(s) = v.as_string()
            && !s.context().is_empty()
        {
            return "a string with context".to_string();
        }
        v.type_of().with_article().to_string()
    }

    /// A value's abbreviated text.
    pub fn describe_value(&self, v: Value) -> String {
        let mut out = Vec::new();
        // What is abbreviated is short.
        let _ = self.print_to(&mut out, v, &PrintOptions::SHORT);
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_c() {
        for (f, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1234567.0, "1.23457e+06"),
            (123456.0, "123456"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(print_float(f), text);
        }
    }
}
