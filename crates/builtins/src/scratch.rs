//! State of resumable builtins that is no value: buffers that grow while values are evaluated on the way.

use nivis_eval::{Activation, Machine};
use std::any::Any;

/// Such states of one kind, for the activations that run now.
struct Scratch<T>(Vec<(usize, T)>);

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Scratch(Vec::new())
    }
}

/// Takes the state of an activation, or begins with a new one.
///
/// Activations nest as their places on the stack do. One that ended in an error leaves its state behind; it is found above
/// the next one that begins, and dropped.
pub(crate) fn take<T: Any + Default>(m: &mut Machine, a: &Activation) -> T {
    let states = &mut m.extension::<Scratch<T>>().0;
    while let Some((base, _)) = states.last() {
        if *base < a.base() {
            break;
        }
        let exact = *base == a.base();
        let state = states.pop();
        if let Some((_, state)) = state
            && exact
            && a.state != 0
        {
            return state;
        }
    }
    T::default()
}

/// Keeps the state of an activation until it is resumed. Its `state` must not be zero then.
pub(crate) fn put<T: Any + Default>(m: &mut Machine, a: &Activation, state: T) {
    m.extension::<Scratch<T>>().0.push((a.base(), state));
}
