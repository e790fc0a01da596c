//! Tells who wants to know which functions are called: tracers and profilers.
//!
//! Code that is compiled while somebody observes has other ops at its calls, and native functions look whether there is
//! an observer, so that evaluation without one is as fast as if there were none. Operators are no calls here.

use crate::code::Op;
use crate::error::Result;
use crate::heap::{Callee, FunctionRef};
use crate::machine::{Machine, lambda_of};
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::Value;

/// What was called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CalledValue {
    /// A function written in Nix: its place in the machine's table.
    Lambda(u32),
    /// A builtin: its place in the machine's table.
    Builtin(u32),
    /// `derivationStrict`, for a derivation of this name.
    Derivation(u32, Symbol),
    /// A set with `__functor`.
    Functor,
    /// Something else, which may be no function.
    Other,
}

/// A call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Call {
    /// Where it is; none where a builtin calls.
    pub place: PosId,
    /// What was called.
    pub callee: CalledValue,
}

/// Whoever wants to know.
pub trait CallObserver {
    /// A call begins.
    fn entered(&mut self, m: &Machine, call: Call);
    /// The call that began last and has not ended yet ends, with a value or an error.
    fn left(&mut self, m: &Machine, call: Call);
}

/// An observer, and the calls that have not ended.
pub(crate) struct Observed {
    /// Absent while it is being told something.
    observer: Option<Box<dyn CallObserver>>,
    /// Each with the index of the frame that stands for it.
    open: Vec<(usize, Call)>,
    /// Ops of the frames that stand for calls, by number of arguments.
    ops: Box<[[Op; 3]]>,
}

impl Machine {
    /// From now on the observer is told of calls, in code that is loaded from now on.
    pub fn observe_calls(&mut self, observer: Box<dyn CallObserver>) {
        let numbers = 0..crate::machine::MAX_ARGS;
        let ops = numbers.map(|n| [Op::Call(n as u16), Op::CallEnd, Op::Return]);
        self.observed = Some(Box::new(Observed {
            observer: Some(observer),
            open: Vec::new(),
            ops: ops.collect(),
        }));
        for (n, ops) in self.apply_ops.iter_mut().enumerate() {
            *ops = [Op::ObservedCall(n as u16), Op::Return];
        }
    }

    /// The place of a call as traces and profiles show it: where that is unknown, the place of the function.
    pub fn place_of_call(&self, call: Call) -> Option<String> {
        let pos = match call.callee {
            CalledValue::Lambda(index) if call.place.is_none() => {
                lambda_of(*self.tables.lambdas.get(index as usize)?).pos
            }
            _ => call.place,
        };
        (!pos.is_none()).then(|| self.describe_position(pos))
    }

    /// The name of what was called, if it has one: `f`, `primop map`, `functor`.
    pub fn name_of_call(&self, call: Call) -> Option<String> {
        let builtin = |index: u32| {
            Some(format!(
                "primop {}",
                self.builtins.get(index as usize)?.name
            ))
        };
        match call.callee {
            CalledValue::Lambda(index) => {
                let lambda = lambda_of(*self.tables.lambdas.get(index as usize)?);
                lambda.name.get().map(|name| self.symbols.text(name))
            }
            CalledValue::Builtin(index) => builtin(index),
            CalledValue::Derivation(index, name) => {
                Some(format!("{}:{}", builtin(index)?, self.symbols.text(name)))
            }
            CalledValue::Functor => Some("functor".to_string()),
            CalledValue::Other => None,
        }
    }

    fn tell(&mut self, tell: impl FnOnce(&mut dyn CallObserver, &Machine)) {
        let Some(mut observer) = self.observed.as_mut().and_then(|o| o.observer.take()) else {
            return;
        };
        tell(&mut *observer, self);
        if let Some(observed) = &mut self.observed {
            observed.observer = Some(observer);
        }
    }

    /// Notes the call of the function and `n` arguments on the stack, and pushes the frame that stands for it. A thunk
    /// comes back if that has to be evaluated first, to know what is called.
    #[cold]
    pub(crate) fn enter_observed(&mut self, n: usize, place: PosId) -> Result<Option<Value>> {
        let at = self.stack.len() - n - 1;
        let function = self.stack[at].resolved();
        let mut inner = None;
        let callee = if let Some(f) = function.as_function() {
            match self.callee_of(f) {
                CalledValue::Builtin(index) if self.is_strict_derivation(index) => {
                    let argument = self.stack[at + 1].resolved();
                    let name = argument.as_attrs().and_then(|a| a.get(self.known.name));
                    match name.map(Value::resolved) {
                        _ if argument.is_thunk() => return Ok(Some(argument)),
                        Some(name) if name.is_thunk() => return Ok(Some(name)),
                        Some(name) => match name.as_string() {
                            Some(text) => {
                                let name = self.symbols.intern(text.bytes());
                                CalledValue::Derivation(index, name)
                            }
                            None => CalledValue::Builtin(index),
                        },
                        None => CalledValue::Builtin(index),
                    }
                }
                callee => callee,
            }
        } else if let Some(attrs) = function.as_attrs()
            && attrs.get(self.known.functor).is_some()
        {
            inner = Some(Call {
                place: attrs.position(self.known.functor).unwrap_or_default(),
                callee: CalledValue::Other,
            });
            CalledValue::Functor
        } else {
            CalledValue::Other
        };
        let ops = match self.observed.as_ref().and_then(|o| o.ops.get(n)) {
            Some(ops) => ops.as_ptr(),
            None => return Err(crate::error::Error::other("too many arguments in one call")),
        };
        for call in std::iter::once(Call { place, callee }).chain(inner) {
            let frame = self.frames.len();
            if let Some(observed) = &mut self.observed {
                observed.open.push((frame, call));
            }
            self.tell(|observer, m| observer.entered(m, call));
        }
        self.push_ops(ops);
        Ok(None)
    }

    fn callee_of(&self, f: FunctionRef) -> CalledValue {
        match f.callee() {
            Callee::Closure(lambda, _) => CalledValue::Lambda(lambda_of(lambda).index),
            Callee::Primop(index) => CalledValue::Builtin(index),
            Callee::Partial => match f.partial_callee().as_function() {
                Some(f) if !matches!(f.callee(), Callee::Partial) => self.callee_of(f),
                _ => CalledValue::Other,
            },
        }
    }

    fn is_strict_derivation(&self, index: u32) -> bool {
        let builtin = self.builtins.get(index as usize);
        builtin.is_some_and(|b| b.name == "derivationStrict")
    }

    /// Notes that the calls end whose frames are at this height or above.
    #[cold]
    pub(crate) fn leave_observed(&mut self, height: usize) {
        while let Some(observed) = &mut self.observed
            && let Some((frame, call)) = observed.open.last().copied()
            && frame >= height
        {
            observed.open.pop();
            self.tell(|observer, m| observer.left(m, call));
        }
    }
}
