//! Values as documents: JSON, XML, and the printed form of `nix eval`.
//!
//! These walk a value from outside of the machine with a stack of their own, evaluating what they come to, and
//! use no host recursion. Nesting beyond `max-call-depth` is an error.

use crate::packages::{is_derivation, position_of};
use nivis_builtins::pure::json;
use nivis_builtins::pure::xml::Writer;
use nivis_eval::own;
use nivis_eval::print::{PrintOptions, print_name};
use nivis_eval::{
    AttrsRef, Error, ErrorKind, ListRef, Machine, PosId, Result, SourceSpan, Symbol, Type, Value,
    ops,
};
use std::collections::HashSet;

/// How a value is turned into JSON.
#[derive(Clone, Copy, Debug)]
pub struct JsonOptions {
    /// Evaluate what is not evaluated; else that is an error.
    pub strict: bool,
    /// Copy paths into the store and print where they are then; else print them as they are.
    pub copy_paths: bool,
}

enum Container {
    List(ListRef, usize),
    Attrs(Vec<(Symbol, Value, PosId)>, usize),
}

/// A value as compact JSON, attributes in the order of their names.
///
/// # Errors
/// When evaluation fails, a part is a function, or a string is not UTF-8.
pub fn json(m: &mut Machine, value: Value, options: JsonOptions) -> Result<Vec<u8>> {
    let root = m.root(value);
    let mut stack = Vec::new();
    let mut out = Vec::new();
    let result = json_walk(m, value, options, &mut stack, &mut out);
    m.unroot(root);
    match result {
        Ok(()) => Ok(out),
        Err(e) => Err(in_containers(m, e, &stack)),
    }
}

fn in_containers(m: &Machine, mut e: Error, stack: &[Container]) -> Error {
    for container in stack.iter().rev() {
        let text = match container {
            Container::List(_, next) => {
                format!(
                    "while evaluating list element at index {}",
                    next.saturating_sub(1)
                )
            }
            Container::Attrs(entries, next) => {
                let name = entries
                    .get(next.saturating_sub(1))
                    .map(|e| m.symbols.text(e.0));
                format!("while evaluating attribute '{}'", name.unwrap_or_default())
            }
        };
        e = e.context(text, SourceSpan::default(), false);
    }
    e
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

fn sorted(m: &mut Machine, attrs: AttrsRef) -> Vec<(Symbol, Value, PosId)> {
    m.sorted_attrs(attrs)
}

fn json_walk(
    m: &mut Machine,
    value: Value,
    options: JsonOptions,
    stack: &mut Vec<Container>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut next = Some(value);
    loop {
        if let Some(value) = next.take() {
            m.check_memory(out.capacity())?;
            if let Some(container) = json_open(m, value, options, out)? {
                out.push(if matches!(container, Container::List(..)) {
                    b'['
                } else {
                    b'{'
                });
                stack.push(container);
                check_depth(m, stack.len())?;
            }
        }
        match stack.last_mut() {
            None => return Ok(()),
            Some(Container::List(list, i)) => match list.get(*i) {
                Some(v) => {
                    if *i > 0 {
                        out.push(b',');
                    }
                    *i += 1;
                    next = Some(v);
                }
                None => {
                    out.push(b']');
                    stack.pop();
                }
            },
            Some(Container::Attrs(entries, i)) => match entries.get(*i).copied() {
                Some((name, v, _)) => {
                    if *i > 0 {
                        out.push(b',');
                    }
                    *i += 1;
                    json_string(m.symbols.name(name), out)?;
                    out.push(b':');
                    next = Some(v);
                }
                None => {
                    out.push(b'}');
                    stack.pop();
                }
            },
        }
    }
}

/// Writes a simple value, or gives the container to open.
fn json_open(
    m: &mut Machine,
    value: Value,
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> Result<Option<Container>> {
    let mut value = value.resolved();
    let mut outs = 0;
    loop {
        if options.strict {
            value = m.force(value)?;
        }
        match value.type_of() {
            Type::Null => out.extend_from_slice(b"null"),
            Type::Bool => out.extend_from_slice(if value == Value::TRUE {
                b"true"
            } else {
                b"false"
            }),
            Type::Int => out.extend_from_slice(value.as_int().unwrap_or(0).to_string().as_bytes()),
            Type::Float => json::write_float(value.as_float().unwrap_or(0.0), out),
            Type::String => json_string(m.want_string(value)?.bytes(), out)?,
            Type::Path => {
                let Some(path) = value.as_path() else {
                    return Ok(None);
                };
                if options.copy_paths {
                    let copied = ops::copy_to_store(m, path)?;
                    json_string(m.want_string(copied)?.bytes(), out)?;
                } else {
                    json_string(own::text(path.bytes()), out)?;
                }
            }
            Type::List => return Ok(value.as_list().map(|l| Container::List(l, 0))),
            Type::Attrs => {
                let Some(attrs) = value.as_attrs() else {
                    return Ok(None);
                };
                if attrs.get(m.known.to_string).is_some() {
                    let text =
                        m.run_native(ops::coerce_to_string, &[value, ops::Coerce::PATH.value()])?;
                    json_string(m.want_string(text)?.bytes(), out)?;
                } else if let Some(path) = attrs.get(m.known.out_path) {
                    outs += 1;
                    check_depth(m, outs)?;
                    value = path;
                    continue;
                } else {
                    let entries = sorted(m, attrs);
                    return Ok(Some(Container::Attrs(entries, 0)));
                }
            }
            Type::Function | Type::Thunk | Type::External => {
                let kind = m.describe_type(value);
                return Err(Error::type_error(format!("cannot convert {kind} to JSON")));
            }
        }
        return Ok(None);
    }
}

fn json_string(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    json::write_string(text, out).map_err(|e| Error::type_error(e.to_string()))
}

/// How a value is turned into XML.
#[derive(Clone, Copy, Debug)]
pub struct XmlOptions {
    /// Evaluate what is not evaluated; else that is printed as unevaluated.
    pub strict: bool,
    /// Say where attributes and functions stand.
    pub location: bool,
}

enum XmlOpen {
    List(ListRef, usize),
    Attrs(Vec<(Symbol, Value, PosId)>, usize),
}

/// A value as an XML document.
///
/// # Errors
/// When evaluation fails.
pub fn xml(m: &mut Machine, value: Value, options: XmlOptions) -> Result<Vec<u8>> {
    let root = m.root(value);
    let mut writer = Writer::new();
    writer.open("expr", &[]);
    let result = xml_walk(m, value, options, &mut writer);
    m.unroot(root);
    result?;
    Ok(writer.finish())
}

/// XML attributes, sorted by name as the reference writes them.
type Listed = Vec<(&'static str, Vec<u8>)>;

fn borrowed(listed: &Listed) -> Vec<(&str, &[u8])> {
    listed.iter().map(|(n, v)| (*n, v.as_slice())).collect()
}

fn located(m: &Machine, pos: PosId, name: Option<&[u8]>, location: bool) -> Listed {
    let mut listed = Listed::new();
    let place = if location { position_of(m, pos) } else { None };
    if let Some((_, line, column)) = &place {
        listed.push(("column", column.to_string().into_bytes()));
        listed.push(("line", line.to_string().into_bytes()));
    }
    if let Some(name) = name {
        listed.push(("name", name.to_vec()));
    }
    if let Some((Some(path), ..)) = place {
        listed.push(("path", path.into_bytes()));
    }
    listed
}

fn xml_walk(m: &mut Machine, value: Value, options: XmlOptions, doc: &mut Writer) -> Result<()> {
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut stack: Vec<XmlOpen> = Vec::new();
    let mut next = Some(value);
    loop {
        if let Some(value) = next.take() {
            let value = if options.strict {
                m.force(value)?
            } else {
                value.resolved()
            };
            check_depth(m, stack.len())?;
            if let Some(open) = xml_value(m, value, options, doc, &mut seen)? {
                stack.push(open);
            }
        }
        match stack.last_mut() {
            None => return Ok(()),
            Some(XmlOpen::List(list, i)) => match list.get(*i) {
                Some(v) => {
                    *i += 1;
                    next = Some(v);
                }
                None => {
                    doc.close();
                    stack.pop();
                }
            },
            Some(XmlOpen::Attrs(entries, i)) => {
                // The element of the attribute before.
                if *i > 0 {
                    doc.close();
                }
                match entries.get(*i).copied() {
                    Some((symbol, v, pos)) => {
                        *i += 1;
                        let listed =
                            located(m, pos, Some(m.symbols.name(symbol)), options.location);
                        doc.open("attr", &borrowed(&listed));
                        next = Some(v);
                    }
                    None => {
                        doc.close();
                        stack.pop();
                    }
                }
            }
        }
    }
}

/// Writes a simple value, or the start of a container.
fn xml_value(
    m: &mut Machine,
    value: Value,
    options: XmlOptions,
    doc: &mut Writer,
    seen: &mut HashSet<Vec<u8>>,
) -> Result<Option<XmlOpen>> {
    let simple = |doc: &mut Writer, name, text: &[u8]| doc.empty(name, &[("value", text)]);
    match value.type_of() {
        Type::Null => doc.empty("null", &[]),
        Type::Bool => simple(
            doc,
            "bool",
            if value == Value::TRUE {
                b"true"
            } else {
                b"false"
            },
        ),
        Type::Int => simple(
            doc,
            "int",
            value.as_int().unwrap_or(0).to_string().as_bytes(),
        ),
        Type::Float => {
            let text = nivis_eval::print::print_float(value.as_float().unwrap_or(0.0));
            simple(doc, "float", text.as_bytes());
        }
        Type::String => simple(doc, "string", m.want_string(value)?.bytes()),
        Type::Path => {
            if let Some(path) = value.as_path() {
                simple(doc, "path", &own::shown(path.bytes()));
            }
        }
        Type::Thunk | Type::External => doc.empty("unevaluated", &[]),
        Type::Function => xml_function(m, value, options, doc),
        Type::List => {
            doc.open("list", &[]);
            return Ok(value.as_list().map(|l| XmlOpen::List(l, 0)));
        }
        Type::Attrs => {
            let attrs = m.want_attrs(value)?;
            if !is_derivation(m, value)? {
                doc.open("attrs", &[]);
                return Ok(Some(XmlOpen::Attrs(sorted(m, attrs), 0)));
            }
            let mut listed = Listed::new();
            for (symbol, name) in [(m.known.drv_path, "drvPath"), (m.known.out_path, "outPath")] {
                let Some(v) = attrs.get(symbol) else { continue };
                let v = if options.strict { m.force(v)? } else { v };
                if let Some(s) = v.as_string() {
                    listed.push((name, s.bytes().to_vec()));
                }
            }
            doc.open("derivation", &borrowed(&listed));
            let drv = listed
                .into_iter()
                .find(|(n, v)| *n == "drvPath" && !v.is_empty());
            if drv.is_some_and(|(_, path)| seen.insert(path)) {
                return Ok(Some(XmlOpen::Attrs(sorted(m, attrs), 0)));
            }
            doc.empty("repeated", &[]);
            doc.close();
        }
    }
    Ok(None)
}

fn xml_function(m: &Machine, value: Value, options: XmlOptions, doc: &mut Writer) {
    let Some(signature) = value.as_function().and_then(|f| m.signature(f)) else {
        doc.empty("unevaluated", &[]);
        return;
    };
    doc.open(
        "function",
        &borrowed(&located(m, signature.pos, None, options.location)),
    );
    let arg = signature.arg.map(|s| m.symbols.name(s));
    match signature.pattern {
        None => doc.empty("varpat", &[("name", arg.unwrap_or_default())]),
        Some(pattern) => {
            let mut attrs: Vec<(&str, &[u8])> = Vec::new();
            if pattern.ellipsis {
                attrs.push(("ellipsis", b"1"));
            }
            if let Some(arg) = arg {
                attrs.push(("name", arg));
            }
            doc.open("attrspat", &attrs);
            for formal in &pattern.formals {
                doc.empty("attr", &[("name", m.symbols.name(formal.name))]);
            }
            doc.close();
        }
    }
    doc.close();
}

enum PrintTask {
    Value(Value, usize),
    Name(Symbol),
    Text(&'static str),
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
    let mut todo = vec![PrintTask::Value(value, 0)];
    while let Some(task) = todo.pop() {
        match task {
            PrintTask::Text(t) => out.extend_from_slice(t.as_bytes()),
            PrintTask::Name(s) => {
                out.push(b' ');
                print_name(out, m.symbols.name(s));
                out.extend_from_slice(b" = ");
            }
            PrintTask::Value(v, depth) => {
                check_depth(m, depth)?;
                m.check_memory(out.capacity())?;
                match print_value(m, v, depth, out, &mut seen, &mut todo) {
                    Ok(()) => {}
                    Err(e) if is_fatal(e.kind()) => return Err(e),
                    Err(e) => {
                        out.extend_from_slice("«error: ".as_bytes());
                        out.extend_from_slice(e.message().as_bytes());
                        out.extend_from_slice("»".as_bytes());
                    }
                }
            }
        }
    }
    Ok(())
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
        todo.push(PrintTask::Text(" ]"));
        for i in (0..list.len()).rev() {
            todo.push(PrintTask::Value(
                list.slot(i).unwrap_or(Value::NULL),
                depth + 1,
            ));
            todo.push(PrintTask::Text(" "));
        }
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
                    Some(m.want_string(path)?)
                }
                None => None,
            };
            out.extend_from_slice("«derivation".as_bytes());
            if let Some(path) = path {
                out.push(b' ');
                out.extend_from_slice(path.bytes());
            }
            out.extend_from_slice("»".as_bytes());
            return Ok(());
        }
        out.push(b'{');
        todo.push(PrintTask::Text(" }"));
        for (symbol, v, _) in m.sorted_attrs(attrs).into_iter().rev() {
            todo.push(PrintTask::Text(";"));
            todo.push(PrintTask::Value(attrs.slot(symbol).unwrap_or(v), depth + 1));
            todo.push(PrintTask::Name(symbol));
        }
        return Ok(());
    }
    let text = m.print(value, &PrintOptions::PLAIN);
    out.extend_from_slice(&text);
    Ok(())
}
