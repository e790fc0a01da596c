//! The socket on which a running collector hears of new roots.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where the socket is, below the state folder.
pub(super) const SOCKET: &str = "gc-socket/socket";

/// What fits into a socket's address, with the NUL at its end.
const MAX_ADDRESS: usize = 107;

/// Connects to a socket, whatever the length of its path.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |path| UnixStream::connect(path))
}

/// Calls `f` with a path that fits into a socket's address: long ones are named through an open
/// descriptor of their folder.
pub(super) fn with_short_path<T>(
    path: &Path,
    f: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= MAX_ADDRESS {
        return f(path);
    }
    use std::os::fd::AsRawFd;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let dir = std::fs::File::open(parent)?;
    f(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}
