//! Hashing files and folders in the ways that content addresses know: the file itself, its archive, or
//! its Git object.

use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::nar::{FileSink, NarSource, NodeKind, sort_entries, write_nar};

/// Hashes a node of a source, and everything below it.
///
/// [`Flat`](ContentAddressMethod::Flat) and [`Text`](ContentAddressMethod::Text) take a file only.
/// Memory is that of the folder lists on the way; time is that of the hash.
pub fn hash_tree<S: NarSource>(
    source: &mut S,
    root: &S::Node,
    method: ContentAddressMethod,
    algorithm: HashAlgorithm,
) -> Result<ContentAddress, S::Error> {
    let hash = match method {
        ContentAddressMethod::Nar => nar_hash(source, root, algorithm)?.0,
        ContentAddressMethod::Git => git_hash(source, root, algorithm)?.1,
        ContentAddressMethod::Flat | ContentAddressMethod::Text => {
            flat_hash(source, root, algorithm)?
        }
    };
    Ok(ContentAddress { method, hash })
}

/// The hash and the length of a node's archive.
pub fn nar_hash<S: NarSource>(
    source: &mut S,
    root: &S::Node,
    algorithm: HashAlgorithm,
) -> Result<(Hash, u64), S::Error> {
    let hasher = write_nar(source, root, Hasher::new(algorithm))?;
    let len = hasher.bytes_hashed();
    Ok((hasher.finish(), len))
}

/// The hash of a file's contents.
pub fn flat_hash<S: NarSource>(
    source: &mut S,
    file: &S::Node,
    algorithm: HashAlgorithm,
) -> Result<Hash, S::Error> {
    if !matches!(source.kind(file)?, NodeKind::Regular { .. }) {
        return Err(Error::new(
            ErrorKind::InvalidDerivation,
            "only a regular file can be hashed flat",
        )
        .into());
    }
    let mut sink = Flat(Hasher::new(algorithm));
    source.read_file(file, &mut sink)?;
    Ok(sink.0.finish())
}

struct Flat(Hasher);

impl FileSink for Flat {
    fn begin(&mut self, _len: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.0.update(data);
        Ok(())
    }
}

/// The modes that Git knows for what Nix can store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitMode {
    /// A file, `100644`.
    Regular,
    /// An executable file, `100755`.
    Executable,
    /// A symbolic link, `120000`.
    Symlink,
    /// A tree, `40000`.
    Directory,
}

impl GitMode {
    /// The mode as it stands in a tree object.
    pub const fn octal(self) -> &'static str {
        match self {
            GitMode::Regular => "100644",
            GitMode::Executable => "100755",
            GitMode::Symlink => "120000",
            GitMode::Directory => "40000",
        }
    }
}

/// The hash of a node as a Git object (blob or tree), and its mode. The algorithm must be SHA-1 or
/// SHA-256. Unlike Git, empty folders count.
pub fn git_hash<S: NarSource>(
    source: &mut S,
    root: &S::Node,
    algorithm: HashAlgorithm,
) -> Result<(GitMode, Hash), S::Error> {
    if !matches!(algorithm, HashAlgorithm::Sha1 | HashAlgorithm::Sha256) {
        return Err(Error::new(
            ErrorKind::Git,
            format!(
                "Git file ingestion must use SHA-1 or SHA-256 hash, but instead using: {algorithm}"
            ),
        )
        .into());
    }
    let mut trees: Vec<Tree<S::Node>> = Vec::new();
    let mut done = match git_node(source, root, algorithm)? {
        Visited::Tree(entries) => {
            trees.push(Tree::new(Vec::new(), entries));
            None
        }
        Visited::Blob(mode, hash) => Some((mode, hash)),
    };
    while let Some(tree) = trees.last_mut() {
        if let Some((name, node)) = tree.pending.pop() {
            if !source.include(&node)? {
                continue;
            }
            match git_node(source, &node, algorithm)? {
                Visited::Blob(mode, hash) => tree.add(name, mode, &hash),
                Visited::Tree(entries) => {
                    if trees.len() >= crate::nar::MAX_DEPTH {
                        return Err(Error::new(
                            ErrorKind::Limit,
                            format!(
                                "directory nesting exceeds maximum depth of {}",
                                crate::nar::MAX_DEPTH
                            ),
                        )
                        .into());
                    }
                    trees.push(Tree::new(name, entries));
                }
            }
        } else if let Some(tree) = trees.pop() {
            let (name, hash) = tree.finish(algorithm);
            match trees.last_mut() {
                Some(parent) => parent.add(name, GitMode::Directory, &hash),
                None => done = Some((GitMode::Directory, hash)),
            }
        }
    }
    done.ok_or_else(|| Error::new(ErrorKind::Git, "nothing to hash").into())
}

/// A tree whose entries are being hashed.
struct Tree<N> {
    name: Vec<u8>,
    /// What is left to visit, last first.
    pending: Vec<(Vec<u8>, N)>,
    /// Sort key and object line of the entries so far.
    lines: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<N> Tree<N> {
    fn new(name: Vec<u8>, pending: Vec<(Vec<u8>, N)>) -> Tree<N> {
        Tree {
            name,
            pending,
            lines: Vec::new(),
        }
    }

    fn add(&mut self, name: Vec<u8>, mode: GitMode, hash: &Hash) {
        let mut line = mode.octal().as_bytes().to_vec();
        line.push(b' ');
        line.extend_from_slice(&name);
        line.push(0);
        line.extend_from_slice(hash.as_bytes());
        // Git sorts trees as if their names ended in a slash.
        let mut key = name;
        if mode == GitMode::Directory {
            key.push(b'/');
        }
        self.lines.push((key, line));
    }

    fn finish(mut self, algorithm: HashAlgorithm) -> (Vec<u8>, Hash) {
        self.lines.sort();
        let len: usize = self.lines.iter().map(|(_, line)| line.len()).sum();
        let mut hasher = Hasher::new(algorithm);
        hasher.update(format!("tree {len}\0").as_bytes());
        for (_, line) in &self.lines {
            hasher.update(line);
        }
        (self.name, hasher.finish())
    }
}

enum Visited<N> {
    Blob(GitMode, Hash),
    Tree(Vec<(Vec<u8>, N)>),
}

fn git_node<S: NarSource>(
    source: &mut S,
    node: &S::Node,
    algorithm: HashAlgorithm,
) -> Result<Visited<S::Node>, S::Error> {
    Ok(match source.kind(node)? {
        NodeKind::Directory => Visited::Tree(sort_entries(source.read_dir(node)?)?),
        NodeKind::Symlink => {
            let target = source.read_link(node)?;
            let mut blob = Blob::new(algorithm);
            blob.begin(target.len() as u64)?;
            blob.write(&target)?;
            Visited::Blob(GitMode::Symlink, blob.finish()?)
        }
        NodeKind::Regular { executable } => {
            let mut blob = Blob::new(algorithm);
            source.read_file(node, &mut blob)?;
            let mode = match executable {
                true => GitMode::Executable,
                false => GitMode::Regular,
            };
            Visited::Blob(mode, blob.finish()?)
        }
    })
}

struct Blob {
    hasher: Hasher,
    left: Option<u64>,
}

impl Blob {
    fn new(algorithm: HashAlgorithm) -> Blob {
        Blob {
            hasher: Hasher::new(algorithm),
            left: None,
        }
    }

    fn finish(mut self) -> Result<Hash> {
        if self.left.is_none() {
            self.begin(0)?;
        }
        match self.left {
            Some(0) => Ok(self.hasher.finish()),
            _ => Err(wrong_length()),
        }
    }
}

fn wrong_length() -> Error {
    Error::new(ErrorKind::Git, "file has not the length announced")
}

impl FileSink for Blob {
    fn begin(&mut self, len: u64) -> Result<()> {
        if self.left.is_some() {
            return Err(wrong_length());
        }
        self.left = Some(len);
        self.hasher.update(format!("blob {len}\0").as_bytes());
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.left = self
            .left
            .and_then(|left| left.checked_sub(data.len() as u64));
        if self.left.is_none() {
            return Err(wrong_length());
        }
        self.hasher.update(data);
        Ok(())
    }
}
