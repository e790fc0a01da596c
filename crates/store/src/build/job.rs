//! Building one derivation, whose inputs are there.
//!
//! In order: can it be built here at all; locks on its outputs; is it still needed; a folder, a user and a
//! root for the builder; its environment; the builder itself; its outputs. Whatever happens on the way, what was
//! made for the builder is removed again, and nothing becomes valid that is not whole.

use super::builtins;
use super::environment::{HOME, InputRewrites, environment, has_network, missing_feature, rewrite};
use super::hooks::post_build_hook;
use super::log::{LogFile, LogLines};
use super::options::DerivationOptions;
use super::outputs::register_outputs;
use super::request::{BuildMode, BuildStatus};
use super::run::{Ended, run};
use super::sandbox::{Launch, LaunchError, Support, User, launch};
use super::settings::{ExternalBuilder, SandboxMode};
use super::tree;
use super::users::UserLock;
use super::{Failed, Shared};
use crate::build::events::{Activity, ActivityKind, Level};
use crate::derivation::{Derivation, DerivationKind, OutputName};
use crate::error::{Error, ErrorKind, Result};
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
                    "cannot perform a sandboxed build because user namespaces are not enabled; check /proc/sys/user/max_user_namespaces",
                )
                .into());
            }
            Support::NotForUsers | Support::None => {}
        }
        if diverted || !settings.sandbox_fallback {
            return Err(Error::new(
                ErrorKind::Sandbox,
                "this system does not support the kernel namespaces that are required for sandboxing; use '--no-sandbox' to disable sandboxing",
            )
            .into());
        }
        self.shared.observer.message(
            Level::Debug,
            "auto-disabling sandboxing because the prerequisite namespaces are not available",
        );
        Ok(false)
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

    fn execute(
        &mut self,
        sandbox: bool,
        external: Option<&ExternalBuilder>,
        dir: &Path,
        variables: &BTreeMap<Vec<u8>, Vec<u8>>,
        rewrites: &InputRewrites,
    ) -> Result<(), Failed> {
        let shared = self.shared;
        let drv_text = shared.store.print(&self.job.drv_path);
        let mut log = LogFile::create(&shared.store, &shared.settings, &self.job.drv_path)?;
        let text = match self.job.mode {
            BuildMode::Normal => format!("building '{drv_text}'"),
            BuildMode::Repair => format!("repairing outputs of '{drv_text}'"),
            BuildMode::Check => format!("checking outputs of '{drv_text}'"),
        };
        let activity = Activity::start(
            &shared.observer,
            shared.activity,
            Level::Info,
            ActivityKind::Build,
            text,
            vec![drv_text.as_str().into(), "".into(), 1.into(), 1.into()],
        );
        let mut lines = LogLines::new(activity, shared.observer.clone(), shared.settings.log_lines);
        let ended = if self.drv.is_builtin() {
            builtins::run(self, rewrites, &mut lines, &mut log)
        } else {
            shared.observer.message(
                Level::Chatty,
                format!(
                    "executing builder '{}'",
                    String::from_utf8_lossy(&self.drv.builder)
                ),
            );
            let env: Vec<Vec<u8>> = variables
                .iter()
                .map(|(name, value)| {
                    let mut pair = name.clone();
                    pair.push(b'=');
                    pair.extend_from_slice(value);
                    rewrite(&pair, rewrites)
                })
                .collect();
            let mut args = vec![base_name(&self.drv.builder)];
            args.extend(self.drv.args.iter().map(|arg| rewrite(arg, rewrites)));
            let view = match sandbox {
                true => Some(self.view()?),
                false => None,
            };
            let mut spec = Launch {
                settings: &shared.settings,
                view,
                user_namespace: sandbox && shared.sandbox_support() == Support::Full,
                network: has_network(self.kind),
                user: self.user().cloned(),
                build_dir: &self.tmp_dir,
                build_dir_inside: match external {
                    None => dir,
                    Some(_) => &self.tmp_dir,
                },
                platform: &self.drv.platform,
                program: self.drv.builder.to_vec(),
                args,
                env,
            };
            if let Some(external) = external {
                self.launch_external(external, dir, variables, rewrites, &mut spec)?;
            }
            match launch(&spec) {
                Ok(mut running) => run(shared, &mut running, &mut lines, &mut log),
                Err(LaunchError::Exec(e)) => {
                    // As the reference has it, this is something that the builder says.
                    let mut text = format!(
                        "error: executing '{}': {}\n",
                        String::from_utf8_lossy(&self.drv.builder),
                        super::os_message(&e)
                    );
                    if sandbox
                        && self.drv.builder == b"/bin/sh"
                        && e.kind() == std::io::ErrorKind::NotFound
                    {
                        text += "note: the sandbox has no shell of its own; the setting 'sandbox-paths' can show it one ('/bin/sh=PATH')\n";
                    }
                    lines.write(text.as_bytes());
                    shared.tell_warning(log.write(text.as_bytes()));
                    Ok(Ended::Status(super::sandbox::ExitStatus::Code(1)))
                }
                Err(LaunchError::Setup(e)) => Err(e.into()),
            }
        };
        shared.tell_warning(log.finish());
        lines.finish();
        match ended? {
            Ended::Status(super::sandbox::ExitStatus::Code(0)) => Ok(()),
            Ended::Status(status) => Err(self.builder_failed(&status.describe(), &lines)),
            Ended::TimedOut(limit) => Err(Failed::new(
                BuildStatus::TimedOut,
                format!("timed out after {} seconds", limit.as_secs()),
            )),
            Ended::TooMuchOutput => Err(Failed::new(
                BuildStatus::LogLimitExceeded,
                format!(
                    "building derivation '{drv_text}' killed after writing more than {} bytes of log output",
                    shared.settings.max_log_size.unwrap_or(0)
                ),
            )),
            Ended::Cancelled => Err(Failed::cancelled()),
        }
    }

    /// A program that is told by a file what to build.
    fn launch_external(
        &self,
        external: &ExternalBuilder,
        dir: &Path,
        variables: &BTreeMap<Vec<u8>, Vec<u8>>,
        rewrites: &InputRewrites,
        spec: &mut Launch<'_>,
    ) -> Result<(), Failed> {
        use crate::json::Json;
        let text = |bytes: &[u8]| {
            Json::string(String::from_utf8_lossy(&rewrite(bytes, rewrites)).into_owned())
        };
        let path = |path: &Path| Json::string(path.to_string_lossy());
        let store = self.store();
        let top = self.top_dir.clone().unwrap_or_default();
        let json = Json::object([
            ("version", Json::Number("1".into())),
            (
                "builder",
                Json::string(String::from_utf8_lossy(&self.drv.builder)),
            ),
            (
                "args",
                Json::Array(self.drv.args.iter().map(|arg| text(arg)).collect()),
            ),
            (
                "env",
                Json::object(
                    variables
                        .iter()
                        .map(|(k, v)| (String::from_utf8_lossy(k).into_owned(), text(v))),
                ),
            ),
            ("topTmpDir", path(&top)),
            ("tmpDir", path(&self.tmp_dir)),
            ("tmpDirInSandbox", path(dir)),
            ("storeDir", Json::string(store.store_dir().as_str())),
            ("realStoreDir", path(&store.config().real_store_dir)),
            (
                "system",
                Json::string(String::from_utf8_lossy(&self.drv.platform)),
            ),
            (
                "inputPaths",
                Json::Array(
                    self.inputs
                        .iter()
                        .map(|path| Json::string(store.print(path)))
                        .collect(),
                ),
            ),
            (
                "outputs",
                Json::object(
                    self.scratch
                        .iter()
                        .map(|(name, path)| (name.as_str(), Json::string(store.print(path)))),
                ),
            ),
        ]);
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let file = top.join("build.json");
        fs::write(&file, json.to_text())
            .map_err(|e| Error::io(format_args!("writing '{}'", file.display()), e))?;
        self.give_to_builder(&top)?;
        spec.program = external.program.as_os_str().as_bytes().to_vec();
        spec.args = vec![spec.program.clone()];
        spec.args
            .extend(external.args.iter().map(|arg| arg.clone().into_bytes()));
        spec.args.push(file.into_os_string().into_vec());
        spec.env = std::env::vars_os()
            .map(|(name, value)| {
                let mut pair = name.into_vec();
                pair.push(b'=');
                pair.extend(value.into_vec());
                pair
            })
            .collect();
        Ok(())
    }

    /// The error for a builder that has failed.
    fn builder_failed(&self, how: &str, lines: &LogLines) -> Failed {
        let shared = self.shared;
        let drv = shared.store.print(&self.job.drv_path);
        let disk_full = self.disk_full();
        let mut message = format!("Cannot build '{drv}'.\nReason: builder {how}.");
        message += &shared.known_outputs(&self.drv);
        let tail = lines.tail();
        if !shared.settings.print_build_logs && tail.len() > 0 {
            message += &format!("\nLast {} log lines:\n", tail.len());
            for line in tail {
                message += &format!("> {line}\n");
            }
            let command = match &shared.settings.log_command {
                Some(command) => command.as_str(),
                None if shared.settings.feature("nix-command") => "nix log",
                None => "nix-store -l",
            };
            message += &format!("For full logs, run:\n  {command} {drv}");
        }
        if disk_full {
            message += "\nnote: build failure may have been caused by lack of free disk space";
        }
        let status = match has_network(self.kind) || disk_full {
            true => BuildStatus::TransientFailure,
            false => BuildStatus::PermanentFailure,
        };
        Failed::new(status, message)
    }

    /// Whether there is (nearly) no space left where the build has written.
    fn disk_full(&self) -> bool {
        const REQUIRED: u64 = 8 << 20;
        let store = &self.store().config().real_store_dir;
        [store, &self.tmp_dir].into_iter().any(|path| {
            nix::sys::statvfs::statvfs(path)
                .is_ok_and(|s| s.blocks_available() * s.fragment_size() < REQUIRED)
        })
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        if self.top_dir.is_some() {
            let _ = self.clean(false);
        }
    }
}

fn base_name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|b| *b == b'/')
        .find(|part| !part.is_empty())
        .unwrap_or(path)
        .to_vec()
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
