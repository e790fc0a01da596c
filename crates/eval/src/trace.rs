//! Following references: what is reachable from the roots.
//!
//! Used by the stress mode, which overwrites every unreachable object. A root that is missing then shows as a
//! poisoned value instead of hiding until a collector reuses the memory.

use crate::heap::{Callee, EnvPtr, FunctionRef, Heap, Shape, ThunkPtr, state};
use crate::value::{Value, tag};
use rustc_hash::FxHashSet;

enum Object {
    Value(Value),
    Env(EnvPtr),
}

/// Overwrites every object of the ledger that cannot be reached.
pub(crate) fn poison_unreachable(
    heap: &mut Heap,
    roots: Vec<Value>,
    envs: impl Iterator<Item = EnvPtr>,
    thunks: impl Iterator<Item = ThunkPtr>,
    shapes: impl Iterator<Item = Shape>,
) {
    let mut seen: FxHashSet<usize> = FxHashSet::default();
    let mut todo: Vec<Object> = roots.into_iter().map(Object::Value).collect();
    todo.extend([heap.empty_attrs, heap.empty_list, heap.empty_string].map(Object::Value));
    todo.extend(envs.map(Object::Env));
    todo.extend(thunks.filter(|t| t.0 != 0).map(|t| Object::Value(Value(t.0 as u64))));
    let mark_shape = |shape: Shape, seen: &mut FxHashSet<usize>| {
        if shape.0 != 0 && seen.insert(shape.0)
            && let Some(order) = shape.order()
        {
            seen.insert(order.as_ptr() as usize);
        }
    };
    for shape in shapes {
        mark_shape(shape, &mut seen);
    }
    mark_shape(heap.empty_shape, &mut seen);
    while let Some(object) = todo.pop() {
        match object {
            Object::Env(env) => {
                if env.0 == 0 || !seen.insert(env.0) {
                    continue;
                }
                if env.len() >= 0xffff {
                    seen.insert(env.0 - 8);
                }
                todo.push(Object::Env(env.parent()));
                todo.extend((0..env.len()).map(|i| Object::Value(env.get(i))));
            }
            Object::Value(v) => {
                if v == Value::EMPTY || matches!(v.tag(), tag::INT | tag::SIMPLE) {
                    continue;
                }
                if !seen.insert(v.addr()) {
                    continue;
                }
                follow(v, &mut todo, &mut seen, &mark_shape);
            }
        }
    }
    heap.poison(|addr| seen.contains(&addr));
}

fn follow(
    v: Value,
    todo: &mut Vec<Object>,
    seen: &mut FxHashSet<usize>,
    mark_shape: &impl Fn(Shape, &mut FxHashSet<usize>),
) {
    match v.tag() {
        tag::THUNK => {
            let thunk = ThunkPtr::of(v);
            let head = thunk.head();
            let pointer = head & !state::MASK;
            match head & state::MASK {
                state::CODE | state::BLACKHOLE_CODE => {
                    todo.push(Object::Env(EnvPtr(thunk.payload() as usize)));
                }
                state::VALUE => todo.push(Object::Value(Value(thunk.payload()))),
                state::APPLY1 => {
                    todo.push(Object::Value(Value(pointer | tag::FUNCTION)));
                    todo.push(Object::Value(Value(thunk.payload())));
                }
                state::APPLY2 => {
                    todo.push(Object::Value(Value(pointer | tag::FUNCTION)));
                    todo.push(Object::Value(Value(thunk.payload())));
                    todo.push(Object::Value(Value(thunk.payload2())));
                }
                state::SELECT => todo.push(Object::Value(Value(pointer))),
                // A failed thunk holds an index; what a claimed one goes back to is a root of its frame.
                _ => {}
            }
        }
        tag::LIST => {
            if let Some(list) = v.as_list() {
                todo.extend(list.iter().map(Object::Value));
                todo.extend(list.raw().map(Object::Value));
            }
        }
        tag::ATTRS => {
            if let Some(attrs) = v.as_attrs() {
                mark_shape(attrs.shape(), seen);
                todo.extend(attrs.raw().map(Object::Value));
            }
        }
        tag::FUNCTION => match FunctionRef(v).callee() {
            Callee::Closure(_, env) => todo.push(Object::Env(env)),
            Callee::Primop(_) => {}
            Callee::Partial => {
                let f = FunctionRef(v);
                todo.push(Object::Value(f.partial_callee()));
                todo.extend((0..f.partial_len()).map(|i| Object::Value(f.partial_arg(i))));
            }
        },
        tag::STRING => {
            if let Some(s) = v.as_string()
                && let Some(buffer) = s.buffer()
            {
                seen.insert(buffer);
            }
        }
        _ => {
            if let Some(path) = v.as_path() {
                todo.push(Object::Value(path.value()));
            }
        }
    }
}
