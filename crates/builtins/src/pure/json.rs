//! JSON as `builtins.toJSON` and `builtins.fromJSON` write and read it, which is as nlohmann's C++ library does.
//!
//! Writing: [`write_string`], [`write_int`] and [`write_float`] append to a buffer; the walk over a value is the evaluator's.
//! Reading: [`Parser`] gives [`Event`]s one by one, so that neither side recurses.

mod number;
mod parse;
mod write;

pub use number::write_float;
pub use parse::{Event, Parser};
pub use write::{write_int, write_string};

#[cfg(test)]
mod tests;
