//! Arguments that name files: paths, strings and sets that become one.

use nivis_eval::context::ContextElement;
use nivis_eval::machine::{bytes_path, canonical_path};
use nivis_eval::{Activation, Error, ErrorKind, Machine, Result, Step, StringRef, Value, ops};

/// Turns a value into a path value whose file can be looked at now. Local: the value.
///
/// Paths stay as they are. A set with `__toString` gives what that returns, which may be a path; a set with
/// `outPath`, and a string, must give an absolute path. What the string's context refers to has to exist.
///
/// # Errors
/// When the value names no absolute path, or refers to something that is not in the store.
pub(crate) fn coerce_to_path(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    const TO_STRING: u64 = 1;
    const COERCED: u64 = 2;
    match a.state {
        COERCED => {
            let text = m.pop();
            let text = m.want_string(text)?;
            require_context(m, text)?;
            Ok(Step::Done(absolute(m, text)?))
        }
        TO_STRING => {
            let v = m.pop();
            m.push(v);
            Ok(Step::TailRun(coerce_to_path, 1))
        }
        _ => {
            m.truncate_locals(a, 1);
            let v = m.local(a, 0);
            if v.is_thunk() {
                return Ok(Step::Force(v));
            }
            if v.as_path().is_some() {
                return Ok(Step::Done(v));
            }
            if let Some(f) = v.as_attrs().and_then(|set| set.get(m.known.to_string)) {
                a.state = TO_STRING;
                m.push(f);
                m.push(v);
                return Ok(Step::Call(1));
            }
            a.state = COERCED;
            m.push(v);
            m.push(ops::Coerce::PATH.value());
            Ok(Step::Run(ops::coerce_to_string, 2))
        }
    }
}

/// The path value of an absolute path in a string, whatever its context.
///
/// # Errors
/// When it is not absolute, or has a NUL byte.
pub(crate) fn absolute(m: &mut Machine, text: StringRef) -> Result<Value> {
    let bytes = text.bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Error::other(format!(
            "string '{}' doesn't represent an absolute path",
            text.to_text()
        )));
    }
    if bytes.contains(&0) {
        return Err(Error::other("a path cannot contain a NUL byte"));
    }
    let canonical = canonical_path(bytes);
    Ok(m.heap.path(&canonical))
}

/// Checks that what a string refers to can be read: sources and `.drv` files that are there, outputs that are
/// built.
///
/// # Errors
/// When something is missing: evaluation builds nothing.
pub(crate) fn require_context(m: &Machine, text: StringRef) -> Result<()> {
    if text.context().is_empty() {
        return Ok(());
    }
    let store_dir = m.settings.store_dir.as_bytes();
    for element in m.contexts.elements(text.context()) {
        match element {
            ContextElement::Path(path) | ContextElement::DrvDeep(path) => {
                if !exists(m, path)? {
                    return Err(Error::new(
                        ErrorKind::Host,
                        format!("path '{}' is not valid", String::from_utf8_lossy(path)),
                    ));
                }
            }
            ContextElement::Output { drv, output } => {
                // Where the output would be is in the text itself.
                let root = store_object(text.bytes(), store_dir);
                if !matches!(root, Some(root) if exists(m, root)?) {
                    return Err(Error::new(
                        ErrorKind::Host,
                        format!(
                            "cannot read '{}' during evaluation: output '{}' of '{}' is not built",
                            text.to_text(),
                            String::from_utf8_lossy(output),
                            String::from_utf8_lossy(drv)
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn exists(m: &Machine, path: &[u8]) -> Result<bool> {
    match m.host.file_type(bytes_path(path)) {
        Ok(found) => Ok(found.is_some()),
        Err(e) => Err(Error::new(
            ErrorKind::Host,
            format!("cannot read '{}': {e}", String::from_utf8_lossy(path)),
        )),
    }
}

/// The path of the store object that a path is in: the store's folder and one component more.
pub(crate) fn store_object<'a>(path: &'a [u8], store_dir: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(store_dir)?.strip_prefix(b"/")?;
    let len = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
    (len > 0).then(|| &path[..store_dir.len() + 1 + len])
}
