//! nivis-builtins: the functions that the Nix language calls `builtins`.
//!
//! What it does: [`pure`] holds the text and number machinery behind the builtins (regular
//! expressions, JSON, TOML, XML, versions, number and value formats), exact to C++ Nix 2.34 and
//! independent of the evaluator.
//!
//! What it refuses to do: no I/O and no store access of its own; files and the store are reached
//! through the evaluator's host.
//!
//! How data flows: bytes in, bytes (or ranges of the input, or events) out. Nix strings are byte
//! strings without an encoding, so nothing here requires UTF-8 unless the format does.
pub mod host;
pub mod pure;
mod purposes;

mod args;
mod attrs;
mod closure;
mod contexts;
mod control;
pub mod data;
mod derivations;
mod environment;
mod files;
mod functions;
mod hashing;
mod imported;
mod install;
mod lists;
mod numbers;
mod own;
mod scratch;
mod sort;
mod strings;
mod table;
mod types;

pub use environment::{CONSTANTS, Constant, NIX_VERSION};
pub use install::{install, tables};
