//! Files of the store: written with the modes and times that all contents have, deleted whatever their
//! modes.
//!
//! Everything below a path is reached through open folders and without following links, so that
//! nothing outside can be touched, even if somebody changes the tree meanwhile.

use crate::error::{Error, ErrorKind, Result};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The time that all files in a store were changed at: a second after the beginning of 1970.
pub(crate) const MTIME: i64 = 1;

/// The time of [`MTIME`].
pub(super) fn mtime() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1)
}

pub(crate) fn os_error(what: impl std::fmt::Display, e: nix::Error) -> Error {
    Error::io(what, std::io::Error::from(e))
}

/// Writes a file that does not exist yet.
pub(super) fn write_text(path: &Path, text: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(text)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
        file.set_modified(mtime())
    };
    write().map_err(|e| Error::io(format_args!("writing '{}'", path.display()), e))
}

/// Brings everything below a path, and the folder that it is in, to disk.
pub(crate) fn sync_tree(path: &Path) -> Result<()> {
    let fail = |path: &Path| {
        let path = path.display().to_string();
        move |e| Error::io(format_args!("syncing '{path}'"), e)
    };
    let mut todo = vec![path.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().map_err(fail(&path))?;
        if meta.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(fail(&path))? {
                todo.push(entry.map_err(fail(&path))?.path());
            }
        }
        if meta.is_dir() || meta.is_file() {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(fail(&path))?;
        }
    }
    if let Some(parent) = path.parent() {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(fail(parent))?;
    }
    Ok(())
}

/// The bytes that anybody may still write to where a path is.
pub(crate) fn free_space(path: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|e| {
        os_error(
            format_args!("getting filesystem info about '{}'", path.display()),
            e,
        )
    })?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Opens a folder without following a link.
pub(super) fn open_dir<D: AsFd>(parent: D, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(
        parent,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

pub(super) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Exchanges two paths of the same file system, at once where it can do that. The contents that come to
/// the second path get the mode of contents of a store.
pub(crate) fn exchange(new: &Path, old: &Path) -> Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let fail = |e| Error::io(format_args!("replacing '{}'", old.display()), e);
    // A folder changes its `..` when it moves, for which it must be writable.
    for path in [new, old] {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path, mode).map_err(fail)?;
        }
    }
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => {}
        // The old contents may be missing, or the file system does not know how.
        Err(nix::Error::ENOENT | nix::Error::EINVAL | nix::Error::ENOSYS) => {
            let aside = new.with_extension("old");
            match std::fs::rename(old, &aside) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
                _ => {}
            }
            if let Err(e) = std::fs::rename(new, old) {
                // The first error is the one to tell.
                let _ = std::fs::rename(&aside, old);
                return Err(fail(e));
            }
            // What cannot be deleted is garbage.
            let _ = delete(&aside);
        }
        Err(e) => return Err(fail(std::io::Error::from(e))),
    }
    super::restore::canonical_root(old)
}

/// Deletes what is at a path, and everything below it. Nothing there is no error. Gives the bytes that
/// this freed: the sizes of files that had at most one other link (in `.links`, most likely).
pub(crate) fn delete(path: &Path) -> Result<u64> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("cannot delete '{}'", path.display()),
        ));
    };
    let parent = match File::open(parent) {
        Ok(parent) => OwnedFd::from(parent),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => {
            return Err(Error::io(
                format_args!("opening directory '{}'", parent.display()),
                e,
            ));
        }
    };
    let mut deletion = Deletion {
        path,
        freed: 0,
        moved: 0,
        first_error: None,
    };
    deletion.run(&parent, name)?;
    match deletion.first_error {
        Some(e) => Err(e),
        None => Ok(deletion.freed),
    }
}

/// How many folders are open at once, at most. What lies deeper is moved up and deleted there, so that
/// any depth can be dealt with.
const MAX_OPEN: usize = 100;

struct Deletion<'p> {
    path: &'p Path,
    freed: u64,
    /// Number of folders that were moved up.
    moved: u64,
    /// The first file that could not be deleted; the others are deleted all the same.
    first_error: Option<Error>,
}

/// A folder whose entries are being deleted.
struct OpenDir {
    name: CString,
    fd: OwnedFd,
    /// Entries that are left.
    entries: Vec<CString>,
}

impl Deletion<'_> {
    fn error(&self, what: &str, e: nix::Error) -> Error {
        os_error(format_args!("{what} '{}'", self.path.display()), e)
    }

    fn run(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let name = CString::new(name.as_bytes())
            .map_err(|_| self.error("cannot unlink", nix::Error::EINVAL))?;
        let mut stack: Vec<OpenDir> = Vec::new();
        if let Some(dir) = self.visit(parent, &name)? {
            stack.push(dir);
        }
        while let Some(dir) = stack.last_mut() {
            let entry = dir.entries.pop();
            match entry {
                Some(entry) => {
                    if stack.len() >= MAX_OPEN && self.move_up(&mut stack, &entry)? {
                        continue;
                    }
                    let sub = match stack.last() {
                        Some(dir) => self.visit(&dir.fd, &entry)?,
                        None => None,
                    };
                    stack.extend(sub);
                }
                None => {
                    if let Some(dir) = stack.pop() {
                        let above = stack.last().map_or(parent, |above| &above.fd);
                        self.unlink(above, &dir.name, UnlinkatFlags::RemoveDir);
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves a folder from the innermost open folder to the outermost; false if it is none.
    fn move_up(&mut self, stack: &mut [OpenDir], name: &CString) -> Result<bool> {
        let [root, .., parent] = stack else {
            return Ok(false);
        };
        let Ok(stat) = fstatat(&parent.fd, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Ok(false);
        };
        if kind_of(&stat) != SFlag::S_IFDIR {
            return Ok(false);
        }
        // A folder that cannot be written cannot be moved, as its `..` changes.
        let _ = chmod_no_follow(&parent.fd, name, Mode::S_IRWXU);
        loop {
            self.moved += 1;
            let Ok(up) = CString::new(format!(".deeper-{}", self.moved)) else {
                return Ok(false);
            };
            if fstatat(&root.fd, up.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
                continue;
            }
            nix::fcntl::renameat(&parent.fd, name.as_c_str(), &root.fd, up.as_c_str())
                .map_err(|e| self.error("cannot unlink", e))?;
            root.entries.push(up);
            return Ok(true);
        }
    }

    /// Deletes an entry, or opens it if it is a folder.
    fn visit(&mut self, parent: &OwnedFd, name: &CString) -> Result<Option<OpenDir>> {
        let stat = match fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(e) => return Err(self.error("getting status of", e)),
        };
        if kind_of(&stat) != SFlag::S_IFDIR {
            if stat.st_nlink <= 2 {
                self.freed += u64::try_from(stat.st_size).unwrap_or(0);
            }
            self.unlink(parent, name, UnlinkatFlags::NoRemoveDir);
            return Ok(None);
        }
        if stat.st_mode & 0o700 != 0o700 {
            // Through its own descriptor where it can be opened, so that no link is followed.
            let mode = Mode::from_bits_truncate(stat.st_mode | 0o700);
            chmod_no_follow(parent, name, mode)
                .map_err(|e| self.error("making a directory accessible for deletion in", e))?;
        }
        let fd = open_dir(parent, OsStr::from_bytes(name.as_bytes()))
            .map_err(|e| self.error("opening directory", e))?;
        let entries = list(&fd).map_err(|e| self.error("reading directory", e))?;
        Ok(Some(OpenDir {
            name: name.clone(),
            fd,
            entries,
        }))
    }

    fn unlink(&mut self, parent: &OwnedFd, name: &CString, flags: UnlinkatFlags) {
        match unlinkat(parent, name.as_c_str(), flags) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(e) => {
                let error = self.error("cannot unlink", e);
                self.first_error.get_or_insert(error);
            }
        }
    }
}

/// Changes the mode of a folder that may be a link by now: through `/proc`, an `O_PATH` descriptor leads
/// to that very node.
pub(super) fn chmod_no_follow(parent: &OwnedFd, name: &CString, mode: Mode) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    match fchmodat(
        parent,
        name.as_c_str(),
        mode,
        FchmodatFlags::NoFollowSymlink,
    ) {
        Err(nix::Error::EOPNOTSUPP) => {}
        result => return result,
    }
    let fd = openat(
        parent,
        name.as_c_str(),
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    if kind_of(&nix::sys::stat::fstat(&fd)?) == SFlag::S_IFLNK {
        return Err(nix::Error::ELOOP);
    }
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(),
        mode,
        FchmodatFlags::FollowSymlink,
    )
}

/// The names in a folder, but for `.` and `..`.
pub(super) fn list(fd: &OwnedFd) -> nix::Result<Vec<CString>> {
    let fd = fd.try_clone().map_err(|_| nix::Error::EMFILE)?;
    let mut dir = Dir::from_fd(fd)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Sets the time of a file, folder or link.
pub(super) fn set_mtime(parent: &OwnedFd, name: &CString) -> nix::Result<()> {
    utimensat(
        parent,
        name.as_c_str(),
        &TimeSpec::new(MTIME, 0),
        &TimeSpec::new(MTIME, 0),
        UtimensatFlags::NoFollowSymlink,
    )
}
