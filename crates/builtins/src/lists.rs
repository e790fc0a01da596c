//! Lists.

use crate::table::{frame, leaf};
use nivis_eval::{Activation, Builtin, Machine, Result, Step, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    leaf(
        "length",
        &["list"],
        0b1,
        length,
        "Returns the number of elements of `list`.",
    ),
    leaf(
        "elemAt",
        &["list", "index"],
        0b11,
        elem_at,
        "Returns the element of `list` at `index`, counted from 0. An index out of range is an error.",
    ),
    leaf(
        "genList",
        &["generator", "length"],
        0b10,
        gen_list,
        "Returns a list of `length` elements, of which the one at index `i` is `generator i`.",
    ),
    leaf("map", &["f", "list"], 0b10, map, "Returns the list of `f x` for every `x` of `list`.").global(),
    frame(
        "foldl'",
        &["op", "nul", "list"],
        0b101,
        foldl_strict,
        "Reduces `list` from the left: `op (op (op nul x0) x1) x2`. Every intermediate result is evaluated.",
    ),
    frame(
        "filter",
        &["f", "list"],
        0b11,
        filter,
        "Returns the elements of `list` for which `f` returns `true`.",
    ),
];

fn length(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[0])?;
    Ok(m.heap.int(list.len() as i64))
}

fn elem_at(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[0])?;
    let index = m.want_int(args[1])?;
    usize::try_from(index).ok().and_then(|i| list.get(i)).ok_or_else(|| {
        nivis_eval::Error::other(format!(
            "'builtins.elemAt' called with index {index} on a list of size {}",
            list.len()
        ))
    })
}

fn gen_list(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let n = m.want_int(args[1])?;
    let Ok(n) = usize::try_from(n) else {
        return Err(nivis_eval::Error::other(format!("cannot create list of size {n}")));
    };
    m.check_memory(n.saturating_mul(24))?;
    let items: Vec<Value> = (0..n)
        .map(|i| {
            let i = m.heap.int(i as i64);
            m.delay_call(args[0], i)
        })
        .collect();
    Ok(m.heap.list(&items))
}

fn map(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[1])?;
    if list.is_empty() {
        return Ok(args[1]);
    }
    let items: Vec<Value> = list.iter().map(|x| m.delay_call(args[0], x)).collect();
    Ok(m.heap.list(&items))
}

fn foldl_strict(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: op, accumulator, list. State: elements used.
    let list = m.want_list(m.local(a, 2))?;
    if a.state > 0 {
        let acc = m.pop();
        m.set_local(a, 1, acc);
    }
    let acc = m.local(a, 1);
    match list.get(a.state as usize) {
        None => Ok(Step::Done(acc)),
        Some(item) => {
            a.state += 1;
            let op = m.local(a, 0);
            m.push(op);
            m.push(acc);
            m.push(item);
            Ok(Step::Call(2))
        }
    }
}

fn filter(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: predicate, list, elements kept. State: elements asked for.
    let list = m.want_list(m.local(a, 1))?;
    if a.state > 0 {
        let keep = m.pop();
        if m.want_bool(keep)? {
            m.push(list.get(a.state as usize - 1).unwrap_or(Value::NULL));
        }
    }
    let Some(item) = list.get(a.state as usize) else {
        if m.locals(a) - 2 == list.len() {
            return Ok(Step::Done(list.value()));
        }
        return Ok(Step::Done(m.list_of_locals(a, 2)));
    };
    a.state += 1;
    let f = m.local(a, 0);
    m.push(f);
    m.push(item);
    Ok(Step::Call(1))
}
