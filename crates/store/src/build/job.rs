//! Building one derivation, whose inputs are there.
//!
//! In order: can it be built here at all; locks on its outputs; is it still needed; a folder, a user and a
//! root for the builder; its environment; the builder itself; its outputs. Whatever happens on the way, what was
//! made for the builder is removed again, and nothing becomes valid that is not whole.

use super::environment::{HOME, environment, has_network, missing_feature, rewrite};
use super::hooks::post_build_hook;
use super::options::DerivationOptions;
use super::outputs::register_outputs;
use super::request::{BuildMode, BuildStatus};
use super::sandbox::{Support, User};
use super::settings::{ExternalBuilder, SandboxMode};
use super::tree;
use super::users::UserLock;
use super::{Failed, Shared};
use crate::derivation::{Derivation, DerivationKind, OutputName};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Level;
use crate::hash::{Hash, HashAlgorithm};
use crate::local::{LocalStore, PathLocks};
use crate::store_path::{StorePath, output_path_name};
use nix::fcntl::Flock;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A derivation to build.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Its path.
    pub drv_path: StorePath,
    /// Itself, with no placeholders of other derivations' outputs left.
    pub drv: Arc<Derivation>,
    /// The paths that it needs, without their closures.
    pub inputs: BTreeSet<StorePath>,
    /// What for.
    pub mode: BuildMode,
}

/// What came of it.
pub(super) enum Outcome {
    /// The outputs are there.
    Done {
        status: BuildStatus,
        outputs: BTreeMap<OutputName, StorePath>,
        start: Option<SystemTime>,
    },
    /// Somebody else has a lock on the outputs; try again later.
    Locked(Vec<PathBuf>),
    /// All users for builders are taken; try again later.
    NoUser,
}

/// Whether an output is there before the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathStatus {
    Valid,
    Corrupt,
    Absent,
}

/// An output before the build.
#[derive(Debug, Clone)]
pub(super) struct Initial {
    /// Its path, if known, and whether it is there.
    pub known: Option<(StorePath, PathStatus)>,
}

/// A build under way.
pub(super) struct Build<'b> {
    pub shared: &'b Shared,
    pub job: &'b Job,
    pub drv: Arc<Derivation>,
    pub kind: DerivationKind,
    pub options: DerivationOptions,
    pub initial: BTreeMap<OutputName, Initial>,
    /// The closure of the inputs.
    pub inputs: BTreeSet<StorePath>,
    /// Where the builder puts outputs.
    pub scratch: BTreeMap<OutputName, StorePath>,
    pub(super) user: Option<UserLock>,
    /// The folder made for the build.
    pub(super) top_dir: Option<PathBuf>,
    /// Held while that folder is in use.
    pub(super) top_lock: Option<Flock<File>>,
    pub(super) tmp_dir: PathBuf,
    /// The folder that holds the builder's root, if it has one of its own.
    pub(super) chroot: Option<PathBuf>,
}

fn input_rejected(message: String) -> Failed {
    Failed::new(BuildStatus::InputRejected, message)
}

/// Builds.
pub(super) fn run_job(shared: &Shared, job: &Job) -> Result<Outcome, Failed> {
    let store = &shared.store;
    let drv = job.drv.clone();
    let kind = drv.kind()?;
    let options = DerivationOptions::of(store.store_dir(), &drv).map_err(|e| {
        Error::new(
            e.kind(),
            format!(
                "while parsing derivation '{}': {}",
                store.print(&job.drv_path),
                e.message()
            ),
        )
    })?;
    let external = shared.settings.external_builders.iter().find(|external| {
        external
            .systems
            .contains(String::from_utf8_lossy(&drv.platform).as_ref())
    });
    if external.is_none() {
        check_capability(shared, &job.drv_path, &drv, kind, &options)?;
    }
    let mut build = Build {
        shared,
        job,
        drv,
        kind,
        options,
        initial: BTreeMap::new(),
        inputs: BTreeSet::new(),
        scratch: BTreeMap::new(),
        user: None,
        top_dir: None,
        top_lock: None,
        tmp_dir: PathBuf::new(),
        chroot: None,
    };
    build.look()?;
    // Also keeps collectors from what is beside them: the locks, the folder that the build works in.
    let known = build.initial.values().filter_map(|i| i.known.as_ref());
    store.add_temp_roots(known.map(|(path, _)| path).chain([&job.drv_path]))?;
    let (lock_files, locks) = build.lock()?;
    let Some(mut locks) = locks else {
        return Ok(Outcome::Locked(lock_files));
    };
    // Somebody else may have built it before the locks were ours.
    build.look()?;
    if job.mode != BuildMode::Check
        && let Some(outputs) = build.all_valid()
    {
        locks.set_deletion(true);
        return Ok(Outcome::Done {
            status: BuildStatus::AlreadyValid,
            outputs,
            start: None,
        });
    }
    build.remove_invalid()?;
    for warning in &build.options.warnings {
        shared.observer.message(Level::Warn, warning.clone());
    }
    let settings = &shared.settings;
    if !settings.build_users_group.is_empty() && nix::unistd::geteuid().is_root() {
        build.user = UserLock::acquire(store, &settings.build_users_group)?;
        if build.user.is_none() {
            return Ok(Outcome::NoUser);
        }
    }
    let start = SystemTime::now();
    let result = build.build(external);
    let result = result.and_then(|outputs| {
        let paths = outputs.values().cloned().collect();
        post_build_hook(shared, shared.activity, &job.drv_path, &paths)?;
        Ok(outputs)
    });
    match result {
        Ok(outputs) => {
            build.clean(true)?;
            locks.set_deletion(true);
            Ok(Outcome::Done {
                status: BuildStatus::Built,
                outputs,
                start: Some(start),
            })
        }
        Err(failed) => {
            // The first error is the one to tell.
            let _ = build.clean(false);
            Err(failed)
        }
    }
}

/// Whether this machine can build it.
fn check_capability(
    shared: &Shared,
    drv_path: &StorePath,
    drv: &Derivation,
    kind: DerivationKind,
    options: &DerivationOptions,
) -> Result<(), Failed> {
    let settings = &shared.settings;
    let platform = String::from_utf8_lossy(&drv.platform);
    let mut message = String::new();
    if settings.max_jobs == 0 {
        message += "\nReason: local builds are disabled (max-jobs = 0)\
            \nHint: set 'max-jobs' to a non-zero value to enable local builds, or configure remote builders via 'builders'";
    }
    if platform != settings.system
        && !settings.extra_platforms.contains(platform.as_ref())
        && !drv.is_builtin()
    {
        message += &format!(
            "\nReason: platform mismatch\nRequired system: '{platform}'\nCurrent system: '{}'",
            settings.system
        );
    }
    let mut required = options.required_system_features.clone();
    let mut available = settings.system_features.clone();
    if matches!(
        kind,
        DerivationKind::CaFloating | DerivationKind::Deferred | DerivationKind::Impure
    ) {
        required.insert("ca-derivations".into());
    }
    if settings.feature("ca-derivations") {
        available.insert("ca-derivations".into());
    }
    if !required.is_subset(&available) {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        message += &format!(
            "\nReason: missing system features\nRequired features: {{{}}}\nAvailable features: {{{}}}",
            list(&required),
            list(&available)
        );
    }
    if message.is_empty() {
        return Ok(());
    }
    Err(input_rejected(format!(
        "Cannot build '{}'.{message}",
        shared.store.print(drv_path)
    )))
}

impl Build<'_> {
    pub(super) fn store(&self) -> &LocalStore {
        &self.shared.store
    }

    /// The user that the builder runs as, if it is not the caller.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref().map(|lock| &lock.user)
    }

    /// The build's folder.
    pub fn tmp_dir(&self) -> &Path {
        &self.tmp_dir
    }

    /// Looks which outputs are there.
    fn look(&mut self) -> Result<(), Failed> {
        let store = self.store();
        let mut initial = BTreeMap::new();
        if self.kind == DerivationKind::Impure {
            for name in self.drv.outputs.keys() {
                let known = match self.initial.remove(name) {
                    Some(Initial { known: Some(known) }) => known,
                    _ => (random_path(&self.drv.name, name)?, PathStatus::Absent),
                };
                initial.insert(name.clone(), Initial { known: Some(known) });
            }
            self.initial = initial;
            return Ok(());
        }
        let mut known = self.drv.output_paths(store.store_dir())?;
        if self.shared.settings.feature("ca-derivations") && known.values().any(Option::is_none) {
            let hash = store.output_hash(&self.drv)?;
            for (name, path) in &mut known {
                if path.is_none() {
                    *path = store.find_realisation(&hash, name)?.map(|r| r.path);
                }
            }
        }
        for (name, path) in known {
            let known = match path {
                None => None,
                Some(path) => {
                    let status = if !store.is_valid(&path)? {
                        PathStatus::Absent
                    } else if self.job.mode == BuildMode::Repair
                        && !self.shared.contents_good(&path)?
                    {
                        PathStatus::Corrupt
                    } else {
                        PathStatus::Valid
                    };
                    Some((path, status))
                }
            };
            initial.insert(name, Initial { known });
        }
        self.initial = initial;
        Ok(())
    }

    fn all_valid(&self) -> Option<BTreeMap<OutputName, StorePath>> {
        self.initial
            .iter()
            .map(|(name, initial)| match &initial.known {
                Some((path, PathStatus::Valid)) if self.kind != DerivationKind::Impure => {
                    Some((name.clone(), path.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// Locks the outputs; those whose paths are not known yet by the derivation's path.
    fn lock(&self) -> Result<(Vec<PathBuf>, Option<PathLocks>), Failed> {
        let store = self.store();
        let mut files = Vec::new();
        for (name, path) in self.drv.output_paths(store.store_dir())? {
            files.push(match path {
                Some(path) => store.real_path(&path),
                None => {
                    tree::with_suffix(&store.real_path(&self.job.drv_path), &format!(".{name}"))
                }
            });
        }
        let locks = PathLocks::acquire(files.clone(), false, &|_| {})?;
        Ok((files, locks))
    }

    /// What is left of earlier attempts is in the way.
    fn remove_invalid(&self) -> Result<(), Failed> {
        for initial in self.initial.values() {
            if let Some((path, status)) = &initial.known
                && *status != PathStatus::Valid
            {
                self.store().add_temp_root(path)?;
                let real = self.store().real_path(path);
                // A corrupt one is replaced at the very end.
                if *status == PathStatus::Absent && tree::exists(&real) {
                    crate::local::delete(&real)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the builder is isolated.
    fn wants_sandbox(&self) -> Result<bool, Failed> {
        let settings = &self.shared.settings;
        let config = self.store().config();
        let diverted = Path::new(config.store_dir.as_str()) != config.real_store_dir;
        let wanted = match settings.sandbox {
            SandboxMode::Enabled if self.options.no_chroot => {
                return Err(Error::new(
                    ErrorKind::Build,
                    format!(
                        "derivation '{}' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'",
                        self.store().print(&self.job.drv_path)
                    ),
                )
                .into());
            }
            SandboxMode::Enabled => true,
            SandboxMode::Disabled => false,
            SandboxMode::Relaxed => !has_network(self.kind) && !self.options.no_chroot,
        };
        if !(wanted || diverted) {
            return Ok(false);
        }
        match self.shared.sandbox_support() {
            Support::Full => return Ok(true),
            Support::NotForUsers if self.user.is_some() => return Ok(true),
            Support::NotForUsers if diverted || !settings.sandbox_fallback => {
                return Err(Error::new(
                    ErrorKind::Sandbox,
                    format!(
                        "cannot perform a sandboxed build because user namespaces are not enabled; check /proc/sys/user/max_user_namespaces{}",
                        self.way_out(diverted).unwrap_or_default()
                    ),
                )
                .into());
            }
            Support::NotForUsers | Support::None => {}
        }
        if diverted || !settings.sandbox_fallback {
            let way_out = self.way_out(diverted);
            let way_out = way_out.as_deref();
            return Err(Error::new(
                ErrorKind::Sandbox,
                format!(
                    "this system does not support the kernel namespaces that are required for sandboxing{}",
                    way_out.unwrap_or("; use '--no-sandbox' to disable sandboxing")
                ),
            )
            .into());
        }
        self.shared.observer.message(
            Level::Debug,
            "auto-disabling sandboxing because the prerequisite namespaces are not available",
        );
        Ok(false)
    }

    /// What helps where there are no namespaces and a store is not where its paths say.
    fn way_out(&self, diverted: bool) -> Option<String> {
        let config = self.store().config();
        diverted.then(|| {
            format!(
                "; this store needs them, since its files are in '{}', not in '{}'. A store whose paths say where it is does not: \
                 set NIX_STORE_DIR, NIX_STATE_DIR and NIX_LOG_DIR to folders of your own",
                config.real_store_dir.display(),
                config.store_dir
            )
        })
    }

    fn build(
        &mut self,
        external: Option<&ExternalBuilder>,
    ) -> Result<BTreeMap<OutputName, StorePath>, Failed> {
        self.inputs = self.store().closure(&self.job.inputs)?;
        let builtin = self.drv.is_builtin();
        let sandbox = !builtin && external.is_none() && self.wants_sandbox()?;
        if external.is_some() && !self.shared.settings.feature("external-builders") {
            return Err(missing_feature("external-builders").into());
        }
        self.make_folders(sandbox || external.is_some())?;
        let rewrites = self.assign_places(sandbox)?;
        let dir = match sandbox || external.is_some() {
            true => self.shared.settings.sandbox_build_dir.clone(),
            false => self.tmp_dir.clone(),
        };
        let env = environment(
            self.store(),
            &self.shared.settings,
            &self.drv,
            &self.options,
            &self.inputs,
            &dir.to_string_lossy(),
        )?;
        for (name, contents) in &env.files {
            self.write_file(name, &rewrite(contents, &rewrites))?;
        }
        if !sandbox && !builtin && tree::exists(Path::new(HOME)) {
            return Err(Error::new(
                ErrorKind::Build,
                format!(
                    "home directory '{HOME}' exists; please remove it to assure purity of builds without sandboxing"
                ),
            )
            .into());
        }
        self.execute(sandbox, external, &dir, &env.variables, &rewrites)?;
        let outputs = register_outputs(self)?;
        Ok(outputs)
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        if self.top_dir.is_some() {
            let _ = self.clean(false);
        }
    }
}

/// A path that nobody has used before.
fn random_path(drv_name: &str, output: &str) -> Result<StorePath, Failed> {
    use std::io::Read;
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|e| Error::io("'/dev/urandom'", e))?;
    let hash = Hash::of(HashAlgorithm::Sha256, seed);
    let part = crate::hash::compress_hash(hash.as_bytes());
    Ok(StorePath::from_parts(
        part,
        &output_path_name(drv_name, output),
    )?)
}
