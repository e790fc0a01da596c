//! Native functions: the interface through which builtins (ours and an embedder's) are added.
//!
//! A native function never calls back into the machine: there is no host recursion. One that needs nothing
//! evaluated but its strict arguments is a [`Body::Leaf`]. One that has to evaluate or call something is a
//! [`Body::Frame`]: a state machine whose locals are on the machine's stack (so that the collector sees
//! them) and that returns a [`Step`] saying what it needs next; the machine pushes the result on the stack and resumes it.

use crate::error::Result;
use crate::machine::Machine;
use crate::value::Value;
use std::sync::Arc;

/// A function that returns at once.
///
/// It may return an unevaluated thunk, which the machine then evaluates in its place.
pub type Leaf = fn(&mut Machine, &[Value]) -> Result<Value>;

/// A function that needs values evaluated on the way.
///
/// Its arguments are its first locals. On the first call `state` is zero; what it sets is kept. After a
/// step that produced a value, that value is on top of the stack and must be popped.
pub type Resume = fn(&mut Machine, &mut Activation) -> Result<Step>;

/// The running state of a [`Resume`] function.
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    /// Where its locals begin on the stack; see [`Machine::local`].
    pub(crate) base: usize,
    /// Free for the function's use; zero at first.
    pub state: u64,
    /// Whether it is resumed because the step it asked for failed (only with [`Step::Catch`]).
    pub failed: bool,
}

impl Activation {
    /// The height of the stack at its first local: activations that run inside others have higher ones.
    pub fn base(&self) -> usize {
        self.base
    }
}

/// What a [`Resume`] function wants next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// It is finished; a thunk is evaluated in its place.
    Done(Value),
    /// Evaluate this to weak head normal form, push it, resume.
    Force(Value),
    /// Like `Force`, but when that fails with an error that `tryEval` catches, resume with `failed`.
    Catch(Value),
    /// Like `Catch`, for every kind of error; see [`Machine::take_error`].
    CatchAll(Value),
    /// A function (in weak head normal form or not) and this many arguments were pushed: call, push the result, resume.
    Call(u16),
    /// The same as `Call`, but the result of the call is that of this function.
    TailCall(u16),
    /// Run another resumable function, whose locals (this many) were pushed; push its result, resume.
    Run(Resume, u16),
    /// The same as `Run`, but its result is that of this function.
    TailRun(Resume, u16),
}

/// Like [`Leaf`], with captured state.
pub type Captured = Arc<dyn Fn(&mut Machine, &[Value]) -> Result<Value> + Send + Sync>;

/// How a native function is implemented.
#[derive(Clone)]
pub enum Body {
    /// Returns at once.
    Leaf(Leaf),
    /// Evaluates things on the way.
    Frame(Resume),
    /// Like `Leaf`, with captured state.
    Closure(Captured),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Body::Leaf(_) => "Leaf",
            Body::Frame(_) => "Frame",
            Body::Closure(_) => "Closure",
        })
    }
}

/// A native function with its documentation.
#[derive(Clone, Debug)]
pub struct Builtin {
    /// Its name in `builtins`.
    pub name: &'static str,
    /// Names of its arguments, as the documentation shows them; their number is the arity (1 to 8).
    pub args: &'static [&'static str],
    /// Which arguments are evaluated before the function runs (bit 0 is the first).
    pub strict: u8,
    /// Whether it is visible without `builtins.`.
    pub global: bool,
    /// The implementation.
    pub body: Body,
    /// What it does, in Markdown: arguments, result, errors.
    pub doc: &'static str,
}

impl Builtin {
    /// The same, visible without `builtins.` too.
    #[must_use]
    pub const fn global(mut self) -> Builtin {
        self.global = true;
        self
    }
}
