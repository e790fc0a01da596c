//! A local store that several use at once, or that somebody left in the middle of something.
#![cfg(feature = "machine")]

use nivis_store::hash::sha256;
use nivis_store::local::{
    AutoGc, GcOptions, LocalStore, PathInfo, PathLocks, StoreConfig, VerifyOptions,
};
use nivis_store::nar::{FileSink, NarSource, NodeKind, write_file_nar};
use nivis_store::{
    ContentAddressMethod, Error, ErrorKind, Hash, HashAlgorithm, StoreDir, StorePath,
    StoreReferences,
};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

struct Home {
    dir: tempfile::TempDir,
    store: Arc<LocalStore>,
}

fn config(dir: &tempfile::TempDir) -> StoreConfig {
    StoreConfig::at_root(StoreDir::default(), dir.path().canonicalize().unwrap())
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(config(&dir)).unwrap();
    Home { dir, store }
}

/// What is beside a path (its lock, the root of its builder) has its hash part, but may have too long a name for a path.
#[test]
fn what_is_beside_paths_with_long_names_is_not_garbage() {
    let home = home();
    let Home { dir, store } = &home;
    let other = LocalStore::open(config(dir)).unwrap();
    for len in [200, 205, 206, 207, 211] {
        let hash: [u8; 20] = sha256(format!("{len}"))[..20].try_into().unwrap();
        let path = StorePath::from_parts(hash, &"n".repeat(len)).unwrap();
        store.add_temp_root(&path).unwrap();
        let real = store.real_path(&path);
        let locks = PathLocks::acquire([real.clone()], true, &|_| {}).unwrap();
        let mut beside = real.clone().into_os_string();
        beside.push(".chroot");
        fs::create_dir(&beside).unwrap();
        other.collect_garbage(&GcOptions::default()).unwrap();
        assert!(fs::exists(&beside).unwrap(), "{len}");
        // Nobody else gets the lock.
        let again = PathLocks::acquire([real.clone()], false, &|_| {}).unwrap();
        assert!(again.is_none(), "{len}");
        drop(locks);
    }
    // Until whoever needs it has gone.
    let Home { dir, store } = home;
    drop(store);
    let other = LocalStore::open(config(&dir)).unwrap();
    other.collect_garbage(&GcOptions::default()).unwrap();
    let left = fs::read_dir(&other.config().real_store_dir).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".links"]);
}

/// Fails unless something is done soon.
fn soon(what: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    wait.recv_timeout(Duration::from_secs(60)).unwrap();
}

/// Verifying keeps collectors away; repairing builds, and builds collect when the disk gets full.
#[test]
fn repairs_may_collect() {
    soon(|| {
        let Home { dir, store } = &home();
        let path = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
        fs::remove_file(store.real_path(&path)).unwrap();
        fs::write(store.real_path(&path), "damaged").unwrap();
        let free = dir.path().join("free");
        fs::write(&free, "1").unwrap();
        let auto = AutoGc {
            min_free: 10,
            max_free: 20,
            check_interval: Duration::ZERO,
            free_space_file: Some(free),
        };
        let options = VerifyOptions {
            check_contents: true,
            repair: true,
        };
        let repaired = AtomicBool::new(false);
        let repair = |_: &StorePath| {
            store.auto_gc(&auto, false)?;
            repaired.store(true, Ordering::Relaxed);
            Ok(())
        };
        store.verify(&options, Some(&repair)).unwrap();
        assert!(repaired.load(Ordering::Relaxed));
    });
}

/// A process that was killed may have had the number that this one has.
#[test]
fn links_that_were_left_behind_are_not_in_the_way() {
    let Home { dir, store } = &home();
    let path = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
    let link = dir.path().join("result");
    for n in 0..100 {
        let left = format!("result.tmp-{}-{n}", std::process::id());
        std::os::unix::fs::symlink("nowhere", dir.path().join(left)).unwrap();
    }
    store.add_perm_root(&path, &link).unwrap();
    assert_eq!(
        fs::read_link(&link).unwrap().to_str().unwrap(),
        store.print(&path)
    );
}

/// Whoever looks for roots removes those that lead nowhere, and must not remove one that was just made anew.
#[test]
fn roots_that_come_back_are_kept() {
    let Home { dir, store } = &home();
    let path = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
    let link = dir.path().join("result");
    let other = LocalStore::open(config(dir)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    other.find_roots(false).unwrap();
                }
            });
        }
        for round in 0..300u32 {
            store.add_perm_root(&path, &link).unwrap();
            let auto = store.config().state_dir.join("gcroots/auto");
            // Whoever was about to remove it has done so.
            std::thread::sleep(Duration::from_micros(300));
            let roots = fs::read_dir(auto).unwrap().count();
            if roots == 0 {
                stop.store(true, Ordering::Relaxed);
            }
            assert_ne!(roots, 0);
            fs::remove_file(&link).unwrap();
            std::thread::sleep(Duration::from_micros(u64::from(round % 7) * 30));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn archives_are_read_to_their_end_even_if_they_are_not_needed() {
    let Home { store, .. } = &home();
    let path = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
    let info = store.query_path_info(&path).unwrap();
    let mut input = write_file_nar(b"text", Vec::new()).unwrap();
    input.extend_from_slice(b"rest");
    let rest = store.add_nar(&info, &input[..], false).unwrap();
    assert_eq!(rest, b"rest");
    let error = store.add_nar(&info, &input[..50], false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEnd);
}

/// A large folder, and then an error.
struct Breaking(usize);

impl NarSource for Breaking {
    type Node = usize;
    type Error = Error;

    fn kind(&mut self, node: &usize) -> Result<NodeKind, Error> {
        Ok(match node {
            0 => NodeKind::Directory,
            _ => NodeKind::Regular { executable: false },
        })
    }

    fn read_dir(&mut self, _: &usize) -> Result<Vec<(Vec<u8>, usize)>, Error> {
        Ok((1..2000)
            .map(|n| (format!("{n:04}").into_bytes(), n))
            .collect())
    }

    fn read_link(&mut self, _: &usize) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn read_file(&mut self, node: &usize, out: &mut dyn FileSink) -> Result<(), Error> {
        if *node > self.0 {
            return Err(Error::new(ErrorKind::Nar, "broken"));
        }
        out.begin(32 * 1024)?;
        out.write(&[7; 32 * 1024])
    }
}

#[test]
fn what_cannot_be_read_to_its_end_leaves_nothing() {
    let Home { store, .. } = &home();
    for round in 0..3 {
        let error = store
            .add_source(
                "breaking",
                &mut Breaking(600 + 20 * round),
                &0,
                ContentAddressMethod::Nar,
                HashAlgorithm::Sha256,
                &StoreReferences::none(),
            )
            .unwrap_err();
        assert_eq!(error.message(), "broken");
        let left = fs::read_dir(&store.config().real_store_dir).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".links"], "{round}");
    }
}

#[test]
fn a_store_is_made_by_many_at_once() {
    for _ in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| LocalStore::open(config(&dir)).unwrap());
            }
        });
        assert_eq!(
            fs::read_to_string(dir.path().join("nix/var/nix/db/schema")).unwrap(),
            "10"
        );
    }
}

/// What is valid may be wanted again while it is repaired.
#[test]
fn paths_are_copied_by_several_at_once() {
    let (from, to) = (&home(), &home());
    for n in 0..15 {
        let text = format!("text {n}").repeat(20_000);
        let path = from
            .store
            .add_text("text", text.as_bytes(), &BTreeSet::new())
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| to.store.copy_from(&from.store, &path).unwrap());
            }
        });
    }
}

#[test]
fn sizes_and_hashes_that_are_promised() {
    let Home { store, .. } = &home();
    let nar = write_file_nar(b"x", Vec::new()).unwrap();
    let hash = Hash::from_sha256(sha256(&nar));
    let path = StorePath::from_base_name("58n44qvvh49mxyash33m1kadrd9k20gr-x").unwrap();
    let info = PathInfo::new(path, hash, nar.len() as u64 + 8);
    let error = store.add_nar(&info, &nar[..], false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[cfg(target_os = "linux")]
mod read_only_mounts {
    use super::*;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const ROOT: &str = "NIVIS_TEST_READ_ONLY_ROOT";

    /// The process that has a store folder mounted read-only.
    #[test]
    fn on_a_read_only_mount() {
        let Ok(root) = std::env::var(ROOT) else {
            return;
        };
        let (ask, asked) = mpsc::channel::<()>();
        let probe = format!("{root}/nix/store/probe");
        let other = std::thread::spawn(move || {
            asked.recv().unwrap();
            fs::write(probe, "")
        });
        let store = LocalStore::open(StoreConfig::at_root(StoreDir::default(), root)).unwrap();
        store.add_text("text", b"text", &BTreeSet::new()).unwrap();
        ask.send(()).unwrap();
        let refused = other.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    /// Root writes to a store on a read-only mount, which stays read-only for everybody else.
    #[test]
    fn are_writable_for_one_process_only() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("nix/store");
        fs::create_dir_all(&store).unwrap();
        let path = std::ffi::CString::new(store.to_str().unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "read_only_mounts::on_a_read_only_mount"])
            .env(ROOT, dir.path());
        let none = None::<&std::ffi::CStr>;
        let prepare = move || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(none, c"/", none, private, none)?;
            mount(
                Some(path.as_c_str()),
                path.as_c_str(),
                none,
                MsFlags::MS_BIND,
                none,
            )?;
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, path.as_c_str(), none, read_only, none)
        };
        // SAFETY: nothing but system calls.
        unsafe { command.pre_exec(move || Ok(prepare()?)) };
        match command.output() {
            Err(e) => eprintln!("skipped: {e}"),
            Ok(run) => assert!(
                run.status.success(),
                "{}",
                String::from_utf8_lossy(&run.stdout)
            ),
        }
    }
}
