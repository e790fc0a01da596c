//! Looking whether the store is what the database says.

use super::db;
use super::locks::LockKind;
use super::register::delete_row;
use super::{LocalStore, PathInfo};
use crate::error::{Error, Result};
use crate::events::{Activity, ActivityKind, Field, Level, ResultKind};
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use crate::ingest::nar_hash;
use crate::nar::FileSystem;
use crate::store_path::StorePath;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// How many paths are hashed at a time, at most: more would only keep the disk from reading in order.
const MAX_THREADS: usize = 4;

/// What to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Hash all contents.
    pub check_contents: bool,
    /// Mend what is wrong: links are removed, paths made again.
    pub repair: bool,
}

/// Makes the contents of a path again: by building its deriver, say.
pub type Repair<'r> = &'r dyn Fn(&StorePath) -> Result<()>;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Paths that were valid but not there, and are no longer valid.
    pub removed: BTreeSet<StorePath>,
    /// Paths that are not there although others refer to them, or that were changed.
    pub damaged: BTreeSet<StorePath>,
    /// Damaged paths that were made again.
    pub repaired: BTreeSet<StorePath>,
    /// Number of files in `.links` that were changed.
    pub damaged_links: u64,
    /// Whether anything is wrong that was not mended.
    pub errors: bool,
}

impl VerifyReport {
    /// Whether all is well, or was mended.
    pub fn ok(&self) -> bool {
        !self.errors
    }
}

impl LocalStore {
    /// Compares the database with what is in the store folder: paths that have disappeared are removed
    /// from it, if nobody refers to them. On request, hashes contents, and has damaged paths made again
    /// by `repair`.
    ///
    /// What is wrong is told to the observer; an error is returned only if verifying itself fails.
    pub fn verify(&self, options: &VerifyOptions, repair: Option<Repair>) -> Result<VerifyReport> {
        self.check_writable()?;
        self.say(Level::Info, "reading the Nix store...");
        // No collector may run: what it deletes would seem to have disappeared.
        let _lock = self.lock_collector(LockKind::Shared, true)?;
        let mut verification = Verification {
            store: self,
            repair: repair.filter(|_| options.repair),
            mend: options.repair,
            report: VerifyReport::default(),
        };
        let valid = verification.existence()?;
        if options.check_contents {
            verification.links()?;
            verification.contents(&valid)?;
        }
        Ok(verification.report)
    }

    /// Hashes the contents of a valid path and tells the hash if it is not what it should be.
    pub fn check_contents(&self, path: &StorePath) -> Result<Option<Hash>> {
        let (info, hash, _) = self.contents_of(path)?;
        Ok((hash != info.nar_hash).then_some(hash))
    }

    /// What should be, and the hash and size of what is.
    fn contents_of(&self, path: &StorePath) -> Result<(PathInfo, Hash, u64)> {
        self.say(
            Level::Talkative,
            format!("checking contents of '{}'", self.print(path)),
        );
        let info = self.query_path_info(path)?;
        let node = FileSystem::node(self.real_path(path));
        let (hash, size) = nar_hash(&mut FileSystem, &node, HashAlgorithm::Sha256)?;
        Ok((info, hash, size))
    }
}

struct Verification<'v> {
    store: &'v LocalStore,
    repair: Option<Repair<'v>>,
    mend: bool,
    report: VerifyReport,
}

impl Verification<'_> {
    /// Looks for all valid paths in the store folder, and gives those that are there.
    fn existence(&mut self) -> Result<BTreeSet<StorePath>> {
        let store = self.store;
        let dir = &store.config.real_store_dir;
        let fail = |e| Error::io(format_args!("reading directory '{}'", dir.display()), e);
        // The database first: a path that becomes valid meanwhile is there before that.
        let all = store.query_all_valid()?;
        let mut there = BTreeSet::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if let Ok(path) = StorePath::from_base_name(name.as_bytes()) {
                there.insert(path);
            }
        }
        store.say(Level::Info, "checking path existence...");
        let missing: BTreeSet<StorePath> = all.difference(&there).cloned().collect();
        let mut valid: BTreeSet<StorePath> = all.intersection(&there).cloned().collect();
        // Referrers first: a path can only go after they are gone.
        let mut order = store.topo_sort(&missing)?;
        order.reverse();
        for path in order {
            let referrers = store.query_referrers(&path)?;
            let text = store.print(&path);
            if referrers.iter().all(|referrer| *referrer == path) {
                store.say(
                    Level::Info,
                    format!("path '{text}' disappeared, removing from database..."),
                );
                let db = store.db();
                db::write(&db, "invalidating a path", |db| delete_row(db, &text))?;
                self.report.removed.insert(path);
            } else {
                store.say(
                    Level::Error,
                    format!("path '{text}' disappeared, but it still has valid referrers!"),
                );
                if self.damaged(&path, Level::Warn) {
                    valid.insert(path);
                }
            }
        }
        Ok(valid)
    }

    /// Notes a damaged path and has it made again; `level` is how much it matters when that fails. Whether it was done.
    fn damaged(&mut self, path: &StorePath, level: Level) -> bool {
        self.report.damaged.insert(path.clone());
        let Some(repair) = self.repair else {
            self.report.errors = true;
            return false;
        };
        match repair(path) {
            Ok(()) => {
                self.report.repaired.insert(path.clone());
                true
            }
            Err(e) => {
                self.store.say(level, e.to_string());
                self.report.errors = true;
                false
            }
        }
    }

    fn links(&mut self) -> Result<()> {
        let store = self.store;
        store.say(Level::Info, "checking link hashes...");
        let dir = store.config.real_store_dir.join(".links");
        let fail = |e| Error::io(format_args!("reading directory '{}'", dir.display()), e);
        for entry in std::fs::read_dir(&dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let (path, name) = (entry.path(), entry.file_name());
            let (hash, _) = nar_hash(
                &mut FileSystem,
                &FileSystem::node(&path),
                HashAlgorithm::Sha256,
            )?;
            let hash = hash.encode(HashFormat::Nix32);
            if hash.as_bytes() == name.as_bytes() {
                continue;
            }
            store.observer().finding(format!(
                "link '{}' was modified! expected hash {}, got '{hash}'",
                path.display(),
                name.display()
            ));
            self.report.damaged_links += 1;
            if self.mend {
                std::fs::remove_file(&path)
                    .map_err(|e| Error::io(format_args!("removing '{}'", path.display()), e))?;
                store.say(Level::Info, format!("removed link '{}'", path.display()));
            } else {
                self.report.errors = true;
            }
        }
        Ok(())
    }

    fn contents(&mut self, paths: &BTreeSet<StorePath>) -> Result<()> {
        let store = self.store;
        store.say(Level::Info, "checking store hashes...");
        let observer = store.observer();
        let activity = Activity::start(
            &observer,
            0,
            Level::Info,
            ActivityKind::VerifyPaths,
            "",
            Vec::new(),
        );
        let all = paths.len() as u64;
        let paths: Vec<&StorePath> = paths.iter().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            for _ in 0..threads.min(MAX_THREADS) {
                let (send, paths, next) = (send.clone(), &paths, &next);
                scope.spawn(move || {
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if send.send((*path, store.contents_of(path))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            for (done, (path, found)) in receive.into_iter().enumerate() {
                activity.progress(done as u64 + 1, all, 0, 0);
                let result = found.and_then(|found| self.content(path, found, &activity));
                if let Err(e) = result {
                    // It may have been deleted meanwhile; either way, not all could be looked at.
                    let level = match store.is_valid(path)? {
                        true => Level::Error,
                        false => Level::Warn,
                    };
                    store.say(level, e.to_string());
                    self.report.errors = true;
                }
            }
            Ok(())
        })
    }

    fn content(
        &mut self,
        path: &StorePath,
        (mut info, hash, size): (PathInfo, Hash, u64),
        activity: &Activity,
    ) -> Result<()> {
        let store = self.store;
        let text = store.print(path);
        let unknown = info.nar_hash.as_bytes().iter().all(|b| *b == 0);
        if !unknown && hash != info.nar_hash {
            let show = |hash: &Hash| hash.encode_with_algorithm(HashFormat::Nix32);
            store.observer().finding(format!(
                "path '{text}' was modified! expected hash '{}', got '{}'",
                show(&info.nar_hash),
                show(&hash)
            ));
            activity.result(ResultKind::CorruptedPath, vec![Field::Text(text)]);
            self.damaged(path, Level::Error);
            return Ok(());
        }
        // Very old versions left these out.
        if unknown || info.nar_size == 0 {
            store.say(
                Level::Info,
                match unknown {
                    true => format!("fixing missing hash on '{text}'"),
                    false => format!("updating size field on '{text}' to {size}"),
                },
            );
            info.nar_hash = hash;
            info.nar_size = size;
            store.update_path_info(&info)?;
        }
        Ok(())
    }
}
