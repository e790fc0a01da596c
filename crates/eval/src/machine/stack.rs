//! The value stack, as native functions see it.

use super::Machine;
use crate::error::Error;
use crate::native::Activation;
use crate::value::Value;

impl Machine {
    /// A local of a running native function; evaluated thunks are followed.
    #[inline(always)]
    pub fn local(&self, activation: &Activation, index: usize) -> Value {
        self.stack
            .get(activation.base + index)
            .copied()
            .unwrap_or(Value::NULL)
            .resolved()
    }

    /// Sets a local.
    #[inline(always)]
    pub fn set_local(&mut self, activation: &Activation, index: usize, value: Value) {
        if let Some(slot) = self.stack.get_mut(activation.base + index) {
            *slot = value;
        }
    }

    /// Number of locals: the arguments and what was pushed since.
    pub fn locals(&self, activation: &Activation) -> usize {
        self.stack.len().saturating_sub(activation.base)
    }

    /// Copies the locals from `first` on.
    pub fn locals_from(&self, activation: &Activation, first: usize) -> Vec<Value> {
        self.stack
            .get(activation.base + first..)
            .unwrap_or(&[])
            .to_vec()
    }

    /// A list of the locals from `first` on, which are removed.
    pub fn list_of_locals(&mut self, activation: &Activation, first: usize) -> Value {
        let at = (activation.base + first).min(self.stack.len());
        let list = self.heap.list(&self.stack[at..]);
        self.stack.truncate(at);
        list
    }

    /// Removes locals beyond the first `count`.
    pub fn truncate_locals(&mut self, activation: &Activation, count: usize) {
        self.stack.truncate(activation.base + count);
    }

    /// Pushes a value.
    #[inline(always)]
    pub fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    /// Pops a value.
    #[inline(always)]
    pub fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(Value::NULL).resolved()
    }

    /// The error that the step of a [`Step::Catch`](crate::Step::Catch) or [`Step::CatchAll`](crate::Step::CatchAll) failed with.
    pub fn take_error(&mut self) -> Error {
        self.pending
            .take()
            .unwrap_or_else(|| Error::other("no error is pending"))
    }
}
