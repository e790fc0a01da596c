//! Marking: what is reachable from the roots.

use crate::heap::{
    Callee, EnvPtr, FunctionRef, Heap, LAYERED_WORDS, Origin, Shape, ThunkPtr, prefetch, state,
    visit_slots,
};
use crate::value::{Value, tag};

/// Marks objects, children after parents, with a stack of its own.
///
/// On the way every slot that holds an evaluated thunk gets the thunk's value, so that the thunk itself
/// is free.
pub(crate) struct Marker<'h> {
    heap: &'h mut Heap,
    /// What is still to be followed: values, and environments under a tag that needs no following.
    values: Vec<Value>,
}

/// Objects between being asked for and being looked at, so that memory has time to answer.
const AHEAD: usize = 16;

impl<'h> Marker<'h> {
    pub fn new(heap: &'h mut Heap) -> Marker<'h> {
        heap.begin_marking();
        let values = vec![heap.empty_attrs, heap.empty_list, heap.empty_string];
        let shape = heap.empty_shape;
        let mut marker = Marker { heap, values };
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
            self.values.push(Value(env.0 as u64 | tag::SIMPLE));
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
    fn push(&mut self, v: Value) {
        if !matches!(v.tag(), tag::INT | tag::SIMPLE) && v != Value::EMPTY {
            self.values.push(v);
        }
    }

    fn drain(&mut self) {
        let mut ring = [Value::EMPTY; AHEAD];
        let (mut at, mut idle) = (0, 0);
        while idle < AHEAD {
            let next = match self.values.pop() {
                Some(v) => {
                    prefetch(v.addr());
                    idle = 0;
                    v
                }
                None => {
                    idle += 1;
                    Value::EMPTY
                }
            };
            let v = std::mem::replace(&mut ring[at], next);
            at = (at + 1) % AHEAD;
            if v != Value::EMPTY {
                self.follow(v);
            }
        }
    }

    fn follow_env(&mut self, env: EnvPtr) {
        let len = env.len();
        let big = usize::from(len >= 0xffff);
        if !self.heap.mark(env.0 - 8 * big, 1 + big + len) {
            return;
        }
        self.env(env.parent());
        self.slots(env.0, 1, len);
    }

    fn slots(&mut self, addr: usize, first: usize, count: usize) {
        visit_slots(addr, first, count, |v| {
            if !matches!(v.tag(), tag::INT | tag::SIMPLE) && v != Value::EMPTY {
                self.values.push(v);
            }
        });
    }

    fn follow(&mut self, v: Value) {
        let addr = v.addr();
        match v.tag() {
            tag::SIMPLE => self.follow_env(EnvPtr(addr)),
            tag::THUNK => {
                let thunk = ThunkPtr::of(v);
                let head = thunk.head();
                let pointer = head & !state::MASK;
                let state = head & state::MASK;
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
                        self.slots(addr, 1, 1);
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
                    self.slots(addr, 1, len);
                }
            }
            tag::ATTRS => {
                let Some(attrs) = v.as_attrs() else { return };
                let Some(shape) = attrs.flat_shape() else {
                    // Layered or joined.
                    if self.heap.mark(addr, LAYERED_WORDS) {
                        match attrs.layers() {
                            Some(_) if attrs.joined().value() == v => {
                                let upper = attrs.settle_upper();
                                self.push(upper.value());
                                self.slots(addr, 1, 1);
                            }
                            _ => self.push(attrs.joined().value()),
                        }
                    }
                    return;
                };
                if self.heap.mark(addr, attrs.words()) {
                    self.shape(shape);
                    self.slots(addr, 1, shape.len());
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
                            self.slots(addr, 1, 1 + len);
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
