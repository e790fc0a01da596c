//! Functions that need nothing but their arguments.
//!
//! Everything here works on bytes, never reads a clock, a file or the environment, keeps no global
//! state, and never recurses on the host stack in proportion to its input.

pub mod error;
pub mod float;
pub mod json;
pub mod path;
pub mod print;
pub mod regex;
pub mod replace;
pub mod toml;
pub mod version;
pub mod xml;

pub use error::{Error, ErrorKind};
