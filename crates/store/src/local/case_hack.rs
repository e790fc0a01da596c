//! Names for file systems that do not tell `A` from `a`.

use crate::error::{Error, ErrorKind, Result};
use crate::nar::{FileSink, FileSystem, FileSystemNode, NarSource, NodeKind};
use std::collections::HashMap;
use std::path::PathBuf;

/// Stands between a name and a number where the name alone would be the same as another.
pub const CASE_HACK_SUFFIX: &str = "~nix~case~hack~";

/// The names in a folder, in lower case, with how often they occurred.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Vec<u8>, (Vec<u8>, u64)>);

impl Names {
    /// A name that differs from those before it by more than case.
    pub(super) fn distinct(&mut self, name: &[u8]) -> Result<Vec<u8>> {
        let Some((_, count)) = self.0.get_mut(&name.to_ascii_lowercase()) else {
            self.0.insert(name.to_ascii_lowercase(), (name.to_vec(), 0));
            return Ok(name.to_vec());
        };
        *count += 1;
        let mut changed = name.to_vec();
        changed.extend_from_slice(format!("{CASE_HACK_SUFFIX}{count}").as_bytes());
        match self.0.get(&changed.to_ascii_lowercase()) {
            None => Ok(changed),
            Some((other, _)) => Err(Error::new(
                ErrorKind::Nar,
                format!(
                    "NAR contains file name '{}' that collides with case-hacked file name '{}'",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(other)
                ),
            )),
        }
    }
}

/// The real file system, with what [`restore_nar_case_hack`](super::restore_nar_case_hack) added to names
/// taken away.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaseHack;

impl NarSource for CaseHack {
    type Node = FileSystemNode;
    type Error = Error;

    fn place(&self, node: &FileSystemNode) -> Option<PathBuf> {
        FileSystem.place(node)
    }

    fn kind(&mut self, node: &FileSystemNode) -> Result<NodeKind> {
        FileSystem.kind(node)
    }

    fn read_dir(&mut self, node: &FileSystemNode) -> Result<Vec<(Vec<u8>, FileSystemNode)>> {
        let mut entries = FileSystem.read_dir(node)?;
        let mut seen: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for (name, _) in &mut entries {
            let original = name.clone();
            if let Some(at) = bstr::ByteSlice::find(name.as_slice(), CASE_HACK_SUFFIX) {
                name.truncate(at);
            }
            if let Some(other) = seen.insert(name.clone(), original.clone()) {
                return Err(Error::new(
                    ErrorKind::Nar,
                    format!(
                        "file name collision between '{}' and '{}'",
                        String::from_utf8_lossy(&other),
                        String::from_utf8_lossy(&original)
                    ),
                ));
            }
        }
        Ok(entries)
    }

    fn read_link(&mut self, node: &FileSystemNode) -> Result<Vec<u8>> {
        FileSystem.read_link(node)
    }

    fn read_file(&mut self, node: &FileSystemNode, out: &mut dyn FileSink) -> Result<()> {
        FileSystem.read_file(node, out)
    }
}
