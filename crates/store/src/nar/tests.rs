//! Hashes in here were taken from C++ Nix 2.34.8.

use super::read::*;
use super::write::*;
use super::*;
use crate::error::ErrorKind;
use crate::hash::{HashAlgorithm, HashFormat};
use crate::ingest::{GitMode, flat_hash, git_hash, nar_hash};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Entries = BTreeMap<Vec<u8>, Tree>;

/// A tree in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tree {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Folder(Entries),
}

/// Gives entries in the wrong order, and leaves out those of one name.
struct Memory {
    hidden: &'static [u8],
}

impl NarSource for Memory {
    type Node = (Vec<u8>, Tree);
    type Error = Error;

    fn kind(&mut self, node: &Self::Node) -> Result<NodeKind> {
        Ok(match node.1 {
            Tree::File(executable, _) => NodeKind::Regular { executable },
            Tree::Link(_) => NodeKind::Symlink,
            Tree::Folder(_) => NodeKind::Directory,
        })
    }

    fn read_dir(&mut self, node: &Self::Node) -> Result<Vec<(Vec<u8>, Self::Node)>> {
        let Tree::Folder(entries) = &node.1 else {
            return Err(bad("no folder"));
        };
        let entry = |(name, tree): (&Vec<u8>, &Tree)| (name.clone(), (name.clone(), tree.clone()));
        Ok(entries.iter().rev().map(entry).collect())
    }

    fn read_link(&mut self, node: &Self::Node) -> Result<Vec<u8>> {
        match &node.1 {
            Tree::Link(target) => Ok(target.clone()),
            _ => Err(bad("no link")),
        }
    }

    fn read_file(&mut self, node: &Self::Node, out: &mut dyn FileSink) -> Result<()> {
        match &node.1 {
            Tree::File(_, data) => copy_file(&mut data.as_slice(), data.len() as u64, out),
            _ => Err(bad("no file")),
        }
    }

    fn include(&mut self, node: &Self::Node) -> Result<bool> {
        Ok(node.0 != self.hidden)
    }
}

const ALL: Memory = Memory { hidden: b"" };

fn folder(entries: &[(&str, Tree)]) -> Tree {
    let entry = |(name, tree): &(&str, Tree)| (name.as_bytes().to_vec(), tree.clone());
    Tree::Folder(entries.iter().map(entry).collect())
}

fn file(executable: bool, data: &str) -> Tree {
    Tree::File(executable, data.into())
}

/// The tree whose hashes were taken from the reference.
fn sample() -> Tree {
    folder(&[
        ("file", file(false, "hello")),
        ("a", file(false, "")),
        ("a-b", file(false, "y")),
        ("a.d", folder(&[("\u{e9}", file(false, "x"))])),
        (
            "dir",
            folder(&[
                ("eight", file(false, "12345678")),
                ("empty", folder(&[])),
                ("link", Tree::Link(b"../file".to_vec())),
                ("run", file(true, "#!/bin/sh\n")),
            ]),
        ),
    ])
}

fn archive(tree: &Tree) -> Vec<u8> {
    write_nar(&mut { ALL }, &(Vec::new(), tree.clone()), Vec::new()).unwrap()
}

#[test]
fn hashes_of_the_reference() {
    let root = (Vec::new(), sample());
    for (algorithm, hash) in [
        (
            HashAlgorithm::Sha256,
            "bff647128f0b6600a39b79bcf4c688e0a7caba01ee667e37e16bd9601f0fc5a8",
        ),
        (
            HashAlgorithm::Sha1,
            "de6de58409875b387513dd3435476def5fc57309",
        ),
        (HashAlgorithm::Md5, "55d00494a6e7775e28d65898f62bd2cb"),
    ] {
        let (found, len) = nar_hash(&mut { ALL }, &root, algorithm).unwrap();
        assert_eq!(
            (found.encode(HashFormat::Base16).as_str(), len),
            (hash, 1976)
        );
    }
    for (algorithm, hash) in [
        (
            HashAlgorithm::Sha1,
            "ad1c98db74daf5b5c706001fa22bfbef70e95159",
        ),
        (
            HashAlgorithm::Sha256,
            "7bac8a49891ae3540def33c9b0daace476063cb1386bc801d12860d2c626f535",
        ),
    ] {
        let (mode, found) = git_hash(&mut { ALL }, &root, algorithm).unwrap();
        assert_eq!(found.encode(HashFormat::Base16), hash);
        assert_eq!(mode, GitMode::Directory);
    }
    for (tree, nar, git) in [
        (
            Tree::Link(b"../file".to_vec()),
            "d0e7a28dc5954edda3107ec9918bcc00c109d813ed8c14d0b7388444bee51e8f",
            (GitMode::Symlink, "74bb61d1b06b17257e6f0cd915085f2ca06dba61"),
        ),
        (
            file(true, "#!/bin/sh\n"),
            "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554",
            (
                GitMode::Executable,
                "1a2485251c33a70432394c93fb89330ef214bfc9",
            ),
        ),
    ] {
        let root = (Vec::new(), tree);
        let (found, _) = nar_hash(&mut { ALL }, &root, HashAlgorithm::Sha256).unwrap();
        assert_eq!(found.encode(HashFormat::Base16), nar);
        let (mode, found) = git_hash(&mut { ALL }, &root, HashAlgorithm::Sha1).unwrap();
        assert_eq!((mode, found.encode(HashFormat::Base16).as_str()), git);
    }
    assert!(git_hash(&mut { ALL }, &root, HashAlgorithm::Md5).is_err());
    assert!(flat_hash(&mut { ALL }, &root, HashAlgorithm::Sha256).is_err());
}

#[test]
fn what_is_not_included_is_left_out() {
    let mut source = Memory { hidden: b"dir" };
    let root = (Vec::new(), sample());
    let nar = write_nar(&mut source, &root, Vec::new()).unwrap();
    let Tree::Folder(mut entries) = sample() else {
        unreachable!()
    };
    entries.remove(&b"dir"[..]);
    let rest = Tree::Folder(entries);
    assert_eq!(nar, archive(&rest));
    let rest = (Vec::new(), rest);
    assert_eq!(
        git_hash(&mut source, &root, HashAlgorithm::Sha1).unwrap(),
        git_hash(&mut { ALL }, &rest, HashAlgorithm::Sha1).unwrap()
    );
}

#[cfg(unix)]
#[test]
fn the_file_system_is_a_source() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = std::env::temp_dir().join(format!("nivis-nar-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("run"), std::fs::Permissions::from_mode(0o744)).unwrap();
    std::fs::write(dir.join("sub/file"), vec![b'x'; 300_000]).unwrap();
    symlink("nowhere", dir.join("link")).unwrap();
    let nar = write_nar(&mut FileSystem, &FileSystem::node(&dir), Vec::new());
    std::fs::remove_dir_all(&dir).unwrap();
    let tree = folder(&[
        ("run", file(true, "#!/bin/sh\n")),
        ("link", Tree::Link(b"nowhere".to_vec())),
        (
            "sub",
            folder(&[("file", file(false, &"x".repeat(300_000)))]),
        ),
    ]);
    assert!(nar.unwrap() == archive(&tree));
    let gone = write_nar(&mut FileSystem, &FileSystem::node(&dir), Vec::new()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Io(io::ErrorKind::NotFound));
}

/// Reads an archive into a tree, with a stack of its own.
fn read(input: &[u8]) -> Result<Tree> {
    let mut reader = NarReader::new(input);
    let mut stack: Vec<(Vec<u8>, Entries)> = Vec::new();
    let mut name = Vec::new();
    let mut root = None;
    loop {
        let mut contents = None;
        let tree = match reader.next_event()? {
            None => break,
            Some(NarEvent::Directory) => {
                stack.push((std::mem::take(&mut name), BTreeMap::new()));
                continue;
            }
            Some(NarEvent::Entry { name: entry }) => {
                name = entry.to_vec();
                continue;
            }
            Some(NarEvent::EndDirectory) => {
                let (outer, entries) = stack.pop().unwrap();
                name = outer;
                Tree::Folder(entries)
            }
            Some(NarEvent::Symlink { target }) => Tree::Link(target.to_vec()),
            Some(NarEvent::Regular { executable, len }) => {
                contents = Some(len);
                Tree::File(executable, Vec::new())
            }
        };
        let tree = match (tree, contents) {
            (Tree::File(executable, mut data), Some(len)) => {
                let mut buffer = [0; 7];
                loop {
                    let read = reader.read_contents(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    data.extend_from_slice(&buffer[..read]);
                }
                assert_eq!(data.len() as u64, len);
                Tree::File(executable, data)
            }
            (tree, _) => tree,
        };
        match stack.last_mut() {
            Some((_, entries)) => {
                entries.insert(std::mem::take(&mut name), tree);
            }
            None => root = Some(tree),
        }
    }
    reader.finish_at_end()?;
    Ok(root.unwrap())
}

/// An archive from strings, numbers and raw bytes.
fn raw(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(&mut out, MAGIC.as_bytes()).unwrap();
    for part in parts {
        write_string(&mut out, part.as_bytes()).unwrap();
    }
    out
}

#[test]
fn bad_archives_are_refused_with_their_place() {
    let dir = ["(", "type", "directory"];
    let entry = |name| ["entry", "(", "name", name, "node"];
    let link = ["(", "type", "symlink", "target", "x", ")", ")"];
    let long = "n".repeat(256);
    let entries = |names: &[&'static str]| {
        let mut parts = dir.to_vec();
        for name in names {
            parts.extend(entry(name));
            parts.extend(link);
        }
        parts.push(")");
        raw(&parts)
    };
    assert!(read(&entries(&["a", "b"])).is_ok());
    let name_at = |message: &str, at| (ErrorKind::Nar, message.to_owned(), Some(at));
    for (input, expected) in [
        (
            entries(&["b", "a"]),
            name_at("NAR directory is not sorted", 320),
        ),
        (
            entries(&["a", "a"]),
            name_at("NAR directory is not sorted", 320),
        ),
        (
            entries(&[""]),
            name_at("NAR contains invalid file name ''", 128),
        ),
        (
            entries(&["."]),
            name_at("NAR contains invalid file name '.'", 128),
        ),
        (
            entries(&[".."]),
            name_at("NAR contains invalid file name '..'", 128),
        ),
        (
            entries(&["a/b"]),
            name_at("NAR contains invalid file name 'a/b'", 128),
        ),
        (
            entries(&["a\0"]),
            name_at("NAR contains invalid file name 'a\0'", 128),
        ),
        (
            raw(&["(", "type", "fifo", ")"]),
            name_at("unknown file type 'fifo'", 56),
        ),
        (
            raw(&["(", "type", "symlink", "target", "", ")"]),
            name_at("NAR contains invalid symlink target", 88),
        ),
        (
            raw(&["(", "type", "symlink", "target", "a\0b", ")"]),
            name_at("NAR contains invalid symlink target", 88),
        ),
        (
            raw(&["(", "type", "regular", "executable", "x"]),
            (
                ErrorKind::Nar,
                "bad archive: expected tag '', got 'x'".into(),
                Some(96),
            ),
        ),
        (
            b"not an archive at all".to_vec(),
            name_at("bad archive: input doesn't look like a Nix archive", 0),
        ),
        (
            Vec::new(),
            name_at("bad archive: input doesn't look like a Nix archive", 0),
        ),
    ] {
        let error = read(&input).unwrap_err();
        let found = (error.kind(), error.message().to_owned(), error.offset());
        assert_eq!(found, expected);
    }
    let mut parts = dir.to_vec();
    parts.extend(entry(""));
    let at = parts.iter().rposition(|p| p.is_empty()).unwrap();
    parts[at] = &long;
    assert_eq!(read(&raw(&parts)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn padding_and_ends_are_checked() {
    let good = archive(&file(false, "hello"));
    read(&good).unwrap();
    // Every shorter input ends too early, every longer one too late.
    for len in 0..good.len() {
        let error = read(&good[..len]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::UnexpectedEnd | ErrorKind::Nar),
            "{len}"
        );
    }
    let mut long = good.clone();
    long.push(0);
    assert_eq!(
        read(&long).unwrap_err().message(),
        "something follows the archive"
    );
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x80;
        match read(&changed) {
            // Only the contents may be anything.
            Ok(tree) => assert_ne!(tree, file(false, "hello"), "{at}"),
            Err(e) => assert!(e.offset().is_some()),
        }
    }
}

#[test]
fn depth_is_limited() {
    let nest = |depth: usize| {
        let mut tree = file(false, "");
        for _ in 0..depth {
            tree = folder(&[("d", tree)]);
        }
        tree
    };
    let deepest = nest(MAX_DEPTH - 1);
    assert_eq!(read(&archive(&deepest)).unwrap(), deepest);
    let root = (Vec::new(), nest(MAX_DEPTH));
    let error = write_nar(&mut { ALL }, &root, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    // Git hashing counts folders alone.
    let deeper = (Vec::new(), nest(MAX_DEPTH + 1));
    assert_eq!(
        git_hash(&mut { ALL }, &deeper, HashAlgorithm::Sha1)
            .unwrap_err()
            .kind(),
        ErrorKind::Limit
    );
    let mut parts = Vec::new();
    for _ in 0..1_000_000 {
        parts.extend(["(", "type", "directory", "entry", "(", "name", "d", "node"]);
    }
    assert_eq!(read(&raw(&parts)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn files_that_change_while_they_are_read() {
    struct Sink(u64);
    impl FileSink for Sink {
        fn begin(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
        fn write(&mut self, data: &[u8]) -> Result<()> {
            self.0 += data.len() as u64;
            Ok(())
        }
    }
    let copy = |len| copy_file(&mut &b"abc"[..], len, &mut Sink(0));
    copy(3).unwrap();
    assert!(copy(2).unwrap_err().message().contains("longer"));
    assert!(copy(4).unwrap_err().message().contains("shorter"));
}

#[test]
fn the_writer_refuses_misuse() {
    let mut nar = NarWriter::new(Vec::new()).unwrap();
    assert!(nar.entry(b"a").is_err());
    assert!(nar.end_directory().is_err());
    assert!(nar.contents(b"a").is_err());
    nar.begin_directory().unwrap();
    assert!(nar.symlink(b"x").is_err());
    assert!(nar.entry(b"a/b").is_err());
    nar.entry(b"b").unwrap();
    assert!(nar.end_directory().is_err());
    nar.begin_regular(false, 3).unwrap();
    assert!(nar.contents(b"abcd").is_err());
    assert!(nar.end_directory().is_err());
    nar.contents(b"abc").unwrap();
    assert!(nar.entry(b"a").is_err());
    assert!(nar.clone().finish().is_err());
    nar.end_directory().unwrap();
    assert!(nar.symlink(b"x").is_err());
    assert!(read(&nar.finish().unwrap()).is_ok());
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::num::u8::ANY, 1..12)
        .prop_filter("not a name", |name| check_entry_name(name).is_ok())
}

fn trees() -> impl Strategy<Value = Tree> {
    let target = prop::collection::vec(1..=255u8, 1..20);
    let leaf = prop_oneof![
        (any::<bool>(), any::<Vec<u8>>()).prop_map(|(x, data)| Tree::File(x, data)),
        target.prop_map(Tree::Link),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop::collection::btree_map(names(), inner, 0..6).prop_map(Tree::Folder)
    })
}

proptest! {
    #[test]
    fn archives_round_trip(tree in trees()) {
        let nar = archive(&tree);
        prop_assert_eq!(read(&nar).unwrap(), tree);
        let (rest, copy) = copy_nar(&nar[..], Vec::new()).unwrap();
        prop_assert_eq!(rest, &[0; 0][..]);
        prop_assert_eq!(copy, nar);
    }

    #[test]
    fn damaged_archives_are_read_or_refused(tree in trees(), at: prop::sample::Index, byte: u8) {
        let mut nar = archive(&tree);
        let at = at.index(nar.len());
        nar[at] = byte;
        if let Ok(tree) = read(&nar) {
            prop_assert_eq!(archive(&tree), nar);
        }
    }
}
