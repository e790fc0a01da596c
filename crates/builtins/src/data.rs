//! JSON, TOML and XML.

use nivis_eval::Builtin;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[];
