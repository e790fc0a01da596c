//! What evaluation is given: settings, the file system as it may be seen, and the store behind it.

use crate::progress::reporter;
use crate::session::{Common, Failure};
use crate::settings::{Settings, parse_nix_path};
use crate::store_access;
use nivis::builtins::host::{Access, SystemHost};
use nivis::eval::lint::{Lint, Lints};
use nivis::keeper::{LazyStore, LocalKeeper};
use nivis::store::StoreDir;
use nivis_store::build::events::Observer;
use nivis_store::local::StoreConfig;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// What evaluation is given.
pub struct Surroundings {
    pub settings: nivis::eval::Settings,
    pub host: SystemHost,
    /// The store, unless it is one that keeps nothing.
    pub store: Option<Rc<LazyStore>>,
}

/// Finds out what flags, settings and environment say.
///
/// # Errors
/// Stores that are of a kind that is not supported; settings that cannot be understood.
pub fn surroundings(common: &Common, cwd: &Path) -> Result<Surroundings, Failure> {
    let store = evaluation_store(common)?;
    let store_dir = match &store {
        Some(store) => Some(store.store_dir.as_str().to_string()),
        None => dummy_store_dir(common),
    };
    let settings = machine_settings(common, store_dir, cwd);
    let observer: Arc<dyn Observer> = reporter().clone();
    let store = store.map(|config| Rc::new(LazyStore::new(config, observer)));
    let host = host(common, &settings, store.clone())?;
    Ok(Surroundings {
        settings,
        host,
        store,
    })
}

fn machine_settings(
    common: &Common,
    store_dir: Option<String>,
    cwd: &Path,
) -> nivis::eval::Settings {
    let given = &common.settings;
    let defaults = nivis::eval::Settings::default();
    let system = ["eval-system", "system"]
        .iter()
        .find_map(|n| given.get(n).filter(|s| !s.is_empty()))
        .map_or_else(|| defaults.system.clone(), String::from);
    let pure_eval = given.switch("pure-eval").unwrap_or(common.pure_by_default);
    let restrict_eval = given.switch("restrict-eval").unwrap_or(false);
    let mut nix_path = Vec::new();
    if !pure_eval {
        let mut elements = common.include.clone();
        match std::env::var_os("NIX_PATH") {
            // The flag wins over the variable, the variable over files.
            Some(v) if !given.by_flag("nix-path") => {
                elements.extend(parse_nix_path(&v.to_string_lossy()));
                elements.extend(given.extra("nix-path"));
            }
            _ => elements.extend(given.list("nix-path")),
        }
        if !restrict_eval {
            elements.extend(default_nix_path());
        }
        for element in elements {
            let (prefix, path) = match element.split_once('=') {
                Some((prefix, path)) => (prefix.to_string(), path.to_string()),
                None => (String::new(), element),
            };
            nix_path.push((prefix, path));
        }
    }
    nivis::eval::Settings {
        pure_eval,
        restrict_eval,
        max_call_depth: given
            .get("max-call-depth")
            .and_then(|v| v.parse().ok())
            .unwrap_or(defaults.max_call_depth),
        memory_limit: given.memory_limit(),
        trace_verbose: given.switch("trace-verbose").unwrap_or(false),
        abort_on_warn: given.switch("abort-on-warn").unwrap_or(false),
        show_trace: given.switch("show-trace").unwrap_or(false),
        features: given.list("experimental-features"),
        system,
        store_dir: store_dir
            .or_else(|| std::env::var("NIX_STORE_DIR").ok())
            .or_else(|| std::env::var("NIX_STORE").ok())
            .unwrap_or_else(|| defaults.store_dir.clone()),
        allowed_paths: nix_path
            .iter()
            .filter(|(_, path)| !crate::settings::is_pseudo_url(path))
            .map(|(_, path)| {
                let joined = cwd.join(path);
                let canonical =
                    nivis::eval::machine::canonical_path(joined.as_os_str().as_encoded_bytes());
                nivis::eval::machine::bytes_path(&canonical).to_path_buf()
            })
            .collect(),
        nix_path,
        lints: Lints {
            url_literals: lint(given, "lint-url-literals"),
            short_path_literals: lint(given, "lint-short-path-literals"),
            absolute_path_literals: lint(given, "lint-absolute-path-literals"),
        },
        ..defaults
    }
}

fn lint(settings: &Settings, name: &str) -> Lint {
    match settings.get(name) {
        // The older name of the setting.
        None if name == "lint-short-path-literals"
            && settings.switch("warn-short-path-literals") == Some(true) =>
        {
            Lint::Warn
        }
        Some("warn") => Lint::Warn,
        Some("fatal") => Lint::Fatal,
        _ => Lint::Ignore,
    }
}

/// The file system as the settings let it be seen, and the store that is written to.
fn host(
    common: &Common,
    settings: &nivis::eval::Settings,
    store: Option<Rc<LazyStore>>,
) -> Result<SystemHost, Failure> {
    let dir = StoreDir::new(&settings.store_dir).map_err(|e| Failure::Other(e.to_string()))?;
    let mut host = SystemHost::new(dir)
        .showing(|text| reporter().evaluation(text))
        .noting(|note| reporter().note(note));
    if let Some(store) = store {
        let folder = store.config().real_store_dir.clone();
        let import = store_access::import_from_derivation(common)?;
        let keeper = Rc::new(LocalKeeper::new(store, import));
        host = host.with_keeper(folder, keeper, !common.read_only);
    }
    let access = match (settings.pure_eval, settings.restrict_eval) {
        (true, _) => Access::Pure,
        (_, true) => Access::Restricted,
        _ => Access::All,
    };
    host = host.with_access(access);
    for path in &settings.allowed_paths {
        host.allow(path.clone());
    }
    Ok(host)
}

/// The folder that a store which keeps nothing pretends to be: `dummy://?store=/folder`.
fn dummy_store_dir(common: &Common) -> Option<String> {
    let (_, parameters) = common.settings.get("store")?.split_once('?')?;
    parameters
        .split('&')
        .find_map(|p| p.strip_prefix("store="))
        .map(String::from)
}

/// Where the store is that evaluation works on: `None` for one that keeps nothing.
fn evaluation_store(common: &Common) -> Result<Option<StoreConfig>, Failure> {
    let remote = std::env::var("NIX_REMOTE").unwrap_or_default();
    let given = common.eval_store.as_deref();
    let given = given.or_else(|| common.settings.get("store"));
    if given.unwrap_or(&remote).starts_with("dummy://") {
        return Ok(None);
    }
    match store_access::config(&store_access::at(common, common.eval_store.as_deref())?) {
        Ok(config) => Ok(Some(config)),
        // A store behind a daemon can be read, where its paths say.
        Err(_) if common.read_only => Ok(None),
        Err(e) => Err(e),
    }
}

/// The channels that are searched after everything else, as far as they exist.
fn default_nix_path() -> Vec<String> {
    let state = std::env::var("NIX_STATE_DIR").unwrap_or_else(|_| "/nix/var/nix".into());
    let channels = format!("{state}/profiles/per-user/root/channels");
    let mut found = Vec::new();
    if let Ok(home) = std::env::var("HOME") {
        let own = format!("{home}/.nix-defexpr/channels");
        if Path::new(&own).exists() {
            found.push(own);
        }
    }
    if Path::new(&channels).exists() {
        let nixpkgs = format!("{channels}/nixpkgs");
        if Path::new(&nixpkgs).exists() {
            found.push(format!("nixpkgs={nixpkgs}"));
        }
        found.push(channels);
    }
    found
}
