//! File locks: `flock`, and the `.lock` files beside paths that are being made.
//!
//! A lock file that its last holder removes could be opened by somebody who waits for it: they would
//! then hold a lock on a file that nobody else can find. So whoever removes a lock file writes a byte
//! to it, and whoever acquires a lock looks whether the file is still empty, and begins anew if
//! it is not. All programs that share a store do so.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Kinds of locks on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
    None,
}

/// Opens a lock file, making it where it does not exist.
pub(crate) fn open_lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io(format_args!("opening lock file '{}'", path.display()), e))
}

/// Takes a lock, or changes or releases one. False when somebody else holds it, and `wait` is false.
pub(crate) fn lock_file(file: &File, kind: LockKind, wait: bool) -> Result<bool> {
    let operation = match kind {
        LockKind::Shared => libc::LOCK_SH,
        LockKind::Exclusive => libc::LOCK_EX,
        LockKind::None => libc::LOCK_UN,
    };
    loop {
        match flock(file, operation | if wait { 0 } else { libc::LOCK_NB }) {
            Ok(()) => return Ok(true),
            Err(e) => match e.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EWOULDBLOCK) => return Ok(false),
                _ => return Err(Error::io("acquiring/releasing lock", e)),
            },
        }
    }
}

fn flock(file: &File, operation: libc::c_int) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for as long as the file is borrowed, and flock touches no memory.
    match unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Removes a lock file whose lock is held, so that whoever waits for it begins anew.
pub(crate) fn delete_lock_file(path: &Path, mut file: &File) {
    // Neither may fail loudly: the file is only in the way, and the lock holds without.
    let _ = std::fs::remove_file(path);
    let _ = file.write_all(b"d");
}

/// Whether an open file is the one at a path.
pub(crate) fn is_at(meta: &std::fs::Metadata, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata()
        .is_ok_and(|at| at.ino() == meta.ino() && at.dev() == meta.dev())
}

/// Exclusive locks on paths (`PATH.lock` files), released when dropped.
#[derive(Debug)]
#[must_use = "the locks are released when this is dropped"]
pub struct PathLocks {
    held: Vec<(File, PathBuf)>,
    delete: bool,
}

impl PathLocks {
    /// Locks all paths, or none. The order is the same for everybody, so nobody waits in a circle.
    ///
    /// `None` if somebody else holds one of them and `wait` is false. `on_wait` is told before waiting.
    pub fn acquire(
        paths: impl IntoIterator<Item = PathBuf>,
        wait: bool,
        on_wait: &dyn Fn(&Path),
    ) -> Result<Option<PathLocks>> {
        let mut paths: Vec<PathBuf> = paths.into_iter().collect();
        paths.sort();
        paths.dedup();
        let mut locks = PathLocks {
            held: Vec::new(),
            delete: false,
        };
        for path in paths {
            let mut name = path.clone().into_os_string();
            name.push(".lock");
            let name = PathBuf::from(name);
            let file = loop {
                let file = open_lock_file(&name)?;
                if !lock_file(&file, LockKind::Exclusive, false)? {
                    if !wait {
                        return Ok(None);
                    }
                    on_wait(&path);
                    lock_file(&file, LockKind::Exclusive, true)?;
                }
                let meta = file
                    .metadata()
                    .map_err(|e| Error::io(format_args!("'{}'", name.display()), e))?;
                // Whoever removed it may have been killed before writing to it.
                if meta.len() == 0 && is_at(&meta, &name) {
                    break file;
                }
            };
            locks.held.push((file, name));
        }
        Ok(Some(locks))
    }

    /// Whether the lock files go away with the locks. Whoever waits for one of them takes the next.
    pub fn set_deletion(&mut self, delete: bool) {
        self.delete = delete;
    }
}

impl Drop for PathLocks {
    fn drop(&mut self) {
        if self.delete {
            for (file, name) in &self.held {
                delete_lock_file(name, file);
            }
        }
    }
}
