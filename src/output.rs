//! Values as documents: JSON, XML, and the printed form of `nix eval`.
//!
//! These evaluate what they come to and use no host recursion. Nesting beyond `max-call-depth` is an error.

use crate::packages::is_derivation;
use nivis_builtins::data;
use nivis_eval::print::{PrintOptions, print_name};
use nivis_eval::{Error, ErrorKind, Machine, Result, Value, ops};
use nivis_store::StoreDir;
use std::collections::HashSet;

pub use nivis_builtins::data::{JsonOptions, XmlOptions};

/// A value as compact JSON, attributes in the order of their names.
///
/// # Errors
/// When evaluation fails, a part is a function, or a string is not UTF-8.
pub fn json(m: &mut Machine, value: Value, options: JsonOptions) -> Result<Vec<u8>> {
    let options = options.value(m);
    let text = m.run_native(data::json_text, &[value, options])?;
    Ok(m.want_string(text)?.bytes().to_vec())
}

/// A value as an XML document.
///
/// # Errors
/// When evaluation fails.
pub fn xml(m: &mut Machine, value: Value, options: XmlOptions) -> Result<Vec<u8>> {
    let options = options.value(m);
    let text = m.run_native(data::xml_text, &[value, options])?;
    Ok(m.want_string(text)?.bytes().to_vec())
}

fn check_depth(m: &Machine, depth: usize) -> Result<()> {
    if depth > m.settings.max_call_depth as usize {
        return Err(Error::new(
            ErrorKind::CallDepth,
            "stack overflow; max-call-depth exceeded",
        ));
    }
    Ok(())
}

enum PrintTask {
    /// The next one of a list's elements or a set's attributes, and the depth of these.
    ///
    /// By index: a part that is evaluated meanwhile may be held by its container alone.
    Part(Value, usize, usize),
    /// What ends an attribute.
    Semicolon,
}

/// A value printed as `nix eval` does: everything is evaluated but the insides of derivations; parts that fail are
/// shown as `«error: …»`.
///
/// # Errors
/// When evaluation hits a limit (calls, memory, cancellation), or nesting is too deep.
pub fn print_forced(m: &mut Machine, value: Value) -> Result<Vec<u8>> {
    let root = m.root(value);
    let mut out = Vec::new();
    let result = print_walk(m, value, &mut out);
    m.unroot(root);
    result.map(|()| out)
}

fn print_walk(m: &mut Machine, value: Value, out: &mut Vec<u8>) -> Result<()> {
    let mut seen: HashSet<Value> = HashSet::new();
    let mut todo = Vec::new();
    print_shown(m, value, 0, out, &mut seen, &mut todo)?;
    while let Some(task) = todo.pop() {
        let PrintTask::Part(container, index, depth) = task else {
            out.push(b';');
            continue;
        };
        check_depth(m, depth)?;
        m.check_memory(out.capacity().saturating_add(seen.capacity() * 16))?;
        let part = if let Some(list) = container.as_list() {
            list.slot(index)
        } else if let Some(attrs) = container.as_attrs() {
            m.sorted_attr(attrs, index).map(|(symbol, v, _)| {
                out.push(b' ');
                print_name(out, m.symbols.name(symbol));
                out.extend_from_slice(b" =");
                todo.push(PrintTask::Part(container, index + 1, depth));
                todo.push(PrintTask::Semicolon);
                attrs.slot(symbol).unwrap_or(v)
            })
        } else {
            None
        };
        let Some(part) = part else {
            out.extend_from_slice(if container.is_list() { b" ]" } else { b" }" });
            continue;
        };
        if container.is_list() {
            todo.push(PrintTask::Part(container, index + 1, depth));
        }
        out.push(b' ');
        print_shown(m, part, depth, out, &mut seen, &mut todo)?;
    }
    Ok(())
}

/// Prints a value or the begin of one, or its error.
fn print_shown(
    m: &mut Machine,
    value: Value,
    depth: usize,
    out: &mut Vec<u8>,
    seen: &mut HashSet<Value>,
    todo: &mut Vec<PrintTask>,
) -> Result<()> {
    match print_value(m, value, depth, out, seen, todo) {
        Err(e) if is_fatal(e.kind()) => Err(e),
        Err(e) => {
            out.extend_from_slice(format!("«error: {}»", e.message()).as_bytes());
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether an error says that nothing further should be tried.
fn is_fatal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::CallDepth | ErrorKind::Memory | ErrorKind::Cancelled
    )
}

fn print_value(
    m: &mut Machine,
    value: Value,
    depth: usize,
    out: &mut Vec<u8>,
    seen: &mut HashSet<Value>,
    todo: &mut Vec<PrintTask>,
) -> Result<()> {
    // Lists are told apart by the place that holds them, as in Nix; sets by themselves.
    let place = value;
    let value = m.force(value)?;
    if let Some(list) = value.as_list() {
        if depth > 0 && !list.is_empty() && !seen.insert(place) {
            out.extend_from_slice("«repeated»".as_bytes());
            return Ok(());
        }
        out.push(b'[');
        todo.push(PrintTask::Part(value, 0, depth + 1));
        return Ok(());
    }
    if let Some(attrs) = value.as_attrs() {
        if !seen.insert(value) {
            out.extend_from_slice("«repeated»".as_bytes());
            return Ok(());
        }
        if is_derivation(m, value)? {
            let path = match attrs.get(m.known.drv_path) {
                Some(path) => {
                    let path =
                        m.run_native(ops::coerce_to_string, &[path, ops::Coerce::PATH.value()])?;
                    Some(store_path(m, m.want_string(path)?.bytes())?)
                }
                None => None,
            };
            out.extend_from_slice("«derivation".as_bytes());
            if let Some(path) = path {
                out.push(b' ');
                out.extend_from_slice(path.as_bytes());
            }
            out.extend_from_slice("»".as_bytes());
            return Ok(());
        }
        out.push(b'{');
        todo.push(PrintTask::Part(value, 0, depth + 1));
        return Ok(());
    }
    let text = m.print(value, &PrintOptions::PLAIN);
    out.extend_from_slice(&text);
    Ok(())
}

/// A path in the store, spelled as it should be.
fn store_path(m: &Machine, path: &[u8]) -> Result<String> {
    let store = |e: nivis_store::Error| Error::new(ErrorKind::Store, e.to_string());
    let dir = StoreDir::new(&m.settings.store_dir).map_err(store)?;
    match dir.parse_lenient(path) {
        Ok(found) => Ok(dir.print(&found)),
        Err(_) => Err(Error::new(
            ErrorKind::Store,
            format!(
                "path '{}' is not in the Nix store",
                String::from_utf8_lossy(path)
            ),
        )),
    }
}
