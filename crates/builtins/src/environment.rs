//! The world outside and constants.

use nivis_eval::Builtin;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[];
