//! Isolation: which namespaces a builder gets, what it sees of the file system, and who it is.
//!
//! A builder is the first process of its own PID namespace, so that whatever it starts dies with it. It sees a root
//! folder with the closure of its inputs (read-only), its build folder, `/tmp`, `/proc`, a few devices and
//! files in `/etc`, and what `sandbox-paths` adds. Unless its output is fixed, its network has a loopback
//! interface only.
//!
//! Everything is prepared here and in `view`, in safe code: folders and files below the new root are made by the parent,
//! and a [`Plan`] says what the child mounts. The `child` module carries plans out; without a PID namespace, `supervisor`
//! sees to it that nothing outlives the builder.

mod child;
mod running;
mod seccomp;
mod supervisor;
mod view;

pub(super) use child::set_groups as set_thread_groups;
pub(super) use running::{ExitStatus, Running};
pub(super) use view::View;

use crate::build::settings::BuildSettings;
use crate::error::{Error, ErrorKind, Result};
use child::{Failure, Plan, Step};
use nix::sched::CloneFlags;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The user that builders are, as they see it.
const SANDBOX_UID: u32 = 1000;
const SANDBOX_GID: u32 = 100;

/// A user of the machine that a builder runs as.
#[derive(Debug, Clone)]
pub(super) struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A builder to start.
#[derive(Debug)]
pub(super) struct Launch<'l> {
    /// Settings.
    pub settings: &'l BuildSettings,
    /// What it sees, if not everything.
    pub view: Option<View>,
    /// Whether it has a user namespace of its own, if it does not see everything.
    pub user_namespace: bool,
    /// Whether it reaches the network.
    pub network: bool,
    /// As whom it runs, if not as the caller.
    pub user: Option<User>,
    /// The build's folder on the machine.
    pub build_dir: &'l Path,
    /// The same folder as the builder sees it.
    pub build_dir_inside: &'l Path,
    /// The derivation's system.
    pub platform: &'l [u8],
    /// The program.
    pub program: Vec<u8>,
    /// Its arguments, the zeroth among them.
    pub args: Vec<Vec<u8>>,
    /// Its environment, `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
}

/// Why a builder was not started.
#[derive(Debug)]
pub(super) enum LaunchError {
    /// Something of the machine.
    Setup(Error),
    /// The program cannot be executed; for users this is the builder's failure.
    Exec(io::Error),
}

impl From<Error> for LaunchError {
    fn from(error: Error) -> LaunchError {
        LaunchError::Setup(error)
    }
}

fn sandbox_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Sandbox, message)
}

fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::io(format_args!("{what} '{}'", path.display()), error)
}

fn c_string(bytes: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(bytes).map_err(|e| {
        let text = String::from_utf8_lossy(&e.into_vec()).into_owned();
        sandbox_error(format!("{text:?} contains a NUL byte"))
    })
}

fn c_path(path: &Path) -> Result<CString> {
    c_string(path.as_os_str().as_bytes())
}

/// Which namespaces this process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// All that a sandbox needs.
    Full,
    /// All but those of users, as root in a `chroot`, say. That is enough for builders with a user of their own.
    NotForUsers,
    /// Too few.
    None,
}

/// Which namespaces this machine lets this process have. Tries it out, so ask once.
pub(super) fn supported() -> Support {
    if probe(true) {
        Support::Full
    } else if nix::unistd::geteuid().is_root() && probe(false) {
        Support::NotForUsers
    } else {
        Support::None
    }
}

/// Starts a process with namespaces, which mounts what sandboxes mount and ends.
fn probe(users: bool) -> bool {
    let plan = Plan {
        namespaces: namespaces(users, false).bits(),
        steps: vec![
            Step::AwaitParent,
            view::private_mounts(),
            Step::Mount {
                source: Some(c"none".into()),
                target: c"/proc".into(),
                kind: Some(c"proc".into()),
                flags: 0,
                data: None,
            },
        ],
        // Not a program: reaching it is the proof.
        program: c"/".into(),
        args: Vec::new(),
        env: Vec::new(),
        drop_groups: None,
        supervise: false,
    };
    let started = child::spawn(&plan, |pid| match users {
        true => write_maps(pid, None),
        false => Ok(()),
    });
    let Ok(started) = started else {
        return false;
    };
    running::wait(started.pid);
    matches!(started.outcome, Err(Failure::Exec(_)))
}

fn namespaces(users: bool, network: bool) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if users {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    if !network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    flags
}

fn write_maps(pid: libc::pid_t, user: Option<&User>) -> io::Result<()> {
    let (uid, gid) = match user {
        Some(user) => (user.uid, user.gid),
        None => (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        ),
    };
    let dir = PathBuf::from(format!("/proc/{pid}"));
    for (name, text) in [
        ("uid_map", format!("{SANDBOX_UID} {uid} 1")),
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{SANDBOX_GID} {gid} 1")),
    ] {
        fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// A new terminal: our end and the builder's. Where the machine has none, a pipe.
fn terminal(user: Option<&User>) -> Result<(File, OwnedFd)> {
    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    use nix::sys::termios;
    let open = || -> nix::Result<(File, OwnedFd)> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        if user.is_none() {
            grantpt(&master)?;
        }
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        if let Some(user) = user {
            let path = Path::new(&name);
            let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
            nix::unistd::chown(path, Some(user.uid.into()), Some(0.into()))?;
        }
        let slave: OwnedFd = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(&name)
            .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?
            .into();
        // Raw, so that newlines stay as they are.
        let mut settings = termios::tcgetattr(slave.as_fd())?;
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(slave.as_fd(), termios::SetArg::TCSANOW, &settings)?;
        let master: OwnedFd = master.into();
        Ok((master.into(), slave))
    };
    open().or_else(|_| {
        let (reader, writer) = io::pipe()?;
        Ok((File::from(OwnedFd::from(reader)), writer.into()))
    })
}

/// Starts a builder.
pub(super) fn launch(launch: &Launch<'_>) -> Result<Running, LaunchError> {
    let settings = launch.settings;
    let (output, builder_end) = terminal(launch.user.as_ref())?;
    let null = File::open("/dev/null").map_err(io_error("opening", Path::new("/dev/null")))?;
    let mut steps = vec![
        Step::AwaitParent,
        Step::NewSession,
        // Whatever the caller's is: modes that groups may write are refused in outputs, and all others show in archives.
        Step::Umask(0o022),
        Step::Stdio {
            input: null.as_raw_fd(),
            output: builder_end.as_raw_fd(),
        },
    ];
    let mut flags = CloneFlags::empty();
    if let Some(view) = &launch.view {
        flags = namespaces(launch.user_namespace, launch.network);
        if !launch.network {
            steps.push(Step::LoopbackUp);
        }
        steps.push(Step::HostName(c"localhost".into(), c"(none)".into()));
        view::enter(launch, view, &mut steps)?;
    }
    let users = flags.contains(CloneFlags::CLONE_NEWUSER);
    if launch.view.is_some() && !users && launch.user.is_none() {
        return Err(sandbox_error(
            "cannot perform a sandboxed build because user namespaces are not enabled; check /proc/sys/user/max_user_namespaces",
        )
        .into());
    }
    if !settings.allow_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    if settings.filter_syscalls {
        steps.push(Step::Seccomp(seccomp::filter(launch.view.is_some())));
    }
    let scope = child::socket_scope();
    if let Some(scope) = &scope
        && (!settings.allow_new_privileges || launch.view.is_some())
    {
        steps.push(Step::Landlock(scope.as_raw_fd()));
    }
    personality(settings, launch.platform, &mut steps);
    steps.push(Step::ChangeDir(c_path(launch.build_dir_inside)?));
    steps.push(Step::NoCore);
    match &launch.user {
        _ if users => steps.push(Step::SetUser(SANDBOX_UID, SANDBOX_GID)),
        Some(user) => {
            steps.push(Step::SetGroups(user.groups.clone()));
            steps.push(Step::SetUser(user.uid, user.gid));
        }
        None => {}
    }
    let strings = |list: &[Vec<u8>]| -> Result<Vec<CString>> {
        list.iter().map(|s| c_string(s.clone())).collect()
    };
    let plan = Plan {
        namespaces: flags.bits(),
        steps,
        program: c_string(launch.program.clone())?,
        args: strings(&launch.args)?,
        env: strings(&launch.env)?,
        drop_groups: users.then_some(settings.require_drop_supplementary_groups),
        supervise: launch.view.is_none(),
    };
    let mut spawned = child::spawn(&plan, |pid| match users {
        true => write_maps(pid, launch.user.as_ref()),
        false => Ok(()),
    })
    .map_err(|e| Error::io("unable to start build process", e))?;
    let running = Running::new(&mut spawned, output);
    drop(builder_end);
    match spawned.outcome {
        Ok(()) => Ok(running),
        Err(Failure::Prepare(error)) => Err(LaunchError::Setup(Error::io(
            "while setting up the user namespace of the build",
            error,
        ))),
        Err(Failure::Exec(error)) => Err(LaunchError::Exec(error)),
        Err(Failure::Step(number, error)) => {
            let what = plan
                .steps
                .get(number)
                .map_or_else(|| "the sandbox".to_owned(), describe);
            Err(LaunchError::Setup(Error::io(
                format_args!("while setting up the build environment: {what}"),
                error,
            )))
        }
        Err(Failure::Died) => {
            Err(sandbox_error("the process that sets up the build environment died").into())
        }
    }
}

/// What a step does, for an error.
fn describe(step: &Step) -> String {
    match step {
        Step::Mount {
            source: Some(source),
            target,
            kind: None,
            ..
        } => format!(
            "bind mount from '{}' to '{}' failed",
            source.to_string_lossy(),
            target.to_string_lossy()
        ),
        Step::Mount { target, .. } => format!("mounting '{}'", target.to_string_lossy()),
        Step::MountDevPts { .. } => "mounting /dev/pts".into(),
        Step::ChangeDir(dir) => format!("changing into '{}'", dir.to_string_lossy()),
        Step::PivotRoot(root) => format!("cannot pivot to '{}'", root.to_string_lossy()),
        Step::LoopbackUp => "cannot set loopback interface flags".into(),
        Step::HostName(..) => "cannot set host name".into(),
        Step::Seccomp(_) => "unable to load seccomp BPF program".into(),
        Step::Landlock(_) => "failed to apply landlock".into(),
        Step::Personality32 => "cannot set 32-bit personality".into(),
        Step::SetUser(..) | Step::SetGroups(_) => "cannot become the build user".into(),
        Step::Chmod(path, _) => format!("setting permissions of '{}'", path.to_string_lossy()),
        Step::AwaitParent
        | Step::NewSession
        | Step::Umask(_)
        | Step::Stdio { .. }
        | Step::MakeDir(_)
        | Step::MakeFile(_)
        | Step::ReadOnly { .. }
        | Step::NoCore
        | Step::NoNewPrivileges
        | Step::Personality(_) => format!("{step:?}"),
    }
}

/// 32-bit systems must see a 32-bit machine. Where that can be had (containers may refuse it), addresses are not randomised.
fn personality(settings: &BuildSettings, platform: &[u8], steps: &mut Vec<Step>) {
    const UNAME26: libc::c_ulong = 0x0002_0000;
    let bits32 = (cfg!(target_arch = "x86_64") && platform == b"i686-linux")
        || matches!(
            platform,
            b"armv7l-linux" | b"armv6l-linux" | b"armv5tel-linux"
        );
    if bits32 {
        steps.push(Step::Personality32);
    }
    if settings.impersonate_linux_26 && matches!(platform, b"i686-linux" | b"x86_64-linux") {
        steps.push(Step::Personality(UNAME26));
    }
    steps.push(Step::Personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong));
}

#[cfg(test)]
mod tests;
