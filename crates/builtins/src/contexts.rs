//! String contexts.

use crate::args::{Want, arguments};
use crate::derivations;
use crate::pure::print;
use crate::strings::coerced;
use crate::table::{frame, leaf};
use nivis_eval::context::ContextElement;
use nivis_eval::ops::Coerce;
use nivis_eval::{Activation, Builtin, Error, Machine, PosId, Result, Step, StringRef, Value};
use std::collections::BTreeMap;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "unsafeDiscardStringContext",
        &["s"],
        0b1,
        discard_context,
        "Returns the string `s` without its context, so that what it refers to is no dependency any more.",
    ),
    leaf(
        "hasContext",
        &["s"],
        0b1,
        has_context,
        "Returns whether the string `s` refers to anything in the store.",
    ),
    leaf(
        "getContext",
        &["s"],
        0b1,
        get_context,
        "Returns the context of the string `s`: a set whose names are store paths. Each value has `path = true` when \
         the path itself is referred to, `outputs`, a list, when outputs of the derivation at the path are, and \
         `allOutputs = true` when the derivation with all its inputs is.",
    ),
    frame(
        "appendContext",
        &["s", "context"],
        0b1,
        append_context,
        "Returns the string `s` with `context`, a set as `getContext` returns it, added to its own.",
    ),
    frame(
        "addDrvOutputDependencies",
        &["s"],
        0b1,
        add_drv_output_dependencies,
        "Returns the string `s`, whose context must be a single `.drv` file, with a context that refers to this \
         derivation with all its inputs and outputs.",
    ),
    frame(
        "unsafeDiscardOutputDependency",
        &["s"],
        0b1,
        discard_output_dependency,
        "Returns the string `s` with a context in which every derivation that was referred to with all its outputs \
         is referred to as a plain `.drv` file.",
    ),
];

fn discard_context(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = coerced!(m, a, 0, Coerce::INTERPOLATION);
    Ok(Step::Done(m.heap.with_context(s, Default::default())))
}

fn has_context(m: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(!m.want_string(args[0])?.context().is_empty()))
}

#[derive(Default)]
struct Info {
    path: bool,
    all_outputs: bool,
    outputs: Vec<Vec<u8>>,
}

fn get_context(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let s = m.want_string(args[0])?;
    let mut infos: BTreeMap<Vec<u8>, Info> = BTreeMap::new();
    for element in m.contexts.elements(s.context()) {
        let info = infos.entry(element.path().to_vec()).or_default();
        match element {
            ContextElement::Path(_) => info.path = true,
            ContextElement::DrvDeep(_) => info.all_outputs = true,
            ContextElement::Output { output, .. } => info.outputs.push(output.to_vec()),
        }
    }
    let path = m.symbols.intern(b"path");
    let all_outputs = m.symbols.intern(b"allOutputs");
    let outputs = m.symbols.intern(b"outputs");
    let mut entries = Vec::with_capacity(infos.len());
    for (name, mut info) in infos {
        let mut parts = Vec::new();
        if info.path {
            parts.push((path, PosId::NONE, Value::TRUE));
        }
        if info.all_outputs {
            parts.push((all_outputs, PosId::NONE, Value::TRUE));
        }
        if !info.outputs.is_empty() {
            info.outputs.sort();
            let names: Vec<Value> = info.outputs.iter().map(|o| m.string(o)).collect();
            parts.push((outputs, PosId::NONE, m.heap.list(&names)));
        }
        entries.push((m.symbols.intern(&name), PosId::NONE, m.attrs(parts)));
    }
    Ok(m.attrs(entries))
}

fn append_context(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = m.want_string(m.local(a, 0))?;
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Attrs)])? {
        return Ok(step);
    }
    let attrs = m.want_attrs(m.local(a, 1))?;
    let store = derivations::store_dir(m)?;
    let (path, all_outputs, outputs) = (
        m.symbols.intern(b"path"),
        m.symbols.intern(b"allOutputs"),
        m.symbols.intern(b"outputs"),
    );
    let mut elements: Vec<ContextElement> = m.contexts.elements(s.context()).cloned().collect();
    macro_rules! forced {
        ($v:expr) => {{
            let v = $v;
            if v.is_thunk() {
                return Ok(Step::Force(v));
            }
            v
        }};
    }
    // Values that were forced are found again, so that after a step all begins anew: there are few.
    for (symbol, info, _) in attrs.iter() {
        let name = m.symbols.name(symbol).to_vec();
        let shown = || {
            let mut shown = Vec::new();
            print::attr_name_into(&name, &mut shown);
            String::from_utf8_lossy(&shown).into_owned()
        };
        if store.parse(&name).is_err() {
            return Err(Error::other(format!(
                "context key '{}' is not a store path",
                shown()
            )));
        }
        let is_drv = name.ends_with(b".drv");
        let info = m.want_attrs(forced!(info))?;
        if let Some(v) = info.get(path)
            && m.want_bool(forced!(v))?
        {
            elements.push(ContextElement::Path(name.as_slice().into()));
        }
        if let Some(v) = info.get(all_outputs)
            && m.want_bool(forced!(v))?
        {
            if !is_drv {
                return Err(Error::other(format!(
                    "tried to add all-outputs context of {}, which is not a derivation, to a string",
                    shown()
                )));
            }
            elements.push(ContextElement::DrvDeep(name.as_slice().into()));
        }
        if let Some(v) = info.get(outputs) {
            let list = m.want_list(forced!(v))?;
            if !list.is_empty() && !is_drv {
                return Err(Error::other(format!(
                    "tried to add derivation output context of {}, which is not a derivation, to a string",
                    shown()
                )));
            }
            for output in list.iter() {
                let output = m.want_plain_string(forced!(output))?;
                elements.push(ContextElement::Output {
                    drv: name.as_slice().into(),
                    output: output.bytes().into(),
                });
            }
        }
    }
    let context = m.contexts.collect(elements);
    Ok(Step::Done(m.heap.with_context(s, context)))
}

/// The element of a context that has just one; else how many it has.
pub(crate) fn only_element(
    m: &Machine,
    s: StringRef,
) -> std::result::Result<ContextElement, usize> {
    let mut elements = m.contexts.elements(s.context());
    let count = elements.len();
    elements.next().filter(|_| count == 1).cloned().ok_or(count)
}

fn add_drv_output_dependencies(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = coerced!(m, a, 0, Coerce::INTERPOLATION);
    let element = only_element(m, s).map_err(|count| {
        Error::other(format!(
            "context of string '{}' must have exactly one element, but has {count}",
            s.to_text()
        ))
    })?;
    let element = match element {
        ContextElement::Path(path) if path.ends_with(b".drv") => ContextElement::DrvDeep(path),
        ContextElement::Path(path) => {
            return Err(Error::other(format!(
                "path '{}' is not a derivation",
                String::from_utf8_lossy(&path)
            )));
        }
        ContextElement::DrvDeep(path) => ContextElement::DrvDeep(path),
        ContextElement::Output { output, .. } => {
            return Err(Error::other(format!(
                "`addDrvOutputDependencies` can only act on derivations, not on a derivation output such as '{}'",
                String::from_utf8_lossy(&output)
            )));
        }
    };
    let context = m.contexts.single(element);
    Ok(Step::Done(m.heap.with_context(s, context)))
}

fn discard_output_dependency(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = coerced!(m, a, 0, Coerce::INTERPOLATION);
    let elements: Vec<ContextElement> = m
        .contexts
        .elements(s.context())
        .map(|element| match element {
            ContextElement::DrvDeep(path) => ContextElement::Path(path.clone()),
            other => other.clone(),
        })
        .collect();
    let context = m.contexts.collect(elements);
    Ok(Step::Done(m.heap.with_context(s, context)))
}
