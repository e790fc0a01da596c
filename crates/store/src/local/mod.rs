//! The local store: files, database, locks, garbage.
//!
//! The same on disk as that of C++ Nix, so that both can work on one store at the same time: the files
//! in the store folder, what is known about them in `db/db.sqlite` (schema 10), roots below `gcroots`
//! and `temproots`, and locks. [`StoreConfig`] says where all this is; [`LocalStore`] is the open
//! store, which any number of threads may share.
//!
//! # What is valid, and when
//!
//! A path is *valid* when the database says so, and then its contents and all that it refers to are
//! there and never change. Every way to add a path goes through the same steps:
//!
//! 1. The path becomes a temporary root, so that no collector deletes it from now on.
//! 2. Its lock is taken (`PATH.lock`), so that nobody else makes it at the same time; if it is valid by
//!    now, there is nothing to do.
//! 3. What is there is deleted, since it is not valid: the rest of an attempt that was interrupted.
//! 4. The contents are written, with the modes and times that all contents have.
//! 5. Where that is wanted, they are brought to disk (`fsync-store-paths`).
//! 6. The path becomes valid, in one transaction with all paths that were made together.
//!
//! Deleting goes the other way round: first the path is invalid, then its contents go. So a process
//! may be killed at any moment: what is left are files that no database entry speaks of, and these are
//! garbage.
//!
//! Nothing here prints. What people may want to read goes to an observer
//! ([`LocalStore::set_observer`]).

mod add;
mod auto_gc;
mod canonical;
mod case_hack;
mod config;
mod db;
mod files;
mod gc;
mod gc_graph;
mod gc_socket;
mod info;
mod locks;
mod modulo;
mod optimise;
mod query;
mod receive;
mod register;
mod restore;
mod roots;
mod temproots;
mod transfer;
mod verify;

pub use auto_gc::AutoGc;
pub use canonical::{Canonicalise, InodesSeen};
pub use case_hack::{CASE_HACK_SUFFIX, CaseHack};
pub(crate) use config::percent_decode;
pub use config::{Lookup, StoreConfig, StoreSettings};
pub(crate) use files::{delete, exchange, free_space, sync_tree};
pub use gc::{GcAction, GcOptions, GcResults, GcStage, StageHook, render_size};
pub use info::{PathInfo, Realisation};
pub use locks::PathLocks;
pub use modulo::HashModulo;
pub use optimise::{OptimiseStats, Optimising};
pub use query::ClosureOptions;
pub use restore::{Metadata, restore_nar, restore_nar_case_hack};
pub use roots::Roots;
pub use transfer::LoadOptions;
pub use verify::{Repair, VerifyOptions, VerifyReport};

use crate::derivation::{Derivation, DrvHashMemo};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Level, Observer, Silent};
use crate::store_path::{StoreDir, StorePath};
use locks::{LockKind, lock_file, open_lock_file};
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// An open local store.
pub struct LocalStore {
    config: StoreConfig,
    db: Mutex<Connection>,
    temp_roots: Mutex<temproots::TempRoots>,
    /// Hashes modulo of derivations that were checked when they became valid.
    drv_hashes: Mutex<DrvHashMemo>,
    observer: RwLock<Arc<dyn Observer>>,
    /// Where derivations are read from that are not here.
    derivations: RwLock<Option<Arc<LocalStore>>>,
    last_look: Mutex<auto_gc::LastLook>,
    /// Held shared for as long as the store is open, so that nobody changes the schema meanwhile.
    _big_lock: Option<File>,
}

impl std::fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalStore")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Opens a store, making it where it does not exist.
    pub fn open(config: StoreConfig) -> Result<Arc<LocalStore>> {
        if !config.read_only {
            create_dirs(&config)?;
        }
        if !config.settings.allow_symlinked_store {
            refuse_symlinks(&config.real_store_dir)?;
        }
        let mut big_lock = None;
        if !config.read_only {
            reserve_space(&config);
            let lock = open_lock_file(&config.state_dir.join("db/big-lock"))?;
            lock_file(&lock, LockKind::Shared, true)?;
            big_lock = Some(lock);
        }
        let connection = open_database(&config, big_lock.as_ref())?;
        Ok(Arc::new(LocalStore {
            config,
            db: Mutex::new(connection),
            temp_roots: Mutex::default(),
            drv_hashes: Mutex::default(),
            observer: RwLock::new(Arc::new(Silent)),
            derivations: RwLock::default(),
            last_look: Mutex::default(),
            _big_lock: big_lock,
        }))
    }

    /// Where the store is and how it behaves.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The logical store folder.
    pub fn store_dir(&self) -> &StoreDir {
        &self.config.store_dir
    }

    /// The whole logical path as text.
    pub fn print(&self, path: &StorePath) -> String {
        self.config.store_dir.print(path)
    }

    /// Where the files of a path are.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.config.real_store_dir.join(path.base_name())
    }

    /// Who hears of what happens from now on; nobody at first.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        *self
            .observer
            .write()
            .unwrap_or_else(PoisonError::into_inner) = observer;
    }

    /// Who hears of what happens.
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.observer
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn say(&self, level: Level, text: impl Into<String>) {
        self.observer().message(level, text);
    }

    /// Locks paths that are about to be made; see [`PathLocks::acquire`]. `None` if `wait` is false and
    /// somebody else holds one of the locks.
    pub fn lock_paths<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        wait: bool,
    ) -> Result<Option<PathLocks>> {
        self.check_writable()?;
        let real = paths.into_iter().map(|path| self.real_path(path));
        PathLocks::acquire(real, wait, &|path| {
            self.say(
                Level::Info,
                format!("waiting for lock on '{}'", path.display()),
            );
        })
    }

    /// Lets derivations that are not in this store be read from another one, with the same store folder: that
    /// of an evaluation whose results are to be built here.
    pub fn read_derivations_from(&self, other: Arc<LocalStore>) {
        *self
            .derivations
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(other);
    }

    /// Whether a derivation is valid, here or where else derivations are read from.
    pub fn has_derivation(&self, path: &StorePath) -> Result<bool> {
        if self.is_valid(path)? {
            return Ok(true);
        }
        let other = self.other_derivations();
        other.map_or(Ok(false), |other| other.has_derivation(path))
    }

    fn other_derivations(&self) -> Option<Arc<LocalStore>> {
        self.derivations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads a derivation. Its file need not be valid, but must be there (see also
    /// [`LocalStore::read_derivations_from`]).
    pub fn read_derivation(&self, path: &StorePath) -> Result<Derivation> {
        let file = self.real_path(path);
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return match self.other_derivations() {
                    Some(other) => other.read_derivation(path),
                    None => Err(self.not_valid(path)),
                };
            }
            Err(e) => {
                return Err(Error::io(
                    format_args!("error opening derivation '{}'", self.print(path)),
                    e,
                ));
            }
        };
        Derivation::parse_aterm(self.store_dir(), path.derivation_name()?, &text).map_err(|e| {
            Error::new(
                e.kind(),
                format!(
                    "error parsing derivation '{}': {e}",
                    self.real_path(path).display()
                ),
            )
        })
    }

    fn check_writable(&self) -> Result<()> {
        match self.config.read_only {
            false => Ok(()),
            true => Err(self.read_only()),
        }
    }

    /// The error for what needs to write to a store that is opened for reading only.
    fn read_only(&self) -> Error {
        use nix::unistd::{AccessFlags, access};
        let dir = &self.config.real_store_dir;
        let why = match access(dir, AccessFlags::W_OK) {
            Ok(()) => String::new(),
            Err(e) => format!(" ('{}': {})", dir.display(), e.desc()),
        };
        Error::new(
            ErrorKind::ReadOnly,
            format!("attempt to write a readonly database: the store is opened read-only{why}"),
        )
    }

    fn not_valid(&self, path: &StorePath) -> Error {
        Error::new(
            ErrorKind::NotValid,
            format!("path '{}' is not valid", self.print(path)),
        )
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-done transaction behind: it was undone on the way.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder and those above it, which all may read and one may write, whatever the process's umask is.
pub(crate) fn make_dirs(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.is_dir();
    let missing: Vec<&Path> = dir.ancestors().take_while(missing).collect();
    for dir in missing.into_iter().rev() {
        let made = match std::fs::create_dir(dir) {
            Ok(()) => std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)),
            // By somebody else, meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(e) => Err(e),
        };
        made.map_err(|e| Error::io(format_args!("creating directory '{}'", dir.display()), e))?;
    }
    Ok(())
}

fn create_dirs(config: &StoreConfig) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    make_dirs(&config.real_store_dir)?;
    make_store_writable(&config.real_store_dir)?;
    for dir in [
        config.real_store_dir.join(".links"),
        config.state_dir.join("profiles/per-user"),
        config.state_dir.join("gcroots/per-user"),
        config.state_dir.join("temproots"),
        config.state_dir.join("db"),
    ] {
        make_dirs(&dir)?;
    }
    let group = &config.settings.build_users_group;
    if nix::unistd::geteuid().is_root() && !group.is_empty() {
        // A group that does not exist is no error: the store works without.
        if let Ok(Some(group)) = nix::unistd::Group::from_name(group) {
            let dir = &config.real_store_dir;
            let fail = |e| Error::io(format_args!("changing ownership of '{}'", dir.display()), e);
            let meta = dir.metadata().map_err(fail)?;
            if meta.uid() != 0 || meta.gid() != group.gid.as_raw() || meta.mode() & 0o7777 != 0o1775
            {
                std::os::unix::fs::chown(dir, Some(0), Some(group.gid.as_raw())).map_err(fail)?;
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o1775))
                    .map_err(fail)?;
            }
        }
    }
    Ok(())
}

/// A store on a read-only mount (as NixOS has it) is made writable for this thread, and those that it will start: what all
/// others see stays as it is.
fn make_store_writable(dir: &Path) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::statvfs::{FsFlags, statvfs};
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let stat = statvfs(dir).map_err(|e| {
        Error::io(
            "getting info about the Nix store mount point",
            std::io::Error::from(e),
        )
    })?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| {
            Error::io(
                "setting up a private mount namespace",
                std::io::Error::from(e),
            )
        })?;
        mount(
            None::<&str>,
            dir,
            Some("none"),
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| {
            Error::io(
                format_args!("remounting '{}' writable", dir.display()),
                std::io::Error::from(e),
            )
        })?;
    }
    Ok(())
}

/// Links above the store would make its paths depend on what they point to.
fn refuse_symlinks(dir: &Path) -> Result<()> {
    for dir in dir.ancestors() {
        if dir.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the path '{}' is a symlink; this is not allowed for the Nix store and its parent directories",
                    dir.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Sets space aside that the collector frees first, since the database cannot be opened on a full disk.
/// It does not matter if it fails.
fn reserve_space(config: &StoreConfig) {
    let path = config.state_dir.join("db/reserved");
    let size = config.settings.reserved_space;
    if path.symlink_metadata().is_ok_and(|meta| meta.len() == size) {
        return;
    }
    let reserve = || -> Option<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .ok()?;
        let len = i64::try_from(size).ok()?;
        nix::fcntl::posix_fallocate(&file, 0, len).ok()?;
        file.set_len(size).ok()
    };
    let _ = reserve();
}

/// The version of the schema, 0 where there is none yet.
fn schema_version(config: &StoreConfig) -> Result<u32> {
    let path = config.state_dir.join("db/schema");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::io(format_args!("'{}'", path.display()), e)),
    };
    text.trim().parse().map_err(|_| {
        Error::new(
            ErrorKind::Database,
            format!("'{}' is corrupt", path.display()),
        )
    })
}

/// `lock` is held shared, if the store is to be written.
fn open_database(config: &StoreConfig, lock: Option<&File>) -> Result<Connection> {
    let version = schema_version(config)?;
    match version {
        0 if config.read_only => Err(Error::new(
            ErrorKind::Database,
            "database does not exist, and cannot be created in read-only mode",
        )),
        0 => {
            // Several processes may get here at once: each makes all tables that are missing, in a
            // transaction, and the version is written last.
            let connection = db::open(config, true)?;
            db::create_schema(&connection)?;
            db::prepare_migrations(&connection)?;
            write_schema_version(config)?;
            Ok(connection)
        }
        db::SCHEMA => {
            let connection = db::open(config, false)?;
            if !config.read_only {
                db::prepare_migrations(&connection)?;
            }
            Ok(connection)
        }
        newer if newer > db::SCHEMA => Err(Error::new(
            ErrorKind::Database,
            format!(
                "current Nix store schema is version {newer}, but I only support {}",
                db::SCHEMA
            ),
        )),
        older => {
            let refuse = |what: &str| Err(Error::new(ErrorKind::Database, what));
            let Some(lock) = lock else {
                return refuse(
                    "database schema needs migrating, but this cannot be done in read-only mode",
                );
            };
            match older {
                ..5 => {
                    return refuse(
                        "this Nix store has a database in Berkeley DB format, which is not supported; upgrade it with Nix 0.12 first",
                    );
                }
                5 => {
                    return refuse(
                        "this Nix store has a database in flat file format, which is not supported; upgrade it with Nix 1.11 first",
                    );
                }
                _ => {}
            }
            // Not by waiting: whoever has brought it up to date meanwhile keeps the store open.
            while !lock_file(lock, LockKind::Exclusive, false)? {
                lock_file(lock, LockKind::Shared, true)?;
                if schema_version(config)? >= db::SCHEMA {
                    return open_database(config, Some(lock));
                }
                lock_file(lock, LockKind::None, true)?;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let connection = db::open(config, false)?;
            if schema_version(config)? < db::SCHEMA {
                db::migrate(&connection)?;
                write_schema_version(config)?;
            }
            db::prepare_migrations(&connection)?;
            lock_file(lock, LockKind::Shared, true)?;
            Ok(connection)
        }
    }
}

/// Written to another file first, so that it is there as a whole or not at all.
fn write_schema_version(config: &StoreConfig) -> Result<()> {
    use std::io::Write;
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let path = config.state_dir.join("db/schema");
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = config
        .state_dir
        .join(format!("db/schema.tmp-{}-{number}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        write!(file, "{}", db::SCHEMA)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| Error::io(format_args!("writing '{}'", path.display()), e))
}
