//! A local store behind evaluation: what evaluation adds goes there, and what it reads is built there.

use nivis_builtins::host::{KeptFiles, StoreKeeper};
use nivis_eval::context::ContextElement;
use nivis_store::build::events::{Level, Observer};
use nivis_store::build::{BuildMode, BuildRequest, BuildSettings, Builder, DrvRef};
use nivis_store::local::{LocalStore, StoreConfig};
use nivis_store::nar::FileSystemNode;
use nivis_store::{
    ContentAddressMethod, HashAlgorithm, OutputName, StoreDir, StorePath, StoreReferences,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// A local store that is opened when it is first used.
pub struct LazyStore {
    config: StoreConfig,
    observer: Arc<dyn Observer>,
    open: RefCell<Option<Arc<LocalStore>>>,
}

impl LazyStore {
    /// A store that is not open yet, and who is to hear of what happens there.
    pub fn new(config: StoreConfig, observer: Arc<dyn Observer>) -> LazyStore {
        LazyStore {
            config,
            observer,
            open: RefCell::default(),
        }
    }

    /// Where the store is.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Who hears of what happens.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// The open store.
    ///
    /// # Errors
    /// When it cannot be opened, or made.
    pub fn get(&self) -> nivis_store::Result<Arc<LocalStore>> {
        if let Some(store) = self.open.borrow().as_ref() {
            return Ok(store.clone());
        }
        let config = &self.config;
        if config.own && !config.state_dir.exists() {
            let root = config.root_dir.as_deref().unwrap_or(&config.state_dir);
            let text = format!("{}: '{}'", config.reason, root.display());
            self.observer.message(Level::Warn, text);
        }
        let store = LocalStore::open(config.clone())?;
        store.set_observer(self.observer.clone());
        *self.open.borrow_mut() = Some(store.clone());
        Ok(store)
    }

    /// Gives the store away if it is open; it is opened again when it is needed. Whoever gets it should
    /// keep it for as long as what evaluation added must stay: its temporary roots go when it is closed.
    pub fn take(&self) -> Option<Arc<LocalStore>> {
        self.open.take()
    }
}

impl std::fmt::Debug for LazyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyStore")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What evaluation may build.
#[derive(Clone, Debug)]
pub struct ImportFromDerivation {
    /// Whether outputs may be read at all (`allow-import-from-derivation`).
    pub allowed: bool,
    /// Whether each is warned about (`trace-import-from-derivation`).
    pub traced: bool,
    /// How they are built.
    pub settings: BuildSettings,
    /// Where they are built, if not in the store that evaluation adds to.
    pub store: Option<Rc<LazyStore>>,
    /// Follows the error that a derivation to be built is not in the store: why that may be.
    pub advice: String,
    /// Becomes true when a derivation to be built is not in the store, as when evaluation may not write there.
    pub lacking: Rc<Cell<bool>>,
}

/// Keeps what evaluation adds in a local store, and builds there what evaluation reads.
#[derive(Debug)]
pub struct LocalKeeper {
    store: Rc<LazyStore>,
    import: ImportFromDerivation,
    /// What was realised before, and where it is.
    realised: RefCell<HashMap<ContextElement, StorePath>>,
}

fn io_error(e: nivis_store::Error) -> io::Error {
    match e.kind() {
        nivis_store::ErrorKind::Io(kind) => io::Error::new(kind, e.to_string()),
        _ => io::Error::other(e.to_string()),
    }
}

impl LocalKeeper {
    /// A keeper in a store.
    pub fn new(store: Rc<LazyStore>, import: ImportFromDerivation) -> LocalKeeper {
        LocalKeeper {
            store,
            import,
            realised: RefCell::default(),
        }
    }

    fn store(&self) -> io::Result<Arc<LocalStore>> {
        self.store.get().map_err(io_error)
    }

    /// Builds outputs, each of its own derivation; their paths in the same order.
    fn build(&self, wanted: &[(DrvRef, OutputName)]) -> io::Result<Vec<StorePath>> {
        let here = self.store()?;
        let store = match &self.import.store {
            Some(elsewhere) => elsewhere.get().map_err(io_error)?,
            None => here.clone(),
        };
        let requests: Vec<BuildRequest> = wanted
            .iter()
            .map(|(drv, output)| BuildRequest::outputs(drv.clone(), [output.clone()]))
            .collect();
        if let Some(first) = requests.first() {
            let shown = first.print(store.store_dir());
            if !self.import.allowed {
                return Err(forbidden(&shown));
            }
            if self.import.traced {
                self.store.observer().message(
                    Level::Warn,
                    format!("built '{shown}' during evaluation due to an import from derivation"),
                );
            }
        }
        if self.import.store.is_some() {
            let roots = wanted.iter().map(|(drv, _)| drv.root());
            take_sources(&store, &here, roots).map_err(io_error)?;
        }
        let builder = Builder::new(
            store.clone(),
            self.import.settings.clone(),
            self.store.observer().clone(),
        );
        let report = builder.build(&requests, BuildMode::Normal);
        let outputs = report.into_outputs(store.store_dir()).map_err(io_error)?;
        let paths = wanted
            .iter()
            .zip(outputs)
            .map(|((_, output), (request, built))| {
                built.get(output).cloned().ok_or_else(|| {
                    io::Error::other(format!(
                        "'{}' has no output '{output}'",
                        request.print(store.store_dir())
                    ))
                })
            });
        let paths: Vec<StorePath> = paths.collect::<io::Result<_>>()?;
        if self.import.store.is_some() {
            // Evaluation reads them where it adds to.
            let closure = store.closure(&paths).map_err(io_error)?;
            for path in store.topo_sort(&closure).map_err(io_error)? {
                here.copy_from(&store, &path).map_err(io_error)?;
            }
        }
        Ok(paths)
    }
}

fn forbidden(what: &str) -> io::Error {
    io::Error::other(format!(
        "cannot build '{what}' during evaluation because the option 'allow-import-from-derivation' is disabled"
    ))
}

/// Lets a store build derivations of another one: they can be read, and their sources are copied.
///
/// # Errors
/// When one of the stores cannot be read, or the first one not written.
pub fn take_sources<'p>(
    store: &LocalStore,
    other: &Arc<LocalStore>,
    roots: impl IntoIterator<Item = &'p StorePath>,
) -> nivis_store::Result<()> {
    store.read_derivations_from(other.clone());
    let there = other.valid_among(roots)?;
    let closure = other.closure(&there)?;
    for path in other.topo_sort(&closure)? {
        if !path.is_derivation() {
            store.copy_from(other, &path)?;
        }
    }
    Ok(())
}

/// A derivation, which may be an output of another one, and its output.
fn output_of(store: &StoreDir, drv: &[u8], output: &[u8]) -> io::Result<(DrvRef, OutputName)> {
    let mut drv = DrvRef::Path(store.parse(drv).map_err(io_error)?);
    let text = String::from_utf8_lossy(output);
    let mut names = text.split('!').peekable();
    while let Some(name) = names.next() {
        let name = OutputName::from(name);
        if names.peek().is_none() {
            return Ok((drv, name));
        }
        drv = DrvRef::Output(Box::new(drv), name);
    }
    Err(io::Error::other("an output without a name"))
}

impl StoreKeeper for LocalKeeper {
    fn add_source(
        &self,
        name: &str,
        files: &mut KeptFiles<'_>,
        root: &FileSystemNode,
        method: ContentAddressMethod,
        references: &StoreReferences,
    ) -> io::Result<StorePath> {
        self.store()?
            .add_source(name, files, root, method, HashAlgorithm::Sha256, references)
            .map_err(io_error)
    }

    fn add_text(
        &self,
        path: &StorePath,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> io::Result<()> {
        let store = self.store()?;
        store
            .add_text(path.name(), contents, references)
            .map_err(io_error)?;
        Ok(())
    }

    fn references(&self, path: &StorePath) -> BTreeSet<StorePath> {
        // A store that cannot be read knows nothing.
        self.store()
            .and_then(|store| store.query_references(path).map_err(io_error))
            .unwrap_or_default()
    }

    fn closure(&self, paths: &[StorePath]) -> io::Result<BTreeSet<StorePath>> {
        self.store()?.closure(paths).map_err(io_error)
    }

    fn realise(&self, elements: &[&ContextElement]) -> io::Result<Vec<StorePath>> {
        let mut paths: BTreeMap<usize, StorePath> = BTreeMap::new();
        let mut wanted = Vec::new();
        let dir = &self.store.config().store_dir;
        for (i, element) in elements.iter().enumerate() {
            if let Some(known) = self.realised.borrow().get(element) {
                paths.insert(i, known.clone());
                continue;
            }
            let path = dir.parse(element.path()).map_err(io_error)?;
            if !self.store()?.is_valid(&path).map_err(io_error)? {
                let advice = match element {
                    ContextElement::Output { drv, output } => {
                        if !self.import.allowed {
                            let (drv, output) = output_of(dir, drv, output)?;
                            let request = BuildRequest::outputs(drv, [output]);
                            return Err(forbidden(&request.print(dir)));
                        }
                        self.import.lacking.set(true);
                        self.import.advice.as_str()
                    }
                    _ => "",
                };
                return Err(io::Error::other(format!(
                    "path '{}' is not valid{advice}",
                    path.base_name()
                )));
            }
            match element {
                ContextElement::Output { drv, output } => {
                    wanted.push((i, output_of(dir, drv, output)?));
                }
                _ => {
                    paths.insert(i, path);
                }
            }
        }
        if !wanted.is_empty() {
            let (places, wanted): (Vec<usize>, Vec<(DrvRef, OutputName)>) =
                wanted.into_iter().unzip();
            paths.extend(places.into_iter().zip(self.build(&wanted)?));
        }
        let mut realised = self.realised.borrow_mut();
        let found = elements.iter().zip(paths.into_values());
        Ok(found
            .map(|(element, path)| {
                realised.insert((*element).clone(), path.clone());
                path
            })
            .collect())
    }
}
