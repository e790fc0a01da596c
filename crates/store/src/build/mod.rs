//! Building derivations in a sandbox.

pub mod events;
mod request;
mod settings;

pub use events::{Activity, ActivityKind, Event, Field, Level, Observer, ResultKind, Silent};
pub use request::{
    BuildMode, BuildReport, BuildRequest, BuildResult, BuildStatus, DrvRef, FailureClasses, Outputs,
};
pub use settings::{BuildSettings, ExternalBuilder, SandboxMode, SandboxPath};
mod sandbox;
