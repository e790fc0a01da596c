//! Everything outside the evaluator, behind one trait.

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

/// What the evaluator may ask of its surroundings.
///
/// Paths are absolute and lexically canonical. A host decides what is visible: it may be the real file
/// system, a restricted view of it, or memory. Errors are shown to the user as they are, so their text
/// should say what to do.
pub trait Host {
    /// The contents of a regular file, following symbolic links.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;

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

    /// Shows a line to the user (`builtins.trace`, warnings).
    fn message(&self, text: &[u8]);

    /// Whether the file system of this path tells no lies about symbolic links, so that nothing needs resolving.
    /// The default asks [`Host::file_type`] for every component; a host without links can skip that.
    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut todo: Vec<std::ffi::OsString> =
            path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
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
            if self.file_type(&resolved)? == Some(FileType::Symlink) {
                links += 1;
                if links > 1024 {
                    return Err(io::Error::other(format!(
                        "too many symbolic links in '{}'",
                        path.display()
                    )));
                }
                let target = self.read_link(&resolved)?;
                resolved.pop();
                todo.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
            }
        }
        Ok(resolved)
    }

    /// Puts a file or folder into the store under `name` and returns its store path; in read-only
    /// evaluation only the path is computed. `keep` decides which files below a folder are taken.
    fn copy_to_store(&self, path: &Path, name: &[u8]) -> io::Result<Vec<u8>>;
}
