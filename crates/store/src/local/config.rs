//! Which store: where its folders are, how it behaves, and why this one was chosen.
//!
//! A store has a *logical* folder, `/nix/store` unless told otherwise, which is part of every path and
//! every hash, and a *real* folder, where the files are. The two differ for stores below a root folder
//! (`--store /path`, `local?root=/path`), which builds see at the logical place through a mount
//! namespace. Nothing here reads the process's environment by itself: [`StoreConfig::resolve`] asks a
//! function, so that programs decide what counts.

use crate::error::{Error, ErrorKind, Result};
use crate::store_path::StoreDir;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where a local store is and how it behaves.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The logical store folder, which all paths begin with.
    pub store_dir: StoreDir,
    /// Where the files of the store are. The same as `store_dir` unless the store has a root folder.
    pub real_store_dir: PathBuf,
    /// Database, roots, locks (`/nix/var/nix`).
    pub state_dir: PathBuf,
    /// Logs of builds (`/nix/var/log/nix`).
    pub log_dir: PathBuf,
    /// The folder prefixed to all others, if there is one.
    pub root_dir: Option<PathBuf>,
    /// Where builds happen, if the store's address says so (`build-dir=`).
    pub build_dir: Option<PathBuf>,
    /// Never write: the database is opened as immutable, nothing is locked or collected.
    pub read_only: bool,
    /// A store of the user's own was chosen, since the usual one cannot be used.
    pub own: bool,
    /// Why this store, in a sentence for people.
    pub reason: String,
    /// How the store behaves.
    pub settings: StoreSettings,
}

/// The settings of `nix.conf` that concern the store itself, with their defaults.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// `fsync-metadata`: whether the database survives the machine's crash.
    pub fsync_metadata: bool,
    /// `fsync-store-paths`: whether the files of a path are on disk before it counts as valid.
    pub fsync_store_paths: bool,
    /// `sync-before-registering`: whether to call `sync` before paths become valid.
    pub sync_before_registering: bool,
    /// `use-sqlite-wal`.
    pub use_sqlite_wal: bool,
    /// `auto-optimise-store`: whether files with the same contents are linked to each other when added.
    pub auto_optimise: bool,
    /// `keep-outputs`: whether outputs of live derivations are live.
    pub keep_outputs: bool,
    /// `keep-derivations`: whether derivers of live paths are live.
    pub keep_derivations: bool,
    /// `gc-reserved-space` in bytes: what is set aside so that the database can be opened on a full disk.
    pub reserved_space: u64,
    /// `ignore-gc-delete-failure`: whether a path that cannot be deleted stops the collector.
    pub ignore_gc_delete_failure: bool,
    /// `allow-symlinked-store`.
    pub allow_symlinked_store: bool,
    /// `build-users-group`, which a store of root belongs to; empty for none.
    pub build_users_group: String,
    /// `ignored-acls`: extended attributes that are left on files.
    pub ignored_acls: Vec<String>,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings {
            fsync_metadata: true,
            fsync_store_paths: false,
            sync_before_registering: false,
            use_sqlite_wal: true,
            auto_optimise: false,
            keep_outputs: false,
            keep_derivations: true,
            reserved_space: 8 * 1024 * 1024,
            ignore_gc_delete_failure: false,
            allow_symlinked_store: false,
            build_users_group: String::new(),
            ignored_acls: ["security.csm", "security.selinux", "system.nfs4_acl"]
                .map(String::from)
                .to_vec(),
        }
    }
}

/// Asks for an environment variable.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<OsString>;

impl StoreConfig {
    /// A store with everything below a root folder: `ROOT/nix/store`, `ROOT/nix/var/nix`.
    pub fn at_root(store_dir: StoreDir, root: impl Into<PathBuf>) -> StoreConfig {
        let root = root.into();
        StoreConfig {
            store_dir,
            real_store_dir: root.join("nix/store"),
            state_dir: root.join("nix/var/nix"),
            log_dir: root.join("nix/var/log/nix"),
            reason: format!("everything lies below '{}'", root.display()),
            root_dir: Some(root),
            build_dir: None,
            read_only: false,
            own: false,
            settings: StoreSettings::default(),
        }
    }

    /// A store with the given logical folder, which is also the real one, and state folder. Logs lie in
    /// `log/nix` beside the folder above the state folder, as in `/nix/var/log/nix`.
    pub fn at_dirs(store_dir: StoreDir, state_dir: impl Into<PathBuf>) -> StoreConfig {
        let state_dir = state_dir.into();
        StoreConfig {
            real_store_dir: store_dir.as_str().into(),
            store_dir,
            log_dir: state_dir.parent().unwrap_or(&state_dir).join("log/nix"),
            state_dir,
            root_dir: None,
            build_dir: None,
            read_only: false,
            own: false,
            reason: "the folders were given".into(),
            settings: StoreSettings::default(),
        }
    }

    /// The store that the process's environment asks for; see [`StoreConfig::resolve`].
    pub fn from_env(uri: Option<&str>) -> Result<StoreConfig> {
        StoreConfig::resolve(uri, &|name| std::env::var_os(name))
    }

    /// The store that an address asks for: that of `--store` or of `nix.conf`; where there is none,
    /// `NIX_REMOTE`; else `auto`.
    ///
    /// - `auto`: the folders of `NIX_STORE_DIR`, `NIX_STATE_DIR` and `NIX_LOG_DIR` if any of the first
    ///   two is set; else `/nix` if it can be written or made; else a store of the user's own,
    ///   `$XDG_DATA_HOME/nix/root`, with the same logical folder.
    /// - `local`: these folders, or `/nix`, whether they can be written or not.
    /// - a path, `local?root=PATH` or `local://PATH`: everything below that folder.
    /// - `store=`, `real=`, `state=`, `log=`, `build-dir=` and `read-only=` after a `?` replace single
    ///   folders.
    ///
    /// Other stores (`daemon`, `ssh://…`, `https://…`) are an error of kind
    /// [`Unsupported`](ErrorKind::Unsupported).
    pub fn resolve(uri: Option<&str>, env: Lookup) -> Result<StoreConfig> {
        let (uri, said_by) = match uri {
            Some(uri) => (uri.to_owned(), "it was asked for"),
            None => match text(env, "NIX_REMOTE")? {
                Some(uri) => (uri, "NIX_REMOTE asks for it"),
                None => ("auto".to_owned(), "no store was asked for"),
            },
        };
        let (base, params) = split_params(&uri)?;
        let unknown = || {
            Error::new(
                ErrorKind::Unsupported,
                format!("Cannot parse Nix store '{uri}'"),
            )
        };
        let unsupported = |what: &str| {
            Error::new(
                ErrorKind::Unsupported,
                format!("don't know how to open Nix store with scheme '{what}'"),
            )
        };
        let dirs = Dirs::new(env, &params)?;
        let mut config = match base.as_str() {
            "" | "auto" => dirs.auto(env, params.is_empty())?,
            "local" => dirs.plain(said_by),
            "daemon" => return Err(unsupported("unix")),
            _ => {
                let root = match base.split_once("://") {
                    Some(("local", path)) => percent_decode(path),
                    Some((scheme, _)) => return Err(unsupported(scheme)),
                    None if base.contains('/') => base.clone().into_bytes(),
                    None => return Err(unknown()),
                };
                match root.is_empty() {
                    true => dirs.plain(said_by),
                    false => dirs.below(Some(absolute(Path::new(&OsString::from_vec(root)))?)),
                }
            }
        };
        if base != "auto" && !base.is_empty() {
            config.reason = said_by.to_owned();
        }
        for (key, value) in &params {
            match key.as_str() {
                "read-only" => config.read_only = boolean(key, value)?,
                "build-dir" => config.build_dir = Some(absolute(Path::new(value))?),
                "ignore-gc-delete-failure" => {
                    config.settings.ignore_gc_delete_failure = boolean(key, value)?;
                }
                // Folders are dealt with, other parameters concern copying from the store. The
                // reference only warns about those that it does not know.
                _ => {}
            }
        }
        Ok(config)
    }

    /// The store's address: `local`, or `local://ROOT` and what else it takes to find it again.
    pub fn uri(&self) -> String {
        match &self.root_dir {
            Some(root) => format!("local?root={}", percent_encode(root)),
            None => "local".to_owned(),
        }
    }
}

/// The folders that the environment and an address name.
struct Dirs {
    store: StoreDir,
    root: Option<PathBuf>,
    real: Option<PathBuf>,
    state: Option<PathBuf>,
    log: Option<PathBuf>,
    env_state: PathBuf,
    env_log: PathBuf,
    /// Whether the environment names the store or its state.
    named: bool,
}

impl Dirs {
    fn new(env: Lookup, params: &BTreeMap<String, String>) -> Result<Dirs> {
        let env_store = match text(env, "NIX_STORE_DIR")? {
            Some(dir) => Some(dir),
            None => text(env, "NIX_STORE")?,
        };
        let env_state = text(env, "NIX_STATE_DIR")?;
        let named = env_store.is_some() || env_state.is_some();
        let env_store = env_store.unwrap_or_else(|| "/nix/store".into());
        let param = |name: &str| match params.get(name) {
            Some(path) if !path.is_empty() => absolute(Path::new(path)).map(Some),
            _ => Ok(None),
        };
        Ok(Dirs {
            store: StoreDir::new(params.get("store").unwrap_or(&env_store))?,
            root: param("root")?,
            real: param("real")?,
            state: param("state")?,
            log: param("log")?,
            env_state: absolute(Path::new(
                &env_state.unwrap_or_else(|| "/nix/var/nix".into()),
            ))?,
            env_log: absolute(Path::new(
                &text(env, "NIX_LOG_DIR")?.unwrap_or_else(|| "/nix/var/log/nix".into()),
            ))?,
            named,
        })
    }

    /// The folders with an address' root, or with the given one.
    fn below(self, root: Option<PathBuf>) -> StoreConfig {
        let root = self.root.clone().or(root);
        let mut config = match root {
            Some(root) => StoreConfig::at_root(self.store, root),
            None => {
                let mut config = StoreConfig::at_dirs(self.store, self.env_state);
                config.log_dir = self.env_log;
                config
            }
        };
        config.real_store_dir = self.real.unwrap_or(config.real_store_dir);
        config.state_dir = self.state.unwrap_or(config.state_dir);
        config.log_dir = self.log.unwrap_or(config.log_dir);
        config
    }

    fn plain(self, reason: &str) -> StoreConfig {
        let mut config = self.below(None);
        config.reason = reason.to_owned();
        config
    }

    fn auto(self, env: Lookup, may_move: bool) -> Result<StoreConfig> {
        if self.named || self.root.is_some() || !may_move {
            return Ok(self.plain("its folders were given"));
        }
        if can_write_or_create(&self.env_state)
            && can_write_or_create(Path::new(self.store.as_str()))
        {
            let reason = format!("'{}' can be written", self.env_state.display());
            return Ok(self.plain(&reason));
        }
        let state = self.env_state.clone();
        let Some(data) = data_dir(env) else {
            return Ok(self.plain("no other folder is known: HOME is not set"));
        };
        let mut config = self.below(Some(data.join("root")));
        config.own = true;
        config.reason = format!(
            "'{}' {}, so a store of your own is used",
            state.display(),
            match state.exists() {
                true => "cannot be written",
                false => "does not exist",
            }
        );
        Ok(config)
    }
}

/// `$XDG_DATA_HOME/nix`, or `~/.local/share/nix`.
fn data_dir(env: Lookup) -> Option<PathBuf> {
    let dir = |name: &str| env(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    if let Some(dir) = dir("NIX_DATA_HOME") {
        return Some(dir);
    }
    let base = dir("XDG_DATA_HOME").or_else(|| Some(dir("HOME")?.join(".local/share")))?;
    Some(base.join("nix"))
}

/// Whether a folder can be written, or could be made where it does not exist.
fn can_write_or_create(dir: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    let existing = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok());
    existing.is_some_and(|dir| access(dir, AccessFlags::R_OK | AccessFlags::W_OK).is_ok())
}

fn text(env: Lookup, name: &str) -> Result<Option<String>> {
    match env(name) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => value.into_string().map(Some).map_err(|value| {
            Error::new(
                ErrorKind::InvalidStorePath,
                format!(
                    "environment variable '{name}' is not valid UTF-8: '{}'",
                    value.to_string_lossy()
                ),
            )
        }),
    }
}

/// Makes a path absolute and canonical lexically.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)
        .map_err(|e| Error::io(format_args!("'{}'", path.display()), e))?;
    let bytes = crate::store_path::canonical_path(path.as_os_str().as_bytes());
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!("Boolean setting '{key}' has invalid value '{value}'"),
        )),
    }
}

/// Splits what follows the `?` off an address.
fn split_params(uri: &str) -> Result<(String, BTreeMap<String, String>)> {
    let mut params = BTreeMap::new();
    let Some((base, query)) = uri.split_once('?') else {
        return Ok((uri.to_owned(), params));
    };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("Cannot parse Nix store '{uri}': parameter '{part}' has no value"),
            )
        })?;
        let value = String::from_utf8(percent_decode(value)).map_err(|_| {
            Error::new(
                ErrorKind::Unsupported,
                format!("Cannot parse Nix store '{uri}': parameter '{key}' is not UTF-8"),
            )
        })?;
        params.insert(key.to_owned(), value);
    }
    Ok((base.to_owned(), params))
}

/// A path as part of an address.
pub(super) fn percent_encode(path: &Path) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                out.push(char::from(byte));
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// What an address means. A percent sign without two digits stands for itself.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = text
            .get(at + 1..at + 3)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.map(|d| u8::from_str_radix(d, 16)) {
            Some(Ok(decoded)) if byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolve(uri: Option<&str>, env: &[(&str, &str)]) -> Result<StoreConfig> {
        StoreConfig::resolve(uri, &|name| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn dirs(uri: Option<&str>, env: &[(&str, &str)]) -> [String; 4] {
        let config = resolve(uri, env).unwrap();
        [
            config.store_dir.as_str().to_owned(),
            config.real_store_dir.display().to_string(),
            config.state_dir.display().to_string(),
            config.log_dir.display().to_string(),
        ]
    }

    #[test]
    fn addresses_and_environment() {
        let below = |root: &str| {
            [
                "/nix/store".to_owned(),
                format!("{root}/nix/store"),
                format!("{root}/nix/var/nix"),
                format!("{root}/nix/var/log/nix"),
            ]
        };
        for uri in [
            "/a/b",
            "/a/./x/../b/",
            "local?root=/a/b",
            "local:///a/b",
            "local?root=%2fa/b",
            "auto?root=/a/b",
        ] {
            assert_eq!(dirs(Some(uri), &[]), below("/a/b"), "{uri}");
        }
        assert_eq!(dirs(None, &[("NIX_REMOTE", "/r")]), below("/r"));
        // The address comes first.
        assert_eq!(dirs(Some("/a"), &[("NIX_REMOTE", "/r")]), below("/a"));
        let env = [
            ("NIX_STORE_DIR", "/s/store"),
            ("NIX_STATE_DIR", "/s/state"),
            ("NIX_LOG_DIR", "/s/log"),
        ];
        for uri in [None, Some("local"), Some("auto"), Some("")] {
            assert_eq!(
                dirs(uri, &env),
                ["/s/store", "/s/store", "/s/state", "/s/log"]
            );
        }
        assert_eq!(
            dirs(Some("local?store=/x/y&real=/r&state=/t&log=/l"), &env),
            ["/x/y", "/r", "/t", "/l"]
        );
        assert_eq!(dirs(Some("/a"), &env)[0], "/s/store");
        assert!(
            resolve(Some("local?read-only=true"), &[])
                .unwrap()
                .read_only
        );
        assert!(resolve(Some("local?read-only=maybe"), &[]).is_err());
        for uri in ["daemon", "ssh://host", "https://x", "word", "local?root"] {
            let error = resolve(Some(uri), &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{uri}");
        }
    }

    #[test]
    fn own_store() {
        let home = ("HOME", "/home/u");
        let config = resolve(None, &[home]).unwrap();
        // Whether this machine's `/nix` can be written decides, and the reason says so.
        let own = PathBuf::from("/home/u/.local/share/nix/root");
        match config.root_dir {
            Some(root) => assert_eq!(root, own),
            None => assert!(
                config.reason.contains("can be written"),
                "{}",
                config.reason
            ),
        }
        let data = data_dir(&|name| (name == "XDG_DATA_HOME").then(|| "/d".into()));
        assert_eq!(data, Some("/d/nix".into()));
        assert_eq!(data_dir(&|_| None), None);
    }

    proptest! {
        #[test]
        fn addresses_lead_back(name in "[ -~é]{1,20}") {
            let root = absolute(&Path::new("/r").join(name)).unwrap();
            let config = StoreConfig::at_root(StoreDir::default(), &root);
            let again = resolve(Some(&config.uri()), &[]).unwrap();
            prop_assert_eq!(again.root_dir, Some(root));
            prop_assert_eq!(again.state_dir, config.state_dir);
        }

        #[test]
        fn any_address_is_an_answer(uri: String, env: String) {
            let _ = resolve(Some(&uri), &[("NIX_STORE_DIR", &env), ("HOME", "/h")]);
            let _ = resolve(None, &[("NIX_REMOTE", &uri), ("HOME", &env)]);
            let _ = resolve(Some(&format!("local?{uri}")), &[]);
        }
    }
}
