//! Where a build takes place: its folder, the root that its builder sees, where outputs go meanwhile, and
//! putting everything away again.

use super::environment::InputRewrites;
use super::hooks::pre_build_hook;
use super::job::{Build, PathStatus};
use super::request::{BuildMode, BuildStatus};
use super::sandbox::View;
use super::scan::Rewrites;
use super::settings::SandboxPath;
use super::{Failed, tree};
use crate::error::{Error, ErrorKind};
use crate::hash::{Hash, HashFormat};
use crate::placeholder::hash_placeholder;
use crate::store_path::{StorePath, canonical_path, output_path_name};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl Build<'_> {
    /// The folder that the builder works in. One that a sandbox shows elsewhere lies in another that nobody else can
    /// enter.
    pub(super) fn make_folders(&mut self, nested: bool) -> Result<(), Failed> {
        let settings = &self.shared.settings;
        let config = self.store().config();
        let parent = settings
            .build_dir
            .clone()
            .or_else(|| config.build_dir.clone())
            .unwrap_or_else(|| config.state_dir.join("builds"));
        crate::local::make_dirs(&parent)?;
        if self.user().is_some() {
            refuse_world_writable(&parent)?;
        }
        let (top, lock) = self.shared.make_temp_dir(&parent)?;
        self.top_lock = Some(lock);
        self.tmp_dir = match nested {
            true => top.join("build"),
            false => top.clone(),
        };
        self.top_dir = Some(top);
        if nested {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&self.tmp_dir)
                .map_err(|e| Error::io("creating the build's directory", e))?;
        }
        self.give_to_builder(&self.tmp_dir)
    }

    pub(super) fn give_to_builder(&self, path: &Path) -> Result<(), Failed> {
        if let Some(user) = self.user() {
            std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(|e| {
                Error::io(
                    format_args!("cannot change ownership of '{}'", path.display()),
                    e,
                )
            })?;
        }
        Ok(())
    }

    pub(super) fn write_file(&self, name: &str, contents: &[u8]) -> Result<(), Failed> {
        use std::io::Write;
        let path = self.tmp_dir.join(name);
        let fail = |e| Error::io(format_args!("creating file '{}'", path.display()), e);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(fail)?;
        file.write_all(contents).map_err(fail)?;
        self.give_to_builder(&path)
    }

    /// Decides where the builder puts its outputs, and what is replaced in what it is told.
    pub(super) fn assign_places(&mut self, sandbox: bool) -> Result<InputRewrites, Failed> {
        let mut rewrites = InputRewrites::new();
        let mut scratch = BTreeMap::new();
        for (name, initial) in &self.initial {
            let place = match &initial.known {
                None => self.fallback_for_output(name)?,
                // A root of its own hides what is there.
                Some((path, _)) if sandbox => path.clone(),
                Some((path, PathStatus::Absent)) => path.clone(),
                // It cannot be overwritten, so the builder makes another, and its path is replaced afterwards.
                Some((path, _)) => self.fallback_for_path(path)?,
            };
            rewrites.insert(
                hash_placeholder(name).into_bytes(),
                self.store().print(&place).into_bytes(),
            );
            if let Some((path, _)) = &initial.known
                && *path != place
            {
                let real = self.store().real_path(&place);
                if tree::exists(&real) {
                    crate::local::delete(&real)?;
                }
                rewrites.insert(path.hash_part().into(), place.hash_part().into());
            }
            if !sandbox {
                self.store().add_temp_root(&place)?;
            }
            scratch.insert(name.clone(), place);
        }
        self.scratch = scratch;
        Ok(rewrites)
    }

    fn fallback(&self, kind: String, name: &str) -> Result<StorePath, Failed> {
        let zero = Hash::from_sha256([0; 32]).encode_with_algorithm(HashFormat::Base16);
        Ok(self
            .store()
            .store_dir()
            .make_store_path(&kind, &zero, name)?)
    }

    fn fallback_for_output(&self, output: &str) -> Result<StorePath, Failed> {
        self.fallback(
            format!("rewrite:{}:name:{output}", self.job.drv_path.base_name()),
            &output_path_name(&self.drv.name, output),
        )
    }

    fn fallback_for_path(&self, path: &StorePath) -> Result<StorePath, Failed> {
        self.fallback(
            format!(
                "rewrite:{}:{}",
                self.job.drv_path.base_name(),
                path.base_name()
            ),
            path.name(),
        )
    }

    /// Where something in the store, as the builder sees it, is on the machine.
    pub fn actual_path(&self, path: &StorePath) -> PathBuf {
        match &self.chroot {
            None => self.store().real_path(path),
            Some(chroot) => {
                let dir = self.store().store_dir().as_str().trim_start_matches('/');
                chroot.join("root").join(dir).join(path.base_name())
            }
        }
    }

    /// Fails if what leads to the outputs in the builder's root are no folders. It is dead by now, but may have put
    /// links in their place, which would lead to files of the machine.
    pub fn check_root(&self) -> Result<(), Failed> {
        let Some(chroot) = &self.chroot else {
            return Ok(());
        };
        let mut dir = chroot.join("root");
        let below = self.store().store_dir().as_str().trim_start_matches('/');
        for part in Path::new(below) {
            dir.push(part);
            if !fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
                return Err(Failed::new(
                    BuildStatus::OutputRejected,
                    format!(
                        "builder for '{}' has replaced a folder above its outputs: '{}'",
                        self.store().print(&self.job.drv_path),
                        dir.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A copy of the output at a path, which nobody else has open; the original goes away with the builder's root.
    pub fn fresh_copy(&self, path: &StorePath) -> Result<PathBuf, Failed> {
        let dir = self.chroot_dir();
        if self.chroot.is_none() && !tree::exists(&dir) {
            self.make_chroot_dir(&dir)?;
        }
        let copy = dir.join(path.base_name());
        if tree::exists(&copy) {
            crate::local::delete(&copy)?;
        }
        tree::copy(&self.actual_path(path), &copy, &Rewrites::new())?;
        Ok(copy)
    }

    /// A folder beside the derivation, in the store, so that outputs can be moved out of it.
    fn chroot_dir(&self) -> PathBuf {
        tree::with_suffix(&self.store().real_path(&self.job.drv_path), ".chroot")
    }

    fn make_chroot_dir(&self, dir: &Path) -> Result<(), Failed> {
        if tree::exists(dir) {
            crate::local::delete(dir)?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .map_err(|e| Error::io(format_args!("cannot create '{}'", dir.display()), e))?;
        Ok(())
    }

    /// Links files of an output with others of the same contents.
    pub fn optimise(&self, path: &Path) -> Result<(), Failed> {
        self.shared.optimise(path)
    }

    /// What a builder with a root of its own sees.
    pub(super) fn view(&mut self) -> Result<View, Failed> {
        let dir = self.chroot_dir();
        self.make_chroot_dir(&dir)?;
        self.chroot = Some(dir.clone());
        let root = dir.join("root");
        fs::create_dir(&root)
            .and_then(|()| fs::set_permissions(&root, Permissions::from_mode(0o750)))
            .map_err(|e| Error::io(format_args!("cannot create '{}'", root.display()), e))?;
        let store = self.store();
        let store_dir = PathBuf::from(store.store_dir().as_str());
        let settings = &self.shared.settings;
        if store_dir.starts_with(&settings.sandbox_build_dir) {
            return Err(Error::new(
                ErrorKind::Sandbox,
                "`sandbox-build-dir` must not contain the storeDir",
            )
            .into());
        }
        let mut paths = settings.sandbox_paths.clone();
        let mut shown = self.inputs.clone();
        // What a path of the store in `sandbox-paths` refers to has to be there too.
        for path in settings.sandbox_paths.values() {
            use std::os::unix::ffi::OsStrExt;
            let source = path.source.as_os_str().as_bytes();
            if let Ok((path, _)) = store.store_dir().split(source)
                && store.is_valid(&path)?
            {
                shown.extend(store.closure([&path])?);
            }
        }
        for path in &self.options.impure_host_deps {
            // Without `..`, which would lead out of what is allowed, and out of the root that is being made. Links
            // are not looked at: what cannot be read is not to be asked about either.
            let path = canonical(Path::new(path));
            let allowed = settings
                .allowed_impure_host_deps
                .iter()
                .any(|prefix| path.starts_with(canonical(prefix)));
            if !allowed {
                return Err(Error::new(
                    ErrorKind::Build,
                    format!(
                        "derivation '{}' requested impure path '{}', but it was not in allowed-impure-host-deps",
                        store.print(&self.job.drv_path),
                        path.display()
                    ),
                )
                .into());
            }
            paths.insert(
                path.clone(),
                SandboxPath {
                    source: path,
                    optional: true,
                },
            );
        }
        pre_build_hook(self.shared, &self.job.drv_path, Some(&root), &mut paths)?;
        // Not the old version of what is about to be built.
        for initial in self.initial.values() {
            if let Some((path, _)) = &initial.known {
                shown.remove(path);
                paths.remove(Path::new(&store.print(path)));
            }
        }
        Ok(View {
            inputs: shown
                .iter()
                .map(|path| (path.base_name().to_owned(), store.real_path(path)))
                .collect(),
            root,
            store_dir,
            paths,
        })
    }

    /// Removes what was made for the builder.
    pub(super) fn clean(&mut self, success: bool) -> Result<(), Failed> {
        let shared = self.shared;
        if let Some(top) = self.top_dir.take() {
            if shared.settings.keep_failed && !success && !self.drv.is_builtin() {
                shared.observer.finding(format!(
                    "note: keeping build directory '{}'",
                    self.tmp_dir.display()
                ));
                for dir in [&top, &self.tmp_dir] {
                    // Kept for people to look at; if that fails they still can as root.
                    let _ = fs::set_permissions(dir, Permissions::from_mode(0o755));
                }
                self.keep_outputs();
            } else {
                crate::local::delete(&top)?;
            }
        }
        if success {
            for (name, place) in &self.scratch {
                let known = self.initial.get(name).and_then(|i| i.known.as_ref());
                if self.chroot.is_none() && known.is_none_or(|(path, _)| path != place) {
                    let real = self.store().real_path(place);
                    if tree::exists(&real) && !self.store().is_valid(place)? {
                        crate::local::delete(&real)?;
                    }
                }
            }
        }
        self.chroot = None;
        let chroot = self.chroot_dir();
        if tree::exists(&chroot) {
            crate::local::delete(&chroot)?;
        }
        Ok(())
    }

    /// Outputs of a failed build are moved out of its root, for people to look at.
    fn keep_outputs(&self) {
        if self.chroot.is_none() || self.job.mode != BuildMode::Normal || self.check_root().is_err()
        {
            return;
        }
        for initial in self.initial.values() {
            if let Some((path, PathStatus::Absent)) = &initial.known {
                let from = self.actual_path(path);
                if tree::exists(&from) {
                    // Nobody depends on it.
                    let _ = tree::rename(&from, &self.store().real_path(path));
                }
            }
        }
    }
}

fn canonical(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = canonical_path(path.as_os_str().as_bytes());
    OsString::from_vec(bytes).into()
}

/// Where everybody may write, somebody could put a folder of theirs in the place of a build's.
fn refuse_world_writable(path: &Path) -> Result<(), Failed> {
    for dir in path.ancestors() {
        let meta = fs::symlink_metadata(dir)
            .map_err(|e| Error::io(format_args!("getting status of '{}'", dir.display()), e))?;
        if meta.permissions().mode() & 0o002 != 0 {
            return Err(Error::new(
                ErrorKind::Build,
                format!(
                    "Path '{}' is world-writable or a symlink. That's not allowed for security.",
                    dir.display()
                ),
            )
            .into());
        }
    }
    Ok(())
}
