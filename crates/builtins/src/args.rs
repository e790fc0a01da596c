//! Evaluating arguments in the order, and with the type checks in between, that the language prescribes.
//!
//! The machine evaluates the strict arguments of a builtin from left to right and looks at no types. Where the
//! order differs, or where an argument of the wrong type has to be reported before the next one is
//! evaluated, a builtin asks here.

use nivis_eval::{Activation, Error, Machine, Result, SourceSpan, Step, Type, Value};

/// What an argument has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Anything.
    Any,
    /// An integer.
    Int,
    /// A string without context.
    PlainString,
    /// A list.
    List,
    /// A set.
    Attrs,
    /// A function, or a set with `__functor`.
    Function,
}

/// Checks an evaluated value.
///
/// # Errors
/// When it is something else.
pub(crate) fn check(m: &Machine, want: Want, v: Value) -> Result<()> {
    match want {
        Want::Any => Ok(()),
        Want::Int => m.want_int(v).map(drop),
        Want::PlainString => m.want_plain_string(v).map(drop),
        Want::List => m.want_list(v).map(drop),
        Want::Attrs => m.want_attrs(v).map(drop),
        Want::Function if m.is_callable(v) => Ok(()),
        Want::Function => Err(m.expected(Type::Function, v)),
    }
}

/// Checks arguments in the given order; the step to take first, if one is not evaluated yet. To be called
/// again after that step. `arity` is the number of locals to keep.
///
/// # Errors
/// When an argument is of the wrong type.
pub(crate) fn arguments(
    m: &mut Machine,
    a: &Activation,
    arity: usize,
    wanted: &[(usize, Want)],
) -> Result<Option<Step>> {
    m.truncate_locals(a, arity);
    for &(index, want) in wanted {
        let v = m.local(a, index);
        if v.is_thunk() {
            return Ok(Some(Step::Force(v)));
        }
        check(m, want, v)?;
    }
    Ok(None)
}

/// The error of a list or string index, size or the like.
#[cold]
pub(crate) fn other(message: impl Into<String>) -> Error {
    Error::other(message)
}

/// Adds to an error, or not, what of a builtin's arguments it is about.
pub(crate) trait About<T> {
    /// The same result; an error says in its trace what was being looked at.
    fn about(self, what: &str) -> Result<T>;
}

impl<T> About<T> for Result<T> {
    fn about(self, what: &str) -> Result<T> {
        self.map_err(|e| e.context(what, SourceSpan::default(), false))
    }
}
