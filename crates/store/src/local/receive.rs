//! Contents on their way into the store, whose path is not known before they have been read.
//!
//! They come as an archive, which is hashed as it passes. Small ones are kept in memory; larger ones are
//! unpacked, by a thread of their own, into a folder of the store that no collector touches while it is
//! locked, and are moved to their place at the end. Where the source can be read again, larger ones are
//! only hashed at first, and unpacked right to their place if it turns out that they are not there.

use super::LocalStore;
use super::locks::{LockKind, is_at, lock_file};
use super::restore::{Metadata, canonical_root, restore_movable, restore_nar};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Archives up to this many bytes are kept in memory.
const MAX_IN_MEMORY: usize = 16 * 1024 * 1024;

/// Size of the pieces that are handed to the unpacking thread, and how many may wait there.
const PIECE: usize = 256 * 1024;
const MAX_WAITING: usize = 8;

/// A folder in the store folder that no collector deletes as long as this exists; it goes away with it.
#[derive(Debug)]
pub(super) struct StoreTempDir {
    path: PathBuf,
    _lock: File,
}

impl StoreTempDir {
    pub(super) fn create(store_dir: &Path) -> Result<StoreTempDir> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = store_dir.join(format!("tmp-{}-{n}", std::process::id()));
            let fail = |e| Error::io(format_args!("creating directory '{}'", path.display()), e);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(fail(e)),
            }
            // A collector may delete the folder before it is locked; then begin anew.
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(fail(e)),
            };
            lock_file(&lock, LockKind::Exclusive, true)?;
            let meta = lock.metadata().map_err(fail)?;
            if is_at(&meta, &path) {
                return Ok(StoreTempDir { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StoreTempDir {
    fn drop(&mut self) {
        // What cannot be deleted is garbage.
        let _ = super::files::delete(&self.path);
    }
}

/// Takes an archive.
pub(super) struct Receiver {
    store_dir: PathBuf,
    nar: Hasher,
    /// The archive's hash with another algorithm, if one is wanted.
    other: Option<Hasher>,
    memory: Vec<u8>,
    large: Large,
    unpacking: Option<Unpacking>,
}

/// What to do with an archive that does not fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Large {
    Unpack,
    /// Even if it is small.
    AlwaysUnpack,
    /// Only hash it.
    Forget,
}

struct Unpacking {
    /// The folder that goes away unless the contents are moved out of it; none if they are where they
    /// belong.
    dir: Option<StoreTempDir>,
    pieces: Option<mpsc::SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Unpacking {
    /// Waits until all pieces are unpacked.
    fn join(&mut self) -> Result<()> {
        self.pieces = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::new(
                ErrorKind::Io(io::ErrorKind::Other),
                "unpacking an archive failed",
            )),
        }
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // Nothing must be written any more when the contents are deleted, and whoever waits for a lock begins.
        let _ = self.join();
    }
}

/// An archive that was received as a whole.
pub(super) struct Received {
    /// SHA-256 of the archive.
    pub nar_hash: Hash,
    /// Its length.
    pub nar_size: u64,
    /// Its hash with the other algorithm.
    pub other_hash: Option<Hash>,
    contents: Contents,
}

enum Contents {
    Memory(Vec<u8>),
    Unpacked(Option<StoreTempDir>),
    Forgotten,
}

impl Receiver {
    pub(super) fn new(store: &LocalStore, other: Option<HashAlgorithm>) -> Receiver {
        Receiver {
            store_dir: store.config.real_store_dir.clone(),
            nar: Hasher::new(HashAlgorithm::Sha256),
            other: other
                .filter(|algorithm| *algorithm != HashAlgorithm::Sha256)
                .map(Hasher::new),
            memory: Vec::new(),
            large: match store.config.read_only {
                true => Large::Forget,
                false => Large::Unpack,
            },
            unpacking: None,
        }
    }

    /// Unpacks even small archives, so that [`Received::unpacked`] has a path.
    pub(super) fn always_unpack(mut self) -> Receiver {
        if self.large == Large::Unpack {
            self.large = Large::AlwaysUnpack;
        }
        self
    }

    /// Only hashes large archives: [`Received::is_forgotten`].
    pub(super) fn forget_large(mut self) -> Receiver {
        self.large = Large::Forget;
        self
    }

    /// Unpacks right to where the contents belong, where nothing may be.
    pub(super) fn unpack_to(mut self, dest: PathBuf) -> Result<Receiver> {
        self.spawn(None, dest)?;
        Ok(self)
    }

    fn start_unpacking(&mut self) -> Result<()> {
        let dir = StoreTempDir::create(&self.store_dir)?;
        let dest = dir.path().join("x");
        self.spawn(Some(dir), dest)
    }

    fn spawn(&mut self, dir: Option<StoreTempDir>, dest: PathBuf) -> Result<()> {
        let moves = dir.is_some();
        let (pieces, incoming) = mpsc::sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("unpack".into())
            .spawn(move || {
                let reader = Pieces {
                    incoming,
                    piece: Vec::new(),
                    at: 0,
                };
                match moves {
                    true => restore_movable(reader, &dest).map(|_| ()),
                    false => restore_nar(reader, &dest, Metadata::Canonical).map(|_| ()),
                }
            })
            .map_err(|e| Error::io("starting a thread", e))?;
        self.unpacking = Some(Unpacking {
            dir,
            pieces: Some(pieces),
            thread: Some(thread),
        });
        Ok(())
    }

    /// Hands what is in memory to the thread. It may have gone, because of an error that `finish` tells.
    fn hand_over(&mut self) {
        if let Some(pieces) = self.unpacking.as_ref().and_then(|u| u.pieces.as_ref()) {
            let piece = std::mem::replace(&mut self.memory, Vec::with_capacity(PIECE));
            let _ = pieces.send(piece);
        }
    }

    /// Ends the archive; the caller made sure that it is complete.
    pub(super) fn finish(mut self) -> Result<Received> {
        if self.unpacking.is_none() && self.large == Large::AlwaysUnpack {
            self.start_unpacking()?;
        }
        let forgotten =
            self.large == Large::Forget && self.nar.bytes_hashed() > MAX_IN_MEMORY as u64;
        self.hand_over();
        let contents = if let Some(mut unpacking) = self.unpacking.take() {
            unpacking.join()?;
            Contents::Unpacked(unpacking.dir.take())
        } else if forgotten {
            Contents::Forgotten
        } else {
            Contents::Memory(std::mem::take(&mut self.memory))
        };
        let nar_size = self.nar.bytes_hashed();
        Ok(Received {
            nar_hash: self.nar.finish(),
            nar_size,
            other_hash: self.other.map(Hasher::finish),
            contents,
        })
    }
}

impl Write for Receiver {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.nar.update(data);
        if let Some(other) = &mut self.other {
            other.update(data);
        }
        if self.unpacking.is_none() && self.nar.bytes_hashed() > MAX_IN_MEMORY as u64 {
            if self.large == Large::Forget {
                self.memory = Vec::new();
                return Ok(data.len());
            }
            self.start_unpacking().map_err(io::Error::other)?;
        }
        self.memory.extend_from_slice(data);
        if self.unpacking.is_some() && self.memory.len() >= PIECE {
            self.hand_over();
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Received {
    /// Where the contents are unpacked, if they are.
    pub(super) fn unpacked(&self) -> Option<PathBuf> {
        match &self.contents {
            Contents::Unpacked(Some(dir)) => Some(dir.path().join("x")),
            _ => None,
        }
    }

    /// Whether the contents were only hashed.
    pub(super) fn is_forgotten(&self) -> bool {
        matches!(self.contents, Contents::Forgotten)
    }

    /// Puts the contents where they belong. Nothing may be there.
    pub(super) fn install(self, dest: &Path) -> Result<()> {
        match self.contents {
            Contents::Memory(nar) => restore_nar(&nar[..], dest, Metadata::Canonical).map(|_| ()),
            Contents::Unpacked(Some(dir)) => {
                std::fs::rename(dir.path().join("x"), dest)
                    .map_err(|e| Error::io(format_args!("moving to '{}'", dest.display()), e))?;
                canonical_root(dest)
            }
            Contents::Unpacked(None) => Ok(()),
            Contents::Forgotten => Err(Error::new(
                ErrorKind::Unsupported,
                "these contents were not kept",
            )),
        }
    }
}

/// The pieces of an archive as a reader.
struct Pieces {
    incoming: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.piece.len() {
            match self.incoming.recv() {
                Ok(piece) => {
                    self.piece = piece;
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or(&[]);
        let len = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
    }
}
