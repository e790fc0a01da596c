//! Temporary roots: paths that a running process needs, though nothing refers to them yet.
//!
//! Each process keeps a file `temproots/PID` with the paths that it needs, which holds a lock as long as
//! the process lives. A path is written to it first, where every collector finds it that starts from now
//! on. Then, if the shared lock on `gc.lock` is to be had, no collector runs. If it is not, one runs that
//! may have read the files before: so it is told through its socket, and answers once it is sure not to
//! delete the path (any more). When the call returns, the path is either not there or stays.
//!
//! (C++ Nix writes the file last. Then a second collector, which starts after the first has answered and
//! before the file is written, would know nothing of the path.)

use super::LocalStore;
use super::locks::{LockKind, delete_lock_file, is_at, lock_file, open_lock_file};
use crate::error::{Error, ErrorKind, Result};
use crate::store_path::StorePath;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The state of a process's temporary roots.
#[derive(Debug, Default)]
pub(super) struct TempRoots {
    /// The process that made the file: a forked child must not write to its parent's.
    pid: u32,
    file: Option<(File, PathBuf)>,
    gc_lock: Option<File>,
    collector: Option<UnixStream>,
    known: HashSet<StorePath>,
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        if let Some((file, path)) = self.file.take()
            && self.pid == std::process::id()
        {
            delete_lock_file(&path, &file);
        }
    }
}

impl LocalStore {
    /// Keeps a path from being collected for as long as this store is open in this process. The path
    /// need not exist. When this returns, either the path is not in the store, or it stays.
    pub fn add_temp_root(&self, path: &StorePath) -> Result<()> {
        self.add_temp_roots([path])
    }

    /// As [`LocalStore::add_temp_root`], for many paths with one lock and one write.
    pub fn add_temp_roots<'p>(&self, paths: impl IntoIterator<Item = &'p StorePath>) -> Result<()> {
        self.add_roots(paths, false, || Ok(()))
    }

    /// Makes a path a temporary root, even if it is one already, and calls `then` while no collector can
    /// start that would not know of the path: lasting roots are made in this way.
    ///
    /// C++ Nix looks for lasting roots first and reads the files of processes afterwards. If a lasting root
    /// was made in between, and the process gone, it would find neither.
    pub(super) fn with_temp_root(
        &self,
        path: &StorePath,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.add_roots([path], true, then)
    }

    fn add_roots<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        again: bool,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.config.read_only {
            // Nothing can be deleted by anyone who shares this view.
            return then();
        }
        let mut roots = self.temp_roots();
        if roots.pid != std::process::id() {
            // The parent's file stays the parent's: closing our copy of it releases nothing.
            *roots = TempRoots::default();
            roots.pid = std::process::id();
        }
        let new: Vec<&StorePath> = paths
            .into_iter()
            .filter(|path| again || !roots.known.contains(*path))
            .collect();
        if new.is_empty() {
            return then();
        }
        if roots.file.is_none() {
            roots.file = Some(create_file(&self.config.state_dir.join("temproots"))?);
        }
        if roots.gc_lock.is_none() {
            roots.gc_lock = Some(open_lock_file(&self.config.state_dir.join("gc.lock"))?);
        }
        let TempRoots {
            file: Some((file, name)),
            gc_lock: Some(gc_lock),
            collector,
            known,
            ..
        } = &mut *roots
        else {
            return then();
        };
        let mut text = Vec::new();
        for path in &new {
            text.extend_from_slice(self.config.store_dir.print(path).as_bytes());
            text.push(0);
        }
        let socket = self.config.state_dir.join(super::gc_socket::SOCKET);
        // First the file: a collector that starts from now on sees it there. Then whoever runs now: either
        // nobody, or it is told, or it ends.
        append(file, &text)
            .map_err(|e| Error::io(format_args!("writing '{}'", name.display()), e))?;
        let result = loop {
            if lock_file(gc_lock, LockKind::Shared, false)? {
                *collector = None;
                let result = then();
                lock_file(gc_lock, LockKind::None, true)?;
                break result;
            }
            if tell_collector(collector, &socket, &text)? {
                break then();
            }
            *collector = None;
        };
        known.extend(new.into_iter().cloned());
        result
    }

    fn temp_roots(&self) -> std::sync::MutexGuard<'_, TempRoots> {
        self.temp_roots
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes to the end of a file, all or nothing: what comes after half a path, on a full disk, would be taken for its other
/// half.
fn append(file: &mut File, text: &[u8]) -> io::Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    file.write_all(text).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = file.set_len(end);
    })
}

/// Makes the file of this process and locks it.
///
/// The name is the process's number. Where it is taken, by another store of this process or by a process
/// of another PID namespace, a suffix is added, which all readers of the folder skip over.
fn create_file(dir: &Path) -> Result<(File, PathBuf)> {
    let pid = std::process::id();
    for attempt in 0u32..10_000 {
        let name = match attempt {
            0 => dir.join(pid.to_string()),
            _ => dir.join(format!("{pid}-{attempt}")),
        };
        let file = open_lock_file(&name)?;
        // A lock that can be had belongs to nobody alive.
        if !lock_file(&file, LockKind::Exclusive, false)? {
            continue;
        }
        let meta = file
            .metadata()
            .map_err(|e| Error::io(format_args!("'{}'", name.display()), e))?;
        if meta.len() == 0 && is_at(&meta, &name) {
            return Ok((file, name));
        }
        // Left behind by a dead process, or just deleted by a collector.
        if is_at(&meta, &name) {
            delete_lock_file(&name, &file);
        }
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!(
            "cannot create a temporary roots file in '{}'",
            dir.display()
        ),
    ))
}

/// Sends roots, separated by NUL, to a running collector. False if it has gone: try the lock again.
fn tell_collector(collector: &mut Option<UnixStream>, socket: &Path, roots: &[u8]) -> Result<bool> {
    let gone = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
        )
    };
    let stream = match collector {
        Some(stream) => stream,
        None => match super::gc_socket::connect(socket) {
            Ok(stream) => collector.insert(stream),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                // It has not made its socket yet, or is about to exit.
                std::thread::sleep(Duration::from_millis(20));
                return Ok(false);
            }
            Err(e) => {
                return Err(Error::io(
                    format_args!("connecting to '{}'", socket.display()),
                    e,
                ));
            }
        },
    };
    // One at a time: the answer belongs to one root, and a full socket could block both sides.
    for root in roots.split(|b| *b == 0).filter(|root| !root.is_empty()) {
        let mut line = root.to_vec();
        line.push(b'\n');
        let mut answer = [0];
        let told = stream
            .write_all(&line)
            .and_then(|()| stream.read_exact(&mut answer));
        match told {
            Ok(()) => {}
            Err(e) if gone(&e) => return Ok(false),
            Err(e) => return Err(Error::io("telling the garbage collector of a root", e)),
        }
    }
    Ok(true)
}
