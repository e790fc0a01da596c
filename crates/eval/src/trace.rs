//! Marking: what is reachable from the roots.

use crate::heap::{
    Callee, EnvPtr, FunctionRef, Heap, LAYERED_WORDS, Origin, Shape, Slot, ThunkPtr,
    prefetch_object, state,
};
use crate::value::{Value, tag};

/// Marks objects, children after parents, with a stack of its own.
///
/// On the way every slot that holds an evaluated thunk gets the thunk's value, unless that is a list, so that the thunk
/// itself is free. No object is looked at before it was asked for.
pub(crate) struct Marker<'h> {
    heap: &'h mut Heap,
    /// What is still to be followed.
    todo: Vec<Todo>,
    /// Slots of long rows that are still to be put into `todo`: the first one and how many there are.
    rows: Vec<(Slot, usize)>,
}

/// A value, or an environment under a tag that needs no following, and the slot that it is from.
#[derive(Clone, Copy)]
struct Todo {
    value: Value,
    slot: Option<Slot>,
}

const NOTHING: Todo = Todo {
    value: Value::EMPTY,
    slot: None,
};

/// Objects between being asked for and being looked at, so that memory has time to answer.
const AHEAD: usize = 16;

/// Slots put into `todo` at once.
const ROW: usize = 1024;

#[inline(always)]
fn is_object(v: Value) -> bool {
    !matches!(v.tag(), tag::INT | tag::SIMPLE) && v != Value::EMPTY
}

impl<'h> Marker<'h> {
    pub fn new(heap: &'h mut Heap) -> Marker<'h> {
        heap.begin_marking();
        let values = [heap.empty_attrs, heap.empty_list, heap.empty_string];
        let shape = heap.empty_shape;
        let mut marker = Marker {
            heap,
            todo: Vec::new(),
            rows: Vec::new(),
        };
        marker.values(values.into_iter());
        marker.shape(shape);
        marker
    }

    /// A root.
    pub fn value(&mut self, v: Value) {
        self.push(v);
        self.drain();
    }

    pub fn values(&mut self, values: impl Iterator<Item = Value>) {
        for v in values {
            self.push(v);
        }
        self.drain();
    }

    pub fn env(&mut self, env: EnvPtr) {
        if env != EnvPtr::NONE {
            self.todo.push(Todo {
                value: Value(env.0 as u64 | tag::SIMPLE),
                slot: None,
            });
        }
    }

    /// A thunk being evaluated whose contents only its frame knows.
    pub fn claimed(&mut self, thunk: ThunkPtr) {
        self.heap.mark(thunk.0, 2);
    }

    pub fn shape(&mut self, shape: Shape) {
        if shape.0 != 0
            && self.heap.mark(shape.0, shape.words())
            && let Some(order) = shape.order()
        {
            self.heap
                .mark(order.as_ptr() as usize, order.len().div_ceil(2));
        }
    }

    /// Marks everything that is still to do.
    pub fn finish(mut self) {
        self.drain();
    }

    #[inline(always)]
    fn push(&mut self, value: Value) {
        self.push_from(value, None);
    }

    #[inline(always)]
    fn push_from(&mut self, value: Value, slot: Option<Slot>) {
        if is_object(value) {
            self.todo.push(Todo { value, slot });
        }
    }

    fn drain(&mut self) {
        let mut ring = [NOTHING; AHEAD];
        let (mut at, mut idle) = (0, 0);
        // Once more than there are places: what is looked at last may lead on, too.
        while idle <= AHEAD {
            let next = match self.todo.pop() {
                Some(next) => {
                    prefetch_object(next.value.addr());
                    idle = 0;
                    next
                }
                None if self.next_row() => continue,
                None => {
                    idle += 1;
                    NOTHING
                }
            };
            let due = std::mem::replace(&mut ring[at], next);
            at = (at + 1) % AHEAD;
            if due.value != Value::EMPTY {
                self.follow(due);
            }
        }
    }

    /// Takes up slots that were put off; whether there were any.
    fn next_row(&mut self) -> bool {
        let Some((first, count)) = self.rows.pop() else {
            return false;
        };
        self.slots(first, count);
        true
    }

    fn follow_env(&mut self, env: EnvPtr) {
        let len = env.len();
        let big = usize::from(len >= 0xffff);
        if !self.heap.mark(env.0 - 8 * big, 1 + big + len) {
            return;
        }
        self.env(env.parent());
        self.slots(Slot::of(env.0, 1), len);
    }

    #[inline]
    fn slots(&mut self, first: Slot, count: usize) {
        if count > ROW {
            self.rows.push((first.after(ROW), count - ROW));
        }
        for i in 0..count.min(ROW) {
            let slot = first.after(i);
            self.push_from(slot.get(), Some(slot));
        }
    }

    fn follow(&mut self, Todo { value: v, slot }: Todo) {
        let addr = v.addr();
        match v.tag() {
            tag::SIMPLE => self.follow_env(EnvPtr(addr)),
            tag::THUNK => {
                let thunk = ThunkPtr::of(v);
                let head = thunk.head();
                let pointer = head & !state::MASK;
                let state = head & state::MASK;
                if let (state::VALUE, Some(slot)) = (state, slot) {
                    let value = Value(thunk.payload());
                    // Places that hold the same list are told apart by their thunks when they are printed.
                    if !value.is_list() {
                        slot.set(value);
                        self.push_from(value, Some(slot));
                        return;
                    }
                }
                if !self.heap.mark(addr, 2) {
                    return;
                }
                match state {
                    state::CODE | state::BLACKHOLE_CODE => {
                        self.env(EnvPtr(thunk.payload() as usize));
                    }
                    state::VALUE => self.push(Value(thunk.payload())),
                    state::APPLY1 => {
                        self.push(Value(pointer | tag::FUNCTION));
                        self.slots(Slot::of(addr, 1), 1);
                    }
                    state::APPLY_ATTR => {
                        self.push(Value(pointer | tag::FUNCTION));
                        self.push(thunk.payload_attr().0.value());
                    }
                    state::SELECT => self.push(Value(pointer)),
                    // A failed thunk holds an index; a claimed one was marked from its frame.
                    _ => {}
                }
            }
            tag::LIST => {
                let len = v.as_list().map_or(0, |l| l.len());
                if self.heap.mark(addr, 1 + len) {
                    self.slots(Slot::of(addr, 1), len);
                }
            }
            tag::ATTRS => {
                let Some(attrs) = v.as_attrs() else { return };
                let Some(shape) = attrs.flat_shape() else {
                    // Layered or joined.
                    let joined = attrs.joined().value();
                    if let Some(slot) = slot
                        && joined != v
                    {
                        slot.set(joined);
                        self.push_from(joined, Some(slot));
                        return;
                    }
                    if self.heap.mark(addr, LAYERED_WORDS) {
                        match attrs.layers() {
                            Some(_) if joined == v => {
                                let upper = attrs.settle_upper();
                                self.push(upper.value());
                                self.slots(Slot::of(addr, 1), 1);
                            }
                            _ => self.push(joined),
                        }
                    }
                    return;
                };
                if self.heap.mark(addr, attrs.words()) {
                    self.shape(shape);
                    self.slots(Slot::of(addr, 1), shape.len());
                    match attrs.origin() {
                        Some(Origin::Literal(_, env)) => self.env(env),
                        Some(Origin::Map(function, from)) => {
                            self.push(function);
                            self.push(from.value());
                        }
                        None => {}
                    }
                }
            }
            tag::FUNCTION => {
                let f = FunctionRef(v);
                match f.callee() {
                    Callee::Closure(_, env) => {
                        if self.heap.mark(addr, 2) {
                            self.env(env);
                        }
                    }
                    Callee::Primop(_) => {
                        self.heap.mark(addr, 2);
                    }
                    Callee::Partial => {
                        let len = f.partial_len();
                        if self.heap.mark(addr, 2 + len) {
                            self.slots(Slot::of(addr, 1), 1 + len);
                        }
                    }
                }
            }
            tag::STRING => {
                if let Some(s) = v.as_string()
                    && self.heap.mark(addr, s.words())
                    && let Some((buffer, words)) = s.buffer()
                {
                    self.heap.mark(buffer, words);
                }
            }
            _ => {
                if self.heap.mark(addr, 2)
                    && let Some(path) = v.as_path()
                {
                    self.push(path.value());
                }
            }
        }
    }
}
