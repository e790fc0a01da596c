//! `nivis store`, `nivis path-info`, `nivis copy`: looking at the store and changing it, path by path.

use crate::gc_command::{GcArgs, collect};
use crate::hash_command::without_links_on_the_way;
use crate::installable::{self, SourceArgs};
use crate::listing::{ListArgs, Node, depth, list};
use crate::nix_store::contents;
use crate::path_info::PathInfoArgs;
use crate::session::{Common, Failure, print};
use crate::store_access::{self, Wanted, follow_links};
use crate::verify_command::VerifyArgs;
use clap::{Args, Subcommand};
use nivis_store::build::events::Level;
use nivis_store::io_text;
use nivis_store::json::Json;
use nivis_store::local::{ClosureOptions, GcAction, GcOptions, LocalStore};
use nivis_store::nar::FileSystem;
use nivis_store::{ContentAddressMethod, StorePath, ingest};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Say which store is used, and why
    #[command(alias = "ping")]
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy a file or folder to the store
    Add(AddArgs),
    /// Copy a file or folder to the store
    #[command(name = "add-path", hide = true)]
    AddPath(AddArgs),
    /// Copy a file to the store, by the hash of its contents
    #[command(name = "add-file", hide = true)]
    AddFile(AddArgs),
    /// Show what is in a store path
    Ls {
        /// A store path, or a path in one
        path: String,
        #[command(flatten)]
        args: ListArgs,
    },
    /// Print a file in the store
    Cat {
        /// A path in a store path
        path: String,
    },
    /// Write the archive of a store path to standard output
    #[command(alias = "dump-path")]
    Dump {
        /// A store path, DRV^OUTPUT, or an attribute of --file or --expr
        path: Option<String>,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Make files of an archive on standard input
    Restore {
        /// What to make
        path: PathBuf,
    },
    /// Print everything that paths refer to, directly or not
    Requisites(PathsArgs),
    /// Print what paths refer to
    References(PathsArgs),
    /// Print what refers to paths
    Referrers(PathsArgs),
    /// Print what is known about paths
    #[command(name = "path-info")]
    PathInfo(PathInfoArgs),
    /// Look whether paths are as they were made
    Verify(VerifyArgs),
    /// Build paths again that are damaged
    Repair(PathsArgs),
    /// Delete paths that nothing keeps alive
    Delete {
        #[command(flatten)]
        paths: PathsArgs,
        /// Do not look for roots
        #[arg(long)]
        ignore_liveness: bool,
    },
    /// Replace files with the same contents by hard links
    #[command(alias = "optimize")]
    Optimise,
    /// Write paths to standard output, so that another store can import them
    Export(PathsArgs),
    /// Take paths in from standard input
    Import,
    /// Delete everything that nothing keeps alive
    Gc(GcArgs),
    /// Show which packages and versions another closure has
    #[command(name = "diff-closures")]
    DiffClosures(crate::diff_closures::DiffArgs),
    /// Find the store path with a hash part
    #[command(name = "path-from-hash-part")]
    PathFromHashPart {
        /// 32 characters
        hash_part: String,
    },
}

#[derive(Args)]
pub struct AddArgs {
    /// The file or folder
    path: PathBuf,
    /// Its name in the store
    #[arg(short, long)]
    name: Option<String>,
    /// What is hashed: the archive (nar), the contents (flat, text) or the Git object (git)
    #[arg(long, value_name = "METHOD")]
    mode: Option<String>,
    /// The hash algorithm
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256")]
    hash_algo: String,
    /// Only print the path
    #[arg(long)]
    dry_run: bool,
}

/// Some store paths.
#[derive(Args)]
pub struct PathsArgs {
    /// Store paths, DRV^OUTPUT, or attributes of --file or --expr
    #[arg(value_name = "INSTALLABLE")]
    installables: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// All valid paths
    #[arg(long)]
    all: bool,
    /// And everything that they refer to
    #[arg(short, long)]
    recursive: bool,
    /// The derivations, not what they build
    #[arg(long)]
    derivation: bool,
    /// More paths are on standard input
    #[arg(long)]
    stdin: bool,
}

impl PathsArgs {
    /// The paths, each once and after all that it refers to, and the store.
    ///
    /// # Errors
    /// Paths that are not valid, and what evaluation fails with.
    pub fn resolve(
        &self,
        common: &mut Common,
    ) -> Result<(Arc<LocalStore>, Vec<StorePath>), Failure> {
        self.resolve_and(common, false)
    }

    /// The same, with what is missing built first.
    ///
    /// # Errors
    /// Also failed builds.
    pub fn resolve_built(
        &self,
        common: &mut Common,
    ) -> Result<(Arc<LocalStore>, Vec<StorePath>), Failure> {
        self.resolve_and(common, true)
    }

    fn resolve_and(
        &self,
        common: &mut Common,
        build: bool,
    ) -> Result<(Arc<LocalStore>, Vec<StorePath>), Failure> {
        let mut args = self.installables.clone();
        if self.stdin {
            args.extend(installable::from_stdin()?);
        }
        if self.all {
            if !args.is_empty() {
                return Err(Failure::Usage(
                    "'--all' does not expect arguments".to_string(),
                ));
            }
            let store = store_access::open(common)?;
            let paths = store.topo_sort(&store.query_all_valid()?)?;
            return Ok((store, paths));
        }
        let named = self.source.file.is_some() || self.source.expr.is_some();
        if args.is_empty() && self.stdin && !named {
            return Ok((store_access::open(common)?, Vec::new()));
        }
        let wanted = installable::resolve(common, &self.source, &args)?;
        let store = match build {
            true => store_access::open_for(common, &wanted)?,
            false => store_access::open_beside(common)?,
        };
        let mut paths = if self.derivation {
            derivations(&store, &wanted)?
        } else if build {
            crate::build_command::built_paths(common, &store, &wanted)?
        } else {
            crate::missing::find(&store, &wanted)?.print_always(&store)?;
            installable::paths(&store, &wanted)?
        };
        if self.recursive {
            paths = store.closure(&paths)?.into_iter().collect();
        }
        let paths = store.topo_sort(&paths)?;
        Ok((store, paths))
    }
}

/// The derivations that arguments stand for: those that they build, or that built them.
pub fn derivations(store: &LocalStore, wanted: &[Wanted]) -> Result<Vec<StorePath>, Failure> {
    let mut found = Vec::new();
    for wanted in wanted {
        found.push(match wanted {
            Wanted::Built(request) => store_access::drv_path(store, &request.drv)?,
            Wanted::Path(path) if path.is_derivation() => path.clone(),
            Wanted::Path(path) => {
                store
                    .query_valid_derivers(path)?
                    .pop_first()
                    .ok_or_else(|| {
                        Failure::Other(format!(
                            "'{}' does not have a known deriver",
                            store.print(path)
                        ))
                    })?
            }
        });
    }
    Ok(found)
}

fn say(store: &LocalStore, path: &StorePath) -> Result<(), Failure> {
    print(format!("{}\n", store.print(path)).as_bytes())
}

/// Runs `nivis store`.
///
/// # Errors
/// Paths that are not valid, and whatever the command fails with.
pub fn run(mut common: Common, command: StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Info { json } => store_info(&common, json),
        StoreCommand::Add(args) | StoreCommand::AddPath(args) => {
            add(&common, &args, ContentAddressMethod::Nar)
        }
        StoreCommand::AddFile(args) => add(&common, &args, ContentAddressMethod::Flat),
        StoreCommand::Ls { path, args } => {
            let (file, _) = file_in_store(&common, &path)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let root = Node::from_files(&file, depth(&args))?;
            match root {
                Node::Directory(_) => list(&root, "", &args),
                // A file is shown by its name.
                file => list(
                    &Node::Directory([(name.as_bytes().to_vec(), file)].into()),
                    &name,
                    &args,
                ),
            }
        }
        StoreCommand::Cat { path } => {
            let (file, inside) = file_in_store(&common, &path)?;
            let meta = file.symlink_metadata().map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    Failure::Other(format!("path '{path}' does not exist"))
                }
                _ => Failure::Other(format!("cannot read '{}': {}", file.display(), io_text(&e))),
            })?;
            if !meta.is_file() {
                return Err(Failure::Other(format!(
                    "path '/{}' is not a regular file",
                    inside.display()
                )));
            }
            let unreadable = |e: std::io::Error| {
                Failure::Other(format!("cannot read '{}': {}", file.display(), io_text(&e)))
            };
            let mut contents = std::fs::File::open(&file).map_err(unreadable)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match contents.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(n) => print(buffer.get(..n).unwrap_or_default())?,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(unreadable(e)),
                }
            }
        }
        StoreCommand::Dump { path, source } => {
            let wanted = installable::resolve(&mut common, &source, path.as_slice())?;
            let store = store_access::open_beside(&common)?;
            crate::missing::find(&store, &wanted)?.print_always(&store)?;
            let paths = installable::paths(&store, &wanted)?;
            let [path] = paths.as_slice() else {
                return Err(Failure::Usage(
                    "this command requires exactly one store path".to_string(),
                ));
            };
            store.query_path_info(path)?;
            crate::nar_command::dump(&store.real_path(path), false)
        }
        StoreCommand::Restore { path } => crate::nar_command::restore(&path, false),
        StoreCommand::Requisites(args) => related(&mut common, &args, |store, path| {
            Ok(store.closure_with([path], ClosureOptions::default())?)
        }),
        StoreCommand::References(args) => related(&mut common, &args, |store, path| {
            Ok(store.query_references(path)?)
        }),
        StoreCommand::Referrers(args) => related(&mut common, &args, |store, path| {
            Ok(store.query_referrers(path)?)
        }),
        StoreCommand::PathInfo(args) => crate::path_info::run(common, &args),
        StoreCommand::Verify(args) => crate::verify_command::run(common, &args),
        StoreCommand::Repair(args) => {
            let (store, paths) = args.resolve(&mut common)?;
            let settings = store_access::build_settings(&common)?;
            paths
                .iter()
                .try_for_each(|path| contents::repair_path(&store, &settings, path))
        }
        StoreCommand::Delete {
            paths,
            ignore_liveness,
        } => {
            let (store, paths) = paths.resolve(&mut common)?;
            let options = GcOptions {
                action: GcAction::DeleteSpecific(paths.into_iter().collect()),
                ignore_liveness,
                ..GcOptions::default()
            };
            collect(&store, &options, false)
        }
        StoreCommand::Optimise => contents::optimise(&*store_access::open(&common)?),
        StoreCommand::Export(args) => {
            let (store, paths) = args.resolve(&mut common)?;
            contents::export(&store, &paths)
        }
        StoreCommand::Import => {
            let store = store_access::open(&common)?;
            contents::import(&store)
        }
        StoreCommand::Gc(args) => crate::gc_command::run(&common, &args),
        StoreCommand::DiffClosures(args) => crate::diff_closures::run(common, &args),
        StoreCommand::PathFromHashPart { hash_part } => {
            let store = store_access::open(&common)?;
            match store.query_path_from_hash_part(&hash_part)? {
                Some(path) => say(&store, &path),
                None => Err(Failure::Other(format!(
                    "there is no store path corresponding to '{hash_part}'"
                ))),
            }
        }
    }
}

/// Prints paths that stand in some relation to the arguments, dependencies first.
fn related(
    common: &mut Common,
    args: &PathsArgs,
    relation: impl Fn(&LocalStore, &StorePath) -> Result<BTreeSet<StorePath>, Failure>,
) -> Result<(), Failure> {
    let (store, paths) = args.resolve(common)?;
    let mut found = BTreeSet::new();
    for path in &paths {
        found.extend(relation(&store, path)?);
    }
    let sorted = store.topo_sort(&found)?;
    sorted.iter().try_for_each(|path| say(&store, path))
}

fn store_info(common: &Common, json: bool) -> Result<(), Failure> {
    let store = store_access::open(common)?;
    let config = store.config();
    let version = nivis::builtins::NIX_VERSION;
    if json {
        let json = Json::object([
            ("url", Json::string(config.uri())),
            ("version", Json::string(version)),
            ("trusted", Json::Bool(true)),
            ("reason", Json::string(&config.reason)),
            ("storeDir", Json::string(config.store_dir.as_str())),
            (
                "realStoreDir",
                Json::string(config.real_store_dir.to_string_lossy()),
            ),
            ("stateDir", Json::string(config.state_dir.to_string_lossy())),
        ]);
        return common.print_json(json.to_text().as_bytes());
    }
    let say = |text: String| crate::progress::reporter().message(Level::Notice, &text);
    say(format!("Store URL: {}", config.uri()));
    say(format!("Version: {version}"));
    say("Trusted: 1".to_string());
    say(format!("Chosen because: {}", config.reason));
    say(format!("Store folder: {}", config.store_dir));
    if config.real_store_dir.as_os_str() != config.store_dir.as_str() {
        say(format!("Really in: {}", config.real_store_dir.display()));
    }
    say(format!("State folder: {}", config.state_dir.display()));
    Ok(())
}

/// Names that nothing has are wrong usage.
pub fn wrong_usage<T>(parsed: nivis_store::Result<T>) -> Result<T, Failure> {
    parsed.map_err(|e| Failure::Usage(e.to_string()))
}

/// Hashing as Git does is an experiment.
///
/// # Errors
/// When it is asked for and not switched on.
pub fn needs_git_hashing(common: &Common, method: ContentAddressMethod) -> Result<(), Failure> {
    match method {
        ContentAddressMethod::Git => common.needs_feature("git-hashing"),
        _ => Ok(()),
    }
}

fn add(common: &Common, args: &AddArgs, usual: ContentAddressMethod) -> Result<(), Failure> {
    let method = match &args.mode {
        Some(mode) => wrong_usage(ContentAddressMethod::parse(mode))?,
        None => usual,
    };
    let algorithm = crate::hash_command::algorithm(common, &args.hash_algo)?;
    needs_git_hashing(common, method)?;
    let path = without_links_on_the_way(&args.path)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    if args.dry_run || common.read_only {
        let dir = store_access::config(common)?.store_dir;
        let node = FileSystem::node(&path);
        let content = ingest::hash_tree(&mut FileSystem, &node, method, algorithm)?;
        let path = dir.make_content_path(&name, &content, &nivis_store::StoreReferences::none())?;
        return print(format!("{}\n", dir.print(&path)).as_bytes());
    }
    let store = store_access::open(common)?;
    let added = store.add_path(&path, &name, method, algorithm)?;
    say(&store, &added)
}

/// A path with the links of its folders followed: `./result/bin` leads into the store as well.
fn through_links(path: &str) -> String {
    let mut whole = PathBuf::new();
    for part in Path::new(path) {
        whole.push(part);
        if let Ok(target) = std::fs::read_link(&whole) {
            whole.pop();
            whole.push(target);
        }
    }
    whole.to_string_lossy().into_owned()
}

/// Where a file of the store is, and what its path is within its store path, which must be valid.
fn file_in_store(common: &Common, path: &str) -> Result<(PathBuf, PathBuf), Failure> {
    let store = store_access::open(common)?;
    let dir = store.store_dir();
    let (object, rest) = follow_links(dir, path)
        .or_else(|_| follow_links(dir, &through_links(path)))
        .map_err(|_| Failure::Other(format!("path '{path}' is not in the Nix store")))?;
    store.query_path_info(&object)?;
    let real = store.real_path(&object);
    let real = if rest.as_os_str().is_empty() {
        real
    } else {
        real.join(&rest)
    };
    Ok((real, rest))
}
