//! `genericClosure`: everything that can be reached from some elements, each key once.
//!
//! The keys seen so far are in a search tree, so that the time is n log n. A comparison of two keys may have to
//! evaluate parts of them (keys can be lists), so the search is a state machine, and the tree's nodes are the locals of
//! the running function: the collector sees them, and an error drops them. The tree is a treap: each node's
//! priority is a fixed hash of its number, which keeps it balanced whatever the order of the keys.

use crate::args::{About, Want, arguments, check};
use nivis_eval::{Activation, Error, ErrorKind, Machine, Result, Step, Value, ops};
use std::cmp::Ordering;

// Locals.
const START: usize = 1;
const OPERATOR: usize = 2;
/// The root of the tree: one more than a node's number, or 0.
const ROOT: usize = 3;
/// How many elements of the newest list were evaluated.
const CHILD: usize = 4;
/// The number of nodes.
const COUNT: usize = 5;
/// Where the nodes begin. A node has an element, its key, what the operator returned for it, and its links: left and
/// right, each one more than a node's number, or 0. Beyond the nodes is the path of a running search: twice the number
/// of a node, plus 1 if the search went to the right there.
const NODES: usize = 6;
const NODE: usize = 4;
const KEY: usize = 1;
const LIST: usize = 2;
const LINKS: usize = 3;

const BITS: u32 = 29;
const MASK: u64 = (1 << BITS) - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The argument and its attributes are being evaluated.
    Arguments,
    /// The next element is to be looked at.
    Take,
    /// The answer on the stack is whether the new key is less than that of the last node of the path.
    Search,
    /// The answer on the stack is whether the closest smaller key is really smaller than the new one.
    Confirm,
    /// What the operator returned is on the stack.
    Called,
    /// The elements of what the operator returned are being evaluated.
    Children,
}

const PHASES: [Phase; 6] = [
    Phase::Arguments,
    Phase::Take,
    Phase::Search,
    Phase::Confirm,
    Phase::Called,
    Phase::Children,
];

/// The state between two steps. Lists to go through are numbered: 0 is `startSet`, `n` what the
/// operator returned for node `n - 1`.
#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    /// The list of the current element.
    list: usize,
    /// Its index.
    index: usize,
}

impl State {
    fn load(a: &Activation) -> State {
        State {
            phase: PHASES
                .get((a.state & 7) as usize)
                .copied()
                .unwrap_or(Phase::Take),
            list: (a.state >> 3 & MASK) as usize,
            index: (a.state >> (3 + BITS) & MASK) as usize,
        }
    }
    fn store(self, a: &mut Activation) {
        a.state = self.phase as u64 | (self.list as u64) << 3 | (self.index as u64) << (3 + BITS);
    }
}

/// What a part of the work leads to.
enum Next {
    /// Wait for this.
    Step(Step),
    /// Go on.
    Go,
}

struct Closure<'m, 'a> {
    m: &'m mut Machine,
    a: &'a mut Activation,
    s: State,
    nodes: usize,
}

/// Priority of a node: a hash of its number (the finaliser of SplitMix64).
fn priority(node: usize) -> u64 {
    let mut z = (node as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Closure<'_, '_> {
    fn field(&self, node: usize, field: usize) -> Value {
        self.m.local(self.a, NODES + NODE * node + field)
    }

    fn number(&self, local: usize) -> usize {
        self.m.local(self.a, local).as_int().unwrap_or(0) as usize
    }

    fn set_number(&mut self, local: usize, n: usize) {
        let v = self.m.heap.int(n as i64);
        self.m.set_local(self.a, local, v);
    }

    /// A node's child, as a link.
    fn child(&self, node: usize, right: bool) -> usize {
        let links = self.number(NODES + NODE * node + LINKS) as u64;
        (links >> if right { BITS } else { 0 } & MASK) as usize
    }

    fn set_child(&mut self, node: usize, right: bool, link: usize) {
        let local = NODES + NODE * node + LINKS;
        let shift = if right { BITS } else { 0 };
        let links = self.number(local) as u64 & !(MASK << shift) | (link as u64) << shift;
        self.set_number(local, links as usize);
    }

    /// Length of the search path.
    fn path_len(&self) -> usize {
        self.m.locals(self.a) - NODES - NODE * self.nodes
    }

    /// A step of the search path: node, and whether the search went to the right there.
    fn path(&self, i: usize) -> (usize, bool) {
        let v = self.number(NODES + NODE * self.nodes + i);
        (v >> 1, v & 1 == 1)
    }

    fn drop_path(&mut self) {
        let count = NODES + NODE * self.nodes;
        self.m.truncate_locals(self.a, count);
    }

    /// The element at hand; `None` when all lists are used up.
    fn element(&mut self) -> Option<Value> {
        while self.s.list <= self.nodes {
            let list = match self.s.list.checked_sub(1) {
                None => self.m.local(self.a, START),
                Some(node) => self.field(node, LIST),
            };
            if let Some(v) = list.as_list().and_then(|l| l.get(self.s.index)) {
                return Some(v);
            }
            self.s.list += 1;
            self.s.index = 0;
        }
        None
    }

    /// Key of the element at hand, which was looked at before.
    fn new_key(&mut self) -> Value {
        let key = self.m.symbols.intern(b"key");
        self.element()
            .and_then(Value::as_attrs)
            .and_then(|e| e.get(key))
            .unwrap_or(Value::NULL)
    }

    /// Begins with the element at hand: the search for its key.
    fn take(&mut self) -> Result<Next> {
        self.drop_path();
        let Some(element) = self.element() else {
            let nodes = self.nodes;
            let a = *self.a;
            let list = self
                .m
                .build_list(nodes, |m, i| m.local(&a, NODES + NODE * i));
            return Ok(Next::Step(Step::Done(list)));
        };
        if element.is_thunk() {
            return Ok(Next::Step(Step::Force(element)));
        }
        let attrs = self.m.want_attrs(element)?;
        let name = self.m.symbols.intern(b"key");
        let Some(key) = attrs.get(name) else {
            return Err(self.m.missing_attr(attrs, name));
        };
        if key.is_thunk() {
            return Ok(Next::Step(Step::Force(key)));
        }
        let root = self.number(ROOT);
        if root == 0 {
            return self.insert();
        }
        self.descend(root, key)
    }

    /// Searches from a link on, until a comparison has to be waited for.
    fn descend(&mut self, mut link: usize, key: Value) -> Result<Next> {
        while let Some(node) = link.checked_sub(1) {
            let other = self.field(node, KEY);
            let less = match (key.as_string(), other.as_string()) {
                (Some(x), Some(y)) => match x.bytes().cmp(y.bytes()) {
                    Ordering::Equal => return Ok(self.skip()),
                    order => order == Ordering::Less,
                },
                _ if key.is_list() && other.is_list() => {
                    self.push_path(node, false);
                    self.s.phase = Phase::Search;
                    self.m.push(key);
                    self.m.push(other);
                    return Ok(Next::Step(Step::Run(ops::less_than, 2)));
                }
                _ => ops::less_simple(self.m, key, other)?,
            };
            self.push_path(node, !less);
            link = self.child(node, !less);
        }
        self.confirm(key)
    }

    fn push_path(&mut self, node: usize, right: bool) {
        let v = self.m.heap.int((node << 1 | usize::from(right)) as i64);
        self.m.push(v);
    }

    /// At the end of a search: the new key is not less than its predecessor, but it may be equal.
    fn confirm(&mut self, key: Value) -> Result<Next> {
        let predecessor = (0..self.path_len())
            .rev()
            .map(|i| self.path(i))
            .find(|(_, right)| *right);
        let Some((node, _)) = predecessor else {
            return self.insert();
        };
        let other = self.field(node, KEY);
        if key.is_list() && other.is_list() {
            self.s.phase = Phase::Confirm;
            self.m.push(other);
            self.m.push(key);
            return Ok(Next::Step(Step::Run(ops::less_than, 2)));
        }
        // Strings are known to differ.
        if key.is_string() || ops::less_simple(self.m, other, key)? {
            return self.insert();
        }
        Ok(self.skip())
    }

    /// Goes on with the next element.
    fn skip(&mut self) -> Next {
        self.drop_path();
        self.s.index += 1;
        self.s.phase = Phase::Take;
        Next::Go
    }

    /// Adds a node for the element at hand where the search path ends, and calls the operator.
    fn insert(&mut self) -> Result<Next> {
        if self.nodes as u64 >= MASK - 1 {
            return Err(Error::new(
                ErrorKind::Memory,
                "a closure of too many elements",
            ));
        }
        let element = self.element().unwrap_or(Value::NULL);
        let key = self.new_key();
        let path: Vec<(usize, bool)> = (0..self.path_len()).map(|i| self.path(i)).collect();
        self.drop_path();
        let node = self.nodes;
        self.nodes += 1;
        self.set_number(COUNT, self.nodes);
        let zero = self.m.heap.int(0);
        for v in [element, key, Value::NULL, zero] {
            self.m.push(v);
        }
        // Nodes of lower priority move below the new one.
        let mut top = path.len();
        while let Some(&(parent, right)) = path.get(top.wrapping_sub(1)) {
            if priority(parent) >= priority(node) {
                break;
            }
            let inner = self.child(node, !right);
            self.set_child(parent, right, inner);
            self.set_child(node, !right, parent + 1);
            top -= 1;
        }
        match path.get(top.wrapping_sub(1)) {
            Some(&(parent, right)) => self.set_child(parent, right, node + 1),
            None => self.set_number(ROOT, node + 1),
        }
        self.s.phase = Phase::Called;
        let f = self.m.local(self.a, OPERATOR);
        self.m.push(f);
        self.m.push(element);
        Ok(Next::Step(Step::Call(1)))
    }

    fn advance(&mut self) -> Result<Next> {
        match self.s.phase {
            Phase::Arguments | Phase::Take => self.take(),
            Phase::Search => {
                let right = self.m.pop() != Value::TRUE;
                let (node, _) = self.path(self.path_len() - 1);
                self.m.pop();
                self.push_path(node, right);
                let (link, key) = (self.child(node, right), self.new_key());
                self.descend(link, key)
            }
            Phase::Confirm => {
                if self.m.pop() == Value::TRUE {
                    self.insert()
                } else {
                    Ok(self.skip())
                }
            }
            Phase::Called => {
                let list = self.m.pop();
                self.m.want_list(list).about(
                    "while evaluating the return value of the `operator` passed to builtins.genericClosure",
                )?;
                let node = self.nodes - 1;
                self.m.set_local(self.a, NODES + NODE * node + LIST, list);
                self.set_number(CHILD, 0);
                self.s.phase = Phase::Children;
                Ok(Next::Go)
            }
            Phase::Children => {
                self.drop_path();
                let list = self.m.want_list(self.field(self.nodes - 1, LIST))?;
                for i in self.number(CHILD)..list.len() {
                    let child = list.get(i).unwrap_or(Value::NULL);
                    if child.is_thunk() {
                        self.set_number(CHILD, i);
                        return Ok(Next::Step(Step::Force(child)));
                    }
                }
                Ok(self.skip())
            }
        }
    }
}

/// `builtins.genericClosure`. Local: the set with `startSet` and `operator`.
pub(crate) fn generic_closure(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let mut s = State::load(a);
    if s.phase == Phase::Arguments {
        if let Some(step) = arguments(m, a, 1, &[(0, Want::Attrs)])? {
            return Ok(step);
        }
        let attrs = m.want_attrs(m.local(a, 0))?;
        for (name, want) in [
            (&b"startSet"[..], Want::List),
            (b"operator", Want::Function),
        ] {
            let symbol = m.symbols.intern(name);
            let Some(v) = attrs.get(symbol) else {
                return Err(m.missing_attr(attrs, symbol))
                    .about("in the attrset passed as argument to builtins.genericClosure");
            };
            if v.is_thunk() {
                return Ok(Step::Force(v));
            }
            check(m, want, v).about(match want {
                Want::List => {
                    "while evaluating the 'startSet' attribute passed as argument to builtins.genericClosure"
                }
                _ => {
                    "while evaluating the 'operator' attribute passed as argument to builtins.genericClosure"
                }
            })?;
            if v.as_list().is_some_and(|l| l.is_empty()) {
                return Ok(Step::Done(v));
            }
            m.push(v);
        }
        // Root, child, count.
        for _ in 0..3 {
            let zero = m.heap.int(0);
            m.push(zero);
        }
        s.phase = Phase::Take;
    }
    let nodes = m.local(a, COUNT).as_int().unwrap_or(0) as usize;
    let mut closure = Closure { m, a, s, nodes };
    loop {
        match closure.advance() {
            Ok(Next::Go) => {}
            Ok(Next::Step(step)) => {
                let s = closure.s;
                s.store(closure.a);
                return Ok(step);
            }
            Err(e) => return Err(e),
        }
    }
}
