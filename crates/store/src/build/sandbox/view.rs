//! What a builder of its own root sees: folders and files made by the parent, and steps of its own for what can only be
//! mounted.

use super::child::Step;
use super::{Launch, SANDBOX_GID, SANDBOX_UID, c_path, c_string, io_error};
use crate::build::settings::SandboxPath;
use crate::error::Result;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What is below `/proc` and lets root change the machine.
const ROOTS_OWN: [&str; 7] = ["acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger"];

/// What a builder of its own root sees.
#[derive(Debug)]
pub(in crate::build) struct View {
    /// The folder that becomes the root. It exists and is empty.
    pub root: PathBuf,
    /// The store's folder, as the builder sees it.
    pub store_dir: PathBuf,
    /// The inputs: base names in the store's folder, and where they are on the machine.
    pub inputs: Vec<(String, PathBuf)>,
    /// Further files and folders, by where the builder sees them.
    pub paths: BTreeMap<PathBuf, SandboxPath>,
}

/// `below` put under `root`.
fn inside(root: &Path, below: &Path) -> PathBuf {
    root.join(below.strip_prefix("/").unwrap_or(below))
}

pub(super) fn private_mounts() -> Step {
    Step::Mount {
        source: None,
        target: c"/".into(),
        kind: None,
        flags: libc::MS_PRIVATE | libc::MS_REC,
        data: None,
    }
}

/// Makes what can be made beforehand below the new root, and adds the steps for the rest.
pub(super) fn enter(launch: &Launch<'_>, view: &View, steps: &mut Vec<Step>) -> Result<()> {
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
    let roots = launch.user.is_none() && nix::unistd::geteuid().is_root();
    let mut last = Vec::new();
    for (target, path) in &paths {
        // An instance of its own is mounted below.
        if path.source == Path::new("/proc") || target == Path::new("/proc") {
            continue;
        }
        let covered = target
            .ancestors()
            .skip(1)
            .any(|above| above != Path::new("/") && paths.contains_key(above));
        let place = inside(root, target);
        if !show(path, &place, covered, steps)? {
            continue;
        }
        let place = c_path(&place)?;
        if target.parent() == Some(view.store_dir.as_path()) {
            steps.push(Step::ReadOnly {
                target: place,
                below: true,
            });
        } else if roots && target != launch.build_dir_inside && is_roots_own(&path.source) {
            // What is shown below it needs a place, and may be writable.
            let next =
                paths.range::<Path, _>((Bound::Excluded(target.as_path()), Bound::Unbounded));
            let below = next.map(|(next, _)| next).next();
            last.push(Step::ReadOnly {
                target: place,
                below: !below.is_some_and(|next| next.starts_with(target)),
            });
        }
    }
    steps.append(&mut last);

    make_dir(&root.join("proc"))?;
    steps.push(Step::Mount {
        source: Some(c"none".into()),
        target: c_path(&root.join("proc"))?,
        kind: Some(c"proc".into()),
        flags: 0,
        data: None,
    });
    if roots {
        // To these, only the number of the user outside matters.
        for name in ROOTS_OWN {
            if Path::new("/proc").join(name).exists() {
                let path = root.join("proc").join(name);
                steps.push(bind(&path, &path, libc::MS_BIND | libc::MS_REC)?);
                steps.push(Step::ReadOnly {
                    target: c_path(&path)?,
                    below: true,
                });
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

/// Whether only root may change a file. Root's builders would be root to it, whatever their number is: it is shown
/// read-only, as it is to build users.
fn is_roots_own(file: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    fs::metadata(file).is_ok_and(|meta| {
        let kind = meta.file_type();
        // Devices can be written to all the same, but their modes stay.
        let device = kind.is_char_device() || kind.is_block_device();
        device || (meta.uid() == 0 && meta.mode() & 0o022 == 0)
    })
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

/// Makes a folder that the builder may enter, and those above it.
fn make_dir(path: &Path) -> Result<()> {
    crate::local::make_dirs(path)
}

/// Makes a file that the builder may read.
fn make_file(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .map_err(io_error("writing", path))
}
