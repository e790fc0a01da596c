//! The socket on which a running collector hears of new roots.
//!
//! The collector holds `gc.lock`, so processes that add a temporary root cannot. They connect to
//! `gc-socket/socket` instead and send paths, a line each; the answer to each is the digit `1`, as soon
//! as the collector is sure not to delete it, or has finished doing so.

use super::gc::Shared;
use crate::error::{Error, Result};
use crate::store_path::StoreDir;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the socket is, below the state folder.
pub(super) const SOCKET: &str = "gc-socket/socket";

/// What fits into a socket's address, with the NUL at its end.
const MAX_ADDRESS: usize = 107;

/// The longest line that a client may send.
const MAX_LINE: u64 = 4096;

/// Connects to a socket, whatever the length of its path.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |path| UnixStream::connect(path))
}

/// Calls `f` with a path that fits into a socket's address: long ones are named through an open
/// descriptor of their folder.
fn with_short_path<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
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

/// Listens for new roots, until it is dropped.
pub(super) struct RootsServer {
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl RootsServer {
    /// Starts to listen. The caller holds the collector's lock, so an old socket is nobody's.
    pub(super) fn start(
        path: &Path,
        store: &StoreDir,
        shared: &Arc<Shared>,
    ) -> Result<RootsServer> {
        let fail = |e| Error::io(format_args!("listening on '{}'", path.display()), e);
        if let Some(parent) = path.parent() {
            super::make_dirs(parent)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let listener = with_short_path(path, |path| UnixListener::bind(path)).map_err(fail)?;
        // Every user of the store may add roots.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let (stop, stopped) = UnixStream::pair().map_err(fail)?;
        let (store, shared) = (store.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("gc roots".into())
            .spawn(move || serve(&listener, &stopped, &store, &shared))
            .map_err(fail)?;
        Ok(RootsServer {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for RootsServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, stopped: &UnixStream, store: &StoreDir, shared: &Arc<Shared>) {
    let mut clients: Vec<(UnixStream, JoinHandle<()>)> = Vec::new();
    loop {
        let mut fds = [
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => break,
        }
        let [stop, incoming] = fds;
        if stop.any().unwrap_or(true) {
            break;
        }
        if !incoming.any().unwrap_or(false) {
            continue;
        }
        clients.retain(|(_, thread)| !thread.is_finished());
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(e) => {
                // Without descriptors it would be readable again at once.
                if e.kind() != io::ErrorKind::WouldBlock {
                    std::thread::sleep(Duration::from_millis(10));
                }
                continue;
            }
        };
        // A client that cannot be served is disconnected, and tries again.
        let Ok(()) = client.set_nonblocking(false) else {
            continue;
        };
        let Ok(copy) = client.try_clone() else {
            continue;
        };
        let (store, shared) = (store.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("gc client".into())
            .spawn(move || serve_client(client, &store, &shared));
        if let Ok(thread) = thread {
            clients.push((copy, thread));
        }
    }
    for (client, thread) in clients {
        let _ = client.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

fn serve_client(client: UnixStream, store: &StoreDir, shared: &Shared) {
    let Ok(mut out) = client.try_clone() else {
        return;
    };
    let mut input = BufReader::new(client);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = io::Read::take(&mut input, MAX_LINE);
        match limited.read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => {}
            _ => return,
        }
        line.pop();
        // Whatever it sent, the client waits for an answer.
        if let Ok(path) = store.parse_lenient(&line) {
            shared.add_root(&path);
        }
        if out.write_all(b"1").is_err() {
            return;
        }
    }
}
