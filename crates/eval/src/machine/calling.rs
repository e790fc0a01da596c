//! Calls: of closures, of native functions, with too few and too many arguments, and calls that are put off.

use super::frames::{Frame, NO_INFO, flag};
use super::unwind::is_refusal;
use super::{Machine, lambda_of};
use crate::code::{Lambda, Op};
use crate::error::{Error, Result};
use crate::heap::{Callee, EnvPtr, ThunkPtr};
use crate::native::{Activation, Body, Builtin, Resume, Step};
use crate::position::{PosId, SourceSpan};
use crate::value::Value;
use std::sync::Arc;

pub(super) enum Called {
    /// Frames are arranged; continue with the top one.
    Entered,
    /// The result is on the stack.
    Finished,
    /// Evaluate this thunk and call again with this many arguments.
    Need(Value, usize),
}

/// Arguments that one call instruction can take.
pub(crate) const MAX_ARGS: usize = 640;

impl Machine {
    /// Arranges for a call of the function and `n` arguments on the stack; the caller's frame is saved.
    pub(super) fn begin_call(&mut self, n: usize) -> Result<()> {
        match self.try_call(n)? {
            Called::Entered | Called::Finished => Ok(()),
            Called::Need(thunk, n) => {
                let Some(ops) = self.call_ops.get(n) else {
                    return Err(Error::other("too many arguments in one call"));
                };
                self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
                self.enter_thunk(thunk, flag::DISCARD)
            }
        }
    }

    /// The same, and tells who observes calls. What is called is evaluated first.
    #[cold]
    fn begin_observed_call(&mut self, n: usize) -> Result<()> {
        match self.apply_ops.get(n) {
            Some(ops) => {
                let ops = ops.as_ptr();
                self.push_ops(ops);
                Ok(())
            }
            // No builtin calls a function with so many arguments and looks at what it is.
            None => match self.enter_observed(n, PosId::NONE)? {
                None => Ok(()),
                Some(_) => self.begin_call(n),
            },
        }
    }

    pub(super) fn try_call(&mut self, mut n: usize) -> Result<Called> {
        // Sets that were called.
        let mut functors = 0;
        loop {
            let at = self.stack.len() - n - 1;
            let function = self.stack[at].resolved();
            if let Some(f) = function.as_function() {
                match f.callee() {
                    Callee::Closure(lambda, env) => {
                        let lambda = lambda_of(lambda);
                        let arity = lambda.arity as usize;
                        if n < arity {
                            return Ok(self.finish_partial(function, at));
                        }
                        self.call_rest(at, arity, n)?;
                        if functors > 0 && n > arity {
                            // What the function returns is called inside this call: it may be the same set for ever.
                            self.deepen(functors);
                        }
                        self.enter_closure(lambda, env, arity)?;
                        if n == arity {
                            if functors > 0 {
                                self.deepen(functors);
                            }
                            self.stack.truncate(at);
                        }
                        return Ok(Called::Entered);
                    }
                    Callee::Primop(index) => {
                        let builtin = &self.builtins[index as usize];
                        let arity = builtin.args.len();
                        if n < arity {
                            return Ok(self.finish_partial(function, at));
                        }
                        let strict = builtin.strict;
                        for i in 0..arity {
                            if strict & 1 << i == 0 {
                                continue;
                            }
                            let arg = self.stack[at + 1 + i].resolved();
                            if arg.is_thunk() {
                                return Ok(Called::Need(arg, n));
                            }
                            self.stack[at + 1 + i] = arg;
                        }
                        return self.call_primop(index, at, arity, n);
                    }
                    Callee::Partial => {
                        let len = f.partial_len();
                        self.stack[at] = f.partial_callee();
                        let args = (0..len).map(|i| f.partial_arg(i));
                        self.stack.splice(at + 1..at + 1, args);
                        n += len;
                        if n >= MAX_ARGS {
                            return Err(Error::other("too many arguments in one call"));
                        }
                    }
                }
            } else if function.is_thunk() {
                return Ok(Called::Need(function, n));
            } else if let Some(attrs) = function.as_attrs()
                && let Some(functor) = attrs.get(self.known.functor)
            {
                if functor.is_thunk() {
                    return Ok(Called::Need(functor, n));
                }
                self.stack[at] = functor;
                self.stack.insert(at + 1, function);
                n += 1;
                functors += 1;
                if n >= MAX_ARGS {
                    return Err(Error::other("too many arguments in one call"));
                }
                // `__functor` takes the set alone; its result takes the arguments.
                if !functor.is_function() && !functor.is_attrs() {
                    return Err(self.not_a_function(functor));
                }
            } else {
                return Err(self.not_a_function(function));
            }
        }
    }

    /// Calling a set is a call around that of its `__functor`.
    #[cold]
    fn deepen(&mut self, calls: u32) {
        if let Some(frame) = self.frames.last_mut() {
            frame.depth += calls;
        }
    }

    #[cold]
    fn not_a_function(&self, v: Value) -> Error {
        Error::type_error(format!(
            "attempt to call something which is not a function but {}",
            self.describe(v)
        ))
    }

    fn finish_partial(&mut self, function: Value, at: usize) -> Called {
        let partial = self.heap.partial(function, &self.stack[at + 1..]);
        self.stack.truncate(at);
        self.stack.push(partial);
        Called::Finished
    }

    /// Removes the function at `at`; if there are more arguments than it takes, a frame is pushed that
    /// will call its result with them. Leaves its arguments on top of the stack.
    #[inline(always)]
    fn call_rest(&mut self, at: usize, arity: usize, n: usize) -> Result<()> {
        if n > arity {
            self.stack.remove(at);
            self.stack[at..].rotate_left(arity);
            let Some(ops) = self.rest_ops.get(n - arity) else {
                return Err(Error::other("too many arguments in one call"));
            };
            self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
        }
        Ok(())
    }

    /// Enters a closure and removes its arguments from the top of the stack.
    #[inline(always)]
    pub(super) fn enter_closure(
        &mut self,
        lambda: &Lambda,
        parent: EnvPtr,
        arity: usize,
    ) -> Result<()> {
        let depth = self.depth() + 1;
        if depth > self.settings.max_call_depth {
            return Err(self.too_deep());
        }
        self.heap.stats.function_calls += 1;
        let env = self.heap.env(parent, lambda.slots as usize);
        let start = self.stack.len() - arity;
        for i in 0..arity {
            env.set(i, self.stack[start + i]);
        }
        self.stack.truncate(start);
        self.frames.push(Frame {
            ip: lambda.code,
            env,
            update: ThunkPtr::NONE,
            resume: None,
            base: 0,
            depth,
            info: lambda.index,
            height: 0,
            flags: flag::CALL,
        });
        Ok(())
    }

    fn call_primop(&mut self, index: u32, at: usize, arity: usize, n: usize) -> Result<Called> {
        self.heap.stats.primop_calls += 1;
        if n > arity {
            self.call_rest(at, arity, n)?;
        } else {
            self.stack.remove(at);
        }
        let base = self.stack.len() - arity;
        let mut args = [Value::NULL; 8];
        let result = match &self.builtins[index as usize].body {
            Body::Frame(resume) => {
                let resume = *resume;
                self.push_native(resume, arity, index)?;
                return Ok(Called::Entered);
            }
            Body::Leaf(leaf) => {
                let leaf = *leaf;
                args[..arity].copy_from_slice(&self.stack[base..]);
                leaf(self, &args[..arity])
            }
            Body::Closure(f) => {
                let f = Arc::clone(f);
                args[..arity].copy_from_slice(&self.stack[base..]);
                f(self, &args[..arity])
            }
        };
        let result = match result {
            Ok(v) => v.resolved(),
            Err(e) => {
                let name = self.builtins[index as usize].name;
                let span = self
                    .frames
                    .last()
                    .and_then(|f| self.tables.span(f.ip.wrapping_sub(1)))
                    .unwrap_or_default();
                let refused = self.purpose.filter(|_| is_refusal(&e));
                let e = match refused.and_then(|f| f(self, name, &args[..arity], None)) {
                    Some(text) => e.context(text, SourceSpan::default(), false),
                    None => e,
                };
                return Err(e.at(span).context(
                    format!("while calling the '{name}' builtin"),
                    span,
                    false,
                ));
            }
        };
        self.stack.truncate(base);
        if result.is_thunk() {
            self.enter_thunk(result, 0)?;
            return Ok(Called::Entered);
        }
        self.stack.push(result);
        Ok(if n > arity {
            Called::Entered
        } else {
            Called::Finished
        })
    }

    /// Runs native frames until the top one is code.
    #[inline(always)]
    pub(super) fn resume_top(&mut self) -> Result<(*const Op, EnvPtr)> {
        loop {
            let Some(frame) = self.frames.last() else {
                return Err(Error::other("the frame stack is empty"));
            };
            match frame.resume {
                None => return Ok((frame.ip, frame.env)),
                Some(resume) => self.native_step(resume)?,
            }
        }
    }

    fn native_step(&mut self, resume: Resume) -> Result<()> {
        // Everything is on the stacks here, the result of the last step included.
        self.ticks -= 1;
        if self.ticks == 0 {
            self.safepoint()?;
        }
        let index = self.frames.len() - 1;
        let frame = &mut self.frames[index];
        let mut activation = Activation {
            base: frame.base as usize,
            state: frame.env.0 as u64,
            failed: frame.flags & flag::FAILED != 0,
        };
        frame.flags &= flag::DISCARD;
        let step = resume(self, &mut activation);
        // Also when it failed: the trace tells by the state what was going on.
        self.frames[index].env = EnvPtr(activation.state as usize);
        let step = step?;
        let base = activation.base;
        match step {
            Step::Done(v) => {
                self.stack.truncate(base);
                let discard = self
                    .frames
                    .pop()
                    .is_some_and(|f| f.flags & flag::DISCARD != 0);
                if discard { Ok(()) } else { self.deliver(v) }
            }
            Step::Force(v) => self.deliver(v),
            Step::Catch(v) | Step::CatchAll(v) => {
                let height = self.stack.len() as u32;
                let frame = &mut self.frames[index];
                frame.height = height;
                frame.flags |= match step {
                    Step::Catch(_) => flag::CATCH,
                    _ => flag::CATCH_ALL,
                };
                self.deliver(v)
            }
            Step::Call(n) if self.observed.is_some() => self.begin_observed_call(n as usize),
            Step::Call(n) => self.begin_call(n as usize),
            Step::TailCall(n) => {
                let from = self.stack.len() - n as usize - 1;
                self.stack.drain(base..from);
                self.frames.pop();
                match self.observed {
                    None => self.begin_call(n as usize),
                    Some(_) => self.begin_observed_call(n as usize),
                }
            }
            Step::Run(resume, n) => self.push_native(resume, n as usize, NO_INFO),
            Step::TailRun(resume, n) => {
                let from = self.stack.len() - n as usize;
                self.stack.drain(base..from);
                let info = self.frames.pop().map_or(NO_INFO, |f| f.info);
                self.push_native(resume, n as usize, info)
            }
        }
    }

    #[inline(always)]
    fn deliver(&mut self, v: Value) -> Result<()> {
        let v = v.resolved();
        if v.is_thunk() {
            self.enter_thunk(v, 0)
        } else {
            self.stack.push(v);
            Ok(())
        }
    }

    /// The suspended application of a function (any callable value) to one argument.
    pub fn delay_call(&mut self, function: Value, arg: Value) -> Value {
        let function = function.resolved();
        if function.is_function() {
            return self.heap.apply_thunk(function, arg);
        }
        self.delay_generic(function, &[arg])
    }

    /// The suspended application of a function (any callable value) to two arguments.
    pub fn delay_call2(&mut self, function: Value, first: Value, second: Value) -> Value {
        let function = function.resolved();
        if function.is_function() {
            let partial = self.heap.partial(function, &[first]);
            return self.heap.apply_thunk(partial, second);
        }
        self.delay_generic(function, &[first, second])
    }

    fn delay_generic(&mut self, function: Value, args: &[Value]) -> Value {
        // `apply` is a native function of the evaluator itself: it calls its first argument.
        let apply = self.apply_builtin(args.len());
        let partial = self
            .heap
            .partial(apply, &[&[function], &args[..args.len() - 1]].concat());
        self.heap.apply_thunk(partial, args[args.len() - 1])
    }

    fn apply_builtin(&mut self, args: usize) -> Value {
        let name = if args == 1 {
            "__nivisApply1"
        } else {
            "__nivisApply2"
        };
        if let Some(i) = self.builtins.iter().position(|b| b.name == name) {
            return self.heap.primop(i as u32);
        }
        fn apply(m: &mut Machine, a: &mut Activation) -> Result<Step> {
            Ok(Step::TailCall(m.locals(a) as u16 - 1))
        }
        let names: &'static [&'static str] = if args == 1 {
            &["f", "x"]
        } else {
            &["f", "x", "y"]
        };
        self.add_builtin(Builtin {
            name,
            args: names,
            strict: 1,
            global: false,
            body: Body::Frame(apply),
            doc: "Calls its first argument with the others.",
        })
    }
}
