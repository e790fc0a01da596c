//! The local store, in folders of its own.
#![cfg(feature = "machine")]

use nivis_store::ingest::{hash_tree, nar_hash};
use nivis_store::local::{
    GcAction, GcOptions, LocalStore, OptimiseStats, PathInfo, StoreConfig, VerifyOptions,
};
use nivis_store::nar::FileSystem;
use nivis_store::{
    ContentAddressMethod, Derivation, DerivationOutput, DrvHashMemo, ErrorKind, HashAlgorithm,
    StoreDir, StorePath,
};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

struct Home {
    _dir: tempfile::TempDir,
    store: Arc<LocalStore>,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let store = LocalStore::open(StoreConfig::at_root(StoreDir::default(), root)).unwrap();
    Home { _dir: dir, store }
}

fn set(paths: &[&StorePath]) -> BTreeSet<StorePath> {
    paths.iter().map(|p| (*p).clone()).collect()
}

#[test]
fn texts_are_added_and_queried() {
    let Home { store, .. } = &home();
    let a = store.add_text("a", b"hello", &BTreeSet::new()).unwrap();
    let text = format!("see {}", store.print(&a));
    let b = store.add_text("b", text.as_bytes(), &set(&[&a])).unwrap();
    assert_eq!(a, store.add_text("a", b"hello", &BTreeSet::new()).unwrap());
    assert!(store.is_valid(&a).unwrap());
    assert_eq!(std::fs::read(store.real_path(&b)).unwrap(), text.as_bytes());
    let info = store.query_path_info(&b).unwrap();
    assert_eq!(info.references, set(&[&a]));
    assert!(info.content_address.is_some());
    assert_eq!(store.closure([&b]).unwrap(), set(&[&a, &b]));
    assert_eq!(store.topo_sort([&b, &a]).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(store.query_referrers(&a).unwrap(), set(&[&b]));
    assert_eq!(
        store.query_path_from_hash_part(a.hash_part()).unwrap(),
        Some(a.clone())
    );
    assert_eq!(
        store.query_path_from_hash_part(&"0".repeat(32)).unwrap(),
        None
    );
    assert_eq!(store.invalidate(&a).unwrap_err().kind(), ErrorKind::InUse);
    store.invalidate(&b).unwrap();
    store.invalidate(&a).unwrap();
    assert!(store.query_all_valid().unwrap().is_empty());
    let error = store.query_path_info(&a).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotValid);
    assert_eq!(
        error.message(),
        format!("path '{}' is not valid", store.print(&a))
    );
}

#[test]
fn derivations_are_checked() {
    let Home { store, .. } = &home();
    let mut drv = Derivation::new("example");
    drv.platform = "x86_64-linux".into();
    drv.builder = "/bin/sh".into();
    drv.outputs.insert("out".into(), DerivationOutput::Deferred);
    let path = drv
        .finish(store.store_dir(), &mut DrvHashMemo::new())
        .unwrap();
    assert_eq!(store.add_derivation(&drv).unwrap(), path);
    assert_eq!(store.read_derivation(&path).unwrap(), drv);
    let outputs = store.query_output_map(&path).unwrap();
    let out = outputs["out"].clone().unwrap();
    assert_eq!(store.query_static_outputs(&path).unwrap()["out"], out);
    assert_eq!(store.query_valid_derivers(&out).unwrap(), set(&[&path]));

    // An output path that does not follow from the derivation.
    let wrong = StorePath::from_base_name("m0iyz1rzcgxw68h6skk8b9sg0p0napwc-example").unwrap();
    drv.env.insert("out".into(), store.print(&wrong).into());
    drv.outputs
        .insert("out".into(), DerivationOutput::InputAddressed(wrong));
    assert_eq!(
        store.add_derivation(&drv).unwrap_err().kind(),
        ErrorKind::InvalidDerivation
    );
}

#[test]
fn what_is_registered_must_be_consistent() {
    let Home { store, .. } = &home();
    let a = StorePath::from_base_name("m0iyz1rzcgxw68h6skk8b9sg0p0napwc-a").unwrap();
    let b = StorePath::from_base_name("n0iyz1rzcgxw68h6skk8b9sg0p0napwc-b").unwrap();
    let hash = nivis_store::Hash::of(nivis_store::HashAlgorithm::Sha256, "x");
    let mut first = PathInfo::new(a.clone(), hash, 1);
    let mut second = PathInfo::new(b.clone(), hash, 1);
    first.references = set(&[&a, &b]);
    assert_eq!(
        store.register([&first]).unwrap_err().kind(),
        ErrorKind::NotValid
    );
    assert!(store.query_all_valid().unwrap().is_empty());
    second.references = set(&[&a]);
    let error = store.register([&first, &second]).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("cycle detected in the references of")
    );
    second.references.clear();
    store.register([&first, &second]).unwrap();
    assert_eq!(store.query_references(&a).unwrap(), set(&[&a, &b]));
}

#[test]
fn locks_exclude_each_other() {
    let Home { store, .. } = &home();
    let a = StorePath::from_base_name("m0iyz1rzcgxw68h6skk8b9sg0p0napwc-a").unwrap();
    let mut held = store.lock_paths([&a], false).unwrap().unwrap();
    assert!(store.lock_paths([&a], false).unwrap().is_none());
    held.set_deletion(true);
    let waiting = {
        let (store, a) = (store.clone(), a.clone());
        std::thread::spawn(move || store.lock_paths([&a], true).unwrap().is_some())
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(held);
    assert!(waiting.join().unwrap());
}

fn tree(dir: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let top = dir.join("tree");
    std::fs::create_dir_all(top.join("sub/empty")).unwrap();
    std::fs::write(top.join("file"), "hello").unwrap();
    std::fs::write(top.join("sub/same"), "hello").unwrap();
    std::fs::write(top.join("sub/run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(top.join("sub/run"), std::fs::Permissions::from_mode(0o4750)).unwrap();
    std::os::unix::fs::symlink("../file", top.join("sub/link")).unwrap();
    top
}

fn check_canonical(path: &std::path::Path) {
    use std::os::unix::fs::MetadataExt;
    let meta = path.symlink_metadata().unwrap();
    assert_eq!(meta.mtime(), 1, "{path:?}");
    if meta.is_dir() {
        assert_eq!(meta.mode() & 0o7777, 0o555, "{path:?}");
        for entry in std::fs::read_dir(path).unwrap() {
            check_canonical(&entry.unwrap().path());
        }
    } else if meta.is_file() {
        let mode = meta.mode() & 0o7777;
        assert!(matches!(mode, 0o444 | 0o555), "{path:?}");
    }
}

#[test]
fn trees_are_added_and_linked() {
    use std::os::unix::fs::MetadataExt;
    let Home { store, .. } = &home();
    let dir = tempfile::tempdir().unwrap();
    let top = tree(dir.path());
    let mut paths = Vec::new();
    for method in [
        ContentAddressMethod::Nar,
        ContentAddressMethod::Flat,
        ContentAddressMethod::Text,
        ContentAddressMethod::Git,
    ] {
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha1] {
            if (method, algorithm) == (ContentAddressMethod::Text, HashAlgorithm::Sha1) {
                continue;
            }
            let what = match method {
                ContentAddressMethod::Nar | ContentAddressMethod::Git => top.clone(),
                _ => top.join("sub/run"),
            };
            let path = store.add_path(&what, "x", method, algorithm).unwrap();
            let real = store.real_path(&path);
            check_canonical(&real);
            let info = store.query_path_info(&path).unwrap();
            let nar = nar_hash(
                &mut FileSystem,
                &FileSystem::node(&real),
                HashAlgorithm::Sha256,
            );
            assert_eq!(nar.unwrap(), (info.nar_hash, info.nar_size));
            let content = hash_tree(&mut FileSystem, &FileSystem::node(&real), method, algorithm);
            assert_eq!(content.unwrap(), info.content_address.unwrap());
            paths.push(path);
        }
    }
    let stats = store.optimise().unwrap();
    assert!(stats.files_linked > 0);
    assert_eq!(store.optimise().unwrap(), OptimiseStats::default());
    for path in &paths {
        check_canonical(&store.real_path(path));
    }
    let real = store.real_path(&paths[0]);
    let ino = |name: &str| real.join(name).metadata().unwrap().ino();
    assert_eq!(ino("file"), ino("sub/same"));
    assert!(
        store
            .verify(
                &VerifyOptions {
                    check_contents: true,
                    ..Default::default()
                },
                None
            )
            .unwrap()
            .ok()
    );
    // Larger than what is kept in memory, so unpacked on the way.
    let large = dir.path().join("large");
    std::fs::create_dir(&large).unwrap();
    std::fs::write(large.join("data"), vec![7; 20 << 20]).unwrap();
    let path = store
        .add_path(
            &large,
            "large",
            ContentAddressMethod::Nar,
            HashAlgorithm::Sha256,
        )
        .unwrap();
    check_canonical(&store.real_path(&path));
    assert_eq!(
        std::fs::read_dir(&store.config().real_store_dir)
            .unwrap()
            .count(),
        paths.iter().collect::<BTreeSet<_>>().len() + 2
    );
}

#[test]
fn deep_trees_can_be_deleted() {
    let Home { store, .. } = &home();
    let name = store.config().real_store_dir.join("garbage");
    std::fs::create_dir(&name).unwrap();
    let mut at = std::fs::File::open(&name).unwrap();
    for _ in 0..2000 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        at = nix::fcntl::openat(
            &at,
            "d",
            nix::fcntl::OFlag::O_DIRECTORY,
            nix::sys::stat::Mode::empty(),
        )
        .unwrap()
        .into();
    }
    store.collect_garbage(&GcOptions::default()).unwrap();
    assert!(!name.exists());
}

fn gc(store: &LocalStore, action: GcAction) -> BTreeSet<String> {
    let options = GcOptions {
        action,
        ..GcOptions::default()
    };
    store.collect_garbage(&options).unwrap().paths
}

fn printed(store: &LocalStore, paths: &[&StorePath]) -> BTreeSet<String> {
    paths.iter().map(|path| store.print(path)).collect()
}

#[test]
fn garbage_is_what_no_root_needs() {
    let Home { _dir: dir, store } = home();
    let config = store.config().clone();
    let text = |name: &str, references: &[&StorePath]| {
        store.add_text(name, b"text", &set(references)).unwrap()
    };
    let a = text("a", &[]);
    let b = text("b", &[&a]);
    let c = text("c", &[&a]);
    let link = dir.path().canonicalize().unwrap().join("result");
    assert_eq!(store.add_perm_root(&b, &link).unwrap(), link);
    // Temporary roots of this process keep all of them.
    assert!(gc(&store, GcAction::ReturnDead).is_empty());
    drop(store);
    let store = LocalStore::open(config.clone()).unwrap();
    assert_eq!(gc(&store, GcAction::ReturnDead), printed(&store, &[&c]));
    assert_eq!(gc(&store, GcAction::ReturnLive), printed(&store, &[&a, &b]));
    let roots = store.find_roots(false).unwrap();
    assert_eq!(roots.keys().collect::<Vec<_>>(), [&b]);
    assert!(roots[&b].contains(&link.display().to_string()));

    let specific = |path: &StorePath| GcOptions {
        action: GcAction::DeleteSpecific(set(&[path])),
        ..GcOptions::default()
    };
    for path in [&a, &b] {
        let error = store.collect_garbage(&specific(path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.message().contains("since it is still alive"));
    }
    // Regardless of roots, but not of referrers.
    let mut options = specific(&a);
    options.ignore_liveness = true;
    assert_eq!(
        store.collect_garbage(&options).unwrap_err().kind(),
        ErrorKind::InUse
    );
    std::fs::write(config.real_store_dir.join("stray"), "x").unwrap();
    let deleted = gc(&store, GcAction::DeleteDead);
    assert!(deleted.contains(&store.print(&c)));
    assert!(!store.is_valid(&c).unwrap() && !store.real_path(&c).exists());
    assert!(store.is_valid(&a).unwrap() && store.is_valid(&b).unwrap());
    assert!(!config.real_store_dir.join("stray").exists());

    std::fs::remove_file(&link).unwrap();
    let deleted = gc(&store, GcAction::DeleteDead);
    assert_eq!(deleted, printed(&store, &[&a, &b]));
    assert!(
        std::fs::read_dir(config.state_dir.join("gcroots/auto"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn derivers_and_outputs_keep_each_other_on_request() {
    let Home { _dir, store } = home();
    let mut config = store.config().clone();
    let mut drv = Derivation::new("example");
    drv.platform = "x".into();
    drv.builder = "/bin/sh".into();
    drv.outputs.insert("out".into(), DerivationOutput::Deferred);
    let path = drv
        .finish(store.store_dir(), &mut DrvHashMemo::new())
        .unwrap();
    store.add_derivation(&drv).unwrap();
    let out = store.query_output_map(&path).unwrap()["out"]
        .clone()
        .unwrap();
    std::fs::write(store.real_path(&out), "built").unwrap();
    let hash = nar_hash(
        &mut FileSystem,
        &FileSystem::node(store.real_path(&out)),
        HashAlgorithm::Sha256,
    )
    .unwrap();
    let mut info = PathInfo::new(out.clone(), hash.0, hash.1);
    info.deriver = Some(path.clone());
    store.register([&info]).unwrap();
    let roots = config.state_dir.join("gcroots");
    drop(store);
    for (keep_outputs, keep_derivations, root, dead) in [
        (false, true, &out, vec![]),
        (false, false, &out, vec![&path]),
        (true, false, &path, vec![]),
        (false, true, &path, vec![&out]),
    ] {
        config.settings.keep_outputs = keep_outputs;
        config.settings.keep_derivations = keep_derivations;
        let store = LocalStore::open(config.clone()).unwrap();
        let link = roots.join("root");
        std::os::unix::fs::symlink(store.print(root), &link).unwrap();
        assert_eq!(gc(&store, GcAction::ReturnDead), printed(&store, &dead));
        std::fs::remove_file(&link).unwrap();
    }
}

#[test]
fn collecting_stops_at_a_limit() {
    let Home { _dir, store } = home();
    let config = store.config().clone();
    for n in 0..10 {
        store
            .add_text(&format!("t{n}"), &[b'x'; 1000], &BTreeSet::new())
            .unwrap();
    }
    drop(store);
    let store = LocalStore::open(config).unwrap();
    let results = store
        .collect_garbage(&GcOptions {
            max_freed: 2500,
            ..GcOptions::default()
        })
        .unwrap();
    assert_eq!(results.bytes_freed, 3000);
    assert_eq!(store.query_all_valid().unwrap().len(), 7);
    assert_eq!(
        std::fs::read_dir(&store.config().real_store_dir)
            .unwrap()
            .count(),
        8
    );
}

/// Roots that others add while the collector runs, holding its lock.
#[test]
fn roots_may_come_late() {
    let Home { _dir, store } = home();
    let config = store.config().clone();
    let a = store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let b = store.add_text("b", b"b", &set(&[&a])).unwrap();
    let c = store.add_text("c", b"c", &BTreeSet::new()).unwrap();
    drop(store);
    let store = LocalStore::open(config.clone()).unwrap();
    let other = LocalStore::open(config).unwrap();
    let (late, added) = (b.clone(), std::sync::mpsc::channel());
    let (done, waiting) = (std::sync::Mutex::new(added.0), added.1);
    let options = GcOptions {
        stage: Some(Arc::new(move |stage| {
            let other = other.clone();
            let late = late.clone();
            match stage {
                nivis_store::local::GcStage::Locked => {
                    // Nobody listens yet: this waits until somebody does.
                    let done = done.lock().unwrap().clone();
                    std::thread::spawn(move || {
                        other.add_temp_root(&late).unwrap();
                        let new = other.add_text("new", b"new", &set(&[&late])).unwrap();
                        done.send((other, new)).unwrap();
                    });
                }
                nivis_store::local::GcStage::RootsFound => {
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
            }
        })),
        ..GcOptions::default()
    };
    let results = store.collect_garbage(&options).unwrap();
    let (_other, new) = waiting.recv().unwrap();
    let deleted: BTreeSet<String> = results.paths;
    assert_eq!(deleted, printed(&store, &[&c]));
    for path in [&a, &b, &new] {
        assert!(store.is_valid(path).unwrap(), "{path}");
        assert!(store.real_path(path).exists());
    }
}

#[test]
fn exports_are_imported_elsewhere() {
    let from = home();
    let to = home();
    let dir = tempfile::tempdir().unwrap();
    let a = from
        .store
        .add_path(
            &tree(dir.path()),
            "tree",
            ContentAddressMethod::Nar,
            HashAlgorithm::Sha256,
        )
        .unwrap();
    let b = from.store.add_text("b", b"b", &set(&[&a])).unwrap();
    let bytes = from.store.export([&b, &a], Vec::new()).unwrap();
    assert_eq!(to.store.import(&bytes[..]).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(to.store.closure([&b]).unwrap(), set(&[&a, &b]));
    check_canonical(&to.store.real_path(&a));
    assert_eq!(
        to.store.query_path_info(&a).unwrap().nar_hash,
        from.store.query_path_info(&a).unwrap().nar_hash
    );
    // Again, and cut off.
    assert_eq!(to.store.import(&bytes[..]).unwrap().len(), 2);
    assert!(to.store.import(&bytes[..bytes.len() - 9]).is_err());

    let mut text = Vec::new();
    from.store.dump_infos([&a, &b], &mut text).unwrap();
    let third = home();
    for path in [&a, &b] {
        let nar = from.store.write_nar(path, Vec::new()).unwrap();
        nivis_store::local::restore_nar(
            &nar[..],
            &third.store.real_path(path),
            nivis_store::local::Metadata::Ordinary,
        )
        .unwrap();
    }
    let options = nivis_store::local::LoadOptions {
        hash_given: true,
        canonicalise: true,
        ..Default::default()
    };
    third.store.load_infos(&text[..], &options).unwrap();
    check_canonical(&third.store.real_path(&a));
    assert!(verify(&third.store).ok());
}

fn verify(store: &LocalStore) -> nivis_store::local::VerifyReport {
    let options = VerifyOptions {
        check_contents: true,
        repair: false,
    };
    store.verify(&options, None).unwrap()
}

#[test]
fn damage_is_found_and_mended() {
    use std::os::unix::fs::PermissionsExt;
    let Home { _dir, store } = &home();
    let a = store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let b = store.add_text("b", b"b", &set(&[&a])).unwrap();
    let c = store.add_text("c", b"c", &BTreeSet::new()).unwrap();
    let info = store.query_path_info(&a).unwrap();
    let nar = store.write_nar(&a, Vec::new()).unwrap();
    assert!(verify(store).ok());
    let real = store.real_path(&a);
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&real, "changed").unwrap();
    std::fs::remove_file(store.real_path(&c)).unwrap();
    assert!(store.check_contents(&a).unwrap().is_some());
    assert!(store.export([&a], Vec::new()).is_err());
    let report = verify(store);
    assert!(!report.ok());
    assert_eq!(report.damaged, set(&[&a]));
    assert_eq!(report.removed, set(&[&c]));
    std::fs::remove_file(&real).unwrap();
    assert_eq!(verify(store).damaged, set(&[&a]));
    let repair = |path: &StorePath| {
        assert_eq!(*path, a);
        store.add_nar(&info, &nar[..], true).map(|_| ())
    };
    let options = VerifyOptions {
        check_contents: true,
        repair: true,
    };
    let report = store.verify(&options, Some(&repair)).unwrap();
    assert!(report.ok());
    assert_eq!(report.repaired, set(&[&a]));
    assert!(verify(store).ok());
    assert!(store.is_valid(&b).unwrap());
}

#[test]
fn archives_are_checked_when_added() {
    let from = home();
    let to = home();
    let a = from.store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let info = from.store.query_path_info(&a).unwrap();
    let nar = from.store.write_nar(&a, Vec::new()).unwrap();
    let mut damaged = nar.clone();
    let at = nar
        .windows(8)
        .position(|w| w == b"a\0\0\0\0\0\0\0")
        .unwrap();
    damaged[at] = b'b';
    let error = to.store.add_nar(&info, &damaged[..], false).unwrap_err();
    assert!(
        error.message().contains("hash mismatch importing path"),
        "{error}"
    );
    let mut other = info.clone();
    other.nar_size += 1;
    assert!(to.store.add_nar(&other, &nar[..], false).is_err());
    let mut other = info.clone();
    other.references.insert(a.clone());
    assert!(to.store.add_nar(&other, &nar[..], false).is_err());
    assert!(!to.store.real_path(&a).exists());
    to.store.add_nar(&info, &nar[..], false).unwrap();
    assert_eq!(
        to.store.query_path_info(&a).unwrap().nar_hash,
        info.nar_hash
    );
}

#[test]
fn names_that_differ_in_case_only() {
    use nivis_store::local::{CaseHack, restore_nar_case_hack};
    let mut writer = nivis_store::nar::NarWriter::new(Vec::new()).unwrap();
    writer.begin_directory().unwrap();
    for name in ["A", "B", "a"] {
        writer.entry(name.as_bytes()).unwrap();
        writer.regular(false, name.as_bytes()).unwrap();
    }
    writer.end_directory().unwrap();
    let nar = writer.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("x");
    restore_nar_case_hack(&nar[..], &top).unwrap();
    assert_eq!(std::fs::read(top.join("a~nix~case~hack~1")).unwrap(), b"a");
    let again = nivis_store::nar::write_nar(&mut CaseHack, &FileSystem::node(&top), Vec::new());
    assert_eq!(again.unwrap(), nar);
    std::fs::write(top.join("A~nix~case~hack~7"), "").unwrap();
    let again = nivis_store::nar::write_nar(&mut CaseHack, &FileSystem::node(&top), Vec::new());
    assert!(again.unwrap_err().message().contains("collision"));
}

#[test]
fn a_store_may_be_read_only() {
    let Home { _dir, store } = home();
    let a = store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let mut config = store.config().clone();
    drop(store);
    config.read_only = true;
    let store = LocalStore::open(config.clone()).unwrap();
    assert_eq!(store.add_text("a", b"a", &BTreeSet::new()).unwrap(), a);
    assert_eq!(store.closure([&a]).unwrap(), set(&[&a]));
    let error = store.add_text("b", b"b", &BTreeSet::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert!(store.collect_garbage(&GcOptions::default()).is_err());
    assert!(store.invalidate(&a).is_err());
    // One that does not exist cannot be made.
    config.state_dir.push("other");
    assert!(LocalStore::open(config).is_err());
}

#[test]
fn old_databases_are_brought_up_to_date() {
    let Home { _dir, store } = home();
    let a = store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let b = store.add_text("b", b"b", &set(&[&a])).unwrap();
    let config = store.config().clone();
    drop(store);
    let db = config.state_dir.join("db");
    // As Nix 1.0 to 1.11 left it.
    let age = |version: &str, columns: &[&str]| {
        let connection = rusqlite::Connection::open(db.join("db.sqlite")).unwrap();
        for column in columns {
            connection
                .execute_batch(&format!("alter table ValidPaths drop column {column}"))
                .unwrap();
        }
        connection
            .execute_batch(
                "create table if not exists FailedPaths (path text primary key not null, time integer not null);
                 drop table if exists SchemaMigrations",
            )
            .unwrap();
        fs::write(db.join("schema"), version).unwrap();
    };
    for (version, columns) in [
        ("6", &["ca", "sigs", "ultimate"][..]),
        ("7", &["ca", "sigs", "ultimate"]),
        ("8\n", &["ca"]),
        ("9", &["ca"]),
        // Killed before the version was written.
        ("7", &[]),
    ] {
        age(version, columns);
        let mut reader = config.clone();
        reader.read_only = true;
        assert!(
            LocalStore::open(reader)
                .unwrap_err()
                .message()
                .contains("database schema needs migrating")
        );
        // Several at once.
        let stores = std::thread::scope(|scope| {
            let open = || LocalStore::open(config.clone()).unwrap();
            let threads = [scope.spawn(open), scope.spawn(open), scope.spawn(open)];
            threads.map(|thread| thread.join().unwrap())
        });
        let store = &stores[0];
        assert_eq!(fs::read_to_string(db.join("schema")).unwrap(), "10");
        assert_eq!(store.closure([&b]).unwrap(), set(&[&a, &b]));
        let text = format!("{version} {columns:?}");
        let c = store.add_text("c", text.as_bytes(), &set(&[&b])).unwrap();
        assert!(store.query_path_info(&c).unwrap().content_address.is_some());
        assert!(verify(store).ok());
    }
    for version in ["4", "5", "11"] {
        age(version, &[]);
        let error = LocalStore::open(config.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database);
        assert!(error.message().contains("store"), "{error}");
    }
}

#[test]
fn realisations_are_kept() {
    use nivis_store::local::Realisation;
    let Home { store, .. } = &home();
    let a = store.add_text("a", b"a", &BTreeSet::new()).unwrap();
    let b = store.add_text("b", b"b", &BTreeSet::new()).unwrap();
    assert_eq!(store.find_realisation(&[1; 32], "out").unwrap(), None);
    let mut realisation = Realisation {
        drv_hash: [1; 32],
        output: "out".into(),
        path: a.clone(),
        signatures: ["k:x".to_owned()].into(),
    };
    store.register_realisation(&realisation).unwrap();
    store.register_realisation(&realisation).unwrap();
    let found = store.find_realisation(&[1; 32], "out").unwrap();
    assert_eq!(found.as_ref(), Some(&realisation));
    realisation.path = b;
    let error = store.register_realisation(&realisation).unwrap_err();
    assert!(
        error
            .message()
            .contains("we already have another one locally")
    );
    // It goes with the path.
    store.invalidate(&a).unwrap();
    assert_eq!(store.find_realisation(&[1; 32], "out").unwrap(), None);
}

/// The folder in which new contents lie for a moment must stay writable, which matters to ordinary users.
#[test]
fn repaired_contents_are_linked() {
    let Home { _dir, store } = home();
    let mut config = store.config().clone();
    drop(store);
    config.settings.auto_optimise = true;
    let store = LocalStore::open(config).unwrap();
    let a = store.add_text("a", b"same", &BTreeSet::new()).unwrap();
    let b = store.add_text("b", b"same", &BTreeSet::new()).unwrap();
    for path in [&a, &b] {
        let info = store.query_path_info(path).unwrap();
        let nar = store.write_nar(path, Vec::new()).unwrap();
        store.add_nar(&info, &nar[..], true).unwrap();
    }
    assert!(verify(&store).ok());
    check_canonical(&store.real_path(&a));
}
