//! `sort`: a stable merge sort that uses the runs already in its input.
//!
//! What it compares, and in which order, decides the result when the comparator is no ordering, and which
//! error is reported when it fails. So this does the same comparisons as C++ Nix does since 2.31, which sorts by the
//! method of Munro and Wild ("Nearly-optimal mergesorts", 2018, called peeksort there): look at the
//! middle of the range; extend the run found there to both sides; split the range at the end of the run that is
//! closer to the middle; sort both parts, of which the outermost runs are known by then; merge. Ranges of up to
//! 16 elements are sorted by insertion.
//!
//! The comparator is a function of the program, so the algorithm is written as a state machine that is resumed
//! with each answer. What recursion would keep is a stack of tasks in its locals.

use crate::args::{Want, arguments};
use nivis_eval::{Activation, Error, ErrorKind, Machine, Result, Step, Value, ops};

/// Ranges up to this length are sorted by insertion.
const SMALL: usize = 16;
/// Bits for an index.
const BITS: u32 = 29;
const MASK: u64 = (1 << BITS) - 1;

/// What the answer to the comparison that was asked for decides. The order of the variants is their number in
/// [`Activation::state`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The arguments are being evaluated.
    Arguments,
    /// The elements are being evaluated; `x` is the index of the current one.
    Elements,
    /// Nothing: the next task is to be looked at.
    Next,
    /// Insertion of element `x`, which has moved down to `y`.
    Insert,
    /// Whether the middle of the range is in an ascending or descending run.
    Middle,
    /// How far to the left a run around the middle extends; `x` is one more than the index of its first element.
    LeftUp,
    LeftDown,
    /// How far to the right that run extends; `x` is its begin, `y` the index of its last element.
    RightUp,
    RightDown,
    /// Merge: `x` and `y` are the next elements of both runs, in the buffer.
    Merge,
}

const PHASES: [Phase; 10] = [
    Phase::Arguments,
    Phase::Elements,
    Phase::Next,
    Phase::Insert,
    Phase::Middle,
    Phase::LeftUp,
    Phase::LeftDown,
    Phase::RightUp,
    Phase::RightDown,
    Phase::Merge,
];

/// The state between two comparisons.
#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    /// Whether the comparator is `builtins.lessThan`, which needs no call.
    direct: bool,
    x: usize,
    y: usize,
}

impl State {
    fn load(a: &Activation) -> State {
        State {
            phase: PHASES
                .get((a.state & 15) as usize)
                .copied()
                .unwrap_or(Phase::Next),
            direct: a.state & 16 != 0,
            x: (a.state >> 5 & MASK) as usize,
            y: (a.state >> (5 + BITS) & MASK) as usize,
        }
    }

    fn store(self, a: &mut Activation) {
        a.state = self.phase as u64
            | u64::from(self.direct) << 4
            | (self.x as u64) << 5
            | (self.y as u64) << (5 + BITS);
    }
}

/// A range to be sorted, of which the parts before `left_end` and from `right_begin` on are sorted already; or, with
/// `merge`, two sorted parts to be merged that meet at `left_end`.
#[derive(Clone, Copy)]
struct Task {
    merge: bool,
    begin: usize,
    end: usize,
    left_end: usize,
    right_begin: usize,
}

/// The locals before the items: comparator and list.
const ITEMS: usize = 2;

/// Access to the locals of a running sort: the items, a buffer of the same size (if there are more than
/// [`SMALL`] items), then the tasks, two numbers each.
struct Sorter<'m, 'a> {
    m: &'m mut Machine,
    a: &'a mut Activation,
    len: usize,
}

impl Sorter<'_, '_> {
    fn item(&self, i: usize) -> Value {
        self.m.local(self.a, ITEMS + i)
    }
    fn set_item(&mut self, i: usize, v: Value) {
        self.m.set_local(self.a, ITEMS + i, v);
    }
    fn swap(&mut self, i: usize, j: usize) {
        let (x, y) = (self.item(i), self.item(j));
        self.set_item(i, y);
        self.set_item(j, x);
    }
    fn buffered(&self, i: usize) -> Value {
        self.m.local(self.a, ITEMS + self.len + i)
    }

    fn push_task(&mut self, t: Task) {
        let first = (i64::from(t.merge) << BITS | t.begin as i64) << BITS | t.end as i64;
        let second = (t.left_end as i64) << BITS | t.right_begin as i64;
        let (first, second) = (self.m.heap.int(first), self.m.heap.int(second));
        self.m.push(first);
        self.m.push(second);
    }

    /// The task on top, if there is one.
    fn task(&self) -> Option<Task> {
        let n = self.m.locals(self.a);
        let buffer = if self.len > SMALL { self.len } else { 0 };
        if n < ITEMS + self.len + buffer + 2 {
            return None;
        }
        let first = self.m.local(self.a, n - 2).as_int()? as u64;
        let second = self.m.local(self.a, n - 1).as_int()? as u64;
        Some(Task {
            merge: first >> (2 * BITS) & 1 == 1,
            begin: (first >> BITS & MASK) as usize,
            end: (first & MASK) as usize,
            left_end: (second >> BITS & MASK) as usize,
            right_begin: (second & MASK) as usize,
        })
    }

    fn pop_task(&mut self) {
        self.m.pop();
        self.m.pop();
    }

    /// Goes on to the next comparison, `Some((a, b))` to be asked "is a less than b", or to the end.
    fn advance(&mut self, s: &mut State, mut answer: bool) -> Option<(Value, Value)> {
        loop {
            let t = self.task()?;
            match s.phase {
                Phase::Arguments | Phase::Elements | Phase::Next => {
                    if let Some(question) = self.begin(s, t) {
                        return Some(question);
                    }
                }
                Phase::Insert => {
                    if answer {
                        self.swap(s.y, s.y - 1);
                        s.y -= 1;
                    }
                    if !answer || s.y == t.begin {
                        s.x += 1;
                        s.y = s.x;
                    }
                    if s.x == t.end {
                        self.pop_task();
                        s.phase = Phase::Next;
                    } else {
                        return Some((self.item(s.y), self.item(s.y - 1)));
                    }
                }
                Phase::Middle => {
                    s.phase = if answer {
                        Phase::LeftDown
                    } else {
                        Phase::LeftUp
                    };
                    s.x = t.begin + (t.end - t.begin) / 2;
                    if s.x - 1 > t.left_end {
                        return Some((self.item(s.x - 1), self.item(s.x - 2)));
                    }
                    // The run begins here: the answer is that it does not go on.
                    answer = s.phase == Phase::LeftUp;
                }
                Phase::LeftUp | Phase::LeftDown => {
                    let down = s.phase == Phase::LeftDown;
                    if answer == down {
                        s.x -= 1;
                        if s.x - 1 > t.left_end {
                            return Some((self.item(s.x - 1), self.item(s.x - 2)));
                        }
                    }
                    s.x -= 1;
                    s.y = t.begin + (t.end - t.begin) / 2 - 1;
                    s.phase = if down {
                        Phase::RightDown
                    } else {
                        Phase::RightUp
                    };
                    if s.y + 1 != t.right_begin {
                        return Some((self.item(s.y + 1), self.item(s.y)));
                    }
                    answer = !down;
                }
                Phase::RightUp | Phase::RightDown => {
                    let down = s.phase == Phase::RightDown;
                    if answer == down {
                        s.y += 1;
                        if s.y + 1 != t.right_begin {
                            return Some((self.item(s.y + 1), self.item(s.y)));
                        }
                    }
                    self.split(t, s.x, s.y + 1, down);
                    s.phase = Phase::Next;
                }
                Phase::Merge => {
                    let out = s.x + s.y - t.left_end;
                    if answer {
                        let v = self.buffered(s.y);
                        self.set_item(out, v);
                        s.y += 1;
                    } else {
                        let v = self.buffered(s.x);
                        self.set_item(out, v);
                        s.x += 1;
                    }
                    if s.x < t.left_end && s.y < t.end {
                        return Some((self.buffered(s.y), self.buffered(s.x)));
                    }
                    // What is left of the right run is in its place already.
                    let out = s.x + s.y - t.left_end;
                    for i in 0..t.left_end - s.x {
                        let v = self.buffered(s.x + i);
                        self.set_item(out + i, v);
                    }
                    self.pop_task();
                    s.phase = Phase::Next;
                }
            }
        }
    }

    /// Begins the task on top: its first comparison, or `None` when other tasks take its place or there is nothing
    /// to do.
    fn begin(&mut self, s: &mut State, t: Task) -> Option<(Value, Value)> {
        if t.merge {
            for i in t.begin..t.end {
                let v = self.item(i);
                self.m.set_local(self.a, ITEMS + self.len + i, v);
            }
            *s = State {
                phase: Phase::Merge,
                x: t.begin,
                y: t.left_end,
                ..*s
            };
            return Some((self.buffered(s.y), self.buffered(s.x)));
        }
        if t.left_end == t.end || t.right_begin == t.begin || t.end - t.begin < 2 {
            self.pop_task();
            return None;
        }
        if t.end - t.begin <= SMALL {
            *s = State {
                phase: Phase::Insert,
                x: t.begin + 1,
                y: t.begin + 1,
                ..*s
            };
            return Some((self.item(s.x), self.item(s.x - 1)));
        }
        let middle = t.begin + (t.end - t.begin) / 2;
        if middle <= t.left_end {
            self.pop_task();
            self.push_task(Task { merge: true, ..t });
            self.push_task(Task {
                begin: t.left_end,
                left_end: t.left_end + 1,
                ..t
            });
            return None;
        }
        if middle >= t.right_begin {
            self.pop_task();
            self.push_task(Task {
                merge: true,
                left_end: t.right_begin,
                ..t
            });
            self.push_task(Task {
                end: t.right_begin,
                right_begin: t.right_begin - 1,
                ..t
            });
            return None;
        }
        s.phase = Phase::Middle;
        Some((self.item(middle), self.item(middle - 1)))
    }

    /// Replaces the task on top, around whose middle the run from `i` to `j` was found.
    fn split(&mut self, t: Task, i: usize, j: usize, down: bool) {
        if down {
            let (mut low, mut high) = (i, j);
            while low + 1 < high {
                high -= 1;
                self.swap(low, high);
                low += 1;
            }
        }
        self.pop_task();
        if i == t.begin && j == t.end {
            return;
        }
        let middle = t.begin + (t.end - t.begin) / 2;
        if middle - i < j - middle {
            self.push_task(Task {
                merge: true,
                left_end: i,
                ..t
            });
            self.push_task(Task {
                begin: i,
                left_end: j,
                ..t
            });
            self.push_task(Task {
                end: i,
                right_begin: i - 1,
                ..t
            });
        } else {
            self.push_task(Task {
                merge: true,
                left_end: j,
                ..t
            });
            self.push_task(Task {
                begin: j,
                left_end: j + 1,
                ..t
            });
            self.push_task(Task {
                end: j,
                right_begin: i,
                ..t
            });
        }
    }
}

/// `builtins.sort`. Locals: comparator, list; then see [`Sorter`].
pub(crate) fn sort(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let mut s = State::load(a);
    if s.phase == Phase::Arguments {
        if let Some(step) = arguments(m, a, 2, &[(1, Want::List)])? {
            return Ok(step);
        }
        if m.want_list(m.local(a, 1))?.is_empty() {
            return Ok(Step::Done(m.local(a, 1)));
        }
        if let Some(step) = arguments(m, a, 2, &[(0, Want::Function)])? {
            return Ok(step);
        }
        s.phase = Phase::Elements;
    }
    let list = m.want_list(m.local(a, 1))?;
    let len = list.len();
    let mut answer = false;
    if s.phase == Phase::Elements {
        m.truncate_locals(a, ITEMS);
        for i in s.x..len {
            let item = list.get(i).unwrap_or(Value::NULL);
            if item.is_thunk() {
                State { x: i, ..s }.store(a);
                return Ok(Step::Force(item));
            }
        }
        if len as u64 >= MASK {
            return Err(Error::new(
                ErrorKind::Memory,
                format!("cannot sort a list of {len} elements"),
            ));
        }
        m.check_memory(len.saturating_mul(40))?;
        let less_than = m
            .local(a, 0)
            .as_function()
            .is_some_and(|f| m.is_builtin(f, "lessThan"));
        if less_than && let Some(sorted) = sort_simple(m, list) {
            return Ok(Step::Done(sorted));
        }
        s = State {
            phase: Phase::Next,
            direct: less_than,
            x: 0,
            y: 0,
        };
        for item in list.iter() {
            m.push(item);
        }
        if len > SMALL {
            for _ in 0..len {
                m.push(Value::NULL);
            }
        }
        let all = Task {
            merge: false,
            begin: 0,
            end: len,
            left_end: 0,
            right_begin: len,
        };
        Sorter { m, a, len }.push_task(all);
    } else {
        let less = m.pop();
        answer = m.want_bool(less)?;
    }
    let Some((x, y)) = (Sorter { m, a, len }).advance(&mut s, answer) else {
        m.truncate_locals(a, ITEMS + len);
        return Ok(Step::Done(m.list_of_locals(a, ITEMS)));
    };
    s.store(a);
    if s.direct {
        m.push(x);
        m.push(y);
        return Ok(Step::Run(ops::less_than, 2));
    }
    let f = m.local(a, 0);
    m.push(f);
    m.push(x);
    m.push(y);
    Ok(Step::Call(2))
}

/// Sorts by `<` a list of integers or one of strings, where every stable sort gives the same; `None` for
/// others, where a comparison may fail or not be an order (NaN).
fn sort_simple(m: &mut Machine, list: nivis_eval::ListRef) -> Option<Value> {
    let mut items: Vec<Value> = list.iter().collect();
    if items.iter().all(|v| v.is_string()) {
        items.sort_by(|x, y| match (x.as_string(), y.as_string()) {
            (Some(x), Some(y)) => x.bytes().cmp(y.bytes()),
            _ => std::cmp::Ordering::Equal,
        });
    } else if items.iter().all(|v| v.as_int().is_some()) {
        items.sort_by_key(|v| v.as_int());
    } else {
        return None;
    }
    Some(m.heap.list(&items))
}
