//! nivis-syntax
pub mod ast;
