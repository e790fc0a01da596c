//! The real file system as a source of archives.

use super::{FileSink, NarSource, NodeKind, bad, copy_file};
use crate::error::{Error, ErrorKind, Result};
use std::io;

/// The real file system as a source. Nodes are paths; links are never followed below the root.
///
/// This is the one place of the crate's pure half that reads files; nothing uses it unless asked to.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystem;

impl FileSystem {
    /// The node for a path.
    pub fn node(path: impl Into<std::path::PathBuf>) -> FileSystemNode {
        FileSystemNode {
            path: path.into(),
            kind: None,
        }
    }
}

/// A node of [`FileSystem`].
#[derive(Debug, Clone)]
pub struct FileSystemNode {
    path: std::path::PathBuf,
    /// As the folder that lists the node tells it; spares a system call for folders and links.
    kind: Option<std::fs::FileType>,
}

impl FileSystemNode {
    /// The path.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn error(&self, error: io::Error) -> Error {
        Error::io(format_args!("'{}'", self.path.display()), error)
    }
}

impl NarSource for FileSystem {
    type Node = FileSystemNode;
    type Error = Error;

    fn place(&self, node: &FileSystemNode) -> Option<std::path::PathBuf> {
        Some(node.path.clone())
    }

    fn kind(&mut self, node: &FileSystemNode) -> Result<NodeKind> {
        use std::os::unix::fs::PermissionsExt;
        match node.kind {
            Some(kind) if kind.is_dir() => return Ok(NodeKind::Directory),
            Some(kind) if kind.is_symlink() => return Ok(NodeKind::Symlink),
            _ => {}
        }
        let meta = std::fs::symlink_metadata(&node.path).map_err(|e| node.error(e))?;
        if meta.is_dir() {
            Ok(NodeKind::Directory)
        } else if meta.is_symlink() {
            Ok(NodeKind::Symlink)
        } else if meta.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            Ok(NodeKind::Regular { executable })
        } else {
            Err(bad(format!(
                "file '{}' has an unsupported type",
                node.path.display()
            )))
        }
    }

    fn read_dir(&mut self, node: &FileSystemNode) -> Result<Vec<(Vec<u8>, FileSystemNode)>> {
        use std::os::unix::ffi::OsStringExt;
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&node.path).map_err(|e| node.error(e))? {
            let entry = entry.map_err(|e| node.error(e))?;
            let child = FileSystemNode {
                path: entry.path(),
                kind: entry.file_type().ok(),
            };
            out.push((entry.file_name().into_vec(), child));
        }
        Ok(out)
    }

    fn read_link(&mut self, node: &FileSystemNode) -> Result<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        let target = std::fs::read_link(&node.path).map_err(|e| node.error(e))?;
        Ok(target.into_os_string().into_vec())
    }

    fn read_file(&mut self, node: &FileSystemNode, out: &mut dyn FileSink) -> Result<()> {
        let mut file = std::fs::File::open(&node.path).map_err(|e| node.error(e))?;
        let len = file.metadata().map_err(|e| node.error(e))?.len();
        copy_file(&mut file, len, out).map_err(|e| match e.kind() {
            ErrorKind::Nar => bad(format!("'{}': {}", node.path.display(), e.message())),
            _ => e,
        })
    }
}
