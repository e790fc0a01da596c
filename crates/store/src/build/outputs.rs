//! From what a builder left behind to valid paths.
//!
//! Each output is made canonical and then read once: its archive is hashed while it is scanned for references. Only
//! where an output mentions paths that are to be replaced (its own temporary one, or those of other
//! outputs) is it written anew and read again. Outputs become valid together, in one transaction, after all
//! checks; content-addressed ones a moment earlier each, since a wrong guess of a fixed hash is kept for
//! whoever corrects the guess.

use super::Failed;
use super::checks::check_outputs;
use super::hooks::diff_hook;
use super::job::{Build, Initial, PathStatus};
use super::request::{BuildMode, BuildStatus};
use super::scan::Rewrites;
use super::tree::{self, Scanned};
use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::derivation::{DerivationKind, DerivationOutput, OutputName};
use crate::error::{Error, Result};
use crate::hash::HashAlgorithm;
use crate::ingest::git_hash;
use crate::local::{
    Canonicalise, HashModulo, InodesSeen, LocalStore, PathInfo, PathLocks, Realisation,
};
use crate::nar::{FileSystem, write_nar};
use crate::store_path::{StorePath, StoreReferences, output_path_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is known about an output after the first pass.
enum Found {
    /// It was valid before; the new one is not looked at.
    Valid(StorePath),
    /// It is new.
    New(New),
}

/// A new output.
struct New {
    /// Where it is.
    actual: PathBuf,
    scanned: Scanned,
    /// Whether it is a file that is not executable.
    flat: bool,
}

/// Checks the outputs of a build that has succeeded, and makes them valid.
pub(super) fn register_outputs(
    build: &Build<'_>,
) -> Result<BTreeMap<OutputName, StorePath>, Failed> {
    let mut registering = Registering {
        build,
        store: &build.shared.store,
        seen: InodesSeen::default(),
        rewrites: Rewrites::new(),
        infos: BTreeMap::new(),
        finals: BTreeMap::new(),
    };
    registering.run()
}

struct Registering<'b> {
    build: &'b Build<'b>,
    store: &'b LocalStore,
    seen: InodesSeen,
    /// From temporary to final paths, as far as they are known.
    rewrites: Rewrites,
    infos: BTreeMap<OutputName, PathInfo>,
    finals: BTreeMap<OutputName, StorePath>,
}

fn rejected(message: String) -> Failed {
    Failed::new(BuildStatus::OutputRejected, message)
}

impl Registering<'_> {
    fn run(&mut self) -> Result<BTreeMap<OutputName, StorePath>, Failed> {
        let build = self.build;
        build.check_root()?;
        let mut found = BTreeMap::new();
        for (name, output) in &build.drv.outputs {
            found.insert(name.clone(), self.look(name, output)?);
        }
        for name in self.sort(&found)? {
            match found.get(&name) {
                Some(Found::Valid(path)) => self.finish(&name, path.clone()),
                Some(Found::New(new)) => self.register(&name, new)?,
                None => {}
            }
        }
        check_outputs(
            self.store,
            &build.job.drv_path,
            &build.drv,
            &build.options.output_checks,
            &self.infos,
        )?;
        if build.job.mode == BuildMode::Check {
            return Ok(self.finals.clone());
        }
        self.store.register(self.infos.values())?;
        let settings = &build.shared.settings;
        if settings.feature("ca-derivations") && build.kind != DerivationKind::Impure {
            self.register_realisations()?;
        }
        Ok(self.finals.clone())
    }

    fn register_realisations(&self) -> Result<(), Failed> {
        let build = self.build;
        let hash = self.store.output_hash(&build.drv)?;
        for (name, path) in &self.finals {
            self.store.register_realisation(&Realisation {
                drv_hash: hash,
                output: name.clone(),
                path: path.clone(),
                signatures: BTreeSet::new(),
            })?;
        }
        Ok(())
    }

    fn initial(&self, name: &OutputName) -> Option<&Initial> {
        self.build.initial.get(name)
    }

    fn scratch(&self, name: &OutputName) -> Result<&StorePath, Failed> {
        self.build
            .scratch
            .get(name)
            .ok_or_else(|| rejected(format!("output '{name}' has no place")))
    }

    /// The first pass over an output.
    fn look(&mut self, name: &OutputName, output: &DerivationOutput) -> Result<Found, Failed> {
        let build = self.build;
        let scratch = self.scratch(name)?.clone();
        if build.job.mode != BuildMode::Check
            && let Some(Initial {
                known: Some((path, PathStatus::Valid)),
                ..
            }) = self.initial(name)
        {
            return Ok(Found::Valid(path.clone()));
        }
        let mut actual = build.actual_path(&scratch);
        let Ok(meta) = fs::symlink_metadata(&actual) else {
            return Err(rejected(format!(
                "builder for '{}' failed to produce output path for output '{name}' at \"{}\"",
                self.store.print(&build.job.drv_path),
                actual.display()
            )));
        };
        let user = build.user();
        if (!meta.is_symlink() && meta.permissions().mode() & 0o022 != 0)
            || user.is_some_and(|user| meta.uid() != user.uid)
        {
            return Err(rejected(format!(
                "suspicious ownership or permission on \"{}\" for output '{name}'; rejecting this build output",
                actual.display()
            )));
        }
        let flat = meta.is_file() && meta.permissions().mode() & 0o100 == 0;
        self.canonicalise(&actual, user.map(|user| user.uid))?;
        // Builders that reach the network may have handed open files to somebody who goes on writing.
        if matches!(
            output,
            DerivationOutput::CaFixed(_) | DerivationOutput::Impure { .. }
        ) {
            actual = build.fresh_copy(&scratch)?;
            self.canonicalise(&actual, None)?;
        }
        let discard = build
            .options
            .unsafe_discard_references
            .get(name)
            .is_some_and(|discard| *discard);
        let candidates = match discard {
            true => BTreeSet::new(),
            false => build.inputs.iter().chain(build.scratch.values()).collect(),
        };
        let scanned = tree::scan(&actual, candidates)?;
        Ok(Found::New(New {
            actual,
            scanned,
            flat,
        }))
    }

    fn canonicalise(&mut self, path: &Path, owner: Option<u32>) -> Result<(), Failed> {
        Canonicalise {
            owners: owner.map(|uid| uid..=uid),
            ignored_acls: &self.store.config().settings.ignored_acls,
        }
        .apply(path, &mut self.seen)?;
        Ok(())
    }

    /// Outputs that others refer to come first.
    fn sort(&self, found: &BTreeMap<OutputName, Found>) -> Result<Vec<OutputName>, Failed> {
        let build = self.build;
        let references = |name: &OutputName| -> Vec<OutputName> {
            match found.get(name) {
                Some(Found::New(New { scanned, .. })) => build
                    .scratch
                    .iter()
                    .filter(|(other, path)| *other != name && scanned.references.contains(*path))
                    .map(|(other, _)| other.clone())
                    .collect(),
                _ => Vec::new(),
            }
        };
        let mut sorted = Vec::new();
        let mut done = BTreeSet::new();
        let mut open = BTreeSet::new();
        for start in found.keys() {
            let mut stack = vec![(start.clone(), false)];
            while let Some((name, visited)) = stack.pop() {
                if visited {
                    open.remove(&name);
                    if done.insert(name.clone()) {
                        sorted.push(name);
                    }
                    continue;
                }
                if done.contains(&name) || !open.insert(name.clone()) {
                    continue;
                }
                stack.push((name.clone(), true));
                for other in references(&name) {
                    if open.contains(&other) {
                        return Err(rejected(format!(
                            "cycle detected in build of '{}' in the references of output '{other}' from output '{name}'",
                            self.store.print(&build.job.drv_path)
                        )));
                    }
                    stack.push((other, false));
                }
            }
        }
        Ok(sorted)
    }

    fn finish(&mut self, name: &OutputName, path: StorePath) {
        if let Some(scratch) = self.build.scratch.get(name) {
            self.rewrites.add(scratch, &path);
        }
        self.finals.insert(name.clone(), path);
    }

    /// References with temporary paths replaced by final ones; the output's own is kept apart.
    fn references(
        &self,
        scanned: &Scanned,
        scratch: &StorePath,
    ) -> Result<StoreReferences, Failed> {
        let mut references = StoreReferences::none();
        for path in &scanned.references {
            if path == scratch {
                references.self_reference = true;
            } else if let Some(hash) = self.rewrites.get(path) {
                let name = format!("{hash}-{}", path.name());
                references.others.insert(StorePath::from_base_name(name)?);
            } else {
                references.others.insert(path.clone());
            }
        }
        Ok(references)
    }

    /// The second pass: the output gets its final contents, path and place.
    fn register(&mut self, name: &OutputName, new: &New) -> Result<(), Failed> {
        let build = self.build;
        let scratch = self.scratch(name)?.clone();
        let output = build
            .drv
            .outputs
            .get(name)
            .ok_or_else(|| rejected(format!("no output '{name}'")))?;
        let (method, algorithm) = match output {
            DerivationOutput::InputAddressed(path) => {
                let references = self.references(&new.scanned, &scratch)?;
                self.rewrites.add(&scratch, path);
                let scanned = match self.rewrite(&new.actual, &scratch, &new.scanned)? {
                    true => &tree::scan(&new.actual, [])?,
                    false => &new.scanned,
                };
                let mut info = PathInfo::new(path.clone(), scanned.nar_hash, scanned.nar_size);
                info.references = references.others;
                if references.self_reference {
                    info.references.insert(path.clone());
                }
                return self.put(name, output, info, &new.actual);
            }
            DerivationOutput::CaFixed(content) => (content.method, content.hash.algorithm()),
            DerivationOutput::CaFloating { method, algorithm }
            | DerivationOutput::Impure { method, algorithm } => (*method, *algorithm),
            DerivationOutput::Deferred => {
                return Err(rejected(format!(
                    "output '{name}' of '{}' was built although its path is not known",
                    self.store.print(&build.job.drv_path)
                )));
            }
        };
        let info = self.content_addressed(name, &scratch, new, method, algorithm)?;
        self.put(name, output, info, &new.actual)
    }

    /// Writes the output anew if it holds anything that is to be replaced.
    fn rewrite(
        &mut self,
        actual: &Path,
        scratch: &StorePath,
        scanned: &Scanned,
    ) -> Result<bool, Failed> {
        let needed = scanned
            .references
            .iter()
            .chain([scratch])
            .any(|path| self.rewrites.get(path).is_some());
        if !needed {
            return Ok(false);
        }
        let rewrites = std::mem::take(&mut self.rewrites);
        let result = replace_contents(actual, &rewrites);
        self.rewrites = rewrites;
        result?;
        self.canonicalise(actual, None)?;
        Ok(true)
    }

    fn content_addressed(
        &mut self,
        name: &OutputName,
        scratch: &StorePath,
        new: &New,
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
    ) -> Result<PathInfo, Failed> {
        let New {
            actual,
            scanned,
            flat,
        } = new;
        if !flat
            && matches!(
                method,
                ContentAddressMethod::Flat | ContentAddressMethod::Text
            )
        {
            return Err(rejected(format!(
                "output path \"{}\" should be a non-executable regular file since recursive hashing is not enabled (one of outputHashMode={{flat,text}} is true)",
                actual.display()
            )));
        }
        // Other outputs only: what this one is called depends on its contents.
        let mut changed = self.rewrite(actual, scratch, scanned)?;
        let mut modulo = HashModulo::new(algorithm, scratch.hash_part());
        let hash = match method {
            ContentAddressMethod::Flat | ContentAddressMethod::Text => {
                let mut file = fs::File::open(actual).map_err(Error::from)?;
                std::io::copy(&mut file, &mut modulo).map_err(Error::from)?;
                modulo.finish()
            }
            ContentAddressMethod::Nar => {
                write_nar(&mut FileSystem, &FileSystem::node(actual), &mut modulo)?;
                modulo.finish()
            }
            ContentAddressMethod::Git => {
                git_hash(&mut FileSystem, &FileSystem::node(actual), algorithm)?.1
            }
        };
        let references = self.references(scanned, scratch)?;
        let content = ContentAddress { method, hash };
        let path = self.store.store_dir().make_content_path(
            &output_path_name(&self.build.drv.name, name),
            &content,
            &references,
        )?;
        if references.self_reference && path != *scratch {
            let mut rewrites = Rewrites::new();
            rewrites.add(scratch, &path);
            replace_contents(actual, &rewrites)?;
            self.canonicalise(actual, None)?;
            changed = true;
        }
        let again;
        let scanned = match changed {
            true => {
                again = tree::scan(actual, [])?;
                &again
            }
            false => scanned,
        };
        let mut info = PathInfo::new(path, scanned.nar_hash, scanned.nar_size);
        info.references = references.others;
        if references.self_reference {
            info.references.insert(info.path.clone());
        }
        info.content_address = Some(content);
        Ok(info)
    }

    /// Puts an output where it belongs, or compares it with what is there.
    fn put(
        &mut self,
        name: &OutputName,
        output: &DerivationOutput,
        mut info: PathInfo,
        actual: &Path,
    ) -> Result<(), Failed> {
        let build = self.build;
        let real = self.store.real_path(&info.path);
        self.store.add_temp_root(&info.path)?;
        // Paths known beforehand are locked already.
        let known = output.path(self.store.store_dir(), &build.drv.name, name)?;
        let _lock = if known.as_ref() == Some(&info.path) {
            None
        } else {
            // What has another hash than was said is kept if that is easy: whoever holds the lock may wait for one
            // that is held here, since two hashes were swapped.
            let wait = known.is_none();
            let Some(mut lock) = PathLocks::acquire([real.clone()], wait, &|_| {})? else {
                self.infos.insert(name.clone(), info);
                return Ok(());
            };
            lock.set_deletion(true);
            Some(lock)
        };
        if build.job.mode == BuildMode::Check {
            self.compare(&info, &real, actual)?;
            self.finish(name, info.path.clone());
            self.infos.insert(name.clone(), info);
            return Ok(());
        }
        let valid = self.store.is_valid(&info.path)?;
        if real != actual {
            if build.job.mode == BuildMode::Repair && valid {
                // At once: a valid path is there at any moment.
                crate::local::exchange(actual, &real)?;
                crate::local::delete(actual)?;
            } else if valid {
                // Content-addressed, and made by something else.
                crate::local::delete(actual)?;
            } else {
                if tree::exists(&real) {
                    crate::local::delete(&real)?;
                }
                tree::rename(actual, &real)?;
            }
        }
        if build.shared.settings.fsync_store_paths && !valid {
            crate::local::sync_tree(&real)?;
        }
        if build.shared.settings.auto_optimise_store && !valid {
            build.optimise(&real)?;
        }
        info.deriver = Some(build.job.drv_path.clone());
        info.ultimate = true;
        self.finish(name, info.path.clone());
        if info.content_address.is_some() {
            self.store.register([&info])?;
        }
        self.infos.insert(name.clone(), info);
        Ok(())
    }

    /// Compares an output that was built again with the valid one.
    fn compare(&self, info: &PathInfo, real: &Path, actual: &Path) -> Result<(), Failed> {
        let build = self.build;
        let Some(old) = self.store.find_path_info(&info.path)? else {
            return Ok(());
        };
        let drv = self.store.print(&build.job.drv_path);
        if old.nar_hash != info.nar_hash {
            let settings = &build.shared.settings;
            let different = |message| Err(Failed::new(BuildStatus::NotDeterministic, message));
            if settings.diff_hook.is_none() && !settings.keep_failed {
                return different(format!(
                    "derivation '{drv}' may not be deterministic: output '{}' differs",
                    real.display()
                ));
            }
            let kept = tree::with_suffix(real, ".check");
            if tree::exists(&kept) {
                crate::local::delete(&kept)?;
            }
            tree::rename(actual, &kept)?;
            if let Some(hook) = &settings.diff_hook {
                diff_hook(build, hook, &self.store.print(&info.path), &kept, &drv);
            }
            return different(format!(
                "derivation '{drv}' may not be deterministic: output '{}' differs from '{}'",
                real.display(),
                kept.display()
            ));
        }
        if !old.ultimate {
            // Built here with the same result: nobody else has to be trusted any more.
            let mut old = old;
            old.ultimate = true;
            self.store.register([&old])?;
        }
        Ok(())
    }
}

/// Writes a tree anew with hash parts replaced, in its old place.
fn replace_contents(path: &Path, rewrites: &Rewrites) -> Result<(), Failed> {
    let temporary = tree::with_suffix(path, ".tmp");
    if tree::exists(&temporary) {
        crate::local::delete(&temporary)?;
    }
    tree::copy(path, &temporary, rewrites)?;
    crate::local::delete(path)?;
    tree::rename(&temporary, path)?;
    Ok(())
}
