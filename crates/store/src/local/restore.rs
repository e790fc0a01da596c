//! Unpacking archives into files.

use super::case_hack::Names;
use super::files::{mtime, open_dir, os_error, set_mtime};
use crate::error::{Error, ErrorKind, Result};
use crate::nar::{NarEvent, NarReader};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Size of the pieces in which files are copied.
const CHUNK: usize = 128 * 1024;

/// Which modes and times unpacked files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// Those of contents of a store: 0444 or 0555, a second after the beginning of 1970.
    Canonical,
    /// What the process's umask and the time of day make of it.
    Ordinary,
}

/// Unpacks an archive at a path where nothing is. Reads no further than its end, and gives the reader
/// back.
///
/// Nothing outside the path is touched, whatever the archive says or anybody does meanwhile: names are
/// checked by [`NarReader`], and entries are made in open folders without following links.
pub fn restore_nar<R: Read>(input: R, dest: &Path, metadata: Metadata) -> Result<R> {
    restore(input, dest, Manner::new(metadata))
}

/// As [`restore_nar`] with canonical metadata, but the top folder stays as it was made, so that it can be
/// moved; [`canonical_root`] has to follow.
pub(super) fn restore_movable<R: Read>(input: R, dest: &Path) -> Result<R> {
    let manner = Manner {
        movable: true,
        ..Manner::new(Metadata::Canonical)
    };
    restore(input, dest, manner)
}

/// As [`restore_nar`] with ordinary modes and times, for file systems that do not tell `A` from `a`: names
/// that are the same for them get a [suffix] and a number, which [`CaseHack`] takes
/// away again.
///
/// [`CaseHack`]: super::CaseHack
/// [suffix]: super::CASE_HACK_SUFFIX
pub fn restore_nar_case_hack<R: Read>(input: R, dest: &Path) -> Result<R> {
    let manner = Manner {
        case_hack: true,
        ..Manner::new(Metadata::Ordinary)
    };
    restore(input, dest, manner)
}

/// How to unpack.
#[derive(Debug, Clone, Copy)]
struct Manner {
    metadata: Metadata,
    case_hack: bool,
    movable: bool,
}

impl Manner {
    fn new(metadata: Metadata) -> Manner {
        Manner {
            metadata,
            case_hack: false,
            movable: false,
        }
    }
}

fn restore<R: Read>(input: R, dest: &Path, manner: Manner) -> Result<R> {
    let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("cannot unpack to '{}'", dest.display()),
        ));
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let folder = File::open(parent)
        .map_err(|e| Error::io(format_args!("opening directory '{}'", parent.display()), e))?;
    let mut restore = Restore {
        dest,
        manner,
        folders: vec![(CString::default(), OwnedFd::from(folder))],
        name: c_string(name.as_bytes(), dest)?,
        buffer: vec![0; CHUNK],
        names: Vec::new(),
    };
    let mut reader = NarReader::new(input);
    loop {
        let step = match reader.next_event()? {
            None => break,
            Some(NarEvent::Entry { name }) => {
                restore.name = match restore.names.last_mut() {
                    Some(names) => c_string(&names.distinct(name)?, dest)?,
                    None => c_string(name, dest)?,
                };
                continue;
            }
            Some(NarEvent::Symlink { target }) => restore.symlink(target),
            Some(NarEvent::Directory) => {
                if manner.case_hack {
                    restore.names.push(Names::default());
                }
                restore.directory()
            }
            Some(NarEvent::EndDirectory) => {
                restore.names.pop();
                restore.end_directory()
            }
            Some(NarEvent::Regular { executable, .. }) => {
                let file = restore.create()?;
                restore.fill(&mut reader, file, executable)
            }
        };
        step?;
    }
    reader.finish()
}

fn c_string(name: &[u8], dest: &Path) -> Result<CString> {
    CString::new(name)
        .map_err(|_| os_error(format_args!("'{}'", dest.display()), nix::Error::EINVAL))
}

struct Restore<'d> {
    dest: &'d Path,
    manner: Manner,
    /// Open folders, from the one that holds the root, with their names.
    folders: Vec<(CString, OwnedFd)>,
    /// The name of the next node.
    name: CString,
    buffer: Vec<u8>,
    /// The names in each open folder, if those are to differ by more than case.
    names: Vec<Names>,
}

impl Restore<'_> {
    /// Where the next node is.
    fn place(&self) -> String {
        let mut path = self.dest.to_path_buf();
        // The first folder is the one that `dest` is in, the second is `dest`.
        let names = self.folders.iter().skip(2).map(|(name, _)| name);
        if self.folders.len() > 1 {
            for name in names.chain([&self.name]) {
                path.push(OsStr::from_bytes(name.as_bytes()));
            }
        }
        path.display().to_string()
    }

    fn fail(&self, what: &str, e: nix::Error) -> Error {
        os_error(format_args!("{what} '{}'", self.place()), e)
    }

    fn folder(&self) -> Result<&OwnedFd> {
        match self.folders.last() {
            Some((_, fd)) => Ok(fd),
            None => Err(self.fail("creating", nix::Error::ENOENT)),
        }
    }

    fn canonical(&self) -> bool {
        self.manner.metadata == Metadata::Canonical
    }

    /// The mode to begin with. Nobody else may write what goes to a store, not even until it is complete.
    fn mode(&self, ordinary: u32) -> u32 {
        match self.canonical() {
            true => ordinary & 0o755,
            false => ordinary,
        }
    }

    fn symlink(&mut self, target: &[u8]) -> Result<()> {
        let folder = self.folder()?;
        symlinkat(OsStr::from_bytes(target), folder, self.name.as_c_str())
            .map_err(|e| self.fail("creating symlink", e))?;
        if self.canonical() {
            set_mtime(folder, &self.name).map_err(|e| self.fail("setting the time of", e))?;
        }
        Ok(())
    }

    fn directory(&mut self) -> Result<()> {
        let folder = self.folder()?;
        mkdirat(
            folder,
            self.name.as_c_str(),
            Mode::from_bits_truncate(self.mode(0o777)),
        )
        .map_err(|e| self.fail("creating directory", e))?;
        let fd = open_dir(folder, OsStr::from_bytes(self.name.as_bytes()))
            .map_err(|e| self.fail("opening directory", e))?;
        self.folders.push((self.name.clone(), fd));
        Ok(())
    }

    fn end_directory(&mut self) -> Result<()> {
        let Some((name, fd)) = self.folders.pop() else {
            return Ok(());
        };
        let is_root = self.folders.len() == 1;
        if self.canonical() && !(is_root && self.manner.movable) {
            let dir = File::from(fd);
            dir.set_permissions(Permissions::from_mode(0o555))
                .and_then(|()| dir.set_modified(mtime()))
                .map_err(|e| {
                    Error::io(
                        format_args!("setting the mode of '{}'", name.to_string_lossy()),
                        e,
                    )
                })?;
        }
        Ok(())
    }

    fn create(&self) -> Result<File> {
        openat(
            self.folder()?,
            self.name.as_c_str(),
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::from_bits_truncate(self.mode(0o666)),
        )
        .map(File::from)
        .map_err(|e| self.fail("creating file", e))
    }

    fn fill<R: Read>(
        &mut self,
        reader: &mut NarReader<R>,
        mut file: File,
        executable: bool,
    ) -> Result<()> {
        loop {
            let read = reader.read_contents(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(self.buffer.get(..read).unwrap_or(&[]))
                .map_err(|e| {
                    Error::io(format_args!("writing '{}'", self.name.to_string_lossy()), e)
                })?;
        }
        let result = match self.manner.metadata {
            Metadata::Ordinary if executable => file.metadata().and_then(|meta| {
                let mode = meta.permissions().mode() | 0o111;
                file.set_permissions(Permissions::from_mode(mode & 0o7777))
            }),
            Metadata::Ordinary => Ok(()),
            _ => {
                let mode = if executable { 0o555 } else { 0o444 };
                file.set_permissions(Permissions::from_mode(mode))
                    .and_then(|()| file.set_modified(mtime()))
            }
        };
        result.map_err(|e| Error::io(format_args!("setting the mode of '{}'", self.place()), e))
    }
}

/// Gives a folder at the top of a tree the mode and time of contents of a store.
pub(super) fn canonical_root(path: &Path) -> Result<()> {
    let fail = |e| Error::io(format_args!("setting the mode of '{}'", path.display()), e);
    let meta = path.symlink_metadata().map_err(fail)?;
    if meta.is_dir() {
        let dir = File::open(path).map_err(fail)?;
        dir.set_permissions(Permissions::from_mode(0o555))
            .and_then(|()| dir.set_modified(mtime()))
            .map_err(fail)?;
    }
    Ok(())
}
