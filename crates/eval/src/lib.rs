//! A lazy evaluator for the Nix language.
//!
//! **What it does.** It compiles the syntax of [`nivis_syntax`] to code, and runs that on a machine with a heap of
//! its own: thunks, functions, attribute sets with shapes, strings with contexts. Native functions are
//! added through [`native`]; this crate itself brings none but the operators.
//!
//! **What it refuses to do.** It does no I/O: files, environment, time and store are reached through
//! [`host::Host`]. It never recurses on the host's stack in evaluation: deep programs end in an error.
//! It keeps nothing global: machines live side by side. It knows no store path, hash or derivation.
//!
//! **How data flows.** Text → [`nivis_syntax::parse`] → arena syntax tree → `compile` → ops in a program → a thunk
//! for the file → [`machine::Machine::force`] → values, which [`mod@print`] and the builtins read. Errors come
//! back as [`error::Error`] with positions that [`position::SourceMap`] resolves.

pub mod calls;
pub mod context;
pub mod error;
pub mod heap;
pub mod host;
pub mod lint;
pub mod machine;
pub mod native;
pub mod ops;
pub mod own;
pub mod position;
pub mod print;
pub mod signature;
mod spans;
pub mod symbol;
pub mod value;

mod build;
mod code;
mod compile;
mod suggest;
mod trace;

pub use error::{Error, ErrorKind, Result};
pub use heap::{AttrsRef, FunctionRef, InOrder, ListRef, StringRef};
pub use host::{AddPath, FileType, Host, Note};
pub use machine::{CancelToken, Machine, Settings};
pub use native::{Activation, Body, Builtin, Step};
pub use position::{Origin, PosId, SourceSpan};
pub use symbol::Symbol;
pub use value::{Type, Value};
