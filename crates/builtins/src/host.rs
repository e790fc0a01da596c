//! Worlds for an evaluator to live in: the real file system, and one in memory.

use nivis_eval::context::ContextElement;
use nivis_eval::host::{Keep, follow_links};
use nivis_eval::machine::bytes_path;
use nivis_eval::{AddPath, FileType, Host, Note};
use nivis_store::nar::{FileSink, FileSystem, FileSystemNode, NarSource, NodeKind};
use nivis_store::{
    ContentAddress, ContentAddressMethod, DownstreamPlaceholder, ErrorKind, Hash, HashAlgorithm,
    StoreDir, StorePath, StoreReferences, ingest,
};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

// ---- adding to the store ----------------------------------------------------------------------------

fn io_error(e: nivis_store::Error) -> io::Error {
    match e.kind() {
        ErrorKind::Io(kind) => io::Error::new(kind, e.to_string()),
        _ => io::Error::other(e.message().to_string()),
    }
}

/// The content address of what a request wants added, read from a source of files.
fn content_of<S: NarSource<Error = nivis_store::Error>>(
    source: &mut S,
    root: &S::Node,
    request: &AddPath<'_>,
) -> io::Result<ContentAddress> {
    if !request.recursive
        && !matches!(
            source.kind(root).map_err(io_error)?,
            NodeKind::Regular { .. }
        )
    {
        return Err(io::Error::other(format!(
            "'{}' is not a regular file",
            request.path.display()
        )));
    }
    ingest::hash_tree(source, root, method_of(request), HashAlgorithm::Sha256).map_err(io_error)
}

fn method_of(request: &AddPath<'_>) -> ContentAddressMethod {
    if request.recursive {
        ContentAddressMethod::Nar
    } else {
        ContentAddressMethod::Flat
    }
}

fn mismatch(request: &AddPath<'_>) -> io::Error {
    io::Error::other(format!(
        "store path mismatch in (possibly filtered) path added from '{}'",
        request.path.display()
    ))
}

/// Where contents with the expected hash would be.
fn expected_path(store: &StoreDir, request: &AddPath<'_>) -> io::Result<Option<StorePath>> {
    let content = request.sha256.map(|hash| ContentAddress {
        method: method_of(request),
        hash: Hash::from_sha256(hash),
    });
    content.map(|c| path_for(store, request, &c)).transpose()
}

/// The store path of contents; with an expected hash, only when the contents have it.
fn store_path_of(
    store: &StoreDir,
    request: &AddPath<'_>,
    content: &ContentAddress,
) -> io::Result<StorePath> {
    let expected = request.sha256.map(Hash::from_sha256);
    if expected.is_some_and(|hash| hash != content.hash) {
        return Err(mismatch(request));
    }
    path_for(store, request, content)
}

fn path_for(
    store: &StoreDir,
    request: &AddPath<'_>,
    content: &ContentAddress,
) -> io::Result<StorePath> {
    let references = references_of(store, request)?;
    store
        .make_content_path(&String::from_utf8_lossy(request.name), content, &references)
        .map_err(io_error)
}

fn references_of(store: &StoreDir, request: &AddPath<'_>) -> io::Result<StoreReferences> {
    Ok(StoreReferences {
        others: parse_references(store, request.references.iter().map(Vec::as_slice))?,
        self_reference: false,
    })
}

fn parse_references<'r>(
    store: &StoreDir,
    references: impl IntoIterator<Item = &'r [u8]>,
) -> io::Result<BTreeSet<StorePath>> {
    let parsed = references.into_iter().map(|r| store.parse(r));
    parsed.collect::<Result<_, _>>().map_err(io_error)
}

/// Computes the store path of what a request wants added, reading through a host.
///
/// For hosts that have no better way. Files are held in memory one at a time.
///
/// # Errors
/// What the host reports, a bad name, a hash that is not the expected one.
pub fn add_through_host(
    host: &dyn Host,
    store: &StoreDir,
    request: &AddPath<'_>,
) -> io::Result<StorePath> {
    let mut source = HostFiles {
        host,
        keep: request.keep,
    };
    let content = content_of(&mut source, &request.path.to_path_buf(), request)?;
    store_path_of(store, request, &content)
}

/// The files of a host as a source of archives.
struct HostFiles<'h> {
    host: &'h dyn Host,
    keep: Option<Keep<'h>>,
}

fn nar_error(path: &Path, e: io::Error) -> nivis_store::Error {
    nivis_store::Error::io(format_args!("'{}'", path.display()), e)
}

impl NarSource for HostFiles<'_> {
    type Node = PathBuf;
    type Error = nivis_store::Error;

    fn place(&self, node: &PathBuf) -> Option<PathBuf> {
        Some(node.clone())
    }

    fn kind(&mut self, node: &PathBuf) -> nivis_store::Result<NodeKind> {
        match self.host.file_type(node).map_err(|e| nar_error(node, e))? {
            Some(FileType::Regular { executable }) => Ok(NodeKind::Regular { executable }),
            Some(FileType::Directory) => Ok(NodeKind::Directory),
            Some(FileType::Symlink) => Ok(NodeKind::Symlink),
            Some(FileType::Other) => Err(nivis_store::Error::new(
                ErrorKind::Nar,
                format!("file '{}' has an unsupported type", node.display()),
            )),
            None => Err(nar_error(node, io::ErrorKind::NotFound.into())),
        }
    }

    fn read_dir(&mut self, node: &PathBuf) -> nivis_store::Result<Vec<(Vec<u8>, PathBuf)>> {
        let entries = self.host.read_dir(node).map_err(|e| nar_error(node, e))?;
        Ok(entries
            .into_iter()
            .map(|(name, _)| {
                let path = node.join(bytes_path(&name));
                (name, path)
            })
            .collect())
    }

    fn read_link(&mut self, node: &PathBuf) -> nivis_store::Result<Vec<u8>> {
        let target = self.host.read_link(node).map_err(|e| nar_error(node, e))?;
        Ok(target.into_os_string().into_encoded_bytes())
    }

    fn read_file(&mut self, node: &PathBuf, out: &mut dyn FileSink) -> nivis_store::Result<()> {
        let contents = self.host.read_file(node).map_err(|e| nar_error(node, e))?;
        out.begin(contents.len() as u64)?;
        out.write(&contents)
    }

    fn include(&mut self, node: &PathBuf) -> nivis_store::Result<bool> {
        Ok(self
            .keep
            .is_none_or(|keep| keep(node.as_os_str().as_encoded_bytes())))
    }
}

// ---- the real file system ---------------------------------------------------------------------------

/// The store behind a [`SystemHost`]: it keeps what evaluation adds, and makes what evaluation reads.
pub trait StoreKeeper: std::fmt::Debug {
    /// Takes a file or folder, unless it has it, and gives its path.
    ///
    /// # Errors
    /// What reading it, or writing to the store, fails with.
    fn add_source(
        &self,
        name: &str,
        files: &mut KeptFiles<'_>,
        root: &FileSystemNode,
        method: ContentAddressMethod,
        references: &StoreReferences,
    ) -> io::Result<StorePath>;

    /// Takes a text, unless it has it.
    ///
    /// # Errors
    /// What writing to the store fails with.
    fn add_text(
        &self,
        path: &StorePath,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> io::Result<()>;

    /// What a store object refers to; nothing if it is not valid.
    fn references(&self, path: &StorePath) -> BTreeSet<StorePath>;

    /// Store objects with everything that they refer to, directly or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn closure(&self, paths: &[StorePath]) -> io::Result<BTreeSet<StorePath>>;

    /// Makes sure that store objects are there; outputs are built. Returns the path of each.
    ///
    /// # Errors
    /// Objects that are not valid, builds that fail or are not allowed.
    fn realise(&self, elements: &[&ContextElement]) -> io::Result<Vec<StorePath>>;
}

/// What of the file system evaluation may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Everything.
    #[default]
    All,
    /// Allowed paths only (`restrict-eval`).
    Restricted,
    /// Allowed paths only, because evaluation is pure.
    Pure,
}

/// The real file system, environment and clock; sources that are used by derivations get their store paths, and are copied
/// to a store on demand.
///
/// Types of files and paths in the store are remembered as long as the host lives: evaluation takes files for constant.
#[derive(Debug)]
pub struct SystemHost {
    store: StoreDir,
    /// Where the store's files are written to and looked for first.
    store_root: Option<PathBuf>,
    keeper: Option<Rc<dyn StoreKeeper>>,
    show: fn(&[u8]),
    note: fn(Note<'_>),
    write: bool,
    access: Access,
    allowed: RefCell<BTreeSet<PathBuf>>,
    types: RefCell<FxHashMap<PathBuf, Option<FileType>>>,
    copied: RefCell<FxHashMap<(PathBuf, Vec<u8>), StorePath>>,
    counter: Cell<u64>,
}

impl SystemHost {
    /// A host that computes paths in a store but writes nothing.
    pub fn new(store: StoreDir) -> SystemHost {
        SystemHost {
            store,
            store_root: None,
            keeper: None,
            show: to_standard_error,
            note: |_| {},
            write: false,
            access: Access::All,
            allowed: RefCell::default(),
            types: RefCell::default(),
            copied: RefCell::default(),
            counter: Cell::new(0),
        }
    }

    /// Lets sources, texts and `.drv` files be written to a folder, which stands for the store's. The folder is made when
    /// something is first written.
    #[must_use]
    pub fn writing_to(mut self, folder: impl Into<PathBuf>) -> SystemHost {
        self.store_root = Some(folder.into());
        self.write = true;
        self
    }

    /// Looks for files of the store in a folder that stands for the store's, before looking in the store's own.
    #[must_use]
    pub fn reading_store_at(mut self, folder: impl Into<PathBuf>) -> SystemHost {
        self.store_root = Some(folder.into());
        self
    }

    /// Lets a store answer for store objects, whose files are in a folder that stands for the store's. With `write`, it
    /// also gets what evaluation adds.
    #[must_use]
    pub fn with_keeper(
        mut self,
        folder: impl Into<PathBuf>,
        keeper: Rc<dyn StoreKeeper>,
        write: bool,
    ) -> SystemHost {
        self.store_root = Some(folder.into());
        self.keeper = Some(keeper);
        self.write = write;
        self
    }

    /// Shows lines to the user (traces, warnings) in another way than on standard error.
    #[must_use]
    pub fn showing(mut self, show: fn(&[u8])) -> SystemHost {
        self.show = show;
        self
    }

    /// Tells what evaluation does; nothing is told by default.
    #[must_use]
    pub fn noting(mut self, note: fn(Note<'_>)) -> SystemHost {
        self.note = note;
        self
    }

    /// Restricts what can be read.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> SystemHost {
        self.access = access;
        self
    }

    /// Lets a file, or a folder with everything in it, be read in spite of restrictions.
    pub fn allow(&self, path: impl Into<PathBuf>) {
        self.allowed.borrow_mut().insert(path.into());
    }

    /// The folder of the store.
    pub fn store(&self) -> &StoreDir {
        &self.store
    }

    /// Whether restrictions allow a path to be looked at: it is allowed, in an allowed folder, or on the way to one.
    fn is_allowed(&self, path: &Path) -> bool {
        if self.access == Access::All {
            return true;
        }
        let allowed = self.allowed.borrow();
        path.ancestors().any(|p| allowed.contains(p))
            || allowed
                .range(path.to_path_buf()..)
                .next()
                .is_some_and(|next| next.starts_with(path))
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        if self.is_allowed(path) {
            return Ok(());
        }
        let mode = match self.access {
            Access::Pure => "pure evaluation mode (use '--impure' to override)",
            _ => "restricted mode",
        };
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "access to absolute path '{}' is forbidden in {mode}",
                path.display()
            ),
        ))
    }

    /// Where the file is that a path means: files of the store may be elsewhere.
    fn physical(&self, path: &Path) -> Option<PathBuf> {
        let root = self.store_root.as_ref()?;
        let below = path.strip_prefix(self.store.as_str()).ok()?;
        let there = root.join(below);
        fs::symlink_metadata(&there).is_ok().then_some(there)
    }

    fn with_physical<T>(&self, path: &Path, f: impl FnOnce(&Path) -> T) -> T {
        match self.physical(path) {
            Some(there) => f(&there),
            None => f(path),
        }
    }

    /// The path to read for a path whose links may lead out of what is allowed.
    fn readable(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        if self.access == Access::All {
            return Ok(None);
        }
        let resolved = self.resolve_links(path)?;
        self.check(&resolved)?;
        Ok(Some(resolved))
    }

    fn look(&self, path: &Path) -> io::Result<Option<FileType>> {
        if let Some(known) = self.types.borrow().get(path) {
            return Ok(*known);
        }
        let found = match self.with_physical(path, |p| fs::symlink_metadata(p)) {
            Ok(meta) => Some(file_type(meta.file_type(), || is_executable(&meta))),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                None
            }
            Err(e) => return Err(e),
        };
        self.types.borrow_mut().insert(path.to_path_buf(), found);
        Ok(found)
    }

    fn add(&self, request: &AddPath<'_>) -> io::Result<StorePath> {
        if let Some(path) = expected_path(&self.store, request)? {
            // What is in the store already need not be readable here.
            let printed = PathBuf::from(self.store.print(&path));
            let known = match &self.keeper {
                Some(keeper) => {
                    let element =
                        ContextElement::Path(printed.as_os_str().as_encoded_bytes().into());
                    keeper.realise(&[&element]).is_ok()
                }
                None => self.with_physical(&printed, |p| fs::symlink_metadata(p).is_ok()),
            };
            if known {
                self.allow(printed);
                return Ok(path);
            }
        }
        self.check(request.path)?;
        let visible = |file: &[u8]| self.is_allowed(bytes_path(file));
        let keep: Option<Keep<'_>> = match (request.keep, self.access) {
            (keep, Access::All) => keep,
            (None, _) => Some(&visible),
            (Some(keep), _) => Some(&|file: &[u8]| keep(file) && visible(file)),
        };
        let mut files = KeptFiles { keep };
        let root = self.with_physical(request.path, |p| FileSystem::node(p));
        if let Some(keeper) = self.keeper.as_ref().filter(|_| self.write) {
            let path = keeper.add_source(
                &String::from_utf8_lossy(request.name),
                &mut files,
                &root,
                method_of(request),
                &references_of(&self.store, request)?,
            )?;
            let expected = expected_path(&self.store, request)?;
            if expected.is_some_and(|expected| expected != path) {
                return Err(mismatch(request));
            }
            self.forget_type(&path);
            self.allow(self.store.print(&path));
            return Ok(path);
        }
        let content = content_of(&mut files, &root, request)?;
        let path = store_path_of(&self.store, request, &content)?;
        if self.write {
            self.write_object(&path, |target| copy(&mut files, &root, target))?;
        }
        self.allow(self.store.print(&path));
        Ok(path)
    }

    /// Writes a store object that is not there yet: to a name of its own first, so that others never see half of it.
    fn write_object(
        &self,
        path: &StorePath,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(root) = &self.store_root else {
            return Ok(());
        };
        let target = root.join(path.base_name());
        if fs::symlink_metadata(&target).is_ok() {
            return Ok(());
        }
        let describe = |e: io::Error| {
            if e.raw_os_error().is_none() {
                return e;
            }
            io::Error::other(format!("cannot write '{}': {e}", target.display()))
        };
        fs::create_dir_all(root).map_err(describe)?;
        let number = self.counter.get();
        self.counter.set(number + 1);
        let temporary = root.join(format!(
            ".tmp-{}-{number}-{}",
            std::process::id(),
            path.hash_part()
        ));
        let result = write(&temporary).and_then(|()| fs::rename(&temporary, &target));
        if let Err(e) = result {
            let _ = remove(&temporary);
            if fs::symlink_metadata(&target).is_ok() {
                // Somebody else was faster; what is found by its contents is the same.
                return Ok(());
            }
            return Err(describe(e));
        }
        self.forget_type(path);
        Ok(())
    }

    /// A store object is there that was not.
    fn forget_type(&self, path: &StorePath) {
        self.types
            .borrow_mut()
            .remove(Path::new(&self.store.print(path)));
    }
}

fn to_standard_error(text: &[u8]) {
    use io::Write;
    let mut err = io::stderr().lock();
    // Nobody can be told when this fails.
    let _ = err.write_all(text).and_then(|()| err.write_all(b"\n"));
}

/// What stands for the path of an output that is known only once it is built.
fn output_placeholder(store: &StoreDir, drv: &[u8], output: &[u8]) -> nivis_store::Result<String> {
    let output = String::from_utf8_lossy(output);
    let mut names = output.split('!');
    let first = names.next().unwrap_or_default();
    let mut placeholder = DownstreamPlaceholder::unknown_ca_output(&store.parse(drv)?, first)?;
    for name in names {
        placeholder = placeholder.unknown_derivation(name);
    }
    Ok(placeholder.render())
}

fn is_executable(meta: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        meta.permissions().mode() & 0o100 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        false
    }
}

fn file_type(kind: fs::FileType, executable: impl FnOnce() -> bool) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_file() {
        FileType::Regular {
            executable: executable(),
        }
    } else {
        FileType::Other
    }
}

impl Host for SystemHost {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_file_within(path, usize::MAX)
    }

    fn read_file_within(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let resolved = self.readable(path)?;
        self.with_physical(resolved.as_deref().unwrap_or(path), |p| {
            let mut file = open(p)?;
            let meta = file.metadata()?;
            if meta.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "Is a directory",
                ));
            }
            // Most files are as long as they say: then one call is enough.
            let len = usize::try_from(meta.len()).unwrap_or(usize::MAX);
            if len > limit {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let mut contents = vec![0; len.min(1 << 30)];
            let mut filled = 0;
            while let Some(rest) = contents.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read(rest) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            contents.truncate(filled);
            // As in Nix, a file is what it says its length is: nothing is read of the kernel's files and devices without
            // a length, of which some never end.
            if filled == 1 << 30 {
                let rest = meta.len().saturating_sub(filled as u64);
                file.take(rest).read_to_end(&mut contents)?;
            }
            Ok(contents)
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let resolved = self.readable(path)?;
        let path = resolved.as_deref().unwrap_or(path);
        let mut entries = Vec::new();
        for entry in self.with_physical(path, |p| fs::read_dir(p))? {
            let entry = entry?;
            let kind = file_type(entry.file_type()?, || false);
            let name = entry.file_name();
            if self.is_allowed(&path.join(&name)) {
                entries.push((name.into_encoded_bytes(), kind));
            }
        }
        Ok(entries)
    }

    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        self.check(path)?;
        self.look(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.check(path)?;
        self.with_physical(path, |p| fs::read_link(p))
    }

    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        follow_links(path, |file| {
            // What may not be seen is no link.
            if self.is_allowed(file) && self.look(file)? == Some(FileType::Symlink) {
                return self.with_physical(file, |p| fs::read_link(p)).map(Some);
            }
            Ok(None)
        })
    }

    fn env(&self, name: &[u8]) -> Option<Vec<u8>> {
        let name = bytes_path(name).as_os_str();
        // The system's function takes no such names.
        if name.is_empty()
            || name
                .as_encoded_bytes()
                .iter()
                .any(|b| matches!(b, b'=' | 0))
        {
            return None;
        }
        std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes)
    }

    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since
            .ok()
            .and_then(|d| i64::try_from(d.as_secs()).ok())
            .unwrap_or(0)
    }

    fn current_dir(&self) -> Option<PathBuf> {
        std::env::current_dir().ok()
    }

    fn message(&self, text: &[u8]) {
        (self.show)(text);
    }

    fn note(&self, note: Note<'_>) {
        (self.note)(note);
    }

    fn copy_to_store(&self, path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
        let key = (path.to_path_buf(), name.to_vec());
        if let Some(known) = self.copied.borrow().get(&key) {
            return Ok(self.store.print(known).into_bytes());
        }
        // A link is copied as such, but the folders on the way to it may be links.
        let resolved = match (path.parent(), path.file_name()) {
            (Some(folder), Some(file)) => self.resolve_links(folder)?.join(file),
            _ => path.to_path_buf(),
        };
        let request = AddPath {
            path: &resolved,
            name,
            recursive: true,
            keep: None,
            sha256: None,
            references: &[],
        };
        let added = self.add(&request)?;
        let printed = self.store.print(&added);
        let store_path = printed.as_bytes();
        self.note(Note::Source { path, store_path });
        self.copied.borrow_mut().insert(key, added);
        Ok(printed.into_bytes())
    }

    fn add_path(&self, request: &AddPath<'_>) -> io::Result<Vec<u8>> {
        Ok(self.store.print(&self.add(request)?).into_bytes())
    }

    fn keeps_store_texts(&self) -> bool {
        self.write
    }

    fn references(&self, store_path: &[u8]) -> Vec<Vec<u8>> {
        let (Some(keeper), Ok(path)) = (&self.keeper, self.store.parse(store_path)) else {
            return Vec::new();
        };
        let references = keeper.references(&path);
        let printed = references.iter().map(|r| self.store.print(r).into_bytes());
        printed.collect()
    }

    fn realise_context(&self, elements: &[&ContextElement]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(keeper) = &self.keeper else {
            elements.iter().try_for_each(|e| self.realise(e))?;
            return Ok(Vec::new());
        };
        let paths = keeper.realise(elements)?;
        let mut outputs = Vec::new();
        let mut rewrites = Vec::new();
        for (element, path) in elements.iter().zip(paths) {
            let ContextElement::Output { drv, output } = element else {
                continue;
            };
            let placeholder = output_placeholder(&self.store, drv, output).map_err(io_error)?;
            let printed = self.store.print(&path).into_bytes();
            rewrites.push((placeholder.into_bytes(), printed));
            outputs.push(path);
        }
        if !outputs.is_empty() {
            // What was looked for in vain may be there now.
            self.types.borrow_mut().retain(|_, found| found.is_some());
            if self.access != Access::All {
                for path in keeper.closure(&outputs)? {
                    self.allow(self.store.print(&path));
                }
            }
        }
        Ok(rewrites)
    }

    fn write_store_text(
        &self,
        path: &[u8],
        contents: &[u8],
        references: &[&[u8]],
    ) -> io::Result<()> {
        let path = self.store.parse(path).map_err(io_error)?;
        self.allow(self.store.print(&path));
        if let Some(keeper) = &self.keeper {
            let references = parse_references(&self.store, references.iter().copied())?;
            keeper.add_text(&path, contents, &references)?;
            self.forget_type(&path);
            return Ok(());
        }
        self.write_object(&path, |target| {
            fs::write(target, contents)?;
            seal(target, false)
        })
    }
}

/// The real file system, without the files that a request does not want.
pub struct KeptFiles<'k> {
    keep: Option<Keep<'k>>,
}

impl NarSource for KeptFiles<'_> {
    type Node = FileSystemNode;
    type Error = nivis_store::Error;

    fn place(&self, node: &FileSystemNode) -> Option<PathBuf> {
        FileSystem.place(node)
    }

    fn kind(&mut self, node: &FileSystemNode) -> nivis_store::Result<NodeKind> {
        FileSystem.kind(node)
    }

    fn read_dir(
        &mut self,
        node: &FileSystemNode,
    ) -> nivis_store::Result<Vec<(Vec<u8>, FileSystemNode)>> {
        FileSystem.read_dir(node)
    }

    fn read_link(&mut self, node: &FileSystemNode) -> nivis_store::Result<Vec<u8>> {
        FileSystem.read_link(node)
    }

    fn read_file(
        &mut self,
        node: &FileSystemNode,
        out: &mut dyn FileSink,
    ) -> nivis_store::Result<()> {
        FileSystem.read_file(node, out)
    }

    fn include(&mut self, node: &FileSystemNode) -> nivis_store::Result<bool> {
        Ok(self
            .keep
            .is_none_or(|keep| keep(node.path().as_os_str().as_encoded_bytes())))
    }
}

/// Opens a file, without waiting until somebody writes to a pipe.
fn open(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Copies files to a place in the store.
fn copy(files: &mut KeptFiles<'_>, root: &FileSystemNode, target: &Path) -> io::Result<()> {
    enum Task {
        Copy(FileSystemNode, PathBuf),
        /// A folder is sealed when everything in it is written.
        Seal(PathBuf),
    }
    let mut todo = vec![Task::Copy(root.clone(), target.to_path_buf())];
    while let Some(task) = todo.pop() {
        let (node, target) = match task {
            Task::Copy(node, target) => (node, target),
            Task::Seal(folder) => {
                seal(&folder, true)?;
                continue;
            }
        };
        match files.kind(&node).map_err(io_error)? {
            NodeKind::Directory => {
                fs::create_dir(&target)?;
                todo.push(Task::Seal(target.clone()));
                for (name, child) in files.read_dir(&node).map_err(io_error)? {
                    if files.include(&child).map_err(io_error)? {
                        todo.push(Task::Copy(child, target.join(bytes_path(&name))));
                    }
                }
            }
            NodeKind::Symlink => {
                let link = files.read_link(&node).map_err(io_error)?;
                #[cfg(unix)]
                std::os::unix::fs::symlink(bytes_path(&link), &target)?;
                #[cfg(not(unix))]
                return Err(io::Error::other(
                    "symbolic links cannot be copied on this system",
                ));
            }
            NodeKind::Regular { executable } => {
                let mut from = fs::File::open(node.path())?;
                let mut to = fs::File::create_new(&target)?;
                io::copy(&mut from, &mut to)?;
                drop(to);
                seal(&target, executable)?;
            }
        }
    }
    Ok(())
}

/// Gives a file or folder of the store its permissions (read-only) and its time (one second after 1970).
fn seal(path: &Path, executable: bool) -> io::Result<()> {
    let file = fs::File::open(path)?;
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(if executable {
            0o555
        } else {
            0o444
        }))?;
    }
    let _ = executable;
    Ok(())
}

/// Removes what was half written; sealed folders have to be opened first.
fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mut todo = vec![path.to_path_buf()];
        while let Some(folder) = todo.pop() {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    todo.push(entry.path());
                }
            }
        }
    }
    fs::remove_dir_all(path)
}

// ---- memory -----------------------------------------------------------------------------------------

/// A file system, an environment and a store in memory: for tests, and for programs that evaluate text they have at hand.
///
/// Folders exist when something lies in them. Nothing outside is read or written.
#[derive(Debug, Default)]
pub struct MemoryHost {
    store: StoreDir,
    nodes: BTreeMap<PathBuf, Node>,
    env: BTreeMap<Vec<u8>, Vec<u8>>,
    now: i64,
    texts: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    messages: RefCell<Vec<Vec<u8>>>,
}

#[derive(Debug, Clone)]
enum Node {
    File { contents: Vec<u8>, executable: bool },
    Folder,
    Link(PathBuf),
}

impl MemoryHost {
    /// Without any file, with the store folder `/nix/store`.
    pub fn new() -> MemoryHost {
        MemoryHost::default()
    }

    /// With another store folder.
    #[must_use]
    pub fn with_store(mut self, store: StoreDir) -> MemoryHost {
        self.store = store;
        self
    }

    fn insert(&mut self, path: &Path, node: Node) {
        for folder in path.ancestors().skip(1) {
            self.nodes
                .entry(folder.to_path_buf())
                .or_insert(Node::Folder);
        }
        self.nodes.insert(path.to_path_buf(), node);
    }

    /// With a file at an absolute path.
    #[must_use]
    pub fn with_file(self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> MemoryHost {
        self.with_regular(path.as_ref(), contents.as_ref(), false)
    }

    /// With an executable file at an absolute path.
    #[must_use]
    pub fn with_program(self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> MemoryHost {
        self.with_regular(path.as_ref(), contents.as_ref(), true)
    }

    fn with_regular(mut self, path: &Path, contents: &[u8], executable: bool) -> MemoryHost {
        let contents = contents.to_vec();
        self.insert(
            path,
            Node::File {
                contents,
                executable,
            },
        );
        self
    }

    /// With a folder, which may be empty.
    #[must_use]
    pub fn with_folder(mut self, path: impl AsRef<Path>) -> MemoryHost {
        self.insert(path.as_ref(), Node::Folder);
        self
    }

    /// With a symbolic link.
    #[must_use]
    pub fn with_link(mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) -> MemoryHost {
        self.insert(path.as_ref(), Node::Link(target.into()));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> MemoryHost {
        self.env
            .insert(name.as_ref().to_vec(), value.as_ref().to_vec());
        self
    }

    /// With a clock that shows a fixed time, in seconds since 1970.
    #[must_use]
    pub fn with_time(mut self, now: i64) -> MemoryHost {
        self.now = now;
        self
    }

    /// The texts written to the store so far (`.drv` files, `builtins.toFile`), by their full store paths.
    pub fn texts(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.texts.borrow().clone()
    }

    /// What was shown to the user so far.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.borrow().clone()
    }

    fn follow(&self, path: &Path) -> io::Result<&Node> {
        let path = self.resolve_links(path)?;
        self.nodes
            .get(&path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Host for MemoryHost {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        if let Some(text) = self.texts.borrow().get(path.as_os_str().as_encoded_bytes()) {
            return Ok(text.clone());
        }
        match self.follow(path)? {
            Node::File { contents, .. } => Ok(contents.clone()),
            _ => Err(io::Error::other(format!(
                "path '{}' is not a regular file",
                path.display()
            ))),
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let path = self.resolve_links(path)?;
        match self.nodes.get(&path) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Node::Folder) => {}
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
        }
        let below = self
            .nodes
            .range(path.clone()..)
            .take_while(|(p, _)| p.starts_with(&path));
        let entries = below
            .filter(|(p, _)| p.parent() == Some(&path))
            .filter_map(|(p, node)| {
                let name = p.file_name()?.as_encoded_bytes().to_vec();
                Some((name, node_type(node)))
            });
        Ok(entries.collect())
    }

    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        if self
            .texts
            .borrow()
            .contains_key(path.as_os_str().as_encoded_bytes())
        {
            return Ok(Some(FileType::Regular { executable: false }));
        }
        if let Some(node) = self.nodes.get(path) {
            return Ok(Some(node_type(node)));
        }
        // A folder on the way may be a link.
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let resolved = self.resolve_existing(folder)?;
        Ok(self.nodes.get(&resolved.join(name)).map(node_type))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.nodes.get(path) {
            Some(Node::Link(target)) => Ok(target.clone()),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve_existing(path)
    }

    fn env(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.env.get(name).cloned()
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn message(&self, text: &[u8]) {
        self.messages.borrow_mut().push(text.to_vec());
    }

    fn copy_to_store(&self, path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
        let resolved = match (path.parent(), path.file_name()) {
            (Some(folder), Some(file)) => self.resolve_links(folder)?.join(file),
            _ => path.to_path_buf(),
        };
        self.add_path(&AddPath {
            path: &resolved,
            name,
            recursive: true,
            keep: None,
            sha256: None,
            references: &[],
        })
    }

    fn add_path(&self, request: &AddPath<'_>) -> io::Result<Vec<u8>> {
        let path = add_through_host(self, &self.store, request)?;
        Ok(self.store.print(&path).into_bytes())
    }

    fn keeps_store_texts(&self) -> bool {
        true
    }

    fn write_store_text(&self, path: &[u8], contents: &[u8], _: &[&[u8]]) -> io::Result<()> {
        self.texts
            .borrow_mut()
            .insert(path.to_vec(), contents.to_vec());
        Ok(())
    }
}

impl MemoryHost {
    /// Resolves links in memory; looks at nodes alone.
    fn resolve_existing(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut todo: Vec<std::ffi::OsString> = path
            .components()
            .rev()
            .map(|c| c.as_os_str().to_owned())
            .collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_encoded_bytes() {
                b"/" => resolved = PathBuf::from("/"),
                b".." => {
                    resolved.pop();
                }
                b"." => {}
                _ => {
                    resolved.push(&part);
                    if let Some(Node::Link(target)) = self.nodes.get(&resolved) {
                        links += 1;
                        if links > 1024 {
                            return Err(io::Error::other(format!(
                                "too many symbolic links in '{}'",
                                path.display()
                            )));
                        }
                        resolved.pop();
                        todo.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
                    }
                }
            }
        }
        Ok(resolved)
    }
}

fn node_type(node: &Node) -> FileType {
    match node {
        Node::File { executable, .. } => FileType::Regular {
            executable: *executable,
        },
        Node::Folder => FileType::Directory,
        Node::Link(_) => FileType::Symlink,
    }
}
