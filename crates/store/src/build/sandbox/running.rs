//! A builder that runs, and how it ended.

use super::child::{self, Spawned};
use super::supervisor::Supervised;
use nix::sys::wait::WaitStatus;
use std::fs::File;
use std::os::fd::OwnedFd;

/// A builder that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(in crate::build) struct Running {
    pid: libc::pid_t,
    /// Readable when it has ended.
    pub pidfd: Option<OwnedFd>,
    /// Its output: the other end of its terminal, or of a pipe where there are no terminals.
    pub output: File,
    /// If it has no namespace that ends with it: the process that ends what it has started.
    supervised: Option<Supervised>,
    reaped: bool,
}

/// Waits for a child; its status as `waitpid` gives it.
pub(super) fn wait(pid: libc::pid_t) -> Option<WaitStatus> {
    loop {
        match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Err(nix::errno::Errno::EINTR) => {}
            status => return status.ok(),
        }
    }
}

impl Running {
    pub(super) fn new(spawned: &mut Spawned, output: File) -> Running {
        Running {
            pid: spawned.pid,
            pidfd: child::pidfd(spawned.pid),
            output,
            supervised: spawned.supervised.take(),
            reaped: false,
        }
    }

    /// Whether the builder has ended, and with it what it has started.
    pub fn has_ended(&self) -> bool {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let pid = nix::unistd::Pid::from_raw(self.pid);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
    }

    /// Kills the builder and everything that it has started, and waits for its end. Returns its exit status.
    pub fn kill(&mut self) -> ExitStatus {
        match &mut self.supervised {
            // It may have ended by itself meanwhile, and its status is wanted then.
            Some(supervised) => supervised.give_up(),
            None => child::kill(self.pid),
        }
        self.wait()
    }

    /// Waits for the end of the builder, and of what it has left behind.
    pub fn wait(&mut self) -> ExitStatus {
        if self.reaped {
            return ExitStatus::Lost;
        }
        self.reaped = true;
        let pid = nix::unistd::Pid::from_raw(self.pid);
        let mut status = wait(self.pid);
        if let Some(supervised) = &mut self.supervised {
            status = supervised
                .status()
                .and_then(|status| WaitStatus::from_raw(pid, status).ok());
        }
        match status {
            Some(WaitStatus::Exited(_, code)) => ExitStatus::Code(code),
            Some(WaitStatus::Signaled(_, signal, _)) => {
                ExitStatus::Signal(signal as i32, signal.as_str())
            }
            _ => ExitStatus::Lost,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
        }
    }
}

/// How a builder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::build) enum ExitStatus {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32, &'static str),
    /// Nobody knows.
    Lost,
}

impl ExitStatus {
    /// As errors put it.
    pub fn describe(self) -> String {
        match self {
            ExitStatus::Code(0) => "succeeded".into(),
            ExitStatus::Code(code) => format!("failed with exit code {code}"),
            ExitStatus::Signal(number, name) => {
                format!(
                    "failed due to signal {number} ({})",
                    signal_text(number, name)
                )
            }
            ExitStatus::Lost => "died abnormally".into(),
        }
    }
}

/// What the C library calls a signal.
fn signal_text(number: i32, name: &'static str) -> &'static str {
    match number {
        libc::SIGHUP => "Hangup",
        libc::SIGINT => "Interrupt",
        libc::SIGQUIT => "Quit",
        libc::SIGILL => "Illegal instruction",
        libc::SIGTRAP => "Trace/breakpoint trap",
        libc::SIGABRT => "Aborted",
        libc::SIGBUS => "Bus error",
        libc::SIGFPE => "Floating point exception",
        libc::SIGKILL => "Killed",
        libc::SIGUSR1 => "User defined signal 1",
        libc::SIGSEGV => "Segmentation fault",
        libc::SIGUSR2 => "User defined signal 2",
        libc::SIGPIPE => "Broken pipe",
        libc::SIGALRM => "Alarm clock",
        libc::SIGTERM => "Terminated",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "File size limit exceeded",
        libc::SIGSYS => "Bad system call",
        _ => name,
    }
}
