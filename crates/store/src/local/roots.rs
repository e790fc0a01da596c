//! Roots: what keeps paths from being collected.
//!
//! - links to store paths below `gcroots` and `profiles`, and files there that are named like one;
//! - indirect roots: links below `gcroots/auto` to links elsewhere (`result`), which are roots as long as
//!   those exist and point into the store;
//! - temporary roots of running processes;
//! - what running processes have open, mapped, in their environment or as their folder or program.

use super::LocalStore;
use super::locks::{LockKind, delete_lock_file, lock_file};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Level;
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use crate::store_path::{StoreDir, StorePath, canonical_path};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Roots with where they were found: a link, a file, `{temp:PID}`, something in `/proc`.
pub type Roots = BTreeMap<StorePath, BTreeSet<String>>;

/// What stands for a place that is not told.
const CENSORED: &str = "{censored}";

impl LocalStore {
    /// Makes a link to a path and an indirect root for it, as `nix-build` makes `result`. Gives the
    /// link's absolute path.
    ///
    /// What is there is replaced if it is a link into the store, and an error otherwise.
    pub fn add_perm_root(&self, path: &StorePath, link: &Path) -> Result<PathBuf> {
        self.check_writable()?;
        let link = absolute(link)?;
        if self.store_dir().contains(link.as_os_str().as_bytes()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "creating a garbage collector root ('{}') in the Nix store is forbidden (are you running nix-build inside the store?)",
                    link.display()
                ),
            ));
        }
        if let Ok(meta) = link.symlink_metadata() {
            let ours = meta.is_symlink()
                && std::fs::read_link(&link)
                    .is_ok_and(|to| self.store_dir().contains(to.as_os_str().as_bytes()));
            if !ours {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!("cannot create symlink '{}'; already exists", link.display()),
                ));
            }
        }
        self.with_temp_root(path, || {
            make_symlink(&link, Path::new(&self.print(path)))?;
            self.add_indirect_root(&link)
        })?;
        Ok(link)
    }

    /// Makes what a link (given with its absolute path) points to a root, for as long as it is there.
    pub fn add_indirect_root(&self, link: &Path) -> Result<()> {
        self.check_writable()?;
        let hash = Hash::of(HashAlgorithm::Sha1, link.as_os_str().as_bytes());
        let root = self
            .config
            .state_dir
            .join("gcroots/auto")
            .join(hash.encode(HashFormat::Nix32));
        make_symlink(&root, link)
    }

    /// All roots. Links below `gcroots/auto` whose target has gone are removed on the way. With `censor`,
    /// it is not told which process or file of somebody else a root comes from.
    pub fn find_roots(&self, censor: bool) -> Result<Roots> {
        let mut roots = self.find_lasting_roots(censor)?;
        for (path, places) in self.find_temp_roots(censor)? {
            roots.entry(path).or_default().extend(places);
        }
        Ok(roots)
    }

    /// All roots but temporary ones.
    pub(super) fn find_lasting_roots(&self, censor: bool) -> Result<Roots> {
        let mut roots = Roots::new();
        for dir in ["gcroots", "profiles"] {
            self.find_links(self.config.state_dir.join(dir), &mut roots)?;
        }
        let mut running = Roots::new();
        find_running(self.store_dir(), &self.config.real_store_dir, &mut running);
        for (path, places) in running {
            if self.is_valid(&path)? {
                let entry = roots.entry(path).or_default();
                match censor {
                    true => {
                        entry.insert(CENSORED.to_owned());
                    }
                    false => entry.extend(places),
                }
            }
        }
        Ok(roots)
    }

    fn find_links(&self, top: PathBuf, roots: &mut Roots) -> Result<()> {
        let mut todo = vec![top];
        while let Some(path) = todo.pop() {
            if let Err(e) = self.look_at(&path, &mut todo, roots) {
                match e.kind() {
                    ErrorKind::Io(
                        io::ErrorKind::PermissionDenied
                        | io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory,
                    ) => self.say(
                        Level::Info,
                        format!("cannot read potential root '{}'", path.display()),
                    ),
                    _ => return Err(e),
                }
            }
        }
        Ok(())
    }

    fn look_at(&self, path: &Path, todo: &mut Vec<PathBuf>, roots: &mut Roots) -> Result<()> {
        let fail = |e| Error::io(format_args!("finding GC roots in '{}'", path.display()), e);
        let meta = path.symlink_metadata().map_err(fail)?;
        if meta.is_dir() {
            for entry in std::fs::read_dir(path).map_err(fail)? {
                todo.push(entry.map_err(fail)?.path());
            }
        } else if meta.is_symlink() {
            let target = std::fs::read_link(path).map_err(fail)?;
            if self.is_in_store(&target) {
                return self.found(path, &target, roots);
            }
            let target = match path.parent() {
                Some(parent) => absolute(&parent.join(&target))?,
                None => target,
            };
            match target.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => {
                    let second = std::fs::read_link(&target).map_err(fail)?;
                    if self.is_in_store(&second) {
                        self.found(&target, &second, roots)?;
                    }
                }
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    let auto = self.config.state_dir.join("gcroots/auto");
                    if path.starts_with(auto) && !self.config.read_only {
                        self.say(
                            Level::Info,
                            format!(
                                "removing stale link from '{}' to '{}'",
                                path.display(),
                                target.display()
                            ),
                        );
                        self.remove_stale(path, &target);
                    }
                }
                Err(e) => return Err(fail(e)),
            }
        } else if meta.is_file()
            && let Some(name) = path.file_name()
            && let Ok(store_path) = StorePath::from_base_name(name.as_bytes())
            && self.is_valid(&store_path)?
        {
            roots
                .entry(store_path)
                .or_default()
                .insert(path.display().to_string());
        }
        Ok(())
    }

    /// Removes an indirect root whose link was not there. Who makes both makes the link first: if it is there by now, the
    /// root that was removed may have been the new one, and is made again.
    fn remove_stale(&self, root: &Path, link: &Path) {
        // What stays is found again the next time.
        let _ = std::fs::remove_file(root);
        if link.symlink_metadata().is_ok() {
            let _ = make_symlink(root, link);
        }
    }

    fn is_in_store(&self, target: &Path) -> bool {
        self.store_dir().contains(target.as_os_str().as_bytes())
    }

    fn found(&self, place: &Path, target: &Path, roots: &mut Roots) -> Result<()> {
        let Ok((path, _)) = self.store_dir().split(target.as_os_str().as_bytes()) else {
            return Ok(());
        };
        if self.is_valid(&path)? {
            roots
                .entry(path)
                .or_default()
                .insert(place.display().to_string());
        } else {
            self.say(
                Level::Info,
                format!(
                    "skipping invalid root from '{}' to '{}'",
                    place.display(),
                    target.display()
                ),
            );
        }
        Ok(())
    }

    /// The temporary roots of running processes. Files of processes that have died are removed. Paths
    /// need not be valid.
    pub(super) fn find_temp_roots(&self, censor: bool) -> Result<Roots> {
        let dir = self.config.state_dir.join("temproots");
        let mut roots = Roots::new();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(roots),
            Err(e) => return Err(Error::io(format_args!("'{}'", dir.display()), e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(format_args!("'{}'", dir.display()), e))?;
            let name = entry.file_name();
            // Some package managers leave hidden files to keep folders alive.
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let fail = |e| {
                Error::io(
                    format_args!("opening temporary roots file '{}'", path.display()),
                    e,
                )
            };
            let opened = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path);
            let mut file = match opened {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(fail(e)),
            };
            // The lock can only be had if the process has died.
            if lock_file(&file, LockKind::Exclusive, false)? {
                self.say(
                    Level::Info,
                    format!("removing stale temporary roots file '{}'", path.display()),
                );
                delete_lock_file(&path, &file);
                continue;
            }
            let mut text = Vec::new();
            file.read_to_end(&mut text).map_err(fail)?;
            let pid: String = name
                .to_string_lossy()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            // What follows the last NUL is being written.
            let complete = text.iter().rposition(|b| *b == 0).unwrap_or(0);
            for root in text.get(..complete).unwrap_or(&[]).split(|b| *b == 0) {
                if let Ok(root) = self.store_dir().parse_lenient(root) {
                    roots.entry(root).or_default().insert(match censor {
                        true => CENSORED.to_owned(),
                        false => format!("{{temp:{pid}}}"),
                    });
                }
            }
        }
        Ok(roots)
    }
}

/// Makes a path absolute and canonical lexically.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)
        .map_err(|e| Error::io(format_args!("'{}'", path.display()), e))?;
    let bytes = canonical_path(path.as_os_str().as_bytes());
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// Makes a link, replacing what is there at once.
pub(crate) fn make_symlink(link: &Path, target: &Path) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|e| Error::io(format_args!("creating directory '{}'", parent.display()), e))?;
    }
    let fail = |e| {
        Error::io(
            format_args!(
                "creating symlink from '{}' to '{}'",
                link.display(),
                target.display()
            ),
            e,
        )
    };
    let temporary = loop {
        let mut name = link.as_os_str().to_owned();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".tmp-{}-{number}", std::process::id()));
        let temporary = PathBuf::from(name);
        match std::os::unix::fs::symlink(target, &temporary) {
            Ok(()) => break temporary,
            // Left by a process that had the same number and was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(fail(e)),
        }
    };
    std::fs::rename(&temporary, link).map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        fail(e)
    })
}

/// Finds what running processes use. What cannot be read, of other users mostly, is passed over.
fn find_running(store: &StoreDir, real: &Path, roots: &mut Roots) {
    let mut add = |text: &[u8], place: &Path| {
        let logical = store.split(text).ok();
        // Processes outside a store's mount namespace see its files where they are.
        let at_real = || {
            let below = Path::new(OsStr::from_bytes(text)).strip_prefix(real).ok()?;
            let first = below.components().next()?;
            StorePath::from_base_name(first.as_os_str().as_bytes()).ok()
        };
        if let Some(path) = logical.map(|(path, _)| path).or_else(at_real) {
            roots
                .entry(path)
                .or_default()
                .insert(place.display().to_string());
        }
    };
    for name in ["modprobe", "fbsplash", "poweroff_cmd"] {
        let file = Path::new("/proc/sys/kernel").join(name);
        if let Ok(text) = std::fs::read(&file) {
            add(text.trim_ascii(), &file);
        }
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        if !process
            .file_name()
            .as_bytes()
            .iter()
            .all(u8::is_ascii_digit)
        {
            continue;
        }
        let process = process.path();
        let link = |file: PathBuf, add: &mut dyn FnMut(&[u8], &Path)| {
            if let Ok(target) = std::fs::read_link(&file) {
                add(target.as_os_str().as_bytes(), &file);
            }
        };
        link(process.join("exe"), &mut add);
        link(process.join("cwd"), &mut add);
        if let Ok(files) = std::fs::read_dir(process.join("fd")) {
            for file in files.flatten() {
                link(file.path(), &mut add);
            }
        }
        let maps = process.join("maps");
        if let Ok(text) = std::fs::read(&maps) {
            for line in text.split(|b| *b == b'\n') {
                if let Some(at) = line.iter().position(|b| *b == b'/') {
                    add(line.get(at..).unwrap_or(&[]).trim_ascii(), &maps);
                }
            }
        }
        let environ = process.join("environ");
        if let Ok(text) = std::fs::read(&environ) {
            for path in store_paths_in(&text, store.as_str()) {
                add(path, &environ);
            }
        }
    }
}

/// All that looks like a store path in some text.
fn store_paths_in<'t>(text: &'t [u8], dir: &str) -> Vec<&'t [u8]> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text
        .get(at..)
        .and_then(|rest| bstr::ByteSlice::find(rest, dir))
    {
        let start = at + next;
        let name = start + dir.len() + 1;
        let len = text
            .get(name..)
            .unwrap_or(&[])
            .iter()
            .take_while(|c| c.is_ascii_alphanumeric() || b"+-._?=".contains(c))
            .count();
        if let Some(path) = text.get(start..name + len) {
            found.push(path);
        }
        at = start + dir.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_text() {
        let text = b"PATH=/nix/store/abc-x/bin:/nix/store/def-y\0A=/nix/store\0/nix/store/";
        let found = store_paths_in(text, "/nix/store");
        assert!(found.contains(&&b"/nix/store/abc-x"[..]));
        assert!(found.contains(&&b"/nix/store/def-y"[..]));
    }
}
