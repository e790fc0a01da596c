//! nivis: the Nix language as a Rust library.
pub mod diagnostic;
pub mod output;
pub mod packages;
pub mod render;
pub mod select;
pub mod stats;

pub use nivis_builtins as builtins;
pub use nivis_eval as eval;
pub use nivis_store as store;
pub use nivis_syntax as syntax;
