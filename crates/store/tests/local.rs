//! The local store, in folders of its own.
#![cfg(feature = "machine")]

use nivis_store::local::{LocalStore, PathInfo, StoreConfig};
use nivis_store::{Derivation, DerivationOutput, DrvHashMemo, ErrorKind, StoreDir, StorePath};
use std::collections::BTreeSet;
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
