//! Attribute sets.

use crate::args::{About, Want, arguments, check};
use crate::lists::check_items;
use crate::table::{frame, leaf};
use nivis_eval::{Activation, Builtin, Machine, PosId, Result, Step, Symbol, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    leaf(
        "attrNames",
        &["set"],
        0b1,
        attr_names,
        "Returns the names of the attributes of `set`, in the order of their bytes.",
    ),
    leaf(
        "attrValues",
        &["set"],
        0b1,
        attr_values,
        "Returns the values of the attributes of `set`, in the order of their names' bytes.",
    ),
    frame(
        "getAttr",
        &["name", "set"],
        0b1,
        get_attr,
        "Returns the attribute `name` of `set`; it is an error if there is none. The same as `set.${name}`.",
    ),
    frame(
        "hasAttr",
        &["name", "set"],
        0b1,
        has_attr,
        "Whether `set` has an attribute `name`. The same as `set ? ${name}`.",
    ),
    frame(
        "unsafeGetAttrPos",
        &["name", "set"],
        0b1,
        unsafe_get_attr_pos,
        "Returns where the attribute `name` of `set` is defined, as the set `{ file; line; column; }`, or `null` if \
         that is unknown or there is no such attribute. Unsafe since a result that depends on it changes with the \
         layout of the source.",
    ),
    frame(
        "removeAttrs",
        &["set", "names"],
        0b1,
        remove_attrs,
        "Returns `set` without the attributes listed in `names`. They need not exist.",
    )
    .global(),
    frame(
        "listToAttrs",
        &["list"],
        0b1,
        list_to_attrs,
        "Makes a set of a list of sets `{ name; value; }`. Of several elements with the same name the first one counts.",
    ),
    frame(
        "intersectAttrs",
        &["left", "right"],
        0b1,
        intersect_attrs,
        "Returns the attributes of `right` whose names `left` has too. The time depends on the smaller set and only \
         logarithmically on the larger one.",
    ),
    frame(
        "catAttrs",
        &["name", "list"],
        0b1,
        cat_attrs,
        "Returns the attributes `name` of those sets in `list` that have it.",
    ),
    leaf(
        "mapAttrs",
        &["f", "set"],
        0b10,
        map_attrs,
        "Returns the set of `f name value` for every attribute of `set`, each evaluated when needed.",
    ),
    frame(
        "zipAttrsWith",
        &["f", "list"],
        0b1,
        zip_attrs_with,
        "Returns a set with every name that occurs in a set of `list`; its value is `f name values`, where `values` \
         lists what the sets that have the name give it. Evaluated when needed.",
    ),
];

fn attr_names(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let attrs = m.want_attrs(args[0])?;
    Ok(m.list_names(attrs))
}

fn attr_values(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let attrs = m.want_attrs(args[0])?;
    Ok(m.list_values(attrs))
}

/// The arguments "name" and "set", in this order.
const NAME_AND_SET: &[(usize, Want)] = &[(0, Want::PlainString), (1, Want::Attrs)];

fn get_attr(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, NAME_AND_SET)? {
        return Ok(step);
    }
    let name = m.want_string(m.local(a, 0))?;
    let attrs = m.want_attrs(m.local(a, 1))?;
    match m.symbols.find_string(name).and_then(|s| attrs.get(s)) {
        Some(v) => Ok(Step::Done(v)),
        None => {
            let symbol = m.symbols.of_string(name);
            Err(m.missing_attr(attrs, symbol)).about("in the attribute set under consideration")
        }
    }
}

fn has_attr(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, NAME_AND_SET)? {
        return Ok(step);
    }
    let name = m.want_string(m.local(a, 0))?;
    let attrs = m.want_attrs(m.local(a, 1))?;
    let found = m
        .symbols
        .find(name.bytes())
        .is_some_and(|s| attrs.get(s).is_some());
    Ok(Step::Done(Value::bool(found)))
}

fn unsafe_get_attr_pos(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, NAME_AND_SET)? {
        return Ok(step);
    }
    let name = m.want_string(m.local(a, 0))?;
    let attrs = m.want_attrs(m.local(a, 1))?;
    let pos = m.symbols.find_string(name).and_then(|s| attrs.position(s));
    Ok(Step::Done(
        pos.map_or(Value::NULL, |pos| m.position_attrs(pos)),
    ))
}

/// Looks at the elements of `list` from `a.state - 1` on; the step to take when one is not evaluated yet. Every
/// element has to be what `want` says; `what` they are.
fn elements(
    m: &mut Machine,
    a: &mut Activation,
    list: Value,
    want: Want,
    what: &str,
) -> Result<Option<Step>> {
    let list = m.want_list(list)?;
    for i in a.state as usize - 1..list.len() {
        let Some(item) = list.get(i) else { break };
        if item.is_thunk() {
            a.state = i as u64 + 1;
            return Ok(Some(Step::Force(item)));
        }
        check(m, want, item).about(what)?;
    }
    a.state = list.len() as u64 + 1;
    Ok(None)
}

fn remove_attrs(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: set, names. State: names looked at, plus one.
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Attrs), (1, Want::List)])? {
        return Ok(step);
    }
    a.state = a.state.max(1);
    let what = "while evaluating the values of the second argument passed to builtins.removeAttrs";
    if let Some(step) = elements(m, a, m.local(a, 1), Want::PlainString, what)? {
        return Ok(step);
    }
    let attrs = m.want_attrs(m.local(a, 0))?;
    let list = m.want_list(m.local(a, 1))?;
    let mut names: Vec<Symbol> = Vec::with_capacity(list.len());
    for name in list.iter() {
        let name = m.want_string(name)?;
        // A name that nothing has mentioned before is not in the set.
        names.extend(m.symbols.find_string(name));
    }
    Ok(Step::Done(m.without_attrs(attrs, &mut names)))
}

const IN_PAIR: &str = "in a {name=...; value=...;} pair";

fn list_to_attrs(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Local: list. State: elements looked at, plus one. First all names are evaluated, then the set is made.
    if let Some(step) = arguments(m, a, 1, &[(0, Want::List)])? {
        return Ok(step);
    }
    let list = m.want_list(m.local(a, 0))?;
    for i in (a.state as usize).saturating_sub(1)..list.len() {
        let Some(item) = list.get(i) else { break };
        a.state = i as u64 + 1;
        if item.is_thunk() {
            return Ok(Step::Force(item));
        }
        let pair = m
            .want_attrs(item)
            .about("while evaluating an element of the list passed to builtins.listToAttrs")?;
        let Some(name) = pair.get(m.known.name) else {
            return Err(m.missing_attr(pair, m.known.name)).about(IN_PAIR);
        };
        if name.is_thunk() {
            return Ok(Step::Force(name));
        }
        m.want_plain_string(name).about(
            "while evaluating the `name` attribute of an element of the list passed to builtins.listToAttrs",
        )?;
    }
    check_items(m, list.len().saturating_mul(2))?;
    let mut entries: Vec<(Symbol, u32)> = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let pair = m.want_attrs(item)?;
        let name = m.want_string(pair.get(m.known.name).unwrap_or(Value::NULL))?;
        entries.push((m.symbols.of_string(name), i as u32));
    }
    // By symbol, and the first of equal names first.
    entries.sort_unstable();
    entries.dedup_by_key(|(symbol, _)| *symbol);
    let value = m.known.value;
    let mut attrs: Vec<(Symbol, PosId, Value)> = Vec::with_capacity(entries.len());
    for (symbol, i) in entries {
        let pair = m.want_attrs(list.get(i as usize).unwrap_or(Value::NULL))?;
        match pair.entry(value) {
            Some((v, pos)) => attrs.push((symbol, pos, v)),
            None => return Err(m.missing_attr(pair, value)).about(IN_PAIR),
        }
    }
    Ok(Step::Done(m.attrs_sorted(&attrs)))
}

fn intersect_attrs(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Attrs), (1, Want::Attrs)])? {
        return Ok(step);
    }
    let left = m.want_attrs(m.local(a, 0))?;
    let right = m.want_attrs(m.local(a, 1))?;
    Ok(Step::Done(m.intersect_attrs(left, right)))
}

fn cat_attrs(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: name, list, then the values found. State: sets looked at, plus one.
    if let Some(step) = arguments(m, a, 2, &[(0, Want::PlainString), (1, Want::List)])? {
        return Ok(step);
    }
    a.state = a.state.max(1);
    let what =
        "while evaluating an element in the list passed as second argument to builtins.catAttrs";
    if let Some(step) = elements(m, a, m.local(a, 1), Want::Attrs, what)? {
        return Ok(step);
    }
    let name = m.want_string(m.local(a, 0))?;
    let list = m.want_list(m.local(a, 1))?;
    check_items(m, list.len())?;
    if let Some(symbol) = m.symbols.find_string(name) {
        for item in list.iter() {
            if let Some(v) = item.as_attrs().and_then(|set| set.get(symbol)) {
                m.push(v);
            }
        }
    }
    Ok(Step::Done(m.list_of_locals(a, 2)))
}

fn map_attrs(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let attrs = m.want_attrs(args[1])?;
    Ok(m.delay_map_attrs(args[0], attrs))
}

fn zip_attrs_with(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: function, list. State: sets looked at, plus one.
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Function), (1, Want::List)])? {
        return Ok(step);
    }
    a.state = a.state.max(1);
    let what =
        "while evaluating a value of the list passed as second argument to builtins.zipAttrsWith";
    if let Some(step) = elements(m, a, m.local(a, 1), Want::Attrs, what)? {
        return Ok(step);
    }
    let f = m.local(a, 0);
    let list = m.want_list(m.local(a, 1))?;
    let sets = || list.iter().filter_map(Value::as_attrs);
    let total = sets().fold(0usize, |sum, set| sum.saturating_add(set.len()));
    check_items(m, total.saturating_mul(2))?;
    let mut all: Vec<(Symbol, Value)> = Vec::with_capacity(total);
    for set in sets() {
        all.extend(set.iter().map(|(symbol, value, _)| (symbol, value)));
    }
    // Stable: the values of one name stay in the order of the sets.
    all.sort_by_key(|(symbol, _)| *symbol);
    let mut entries = Vec::new();
    let mut values = Vec::new();
    for part in all.chunk_by(|x, y| x.0 == y.0) {
        let Some(&(symbol, _)) = part.first() else {
            continue;
        };
        values.clear();
        values.extend(part.iter().map(|(_, v)| *v));
        let values = m.heap.list(&values);
        let name = m.symbol_string(symbol);
        entries.push((symbol, PosId::NONE, m.delay_call2(f, name, values)));
    }
    Ok(Step::Done(m.attrs_sorted(&entries)))
}
