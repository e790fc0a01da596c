//! Collecting garbage: deleting what no root needs, while others go on working.
//!
//! The collector holds `gc.lock` exclusively, so only one runs at a time, and listens on a socket for
//! roots that others add meanwhile. It reads the graph of all valid paths once and marks what roots
//! reach. What is not marked is deleted, referrers first, in batches:
//!
//! 1. Under a mutex, paths of the batch that were marked meanwhile are left out, and the rest is noted as
//!    being deleted. From now on, whoever adds one of these as a root waits.
//! 2. The batch becomes invalid in one transaction, which is on disk when it ends. The database itself
//!    refuses to forget a path that others, registered in the meantime, refer to.
//! 3. The files are deleted. Whoever waits may go on: the path is not there any more.
//!
//! A root that comes in while collecting marks all that it reaches in the graph. Paths that became valid
//! after the graph was read need no marks: they are never deleted, and what they refer to is kept by the
//! roots of whoever made them.
//!
//! Being killed at any moment leaves paths that are not valid, and these are garbage for the next time.

use super::LocalStore;
use super::db::{self, db_error};
use super::gc_graph::Graph;
use super::gc_socket::{RootsServer, SOCKET};
use super::locks::{LockKind, lock_file, open_lock_file};
use super::query::id_of;
use super::register::delete_row;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Level;
use crate::hash::nix32;
use crate::store_path::{HASH_PART_LEN, StorePath};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcAction {
    /// Nothing: tell what is alive.
    ReturnLive,
    /// Nothing: tell what is dead.
    ReturnDead,
    /// All that is dead.
    DeleteDead,
    /// Just these paths; an error if one of them is alive, or has referrers that are not among them.
    DeleteSpecific(BTreeSet<StorePath>),
}

/// Moments of a collection at which [`GcOptions::stage`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcStage {
    /// The lock is held; nobody listens for roots yet.
    Locked,
    /// All roots are known, nothing was deleted yet.
    RootsFound,
}

/// Called at some moments of a collection.
pub type StageHook = Arc<dyn Fn(GcStage) + Send + Sync>;

/// How to collect.
#[derive(Clone)]
pub struct GcOptions {
    /// What to do.
    pub action: GcAction,
    /// Whether roots do not matter. Referrers still do.
    pub ignore_liveness: bool,
    /// Stop once more than this many bytes were freed.
    pub max_freed: u64,
    /// Whether to wait while others keep collectors away: by collecting themselves, or by verifying. If not, an error
    /// of kind [`Busy`](ErrorKind::Busy).
    pub wait: bool,
    /// Called at some moments, for those who have to wait for them.
    pub stage: Option<StageHook>,
}

impl Default for GcOptions {
    fn default() -> GcOptions {
        GcOptions {
            action: GcAction::DeleteDead,
            ignore_liveness: false,
            max_freed: u64::MAX,
            wait: true,
            stage: None,
        }
    }
}

/// What a collection has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcResults {
    /// What was deleted, or is alive or dead, as whole paths.
    pub paths: BTreeSet<String>,
    /// Bytes that deleting freed, about: a file with one other link counts.
    pub bytes_freed: u64,
}

/// How many paths become invalid with one write to the disk.
const BATCH: usize = 64;

/// What the collector shares with those who listen for roots.
pub(super) struct Shared {
    state: Mutex<State>,
    deleted: Condvar,
}

#[derive(Default)]
struct State {
    /// Set once the graph was read.
    graph: Option<Arc<Graph>>,
    alive: Vec<bool>,
    /// Hash parts of temporary roots: what is beside a path (its lock, its sandbox) has the same one.
    temporary: HashSet<String>,
    /// Hash parts of paths that are being deleted.
    pending: HashSet<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a path a root. When this returns, it is either there to stay, or gone.
    pub(super) fn add_root(&self, path: &StorePath) {
        let mut state = self.lock();
        state.add_root(path);
        while state.pending.contains(path.hash_part()) {
            state = self
                .deleted
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self, hash_part: &str) {
        self.lock().pending.remove(hash_part);
        self.deleted.notify_all();
    }
}

impl State {
    fn add_root(&mut self, path: &StorePath) {
        self.temporary.insert(path.hash_part().to_owned());
        if let Some(graph) = &self.graph
            && let Some(&at) = graph.index.get(path)
        {
            graph.mark(at, &mut self.alive);
        }
    }
}

/// Frees those who wait for a batch, however its deletion ends.
struct Pending<'s> {
    shared: &'s Shared,
    hash_parts: Vec<String>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        for hash_part in &self.hash_parts {
            state.pending.remove(hash_part);
        }
        drop(state);
        self.shared.deleted.notify_all();
    }
}

/// Why a collection ends early.
enum Stop {
    LimitReached,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Failed(e)
    }
}

impl LocalStore {
    /// Deletes garbage, or tells what is garbage, as the options say.
    ///
    /// Others may add paths and build meanwhile, in this process and in others. Waits for another
    /// collection to end.
    pub fn collect_garbage(&self, options: &GcOptions) -> Result<GcResults> {
        self.check_writable()?;
        let deletes = !matches!(options.action, GcAction::ReturnLive | GcAction::ReturnDead);
        let _lock = self.lock_collector(LockKind::Exclusive, options.wait)?;
        if deletes {
            // Space that was set aside for the database to be writable now.
            let _ = std::fs::remove_file(self.config.state_dir.join("db/reserved"));
        }
        let stage = |stage| {
            if let Some(hook) = &options.stage {
                hook(stage);
            }
        };
        stage(GcStage::Locked);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            deleted: Condvar::new(),
        });
        let socket = self.config.state_dir.join(SOCKET);
        let _server = RootsServer::start(&socket, self.store_dir(), &shared)?;
        self.say(Level::Info, "finding garbage collector roots...");
        // In this order: a process may make a lasting root or register what refers to its temporary roots,
        // and exit, at any moment in between.
        let temporary: BTreeSet<StorePath> = self.find_temp_roots(true)?.into_keys().collect();
        let mut roots = BTreeSet::new();
        if !options.ignore_liveness {
            roots.extend(self.find_lasting_roots(true)?.into_keys());
        }
        let graph = Arc::new(self.read_graph(options)?);
        {
            let mut state = shared.lock();
            state.alive = vec![false; graph.paths.len()];
            for root in &roots {
                if let Some(&at) = graph.index.get(root) {
                    graph.mark(at, &mut state.alive);
                }
            }
            // Roots that came in before the graph was known.
            let early: Vec<usize> = graph
                .index
                .iter()
                .filter(|(path, _)| state.temporary.contains(path.hash_part()))
                .map(|(_, &at)| at)
                .collect();
            for at in early {
                graph.mark(at, &mut state.alive);
            }
            state.graph = Some(graph.clone());
            for root in &temporary {
                state.add_root(root);
            }
        }
        stage(GcStage::RootsFound);
        let mut collection = Collection {
            store: self,
            options,
            shared: &shared,
            graph: &graph,
            results: GcResults::default(),
        };
        let result = match &options.action {
            GcAction::ReturnLive => {
                self.say(Level::Info, "determining live/dead paths...");
                let state = shared.lock();
                let live = |(at, path): (usize, &StorePath)| {
                    (state.alive.get(at) == Some(&true)).then(|| self.print(path))
                };
                let live = graph.paths.iter().enumerate().filter_map(live).collect();
                drop(state);
                collection.results.paths = live;
                Ok(())
            }
            GcAction::ReturnDead => collection.tell_dead(),
            GcAction::DeleteDead if options.max_freed == 0 => Ok(()),
            GcAction::DeleteDead => {
                self.say(Level::Info, "deleting garbage...");
                collection.delete_dead()
            }
            GcAction::DeleteSpecific(paths) => collection.delete_specific(paths),
        };
        let results = collection.results;
        match result {
            Ok(()) | Err(Stop::LimitReached) => {}
            Err(Stop::Failed(e)) => return Err(e),
        }
        if deletes {
            self.delete_unused_links()?;
        }
        Ok(results)
    }

    /// The lock that collectors hold, and in its shared form those who need that none runs.
    pub(super) fn lock_collector(&self, kind: LockKind, wait: bool) -> Result<File> {
        let lock = open_lock_file(&self.config.state_dir.join("gc.lock"))?;
        // Whoever adds a root has it for a moment, which is not worth a word.
        for _ in 0..10 {
            if lock_file(&lock, kind, false)? {
                return Ok(lock);
            }
            if wait {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if !wait {
            return Err(Error::new(
                ErrorKind::Busy,
                "somebody else holds the big garbage collector lock",
            ));
        }
        self.say(Level::Info, "waiting for the big garbage collector lock...");
        lock_file(&lock, kind, true)?;
        Ok(lock)
    }

    /// Removes files from `.links` that nothing else links to.
    ///
    /// Somebody may link to one just between looking and removing: their file stays, and only the next
    /// equal one is not linked to it.
    fn delete_unused_links(&self) -> Result<()> {
        self.say(Level::Info, "deleting unused links...");
        let dir = self.config.real_store_dir.join(".links");
        let fail = |e| Error::io(format_args!("reading directory '{}'", dir.display()), e);
        let (mut actual, mut unshared) = (0i128, 0i128);
        for entry in std::fs::read_dir(&dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Ok(meta) = path.symlink_metadata() else {
                continue;
            };
            if meta.nlink() != 1 {
                actual += i128::from(meta.len());
                unshared += (i128::from(meta.nlink()) - 1) * i128::from(meta.len());
                continue;
            }
            self.say(
                Level::Talkative,
                format!("deleting unused link '{}'", path.display()),
            );
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format_args!("deleting '{}'", path.display()), e));
                }
                _ => {}
            }
        }
        let overhead = dir.metadata().map_err(fail)?.blocks() * 512;
        let saved = unshared - actual - i128::from(overhead);
        self.say(
            Level::Info,
            format!(
                "note: hard linking is currently saving {}",
                render_size(saved)
            ),
        );
        Ok(())
    }
}

/// A size for people, as `1.5 MiB`. Bytes are shown as `0.1 KiB`.
pub fn render_size(bytes: i128) -> String {
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 'K';
    for next in ['M', 'G', 'T', 'P', 'E', 'Z', 'Y'] {
        if value.abs() < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}iB")
}

/// The hash part that a name begins with, if it does.
fn hash_part_of(name: &[u8]) -> Option<&str> {
    let (digits, rest) = name.split_at_checked(HASH_PART_LEN)?;
    let digits = digits
        .iter()
        .all(|b| nix32::is_digit(*b))
        .then_some(digits)?;
    rest.starts_with(b"-").then_some(())?;
    std::str::from_utf8(digits).ok()
}

struct Collection<'c> {
    store: &'c LocalStore,
    options: &'c GcOptions,
    shared: &'c Shared,
    graph: &'c Graph,
    results: GcResults,
}

impl Collection<'_> {
    /// Valid dead paths, referrers before what they refer to.
    fn dead_in_order(&self) -> Result<Vec<StorePath>> {
        let dead: BTreeSet<StorePath> = {
            let state = self.shared.lock();
            let is_dead = |at: usize, path: &StorePath| {
                state.alive.get(at) == Some(&false) && !state.temporary.contains(path.hash_part())
            };
            self.graph
                .paths
                .iter()
                .enumerate()
                .filter(|(at, path)| is_dead(*at, path))
                .map(|(_, path)| path.clone())
                .collect()
        };
        let mut sorted = self.sorted(&dead)?;
        sorted.reverse();
        Ok(sorted)
    }

    fn sorted(&self, paths: &BTreeSet<StorePath>) -> Result<Vec<StorePath>> {
        self.store.sort_by_references(paths, |path| {
            self.graph
                .index
                .get(path)
                .and_then(|&at| self.graph.references.get(at))
                .into_iter()
                .flatten()
                .filter_map(|&to| self.graph.paths.get(to).cloned())
        })
    }

    /// What is in the store folder and not valid: store paths, and other names.
    fn strays(&self) -> Result<(BTreeSet<StorePath>, Vec<std::ffi::OsString>)> {
        let dir = &self.store.config.real_store_dir;
        let fail = |e| Error::io(format_args!("reading directory '{}'", dir.display()), e);
        let (mut paths, mut others) = (BTreeSet::new(), Vec::new());
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if name == ".links" {
                continue;
            }
            match StorePath::from_base_name(name.as_bytes()) {
                Ok(path) if self.graph.index.contains_key(&path) => {}
                Ok(path) => {
                    paths.insert(path);
                }
                Err(_) => others.push(name),
            }
        }
        Ok((paths, others))
    }

    fn tell_dead(&mut self) -> Result<(), Stop> {
        self.store
            .say(Level::Info, "determining live/dead paths...");
        let (strays, _) = self.strays()?;
        let dead = self.dead_in_order()?;
        let state = self.shared.lock();
        self.results.paths = dead
            .iter()
            .chain(
                strays
                    .iter()
                    .filter(|path| !state.temporary.contains(path.hash_part())),
            )
            .map(|path| self.store.print(path))
            .collect();
        Ok(())
    }

    fn delete_dead(&mut self) -> Result<(), Stop> {
        // What is not valid goes first: it is garbage for certain, whoever needs the rest.
        let (strays, others) = self.strays()?;
        for name in others {
            self.delete_other(&name)?;
        }
        let strays: Vec<StorePath> = strays.into_iter().collect();
        self.delete_all(&strays, false)?;
        let dead = self.dead_in_order()?;
        self.delete_all(&dead, true)
    }

    fn delete_specific(&mut self, paths: &BTreeSet<StorePath>) -> Result<(), Stop> {
        let alive = |path: &StorePath| {
            Stop::Failed(Error::new(
                ErrorKind::InUse,
                format!(
                    "Cannot delete path '{}' since it is still alive. To find out why, use: nix-store --query --roots and nix-store --query --referrers",
                    self.store.print(path)
                ),
            ))
        };
        // Referrers that are not to be deleted keep a path, and so does what they keep.
        {
            let mut state = self.shared.lock();
            for (at, path) in self.graph.paths.iter().enumerate() {
                let refers_to = |to: &usize| {
                    self.graph
                        .paths
                        .get(*to)
                        .is_some_and(|to| paths.contains(to))
                };
                let edges = [&self.graph.references, &self.graph.keeps];
                if !paths.contains(path)
                    && edges
                        .iter()
                        .any(|edges| edges.get(at).into_iter().flatten().any(refers_to))
                {
                    self.graph.mark(at, &mut state.alive);
                }
            }
        }
        let mut order = self.sorted(paths)?;
        order.reverse();
        self.delete_all(&order, true)?;
        for path in paths {
            if !self.results.paths.contains(&self.store.print(path)) {
                return Err(alive(path));
            }
        }
        Ok(())
    }

    /// Deletes store paths in the given order, but for those that live. Without `valid`, also but for those
    /// that have become valid.
    fn delete_all(&mut self, paths: &[StorePath], valid: bool) -> Result<(), Stop> {
        // With a limit, no path must become invalid in vain.
        let batch = match self.options.max_freed {
            u64::MAX => BATCH,
            _ => 1,
        };
        for batch in paths.chunks(batch) {
            self.delete_batch(batch, valid)?;
        }
        Ok(())
    }

    fn delete_batch(&mut self, batch: &[StorePath], valid: bool) -> Result<(), Stop> {
        let mut batch: Vec<StorePath> = batch.to_vec();
        let pending = {
            let mut state = self.shared.lock();
            batch.retain(|path| {
                let alive = self
                    .graph
                    .index
                    .get(path)
                    .is_some_and(|&at| state.alive.get(at) == Some(&true));
                !alive && !state.temporary.contains(path.hash_part())
            });
            let hash_parts: Vec<String> = batch
                .iter()
                .map(|path| path.hash_part().to_owned())
                .collect();
            state.pending.extend(hash_parts.iter().cloned());
            Pending {
                shared: self.shared,
                hash_parts,
            }
        };
        self.invalidate_batch(&mut batch, valid)?;
        for path in &batch {
            self.delete_files(&self.store.print(path), &self.store.real_path(path), true)?;
            self.shared.release(path.hash_part());
        }
        drop(pending);
        Ok(())
    }

    /// Makes paths invalid, in order. Those that others refer to are taken out of the batch.
    fn invalidate_batch(&self, batch: &mut Vec<StorePath>, valid: bool) -> Result<()> {
        let store = self.store;
        let db = store.db();
        let mut kept = Vec::new();
        let what = "invalidating paths";
        // Deleting must not come to the disk before this does. With a limit, where each path is a batch,
        // that would take long; then it is as safe as registering.
        let durable = store.config.settings.fsync_metadata && self.options.max_freed == u64::MAX;
        if durable {
            db.pragma_update(None, "synchronous", "full")
                .map_err(db_error(what))?;
        }
        let result = db::write(&db, what, |db| {
            for path in batch.iter() {
                let text = store.print(path);
                if id_of(db, &text)?.is_none() {
                    continue;
                }
                let mut referrers = super::query::referrers_of(db, &text)?;
                referrers.retain(|referrer| *referrer != text);
                match referrers.first() {
                    None if !valid => kept.push((path.clone(), text)),
                    None => delete_row(db, &text)?,
                    Some(referrer) => kept.push((path.clone(), referrer.clone())),
                }
            }
            Ok(())
        });
        if durable {
            db.pragma_update(None, "synchronous", "normal")
                .map_err(db_error(what))?;
        }
        result?;
        drop(db);
        for (path, referrer) in &kept {
            store.say(
                Level::Debug,
                format!(
                    "cannot delete path '{}' because it is in use by '{referrer}'",
                    store.print(path)
                ),
            );
        }
        batch.retain(|path| !kept.iter().any(|(kept, _)| kept == path));
        Ok(())
    }

    /// Deletes something that is no store path: left by a crash, or somebody's folder for the moment.
    fn delete_other(&mut self, name: &std::ffi::OsStr) -> Result<(), Stop> {
        let real = self.store.config.real_store_dir.join(name);
        // Something beside a path whose name is so long that with its suffix it is too long for one.
        let mut pending = None;
        if let Some(hash_part) = hash_part_of(name.as_bytes()) {
            let mut state = self.shared.lock();
            if state.temporary.contains(hash_part) {
                return Ok(());
            }
            state.pending.insert(hash_part.to_owned());
            pending = Some(Pending {
                shared: self.shared,
                hash_parts: vec![hash_part.to_owned()],
            });
        }
        let mut lock = None;
        if name.as_bytes().starts_with(b"tmp-") {
            // Whoever uses such a folder holds a lock on it.
            let opened = File::options()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
                .open(&real);
            match opened {
                Ok(dir) if lock_file(&dir, LockKind::Exclusive, false)? => lock = Some(dir),
                _ => return Ok(()),
            }
        }
        let path = format!("{}/{}", self.store.store_dir(), name.to_string_lossy());
        self.delete_files(&path, &real, false)?;
        drop((lock, pending));
        Ok(())
    }

    fn delete_files(
        &mut self,
        path: &str,
        real: &std::path::Path,
        known: bool,
    ) -> Result<(), Stop> {
        self.store.say(Level::Info, format!("deleting '{path}'"));
        self.results.paths.insert(path.to_owned());
        match super::files::delete(real) {
            Ok(freed) => self.results.bytes_freed += freed,
            Err(e) if self.store.config.settings.ignore_gc_delete_failure => self.store.say(
                Level::Warn,
                match known {
                    true => format!("ignoring failure to remove store path '{path}': {e}"),
                    false => format!(
                        "ignoring failure to remove garbage in store directory '{path}': {e}"
                    ),
                },
            ),
            Err(e) => return Err(e.into()),
        }
        if self.results.bytes_freed > self.options.max_freed {
            self.store.say(
                Level::Info,
                format!(
                    "deleted more than {} bytes; stopping",
                    self.options.max_freed
                ),
            );
            return Err(Stop::LimitReached);
        }
        Ok(())
    }
}
