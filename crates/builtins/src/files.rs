//! Files, the search path, and files put into the store.

use crate::args::{Want, arguments};
use crate::derivations;
use crate::hashing::{parse_hash, store_error};
use crate::own::host_of;
use crate::pure::path as text;
use crate::pure::replace::replace_strings;
use crate::scratch;
use crate::table::frame;
use nivis_eval::context::ContextElement;
use nivis_eval::heap::StringRef;
use nivis_eval::machine::{bytes_path, canonical_path, host_error, is_canonical};
use nivis_eval::ops::{self, Coerce};
use nivis_eval::own;
use nivis_eval::{
    Activation, AddPath, Builtin, Error, ErrorKind, FileType, Machine, PosId, Result, Step, Value,
};
use nivis_store::{Hash, HashAlgorithm};
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "pathExists",
        &["path"],
        0b1,
        path_exists,
        "Returns whether there is a file, folder or link at `path`. A string with a slash at its end asks for a folder. \
         What evaluation may not see does not exist.",
    ),
    frame(
        "readFile",
        &["path"],
        0,
        read_file,
        "Returns the contents of the file at `path`.",
    ),
    frame(
        "readDir",
        &["path"],
        0,
        read_dir,
        "Returns the entries of the folder at `path`: a set of names with the types `\"regular\"`, `\"directory\"`, \
         `\"symlink\"` and `\"unknown\"`.",
    ),
    frame(
        "readFileType",
        &["path"],
        0,
        read_file_type,
        "Returns the type of what is at `path`: `\"regular\"`, `\"directory\"`, `\"symlink\"` or `\"unknown\"`.",
    ),
    frame(
        "findFile",
        &["searchPath", "name"],
        0b1,
        find_file,
        "Looks for `name` in a search path, a list of sets with a `path` and perhaps a `prefix`, and returns it as a path \
         with links resolved. `<name>` means `findFile builtins.nixPath \"name\"`. When nothing is found, an error is \
         thrown that `tryEval` catches.",
    ),
    frame(
        "path",
        &["args"],
        0b1,
        path,
        "Puts a file or folder into the store and returns its store path. The set `args` has `path` and may have `name`, \
         the name in the store (by default the last component of the path); `filter`, a function as `filterSource` \
         takes it; `recursive`, which says whether the archive is hashed (the default) or the contents of a single \
         file; and `sha256`, the hash that is expected.",
    ),
    frame(
        "filterSource",
        &["filter", "path"],
        0,
        filter_source,
        "Puts a folder into the store, without the files that `filter` does not want, and returns its store path. `filter` \
         is called with the full path and the type (as `readFileType` returns it) of each file below the folder; when \
         it returns `false` for a folder, nothing in it is asked for.",
    ),
    frame(
        "toFile",
        &["name", "s"],
        0b1,
        to_file,
        "Puts a text file into the store and returns its path. `s` may refer to store paths, but not to outputs of \
         derivations.",
    ),
    frame(
        "toPath",
        &["s"],
        0,
        to_path,
        "Returns the canonical form of an absolute path as a string. Deprecated: `/. + s` gives a path.",
    ),
    frame(
        "storePath",
        &["path"],
        0,
        store_path,
        "Returns a path of the store as a string that refers to it, so that derivations can depend on something which is in \
         the store already. Not allowed in pure evaluation.",
    ),
];

// ---- paths as arguments ---------------------------------------------------------------------------

/// Turns a value into an absolute path: a string, whose context is that of the value. Local: the value.
///
/// Paths, also those that a `__toString` returns, stay what they are and are not copied to the store.
pub(crate) fn absolute_path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    const FORCED: u64 = 1;
    const CALLED: u64 = 2;
    const COERCED: u64 = 3;
    const FINISHED: u64 = 4;
    match a.state {
        // Not in this one's place, so that a set which returns itself meets the limit of nested calls.
        CALLED => {
            let result = m.pop();
            m.push(result);
            a.state = FINISHED;
            return Ok(Step::Run(absolute_path, 1));
        }
        FINISHED => {
            let result = m.pop();
            return Ok(Step::Done(result));
        }
        COERCED => {
            let s = m.pop();
            let s = m.want_string(s)?;
            if s.bytes().first() != Some(&b'/') {
                return Err(Error::other(format!(
                    "string '{}' doesn't represent an absolute path",
                    s.to_text()
                )));
            }
            if is_canonical(s.bytes()) {
                return Ok(Step::Done(s.value()));
            }
            let canonical = canonical_path(s.bytes());
            return Ok(Step::Done(m.heap.string(&canonical, s.context())));
        }
        FORCED => {
            m.pop();
        }
        _ => {}
    }
    let v = m.local(a, 0);
    if v.is_thunk() {
        a.state = FORCED;
        return Ok(Step::Force(v));
    }
    if let Some(path) = v.as_path() {
        return Ok(Step::Done(path.value()));
    }
    if let Some(attrs) = v.as_attrs()
        && let Some(f) = attrs.get(m.known.to_string)
    {
        a.state = CALLED;
        m.push(f);
        m.push(v);
        return Ok(Step::Call(1));
    }
    a.state = COERCED;
    m.push(v);
    m.push(Coerce::PATH.value());
    Ok(Step::Run(ops::coerce_to_string, 2))
}

/// As [`absolute_path`]; then sees to it that what the context names is there, so that the path can be read.
pub(crate) fn realised_path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if a.state == 0 {
        a.state = 1;
        let v = m.local(a, 0);
        m.push(v);
        return Ok(Step::Run(absolute_path, 1));
    }
    let path = m.pop();
    let path = m.want_string(path)?;
    Ok(Step::Done(realise(m, path)?.value()))
}

/// Sees to it that what the context names is there. In the result, the paths of outputs stand where placeholders stood.
fn realise(m: &mut Machine, s: StringRef) -> Result<StringRef> {
    if s.context().is_empty() {
        return Ok(s);
    }
    let host = Rc::clone(&m.host);
    let elements: Vec<&ContextElement> = m.contexts.elements(s.context()).collect();
    let rewrites = host
        .realise_context(&elements)
        .map_err(|e| Error::new(ErrorKind::Host, e.to_string()))?;
    if rewrites
        .iter()
        .all(|(placeholder, _)| memchr::memmem::find(s.bytes(), placeholder).is_none())
    {
        return Ok(s);
    }
    let from: Vec<&[u8]> = rewrites.iter().map(|(from, _)| from.as_slice()).collect();
    let rewritten = replace_strings(&from, s.bytes(), |i, out: &mut Vec<u8>| {
        out.extend(
            rewrites
                .get(i)
                .map(|(_, to)| to.as_slice())
                .unwrap_or_default(),
        );
        Ok::<(), Error>(())
    })?;
    let rewritten = m.heap.string(&rewritten, s.context());
    m.want_string(rewritten)
}

/// The first step of a builtin whose argument `index` is a path to be read, and its path after that.
macro_rules! path_argument {
    ($m:expr, $a:expr, $index:expr, $how:expr) => {{
        if $a.state == 0 {
            $a.state = 1;
            let v = $m.local($a, $index);
            match v.as_path() {
                Some(path) => path,
                None => {
                    $m.push(v);
                    return Ok(Step::Run($how, 1));
                }
            }
        } else {
            let path = $m.pop();
            $m.want_string(path)?
        }
    }};
}

/// The contents of a file.
pub(crate) fn read(m: &mut Machine, path: StringRef) -> Result<Vec<u8>> {
    let host = host_of(m, path.bytes());
    let path = bytes_path(path.bytes());
    host.read_file_within(path, m.heap.room()).map_err(|e| {
        // What is missing may be what a link leads to.
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let resolved = if missing {
            host.resolve_links(path).ok()
        } else {
            None
        };
        host_error(&e, resolved.as_deref().unwrap_or(path))
    })
}

// ---- looking at files -----------------------------------------------------------------------------

fn path_exists(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let arg = m.local(a, 0);
    let folder = arg
        .as_string()
        .is_some_and(|s| s.bytes().ends_with(b"/") || s.bytes().ends_with(b"/."));
    let path = path_argument!(m, a, 0, realised_path);
    let host = host_of(m, path.bytes());
    let path = bytes_path(path.bytes());
    let found = if folder {
        host.resolve_links(path)
            .and_then(|path| host.file_type(&path))
    } else {
        host.file_type(path)
    };
    let exists = match found {
        Ok(Some(FileType::Directory)) => true,
        Ok(Some(_)) => !folder,
        Ok(None) => false,
        Err(e) if is_absence(&e) => false,
        Err(e) => return Err(host_error(&e, path)),
    };
    Ok(Step::Done(Value::bool(exists)))
}

/// Whether an error means that there is nothing, or nothing that may be seen.
fn is_absence(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(e.kind(), NotFound | NotADirectory)
        || e.kind() == PermissionDenied && e.raw_os_error().is_none()
}

fn read_file(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let path = path_argument!(m, a, 0, realised_path);
    let contents = read(m, path)?;
    if memchr::memchr(0, &contents).is_some() {
        return Err(Error::other(format!(
            "the contents of the file '{}' cannot be represented as a Nix string",
            path.to_text()
        )));
    }
    m.check_string(contents.len())?;
    let mut context = Default::default();
    let store = derivations::store_dir(m)?;
    if let Ok((object, _)) = store.split(path.bytes()) {
        // What the object refers to is a dependency, as far as the text mentions it.
        let references = m.host.references(store.print(&object).as_bytes());
        let mentioned = references.into_iter().filter(|r| {
            let hash = store
                .parse(r)
                .map(|p| p.hash_part().to_string())
                .unwrap_or_default();
            !hash.is_empty() && memchr::memmem::find(&contents, hash.as_bytes()).is_some()
        });
        context = m
            .contexts
            .collect(mentioned.map(|r| ContextElement::Path(r.into())));
    }
    Ok(Step::Done(m.heap.string(&contents, context)))
}

fn read_dir(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let path = path_argument!(m, a, 0, realised_path);
    let host = host_of(m, path.bytes());
    let shown = bytes_path(path.bytes());
    let entries = host.read_dir(shown).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotADirectory => {
            // What is named is what links lead to.
            let resolved = host.resolve_links(shown).ok();
            let resolved = resolved.as_deref().unwrap_or(shown);
            if !matches!(host.file_type(resolved), Ok(Some(_))) {
                return host_error(&e, shown);
            }
            Error::new(
                ErrorKind::Host,
                format!(
                    "cannot read directory \"{}\": Not a directory",
                    resolved.display()
                ),
            )
        }
        _ => host_error(&e, shown),
    })?;
    let attrs: Vec<_> = entries
        .iter()
        .map(|(name, kind)| (m.symbols.intern(name), PosId::NONE, type_string(m, *kind)))
        .collect();
    Ok(Step::Done(m.attrs(attrs)))
}

/// The name of a file type as a string, which is the same one each time.
fn type_string(m: &mut Machine, kind: FileType) -> Value {
    let symbol = m.symbols.intern(kind.name().as_bytes());
    m.symbol_string(symbol)
}

fn read_file_type(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let path = path_argument!(m, a, 0, realised_path);
    let host = host_of(m, path.bytes());
    let shown = bytes_path(path.bytes());
    // The folders on the way have to be real ones.
    for folder in shown.ancestors().skip(1) {
        if host
            .file_type(folder)
            .is_ok_and(|kind| kind == Some(FileType::Symlink))
        {
            return Err(Error::new(
                ErrorKind::Host,
                format!("path '{}' is a symlink", folder.display()),
            ));
        }
    }
    match host.file_type(shown).map_err(|e| host_error(&e, shown))? {
        Some(kind) => Ok(Step::Done(type_string(m, kind))),
        None => Err(host_error(&std::io::ErrorKind::NotFound.into(), shown)),
    }
}

fn to_path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let path = path_argument!(m, a, 0, absolute_path);
    let text = own::text(path.bytes());
    if text.len() != path.len() {
        return Ok(Step::Done(m.string(text)));
    }
    Ok(Step::Done(path.value()))
}

fn store_path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if m.settings.pure_eval {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "'builtins.storePath' is not allowed in pure evaluation mode",
        ));
    }
    let path = path_argument!(m, a, 0, absolute_path);
    let store = derivations::store_dir(m)?;
    let resolved = if store.parse(path.bytes()).is_ok() {
        path.bytes().to_vec()
    } else {
        let shown = bytes_path(path.bytes());
        let resolved = m
            .host
            .resolve_links(shown)
            .map_err(|e| host_error(&e, shown))?;
        resolved.into_os_string().into_encoded_bytes()
    };
    if !store.contains(&resolved) {
        return Err(Error::new(
            ErrorKind::Store,
            format!(
                "path '{}' is not in the Nix store",
                String::from_utf8_lossy(&resolved)
            ),
        ));
    }
    let (object, _) = store.split(&resolved).map_err(store_error)?;
    let own = m.contexts.single(ContextElement::Path(
        store.print(&object).into_bytes().into(),
    ));
    let context = m.contexts.union(path.context(), own);
    Ok(Step::Done(m.heap.string(&resolved, context)))
}

// ---- the search path ------------------------------------------------------------------------------

fn find_file(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: search path, name, then per entry looked at: its prefix and its path. State: what is being waited for.
    const FORCED: u64 = 1;
    const COERCED: u64 = 2;
    let list = m.want_list(m.local(a, 0))?;
    if a.state == FORCED {
        m.pop();
    } else if a.state == COERCED {
        let path = m.pop();
        let path = m.want_string(path)?;
        let path = realise(m, path)?;
        m.push(path.value());
    }
    a.state = 0;
    let (prefix, path) = (m.symbols.intern(b"prefix"), m.symbols.intern(b"path"));
    while let Some(entry) = list.get((m.locals(a) - 2) / 2) {
        if entry.is_thunk() {
            a.state = FORCED;
            return Ok(Step::Force(entry));
        }
        let entry = m.want_attrs(entry)?;
        let prefix = match entry.get(prefix) {
            Some(v) if v.is_thunk() => {
                a.state = FORCED;
                return Ok(Step::Force(v));
            }
            Some(v) => m.want_plain_string(v)?.value(),
            None => m.string(""),
        };
        let v = entry.get(path).ok_or_else(|| m.missing_attr(entry, path))?;
        m.push(prefix);
        m.push(v);
        if v.as_string().is_none_or(|s| !s.context().is_empty()) {
            m.push(Coerce::PATH.value());
            a.state = COERCED;
            return Ok(Step::Run(ops::coerce_to_string, 2));
        }
    }
    let name = m.local(a, 1);
    if name.is_thunk() {
        a.state = FORCED;
        return Ok(Step::Force(name));
    }
    let name = m.want_plain_string(name)?;
    for index in 0..list.len() {
        let prefix = m.want_string(m.local(a, 2 + 2 * index))?;
        let path = m.want_string(m.local(a, 3 + 2 * index))?;
        let Some(suffix) = suffix_of(name.bytes(), prefix.bytes()) else {
            continue;
        };
        if let Some(found) = look_up(m, path.bytes(), suffix)? {
            return Ok(Step::Done(m.heap.path(&found)));
        }
    }
    if let Some(own) = name.bytes().strip_prefix(b"nix/") {
        let inside = canonical_path(own);
        let inside = inside.strip_suffix(b"/").unwrap_or(&inside);
        return Ok(Step::Done(m.heap.path(&[own::ROOT, inside].concat())));
    }
    let shown = name.to_text();
    Err(Error::new(
        ErrorKind::Throw,
        if m.settings.pure_eval {
            format!(
                "cannot look up '<{shown}>' in pure evaluation mode (use '--impure' to override)"
            )
        } else {
            format!(
                "file '{shown}' was not found in the Nix search path (add it using $NIX_PATH or -I)"
            )
        },
    ))
}

/// What of a name is left after a prefix, which ends at a slash or is empty.
fn suffix_of<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let rest = name.strip_prefix(prefix)?;
    if prefix.is_empty() || rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix(b"/")
}

/// Entries of the search path that led nowhere, so that each is mentioned once.
#[derive(Default)]
struct Missing(HashSet<Vec<u8>>);

/// The file `suffix` in an entry of the search path, with links resolved.
fn look_up(m: &mut Machine, entry: &[u8], suffix: &[u8]) -> Result<Option<Vec<u8>>> {
    if m.extension::<Missing>().0.contains(entry) {
        return Ok(None);
    }
    let host = Rc::clone(&m.host);
    let exists = |path: &Path| -> Result<Option<Vec<u8>>> {
        let found = host
            .resolve_links(path)
            .and_then(|path| Ok(host.file_type(&path)?.map(|_| path)));
        match found {
            Ok(path) => Ok(path.map(|p| p.into_os_string().into_encoded_bytes())),
            Err(e) if e.kind() != std::io::ErrorKind::PermissionDenied && is_absence(&e) => {
                Ok(None)
            }
            Err(e) => Err(host_error(&e, path)),
        }
    };
    let root = if is_url(entry) {
        None
    } else if entry.starts_with(b"/") {
        Some(canonical_path(entry))
    } else {
        host.current_dir()
            .map(|dir| canonical_path(&[dir.as_os_str().as_encoded_bytes(), b"/", entry].concat()))
    };
    let root = match root {
        Some(root) if exists(bytes_path(&root))?.is_some() => root,
        other => {
            let shown = String::from_utf8_lossy(entry).into_owned();
            let why = if other.is_some() {
                "does not exist"
            } else {
                "cannot be downloaded"
            };
            host.message(
                format!("warning: Nix search path entry '{shown}' {why}, ignoring").as_bytes(),
            );
            m.extension::<Missing>().0.insert(entry.to_vec());
            return Ok(None);
        }
    };
    let mut path = root;
    path.push(b'/');
    path.extend_from_slice(suffix);
    exists(bytes_path(&canonical_path(&path)))
}

/// Whether an entry of the search path is to be downloaded, which is not for evaluation to do.
fn is_url(entry: &[u8]) -> bool {
    entry.starts_with(b"channel:")
        || entry.starts_with(b"flake:")
        || memchr::memmem::find(entry, b"://").is_some()
}

// ---- into the store -------------------------------------------------------------------------------

fn to_file(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(0, Want::PlainString), (1, Want::Any)])? {
        return Ok(step);
    }
    let name = m.want_string(m.local(a, 0))?;
    let contents = m.want_string(m.local(a, 1))?;
    derivations::add_text(m, name, contents).map(Step::Done)
}

fn filter_source(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: filter, path; then, when they are evaluated, what `add_filtered` wants.
    const PATH: u64 = 1;
    match a.state {
        0 => {
            a.state = PATH;
            let path = m.local(a, 1);
            m.push(path);
            Ok(Step::Run(absolute_path, 1))
        }
        _ => {
            let filter = m.local(a, 0);
            if filter.is_thunk() {
                a.state += 1;
                return Ok(Step::Force(filter));
            }
            if a.state > PATH {
                m.pop();
            }
            want_function(m, filter)?;
            let path = m.pop();
            let path = m.want_string(path)?;
            let name = m.string(text::base_name(path.bytes()));
            tail_add(m, path, name, filter, true, Value::NULL)
        }
    }
}

fn want_function(m: &Machine, v: Value) -> Result<()> {
    let callable = v.is_function()
        || v.as_attrs()
            .is_some_and(|attrs| attrs.get(m.known.functor).is_some());
    if callable {
        Ok(())
    } else {
        Err(m.expected(nivis_eval::Type::Function, v))
    }
}

fn path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: the arguments; the path, once it is coerced. State: 1 when something was forced, 2 when the path was coerced.
    if a.state == 1 {
        m.pop();
    }
    let args = m.want_attrs(m.local(a, 0))?;
    let keys = Keys::new(m);
    // The values that are needed are few, so that after a step all begins anew.
    let mut name = Value::NULL;
    let mut filter = Value::NULL;
    let mut recursive = true;
    let mut hash = Value::NULL;
    for (symbol, value, _) in args.iter() {
        if symbol == keys.path {
            if m.locals(a) == 1 {
                a.state = 2;
                m.push(value);
                return Ok(Step::Run(absolute_path, 1));
            }
            continue;
        }
        let known = [keys.name, keys.filter, keys.recursive, keys.sha256].contains(&symbol);
        if !known {
            return Err(Error::other(format!(
                "unsupported argument '{}' to 'builtins.path'",
                m.attr_text(symbol)
            )));
        }
        if value.is_thunk() {
            a.state = 1;
            return Ok(Step::Force(value));
        }
        if symbol == keys.name {
            name = m.want_plain_string(value)?.value();
        } else if symbol == keys.filter {
            want_function(m, value)?;
            filter = value;
        } else if symbol == keys.recursive {
            recursive = m.want_bool(value)?;
        } else {
            let text = m.want_plain_string(value)?;
            if text.is_empty() {
                warn_empty_hash(m, HashAlgorithm::Sha256);
                hash = m.string([0; 32]);
            } else {
                let parsed = parse_hash(m, text, Some(HashAlgorithm::Sha256))?;
                hash = m.string(parsed.as_bytes());
            }
        }
    }
    if m.locals(a) == 1 {
        return Err(Error::other(
            "missing required 'path' attribute in the first argument to 'builtins.path'",
        ));
    }
    let path = m.want_string(m.local(a, 1))?;
    if name.is_null() || m.want_string(name)?.is_empty() {
        name = m.string(text::base_name(path.bytes()));
    }
    tail_add(m, path, name, filter, recursive, hash)
}

/// Says that an empty hash stands for one of zeros.
pub(crate) fn warn_empty_hash(m: &mut Machine, algorithm: HashAlgorithm) {
    let zeros = vec![0; algorithm.digest_len()];
    let shown = Hash::from_bytes(algorithm, &zeros)
        .map(|h| h.to_sri())
        .unwrap_or_default();
    m.host
        .message(format!("warning: found empty hash, assuming '{shown}'").as_bytes());
}

struct Keys {
    path: nivis_eval::Symbol,
    name: nivis_eval::Symbol,
    filter: nivis_eval::Symbol,
    recursive: nivis_eval::Symbol,
    sha256: nivis_eval::Symbol,
}

impl Keys {
    fn new(m: &mut Machine) -> Keys {
        Keys {
            path: m.symbols.intern(b"path"),
            name: m.known.name,
            filter: m.symbols.intern(b"filter"),
            recursive: m.symbols.intern(b"recursive"),
            sha256: m.symbols.intern(b"sha256"),
        }
    }
}

/// Goes on with [`add`].
fn tail_add(
    m: &mut Machine,
    path: StringRef,
    name: Value,
    filter: Value,
    recursive: bool,
    hash: Value,
) -> Result<Step> {
    if own::inside(path.bytes()).is_some() {
        return Err(own::not_in_store(path.bytes()));
    }
    let path = realise(m, path)?;
    m.push(path.value());
    m.push(name);
    m.push(filter);
    m.push(Value::bool(recursive));
    m.push(hash);
    Ok(Step::TailRun(add, 5))
}

/// What is known of what is added before it is.
#[derive(Default)]
struct Kept {
    /// The files that a filter kept.
    files: HashSet<Vec<u8>>,
    /// What the store object refers to that the path is in, sorted.
    references: Vec<Vec<u8>>,
}

/// Puts a file or folder into the store. Locals: path, name, filter or null, whether the archive is hashed, the bytes of
/// the expected SHA-256 or null.
///
/// With a filter, further locals: the entries that were not looked at yet, last first, as strings of a letter for the type
/// and the path.
fn add(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    const ENTRIES: usize = 5;
    let filter = m.local(a, 2);
    let recursive = m.local(a, 3) == Value::TRUE;
    let host = Rc::clone(&m.host);
    let mut kept: Kept = scratch::take(m, a);
    if a.state == 0 {
        a.state = 1;
        let path = m.want_string(m.local(a, 0))?;
        let shown = bytes_path(path.bytes());
        if !path.context().is_empty() {
            let store = derivations::store_dir(m)?;
            if let Ok((object, _)) = store.split(path.bytes()) {
                kept.references = host.references(store.print(&object).as_bytes());
                kept.references.sort();
            }
        }
        let root = host
            .resolve_links(shown)
            .map_err(|e| host_error(&e, shown))?;
        let resolved = m.string(root.as_os_str().as_encoded_bytes());
        m.set_local(a, 0, resolved);
        let kind = if filter.is_null() {
            None
        } else {
            host.file_type(&root).map_err(|e| host_error(&e, &root))?
        };
        if kind == Some(FileType::Directory) && recursive {
            push_entries(m, root.as_os_str().as_encoded_bytes())?;
        }
    } else {
        // The verdict about the entry below it.
        let keep = m.pop();
        let entry = m.pop();
        if m.want_bool(keep)? {
            let entry = m.want_string(entry)?;
            let file = entry.bytes().get(1..).unwrap_or_default();
            kept.files.insert(file.to_vec());
            if entry.bytes().first() == Some(&b'd') {
                push_entries(m, file)?;
            }
        }
    }
    let n = m.locals(a);
    if n > ENTRIES {
        let entry = m.want_string(m.local(a, n - 1))?;
        let kind = match entry.bytes().first() {
            Some(b'r') => FileType::Regular { executable: false },
            Some(b'd') => FileType::Directory,
            Some(b'l') => FileType::Symlink,
            _ => FileType::Other,
        };
        let file = m.string(entry.bytes().get(1..).unwrap_or_default());
        let kind = type_string(m, kind);
        m.push(filter);
        m.push(file);
        m.push(kind);
        scratch::put(m, a, kept);
        return Ok(Step::Call(2));
    }
    let path = m.want_string(m.local(a, 0))?;
    let path = bytes_path(path.bytes());
    let name = m.want_string(m.local(a, 1))?;
    let keep = |file: &[u8]| kept.files.contains(file);
    let request = AddPath {
        path,
        name: name.bytes(),
        recursive,
        keep: if filter.is_null() { None } else { Some(&keep) },
        sha256: m
            .local(a, 4)
            .as_string()
            .and_then(|s| <[u8; 32]>::try_from(s.bytes()).ok()),
        references: &kept.references,
    };
    let store_path = m
        .host
        .add_path(&request)
        .map_err(|e| host_error(&e, path))?;
    let context = m
        .contexts
        .single(ContextElement::Path(store_path.as_slice().into()));
    Ok(Step::Done(m.heap.string(&store_path, context)))
}

/// Pushes what is in a folder, last first.
fn push_entries(m: &mut Machine, folder: &[u8]) -> Result<()> {
    let shown = bytes_path(folder);
    let mut entries = m.host.read_dir(shown).map_err(|e| host_error(&e, shown))?;
    entries.sort_by(|x, y| y.0.cmp(&x.0));
    m.check_memory(entries.len().saturating_mul(folder.len() + 64))?;
    for (name, kind) in entries {
        let letter = match kind {
            FileType::Regular { .. } => b'r',
            FileType::Directory => b'd',
            FileType::Symlink => b'l',
            FileType::Other => b'o',
        };
        let slash: &[u8] = if folder == b"/" { b"" } else { b"/" };
        let entry = m.string([&[letter], folder, slash, &name].concat());
        m.push(entry);
    }
    Ok(())
}
