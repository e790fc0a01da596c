//! Making modes, times, owners and extended attributes of files those of contents of a store.

use super::files::{chmod_no_follow, kind_of, list, open_dir, os_error, set_mtime};
use crate::error::{Error, ErrorKind, Result};
use crate::nar::{MAX_DEPTH, too_deep};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, fchownat};
use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What to make canonical, and how.
#[derive(Debug, Clone, Default)]
pub struct Canonicalise<'a> {
    /// Who may own the files, if not anybody: those of a builder with users of its own. Others' files
    /// are an error, since a builder may have linked to them (`ln /etc/shadow $out`).
    pub owners: Option<RangeInclusive<u32>>,
    /// Extended attributes that stay.
    pub ignored_acls: &'a [String],
}

/// Device and inode of files that were made canonical, which hard links within the same outputs
/// encounter again.
pub type InodesSeen = HashSet<(u64, u64)>;

impl Canonicalise<'_> {
    /// Makes everything below a path canonical: mode 0444 or 0555, time 1, this process's user, no
    /// extended attributes. Anything but files, folders and links is an error.
    pub fn apply(&self, path: &Path, seen: &mut InodesSeen) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("cannot make '{}' canonical", path.display()),
            ));
        };
        let folder = File::open(parent)
            .map(OwnedFd::from)
            .map_err(|e| Error::io(format_args!("opening directory '{}'", parent.display()), e))?;
        let name = CString::new(name.as_bytes())
            .map_err(|_| os_error(format_args!("'{}'", path.display()), nix::Error::EINVAL))?;
        // Folders whose entries are left to do.
        let mut stack: Vec<(OwnedFd, Vec<CString>)> = vec![(folder, vec![name])];
        let mut names: Vec<CString> = Vec::new();
        while let Some((folder, left)) = stack.last_mut() {
            let Some(name) = left.pop() else {
                stack.pop();
                names.pop();
                continue;
            };
            let at = || display(parent, &names, &name);
            if names.len() >= MAX_DEPTH {
                return Err(too_deep(Some(at().as_ref())));
            }
            let stat = fstatat(&*folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| os_error(format_args!("getting status of '{}'", at()), e))?;
            self.node(folder, &name, &stat, seen, &at)?;
            if kind_of(&stat) == SFlag::S_IFDIR {
                let fd = open_dir(&*folder, OsStr::from_bytes(name.as_bytes()))
                    .map_err(|e| os_error(format_args!("opening directory '{}'", at()), e))?;
                let entries = list(&fd)
                    .map_err(|e| os_error(format_args!("reading directory '{}'", at()), e))?;
                names.push(name);
                stack.push((fd, entries));
            }
        }
        Ok(())
    }

    fn node(
        &self,
        folder: &OwnedFd,
        name: &CString,
        stat: &FileStat,
        seen: &mut InodesSeen,
        at: &dyn Fn() -> String,
    ) -> Result<()> {
        let kind = kind_of(stat);
        if !matches!(kind, SFlag::S_IFREG | SFlag::S_IFDIR | SFlag::S_IFLNK) {
            return Err(Error::new(
                ErrorKind::Nar,
                format!("file \"{}\" has an unsupported type", at()),
            ));
        }
        remove_attributes(folder, name, self.ignored_acls).map_err(|e| {
            Error::io(
                format_args!("removing extended attributes of '{}'", at()),
                e,
            )
        })?;
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(owners) = &self.owners
            && !owners.contains(&stat.st_uid)
        {
            // A second link to a file that was made canonical a moment ago has our owner.
            if kind == SFlag::S_IFDIR || !seen.contains(&inode) {
                return Err(Error::new(
                    ErrorKind::Build,
                    format!("invalid ownership on file '{}'", at()),
                ));
            }
            return Ok(());
        }
        seen.insert(inode);
        if kind != SFlag::S_IFLNK {
            let mode = stat.st_mode & 0o7777;
            let is_dir = kind == SFlag::S_IFDIR;
            let wanted = match is_dir || mode & 0o100 != 0 {
                true => 0o555,
                // Files with the mode 0555 keep it in any case.
                false => 0o444,
            };
            if mode != wanted {
                chmod_no_follow(folder, name, Mode::from_bits_truncate(wanted))
                    .map_err(|e| os_error(format_args!("changing the mode of '{}'", at()), e))?;
            }
        }
        if stat.st_mtime != super::files::MTIME || stat.st_mtime_nsec != 0 {
            set_mtime(folder, name)
                .map_err(|e| os_error(format_args!("setting the time of '{}'", at()), e))?;
        }
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if stat.st_uid != user.as_raw() {
            chown(folder, name, user, group)
                .map_err(|e| os_error(format_args!("changing owner of '{}'", at()), e))?;
        }
        Ok(())
    }
}

fn chown(folder: &OwnedFd, name: &CString, user: Uid, group: Gid) -> nix::Result<()> {
    fchownat(
        folder,
        name.as_c_str(),
        Some(user),
        Some(group),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
}

fn display(top: &Path, names: &[CString], name: &CString) -> String {
    let mut path = top.to_path_buf();
    for name in names.iter().chain([name]) {
        path.push(OsStr::from_bytes(name.as_bytes()));
    }
    path.display().to_string()
}

/// Whether a file has extended attributes, but for some: a store folder with default ACLs hands them down.
pub(super) fn has_attributes(path: &Path, ignored: &[String]) -> bool {
    CString::new(path.as_os_str().as_bytes())
        .ok()
        .and_then(|path| attributes(&path, ignored).ok())
        .is_some_and(|found| !found.is_empty())
}

/// Removes the extended attributes of an entry, but for some.
fn remove_attributes(folder: &OwnedFd, name: &CString, ignored: &[String]) -> std::io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    let Ok(path) = CString::new(path) else {
        return Ok(());
    };
    for attribute in attributes(&path, ignored)? {
        // SAFETY: both strings end in NUL and outlive the call.
        if unsafe { libc::lremovexattr(path.as_ptr(), attribute.as_ptr()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The names of a file's extended attributes, but for some.
fn attributes(path: &CString, ignored: &[String]) -> std::io::Result<Vec<CString>> {
    // The kernel's limit for all names together.
    const MAX: usize = 64 * 1024;
    let mut buffer = [0u8; 256];
    let mut large = Vec::new();
    let mut len = list_attributes(path, &mut buffer);
    if matches!(&len, Err(e) if e.raw_os_error() == Some(libc::ERANGE)) {
        large = vec![0; MAX];
        len = list_attributes(path, &mut large);
    }
    let len = match len {
        Ok(len) => len,
        Err(e) => {
            return match e.raw_os_error() {
                // Without `/proc` nothing can be said.
                Some(libc::ENOTSUP | libc::ENODATA | libc::ENOENT) => Ok(Vec::new()),
                _ => Err(e),
            };
        }
    };
    let names = match large.is_empty() {
        true => buffer.get(..len),
        false => large.get(..len),
    };
    Ok(names
        .unwrap_or(&[])
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty() && !ignored.iter().any(|i| i.as_bytes() == *name))
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

fn list_attributes(path: &CString, buffer: &mut [u8]) -> std::io::Result<usize> {
    // SAFETY: the path ends in NUL, and at most as many bytes are written as the buffer has.
    let len = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(len).map_err(|_| std::io::Error::last_os_error())
}
