//! Processes that work on one store are killed at random moments; afterwards the store must be whole.
//!
//! `NIVIS_CRASH_ROUNDS` says how often (a few times if it is not set), `NIVIS_CRASH_SEED` where the random
//! numbers begin.
#![cfg(feature = "machine")]

use nivis_store::local::{
    GcAction, GcOptions, LocalStore, PathInfo, Realisation, StoreConfig, VerifyOptions,
};
use nivis_store::{ContentAddressMethod, Hash, HashAlgorithm, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const WHERE: &str = "NIVIS_CRASH_STORE";
const SEED: &str = "NIVIS_CRASH_SEED";

/// Numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

fn open(root: &Path, random: &mut Random) -> Arc<LocalStore> {
    let mut config = StoreConfig::at_root(StoreDir::default(), root);
    config.settings.auto_optimise = random.next(2) == 0;
    config.settings.reserved_space = 4096;
    LocalStore::open(config).unwrap()
}

/// What runs in the processes that are killed. Lines on the output are promises: `+PATH` is valid and has
/// a root from now on, `-PATH` may go.
#[test]
fn work_until_killed() {
    let Some(root) = std::env::var_os(WHERE).map(PathBuf::from) else {
        return;
    };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let random = &mut Random(seed);
    loop {
        let store = open(&root, random);
        for _ in 0..random.next(30) {
            step(&store, &root, random);
        }
    }
}

fn promise(sign: char, path: &StorePath) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{sign}{path}").unwrap();
    out.flush().unwrap();
}

fn step(store: &LocalStore, root: &Path, random: &mut Random) {
    let name = format!("n{}", random.next(40));
    let links = root.join("links");
    match random.next(12) {
        // A text that refers to something that has a root, which keeps it there.
        0..=3 => {
            let mut references = BTreeSet::new();
            if let Some((_, path)) = some_link(store, &links, random) {
                store.add_temp_root(&path).unwrap();
                if store.is_valid(&path).unwrap() {
                    references.insert(path);
                }
            }
            let text = vec![b'x'; usize::try_from(random.next(5000)).unwrap()];
            let path = store.add_text(&name, &text, &references).unwrap();
            if random.next(2) == 0 {
                let link = links.join(format!("{}-{}", std::process::id(), random.next(20)));
                if let Ok(old) = std::fs::read_link(&link) {
                    let old = old.to_string_lossy().into_owned();
                    promise('-', &store.store_dir().parse(old).unwrap());
                }
                store.add_perm_root(&path, &link).unwrap();
                promise('+', &path);
            }
        }
        4 | 5 => {
            let dir = root.join("source");
            let path = store
                .add_path(
                    &dir,
                    &name,
                    ContentAddressMethod::Nar,
                    HashAlgorithm::Sha256,
                )
                .unwrap();
            // What a builder does: several outputs become valid together.
            let outputs = ["a", "b"].map(|output| {
                let hash = format!("{name}{output}{}", random.next(3));
                let hash = nivis_store::hash::compress_hash(
                    Hash::of(HashAlgorithm::Sha256, hash).as_bytes(),
                );
                StorePath::from_parts(hash, &format!("{name}-{output}")).unwrap()
            });
            store.add_temp_roots(&outputs).unwrap();
            let locks = store.lock_paths(&outputs, true).unwrap();
            if !outputs.iter().all(|output| store.is_valid(output).unwrap()) {
                let infos = outputs.clone().map(|output| {
                    let mut info = nar_info(store, &output);
                    info.references = [output, path.clone()].into();
                    info
                });
                store.register(&infos).unwrap();
                let realisation = Realisation {
                    drv_hash: [7; 32],
                    output: name.as_str().into(),
                    path: outputs[0].clone(),
                    signatures: BTreeSet::new(),
                };
                // Another process may have realised it otherwise.
                let _ = store.register_realisation(&realisation);
            }
            drop(locks);
        }
        6 => {
            if let Some((link, path)) = some_link(store, &links, random) {
                promise('-', &path);
                let _ = std::fs::remove_file(link);
            }
        }
        7 | 8 => {
            let max_freed = match random.next(2) {
                0 => u64::MAX,
                _ => random.next(10_000),
            };
            let options = GcOptions {
                action: GcAction::DeleteDead,
                max_freed,
                ..GcOptions::default()
            };
            store.collect_garbage(&options).unwrap();
        }
        9 => {
            store.optimise().unwrap();
        }
        10 => {
            let all = store.query_all_valid().unwrap();
            let path = all.iter().nth(usize::try_from(random.next(40)).unwrap());
            if let Some(path) = path {
                store.add_temp_root(path).unwrap();
                // Replaces the contents of a valid path by the same.
                if let Ok(info) = store.query_path_info(path) {
                    let nar = store.write_nar(path, Vec::new()).unwrap();
                    store.add_nar(&info, &nar[..], true).unwrap();
                }
            }
        }
        _ => {
            if let Some((_, path)) = some_link(store, &links, random)
                && store.add_temp_root(&path).is_ok()
                && let Ok(closure) = store.closure([&path])
            {
                let export = store.export(&closure, Vec::new()).unwrap();
                store.import(&export[..]).unwrap();
            }
        }
    }
}

/// Makes the contents of a path.
fn nar_info(store: &LocalStore, path: &StorePath) -> PathInfo {
    let nar = nivis_store::nar::write_file_nar(path.base_name().as_bytes(), Vec::new()).unwrap();
    let real = store.real_path(path);
    if store.is_valid(path).unwrap() {
        return store.query_path_info(path).unwrap();
    }
    let _ = std::fs::remove_file(&real);
    let metadata = nivis_store::local::Metadata::Canonical;
    nivis_store::local::restore_nar(&nar[..], &real, metadata).unwrap();
    PathInfo::new(
        path.clone(),
        Hash::of(HashAlgorithm::Sha256, &nar),
        nar.len() as u64,
    )
}

/// One of this process's links.
fn some_link(
    store: &LocalStore,
    links: &Path,
    random: &mut Random,
) -> Option<(PathBuf, StorePath)> {
    let link = links.join(format!("{}-{}", std::process::id(), random.next(20)));
    let target = std::fs::read_link(&link).ok()?;
    let path = store.store_dir().parse(target.to_str()?).ok()?;
    Some((link, path))
}

fn start(root: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["work_until_killed", "--exact", "--nocapture"])
        .env(WHERE, root)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_random_moments() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    if std::env::var_os(WHERE).is_some() {
        return;
    }
    let rounds = number("NIVIS_CRASH_ROUNDS").unwrap_or(12);
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let random = &mut Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("source/sub")).unwrap();
    std::fs::create_dir_all(root.join("links")).unwrap();
    for n in 0..20 {
        std::fs::write(root.join(format!("source/sub/{n}")), vec![b'y'; n * 100]).unwrap();
    }
    let mut promised: BTreeSet<StorePath> = BTreeSet::new();
    for round in 0..rounds {
        let mut children: Vec<Child> = (0..2)
            .map(|_| start(&root, random.next(u64::MAX)))
            .collect();
        std::thread::sleep(Duration::from_millis(20 + random.next(250)));
        for child in &mut children {
            // SIGKILL: nothing can be tidied up.
            child.kill().unwrap();
        }
        // The links of processes that are gone stay, but no process will take their promises back.
        for child in &mut children {
            let status = child.wait().unwrap();
            assert!(status.code().is_none(), "round {round}: {}", errors(child));
            for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                let line = line.unwrap();
                let Some(path) = line
                    .get(1..)
                    .and_then(|p| StorePath::from_base_name(p).ok())
                else {
                    continue;
                };
                match line.as_bytes().first() {
                    Some(b'+') => {
                        promised.insert(path);
                    }
                    Some(b'-') => {
                        promised.remove(&path);
                    }
                    _ => {}
                }
            }
        }
        check(&root, &mut promised, round, random);
    }
}

fn errors(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut BufReader::new(stderr), &mut text);
    }
    text
}

fn check(root: &Path, promised: &mut BTreeSet<StorePath>, round: u64, random: &mut Random) {
    let store = open(root, random);
    let options = VerifyOptions {
        check_contents: true,
        repair: false,
    };
    let report = store.verify(&options, None).unwrap();
    assert!(report.ok(), "round {round}: {report:?}");
    assert!(report.removed.is_empty(), "round {round}: {report:?}");
    let valid = store.query_all_valid().unwrap();
    let links = root.join("links");
    let targets = || -> BTreeSet<String> {
        std::fs::read_dir(&links)
            .unwrap()
            .filter_map(|link| std::fs::read_link(link.unwrap().path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect()
    };
    let linked = targets();
    for path in promised.iter() {
        assert!(
            !linked.contains(&store.print(path)) || valid.contains(path),
            "round {round}: {path} is missing"
        );
    }
    // Every reference of every path is valid.
    store.closure(&valid).unwrap();
    // The processes are gone, and their links would pile up.
    for link in std::fs::read_dir(&links).unwrap() {
        if random.next(3) == 0 {
            std::fs::remove_file(link.unwrap().path()).unwrap();
        }
    }
    // A promise ends with its last link: a later link to the same path may be without a root yet when its
    // process is killed.
    let linked = targets();
    promised.retain(|path| linked.contains(&store.print(path)));
    // Whatever was left behind goes away, and nothing else.
    let before = store.find_roots(false).unwrap();
    store.collect_garbage(&GcOptions::default()).unwrap();
    let report = store.verify(&options, None).unwrap();
    assert!(report.ok() && report.removed.is_empty(), "round {round}");
    for root in before.keys() {
        assert!(store.is_valid(root).unwrap(), "round {round}: {root}");
    }
    let valid = store.query_all_valid().unwrap();
    for entry in std::fs::read_dir(&store.config().real_store_dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = StorePath::from_base_name(&name).is_ok_and(|path| valid.contains(&path));
        assert!(known || name == ".links", "round {round}: {name} was left");
    }
}
