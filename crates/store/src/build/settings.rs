//! How to build: plain values, named like the settings of `nix.conf`.
//!
//! Whoever reads configuration fills them in; nothing here looks at files or variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// The setting `sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// `true`: every build is isolated.
    #[default]
    Enabled,
    /// `relaxed`: fixed-output derivations and those with `__noChroot` are not.
    Relaxed,
    /// `false`: none is, unless the store does not lie where its paths say.
    Disabled,
}

/// A file or folder of the machine that sandboxes show: an element of `sandbox-paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// Where it is on the machine.
    pub source: PathBuf,
    /// Whether it may be missing.
    pub optional: bool,
}

impl SandboxPath {
    /// Reads an element of the setting: `PATH`, `TARGET=SOURCE`, either followed by `?` when it may be
    /// missing. The first half of the result is where the sandbox shows it.
    pub fn parse(element: &str) -> (PathBuf, SandboxPath) {
        let (element, optional) = match element.strip_suffix('?') {
            Some(rest) => (rest, true),
            None => (element, false),
        };
        let (target, source) = element.split_once('=').unwrap_or((element, element));
        let path = SandboxPath {
            source: source.into(),
            optional,
        };
        (target.into(), path)
    }
}

/// An element of `external-builders`: a program that builds for some systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBuilder {
    /// The systems that it builds for.
    pub systems: BTreeSet<String>,
    /// The program.
    pub program: PathBuf,
    /// Its first arguments; a file that describes the build follows them.
    pub args: Vec<String>,
}

/// What decides how things are built. [`BuildSettings::default`] has Nix's defaults, but for `system`,
/// which is this machine's, and `system_features`, which are empty.
#[derive(Debug, Clone)]
pub struct BuildSettings {
    /// `max-jobs`: how many builders run at a time. With 0 nothing is built.
    pub max_jobs: usize,
    /// `cores`: value of `NIX_BUILD_CORES`; 0 stands for all.
    pub cores: usize,
    /// `keep-going`: build what does not depend on what failed.
    pub keep_going: bool,
    /// `keep-failed`: keep the temporary folders of failed builds.
    pub keep_failed: bool,
    /// `max-silent-time`: how long a builder may print nothing.
    pub max_silent_time: Option<Duration>,
    /// `timeout`: how long a builder may run.
    pub timeout: Option<Duration>,
    /// `max-build-log-size` in bytes.
    pub max_log_size: Option<u64>,
    /// `log-lines`: how many lines of a failed build's output are part of its error.
    pub log_lines: usize,
    /// The command that prints logs, for the errors of failed builds; one of Nix's if not given.
    pub log_command: Option<String>,
    /// Whether builders' output is shown as it comes, so that errors need not repeat its end.
    pub print_build_logs: bool,
    /// `keep-build-log`
    pub keep_log: bool,
    /// `compress-build-log`
    pub compress_log: bool,
    /// `sandbox`
    pub sandbox: SandboxMode,
    /// `sandbox-paths`, by where the sandbox shows them.
    pub sandbox_paths: BTreeMap<PathBuf, SandboxPath>,
    /// `sandbox-fallback`: build without sandbox where the kernel has no namespaces for it.
    pub sandbox_fallback: bool,
    /// `sandbox-dev-shm-size`, as tmpfs understands it.
    pub sandbox_dev_shm_size: String,
    /// `sandbox-build-dir`: the build's folder as the sandbox shows it.
    pub sandbox_build_dir: PathBuf,
    /// `build-dir`: where builds' folders are made; by default `builds` in the state folder.
    pub build_dir: Option<PathBuf>,
    /// `build-users-group`: builders run as its members. Meaningful for root only; empty for none.
    pub build_users_group: String,
    /// `require-drop-supplementary-groups`; by default set for root, who can.
    pub require_drop_supplementary_groups: bool,
    /// `allowed-impure-host-deps`
    pub allowed_impure_host_deps: BTreeSet<PathBuf>,
    /// `filter-syscalls`: refuse set-user-id files and extended attributes.
    pub filter_syscalls: bool,
    /// `allow-new-privileges`
    pub allow_new_privileges: bool,
    /// `impersonate-linux-26`
    pub impersonate_linux_26: bool,
    /// `impure-env`
    pub impure_env: BTreeMap<String, String>,
    /// `hashed-mirrors`
    pub hashed_mirrors: Vec<String>,
    /// `external-builders`
    pub external_builders: Vec<ExternalBuilder>,
    /// `system`
    pub system: String,
    /// `extra-platforms`
    pub extra_platforms: BTreeSet<String>,
    /// `system-features`
    pub system_features: BTreeSet<String>,
    /// `experimental-features`, of which builds ask for `ca-derivations`, `impure-derivations`,
    /// `dynamic-derivations`, `configurable-impure-env`, `external-builders` and `nix-command` (which
    /// changes advice in messages).
    pub experimental_features: BTreeSet<String>,
    /// `pre-build-hook`; empty for none.
    pub pre_build_hook: String,
    /// `post-build-hook`; empty for none.
    pub post_build_hook: String,
    /// `NIX_CONFIG` as hooks see it: every setting, one `name = value` a line.
    pub hook_config: String,
    /// `diff-hook`, if `run-diff-hook` is set.
    pub diff_hook: Option<PathBuf>,
    /// `fsync-store-paths`
    pub fsync_store_paths: bool,
    /// `auto-optimise-store`
    pub auto_optimise_store: bool,
    /// `min-free` in bytes: below it, garbage is collected during builds.
    pub min_free: u64,
    /// `max-free` in bytes: until so much is free.
    pub max_free: u64,
    /// `min-free-check-interval`: how often to look.
    pub min_free_check_interval: Duration,
    /// A file that says how many bytes are free, instead of the file system.
    pub free_space_file: Option<PathBuf>,
    /// `ssl-cert-file`: certificates for sandboxes that reach the network.
    pub ssl_cert_file: Option<PathBuf>,
    /// `netrc-file`: passwords for `builtin:fetchurl`.
    pub netrc_file: Option<PathBuf>,
}

impl Default for BuildSettings {
    fn default() -> BuildSettings {
        BuildSettings {
            max_jobs: 1,
            cores: 0,
            keep_going: false,
            keep_failed: false,
            max_silent_time: None,
            timeout: None,
            max_log_size: None,
            log_lines: 25,
            log_command: None,
            print_build_logs: false,
            keep_log: true,
            compress_log: true,
            sandbox: SandboxMode::default(),
            sandbox_paths: BTreeMap::new(),
            sandbox_fallback: true,
            sandbox_dev_shm_size: "50%".into(),
            sandbox_build_dir: "/build".into(),
            build_dir: None,
            build_users_group: String::new(),
            require_drop_supplementary_groups: nix::unistd::geteuid().is_root(),
            allowed_impure_host_deps: BTreeSet::new(),
            filter_syscalls: true,
            allow_new_privileges: false,
            impersonate_linux_26: false,
            impure_env: BTreeMap::new(),
            hashed_mirrors: Vec::new(),
            external_builders: Vec::new(),
            system: format!("{}-linux", std::env::consts::ARCH),
            extra_platforms: BTreeSet::new(),
            system_features: BTreeSet::new(),
            experimental_features: BTreeSet::new(),
            pre_build_hook: String::new(),
            post_build_hook: String::new(),
            hook_config: String::new(),
            diff_hook: None,
            fsync_store_paths: false,
            auto_optimise_store: false,
            min_free: 0,
            max_free: u64::MAX,
            min_free_check_interval: Duration::from_secs(5),
            free_space_file: None,
            ssl_cert_file: None,
            netrc_file: None,
        }
    }
}

impl BuildSettings {
    /// Whether an experimental feature is on.
    pub fn feature(&self, name: &str) -> bool {
        self.experimental_features.contains(name)
    }

    /// The value of `NIX_BUILD_CORES`.
    pub fn build_cores(&self) -> usize {
        match self.cores {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            cores => cores,
        }
    }
}
