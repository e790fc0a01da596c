//! nivis: the Nix language as a Rust library.
//!
//! **What it does.** It evaluates Nix expressions from text or files ([`Evaluator`]), lets a program walk the values
//! lazily ([`Value`]) or convert them to and from its own types with serde, adds the program's functions to the
//! language ([`Builder::function`]), and reports errors as data ([`Diagnostic`]) or as text with source excerpts
//! ([`render`]).
//!
//! **What it refuses to do.** It fetches nothing, and builds nothing unless a program puts a store behind its host
//! (`keeper`, with the feature `machine`). It never panics on any program and does not
//! overflow the stack: limits end evaluation with an error. It keeps nothing global.
//!
//! **How data flows.** [`Builder`] makes a machine of [`eval`] with the functions of [`builtins`] and a
//! [`Host`]; text goes in through [`Evaluator::eval`], values come out as rooted handles, errors come out resolved
//! to files, lines and names, independent of the evaluator.
//!
//! ```
//! #[derive(serde::Deserialize)]
//! struct Server { host: String, port: u16 }
//!
//! # fn main() -> nivis::Result<()> {
//! let nix = nivis::Evaluator::builder()
//!     .function("double", "Doubles a number.", |n: u16| Ok::<_, String>(n * 2))
//!     .build()?;
//! let server: Server = nix.eval(r#"{ host = "local" + "host"; port = double 4000; }"#)?.to()?;
//! assert_eq!((server.host.as_str(), server.port), ("localhost", 8000));
//! # Ok(())
//! # }
//! ```

mod de;
pub mod diagnostic;
mod evaluator;
mod function;
#[cfg(feature = "machine")]
pub mod keeper;
pub mod output;
pub mod packages;
pub mod render;
pub mod select;
mod ser;
pub mod stats;
mod value;

pub use de::MAX_DEPTH;
pub use diagnostic::{Diagnostic, Error};
pub use evaluator::{Builder, Evaluator, Result};
pub use nivis_builtins::host::{MemoryHost, SystemHost};
pub use nivis_eval::{CancelToken, ErrorKind, Host, Settings, Type};
pub use value::Value;

pub use nivis_builtins as builtins;
pub use nivis_eval as eval;
pub use nivis_store as store;
pub use nivis_syntax as syntax;
