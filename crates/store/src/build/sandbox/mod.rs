//! Isolation: which namespaces a builder gets, what it sees of the file system, and who it is.
//!
//! A builder is the first process of its own PID namespace, so that whatever it starts dies with it. It sees a root
//! folder with the closure of its inputs (read-only), its build folder, `/tmp`, `/proc`, a few devices and
//! files in `/etc`, and what `sandbox-paths` adds. Unless its output is fixed, its network has a loopback
//! interface only.
//!
//! Everything is prepared here, in safe code: folders and files below the new root are made by the parent,
//! and a [`Plan`] says what the child mounts. The `child` module carries plans out.

mod child;
mod seccomp;

use crate::build::settings::{BuildSettings, SandboxPath};
use crate::error::{Error, ErrorKind, Result};
pub(super) use child::set_groups as set_thread_groups;
use child::{Failure, Plan, Step, Supervised};
use nix::sched::CloneFlags;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The user that builders are, as they see it.
const SANDBOX_UID: u32 = 1000;
const SANDBOX_GID: u32 = 100;

/// What is below `/proc` and lets root change the machine.
const ROOTS_OWN: [&str; 7] = ["acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger"];

/// What a builder of its own root sees.
#[derive(Debug)]
pub(super) struct View {
    /// The folder that becomes the root. It exists and is empty.
    pub root: PathBuf,
    /// The store's folder, as the builder sees it.
    pub store_dir: PathBuf,
    /// The inputs: base names in the store's folder, and where they are on the machine.
    pub inputs: Vec<(String, PathBuf)>,
    /// Further files and folders, by where the builder sees them.
    pub paths: BTreeMap<PathBuf, SandboxPath>,
}

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

/// A builder that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pid: libc::pid_t,
    /// Readable when it has ended.
    pub pidfd: Option<OwnedFd>,
    /// Its output: the other end of its terminal, or of a pipe where there are no terminals.
    pub output: File,
    /// If it has no namespace that ends with it: the process that ends what it has started.
    supervised: Option<Supervised>,
    reaped: bool,
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

/// `below` put under `root`.
fn inside(root: &Path, below: &Path) -> PathBuf {
    root.join(below.strip_prefix("/").unwrap_or(below))
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
            private_mounts(),
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
    wait(started.pid);
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

fn private_mounts() -> Step {
    Step::Mount {
        source: None,
        target: c"/".into(),
        kind: None,
        flags: libc::MS_PRIVATE | libc::MS_REC,
        data: None,
    }
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

/// Waits for a child; its status as `waitpid` gives it.
fn wait(pid: libc::pid_t) -> Option<nix::sys::wait::WaitStatus> {
    loop {
        match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Err(nix::errno::Errno::EINTR) => {}
            status => return status.ok(),
        }
    }
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
        enter(launch, view, &mut steps)?;
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
    let spawned = child::spawn(&plan, |pid| match users {
        true => write_maps(pid, launch.user.as_ref()),
        false => Ok(()),
    })
    .map_err(|e| Error::io("unable to start build process", e))?;
    let running = Running {
        pid: spawned.pid,
        pidfd: child::pidfd(spawned.pid),
        output,
        supervised: spawned.supervised,
        reaped: false,
    };
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
        | Step::ReadOnly(_)
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

/// Makes what can be made beforehand below the new root, and adds the steps for the rest.
fn enter(launch: &Launch<'_>, view: &View, steps: &mut Vec<Step>) -> Result<()> {
    let root = &view.root;
    skeleton(launch, view)?;

    let mut paths = view.paths.clone();
    paths.insert(
        launch.build_dir_inside.to_owned(),
        SandboxPath {
            source: launch.build_dir.to_owned(),
            optional: false,
        },
    );
    let own_dev = !paths.contains_key(Path::new("/dev"));
    if own_dev {
        devices(launch, root, &mut paths)?;
    }
    if launch.network {
        network_files(launch, root, &mut paths)?;
    }

    steps.push(private_mounts());
    steps.push(bind(root, root, libc::MS_BIND)?);
    for (name, source) in &view.inputs {
        // An input that a folder of `sandbox-paths` covers comes after it.
        paths.insert(
            view.store_dir.join(name),
            SandboxPath {
                source: source.clone(),
                optional: false,
            },
        );
    }
    let store = inside(root, &view.store_dir);
    for (target, path) in &paths {
        // An instance of its own is mounted below.
        if path.source == Path::new("/proc") || target == Path::new("/proc") {
            continue;
        }
        let covered = target
            .ancestors()
            .skip(1)
            .any(|above| above != Path::new("/") && paths.contains_key(above));
        let target = inside(root, target);
        if show(path, &target, covered, steps)? && target.parent() == Some(store.as_path()) {
            steps.push(Step::ReadOnly(c_path(&target)?));
        }
    }

    make_dir(&root.join("proc"))?;
    steps.push(Step::Mount {
        source: Some(c"none".into()),
        target: c_path(&root.join("proc"))?,
        kind: Some(c"proc".into()),
        flags: 0,
        data: None,
    });
    if launch.user.is_none() && nix::unistd::geteuid().is_root() {
        // To these, only the number of the user outside matters.
        for name in ROOTS_OWN {
            if Path::new("/proc").join(name).exists() {
                let path = root.join("proc").join(name);
                steps.push(bind(&path, &path, libc::MS_BIND | libc::MS_REC)?);
                steps.push(Step::ReadOnly(c_path(&path)?));
            }
        }
    }
    if Path::new("/dev/shm").exists() {
        let size = &launch.settings.sandbox_dev_shm_size;
        steps.push(Step::Mount {
            source: Some(c"none".into()),
            target: c_path(&root.join("dev/shm"))?,
            kind: Some(c"tmpfs".into()),
            flags: 0,
            data: Some(c_string(format!("size={size}"))?),
        });
    }
    if own_dev
        && Path::new("/dev/pts/ptmx").exists()
        && !paths.contains_key(Path::new("/dev/pts"))
        && !paths.contains_key(Path::new("/dev/ptmx"))
    {
        // A file to bind to, should that be needed; else a link takes its place.
        let ptmx = root.join("dev/ptmx");
        make_file(&ptmx, b"")?;
        steps.push(Step::MountDevPts {
            target: c_path(&root.join("dev/pts"))?,
            ptmx: c_path(&ptmx)?,
        });
    }
    steps.push(Step::Chmod(c_path(&root.join("etc"))?, 0o555));
    steps.push(Step::PivotRoot(c_path(root)?));
    Ok(())
}

/// The folders and files that every sandbox has.
fn skeleton(launch: &Launch<'_>, view: &View) -> Result<()> {
    let root = &view.root;
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(io_error("setting permissions of", path))
    };
    let tmp = root.join("tmp");
    make_dir(&tmp)?;
    mode(&tmp, 0o1777)?;
    let etc = root.join("etc");
    make_dir(&etc)?;
    if !launch.network {
        make_file(&etc.join("hosts"), b"127.0.0.1 localhost\n::1 localhost\n")?;
    }
    let (uid, gid) = match &launch.user {
        Some(user) if !launch.user_namespace => (user.uid, user.gid),
        _ => (SANDBOX_UID, SANDBOX_GID),
    };
    let home = launch.build_dir_inside.display();
    make_file(
        &etc.join("passwd"),
        format!(
            "root:x:0:0:Nix build user:{home}:/noshell\n\
             nixbld:x:{uid}:{gid}:Nix build user:{home}:/noshell\n\
             nobody:x:65534:65534:Nobody:/:/noshell\n"
        )
        .as_bytes(),
    )?;
    make_file(
        &etc.join("group"),
        format!("root:x:0:\nnixbld:!:{gid}:\nnogroup:x:65534:\n").as_bytes(),
    )?;
    let store = inside(root, &view.store_dir);
    make_dir(&store)?;
    mode(&store, 0o1775)?;
    if let Some(user) = &launch.user {
        for (path, owner) in [(root, 0), (&store, 0)] {
            nix::unistd::chown(path, Some(owner.into()), Some(user.gid.into()))
                .map_err(|e| io_error("cannot change ownership of", path)(e.into()))?;
        }
    }
    Ok(())
}

/// A nearly empty `/dev`.
fn devices(
    launch: &Launch<'_>,
    root: &Path,
    paths: &mut BTreeMap<PathBuf, SandboxPath>,
) -> Result<()> {
    let dev = root.join("dev");
    make_dir(&dev.join("shm"))?;
    make_dir(&dev.join("pts"))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = dev.join(name);
        symlink(target, &link).map_err(io_error("creating symlink", &link))?;
    }
    let kvm = launch.settings.system_features.contains("kvm");
    for (name, optional) in [
        ("full", false),
        ("null", false),
        ("random", false),
        ("tty", true),
        ("urandom", false),
        ("zero", false),
        ("kvm", true),
    ] {
        if name != "kvm" || kvm {
            let path = Path::new("/dev").join(name);
            let source = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            paths
                .entry(path)
                .or_insert(SandboxPath { source, optional });
        }
    }
    Ok(())
}

/// Files that resolving names and checking certificates need.
fn network_files(
    launch: &Launch<'_>,
    root: &Path,
    paths: &mut BTreeMap<PathBuf, SandboxPath>,
) -> Result<()> {
    make_file(
        &root.join("etc/nsswitch.conf"),
        b"hosts: files dns\nservices: files\n",
    )?;
    for path in ["/etc/resolv.conf", "/etc/services", "/etc/hosts"] {
        if let Ok(source) = fs::canonicalize(path) {
            paths.entry(path.into()).or_insert(SandboxPath {
                source,
                optional: true,
            });
        }
    }
    if let Some(source) = &launch.settings.ssl_cert_file
        && let Ok(source) = fs::canonicalize(source)
    {
        paths
            .entry("/etc/ssl/certs/ca-certificates.crt".into())
            .or_insert(SandboxPath {
                source,
                optional: true,
            });
    }
    Ok(())
}

/// Shows a file or folder of the machine at `target`, which is a path of the machine below the new root.
/// `covered` says that an earlier mount hides what the parent would make there. False if there is nothing to
/// mount.
fn show(path: &SandboxPath, target: &Path, covered: bool, steps: &mut Vec<Step>) -> Result<bool> {
    let kind = match fs::symlink_metadata(&path.source) {
        Ok(meta) => meta.file_type(),
        Err(e) if path.optional && e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(io_error("getting attributes of path", &path.source)(e)),
    };
    let parent = target.parent().unwrap_or(target);
    if kind.is_symlink() {
        // Mounts would follow it, so it is copied.
        if !covered {
            let link =
                fs::read_link(&path.source).map_err(io_error("reading symlink", &path.source))?;
            make_dir(parent)?;
            match symlink(&link, target) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error("creating symlink", target)(e));
                }
                _ => {}
            }
        }
        return Ok(false);
    }
    if covered {
        let mut above: Vec<&Path> = target.ancestors().skip(1).collect();
        above.pop();
        for dir in above.into_iter().rev() {
            steps.push(Step::MakeDir(c_path(dir)?));
        }
        steps.push(if kind.is_dir() {
            Step::MakeDir(c_path(target)?)
        } else {
            Step::MakeFile(c_path(target)?)
        });
    } else if kind.is_dir() {
        make_dir(target)?;
    } else {
        make_dir(parent)?;
        make_file(target, b"")?;
    }
    steps.push(bind(&path.source, target, libc::MS_BIND | libc::MS_REC)?);
    Ok(true)
}

fn bind(source: &Path, target: &Path, flags: libc::c_ulong) -> Result<Step> {
    Ok(Step::Mount {
        source: Some(c_path(source)?),
        target: c_path(target)?,
        kind: None,
        flags,
        data: None,
    })
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::create_dir_all(path).map_err(io_error("creating directory", path)),
    }
}

fn make_file(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).map_err(io_error("writing", path))
}

impl Running {
    /// Whether the builder has ended, and with it what it has started.
    pub fn has_ended(&self) -> bool {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
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
        use nix::sys::wait::WaitStatus;
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
pub(super) enum ExitStatus {
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

#[cfg(test)]
mod tests;
