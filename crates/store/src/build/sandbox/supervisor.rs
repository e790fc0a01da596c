//! A process between this one and a builder that has no PID namespace: it inherits whatever loses its parent below it, and
//! ends all of that when the builder or this process has ended.

#![allow(unsafe_code)]

use super::child::{
    self, EXEC, Handover, Pipes, Plan, STACK, Spawned, block_signals, close_others, control, fail,
    outcome, restore_signals,
};
use libc::{c_char, c_int};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// The connection to a process that waits for the builder, then ends all that it has left behind, then itself.
#[derive(Debug)]
pub(super) struct Supervised {
    /// When this is closed, if only because this process is killed, the supervisor ends the builder.
    alive: Option<io::PipeWriter>,
    /// Tells the builder's status as `waitpid` gives it, when the supervisor has ended.
    status: io::PipeReader,
}

impl Supervised {
    /// Has the builder ended, with all that it has started.
    pub fn give_up(&mut self) {
        self.alive = None;
    }

    /// The builder's status, after the supervisor has ended.
    pub fn status(&mut self) -> Option<c_int> {
        let mut status = [0; 4];
        let read = self.status.read_exact(&mut status);
        read.ok().map(|()| c_int::from_ne_bytes(status))
    }
}

/// As [`spawn`](child::spawn), with a supervisor in between.
///
/// It is a copy of this process, since it lives beside it for as long as the builder. Nothing of what it
/// does needs more than plain system calls.
pub(super) fn start(
    plan: &Plan,
    args: &[*const c_char],
    env: &[*const c_char],
    mut keep: Vec<RawFd>,
    pipes: Pipes,
) -> io::Result<Spawned> {
    let Pipes {
        mut go,
        go_in,
        mut report,
        report_out,
        ready_out,
        status,
        status_out,
    } = pipes;
    go.write_all(&[1])?;
    keep.sort_unstable();
    let mut keep_all = keep.clone();
    keep_all.push(status_out.as_raw_fd());
    keep_all.sort_unstable();
    let mut stack = vec![0u8; STACK];
    let handover = Handover {
        plan,
        args,
        env,
        keep: &keep,
        go: go_in.as_raw_fd(),
        report: report_out.as_raw_fd(),
        ready: ready_out.as_raw_fd(),
    };
    let signals = block_signals();
    // SAFETY: the child does nothing but system calls until it ends.
    let pid = unsafe { libc::fork() };
    let error = io::Error::last_os_error();
    if pid == 0 {
        // SAFETY: in a process just made; the stack is its own copy, as are the descriptors.
        unsafe {
            let top = stack.as_mut_ptr().add(STACK);
            let top = top.sub(top as usize % 16);
            supervise(&handover, &keep_all, top.cast(), status_out.as_raw_fd())
        }
    }
    restore_signals(&signals);
    if pid < 0 {
        return Err(error);
    }
    // Ends that are open elsewhere only, so that their closing is seen.
    drop((go_in, report_out, ready_out, status_out));
    Ok(Spawned {
        pid,
        supervised: Some(Supervised {
            alive: Some(go),
            status,
        }),
        outcome: outcome(&mut report)?,
    })
}

/// What a supervisor does: starts the builder, waits until it or the parent has ended, ends whatever is left of it. What
/// a process leaves behind becomes a child of the supervisor, whatever else it has done to hide.
///
/// # Safety
///
/// Only in a process that `fork` has just made, with all signals blocked; `top` is the end of an unused stack.
unsafe fn supervise(
    hand: &Handover<'_>,
    keep: &[RawFd],
    top: *mut libc::c_void,
    status_out: RawFd,
) -> ! {
    // SAFETY: plain system calls, and memory of this process, which has no other thread.
    unsafe {
        close_others(keep);
        control(libc::PR_SET_CHILD_SUBREAPER, 1);
        // Ended children shall wait to be asked for, whatever the parent does with its own.
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGCHLD, &action, ptr::null_mut());
        let mut ended: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut ended);
        libc::sigaddset(&mut ended, libc::SIGCHLD);
        let signals = libc::signalfd(-1, &ended, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        let flags = libc::SIGCHLD | libc::CLONE_VM | libc::CLONE_VFORK;
        let builder = libc::clone(
            child::start,
            top,
            flags,
            ptr::from_ref(hand).cast_mut().cast(),
        );
        if builder < 0 {
            fail(hand.report, EXEC);
        }
        // What the builder has open is open in the builder only.
        let mut own = [signals, hand.go, status_out];
        own.sort_unstable();
        close_others(&own);
        for fd in 0..3 {
            if !own.contains(&fd) {
                libc::close(fd);
            }
        }
        let mut status: c_int = 0;
        let mut done = false;
        while !done {
            let mut watched = [signals, hand.go].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            // Without a descriptor for signals, by looking now and then.
            let often = if signals < 0 { 50 } else { -1 };
            libc::poll(watched.as_mut_ptr(), 2, often);
            let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
            libc::read(signals, buffer.as_mut_ptr().cast(), buffer.len());
            if !reap(builder, &mut status, &mut done) {
                break;
            }
            // The parent says nothing more, so that this is its end.
            if watched.iter().any(|fd| fd.fd == hand.go && fd.revents != 0) {
                break;
            }
        }
        for _ in 0..ROUNDS {
            if !reap(builder, &mut status, &mut done) || !kill_children() {
                break;
            }
            // Their own children are next.
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(
                libc::P_ALL,
                0,
                &mut info,
                libc::WEXITED | libc::WNOWAIT | libc::__WALL,
            );
        }
        if done {
            libc::write(status_out, (&raw const status).cast(), size_of::<c_int>());
        }
        libc::_exit(0)
    }
}

/// How often what is left is killed: each time, what those had started that were killed before.
const ROUNDS: usize = 10_000;

/// Takes note of children that have ended. False if there are none, ended or not.
unsafe fn reap(builder: libc::pid_t, status: &mut c_int, done: &mut bool) -> bool {
    loop {
        let mut how: c_int = 0;
        // SAFETY: writes to a variable on the stack.
        match unsafe { libc::waitpid(-1, &mut how, libc::WNOHANG | libc::__WALL) } {
            0 => return true,
            pid if pid == builder => {
                *status = how;
                *done = true;
            }
            pid if pid > 0 => {}
            _ => return false,
        }
    }
}

/// Kills all children of this process. False if none could be.
unsafe fn kill_children() -> bool {
    let (mut killed, mut refused) = (false, false);
    // SAFETY: numbers of children that were not waited for are nobody else's.
    unsafe {
        let list = libc::open(
            c"/proc/thread-self/children".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        if list >= 0 {
            let mut buffer = [0u8; 4096];
            let read = libc::read(list, buffer.as_mut_ptr().cast(), buffer.len());
            libc::close(list);
            let mut number: libc::pid_t = 0;
            for byte in buffer.iter().take(usize::try_from(read).unwrap_or(0)) {
                match byte {
                    b'0'..=b'9' => {
                        number = number
                            .wrapping_mul(10)
                            .wrapping_add(libc::pid_t::from(byte - b'0'));
                    }
                    // A number that the end of the buffer cuts off is left to the next round.
                    _ => {
                        if number > 1 {
                            match libc::kill(number, libc::SIGKILL) {
                                0 => killed = true,
                                _ => refused = true,
                            }
                        }
                        number = 0;
                    }
                }
            }
        }
        if !killed && !refused {
            // No such list here, or it has missed some. The kernel says of any number whether it is that of a child.
            for number in 2..=MAX_PID {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
                if libc::waitid(libc::P_PID, number as libc::id_t, &mut info, flags) == 0
                    && libc::kill(number, libc::SIGKILL) == 0
                {
                    killed = true;
                }
            }
        }
    }
    killed
}

/// The kernel's limit for process numbers.
const MAX_PID: libc::pid_t = 4 << 20;
