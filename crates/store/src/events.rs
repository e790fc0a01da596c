//! What happens during a build, as events for whoever shows it.
//!
//! The model is that of Nix's `internal-json` log format, so that a renderer of these events can print that
//! format and be read by monitors made for Nix: *activities* form a tree, start, yield results and stop;
//! messages stand beside them. Numbers of kinds and results are the protocol's.
//!
//! Builders call an [`Observer`] from several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How important a message or activity is; numbers as in the log protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something is suspicious.
    Warn = 1,
    /// Shown also with one `--quiet`.
    Notice = 2,
    /// Shown by default.
    Info = 3,
    /// `-v`
    Talkative = 4,
    /// `-vv`
    Chatty = 5,
    /// `-vvv` or `--debug`
    Debug = 6,
    /// `-vvvv`
    Vomit = 7,
}

/// What an activity does; numbers as in the log protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum ActivityKind {
    /// Anything else; the text says what.
    Unknown = 0,
    /// Fields: path, source, destination.
    CopyPath = 100,
    /// Fields: URI.
    FileTransfer = 101,
    /// Parent of whatever one request needs.
    Realise = 102,
    /// Parent of [`ActivityKind::CopyPath`].
    CopyPaths = 103,
    /// Parent of all builds; carries their progress.
    Builds = 104,
    /// One build. Fields: path of the derivation, machine (empty for this one), round and rounds (1 and 1).
    Build = 105,
    /// The store's files are hard-linked.
    OptimiseStore = 106,
    /// The store is verified.
    VerifyPaths = 107,
    /// Fields: path, URI.
    Substitute = 108,
    /// Fields: path, URI.
    QueryPathInfo = 109,
    /// Fields: path of the derivation.
    PostBuildHook = 110,
    /// A build waits for a lock or a machine.
    BuildWaiting = 111,
    /// A source tree is fetched.
    FetchTree = 112,
}

impl ActivityKind {
    /// The kind with a number of the protocol.
    pub fn from_number(number: u64) -> ActivityKind {
        use ActivityKind::*;
        const ALL: [ActivityKind; 14] = [
            Unknown,
            CopyPath,
            FileTransfer,
            Realise,
            CopyPaths,
            Builds,
            Build,
            OptimiseStore,
            VerifyPaths,
            Substitute,
            QueryPathInfo,
            PostBuildHook,
            BuildWaiting,
            FetchTree,
        ];
        ALL.into_iter()
            .find(|kind| *kind as u64 == number)
            .unwrap_or(Unknown)
    }
}

/// What an activity reports; numbers as in the log protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum ResultKind {
    /// Fields: bytes, blocks.
    FileLinked = 100,
    /// Fields: one line of a builder's output, without the newline.
    BuildLogLine = 101,
    /// Fields: path.
    UntrustedPath = 102,
    /// Fields: path.
    CorruptedPath = 103,
    /// Fields: name of the phase that a builder says it is in.
    SetPhase = 104,
    /// Fields: done, expected, running, failed.
    Progress = 105,
    /// Fields: number of an [`ActivityKind`], how many (or how much) are expected.
    SetExpected = 106,
    /// Fields: one line of output of the `post-build-hook`.
    PostBuildLogLine = 107,
    /// Fields: status of a fetch.
    FetchStatus = 108,
}

impl ResultKind {
    /// The kind with a number of the protocol.
    pub fn from_number(number: u64) -> Option<ResultKind> {
        use ResultKind::*;
        const ALL: [ResultKind; 9] = [
            FileLinked,
            BuildLogLine,
            UntrustedPath,
            CorruptedPath,
            SetPhase,
            Progress,
            SetExpected,
            PostBuildLogLine,
            FetchStatus,
        ];
        ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// One field of an activity or result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Int(u64),
    /// Text; builders' output is shown with invalid UTF-8 replaced.
    Text(String),
}

impl From<u64> for Field {
    fn from(number: u64) -> Field {
        Field::Int(number)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::Text(text)
    }
}

/// The number of an activity, unique within the process; 0 is "none".
pub type ActivityId = u64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An activity begins.
    Start {
        /// Its number.
        id: ActivityId,
        /// The activity that it is part of, or 0.
        parent: ActivityId,
        /// How important it is.
        level: Level,
        /// What it does.
        kind: ActivityKind,
        /// What it does, for people; may be empty.
        text: String,
        /// See [`ActivityKind`].
        fields: Vec<Field>,
    },
    /// An activity ends.
    Stop {
        /// Its number.
        id: ActivityId,
    },
    /// An activity reports.
    Result {
        /// Its number.
        id: ActivityId,
        /// What it reports.
        kind: ResultKind,
        /// See [`ResultKind`].
        fields: Vec<Field>,
    },
    /// A message. Errors and warnings lack the words `error:` and `warning:`, which renderers add (in
    /// colour). May have several lines.
    Message {
        /// How important it is.
        level: Level,
        /// What it says.
        text: String,
    },
    /// Something as important as an error that is not the failure of anything, such as a damaged path that was looked
    /// for: shown at every level, and without the word `error:`.
    Finding {
        /// What was found.
        text: String,
    },
}

/// Whoever wants to know what happens.
///
/// Called from several threads, in the order in which things happen on each. It should return soon: builders
/// wait for it.
pub trait Observer: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: Event);
}

/// An observer that takes no note.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number for a new activity: the process id in the upper half, a counter in the lower, as Nix numbers
/// them, so that logs of two processes can be merged.
pub fn new_activity_id() -> ActivityId {
    (u64::from(std::process::id()) << 32) + NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// A running activity; it stops when dropped.
pub struct Activity {
    observer: Arc<dyn Observer>,
    id: ActivityId,
}

impl Activity {
    /// Starts an activity.
    pub fn start(
        observer: &Arc<dyn Observer>,
        parent: ActivityId,
        level: Level,
        kind: ActivityKind,
        text: impl Into<String>,
        fields: Vec<Field>,
    ) -> Activity {
        let id = new_activity_id();
        observer.event(Event::Start {
            id,
            parent,
            level,
            kind,
            text: text.into(),
            fields,
        });
        Activity {
            observer: observer.clone(),
            id,
        }
    }

    /// Its number, to be the parent of others.
    pub fn id(&self) -> ActivityId {
        self.id
    }

    /// Reports something.
    pub fn result(&self, kind: ResultKind, fields: Vec<Field>) {
        self.observer.event(Event::Result {
            id: self.id,
            kind,
            fields,
        });
    }

    /// Reports how far it is.
    pub fn progress(&self, done: u64, expected: u64, running: u64, failed: u64) {
        self.result(
            ResultKind::Progress,
            [done, expected, running, failed].map(Field::Int).to_vec(),
        );
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.observer.event(Event::Stop { id: self.id });
    }
}

impl dyn Observer {
    /// Sends a message.
    pub fn message(&self, level: Level, text: impl Into<String>) {
        self.event(Event::Message {
            level,
            text: text.into(),
        });
    }

    /// Sends a finding.
    pub fn finding(&self, text: impl Into<String>) {
        self.event(Event::Finding { text: text.into() });
    }
}
