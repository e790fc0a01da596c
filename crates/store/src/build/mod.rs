//! Building derivations in a sandbox.

pub mod events;

pub use events::{Activity, ActivityKind, Event, Field, Level, Observer, ResultKind, Silent};
