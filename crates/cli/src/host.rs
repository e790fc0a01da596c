//! The file system and environment of the process.

use nivis::eval::{FileType, Host};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The real world; the store is not reached yet.
pub struct RealHost;

fn type_of(metadata: &std::fs::Metadata) -> FileType {
    let kind = metadata.file_type();
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_file() {
        FileType::Regular { executable: metadata.permissions().mode() & 0o100 != 0 }
    } else {
        FileType::Other
    }
}

impl Host for RealHost {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        std::fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                let kind = entry.file_type()?;
                let kind = if kind.is_dir() {
                    FileType::Directory
                } else if kind.is_symlink() {
                    FileType::Symlink
                } else if kind.is_file() {
                    FileType::Regular { executable: false }
                } else {
                    FileType::Other
                };
                Ok((entry.file_name().as_bytes().to_vec(), kind))
            })
            .collect()
    }
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        match std::fs::symlink_metadata(path) {
            Ok(m) => Ok(Some(type_of(&m))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }
    fn env(&self, name: &[u8]) -> Option<Vec<u8>> {
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(|v| v.as_bytes().to_vec())
    }
    fn now(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs().cast_signed())
    }
    fn message(&self, text: &[u8]) {
        let mut err = io::stderr().lock();
        // There is nobody to tell when standard error is closed.
        let _ = err.write_all(text).and_then(|()| err.write_all(b"\n"));
    }
    fn copy_to_store(&self, _: &Path, _: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::Error::other("no store"))
    }
}
