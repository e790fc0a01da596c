//! A disk that is full: every operation says so, the store stays sound, and goes on once there is room.
//!
//! The store lies on a small file system in memory, in a mount namespace of its own; the test is skipped where there are
//! none.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::Lab;
use nivis_store::build::{BuildMode, BuildRequest, BuildStatus};
use nivis_store::local::{GcOptions, LocalStore, StoreConfig, VerifyOptions};
use nivis_store::{ContentAddressMethod, Error, ErrorKind, HashAlgorithm, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const ROOT: &str = "NIVIS_TEST_FULL_ROOT";
const SIZE: &str = "size=6m";

/// Mounts an empty file system on a folder, for this process alone. Nothing but system calls.
fn mount_small(target: &CString, maps: &common::IdMaps) -> std::io::Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let none: Option<&str> = None;
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        maps.write()?;
    }
    mount(
        none,
        c"/",
        none,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        none,
    )?;
    mount(
        Some(c"none"),
        target.as_c_str(),
        Some(c"tmpfs"),
        MsFlags::empty(),
        Some(SIZE),
    )?;
    Ok(())
}

#[test]
fn a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let target = CString::new(root.as_os_str().as_bytes()).unwrap();
    let maps = common::IdMaps::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "on_the_small_disk", "--nocapture"])
        .env(ROOT, &root)
        .stdin(Stdio::null());
    // SAFETY: nothing but system calls with prepared arguments happens between the fork and the execution.
    unsafe { command.pre_exec(move || mount_small(&target, &maps)) };
    match command.output() {
        Err(e) => eprintln!("skipped: this machine has no mount namespaces for a small disk: {e}"),
        Ok(output) => assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

fn is_full(error: &Error) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::Io(std::io::ErrorKind::StorageFull)
        || text.contains("No space left on device")
        || text.contains("database or disk is full")
}

fn open(root: &Path) -> Arc<LocalStore> {
    let mut config = StoreConfig::at_root(StoreDir::default(), root);
    config.settings.reserved_space = 1 << 20;
    LocalStore::open(config).unwrap()
}

fn sound(store: &LocalStore) {
    let options = VerifyOptions {
        check_contents: true,
        ..VerifyOptions::default()
    };
    let report = store.verify(&options, None).unwrap();
    assert!(report.ok(), "{report:?}");
}

/// Takes all the room that is left.
fn fill(root: &Path) {
    let mut file = std::fs::File::create(root.join("ballast")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

/// The process that has the small disk.
#[test]
fn on_the_small_disk() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let elsewhere = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let none = BTreeSet::new();
    let store = open(root);
    let kept = store.add_text("kept", b"kept", &none).unwrap();
    let garbage = store.add_text("garbage", &[7; 1 << 20], &none).unwrap();

    // Too large for what is left: an error, and nothing stays behind.
    let large = elsewhere.path().join("large");
    std::fs::write(&large, vec![1; 8 << 20]).unwrap();
    let trees = elsewhere.path().join("trees");
    std::fs::create_dir(&trees).unwrap();
    for i in 0..200 {
        std::fs::write(trees.join(i.to_string()), vec![i as u8; 1 << 15]).unwrap();
    }
    let entries = || std::fs::read_dir(root.join("nix/store")).unwrap().count();
    let before = entries();
    for source in [&large, &trees] {
        for method in [ContentAddressMethod::Nar, ContentAddressMethod::Git] {
            let algorithm = match method {
                ContentAddressMethod::Git => HashAlgorithm::Sha1,
                _ => HashAlgorithm::Sha256,
            };
            let error = store.add_path(source, "large", method, algorithm);
            let error = error.unwrap_err();
            assert!(is_full(&error), "{method:?}: {error}");
            sound(&store);
            assert_eq!(entries(), before);
        }
    }

    // No room at all.
    fill(root);
    let error = store.add_text("more", &[8; 1 << 14], &none).unwrap_err();
    assert!(is_full(&error), "{error}");
    // Texts fit into the last bytes of a page, transactions do not.
    let failed = (0..100).find_map(|i| store.add_text(&format!("t{i}"), b"", &none).err());
    if let Some(error) = failed {
        assert!(is_full(&error), "{error}");
    }
    assert!(store.is_valid(&kept).unwrap());
    assert_eq!(store.closure([&kept]).unwrap().len(), 1);
    sound(&store);
    // Temporary roots that could not be written do not take the next one with them.
    let path = |n: u32| {
        let hash = nivis_store::hash::sha256(n.to_le_bytes())[..20]
            .try_into()
            .unwrap();
        StorePath::from_parts(hash, "root").unwrap()
    };
    let many: Vec<StorePath> = (0..10_000).map(path).collect();
    assert!(is_full(&store.add_temp_roots(&many).unwrap_err()));
    std::fs::remove_file(root.join("ballast")).unwrap();
    let one = path(10_000);
    store.add_temp_root(&one).unwrap();
    assert!(store.find_roots(false).unwrap().contains_key(&one));
    fill(root);
    // Somebody else, too, can open it.
    let other = open(root);
    assert!(other.is_valid(&kept).unwrap());
    drop(other);

    // A build cannot begin, and says why.
    let lab = Lab::at(root.to_str().unwrap());
    if Path::new("/bin/sh").exists() {
        std::fs::remove_file(root.join("ballast")).unwrap();
        let plain = lab.shell("plain", &["out"], |drv| drv.script("echo > $out"));
        let greedy = lab.shell("greedy", &["out"], |drv| {
            drv.script("while echo some text that is written again and again; do :; done > $out 2>/dev/null; exit 1");
        });
        let late = lab.shell("late", &["out"], |drv| {
            drv.script("echo > $out; while echo some text that fills the disk; do :; done > more 2>/dev/null; true");
        });
        fill(root);
        let report = lab.build(&[BuildRequest::all(plain.clone())]);
        let result = &report.results[0];
        assert!(!result.status.is_success());
        assert!(
            result.message.contains("No space left on device")
                || result.message.contains("disk is full")
                || result.message.contains("lack of free disk space")
                || common::lacks_namespaces(&result.message),
            "{}",
            result.message
        );
        sound(&store);
        std::fs::remove_file(root.join("ballast")).unwrap();
        if !common::lacks_namespaces(&result.message) {
            // A builder that fills it fails, with a hint; there is room again afterwards.
            let report = lab.build(&[BuildRequest::all(greedy)]);
            let result = &report.results[0];
            assert_eq!(result.status, BuildStatus::TransientFailure, "{result:?}");
            assert!(
                result.message.contains(
                    "note: build failure may have been caused by lack of free disk space"
                ),
                "{}",
                result.message
            );
            sound(&store);
            // One that fills it and ends well may or may not become valid.
            let report = lab.build(&[BuildRequest::all(late)]);
            let result = &report.results[0];
            assert!(
                result.status.is_success()
                    || result.message.contains("No space left")
                    || result.message.contains("disk is full"),
                "{}",
                result.message
            );
            sound(&store);
            let report = lab.build_with(
                lab.settings(),
                &[BuildRequest::all(plain)],
                BuildMode::Normal,
            );
            lab.expect_success(&report);
            lab.verify();
        }
    } else {
        eprintln!("skipped: no /bin/sh");
    }

    // Collecting needs room for the log of the database, which is set aside for it.
    store.add_temp_root(&kept).unwrap();
    drop(lab);
    drop(store);
    let store = open(root);
    store.add_temp_root(&kept).unwrap();
    fill(root);
    store.collect_garbage(&GcOptions::default()).unwrap();
    assert!(store.is_valid(&kept).unwrap());
    assert!(!store.is_valid(&garbage).unwrap());
    sound(&store);
    store.add_text("again", &[8; 1 << 14], &none).unwrap();
    sound(&store);
}
