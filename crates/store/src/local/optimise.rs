//! Hard links between files with the same contents.
//!
//! `.links` in the store folder has a link to each file that was looked at, under the hash of its
//! archive (which tells the executable bit too). A file with a known hash is replaced by another link
//! to that one, atomically: it is there with its contents at any moment.

use super::LocalStore;
use super::files::mtime;
use super::receive::StoreTempDir;
use crate::error::{Error, Result};
use crate::events::{Activity, ActivityKind, Field, Level, ResultKind};
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use crate::ingest::nar_hash;
use crate::nar::FileSystem;
use std::collections::HashSet;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What optimising has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptimiseStats {
    /// Files that were replaced by links.
    pub files_linked: u64,
    /// Their sizes together, in bytes.
    pub bytes_freed: u64,
    /// The blocks that they took, of 512 bytes each.
    pub blocks_freed: u64,
}

/// What is known while several paths are optimised.
#[derive(Debug, Default)]
pub struct Optimising {
    /// What was done so far.
    pub stats: OptimiseStats,
    /// Inodes of the files in `.links`.
    linked: HashSet<u64>,
    /// Where links are made before they replace files; no collector looks there.
    temporary: Option<StoreTempDir>,
}

impl LocalStore {
    /// Replaces files that have the same contents as others by hard links, in all valid paths.
    pub fn optimise(&self) -> Result<OptimiseStats> {
        self.check_writable()?;
        let observer = self.observer();
        let activity = Activity::start(
            &observer,
            0,
            Level::Error,
            ActivityKind::OptimiseStore,
            "",
            Vec::new(),
        );
        let paths = self.query_all_valid()?;
        let mut state = Optimising {
            linked: self.links_inodes()?,
            ..Optimising::default()
        };
        let all = paths.len() as u64;
        activity.progress(0, all, 0, 0);
        for (done, path) in paths.iter().enumerate() {
            self.add_temp_root(path)?;
            // Whoever holds the lock may be replacing the contents.
            let Some(mut lock) = self.lock_paths([path], false)? else {
                continue;
            };
            lock.set_deletion(true);
            // It may have been collected meanwhile.
            if self.is_valid(path)? {
                self.say(
                    Level::Talkative,
                    format!("optimising path '{}'...", self.print(path)),
                );
                let before = state.stats;
                self.optimise_path(&self.real_path(path), &mut state, false)?;
                let now = state.stats;
                if now.files_linked > before.files_linked {
                    activity.result(
                        ResultKind::FileLinked,
                        vec![
                            Field::Int(now.bytes_freed - before.bytes_freed),
                            Field::Int(now.blocks_freed - before.blocks_freed),
                        ],
                    );
                }
            }
            activity.progress(done as u64 + 1, all, 0, 0);
        }
        Ok(state.stats)
    }

    fn links_dir(&self) -> PathBuf {
        self.config.real_store_dir.join(".links")
    }

    fn links_inodes(&self) -> Result<HashSet<u64>> {
        let dir = self.links_dir();
        let fail = |e| Error::io(format_args!("reading directory '{}'", dir.display()), e);
        let mut inodes = HashSet::new();
        for entry in std::fs::read_dir(&dir).map_err(fail)? {
            inodes.insert(entry.map_err(fail)?.ino());
        }
        Ok(inodes)
    }

    /// As [`LocalStore::optimise`] for the files below one path. With `repair`, files in `.links` are
    /// looked at before they are used.
    pub fn optimise_path(&self, path: &Path, state: &mut Optimising, repair: bool) -> Result<()> {
        let root = path;
        let mut todo = vec![path.to_path_buf()];
        while let Some(path) = todo.pop() {
            let meta = path.symlink_metadata().map_err(|e| fail(&path, e))?;
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path).map_err(|e| fail(&path, e))? {
                    let entry = entry.map_err(|e| fail(&path, e))?;
                    if !state.linked.contains(&entry.ino()) {
                        todo.push(entry.path());
                    }
                }
            } else if meta.is_file() || meta.is_symlink() {
                // What holds the top is no content: the store itself, or a folder for the moment.
                let folder = path.parent().filter(|_| path != root);
                self.optimise_file(&path, folder, &meta, state, repair)?;
            }
        }
        Ok(())
    }

    fn optimise_file(
        &self,
        path: &Path,
        folder: Option<&Path>,
        meta: &Metadata,
        state: &mut Optimising,
        repair: bool,
    ) -> Result<()> {
        if meta.is_file() && meta.mode() & 0o200 != 0 {
            self.say(
                Level::Warn,
                format!("skipping suspicious writable file '{}'", path.display()),
            );
            return Ok(());
        }
        if meta.nlink() > 1 && state.linked.contains(&meta.ino()) {
            return Ok(());
        }
        let hash = hash_of(path)?;
        let link = self.links_dir().join(hash.encode(HashFormat::Nix32));
        if let Ok(known) = link.symlink_metadata() {
            let damaged = known.len() != meta.len()
                || (repair && hash_of(&link).is_ok_and(|known| known != hash));
            if damaged {
                self.say(
                    Level::Warn,
                    format!(
                        "removing corrupted link '{}'\nThere may be more corrupted paths.\nYou should run `nix-store --verify --check-contents --repair` to fix them all",
                        link.display()
                    ),
                );
                ignore_missing(std::fs::remove_file(&link)).map_err(|e| fail(&link, e))?;
            }
        }
        if link.symlink_metadata().is_err() {
            match std::fs::hard_link(path, &link) {
                Ok(()) => {
                    state.linked.insert(meta.ino());
                    return Ok(());
                }
                // Somebody else has just made it.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // The index of the folder is full (ext4), or this file has as many links as can be.
                Err(e) if is_full(&e) => return Ok(()),
                Err(e) => return Err(fail(&link, e)),
            }
        }
        let known = match link.symlink_metadata() {
            Ok(known) => known,
            // A collector found the link unused: the next time will do.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(fail(&link, e)),
        };
        if known.ino() == meta.ino() {
            return Ok(());
        }
        self.say(
            Level::Talkative,
            format!("linking '{}' to '{}'", path.display(), link.display()),
        );
        if self.replace(path, folder, &link, state)? {
            state.linked.insert(known.ino());
            state.stats.files_linked += 1;
            state.stats.bytes_freed += meta.len();
            state.stats.blocks_freed += meta.blocks();
        }
        Ok(())
    }

    /// Replaces a file by a link to another. False if that has too many links, or has gone. `folder` is
    /// what has to be made writable for that, if anything.
    fn replace(
        &self,
        path: &Path,
        folder: Option<&Path>,
        link: &Path,
        state: &mut Optimising,
    ) -> Result<bool> {
        let dir = match &state.temporary {
            Some(dir) => dir,
            None => state
                .temporary
                .insert(StoreTempDir::create(&self.config.real_store_dir)?),
        };
        let temporary = dir.path().join("link");
        match std::fs::hard_link(link, &temporary) {
            Ok(()) => {}
            Err(e) if is_full(&e) || e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(fail(&temporary, e)),
        }
        let open = match folder {
            Some(dir) => Some(Writable::new(dir).map_err(|e| fail(dir, e))?),
            None => None,
        };
        let result = std::fs::rename(&temporary, path);
        drop(open);
        match result {
            Ok(()) => Ok(true),
            Err(e) => {
                let _ = std::fs::remove_file(&temporary);
                match is_full(&e) {
                    true => Ok(false),
                    false => Err(fail(path, e)),
                }
            }
        }
    }
}

/// A folder that is writable for a moment.
struct Writable(File);

impl Writable {
    fn new(dir: &Path) -> io::Result<Writable> {
        let dir = File::open(dir)?;
        let mode = dir.metadata()?.mode() & 0o7777;
        dir.set_permissions(Permissions::from_mode(mode | 0o200))?;
        Ok(Writable(dir))
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // A failure leaves a folder with an odd mode, which archives do not record.
        let _ = self.0.set_permissions(Permissions::from_mode(0o555));
        let _ = self.0.set_modified(mtime());
    }
}

fn hash_of(path: &Path) -> Result<Hash> {
    nar_hash(
        &mut FileSystem,
        &FileSystem::node(path),
        HashAlgorithm::Sha256,
    )
    .map(|(hash, _)| hash)
}

fn fail(path: &Path, e: io::Error) -> Error {
    Error::io(format_args!("optimising '{}'", path.display()), e)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn is_full(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMLINK | libc::ENOSPC))
}
