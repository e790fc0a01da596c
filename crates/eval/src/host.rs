//! Everything outside the evaluator, behind one trait.

use crate::context::ContextElement;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The type of a file, not following symbolic links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileType {
    /// A regular file; whether its owner may execute it.
    Regular {
        /// The owner's executable bit.
        executable: bool,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else: device, socket, pipe.
    Other,
}

impl FileType {
    /// The name that `builtins.readDir` uses.
    pub fn name(self) -> &'static str {
        match self {
            FileType::Regular { .. } => "regular",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            FileType::Other => "unknown",
        }
    }
}

/// Something that evaluation did, for those who follow it closely.
#[derive(Clone, Copy, Debug)]
pub enum Note<'n> {
    /// A file is about to be evaluated.
    File(&'n Path),
    /// A file or folder has a store path now.
    Source {
        /// Where it is.
        path: &'n Path,
        /// Its full store path.
        store_path: &'n [u8],
    },
    /// A derivation has a store path now.
    Derivation {
        /// Its name.
        name: &'n str,
        /// Its full store path.
        store_path: &'n [u8],
    },
}

/// What the evaluator may ask of its surroundings.
///
/// Paths are absolute and lexically canonical. A host decides what is visible: it may be the real file
/// system, a restricted view of it, or memory. Errors are shown to the user as they are, so their text
/// should say what to do.
pub trait Host {
    /// The contents of a regular file, following symbolic links.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Like [`Host::read_file`], unless the file has more than `limit` bytes. Hosts that can tell before they read it should: an
    /// error of kind [`io::ErrorKind::OutOfMemory`] says that evaluation has no room for it.
    fn read_file_within(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let contents = self.read_file(path)?;
        if contents.len() > limit {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(contents)
    }

    /// Names and types of a folder's entries, in any order. The executable bit need not be right.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>>;

    /// The type of a file without following a final symbolic link; `None` when there is none.
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>>;

    /// The target of a symbolic link.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// An environment variable.
    fn env(&self, name: &[u8]) -> Option<Vec<u8>>;

    /// Seconds since 1970.
    fn now(&self) -> i64;

    /// The folder that relative entries of the search path start from, if there is one.
    fn current_dir(&self) -> Option<PathBuf> {
        None
    }

    /// Shows a line to the user (`builtins.trace`, warnings).
    fn message(&self, text: &[u8]);

    /// Takes note of something; the default ignores it.
    fn note(&self, note: Note<'_>) {
        let _ = note;
    }

    /// Whether the file system of this path tells no lies about symbolic links, so that nothing needs resolving.
    /// The default asks [`Host::file_type`] for every component; a host without links can skip that.
    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        follow_links(path, |file| match self.file_type(file)? {
            Some(FileType::Symlink) => self.read_link(file).map(Some),
            _ => Ok(None),
        })
    }

    /// Puts a file or folder into the store under `name` and returns its store path; in read-only
    /// evaluation only the path is computed. `keep` decides which files below a folder are taken.
    fn copy_to_store(&self, path: &Path, name: &[u8]) -> io::Result<Vec<u8>>;

    /// Like [`Host::copy_to_store`], in all its variations (`builtins.path`, `builtins.filterSource`). The default
    /// knows the plain one alone.
    fn add_path(&self, request: &AddPath<'_>) -> io::Result<Vec<u8>> {
        if request.recursive && request.keep.is_none() && request.sha256.is_none() {
            return self.copy_to_store(request.path, request.name);
        }
        Err(io::Error::other(
            "this host cannot add filtered or flat files to a store",
        ))
    }

    /// Whether [`Host::write_store_text`] does anything; when not, texts are not put together only to be dropped.
    fn keeps_store_texts(&self) -> bool {
        false
    }

    /// Writes a text file (`builtins.toFile`, a `.drv` file) to the store. `path` is its full store path, which
    /// follows from name, contents and references; `references` are full store paths, sorted.
    fn write_store_text(
        &self,
        path: &[u8],
        contents: &[u8],
        references: &[&[u8]],
    ) -> io::Result<()> {
        let _ = (path, contents, references);
        Ok(())
    }

    /// The store paths that a store object refers to, as far as the host knows.
    fn references(&self, store_path: &[u8]) -> Vec<Vec<u8>> {
        let _ = store_path;
        Vec::new()
    }

    /// Makes sure that everything exists that a string's context names, before evaluation reads a file through it.
    /// Returns what to put in place of placeholders: outputs' paths, where they are known only once they are built.
    fn realise_context(&self, elements: &[&ContextElement]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        for element in elements {
            self.realise(element)?;
        }
        Ok(Vec::new())
    }

    /// Makes sure that a store object exists before evaluation reads a file through it; an output may be built for
    /// that. The default builds nothing and looks whether the file is there.
    fn realise(&self, element: &ContextElement) -> io::Result<()> {
        let shown = String::from_utf8_lossy(element.path()).into_owned();
        if let ContextElement::Output { output, .. } = element {
            return Err(io::Error::other(format!(
                "cannot build '{shown}^{}' during evaluation: this evaluator builds nothing",
                String::from_utf8_lossy(output)
            )));
        }
        match self.file_type(crate::machine::bytes_path(element.path()))? {
            Some(_) => Ok(()),
            None => {
                let name = shown.rsplit('/').next().unwrap_or_default();
                Err(io::Error::other(format!("path '{name}' is not valid")))
            }
        }
    }
}

/// The absolute path that is meant by one with symbolic links in it, the last component included; for [`Host::resolve_links`].
///
/// `target` is asked for every component, with the resolved path up to it, where that leads if it is a link. What does not
/// exist is no link.
///
/// # Errors
/// What `target` reports, and more links than any honest path has.
pub fn follow_links(
    path: &Path,
    mut target: impl FnMut(&Path) -> io::Result<Option<PathBuf>>,
) -> io::Result<PathBuf> {
    /// As many as C++ Nix follows.
    const LINKS: u32 = 1024;
    let parts = |path: &Path| -> Vec<OsString> {
        let parts = path.components().rev();
        parts.map(|c| c.as_os_str().to_owned()).collect()
    };
    let mut resolved = PathBuf::from("/");
    let mut todo = parts(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == "/" {
            resolved = PathBuf::from("/");
            continue;
        }
        if part == ".." {
            resolved.pop();
            continue;
        }
        if part == "." {
            continue;
        }
        resolved.push(&part);
        if let Some(target) = target(&resolved)? {
            links += 1;
            if links > LINKS {
                return Err(io::Error::other(format!(
                    "too many symbolic links in '{}'",
                    path.display()
                )));
            }
            resolved.pop();
            todo.append(&mut parts(&target));
        }
    }
    Ok(resolved)
}

/// Decides by the full path whether a file is taken.
pub type Keep<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What [`Host::add_path`] is to put into the store.
#[derive(Clone, Copy)]
pub struct AddPath<'a> {
    /// The file or folder.
    pub path: &'a Path,
    /// The name that it gets in the store.
    pub name: &'a [u8],
    /// Whether the archive of the file or folder is hashed; otherwise the bytes of a regular file.
    pub recursive: bool,
    /// Which files below a folder are taken, by full path; all of them when there is no such function.
    pub keep: Option<Keep<'a>>,
    /// The SHA-256 that the result must have.
    pub sha256: Option<[u8; 32]>,
    /// Full store paths that the contents refer to, sorted.
    pub references: &'a [Vec<u8>],
}

impl std::fmt::Debug for AddPath<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddPath")
            .field("path", &self.path)
            .field("recursive", &self.recursive)
            .finish_non_exhaustive()
    }
}
