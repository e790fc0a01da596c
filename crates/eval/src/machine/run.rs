//! The loop over instructions, and what single ones need.

use super::calling::Called;
use super::frames::{Frame, NO_INFO, flag};
use super::{Machine, lambda_of};
use crate::code::{Op, Site};
use crate::context::ContextUnion;
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{AttrsRef, Callee, EnvPtr, StringRef, ThunkPtr, state};
use crate::ops;
use crate::position::{PosId, SourceSpan};
use crate::symbol::Symbol;
use crate::value::{Type, Value};

impl Machine {
    pub(super) fn exec(&mut self) -> Result<()> {
        let (mut ip, mut env) = self.resume_top()?;

        macro_rules! save {
            () => {
                if let Some(f) = self.frames.last_mut() {
                    f.ip = ip;
                    f.env = env;
                }
            };
        }
        macro_rules! load {
            () => {
                (ip, env) = self.resume_top()?
            };
        }
        // Fails at the current op.
        macro_rules! check {
            ($e:expr) => {
                match $e {
                    Ok(v) => v,
                    Err(e) => {
                        save!();
                        return Err(e);
                    }
                }
            };
        }
        macro_rules! fail {
            ($e:expr) => {{
                save!();
                return Err($e);
            }};
        }
        macro_rules! tick {
            () => {
                self.ticks -= 1;
                if self.ticks == 0 {
                    save!();
                    self.safepoint()?;
                }
            };
        }
        // Evaluates an unevaluated thunk and pushes the value.
        macro_rules! enter {
            ($v:expr, $flags:expr) => {{
                let v: Value = $v;
                let thunk = ThunkPtr::of(v);
                let head = thunk.head();
                save!();
                if head & state::MASK == state::CODE {
                    let code = (head & !state::MASK) as *const Op;
                    thunk.set_head(head | state::BLACKHOLE_CODE);
                    let depth = self.depth();
                    ip = code;
                    env = EnvPtr(thunk.payload() as usize);
                    self.frames.push(Frame {
                        ip,
                        env,
                        update: thunk,
                        resume: None,
                        base: 0,
                        depth,
                        info: NO_INFO,
                        height: 0,
                        flags: $flags,
                    });
                    tick!();
                } else {
                    self.enter_thunk(v, $flags)?;
                    load!();
                }
            }};
        }
        // Evaluates an unevaluated thunk and runs the current op again.
        macro_rules! retry {
            ($v:expr) => {{
                ip = ip.wrapping_sub(1);
                enter!($v, flag::DISCARD);
                continue;
            }};
        }
        macro_rules! top {
            () => {
                self.stack.last().copied().unwrap_or(Value::NULL)
            };
        }
        macro_rules! set_top {
            ($v:expr) => {{
                let v = $v;
                if let Some(t) = self.stack.last_mut() {
                    *t = v;
                }
            }};
        }
        macro_rules! pop {
            () => {
                self.stack.pop().unwrap_or(Value::NULL)
            };
        }
        // Runs a native function whose locals are on top of the stack; its result is pushed.
        macro_rules! native {
            ($resume:expr, $locals:expr) => {{
                save!();
                self.push_native($resume, $locals, NO_INFO)?;
                load!();
            }};
        }
        macro_rules! jump {
            ($distance:expr) => {
                // The distance is from the jump op itself, and `ip` is already past it.
                ip = ip.wrapping_offset($distance as isize - 1)
            };
        }
        macro_rules! slot_force {
            ($env:expr, $slot:expr) => {{
                let holder = $env;
                let v = holder.get($slot as usize);
                if v.is_thunk() {
                    match ThunkPtr::of(v).value() {
                        Some(value) => {
                            holder.set($slot as usize, value);
                            self.stack.push(value);
                        }
                        None => enter!(v, 0),
                    }
                } else {
                    self.stack.push(v);
                }
            }};
        }

        loop {
            // SAFETY: `ip` always points into the ops of a program or of this machine's fixed sequences:
            // compilation ends every unit with `Return` and jumps only within a unit.
            let op = unsafe { *ip };
            ip = ip.wrapping_add(1);
            match op {
                Op::Const(i) => self.stack.push(self.tables.consts[i as usize]),
                Op::Local(slot) => self.stack.push(env.get(slot as usize).resolved()),
                Op::Up(depth, slot) => {
                    self.stack
                        .push(env.ancestor(depth as usize).get(slot as usize).resolved());
                }
                Op::LocalForce(slot) => slot_force!(env, slot),
                Op::UpForce(depth, slot) => slot_force!(env.ancestor(depth as usize), slot),
                Op::Force => {
                    let v = top!();
                    if v.is_thunk() {
                        match ThunkPtr::of(v).value() {
                            Some(value) => set_top!(value),
                            None => {
                                self.stack.pop();
                                enter!(v, 0);
                            }
                        }
                    }
                }
                Op::Thunk(distance) => {
                    let code = ip.wrapping_offset(distance as isize - 1);
                    let v = self.heap.thunk(code, env);
                    self.stack.push(v);
                }
                Op::Closure(i) => {
                    let v = self.heap.closure(self.tables.lambdas[i as usize], env);
                    self.stack.push(v);
                }
                Op::List(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = self.heap.list(&self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::Attrs(i) => {
                    let shape = self.tables.shapes[i as usize];
                    let at = self.stack.len() - shape.len();
                    let v = self.heap.attrs_of_shape(shape, &self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::SparseAttrs(i) => {
                    let code = &self.tables.sparse[i as usize];
                    let v = self.heap.sparse_literal(code, env);
                    let at = self.stack.len() - code.at_hand.len();
                    for (value, index) in self.stack[at..].iter().zip(&code.at_hand) {
                        self.heap.attrs_init(v, *index as usize, *value);
                    }
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::AttrsDynamic(i) => check!(self.add_dynamic(i)),
                Op::Overrides(i) => {
                    let v = pop!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    for (symbol, slot) in &self.tables.overrides[i as usize].slots {
                        if let Some(v) = attrs.get(*symbol) {
                            env.set(*slot as usize, v);
                        }
                    }
                }
                Op::Inherit(distance, site) => {
                    let at = self.stack.len() - 1 - distance as usize;
                    let set = self.stack[at];
                    let v = self.delayed_select(set, site);
                    self.stack.push(v);
                }
                Op::InheritLocal(slot, site) => {
                    let set = env.get(slot as usize);
                    let v = self.delayed_select(set, site);
                    self.stack.push(v);
                }
                Op::Slide(n) => {
                    let v = pop!();
                    let len = self.stack.len() - n as usize;
                    self.stack.truncate(len);
                    self.stack.push(v);
                }
                Op::SetLocal(slot) => {
                    let v = pop!();
                    env.set(slot as usize, v);
                }
                Op::Enter(slots) => env = self.heap.env(env, slots as usize),
                Op::Select(i) => {
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    match self.lookup(attrs, i) {
                        Some(value) => set_top!(value),
                        None => {
                            fail!(self.missing_attr(attrs, self.tables.sites[i as usize].symbol))
                        }
                    }
                }
                Op::TrySelect(i) => {
                    let v = top!();
                    match v.as_attrs().and_then(|attrs| self.lookup(attrs, i)) {
                        Some(value) => set_top!(value),
                        None => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::HasAttr(i) => {
                    let v = top!();
                    let found = v
                        .as_attrs()
                        .is_some_and(|attrs| self.lookup(attrs, i).is_some());
                    set_top!(Value::bool(found));
                }
                Op::SelectDynamic => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    match attrs.get(symbol) {
                        Some(value) => set_top!(value),
                        None => fail!(self.missing_attr(attrs, symbol)),
                    }
                }
                Op::TrySelectDynamic(i) => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    match v.as_attrs().and_then(|attrs| attrs.get(symbol)) {
                        Some(value) => set_top!(value),
                        None => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::HasAttrDynamic => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    let found = v
                        .as_attrs()
                        .is_some_and(|attrs| attrs.get(symbol).is_some());
                    set_top!(Value::bool(found));
                }
                Op::DelaySelect(i) => {
                    let v = top!().resolved();
                    match v.as_attrs().and_then(|attrs| self.lookup(attrs, i)) {
                        // What is not evaluated yet would be the same place in memory as the attribute.
                        Some(value) if !value.is_thunk() => {
                            self.heap.stats.avoided += 1;
                            set_top!(value);
                            if value.is_function() || value.is_list() {
                                set_top!(self.heap.selected(value));
                            }
                        }
                        _ => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::WithSelect(i) => {
                    self.heap.stats.lookups += 1;
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        let what = "while evaluating the first subexpression of a with expression";
                        fail!(self.expected_for(what, Type::Attrs, v));
                    };
                    match self.lookup(attrs, i) {
                        Some(value) => {
                            set_top!(value);
                            jump!(self.tables.sites[i as usize].jump);
                        }
                        None => {
                            self.stack.pop();
                        }
                    }
                }
                Op::Undefined(i) => {
                    let symbol = self.tables.sites[i as usize].symbol;
                    let name = self.symbols.text(symbol);
                    let why = if self.absent.contains(&symbol) {
                        " (this evaluator does not provide it)"
                    } else {
                        ""
                    };
                    fail!(Error::new(
                        ErrorKind::UndefinedVariable,
                        format!("undefined variable '{name}'{why}")
                    ));
                }
                Op::Call(n) => {
                    tick!();
                    let n = n as usize;
                    let at = self.stack.len() - n - 1;
                    // The common case, a saturated call of a closure, without leaving the loop.
                    if let Some(f) = self.stack[at].as_function()
                        && let Callee::Closure(lambda, parent) = f.callee()
                        && lambda_of(lambda).arity as usize == n
                    {
                        save!();
                        self.enter_closure(lambda_of(lambda), parent, n)?;
                        self.stack.truncate(at);
                        if let Some(f) = self.frames.last() {
                            ip = f.ip;
                            env = f.env;
                        }
                        continue;
                    }
                    save!();
                    match self.try_call(n)? {
                        Called::Finished => {}
                        Called::Entered => load!(),
                        Called::Need(thunk, now) => {
                            if now == n {
                                retry!(thunk);
                            }
                            let Some(ops) = self.call_ops.get(now) else {
                                fail!(Error::other("too many arguments in one call"));
                            };
                            self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
                            self.enter_thunk(thunk, flag::DISCARD)?;
                            load!();
                        }
                    }
                }
                Op::ObservedCall(n) => {
                    let place = self.tables.span(ip.wrapping_sub(1)).unwrap_or_default();
                    save!();
                    if let Some(thunk) = self.enter_observed(n as usize, place.start)? {
                        retry!(thunk);
                    }
                    load!();
                }
                Op::CallEnd => self.leave_observed(self.frames.len() - 1),
                Op::CallRest(n) => {
                    let at = self.stack.len() - n as usize - 1;
                    self.stack[at..].rotate_right(1);
                    save!();
                    self.begin_call(n as usize)?;
                    load!();
                }
                Op::Jump(distance) => jump!(distance),
                Op::JumpIfFalse(distance) => {
                    let v = pop!();
                    if v == Value::FALSE {
                        jump!(distance);
                    } else if v != Value::TRUE {
                        fail!(self.expected_for(
                            "while evaluating a branch condition",
                            Type::Bool,
                            v
                        ));
                    }
                }
                Op::AndJump(distance) => {
                    let v = top!();
                    if v == Value::FALSE {
                        jump!(distance);
                    } else if v == Value::TRUE {
                        self.stack.pop();
                    } else {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::OrJump(distance) => {
                    let v = top!();
                    if v == Value::TRUE {
                        jump!(distance);
                    } else if v == Value::FALSE {
                        self.stack.pop();
                    } else {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::CheckBool => {
                    let v = top!();
                    if v.as_bool().is_none() {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::CheckAttrs => {
                    let v = top!();
                    if v.as_attrs().is_none() {
                        let what = "in the right operand of the update (//) operator";
                        fail!(self.expected_for(what, Type::Attrs, v));
                    }
                }
                Op::Not => match top!().as_bool() {
                    Some(b) => set_top!(Value::bool(!b)),
                    None => {
                        let what = "in the argument of the not operator";
                        fail!(self.expected_for(what, Type::Bool, top!()))
                    }
                },
                Op::Negate => {
                    let v = top!();
                    let zero = self.heap.int(0);
                    let negative = check!(ops::arithmetic(self, ops::Arithmetic::Sub, zero, v));
                    set_top!(negative);
                }
                Op::BeginAdd => {
                    let v = top!();
                    if v.as_int().is_none() && !v.is_string() && ops::begins_sum(v) {
                        native!(ops::begin_sum, 1);
                    }
                }
                Op::Add => {
                    let (right, left) = (pop!(), top!());
                    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
                        let Some(sum) = a.checked_add(b) else {
                            fail!(ops::overflow("adding", a, "+", b));
                        };
                        let v = self.heap.int(sum);
                        set_top!(v);
                    } else {
                        match check!(ops::add_simple(self, left, right)) {
                            Some(v) => set_top!(v),
                            None => {
                                self.stack.push(right);
                                native!(ops::add, 2);
                            }
                        }
                    }
                }
                Op::Sub | Op::Mul | Op::Div => {
                    let (right, left) = (pop!(), top!());
                    let kind = match op {
                        Op::Sub => ops::Arithmetic::Sub,
                        Op::Mul => ops::Arithmetic::Mul,
                        _ => ops::Arithmetic::Div,
                    };
                    let v = check!(ops::arithmetic(self, kind, left, right));
                    set_top!(v);
                }
                Op::Less => {
                    let (right, left) = (pop!(), top!());
                    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
                        set_top!(Value::bool(a < b));
                    } else if left.is_list() && right.is_list() {
                        self.stack.push(right);
                        native!(ops::less_than, 2);
                    } else {
                        let less = check!(ops::less_simple(self, left, right));
                        set_top!(Value::bool(less));
                    }
                }
                Op::Eq => {
                    let (right, left) = (pop!(), top!());
                    match ops::equal_simple(left, right) {
                        Some(equal) => set_top!(Value::bool(equal)),
                        None => {
                            self.stack.push(right);
                            native!(ops::equal, 2);
                        }
                    }
                }
                Op::Update => {
                    let (left, right) = (pop!(), top!());
                    match (left.as_attrs(), right.as_attrs()) {
                        (Some(a), Some(b)) => {
                            let v = self.update(a, b);
                            set_top!(v);
                        }
                        (None, _) => {
                            let what = "in the left operand of the update (//) operator";
                            fail!(self.expected_for(what, Type::Attrs, left))
                        }
                        (_, None) => fail!(self.expected(Type::Attrs, right)),
                    }
                }
                Op::Concat(n) => {
                    let at = self.stack.len() - n as usize;
                    let mut total = 0;
                    for i in at..self.stack.len() {
                        match self.stack[i].as_list() {
                            Some(list) => total += list.len(),
                            None => {
                                let what = "while evaluating one of the elements to concatenate";
                                fail!(self.expected_for(what, Type::List, self.stack[i]))
                            }
                        }
                    }
                    self.heap.stats.list_concats += 1;
                    check!(self.check_memory(total * 8));
                    let v = self.heap.concat_lists(&self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::CoercePart => {
                    let v = top!();
                    if !v.is_string() {
                        let mode = ops::Coerce::INTERPOLATION.value();
                        self.stack.push(mode);
                        native!(ops::coerce_to_string, 2);
                    }
                }
                Op::CoercePathPart => {
                    let v = top!();
                    if !v.is_string() {
                        let mode = ops::Coerce::PATH.value();
                        self.stack.push(mode);
                        native!(ops::coerce_to_string, 2);
                    }
                }
                Op::ConcatStrings(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = check!(self.concat_strings(at));
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::ConcatPath(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = check!(self.concat_strings(at));
                    let v = check!(ops::path_of_string(self, v));
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::Assert => match top!().as_bool() {
                    Some(true) => {
                        self.stack.pop();
                    }
                    Some(false) => {
                        let message = self.assertion_message(ip.wrapping_sub(1));
                        fail!(Error::new(ErrorKind::Assertion, message));
                    }
                    None => {
                        let what = "in the condition of the assert statement";
                        fail!(self.expected_for(what, Type::Bool, top!()))
                    }
                },
                Op::AssertEqual => {
                    let n = self.stack.len();
                    let (left, right) = (self.stack[n - 2], self.stack[n - 1]);
                    match ops::equal_simple(left, right) {
                        Some(true) => self.stack.truncate(n - 2),
                        _ => {
                            // Leaves nothing behind but its result, which is not wanted.
                            save!();
                            self.push_native(ops::assert_equal, 2, NO_INFO)?;
                            if let Some(f) = self.frames.last_mut() {
                                f.flags |= flag::DISCARD;
                            }
                            load!();
                        }
                    }
                }
                Op::Formals(i) => {
                    let lambda = lambda_of(self.tables.lambdas[i as usize]);
                    let slot = lambda.arity as usize - 1;
                    let v = env.get(slot);
                    let arg = v.resolved();
                    if arg.is_thunk() {
                        retry!(arg);
                    }
                    env.set(slot, arg);
                    let Some(attrs) = arg.as_attrs() else {
                        let error = self.expected(Type::Attrs, arg);
                        fail!(self.wrong_call(lambda, error));
                    };
                    check!(self.bind_formals(lambda, attrs, env));
                }
                Op::SelectPayload => {
                    let v = pop!();
                    let thunk = ThunkPtr::of(pop!());
                    let symbol = Symbol(thunk.payload() as u32);
                    let pos = PosId((thunk.payload() >> 32) as u32);
                    let span = SourceSpan { start: pos, len: 1 };
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v).at(span));
                    };
                    match attrs.get(symbol) {
                        Some(value) => {
                            self.stack.push(value);
                            if value.is_thunk() {
                                self.stack.pop();
                                enter!(value, 0);
                            }
                        }
                        None => fail!(self.missing_attr(attrs, symbol).at(span)),
                    }
                }
                Op::Return => {
                    let Some(frame) = self.frames.pop() else {
                        return Err(Error::other("the frame stack is empty"));
                    };
                    if frame.update != ThunkPtr::NONE {
                        let mut v = top!();
                        if v.is_function() {
                            v = self.heap.copy_function(v);
                            set_top!(v);
                        }
                        frame.update.set_value(v);
                        if frame.flags & flag::DISCARD != 0 {
                            self.stack.pop();
                        }
                    }
                    match self.frames.last() {
                        Some(f) if f.resume.is_none() => {
                            ip = f.ip;
                            env = f.env;
                        }
                        _ => load!(),
                    }
                }
                Op::Exit => return Ok(()),
            }
        }
    }

    #[inline(always)]
    fn lookup(&mut self, attrs: AttrsRef, site: u32) -> Option<Value> {
        let site = &mut self.tables.sites[site as usize];
        let Some(shape) = attrs.flat_shape() else {
            return attrs.get(site.symbol);
        };
        if site.shape == shape && shape.0 != self.heap.empty_shape.0 {
            return Some(attrs.at(site.index as usize));
        }
        let index = shape.find(site.symbol)?;
        site.shape = shape;
        site.index = index as u32;
        Some(attrs.at(index))
    }

    fn delayed_select(&mut self, set: Value, site: u32) -> Value {
        let resolved = set.resolved();
        if let Some(attrs) = resolved.as_attrs()
            && let Some(v) = self.lookup(attrs, site)
            && !v.is_thunk()
        {
            return self.heap.selected(v);
        }
        let Site {
            symbol, jump: pos, ..
        } = self.tables.sites[site as usize];
        let pos = PosId(pos as u32);
        let thunk = if set.is_thunk() {
            set
        } else {
            self.heap.evaluated_thunk(resolved)
        };
        self.heap.select_thunk(thunk, symbol, pos)
    }

    fn pop_name(&mut self) -> Result<Symbol> {
        let v = self.stack.pop().unwrap_or(Value::NULL).resolved();
        match v.as_string() {
            Some(s) => self.attr_name(s),
            None => Err(self.expected_for("while evaluating an attribute name", Type::String, v)),
        }
    }

    /// The symbol of a string used as attribute name.
    ///
    /// # Errors
    /// When the string has a context.
    pub fn attr_name(&mut self, s: StringRef) -> Result<Symbol> {
        if !s.context().is_empty() {
            return Err(self.no_context_allowed(s));
        }
        Ok(self.symbols.of_string(s))
    }

    /// The error for a string with context where none is allowed.
    pub fn no_context_allowed(&self, s: StringRef) -> Error {
        let path = self
            .contexts
            .elements(s.context())
            .min()
            .map(ToString::to_string)
            .unwrap_or_default();
        Error::other(format!(
            "the string '{}' is not allowed to refer to a store path (such as '{}')",
            String::from_utf8_lossy(s.bytes()),
            path
        ))
    }

    fn add_dynamic(&mut self, index: u32) -> Result<()> {
        let count = self.tables.dynamic[index as usize].len();
        let at = self.stack.len() - 2 * count;
        let Some(base) = self.stack[at - 1].as_attrs() else {
            return Err(Error::other("dynamic attributes without a set"));
        };
        let mut added: Vec<(Symbol, PosId, Value)> = Vec::with_capacity(count);
        for i in 0..count {
            let name = self.stack[at + 2 * i].resolved();
            let value = self.stack[at + 2 * i + 1];
            if name.is_null() {
                continue;
            }
            let Some(name) = name.as_string() else {
                let what = "while evaluating the name of a dynamic attribute";
                return Err(self.expected_for(what, Type::String, name));
            };
            let symbol = self.attr_name(name)?;
            let pos = self.tables.dynamic[index as usize][i];
            let earlier = added
                .iter()
                .find(|(s, ..)| *s == symbol)
                .map(|(_, p, _)| *p)
                .or_else(|| base.position(symbol));
            if let Some(earlier) = earlier {
                let mut error = Error::other(format!(
                    "dynamic attribute '{}' already defined at {}",
                    self.symbols.text(symbol),
                    self.describe_position(earlier)
                ))
                .at(SourceSpan { start: pos, len: 1 });
                error.data_mut().related = Some((
                    "first defined here".to_string(),
                    SourceSpan {
                        start: earlier,
                        len: 1,
                    },
                ));
                return Err(error);
            }
            added.push((symbol, pos, value));
        }
        let base_entries = base.iter().map(|(s, v, p)| (s, p, v));
        let mut all: Vec<(Symbol, PosId, Value)> = base_entries.chain(added).collect();
        all.sort_unstable_by_key(|(s, ..)| *s);
        let v = self.attrs_sorted(&all);
        self.stack.truncate(at - 1);
        self.stack.push(v);
        Ok(())
    }

    fn concat_strings(&mut self, at: usize) -> Result<Value> {
        let mut total = 0usize;
        let mut context = ContextUnion::default();
        for part in &self.stack[at..] {
            let s = StringRef(*part);
            total += s.len();
            context.add(&mut self.contexts, s.context());
        }
        self.check_string(total)?;
        if self.stack.len() - at == 1 {
            return Ok(self.stack[at]);
        }
        let context = context.finish(&mut self.contexts);
        Ok(self.heap.concat(&self.stack[at..], total, context))
    }

    /// Fails when a string of `len` bytes is too long for the heap or its limit.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`].
    pub fn check_string(&self, len: usize) -> Result<()> {
        if len > u32::MAX as usize {
            return Err(Error::new(ErrorKind::Memory, "a string longer than 4 GiB"));
        }
        if len > 1 << 16 {
            self.check_memory(len)
        } else {
            Ok(())
        }
    }
}
