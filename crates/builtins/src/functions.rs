//! Functions and their arguments.

use crate::table::leaf;
use nivis_eval::{Builtin, Error, Machine, Result, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[leaf(
    "functionArgs",
    &["f"],
    0b1,
    function_args,
    "Returns a set with the names of the attributes that `f` expects, each with whether it has a default. A function \
     whose parameter is a plain name, and a builtin, give the empty set. A set with `__functor` is an error.",
)];

fn function_args(m: &mut Machine, args: &[Value]) -> Result<Value> {
    match args[0].as_function() {
        Some(f) => Ok(m.function_args(f)),
        None => Err(Error::type_error("'functionArgs' requires a function")),
    }
}
