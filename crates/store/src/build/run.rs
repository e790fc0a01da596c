//! Watching a builder: its output, how long it takes, and whether somebody wants it to stop.

use super::log::{LogFile, LogLines};
use super::sandbox::{ExitStatus, Running};
use super::{Failed, Shared};
use crate::error::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a builder may go on after it has closed its output: long enough for any that is about to end, as programs do who
/// close it to see whether all was written.
const AFTER_OUTPUT: Duration = Duration::from_secs(10);

/// How a builder came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Status(ExitStatus),
    /// It was killed because it took, or was silent for, so long.
    TimedOut(Duration),
    /// It was killed because it printed too much.
    TooMuchOutput,
    /// It was killed because somebody asked.
    Cancelled,
}

/// Follows a builder until it is gone, with everything that it has started.
pub(super) fn run(
    shared: &Shared,
    running: &mut Running,
    lines: &mut LogLines,
    log: &mut LogFile,
) -> Result<Ended, Failed> {
    let ended = follow(shared, running, lines, log);
    match ended {
        Ok(Ended::Status(status)) => Ok(Ended::Status(status)),
        Ok(other) => {
            running.kill();
            Ok(other)
        }
        Err(e) => {
            running.kill();
            Err(e)
        }
    }
}

/// Until it has ended, or has to be killed.
fn follow(
    shared: &Shared,
    running: &mut Running,
    lines: &mut LogLines,
    log: &mut LogFile,
) -> Result<Ended, Failed> {
    let settings = &shared.settings;
    let start = Instant::now();
    let mut last_output = start;
    let mut size = 0u64;
    let mut buffer = vec![0; 1 << 16];
    let mut closed: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let mut wait: Option<Duration> = None;
        for (since, limit) in [
            (start, settings.timeout),
            (last_output, settings.max_silent_time),
        ] {
            let Some(limit) = limit else { continue };
            let Some(left) = limit
                .checked_sub(now - since)
                .filter(|left| !left.is_zero())
            else {
                return Ok(Ended::TimedOut(limit));
            };
            wait = Some(wait.map_or(left, |wait| wait.min(left)));
        }
        if let Some(closed) = closed {
            let left = AFTER_OUTPUT.saturating_sub(now - closed);
            if running.has_ended() || left.is_zero() {
                return Ok(Ended::Status(running.kill()));
            }
            let often = match running.pidfd {
                Some(_) => left,
                None => Duration::from_millis(5),
            };
            wait = Some(wait.map_or(often, |wait| wait.min(often)));
        }
        let (readable, exited) = {
            let mut fds = Vec::new();
            match shared.cancel.fd() {
                Some(fd) => fds.push(PollFd::new(fd, PollFlags::POLLIN)),
                None => {
                    let often = Duration::from_millis(200);
                    wait = Some(wait.map_or(often, |wait| wait.min(often)));
                }
            }
            let watch = running.pidfd.as_ref().map(|fd| {
                fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
                fds.len() - 1
            });
            let output = closed.is_none().then(|| {
                fds.push(PollFd::new(running.output.as_fd(), PollFlags::POLLIN));
                fds.len() - 1
            });
            let timeout = match wait {
                None => PollTimeout::NONE,
                // Rounded up, lest this loop spins through the last millisecond.
                Some(wait) => {
                    let millis = wait.as_millis().saturating_add(1).min(60_000);
                    PollTimeout::try_from(u32::try_from(millis).unwrap_or(60_000))
                        .unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(crate::error::Error::from(std::io::Error::from(e)).into()),
            }
            let ready = |index: Option<usize>| {
                index
                    .and_then(|index| fds.get(index))
                    .and_then(PollFd::any)
                    .unwrap_or(false)
            };
            (ready(output), ready(watch))
        };
        if shared.cancel.is_cancelled() {
            return Ok(Ended::Cancelled);
        }
        if readable {
            match running.output.read(&mut buffer) {
                Ok(0) => closed = Some(Instant::now()),
                Ok(n) => {
                    let data = buffer.get(..n).unwrap_or(&[]);
                    last_output = Instant::now();
                    size += n as u64;
                    if settings.max_log_size.is_some_and(|max| size > max) {
                        return Ok(Ended::TooMuchOutput);
                    }
                    lines.write(data);
                    shared.tell_warning(log.write(data));
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A terminal whose other end is closed gives an error.
                Err(_) => closed = Some(Instant::now()),
            }
        }
        // What a process that has outlived the builder still holds open is not waited for.
        if exited && !readable {
            return Ok(Ended::Status(running.kill()));
        }
    }
}
