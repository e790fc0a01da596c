//! Lists.

use crate::args::{About, Want, arguments, other};
use crate::table::{frame, leaf};
use nivis_eval::{Activation, Builtin, Machine, PosId, Result, Step, Value, ops};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    leaf(
        "length",
        &["list"],
        0b1,
        length,
        "Returns the number of elements of `list`, in constant time.",
    ),
    frame(
        "elemAt",
        &["list", "index"],
        0b10,
        elem_at,
        "Returns the element of `list` at `index`, counted from 0. An index out of range is an error.",
    ),
    leaf(
        "head",
        &["list"],
        0b1,
        head,
        "Returns the first element of `list`. An empty list is an error.",
    ),
    leaf(
        "tail",
        &["list"],
        0b1,
        tail,
        "Returns `list` without its first element. An empty list is an error. The list is copied: walking through a \
         list by repeated `tail` takes time that grows with the square of its length.",
    ),
    frame(
        "genList",
        &["generator", "length"],
        0b10,
        gen_list,
        "Returns a list of `length` elements, of which the one at index `i` is `generator i`, evaluated when needed. \
         A negative length is an error.",
    ),
    frame(
        "map",
        &["f", "list"],
        0b10,
        map,
        "Returns the list of `f x` for every `x` of `list`, each evaluated when needed.",
    )
    .global(),
    frame(
        "foldl'",
        &["op", "nul", "list"],
        0b1,
        foldl_strict,
        "Reduces `list` from the left: `op (op (op nul x0) x1) x2`. The result of every step is evaluated before the \
         next one; `nul` itself only if `op` or an empty list asks for it.",
    ),
    frame(
        "filter",
        &["f", "list"],
        0b10,
        filter,
        "Returns the elements of `list` for which `f` returns `true`.",
    ),
    frame(
        "any",
        &["pred", "list"],
        0b1,
        any,
        "Whether `pred` returns `true` for an element of `list`. Elements after the first such one are not tried.",
    ),
    frame(
        "all",
        &["pred", "list"],
        0b1,
        all,
        "Whether `pred` returns `true` for every element of `list`. Elements after the first `false` are not tried.",
    ),
    frame(
        "elem",
        &["x", "list"],
        0b10,
        elem,
        "Whether `list` has an element equal to `x`. Elements are compared from the first one on until one is equal.",
    ),
    frame(
        "concatLists",
        &["lists"],
        0b1,
        concat_lists,
        "Joins a list of lists into one list.",
    ),
    frame(
        "concatMap",
        &["f", "list"],
        0b1,
        concat_map,
        "Joins the lists `f x` for every `x` of `list` into one list.",
    ),
    frame(
        "partition",
        &["pred", "list"],
        0b1,
        partition,
        "Returns the set `{ right; wrong; }` of two lists: the elements of `list` for which `pred` returns `true`, \
         and the others, both in their order.",
    ),
    frame(
        "groupBy",
        &["f", "list"],
        0b1,
        group_by,
        "Groups the elements of `list` by the string that `f` returns for them. The result is a set of lists by that \
         string, each in the order of `list`.",
    ),
    frame(
        "sort",
        &["comparator", "list"],
        0b10,
        crate::sort::sort,
        "Returns `list` in ascending order, where `comparator a b` says whether `a` comes before `b`. Equal elements keep \
         their order. If the comparator is no strict weak ordering, the result has the elements in some order.",
    ),
    frame(
        "genericClosure",
        &["set"],
        0b1,
        crate::closure::generic_closure,
        "Returns all elements that can be reached from those in the list `set.startSet` by the function `set.operator`, \
         which is called once with each of them and returns the list of the elements that follow it. Elements are sets; of \
         those with equal `key` only the first one counts. The keys must be comparable with `<`. The order is breadth \
         first.",
    ),
];

/// Room for this many new thunks of the smallest kind and pointers to them, or an error.
pub(crate) fn check_items(m: &Machine, count: usize) -> Result<()> {
    if count > 1 << 10 {
        m.check_memory(count.saturating_mul(24))
    } else {
        Ok(())
    }
}

fn length(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[0])?;
    Ok(m.heap.int(list.len() as i64))
}

fn elem_at(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Int), (0, Want::List)])? {
        return Ok(step);
    }
    let index = m.want_int(m.local(a, 1))?;
    let list = m.want_list(m.local(a, 0))?;
    match usize::try_from(index).ok().and_then(|i| list.get(i)) {
        Some(v) => Ok(Step::Done(v)),
        None => Err(other(format!(
            "'builtins.elemAt' called with index {index} on a list of size {}",
            list.len()
        ))),
    }
}

fn head(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[0])?;
    list.get(0)
        .ok_or_else(|| other("'builtins.head' called on an empty list"))
}

fn tail(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let list = m.want_list(args[0])?;
    if list.is_empty() {
        return Err(other("'builtins.tail' called on an empty list"));
    }
    if list.len() > 1 << 12 {
        m.check_memory(list.len().saturating_mul(8))?;
    }
    Ok(m.list_from(list, 1))
}

fn gen_list(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Int)])? {
        return Ok(step);
    }
    let n = m.want_int(m.local(a, 1))?;
    let Ok(len) = usize::try_from(n) else {
        return Err(other(format!("cannot create list of size {n}")));
    };
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Function)])? {
        return Ok(step);
    }
    check_items(m, len)?;
    let f = m.local(a, 0);
    let list = m.build_list(len, |m, i| {
        let i = m.heap.int(i as i64);
        m.delay_call(f, i)
    });
    Ok(Step::Done(list))
}

fn map(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(1, Want::List)])? {
        return Ok(step);
    }
    let list = m.want_list(m.local(a, 1))?;
    if list.is_empty() {
        return Ok(Step::Done(list.value()));
    }
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Function)])? {
        return Ok(step);
    }
    check_items(m, list.len())?;
    let f = m.local(a, 0);
    let mapped = m.build_list(list.len(), |m, i| {
        let x = list.get(i).unwrap_or(Value::NULL);
        m.delay_call(f, x)
    });
    Ok(Step::Done(mapped))
}

/// What the builtins take that call the function in local 0 with the elements of the list in local 1.
const EACH: &[(usize, Want)] = &[(0, Want::Function), (1, Want::List)];

/// Calls the function with the next element; `None` after the last one. State: elements asked for, plus one.
fn call_with_next(m: &mut Machine, a: &mut Activation) -> Result<Option<Step>> {
    let list = m.want_list(m.local(a, 1))?;
    Ok(list.get(a.state as usize - 1).map(|item| {
        a.state += 1;
        call_with(m, a, item)
    }))
}

/// Calls the function in local 0 with an element.
fn call_with(m: &mut Machine, a: &Activation, item: Value) -> Step {
    let f = m.local(a, 0);
    m.push(f);
    m.push(item);
    Step::Call(1)
}

fn foldl_strict(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: op, accumulator, list. State: elements used, plus one when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 3, &[(0, Want::Function), (2, Want::List)])? {
            return Ok(step);
        }
        a.state = 1;
    } else {
        let acc = m.pop();
        m.set_local(a, 1, acc);
    }
    let list = m.want_list(m.local(a, 2))?;
    let acc = m.local(a, 1);
    match list.get(a.state as usize - 1) {
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
    // Locals: predicate, list, elements kept. State: elements asked for, plus one when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 2, &[(1, Want::List)])? {
            return Ok(step);
        }
        let list = m.want_list(m.local(a, 1))?;
        if list.is_empty() {
            return Ok(Step::Done(list.value()));
        }
        if let Some(step) = arguments(m, a, 2, &[(0, Want::Function)])? {
            return Ok(step);
        }
        a.state = 1;
        return Ok(match list.get(0) {
            Some(item) => call_with(m, a, item),
            None => Step::Done(list.value()),
        });
    }
    let list = m.want_list(m.local(a, 1))?;
    let keep = m.pop();
    let what =
        "while evaluating the return value of the filtering function passed to builtins.filter";
    if m.want_bool(keep).about(what)? {
        m.push(list.get(a.state as usize - 1).unwrap_or(Value::NULL));
    }
    let Some(item) = list.get(a.state as usize) else {
        if m.locals(a) - 2 == list.len() {
            return Ok(Step::Done(list.value()));
        }
        return Ok(Step::Done(m.list_of_locals(a, 2)));
    };
    a.state += 1;
    Ok(call_with(m, a, item))
}

fn any(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    search(m, a, true)
}

fn all(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    search(m, a, false)
}

/// Looks for the first element whose predicate is `wanted`.
fn search(m: &mut Machine, a: &mut Activation, wanted: bool) -> Result<Step> {
    // Locals: predicate, list. State: elements asked for, plus one when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 2, EACH)? {
            return Ok(step);
        }
        a.state = 1;
    } else {
        let answer = m.pop();
        let what = if wanted {
            "while evaluating the return value of the function passed to builtins.any"
        } else {
            "while evaluating the return value of the function passed to builtins.all"
        };
        if m.want_bool(answer).about(what)? == wanted {
            return Ok(Step::Done(Value::bool(wanted)));
        }
    }
    let next = call_with_next(m, a)?;
    Ok(next.unwrap_or(Step::Done(Value::bool(!wanted))))
}

fn elem(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: wanted value, list. State: twice the index of the element at hand, plus 1 when the result of its deep
    // comparison is on the stack.
    let deep = a.state & 1 == 1;
    if deep && m.pop() == Value::TRUE {
        return Ok(Step::Done(Value::TRUE));
    }
    if let Some(step) = arguments(m, a, 2, &[(1, Want::List)])? {
        return Ok(step);
    }
    let list = m.want_list(m.local(a, 1))?;
    let mut index = (a.state >> 1) as usize + usize::from(deep);
    while let Some(item) = list.get(index) {
        a.state = (index as u64) << 1;
        let x = m.local(a, 0);
        if x.is_thunk() {
            return Ok(Step::Force(x));
        }
        if item.is_thunk() {
            return Ok(Step::Force(item));
        }
        if x == item {
            return Ok(Step::Done(Value::TRUE));
        }
        match ops::equal_simple(x, item) {
            Some(true) => return Ok(Step::Done(Value::TRUE)),
            Some(false) => index += 1,
            None => {
                a.state |= 1;
                m.push(x);
                m.push(item);
                return Ok(Step::Run(ops::equal_nested, 2));
            }
        }
    }
    Ok(Step::Done(Value::FALSE))
}

fn concat_lists(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Local: list of lists; while they are looked at, nothing else. State: how many are evaluated.
    if let Some(step) = arguments(m, a, 1, &[(0, Want::List)])? {
        return Ok(step);
    }
    let lists = m.want_list(m.local(a, 0))?;
    for i in a.state as usize..lists.len() {
        let Some(item) = lists.get(i) else { break };
        if item.is_thunk() {
            a.state = i as u64;
            return Ok(Step::Force(item));
        }
        m.want_list(item)
            .about("while evaluating a value of the list passed to builtins.concatLists")?;
    }
    for item in lists.iter() {
        m.push(item);
    }
    Ok(Step::Done(m.concat_list_locals(a, 1)?))
}

fn concat_map(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: function, list, results. State: elements asked for, plus one when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 2, EACH)? {
            return Ok(step);
        }
        a.state = 1;
    } else {
        let part = m.pop();
        let what = "while evaluating the return value of the function passed to builtins.concatMap";
        if !m.want_list(part).about(what)?.is_empty() {
            m.push(part);
        }
    }
    match call_with_next(m, a)? {
        Some(step) => Ok(step),
        None => Ok(Step::Done(m.concat_list_locals(a, 2)?)),
    }
}

fn partition(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: predicate, list, answers. State: twice the index of the element at hand, plus 1 when the answer
    // for it is on the stack, plus 2 when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 2, EACH)? {
            return Ok(step);
        }
        a.state = 2;
    } else {
        let answer = m.pop();
        if a.state & 1 == 1 {
            let answer = m.want_bool(answer).about(
                "while evaluating the return value of the partition function passed to builtins.partition",
            )?;
            m.push(Value::bool(answer));
            a.state += 1;
        }
    }
    let list = m.want_list(m.local(a, 1))?;
    let index = (a.state >> 1) as usize - 1;
    if let Some(item) = list.get(index) {
        // The element is evaluated whether the predicate asks for it or not.
        if item.is_thunk() {
            return Ok(Step::Force(item));
        }
        a.state |= 1;
        return Ok(call_with(m, a, item));
    }
    check_items(m, list.len())?;
    let mut sides = [Vec::new(), Vec::new()];
    for (i, item) in list.iter().enumerate() {
        sides[usize::from(m.local(a, 2 + i) == Value::TRUE)].push(item);
    }
    let wrong = m.heap.list(&sides[0]);
    let right = m.heap.list(&sides[1]);
    let names = [m.symbols.intern(b"right"), m.symbols.intern(b"wrong")];
    Ok(Step::Done(m.record([(names[0], right), (names[1], wrong)])))
}

fn group_by(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: function, list, names. State: elements asked for, plus one when the arguments are checked.
    if a.state == 0 {
        if let Some(step) = arguments(m, a, 2, EACH)? {
            return Ok(step);
        }
        a.state = 1;
    } else {
        let name = m.pop();
        m.want_plain_string(name).about(
            "while evaluating the return value of the grouping function passed to builtins.groupBy",
        )?;
        m.push(name);
    }
    if let Some(step) = call_with_next(m, a)? {
        return Ok(step);
    }
    let list = m.want_list(m.local(a, 1))?;
    check_items(m, list.len())?;
    let mut items = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let name = m.want_string(m.local(a, 2 + i))?;
        items.push((m.symbols.of_string(name), item));
    }
    // Stable: within a group the order is that of the list.
    items.sort_by_key(|(symbol, _)| *symbol);
    let mut entries = Vec::new();
    let mut group = Vec::new();
    for part in items.chunk_by(|x, y| x.0 == y.0) {
        group.clear();
        group.extend(part.iter().map(|(_, item)| *item));
        if let Some((symbol, _)) = part.first() {
            entries.push((*symbol, PosId::NONE, m.heap.list(&group)));
        }
    }
    Ok(Step::Done(m.attrs_sorted(&entries)))
}
