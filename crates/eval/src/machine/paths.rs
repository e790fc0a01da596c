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

/// Whether [`canonical_path`] would leave a path as it is.
pub fn is_canonical(path: &[u8]) -> bool {
    match path {
        b"/" => true,
        [b'/', rest @ ..] => rest
            .split(|b| *b == b'/')
            .all(|c| !matches!(c, b"" | b"." | b"..")),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical() {
        for (path, want) in [
            ("/", "/"),
            ("//", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/../../x/", "/x"),
            ("/a/b/..", "/a"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/a/b/../../c/.", "/c"),
            ("a", "/a"),
        ] {
            let canonical = canonical_path(path.as_bytes());
            assert_eq!(canonical, want.as_bytes(), "{path}");
            assert!(is_canonical(&canonical));
            assert_eq!(is_canonical(path.as_bytes()), path == want, "{path}");
        }
    }
}
