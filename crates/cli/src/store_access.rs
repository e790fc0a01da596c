//! The store that a command works on, as settings and environment say, and how things are built there.

use crate::progress::reporter;
use crate::session::{Common, Failure};
use nivis::keeper::{ImportFromDerivation, LazyStore};
use nivis_store::build::events::{Level, Observer};
use nivis_store::build::{
    BuildMode, BuildRequest, BuildResult, BuildSettings, BuildStatus, Builder, DrvRef,
    ExternalBuilder, Outputs, SandboxMode, SandboxPath,
};
use nivis_store::json::Json;
use nivis_store::local::{LocalStore, StoreConfig};
use nivis_store::{ErrorKind, OutputName, StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Where the store is: `--store`, else as the environment says.
///
/// # Errors
/// Stores that are of a kind that is not supported.
pub fn config(common: &Common) -> Result<StoreConfig, Failure> {
    let s = &common.settings;
    // An empty one means the usual one, whatever the environment says.
    let uri = s
        .get("store")
        .map(|v| if v.is_empty() { "auto" } else { v });
    let mut config = StoreConfig::from_env(uri)?;
    if config.read_only {
        common.needs_feature("read-only-local-store")?;
    }
    let store = &mut config.settings;
    let switches: [(&str, &mut bool); 8] = [
        ("fsync-metadata", &mut store.fsync_metadata),
        ("fsync-store-paths", &mut store.fsync_store_paths),
        (
            "sync-before-registering",
            &mut store.sync_before_registering,
        ),
        ("use-sqlite-wal", &mut store.use_sqlite_wal),
        ("auto-optimise-store", &mut store.auto_optimise),
        ("keep-outputs", &mut store.keep_outputs),
        ("keep-derivations", &mut store.keep_derivations),
        ("allow-symlinked-store", &mut store.allow_symlinked_store),
    ];
    for (name, place) in switches {
        if let Some(on) = s.switch(name) {
            *place = on;
        }
    }
    if std::env::var("NIX_IGNORE_SYMLINK_STORE").is_ok_and(|v| v == "1") {
        store.allow_symlinked_store = true;
    }
    if let Some(n) = s.number("gc-reserved-space") {
        store.reserved_space = n;
    }
    store.build_users_group = build_users_group(common);
    if s.get("ignored-acls").is_some() {
        store.ignored_acls = s.list("ignored-acls");
    }
    Ok(config)
}

/// The same with another store, if one is named.
///
/// # Errors
/// Values that no store can have.
pub fn at(common: &Common, uri: Option<&str>) -> Result<Common, Failure> {
    let mut common = common.clone();
    if let Some(uri) = uri {
        let source = crate::settings::Source::Flag;
        common.settings.set("store", uri, source)?;
    }
    Ok(common)
}

/// The store of `--eval-store`, if it is another one than that which is built in.
fn evaluated_in(common: &Common) -> Result<Option<Arc<LocalStore>>, Failure> {
    match common.eval_store.as_deref() {
        Some(uri) if !uri.is_empty() && !uri.starts_with("dummy://") => {
            Ok(Some(open(&at(common, Some(uri))?)?))
        }
        _ => Ok(None),
    }
}

/// The open store, for building what was evaluated: derivations of another store can be read, and their sources are
/// copied from there.
///
/// # Errors
/// When one of the stores cannot be opened, or sources cannot be copied.
pub fn open_for(common: &Common, wanted: &[Wanted]) -> Result<Arc<LocalStore>, Failure> {
    let store = open(common)?;
    if let Some(other) = evaluated_in(common)? {
        let roots = wanted.iter().map(|w| match w {
            Wanted::Path(path) => path,
            Wanted::Built(request) => request.drv.root(),
        });
        nivis::keeper::take_sources(&store, &other, roots)?;
    }
    Ok(store)
}

/// The open store, for looking at what was evaluated: derivations of another store can be read.
///
/// # Errors
/// When one of the stores cannot be opened.
pub fn open_beside(common: &Common) -> Result<Arc<LocalStore>, Failure> {
    let store = open(common)?;
    if let Some(other) = evaluated_in(common)? {
        store.read_derivations_from(other);
    }
    Ok(store)
}

/// The store, not open yet.
///
/// # Errors
/// Stores that are of a kind that is not supported.
pub fn lazy(common: &Common) -> Result<LazyStore, Failure> {
    let observer: Arc<dyn Observer> = reporter().clone();
    Ok(LazyStore::new(config(common)?, observer))
}

/// Stores that stay open until the process ends: what it added to them must not be collected before.
static OPEN: Mutex<Vec<Arc<LocalStore>>> = Mutex::new(Vec::new());

/// Keeps a store open until [`close_all`].
pub fn keep_open(store: Arc<LocalStore>) {
    OPEN.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(store);
}

/// Closes the stores that were kept open: the process is about to end.
pub fn close_all() {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    drop(open);
}

/// The open store: the one that evaluation had open, if it is the same.
///
/// # Errors
/// When it cannot be opened.
pub fn open(common: &Common) -> Result<Arc<LocalStore>, Failure> {
    let wanted = config(common)?;
    let same = |store: &&Arc<LocalStore>| {
        let open = store.config();
        open.state_dir == wanted.state_dir
            && open.real_store_dir == wanted.real_store_dir
            && open.store_dir == wanted.store_dir
            && open.read_only == wanted.read_only
    };
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = open.iter().find(same) {
        return Ok(store.clone());
    }
    drop(open);
    lazy(common)?.get().map_err(|e| match e.kind() {
        ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => Failure::Other(format!(
            "{e}\nThis command may have been run as non-root in a single-user Nix installation, or the Nix daemon may have crashed."
        )),
        _ => e.into(),
    })
}

/// How things are built: the settings that concern it.
///
/// # Errors
/// Values that cannot be understood.
pub fn build_settings(common: &Common) -> Result<BuildSettings, Failure> {
    let s = &common.settings;
    let mut b = BuildSettings::default();
    let switch = |name: &str, place: &mut bool| {
        if let Some(on) = s.switch(name) {
            *place = on;
        }
    };
    switch("keep-going", &mut b.keep_going);
    switch("keep-failed", &mut b.keep_failed);
    switch("keep-build-log", &mut b.keep_log);
    switch("compress-build-log", &mut b.compress_log);
    switch("sandbox-fallback", &mut b.sandbox_fallback);
    switch(
        "require-drop-supplementary-groups",
        &mut b.require_drop_supplementary_groups,
    );
    switch("filter-syscalls", &mut b.filter_syscalls);
    switch("allow-new-privileges", &mut b.allow_new_privileges);
    switch("impersonate-linux-26", &mut b.impersonate_linux_26);
    switch("fsync-store-paths", &mut b.fsync_store_paths);
    switch("auto-optimise-store", &mut b.auto_optimise_store);
    let number = |name: &str| s.number(name);
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    b.max_jobs = match s.get("max-jobs") {
        Some("auto") => std::thread::available_parallelism().map_or(1, usize::from),
        Some(n) => n.parse().unwrap_or(1),
        None => b.max_jobs,
    };
    if let Some(n) = number("cores") {
        b.cores = size(n);
    }
    let duration = |name: &str| number(name).filter(|n| *n > 0).map(Duration::from_secs);
    b.max_silent_time = duration("max-silent-time");
    b.timeout = duration("timeout");
    b.max_log_size = number("max-build-log-size").filter(|n| *n > 0);
    if let Some(n) = number("log-lines") {
        b.log_lines = size(n);
    }
    b.log_command = common.log_command.map(String::from);
    b.print_build_logs = reporter().shows_build_logs();
    b.sandbox = match s.get("sandbox") {
        Some("relaxed") => SandboxMode::Relaxed,
        _ if s.switch("sandbox") == Some(false) => SandboxMode::Disabled,
        _ => SandboxMode::Enabled,
    };
    if s.get("sandbox-paths").is_none()
        && let Some(shell) = static_shell()
    {
        let element = format!("/bin/sh={}", shell.display());
        b.sandbox_paths.extend([SandboxPath::parse(&element)]);
    }
    b.sandbox_paths.extend(
        s.list("sandbox-paths")
            .iter()
            .map(|e| SandboxPath::parse(e)),
    );
    if let Some(size) = s.get("sandbox-dev-shm-size") {
        b.sandbox_dev_shm_size = size.to_string();
    }
    if let Some(dir) = s.get("sandbox-build-dir") {
        b.sandbox_build_dir = dir.into();
    }
    let path = |name: &str| s.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    b.build_dir = path("build-dir");
    b.build_users_group = build_users_group(common);
    let set = |name: &str| s.list(name).into_iter().collect::<BTreeSet<String>>();
    b.allowed_impure_host_deps = set("allowed-impure-host-deps")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    for pair in s.list("impure-env") {
        if let Some((name, value)) = pair.split_once('=') {
            b.impure_env.insert(name.to_string(), value.to_string());
        }
    }
    if s.get("hashed-mirrors").is_some() {
        b.hashed_mirrors = s.list("hashed-mirrors");
    }
    if let Some(text) = s.get("external-builders").filter(|t| !t.trim().is_empty()) {
        b.external_builders = external_builders(text)?;
    }
    if let Some(system) = s.get("system").filter(|v| !v.is_empty()) {
        b.system = system.to_string();
    }
    b.extra_platforms = match s.get("extra-platforms") {
        Some(_) => set("extra-platforms"),
        None if b.system == "x86_64-linux" => x86_levels().map(String::from).collect(),
        None => BTreeSet::new(),
    };
    b.system_features = match s.get("system-features") {
        Some(_) => set("system-features"),
        None => default_system_features(),
    };
    b.system_features.extend(s.extra("system-features"));
    b.experimental_features = set("experimental-features");
    b.pre_build_hook = s.get("pre-build-hook").unwrap_or_default().to_string();
    b.post_build_hook = s.get("post-build-hook").unwrap_or_default().to_string();
    b.hook_config = s.given().map(|(n, v)| format!("{n} = {v}\n")).collect();
    b.diff_hook = path("diff-hook").filter(|_| s.switch("run-diff-hook") == Some(true));
    if let Some(n) = number("min-free") {
        b.min_free = n;
    }
    if let Some(n) = number("max-free") {
        b.max_free = n;
    }
    if let Some(n) = number("min-free-check-interval") {
        b.min_free_check_interval = std::time::Duration::from_secs(n);
    }
    b.free_space_file = std::env::var_os("_NIX_TEST_FREE_SPACE_FILE").map(PathBuf::from);
    b.ssl_cert_file = match s.get("ssl-cert-file") {
        Some(_) => path("ssl-cert-file"),
        None => usual_certificates(),
    };
    b.netrc_file = path("netrc-file");
    Ok(b)
}

/// The certificates of the machine, as the environment says, or where they usually are.
fn usual_certificates() -> Option<PathBuf> {
    let given = ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"].into_iter();
    let mut given = given.filter_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
    given.next().map(PathBuf::from).or_else(|| {
        const USUAL: [&str; 2] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt",
        ];
        let readable =
            |path: &&Path| nix::unistd::access(*path, nix::unistd::AccessFlags::R_OK).is_ok();
        let usual = USUAL.iter().map(Path::new).find(readable);
        usual.map(Path::to_path_buf)
    })
}

/// The group whose members builders of root run as: `nixbld` by default where an installation has made it. Without
/// one nothing has to be installed.
fn build_users_group(common: &Common) -> String {
    const USUAL: &str = "nixbld";
    if let Some(group) = common.settings.get("build-users-group") {
        return group.to_string();
    }
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let group = nix::unistd::geteuid().is_root().then_some(USUAL);
        let group = group.and_then(|name| nix::unistd::Group::from_name(name).ok().flatten());
        group.is_some_and(|group| !group.mem.is_empty())
    });
    if found {
        USUAL.to_string()
    } else {
        String::new()
    }
}

/// A shell of the machine that needs no other files, for `/bin/sh` in the sandbox.
fn static_shell() -> Option<&'static PathBuf> {
    const SHELLS: [&str; 6] = [
        "/usr/bin/busybox",
        "/bin/busybox",
        "/usr/bin/bash-static",
        "/bin/bash-static",
        "/usr/bin/dash-static",
        "/bin/sh",
    ];
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        // The file itself: a link might lead nowhere in the sandbox.
        let mut shells = SHELLS
            .iter()
            .filter_map(|path| Path::new(path).canonicalize().ok());
        shells.find(|path| is_static_program(path).unwrap_or(false))
    });
    found.as_ref()
}

/// Whether a file is a program of this machine that is loaded without a dynamic linker: an ELF file without the program
/// header `PT_INTERP` (<https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>).
fn is_static_program(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path)?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    // 64 bits, little-endian: what this runs on nearly everywhere.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (start, size, count) = (
        number(&header[32..40]),
        number(&header[54..56]),
        number(&header[56..58]),
    );
    for i in 0..count {
        let mut kind = [0; 4];
        file.read_exact_at(&mut kind, start.saturating_add(i * size))?;
        if number(&kind) == 3 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The platforms that a processor for `x86_64-linux` can build for as well: the levels of its architecture.
#[cfg(target_arch = "x86_64")]
fn x86_levels() -> impl Iterator<Item = &'static str> {
    let v2 = is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("cmpxchg16b");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let all = [
        ("i686-linux", true),
        ("x86_64-v1-linux", true),
        ("x86_64-v2-linux", v2),
        ("x86_64-v3-linux", v3),
        ("x86_64-v4-linux", v4),
    ];
    all.into_iter()
        .filter_map(|(name, can)| can.then_some(name))
}

#[cfg(not(target_arch = "x86_64"))]
fn x86_levels() -> impl Iterator<Item = &'static str> {
    ["i686-linux"].into_iter()
}

/// What this machine can do for builds that ask for it.
fn default_system_features() -> BTreeSet<String> {
    let mut features: BTreeSet<String> = ["nixos-test", "benchmark", "big-parallel"]
        .map(String::from)
        .into();
    let kvm = nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK;
    if nix::unistd::access("/dev/kvm", kvm).is_ok() {
        features.insert("kvm".into());
    }
    features
}

fn external_builders(text: &str) -> Result<Vec<ExternalBuilder>, Failure> {
    let wrong = || Failure::Usage("setting 'external-builders' is no list of builders".to_string());
    let texts = |json: Option<&Json>| -> Option<Vec<String>> {
        let Some(Json::Array(items)) = json else {
            return None;
        };
        items
            .iter()
            .map(|item| match item {
                Json::String(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    };
    let Json::Array(items) = Json::parse(text)? else {
        return Err(wrong());
    };
    let builders = items.iter().map(|item| {
        let Json::Object(entries) = item else {
            return None;
        };
        let Some(Json::String(program)) = entries.get("program") else {
            return None;
        };
        Some(ExternalBuilder {
            systems: texts(entries.get("systems"))?.into_iter().collect(),
            program: program.into(),
            args: texts(entries.get("args")).unwrap_or_default(),
        })
    });
    builders.collect::<Option<_>>().ok_or_else(wrong)
}

/// What evaluation may build.
///
/// # Errors
/// Settings that cannot be understood.
pub fn import_from_derivation(common: &Common) -> Result<ImportFromDerivation, Failure> {
    let s = &common.settings;
    Ok(ImportFromDerivation {
        allowed: s.switch("allow-import-from-derivation").unwrap_or(true),
        traced: s.switch("trace-import-from-derivation").unwrap_or(false),
        settings: build_settings(common)?,
        store: match &common.eval_store {
            Some(_) => Some(Rc::new(lazy(common)?)),
            None => None,
        },
        lacking: common.lacking.clone(),
        advice: match common.read_only {
            true => " (what evaluation reads can be built only if it may write to the store; see '--read-write-mode')".into(),
            false => String::new(),
        },
    })
}

/// Something that a command line names in the store: a path, or outputs of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The path itself.
    Path(StorePath),
    /// Outputs.
    Built(BuildRequest),
}

/// Builds, and waits until everything is there. The outputs of each derivation, in the order of what was wanted; none
/// for paths.
///
/// # Errors
/// Failed builds, with the status that tells how they failed.
pub fn build(
    store: &Arc<LocalStore>,
    settings: BuildSettings,
    wanted: &[Wanted],
    mode: BuildMode,
) -> Result<Vec<BTreeMap<OutputName, StorePath>>, Failure> {
    let requests = requests_of(store, wanted)?;
    if requests.is_empty() {
        return Ok(vec![BTreeMap::new(); wanted.len()]);
    }
    let report = builder(store, settings).build(&requests, mode);
    let status = i32::from(report.failures.exit_status());
    let outputs = report.into_outputs(store.store_dir());
    let outputs = outputs.map_err(|e| Failure::Build(e.to_string(), status))?;
    let mut outputs = outputs.into_iter();
    let of = |wanted: &Wanted| match wanted {
        Wanted::Path(_) => Ok(BTreeMap::new()),
        Wanted::Built(request) => match outputs.next() {
            // What was made anew each time has no path that the store remembers.
            Some((_, found)) if !found.is_empty() => Ok(found),
            _ => outputs_of(store, request),
        },
    };
    wanted.iter().map(of).collect()
}

/// Builds; the result of each that needed a build, in the order of what was wanted. Of what fails all that is not just
/// called off is told; the status does not tell how it failed.
///
/// # Errors
/// Failed builds.
pub fn build_each(
    store: &Arc<LocalStore>,
    settings: BuildSettings,
    wanted: &[Wanted],
    mode: BuildMode,
) -> Result<Vec<Option<BuildResult>>, Failure> {
    let requests = requests_of(store, wanted)?;
    let report = builder(store, settings).build_quietly(&requests, mode);
    let tried = report
        .results
        .iter()
        .filter(|r| !r.status.is_success() && r.status != BuildStatus::Cancelled);
    let failed: Vec<&BuildResult> = tried.collect();
    match failed.as_slice() {
        [] if report.results.iter().all(|r| r.status.is_success()) => {}
        [] => return Err(Failure::Build("interrupted by the user".to_string(), 1)),
        [only] => return Err(Failure::Build(only.message.clone(), 1)),
        several => {
            for result in several {
                reporter().message(Level::Error, &result.message);
            }
            let names: BTreeSet<String> = several
                .iter()
                .map(|r| format!("'{}'", r.request.print(store.store_dir())))
                .collect();
            let names: Vec<String> = names.into_iter().collect();
            let message = format!("build of {} failed", names.join(", "));
            return Err(Failure::Build(message, 1));
        }
    }
    let mut results = report.results.into_iter();
    let of = |wanted: &Wanted| match wanted {
        Wanted::Path(_) => None,
        Wanted::Built(_) => results.next(),
    };
    Ok(wanted.iter().map(of).collect())
}

/// What has to be built. Paths that are wanted themselves must be there.
fn requests_of(store: &LocalStore, wanted: &[Wanted]) -> Result<Vec<BuildRequest>, Failure> {
    let mut requests = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Built(request) => requests.push(request.clone()),
            Wanted::Path(path) => {
                if !store.config().read_only {
                    store.add_temp_root(path)?;
                }
                if !store.is_valid(path)? {
                    return Err(Failure::Build(
                        format!(
                            "path '{}' is required, but there is no substituter that can build it",
                            store.print(path)
                        ),
                        1,
                    ));
                }
            }
        }
    }
    Ok(requests)
}

/// A builder that an interrupt ends.
fn builder(store: &Arc<LocalStore>, settings: BuildSettings) -> Builder {
    let observer: Arc<dyn Observer> = reporter().clone();
    let builder = Builder::new(store.clone(), settings, observer);
    let cancel = builder.cancel_handle();
    crate::session::on_interrupt(move || cancel.cancel());
    builder
}

/// The outputs of a derivation that are asked for, with their paths.
///
/// # Errors
/// Outputs that it does not have, or whose path is not known because they were not built.
pub fn outputs_of(
    store: &LocalStore,
    request: &BuildRequest,
) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
    let drv = drv_path(store, &request.drv)?;
    let known = store.query_output_map(&drv)?;
    let names: Vec<OutputName> = match &request.outputs {
        Outputs::All => known.keys().cloned().collect(),
        Outputs::Names(names) => names.iter().cloned().collect(),
    };
    let mut found = BTreeMap::new();
    for name in names {
        match known.get(&name) {
            Some(Some(path)) => {
                found.insert(name, path.clone());
            }
            Some(None) => {
                return Err(Failure::Other(format!(
                    "cannot operate on output '{name}' of the unbuilt derivation '{}'",
                    store.print(&drv)
                )));
            }
            None => {
                return Err(Failure::Other(format!(
                    "derivation '{}' does not have wanted outputs '{name}'",
                    store.print(&drv)
                )));
            }
        }
    }
    Ok(found)
}

/// The `.drv` file that a reference leads to; what it leads through must be built.
///
/// # Errors
/// Outputs that are not there.
pub fn drv_path(store: &LocalStore, drv: &DrvRef) -> Result<StorePath, Failure> {
    match drv {
        DrvRef::Path(path) => Ok(path.clone()),
        DrvRef::Output(inner, output) => {
            let request = BuildRequest::outputs((**inner).clone(), [output.clone()]);
            let outputs = outputs_of(store, &request)?;
            outputs
                .into_values()
                .next()
                .ok_or_else(|| Failure::Other(format!("there is no output '{output}'")))
        }
    }
}

/// The store path that a path on the command line means; links are followed until they lead into the store.
///
/// # Errors
/// When it does not lead there.
pub fn follow_links(dir: &StoreDir, path: &str) -> Result<(StorePath, PathBuf), Failure> {
    let cwd = crate::session::current_dir()?;
    let mut path = lexical(&cwd.join(path));
    for _ in 0..1024 {
        if dir.contains(path.as_os_str().as_encoded_bytes()) {
            break;
        }
        let Ok(target) = std::fs::read_link(&path) else {
            break;
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        path = lexical(&folder.join(target));
    }
    if !dir.contains(path.as_os_str().as_encoded_bytes()) {
        return Err(Failure::Other(format!(
            "path '{}' is not in the Nix store",
            path.display()
        )));
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    let (object, rest) = dir.split(bytes)?;
    let rest = String::from_utf8_lossy(rest).into_owned();
    Ok((object, PathBuf::from(rest.trim_start_matches('/'))))
}

fn lexical(path: &Path) -> PathBuf {
    let canonical = nivis::eval::machine::canonical_path(path.as_os_str().as_encoded_bytes());
    nivis::eval::machine::bytes_path(&canonical).to_path_buf()
}

/// `PATH` or `PATH!OUTPUT,…` as the older commands write it; a derivation means its outputs.
///
/// # Errors
/// When it does not lead into the store.
pub fn parse_legacy(dir: &StoreDir, text: &str) -> Result<Wanted, Failure> {
    let (path, outputs) = match text.split_once('!') {
        Some((path, outputs)) => (path, outputs),
        None => (text, ""),
    };
    let (path, _) = follow_links(dir, path)?;
    let names: Vec<&str> = outputs.split(',').filter(|o| !o.is_empty()).collect();
    Ok(if !names.is_empty() {
        Wanted::Built(BuildRequest::outputs(path, names))
    } else if path.is_derivation() {
        Wanted::Built(BuildRequest::all(path))
    } else {
        Wanted::Path(path)
    })
}

/// Shows a message that matters as much as most do.
pub fn info(text: impl Into<String>) {
    reporter().message(Level::Info, &text.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_programs() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("program");
        let found = |kind: u8, magic: &[u8]| {
            let mut file = vec![0; 64 + 56];
            file[..magic.len()].copy_from_slice(magic);
            (file[32], file[54], file[56], file[64]) = (64, 56, 1, kind);
            std::fs::write(&path, file)?;
            is_static_program(&path)
        };
        assert!(found(1, b"\x7fELF\x02\x01")?);
        assert!(!found(3, b"\x7fELF\x02\x01")?);
        assert!(!found(1, b"#!/bin/sh\n")?);
        assert!(is_static_program(&dir.path().join("missing")).is_err());
        Ok(())
    }
}
