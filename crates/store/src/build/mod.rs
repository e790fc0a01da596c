//! Building derivations in a sandbox.
//!
//! [`Builder`] is asked to [`build`](Builder::build) outputs of derivations. It finds out what is missing, builds
//! that in the order in which things need each other, several at a time, and registers the outputs with the store.
//! What happens meanwhile goes to an [`Observer`]; what became of each request is in the [`BuildReport`].
//!
//! How data flows, each step in a module of its own: `schedule` walks derivations as a graph and hands those
//! whose inputs are there to threads as jobs; `job` takes locks, prepares folders, `environment` what the builder is
//! told; `sandbox` starts it, `run` watches it, `log` keeps what it prints; `outputs` hashes what it has made,
//! finds references (`scan`), applies `checks`, and makes it valid. `builtins` are the builders that run in this
//! process.
//!
//! What it refuses to do: build on other machines, substitute, and let builders talk to the store.

mod builtins;
mod checks;
mod environment;
mod execute;
mod hooks;
mod job;
mod log;
mod options;
mod outputs;
mod places;
mod request;
mod resolve;
mod run;
mod sandbox;
mod scan;
mod schedule;
mod settings;
mod tree;
mod users;

pub use crate::events::{
    self, Activity, ActivityKind, Event, Field, Level, Observer, ResultKind, Silent,
};
pub use log::{log_path, open_log};
pub use options::{AllOutputChecks, AllowedRef, DerivationOptions, OutputChecks};
pub use request::{
    BuildMode, BuildReport, BuildRequest, BuildResult, BuildStatus, DrvRef, FailureClasses, Outputs,
};
pub use scan::{ReferenceScanner, Rewriter, Rewrites};
pub use settings::{BuildSettings, ExternalBuilder, SandboxMode, SandboxPath};

use crate::derivation::Derivation;
use crate::error::{Error, ErrorKind, Result};
use crate::local::{AutoGc, LocalStore, Optimising};
use crate::store_path::StorePath;
use nix::fcntl::{Flock, FlockArg};
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak, mpsc};
use std::time::Duration;

/// Why something was not built.
#[derive(Debug, Clone)]
struct Failed {
    status: BuildStatus,
    message: String,
}

impl Failed {
    fn new(status: BuildStatus, message: impl Into<String>) -> Failed {
        Failed {
            status,
            message: message.into(),
        }
    }

    fn cancelled() -> Failed {
        Failed::new(BuildStatus::Cancelled, "interrupted by the user")
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let status = match error.kind() {
            ErrorKind::Cancelled => BuildStatus::Cancelled,
            _ => BuildStatus::MiscFailure,
        };
        Failed::new(status, error.to_string())
    }
}

/// Ends builds; clones end the same ones.
#[derive(Clone)]
pub struct CancelHandle(Arc<Calls>);

impl CancelHandle {
    /// Kills all builders; [`Builder::build`] returns soon after. Later calls of it return at once.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls.iter().filter_map(Weak::upgrade) {
            call.cancel();
        }
    }
}

/// The calls of a builder that are under way.
#[derive(Default)]
struct Calls {
    cancelled: AtomicBool,
    calls: Mutex<Vec<Weak<Cancel>>>,
}

impl Calls {
    fn begin(&self) -> Arc<Cancel> {
        let cancel = Arc::new(Cancel::new());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(&cancel));
        drop(calls);
        if self.cancelled.load(Ordering::SeqCst) {
            cancel.cancel();
        }
        cancel
    }
}

/// A flag that can be polled together with a builder's output.
struct Cancel {
    flag: AtomicBool,
    /// Closing the one end makes the other readable, for everybody and for ever. Without it (when there are no
    /// descriptors left) the flag is looked at from time to time.
    pipe: Option<(PipeReader, Mutex<Option<PipeWriter>>)>,
}

impl Cancel {
    fn new() -> Cancel {
        Cancel {
            flag: AtomicBool::new(false),
            pipe: std::io::pipe()
                .ok()
                .map(|(reader, writer)| (reader, Mutex::new(Some(writer)))),
        }
    }

    fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        if let Some((_, writer)) = &self.pipe {
            writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|(reader, _)| reader.as_fd())
    }

    /// Waits so long, or until somebody cancels.
    fn wait(&self, time: Duration) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds: Vec<PollFd<'_>> = self
            .fd()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .into_iter()
            .collect();
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        // A signal ends it early, which does not matter.
        let _ = poll(&mut fds, timeout);
    }
}

/// What all builds of a call have in common.
struct Shared {
    store: Arc<LocalStore>,
    settings: BuildSettings,
    observer: Arc<dyn Observer>,
    /// Ends everything.
    cancel: Arc<Cancel>,
    /// The activity that builds are part of.
    activity: events::ActivityId,
    sandbox: Arc<OnceLock<sandbox::Support>>,
    /// Whether contents of paths are undamaged, as far as that was looked at.
    good: Mutex<HashMap<StorePath, bool>>,
    /// Whether folders that were left behind have been removed.
    cleaned: Arc<OnceLock<()>>,
}

static NEXT_DIR: AtomicU64 = AtomicU64::new(0);

/// How names of builds' folders begin: scripts look for `nix-*`, but those of C++ Nix have no locks.
const BUILD_DIR: &str = "nix-nivis-";

/// What precedes that as long as there is no lock.
const UNLOCKED: &str = "new-";

/// Removes folders of builds whose process was killed. Nothing depends on whether that succeeds.
fn remove_stale(parent: &Path) {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    let user = nix::unistd::geteuid();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let name = name.strip_prefix(UNLOCKED.as_bytes()).unwrap_or(name);
        if !name.starts_with(BUILD_DIR.as_bytes()) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        // Those that are kept for people to look at have other modes.
        let ours = user.is_root() || meta.uid() == user.as_raw();
        if !meta.is_dir() || !ours || meta.permissions().mode() & 0o777 != 0o700 {
            continue;
        }
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(entry.path());
        if let Ok(dir) = opened
            && let Ok(_lock) = Flock::lock(dir, FlockArg::LockExclusiveNonblock)
        {
            let _ = crate::local::delete(&entry.path());
        }
    }
}

impl Shared {
    /// Whether this machine has what sandboxes need; tried once.
    fn sandbox_support(&self) -> sandbox::Support {
        *self.sandbox.get_or_init(sandbox::supported)
    }

    /// Whether the contents of a valid path are there and as they were registered.
    fn contents_good(&self, path: &StorePath) -> Result<bool> {
        let lock = || self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(good) = lock().get(path) {
            return Ok(*good);
        }
        let text = self.store.print(path);
        self.observer
            .message(Level::Info, format!("checking path '{text}'..."));
        let good =
            tree::exists(&self.store.real_path(path)) && self.store.check_contents(path)?.is_none();
        if !good {
            self.observer
                .finding(format!("path '{text}' is corrupted or missing!"));
        }
        lock().insert(path.clone(), good);
        Ok(good)
    }

    fn mark_good(&self, path: &StorePath) {
        self.good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.clone(), true);
    }

    fn optimise(&self, path: &Path) -> Result<(), Failed> {
        let mut state = Optimising::default();
        Ok(self.store.optimise_path(path, &mut state, false)?)
    }

    /// Warns of a failure that is no reason to stop.
    fn tell_warning(&self, result: Result<()>) {
        if let Err(e) = result {
            self.observer.message(Level::Warn, e.to_string());
        }
    }

    /// A new folder that only its owner may enter, and a lock that says that it is in use. Those that processes which
    /// were killed have left behind are removed, once.
    fn make_temp_dir(&self, parent: &Path) -> Result<(PathBuf, Flock<File>)> {
        self.cleaned.get_or_init(|| remove_stale(parent));
        let process = std::process::id();
        loop {
            let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
            let name = format!("{BUILD_DIR}{process}-{number}");
            let path = parent.join(&name);
            // Locked before it has its name, so that nobody takes it for one that was left behind.
            let unlocked = parent.join(format!("{UNLOCKED}{name}"));
            let fail = |e| Error::io(format_args!("creating directory '{}'", path.display()), e);
            match DirBuilder::new().mode(0o700).create(&unlocked) {
                Ok(()) => {}
                // One that a process with the same number has left behind.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(fail(e)),
            }
            let lock = || -> std::io::Result<Flock<File>> {
                let dir = File::open(&unlocked)?;
                let lock = Flock::lock(dir, FlockArg::LockExclusiveNonblock)
                    .map_err(|(_, e)| std::io::Error::from(e))?;
                std::fs::rename(&unlocked, &path)?;
                Ok(lock)
            };
            match lock() {
                Ok(lock) => return Ok((path, lock)),
                // Somebody who removes what was left behind was faster, or there is a folder of a process with the same
                // number, kept for people to look at.
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound
                            | std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::AlreadyExists
                            | std::io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    let _ = std::fs::remove_dir(&unlocked);
                }
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// The part of an error that lists the outputs of what was not built.
    fn known_outputs(&self, drv: &Derivation) -> String {
        let Ok(paths) = drv.output_paths(self.store.store_dir()) else {
            return String::new();
        };
        let mut paths: Vec<StorePath> = paths.into_values().flatten().collect();
        paths.sort();
        if paths.is_empty() {
            return String::new();
        }
        let list: Vec<String> = paths
            .iter()
            .map(|path| format!("\n  {}", self.store.print(path)))
            .collect();
        format!("\nOutput paths:{}", list.concat())
    }

    /// Collects garbage when the disk is getting full (`min-free`), unless somebody does already.
    fn collect_if_full(&self) -> Result<()> {
        self.store.auto_gc(
            &AutoGc {
                min_free: self.settings.min_free,
                max_free: self.settings.max_free,
                check_interval: self.settings.min_free_check_interval,
                free_space_file: self.settings.free_space_file.clone(),
            },
            false,
        )
    }

    /// Looks after free space until the other end is dropped. Builders may fill the disk at any time.
    fn watch_free_space(&self, stop: &mpsc::Receiver<()>) {
        let interval = self.settings.min_free_check_interval;
        let interval = interval.max(Duration::from_millis(100));
        while stop.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.tell_warning(self.collect_if_full());
        }
    }
}

/// What the system says about an error, without the number.
fn os_message(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

/// Builds derivations for a store.
///
/// One `Builder` may be asked several times, also from several threads.
pub struct Builder {
    store: Arc<LocalStore>,
    settings: BuildSettings,
    observer: Arc<dyn Observer>,
    calls: Arc<Calls>,
    sandbox: Arc<OnceLock<sandbox::Support>>,
    cleaned: Arc<OnceLock<()>>,
}

impl Builder {
    /// A builder for a store.
    pub fn new(
        store: Arc<LocalStore>,
        settings: BuildSettings,
        observer: Arc<dyn Observer>,
    ) -> Builder {
        Builder {
            store,
            settings,
            observer,
            calls: Arc::default(),
            sandbox: Arc::default(),
            cleaned: Arc::default(),
        }
    }

    /// A handle that ends everything that is being built.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(self.calls.clone())
    }

    /// Builds what is missing of the requests, or checks or repairs them.
    ///
    /// Errors of dependencies are told to the observer as they happen; with several failed requests so are theirs.
    /// The error of a single failed request is in its result only.
    pub fn build(&self, requests: &[BuildRequest], mode: BuildMode) -> BuildReport {
        let report = self.build_quietly(requests, mode);
        self.tell_failures(&report);
        report
    }

    /// As [`Builder::build`], but the errors of failed requests are in their results only, however many there are.
    pub fn build_quietly(&self, requests: &[BuildRequest], mode: BuildMode) -> BuildReport {
        let _realise = Activity::start(
            &self.observer,
            0,
            Level::Error,
            ActivityKind::Realise,
            "",
            Vec::new(),
        );
        let builds = Activity::start(
            &self.observer,
            0,
            Level::Error,
            ActivityKind::Builds,
            "",
            Vec::new(),
        );
        let shared = Shared {
            store: self.store.clone(),
            settings: self.settings.clone(),
            observer: self.observer.clone(),
            cancel: self.calls.begin(),
            // As in Nix, builds have no parent in the log.
            activity: 0,
            sandbox: self.sandbox.clone(),
            cleaned: self.cleaned.clone(),
            good: Mutex::default(),
        };
        std::thread::scope(|scope| {
            let (stop, stopped) = mpsc::channel();
            if self.settings.min_free > 0 {
                scope.spawn(|| {
                    let stopped = stopped;
                    shared.watch_free_space(&stopped);
                });
            }
            let report = schedule::build(&shared, &builds, requests, mode);
            drop(stop);
            report
        })
    }

    /// With one failed request its message is the error of the whole; with more, the error only lists them.
    fn tell_failures(&self, report: &BuildReport) {
        let failed = || report.results.iter().filter(|r| !r.status.is_success());
        if failed().count() < 2 {
            return;
        }
        let mut told: Vec<&str> = Vec::new();
        for result in failed() {
            if !result.message.is_empty() && !told.contains(&result.message.as_str()) {
                told.push(&result.message);
                self.observer.message(Level::Error, result.message.as_str());
            }
        }
    }
}
