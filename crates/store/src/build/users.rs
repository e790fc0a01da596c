//! Users of the machine that builders run as, one at a time each (`build-users-group`).

use super::sandbox::{User, set_thread_groups};
use crate::error::{Error, ErrorKind, Result};
use crate::local::LocalStore;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

/// A user that nobody else builds as while this is held.
pub(super) struct UserLock {
    /// The user.
    pub user: User,
    _lock: Flock<File>,
}

impl UserLock {
    /// A free member of the group; `None` if all are taken. The locks are those of C++ Nix, so both can
    /// use the same users.
    pub fn acquire(store: &LocalStore, group: &str) -> Result<Option<UserLock>> {
        let error = |message: String| Error::new(ErrorKind::Build, message);
        let found = nix::unistd::Group::from_name(group)
            .ok()
            .flatten()
            .ok_or_else(|| {
                error(format!(
                    "the group '{group}' specified in 'build-users-group' does not exist"
                ))
            })?;
        if found.mem.is_empty() {
            return Err(error(format!(
                "the build users group '{group}' has no members"
            )));
        }
        let pool = store.config().state_dir.join("userpool");
        crate::local::make_dirs(&pool)?;
        for name in &found.mem {
            let user = nix::unistd::User::from_name(name)
                .ok()
                .flatten()
                .ok_or_else(|| {
                    error(format!(
                        "the user '{name}' in the group '{group}' does not exist"
                    ))
                })?;
            if user.uid.is_root() || user.uid == nix::unistd::geteuid() {
                return Err(error(format!(
                    "the Nix user should not be a member of '{group}'"
                )));
            }
            let path = pool.join(user.uid.to_string());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|e| {
                    Error::io(format_args!("opening user lock '{}'", path.display()), e)
                })?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let groups = std::ffi::CString::new(user.name.as_str())
                .ok()
                .and_then(|name| nix::unistd::getgrouplist(&name, found.gid).ok())
                .unwrap_or_default();
            return Ok(Some(UserLock {
                user: User {
                    uid: user.uid.as_raw(),
                    gid: found.gid.as_raw(),
                    groups: groups
                        .into_iter()
                        .filter(|gid| *gid != found.gid)
                        .map(nix::unistd::Gid::as_raw)
                        .collect(),
                },
                _lock: lock,
            }));
        }
        Ok(None)
    }
}

/// This thread's access to files, which is that of another user for as long as this exists.
pub(super) struct FilesAs {
    groups: Vec<u32>,
    gid: Gid,
    uid: Uid,
}

impl FilesAs {
    /// Becomes that user to the file system, without a right to more.
    pub fn user(user: &User) -> Result<FilesAs> {
        let groups = nix::unistd::getgroups().map_err(refused)?;
        let before = FilesAs {
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            gid: nix::unistd::getegid(),
            uid: nix::unistd::geteuid(),
        };
        set_thread_groups(&user.groups)
            .map_err(|e| Error::io("cannot become the build user", e))?;
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        setfsgid(gid);
        setfsuid(uid);
        // Both tell only what was before.
        match setfsuid(uid) == uid && setfsgid(gid) == gid {
            true => Ok(before),
            false => Err(refused(nix::Error::EPERM)),
        }
    }
}

impl Drop for FilesAs {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
        // What fails leaves the thread with less than it had.
        let _ = set_thread_groups(&self.groups);
    }
}

fn refused(e: nix::Error) -> Error {
    Error::io("cannot become the build user", std::io::Error::from(e))
}
