//! The one place that splits the process: a prepared list of system calls is carried out in a new process,
//! which then becomes the builder.
//!
//! The parent has threads and shares its memory with the child until `execve`, so the child may do nothing that could wait
//! for another thread or change what they see: no allocation, no locks, no `std`. Everything that it needs (strings, pointers, tables)
//! is made beforehand, in safe code, as a [`Plan`]; the child walks over it with plain system calls and
//! reports a failure as a step number and an `errno` through a pipe that `execve` closes.

#![allow(unsafe_code)]

use super::supervisor::{self, Supervised};
use libc::{c_char, c_int, c_ulong};
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// One system call (or a few that belong together) of the child.
#[derive(Debug)]
pub(super) enum Step {
    /// Waits until the parent has written the maps of the user namespace. If the parent is gone, so is the child.
    AwaitParent,
    /// `setsid`
    NewSession,
    /// `umask`
    Umask(libc::mode_t),
    /// Standard input, output and error.
    Stdio { input: RawFd, output: RawFd },
    /// Brings the loopback interface up.
    LoopbackUp,
    /// `sethostname` and `setdomainname`
    HostName(CString, CString),
    /// `mkdir`, for those mount points that earlier steps make visible; any error is left to the mount.
    MakeDir(CString),
    /// Makes an empty file, as [`Step::MakeDir`].
    MakeFile(CString),
    /// `mount`
    Mount {
        source: Option<CString>,
        target: CString,
        kind: Option<CString>,
        flags: c_ulong,
        data: Option<CString>,
    },
    /// As [`Step::Mount`] of a new `devpts`; where that kind is not to be had, the machine's is bound.
    MountDevPts { target: CString, ptmx: CString },
    /// Makes a mount read-only; on kernels that cannot without knowing its other flags, only if it has none that must
    /// stay.
    ReadOnly {
        target: CString,
        /// Whether what is mounted below it is made so, too.
        below: bool,
    },
    /// Makes this folder the root, and all else unreachable.
    PivotRoot(CString),
    /// `chmod`
    Chmod(CString, libc::mode_t),
    /// `chdir`
    ChangeDir(CString),
    /// No core files by default.
    NoCore,
    /// `setgroups`
    SetGroups(Vec<libc::gid_t>),
    /// `setgid`, `setuid`, and again the signal for the parent's death, which they reset.
    SetUser(libc::uid_t, libc::gid_t),
    /// No privileges through set-user-id programs.
    NoNewPrivileges,
    /// Scopes abstract sockets to this process and its children; needs a rule set.
    Landlock(RawFd),
    /// System call filter.
    Seccomp(Vec<libc::sock_filter>),
    /// `personality` of a 32-bit system.
    Personality32,
    /// Further flags for `personality`, if they are to be had.
    Personality(c_ulong),
}

/// What a new process does.
#[derive(Debug)]
pub(super) struct Plan {
    /// `CLONE_NEW*`
    pub namespaces: c_int,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// What to execute.
    pub program: CString,
    /// With which arguments, the zeroth among them.
    pub args: Vec<CString>,
    /// With which environment.
    pub env: Vec<CString>,
    /// Whether the parent's supplementary groups are dropped: `Some(true)` if that must succeed.
    pub drop_groups: Option<bool>,
    /// Whether a process in between sees to it that nothing outlives the builder; for want of a PID namespace.
    pub supervise: bool,
}

/// A process that has been started.
#[derive(Debug)]
pub(super) struct Spawned {
    /// Its number; of the supervisor, if there is one.
    pub pid: libc::pid_t,
    /// The connection to its supervisor.
    pub supervised: Option<Supervised>,
    /// Whether it has become the builder.
    pub outcome: Result<(), Failure>,
}

/// Why a child did not become the builder.
#[derive(Debug)]
pub(super) enum Failure {
    /// A step failed.
    Step(usize, io::Error),
    /// The program could not be executed.
    Exec(io::Error),
    /// The parent could not do its part.
    Prepare(io::Error),
    /// The child died.
    Died,
}

pub(super) const EXEC: u32 = u32::MAX;

/// Pointers to strings, ended by a null pointer, as `execve` wants them.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let mut out: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
    out.push(ptr::null());
    out
}

/// The child's stack. Its frames are small; the plan lies elsewhere.
pub(super) const STACK: usize = 256 << 10;

/// Everything that the child is handed.
pub(super) struct Handover<'p> {
    pub(super) plan: &'p Plan,
    pub(super) args: &'p [*const c_char],
    pub(super) env: &'p [*const c_char],
    /// Descriptors that it needs, sorted.
    pub(super) keep: &'p [RawFd],
    pub(super) go: RawFd,
    pub(super) report: RawFd,
    pub(super) ready: RawFd,
}

/// Starts the process and waits until it has become the builder, or has failed to.
///
/// `prepare` gets the child's number while it waits at [`Step::AwaitParent`], on another thread: this one is
/// suspended by the kernel, as with `vfork`, so that the child can use this process' memory instead of a copy, which
/// for an evaluator with a gigabyte in use would take a tenth of a second a build.
///
/// The calling thread must live as long as the child: it is killed when its parent ends.
///
/// With [`Plan::supervise`] there is nothing to prepare, and no namespace: a copy of this process starts the builder.
pub(super) fn spawn(
    plan: &Plan,
    prepare: impl FnOnce(libc::pid_t) -> io::Result<()> + Send,
) -> io::Result<Spawned> {
    let (mut report, report_out) = io::pipe()?;
    let (go_in, mut go) = io::pipe()?;
    let (mut ready, ready_out) = io::pipe()?;
    let (status, status_out) = io::pipe()?;
    let args = pointers(&plan.args);
    let env = pointers(&plan.env);
    let mut keep = vec![
        go_in.as_raw_fd(),
        report_out.as_raw_fd(),
        ready_out.as_raw_fd(),
    ];
    for step in &plan.steps {
        match step {
            Step::Stdio { input, output } => keep.extend([*input, *output]),
            Step::Landlock(rules) => keep.push(*rules),
            _ => {}
        }
    }
    if plan.supervise {
        return supervisor::start(
            plan,
            &args,
            &env,
            keep,
            Pipes {
                go,
                go_in,
                report,
                report_out,
                ready_out,
                status,
                status_out,
            },
        );
    }
    keep.sort_unstable();
    let saved = match plan.drop_groups {
        None => None,
        Some(must) => drop_groups(must)?,
    };
    let number = AtomicI32::new(0);
    let mut stack = vec![0u8; STACK];
    let started = std::thread::scope(|scope| {
        let (number, go) = (&number, &mut go);
        let preparing = scope.spawn(move || {
            // The other end closes without a word if there is no child.
            let mut byte = [0];
            if ready.read_exact(&mut byte).is_err() {
                return Ok(());
            }
            let prepared = prepare(number.load(Ordering::Acquire));
            // The child has a copy of this end, so closing it would not tell it anything.
            go.write_all(&[u8::from(prepared.is_ok())])?;
            prepared
        });
        let handover = Handover {
            plan,
            args: &args,
            env: &env,
            keep: &keep,
            go: go_in.as_raw_fd(),
            report: report_out.as_raw_fd(),
            ready: ready_out.as_raw_fd(),
        };
        let flags = plan.namespaces
            | libc::SIGCHLD
            | libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT_SETTID;
        let signals = block_signals();
        // SAFETY: the child runs on a stack of its own, which is aligned below; memory that it shares stays as it is,
        // since this thread is suspended until the child executes a program or ends, and other threads do not touch
        // what is handed over. It does nothing but system calls, with signals blocked as long as handlers of this
        // process could run.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(STACK);
            let top = top.sub(top as usize % 16);
            libc::clone(
                start,
                top.cast(),
                flags,
                (&raw const handover).cast_mut().cast(),
                number.as_ptr(),
            )
        };
        let error = io::Error::last_os_error();
        restore_signals(&signals);
        drop(ready_out);
        drop(go_in);
        let prepared = preparing.join().unwrap_or(Ok(()));
        if pid < 0 {
            Err(error)
        } else {
            Ok((pid, prepared))
        }
    });
    if let Some(groups) = saved {
        set_groups(&groups)?;
    }
    let (pid, prepared) = started?;
    drop(report_out);
    Ok(Spawned {
        pid,
        supervised: None,
        outcome: match prepared {
            Err(error) => Err(Failure::Prepare(error)),
            Ok(()) => outcome(&mut report)?,
        },
    })
}

/// Whether a child has become the builder. It has executed its program or ended, or soon will.
pub(super) fn outcome(report: &mut impl Read) -> io::Result<Result<(), Failure>> {
    let mut text = Vec::new();
    report.read_to_end(&mut text)?;
    Ok(match text.as_slice() {
        [] => Ok(()),
        &[a, b, c, d, e, f, g, h] => {
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]));
            Err(match u32::from_ne_bytes([a, b, c, d]) {
                EXEC => Failure::Exec(error),
                step => Failure::Step(step as usize, error),
            })
        }
        _ => Err(Failure::Died),
    })
}

/// Both ends of what [`spawn`] and its children tell each other through.
pub(super) struct Pipes {
    pub(super) go: io::PipeWriter,
    pub(super) go_in: io::PipeReader,
    pub(super) report: io::PipeReader,
    pub(super) report_out: io::PipeWriter,
    pub(super) ready_out: io::PipeWriter,
    pub(super) status: io::PipeReader,
    pub(super) status_out: io::PipeWriter,
}

/// Where the child begins.
pub(super) extern "C" fn start(handover: *mut libc::c_void) -> c_int {
    // SAFETY: the pointer is that of `spawn`, which is suspended.
    unsafe { child(&*handover.cast::<Handover<'_>>()) }
}

/// Blocks all signals for this thread.
pub(super) fn block_signals() -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid `sigset_t`; the sets are on the stack.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    }
}

pub(super) fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, ptr::null_mut()) };
}

/// Drops the supplementary groups of this thread alone, so that a child does not inherit them: inside a user
/// namespace it cannot drop them itself. Returns what to restore.
fn drop_groups(must: bool) -> io::Result<Option<Vec<libc::gid_t>>> {
    // SAFETY: with length 0 nothing is written.
    let count = unsafe { libc::getgroups(0, ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the buffer has room for `count` groups.
    let count = unsafe { libc::getgroups(count.max(0), groups.as_mut_ptr()) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(count as usize);
    match set_groups(&[]) {
        Ok(()) => Ok(Some(groups)),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => match must {
            false => Ok(None),
            true => Err(io::Error::other(
                "setgroups failed. Set the require-drop-supplementary-groups option to false to skip this step.",
            )),
        },
        Err(e) => Err(e),
    }
}

/// `setgroups` for this thread only; the C library's function would change all threads.
pub(in crate::build) fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: pointer and length belong together; the kernel copies the list.
    match unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills a process. Harmless if it is gone but not yet waited for.
pub(super) fn kill(pid: libc::pid_t) {
    if pid > 1 {
        // SAFETY: plain system call; the number is that of a child not yet waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// A descriptor that becomes readable when the child has ended, if the kernel has such.
pub(super) fn pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: a system call that makes a descriptor, which nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// A Landlock rule set that only keeps abstract sockets apart, on kernels that have it.
pub(super) fn socket_scope() -> Option<OwnedFd> {
    const CREATE_RULESET_VERSION: c_int = 1;
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    // struct landlock_ruleset_attr { handled_access_fs, handled_access_net, scoped }
    let attributes: [u64; 3] = [0, 0, SCOPE_ABSTRACT_UNIX_SOCKET];
    // SAFETY: the kernel reads as many bytes as it is told; the new descriptor has no other owner.
    unsafe {
        let version = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u64>(),
            0usize,
            CREATE_RULESET_VERSION,
        );
        if version < 6 {
            return None;
        }
        let fd = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            attributes.as_ptr(),
            size_of_val(&attributes),
            0,
        );
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// What the child does. Never returns.
///
/// # Safety
///
/// Only in a process that `clone` has just made, with pointers into memory that stays.
unsafe fn child(hand: &Handover<'_>) -> ! {
    let &Handover {
        plan,
        args,
        env,
        keep,
        go,
        report,
        ready,
    } = hand;
    // SAFETY: from here on plain system calls with prepared arguments; the caller has seen to the rest.
    unsafe {
        // The parent may die at any moment. Before this call: then the pipe that it would say "go" through has no
        // other end any more, since copies of that end in this process are closed. After it: by this signal.
        control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong);
        close_others(keep);
        libc::write(ready, c"!".as_ptr().cast(), 1);
        default_signals();
        for (number, step) in plan.steps.iter().enumerate() {
            if !run(step, go) {
                fail(report, number as u32);
            }
        }
        // Becoming another user has reset the signal for a moment.
        let mut parent = libc::pollfd {
            fd: go,
            events: 0,
            revents: 0,
        };
        if libc::poll(&mut parent, 1, 0) != 0 {
            libc::_exit(1);
        }
        close_on_exec();
        libc::execve(plan.program.as_ptr(), args.as_ptr(), env.as_ptr());
        fail(report, EXEC)
    }
}

/// Closes all descriptors but the standard ones and these. What the parent has open (locks among it) is of no concern to
/// the child, and must not stay open for as long as a child that has lost its parent takes to notice.
pub(super) unsafe fn close_others(keep: &[RawFd]) {
    let mut first = 3;
    // SAFETY: closes descriptors of this process only, since they are not shared.
    unsafe {
        for fd in keep {
            if *fd > first {
                close_range(first, *fd - 1);
            }
            first = first.max(fd + 1);
        }
        close_range(first, RawFd::MAX);
    }
}

/// Closes descriptors from one to another, both included.
unsafe fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: as above; the limit is on the stack.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // Old kernels, and containers that do not know the call.
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let all = RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX);
        for fd in first..=last.min(all.min(MAX_DESCRIPTORS)) {
            libc::close(fd);
        }
    }
}

/// As many descriptors are closed one by one, at most; this crate's do not have higher numbers.
const MAX_DESCRIPTORS: RawFd = 1 << 16;

pub(super) unsafe fn fail(report: RawFd, step: u32) -> ! {
    // SAFETY: `errno` is this thread's; the buffer is on the stack.
    unsafe {
        let errno = *libc::__errno_location();
        let mut message = [0u8; 8];
        let (number, code) = message.split_at_mut(4);
        number.copy_from_slice(&step.to_ne_bytes());
        code.copy_from_slice(&errno.to_ne_bytes());
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(1)
    }
}

/// `prctl` with one argument; the others must be zero in full width.
pub(super) unsafe fn control(option: c_int, argument: c_ulong) -> bool {
    let zero: c_ulong = 0;
    // SAFETY: used with options whose argument is a number.
    unsafe { libc::prctl(option, argument, zero, zero, zero) == 0 }
}

/// Undoes what the parent has set about signals (Rust ignores SIGPIPE, for one).
unsafe fn default_signals() {
    // SAFETY: all-zero bytes are a valid `sigaction` and `sigset_t`; numbers that cannot be set are refused.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

unsafe fn close_on_exec() {
    // SAFETY: marks descriptors; on kernels without the call those of this crate are marked already.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

fn opt(string: &Option<CString>) -> *const c_char {
    string.as_ref().map_or(ptr::null(), |s| s.as_ptr())
}

unsafe fn mount(
    source: *const c_char,
    target: &CStr,
    kind: *const c_char,
    flags: c_ulong,
    data: *const c_char,
) -> bool {
    // SAFETY: the strings are null or ended by NUL.
    unsafe { libc::mount(source, target.as_ptr(), kind, flags, data.cast()) == 0 }
}

/// Carries out a step; `errno` tells why if it fails.
///
/// # Safety
///
/// As [`child`].
unsafe fn run(step: &Step, go: RawFd) -> bool {
    // SAFETY: all strings are ended by NUL and outlive the call; lengths are those of their slices.
    unsafe {
        match step {
            Step::AwaitParent => {
                let mut byte = 0u8;
                loop {
                    match libc::read(go, (&raw mut byte).cast(), 1) {
                        1 if byte == 1 => return true,
                        -1 if *libc::__errno_location() == libc::EINTR => {}
                        _ => libc::_exit(1),
                    }
                }
            }
            Step::NewSession => libc::setsid() >= 0,
            Step::Umask(mask) => {
                libc::umask(*mask);
                true
            }
            Step::Stdio { input, output } => {
                libc::dup2(*input, 0) >= 0
                    && libc::dup2(*output, 1) >= 0
                    && libc::dup2(*output, 2) >= 0
            }
            Step::LoopbackUp => {
                let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
                if socket < 0 {
                    return false;
                }
                let mut request: libc::ifreq = std::mem::zeroed();
                request.ifr_name[0] = b'l' as c_char;
                request.ifr_name[1] = b'o' as c_char;
                request.ifr_ifru.ifru_flags =
                    (libc::IFF_UP | libc::IFF_LOOPBACK | libc::IFF_RUNNING) as libc::c_short;
                let done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) == 0;
                libc::close(socket);
                done
            }
            Step::HostName(host, domain) => {
                let (host, domain) = (host.to_bytes(), domain.to_bytes());
                libc::sethostname(host.as_ptr().cast(), host.len()) == 0
                    && libc::setdomainname(domain.as_ptr().cast(), domain.len()) == 0
            }
            Step::MakeDir(path) => {
                libc::mkdir(path.as_ptr(), 0o755);
                true
            }
            Step::MakeFile(path) => {
                let fd = libc::open(
                    path.as_ptr(),
                    libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW,
                    0o666,
                );
                if fd >= 0 {
                    libc::close(fd);
                }
                true
            }
            Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => mount(opt(source), target, opt(kind), *flags, opt(data)),
            Step::MountDevPts { target, ptmx } => {
                let made = mount(
                    c"none".as_ptr(),
                    target,
                    c"devpts".as_ptr(),
                    0,
                    c"newinstance,mode=0620,ptmxmode=0666".as_ptr(),
                );
                if made {
                    libc::unlink(ptmx.as_ptr());
                    return libc::symlink(c"/dev/pts/ptmx".as_ptr(), ptmx.as_ptr()) == 0;
                }
                let flags = libc::MS_BIND | libc::MS_REC;
                mount(
                    c"/dev/pts".as_ptr(),
                    target,
                    ptr::null(),
                    flags,
                    ptr::null(),
                ) && mount(c"/dev/ptmx".as_ptr(), ptmx, ptr::null(), flags, ptr::null())
            }
            Step::ReadOnly { target, below } => {
                let attributes = libc::mount_attr {
                    attr_set: libc::MOUNT_ATTR_RDONLY,
                    attr_clr: 0,
                    propagation: 0,
                    userns_fd: 0,
                };
                let set = libc::syscall(
                    libc::SYS_mount_setattr,
                    libc::AT_FDCWD,
                    target.as_ptr(),
                    if *below { libc::AT_RECURSIVE } else { 0 },
                    &raw const attributes,
                    size_of::<libc::mount_attr>(),
                );
                if set != 0 {
                    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
                    mount(ptr::null(), target, ptr::null(), flags, ptr::null());
                }
                true
            }
            Step::PivotRoot(root) => {
                // The new root goes on top of the old one, which is then detached.
                libc::chdir(root.as_ptr()) == 0
                    && libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) == 0
                    && libc::umount2(c".".as_ptr(), libc::MNT_DETACH) == 0
                    && libc::chdir(c"/".as_ptr()) == 0
            }
            Step::Chmod(path, mode) => libc::chmod(path.as_ptr(), *mode) == 0,
            Step::ChangeDir(path) => libc::chdir(path.as_ptr()) == 0,
            Step::NoCore => {
                let limit = libc::rlimit {
                    rlim_cur: 0,
                    rlim_max: libc::RLIM_INFINITY,
                };
                // May be refused where the hard limit is lower; no reason to fail.
                libc::setrlimit(libc::RLIMIT_CORE, &limit);
                true
            }
            Step::SetGroups(groups) => {
                libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            }
            Step::SetUser(user, group) => {
                libc::syscall(libc::SYS_setresgid, *group, *group, *group) == 0
                    && libc::syscall(libc::SYS_setresuid, *user, *user, *user) == 0
                    && control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong)
            }
            Step::NoNewPrivileges => control(libc::PR_SET_NO_NEW_PRIVS, 1),
            Step::Landlock(rules) => {
                libc::syscall(libc::SYS_landlock_restrict_self, *rules, 0) == 0
            }
            Step::Seccomp(filter) => {
                let program = libc::sock_fprog {
                    len: filter.len() as libc::c_ushort,
                    filter: filter.as_ptr().cast_mut(),
                };
                let zero: c_ulong = 0;
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    c_ulong::from(libc::SECCOMP_MODE_FILTER),
                    &raw const program,
                    zero,
                    zero,
                ) == 0
            }
            Step::Personality32 => {
                const PER_LINUX32: c_ulong = 8;
                libc::personality(PER_LINUX32) >= 0
            }
            Step::Personality(flags) => {
                // This number asks for what it is.
                let now = libc::personality(0xffff_ffff);
                if now >= 0 {
                    libc::personality(now as c_ulong | flags);
                }
                true
            }
        }
    }
}
