//! Hashes.

use crate::args::{Want, arguments};
use crate::files;
use crate::table::frame;
use nivis_eval::heap::{AttrsRef, StringRef};
use nivis_eval::{Activation, Builtin, Error, ErrorKind, Machine, Result, Step, Value};
use nivis_store::{Hash, HashAlgorithm, HashFormat};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "hashString",
        &["type", "s"],
        0b1,
        hash_string,
        "Returns the hash of the string `s` in base 16. `type` is `\"md5\"`, `\"sha1\"`, `\"sha256\"`, `\"sha512\"` or, \
         with the feature `blake3-hashes`, `\"blake3\"`. The context of `s` is dropped.",
    ),
    frame(
        "hashFile",
        &["type", "path"],
        0b1,
        hash_file,
        "Returns the hash of the contents of the file at `path` in base 16; `type` as in `hashString`.",
    ),
    frame(
        "convertHash",
        &["args"],
        0b1,
        convert_hash,
        "Writes a hash in another way. The set `args` has `hash`, in any spelling; `toHashFormat`, one of `\"base16\"`, \
         `\"nix32\"`, `\"base32\"` (an old name of `\"nix32\"`), `\"base64\"` and `\"sri\"`; and `hashAlgo`, the \
         algorithm, which may be left out when `hash` tells it.",
    ),
];

/// The evaluator's error for one of the store crate.
pub(crate) fn store_error(e: nivis_store::Error) -> Error {
    Error::new(ErrorKind::Store, e.message())
}

/// A hash algorithm by name.
pub(crate) fn algorithm(m: &Machine, name: StringRef) -> Result<HashAlgorithm> {
    let algorithm = HashAlgorithm::parse(name.bytes()).map_err(store_error)?;
    if algorithm == HashAlgorithm::Blake3 {
        require_feature(m, "blake3-hashes", "")?;
    }
    Ok(algorithm)
}

/// A hash in any spelling; `algorithm` is the one that it must have, if that is known.
pub(crate) fn parse_hash(
    m: &Machine,
    text: StringRef,
    algorithm: Option<HashAlgorithm>,
) -> Result<Hash> {
    let text = text.bytes();
    let separator = if text.contains(&b':') { b':' } else { b'-' };
    let mut parts = text.splitn(2, |b| *b == separator);
    if let (Some(b"blake3"), Some(_)) = (parts.next(), parts.next()) {
        require_feature(m, "blake3-hashes", "")?;
    }
    Hash::parse_any(text, algorithm).map_err(store_error)
}

/// Fails unless an experimental feature is on.
pub(crate) fn require_feature(m: &Machine, feature: &str, reason: &str) -> Result<()> {
    if m.settings.feature(feature) {
        return Ok(());
    }
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    };
    Err(Error::other(format!(
        "experimental Nix feature '{feature}' is disabled{reason}; add '--extra-experimental-features {feature}' to \
         enable it"
    )))
}

fn hash_string(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let algorithm = algorithm(m, m.want_plain_string(m.local(a, 0))?)?;
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Any)])? {
        return Ok(step);
    }
    let s = m.want_string(m.local(a, 1))?;
    let hash = Hash::of(algorithm, s.bytes());
    Ok(Step::Done(m.string(hash.encode(HashFormat::Base16))))
}

fn hash_file(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let algorithm = algorithm(m, m.want_plain_string(m.local(a, 0))?)?;
    if a.state == 0 {
        a.state = 1;
        let path = m.local(a, 1);
        m.push(path);
        return Ok(Step::Run(files::realised_path, 1));
    }
    let path = m.pop();
    let contents = files::read(m, m.want_string(path)?)?;
    let hash = Hash::of(algorithm, contents);
    Ok(Step::Done(m.string(hash.encode(HashFormat::Base16))))
}

fn wanted(m: &mut Machine, attrs: AttrsRef, name: &str) -> Result<Value> {
    let symbol = m.symbols.intern(name.as_bytes());
    attrs
        .get(symbol)
        .ok_or_else(|| m.missing_attr(attrs, symbol))
}

fn convert_hash(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if a.state == 1 {
        m.pop();
    }
    a.state = 1;
    let args = m.want_attrs(m.local(a, 0))?;
    let hash = wanted(m, args, "hash")?;
    if hash.is_thunk() {
        return Ok(Step::Force(hash));
    }
    let hash = m.want_plain_string(hash)?;
    let symbol = m.symbols.intern(b"hashAlgo");
    let algorithm = match args.get(symbol) {
        None => None,
        Some(thunk) if thunk.is_thunk() => return Ok(Step::Force(thunk)),
        Some(name) => Some(algorithm(m, m.want_plain_string(name)?)?),
    };
    let format = wanted(m, args, "toHashFormat")?;
    if format.is_thunk() {
        return Ok(Step::Force(format));
    }
    let format = m.want_plain_string(format)?;
    if let Some(warning) = HashFormat::warning(format.bytes()) {
        m.host.message(format!("warning: {warning}").as_bytes());
    }
    let format = HashFormat::parse(format.bytes()).map_err(store_error)?;
    let hash = parse_hash(m, hash, algorithm)?;
    Ok(Step::Done(m.string(hash.encode(format))))
}
