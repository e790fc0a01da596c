//! What is asked for, and what became of it.

use crate::derivation::OutputName;
use crate::error::{Error, ErrorKind};
use crate::store_path::{StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// A derivation: a file of the store, or an output that will be one (`dynamic-derivations`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrvRef {
    /// A `.drv` file.
    Path(StorePath),
    /// An output of another derivation.
    Output(Box<DrvRef>, OutputName),
}

impl DrvRef {
    /// The text form: `PATH^OUTPUT^OUTPUT…`.
    pub fn print(&self, store: &StoreDir) -> String {
        match self {
            DrvRef::Path(path) => store.print(path),
            DrvRef::Output(drv, output) => format!("{}^{output}", drv.print(store)),
        }
    }

    /// The `.drv` file that everything starts from.
    pub fn root(&self) -> &StorePath {
        match self {
            DrvRef::Path(path) => path,
            DrvRef::Output(drv, _) => drv.root(),
        }
    }
}

impl From<StorePath> for DrvRef {
    fn from(path: StorePath) -> DrvRef {
        DrvRef::Path(path)
    }
}

/// Which outputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outputs {
    /// All that the derivation has.
    All,
    /// These.
    Names(BTreeSet<OutputName>),
}

/// Something to build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildRequest {
    /// From which derivation.
    pub drv: DrvRef,
    /// Which of its outputs.
    pub outputs: Outputs,
}

impl BuildRequest {
    /// All outputs of a derivation.
    pub fn all(drv: impl Into<DrvRef>) -> BuildRequest {
        BuildRequest {
            drv: drv.into(),
            outputs: Outputs::All,
        }
    }

    /// Some outputs of a derivation.
    pub fn outputs<O: Into<OutputName>>(
        drv: impl Into<DrvRef>,
        outputs: impl IntoIterator<Item = O>,
    ) -> BuildRequest {
        BuildRequest {
            drv: drv.into(),
            outputs: Outputs::Names(outputs.into_iter().map(Into::into).collect()),
        }
    }

    /// The text form: `PATH^*` or `PATH^out,dev`.
    pub fn print(&self, store: &StoreDir) -> String {
        let drv = self.drv.print(store);
        match &self.outputs {
            Outputs::All => format!("{drv}^*"),
            Outputs::Names(names) => {
                let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                format!("{drv}^{}", names.join(","))
            }
        }
    }
}

/// What a build is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BuildMode {
    /// Make what is not valid yet.
    #[default]
    Normal,
    /// Make again what is damaged.
    Repair,
    /// Build again what is valid, and compare.
    Check,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildStatus {
    /// It was built now.
    Built,
    /// It was there.
    AlreadyValid,
    /// The builder failed.
    PermanentFailure,
    /// It cannot be built here.
    InputRejected,
    /// The builder succeeded, but what it made is not allowed.
    OutputRejected,
    /// It failed in a way that may pass.
    TransientFailure,
    /// It took too long, or was silent too long.
    TimedOut,
    /// Anything else.
    MiscFailure,
    /// Something that it needs was not built.
    DependencyFailed,
    /// The builder printed too much.
    LogLimitExceeded,
    /// Built again, the output differs.
    NotDeterministic,
    /// A fixed output has another hash than was said.
    HashMismatch,
    /// Somebody asked to stop, or something else failed before it began.
    Cancelled,
}

impl BuildStatus {
    /// Whether the outputs are there.
    pub fn is_success(self) -> bool {
        matches!(self, BuildStatus::Built | BuildStatus::AlreadyValid)
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct BuildResult {
    /// What was asked for.
    pub request: BuildRequest,
    /// How it ended.
    pub status: BuildStatus,
    /// What went wrong; empty if nothing did.
    pub message: String,
    /// The wanted outputs, if it succeeded.
    pub outputs: BTreeMap<OutputName, StorePath>,
    /// When the builder was started; `None` if it was not.
    pub start: Option<SystemTime>,
    /// When it ended.
    pub stop: Option<SystemTime>,
}

/// What became of all requests of a call.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// One for each request, in their order.
    pub results: Vec<BuildResult>,
    /// Which classes of failure there were, also among dependencies.
    pub failures: FailureClasses,
}

impl BuildReport {
    /// The outputs of all requests, or the error that Nix would report: with one failure its message,
    /// otherwise a list. Those of `results` that the message leaves out have been reported as events only
    /// if `keep_going` is set.
    #[expect(clippy::type_complexity, reason = "a list of pairs is plain enough")]
    pub fn into_outputs(
        self,
        store: &StoreDir,
    ) -> Result<Vec<(BuildRequest, BTreeMap<OutputName, StorePath>)>, Error> {
        let failed: Vec<&BuildResult> = self
            .results
            .iter()
            .filter(|result| !result.status.is_success())
            .collect();
        match failed.as_slice() {
            [] => Ok(self
                .results
                .into_iter()
                .map(|result| (result.request, result.outputs))
                .collect()),
            [only] => Err(Error::new(ErrorKind::Build, only.message.clone())),
            many => {
                let names: BTreeSet<String> = many
                    .iter()
                    .map(|result| format!("'{}'", result.request.drv.print(store)))
                    .collect();
                let names: Vec<String> = names.into_iter().collect();
                Err(Error::new(
                    ErrorKind::Build,
                    format!("build of {} failed", names.join(", ")),
                ))
            }
        }
    }
}

/// Classes of failure, from which the exit status of commands is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureClasses {
    /// A builder failed.
    pub permanent: bool,
    /// One took too long.
    pub timed_out: bool,
    /// A fixed output had another hash.
    pub hash_mismatch: bool,
    /// An output differed when built again.
    pub not_deterministic: bool,
}

impl FailureClasses {
    /// Takes note of how a build ended.
    pub fn add(&mut self, status: BuildStatus) {
        match status {
            BuildStatus::TimedOut => self.timed_out = true,
            BuildStatus::HashMismatch => self.hash_mismatch = true,
            BuildStatus::NotDeterministic => self.not_deterministic = true,
            BuildStatus::PermanentFailure | BuildStatus::InputRejected => self.permanent = true,
            _ => {}
        }
    }

    /// The exit status of a command that ends with these: 100 for failed builders, 101 for
    /// timeouts, 102 for wrong hashes, 104 for what is not deterministic, bits of these added up; 1 for
    /// anything else.
    pub fn exit_status(self) -> u8 {
        let mut mask = 0;
        if self.permanent || self.timed_out || self.hash_mismatch {
            mask |= 4;
        }
        if self.timed_out {
            mask |= 1;
        }
        if self.hash_mismatch {
            mask |= 2;
        }
        if self.not_deterministic {
            mask |= 8;
        }
        if mask == 0 { 1 } else { mask | 0x60 }
    }
}
