//! nivis-builtins
