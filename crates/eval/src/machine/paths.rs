//! Paths as bytes, and what a host says of them.

use crate::error::{Error, ErrorKind};
use std::path::Path;

/// Bytes as a path.
pub fn bytes_path(bytes: &[u8]) -> &Path {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    {
        Path::new(std::str::from_utf8(bytes).unwrap_or(""))
    }
}

/// The lexically canonical form of an absolute path: no `.`, `..`, double or final slashes.
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let end = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(end);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The error for what a host reports about a path.
pub fn host_error(e: &std::io::Error, path: &Path) -> Error {
    let shown = crate::own::shown(path.as_os_str().as_encoded_bytes());
    let shown = bytes_path(&shown).display();
    // A file in what is no folder does not exist either.
    let missing = [
        std::io::ErrorKind::NotFound,
        std::io::ErrorKind::NotADirectory,
    ];
    if missing.contains(&e.kind()) {
        return Error::new(ErrorKind::Host, format!("path '{}' does not exist", shown));
    }
    // What does not come from the system is the host's own text.
    if e.kind() == std::io::ErrorKind::PermissionDenied && e.raw_os_error().is_none() {
        return Error::new(ErrorKind::Forbidden, e.to_string());
    }
    if e.kind() == std::io::ErrorKind::OutOfMemory {
        return Error::new(
            ErrorKind::Memory,
            format!("out of memory: there is no room for the file '{shown}'"),
        );
    }
    if e.kind() == std::io::ErrorKind::Other && e.raw_os_error().is_none() {
        return Error::new(ErrorKind::Host, e.to_string());
    }
    Error::new(ErrorKind::Host, format!("cannot read '{}': {e}", shown))
}
