//! Adding contents to the store.

use super::receive::{Received, Receiver, StoreTempDir};
use super::restore::{Metadata, restore_nar};
use super::{Canonicalise, InodesSeen, LocalStore, PathInfo};
use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::derivation::{Derivation, DerivationOutput, OutputName};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, HashFormat, Hasher, sha256};
use crate::ingest::{git_hash, hash_tree};
use crate::nar::{FileSink, FileSystem, NarSource, NodeKind, copy_nar, write_file_nar, write_nar};
use crate::store_path::{StorePath, StoreReferences};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::Path;

type KnownOutputs = HashMap<StorePath, BTreeMap<OutputName, StorePath>>;

impl LocalStore {
    /// Adds a text file, as `builtins.toFile` does, which refers to some valid paths.
    pub fn add_text(
        &self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> Result<StorePath> {
        let hash = sha256(text);
        let path = self.store_dir().make_text_path(name, &hash, references)?;
        self.add_text_at(&path, text, hash, references, &HashMap::new())?;
        Ok(path)
    }

    /// Adds a complete derivation (see [`Derivation::finish`]) and gives its path. What it refers to must
    /// be valid.
    pub fn add_derivation(&self, drv: &Derivation) -> Result<StorePath> {
        let text = drv.to_aterm(self.store_dir())?;
        let references = drv.references().into_iter().cloned().collect();
        let name = format!("{}.drv", drv.name);
        let hash = sha256(&text);
        let path = self.store_dir().make_text_path(&name, &hash, &references)?;
        let mut known = HashMap::new();
        // Such outputs cannot be wrong: their paths are computed, not written down.
        let computed = |output: &DerivationOutput| {
            matches!(
                output,
                DerivationOutput::CaFloating { .. } | DerivationOutput::Impure { .. }
            )
        };
        if drv.outputs.values().all(computed) {
            known.insert(path.clone(), BTreeMap::new());
        }
        self.add_text_at(&path, &text, hash, &references, &known)?;
        Ok(path)
    }

    fn add_text_at(
        &self,
        path: &StorePath,
        text: &[u8],
        hash: [u8; 32],
        references: &BTreeSet<StorePath>,
        known: &KnownOutputs,
    ) -> Result<()> {
        self.add_once(path, false, |dest| {
            super::files::write_text(dest, text)?;
            let hasher = write_file_nar(text, Hasher::new(HashAlgorithm::Sha256))?;
            let size = hasher.bytes_hashed();
            let mut info = PathInfo::new(path.clone(), hasher.finish(), size);
            info.references = references.clone();
            info.content_address = Some(ContentAddress {
                method: ContentAddressMethod::Text,
                hash: Hash::from_sha256(hash),
            });
            Ok((info, known.clone()))
        })
    }

    /// The way that every path takes into the store; see the module's documentation. `make` writes the
    /// contents to where it is told, and tells what is to be registered. With `repair`, a path that is
    /// valid is made again: beside the old contents, which are exchanged for the new ones at once.
    fn add_once(
        &self,
        path: &StorePath,
        repair: bool,
        make: impl FnOnce(&Path) -> Result<(PathInfo, KnownOutputs)>,
    ) -> Result<()> {
        self.add_temp_root(path)?;
        if !repair && self.is_valid(path)? {
            return Ok(());
        }
        self.check_writable()?;
        let mut locks = self.lock_paths([path], true)?;
        if let Some(locks) = &mut locks {
            locks.set_deletion(true);
        }
        let real = self.real_path(path);
        if !self.is_valid(path)? {
            super::files::delete(&real)?;
            let add = || {
                let (info, known) = make(&real)?;
                self.finish_contents(&real, repair)?;
                self.register_all(vec![&info], &known)
            };
            if let Err(e) = add() {
                // Nobody would miss it, but it may be what filled the disk.
                if !self.is_valid(path)? {
                    let _ = super::files::delete(&real);
                }
                return Err(e);
            }
        } else if repair {
            let dir = StoreTempDir::create(&self.config.real_store_dir)?;
            let new = dir.path().join("x");
            let (info, known) = make(&new)?;
            self.finish_contents(&new, repair)?;
            super::files::exchange(&new, &real)?;
            self.register_all(vec![&info], &known)?;
        }
        Ok(())
    }

    /// The last steps before contents, which are canonical but perhaps for what the store folder hands
    /// down, can become valid.
    fn finish_contents(&self, real: &Path, repair: bool) -> Result<()> {
        let settings = &self.config.settings;
        if super::canonical::has_attributes(real, &settings.ignored_acls) {
            let options = Canonicalise {
                owners: None,
                ignored_acls: &settings.ignored_acls,
            };
            options.apply(real, &mut InodesSeen::new())?;
        }
        if settings.auto_optimise {
            self.optimise_path(real, &mut Default::default(), repair)?;
        }
        if settings.fsync_store_paths {
            super::files::sync_tree(real)?;
        }
        Ok(())
    }

    /// Adds a tree of any source, by the hash of its contents, and gives its path. The path says which
    /// contents it has, so the same contents are stored once.
    ///
    /// Memory is limited; the source is read once, hashed and, if it is large, unpacked at the same time.
    /// [`Flat`](ContentAddressMethod::Flat) and [`Text`](ContentAddressMethod::Text) take a file, whose
    /// executable bit is lost.
    pub fn add_source<S: NarSource>(
        &self,
        name: &str,
        source: &mut S,
        root: &S::Node,
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
        references: &StoreReferences,
    ) -> Result<StorePath, S::Error> {
        crate::store_path::check_name(name)?;
        let (received, hash) = self.receive_source(source, root, method, algorithm)?;
        let info =
            self.content_info(name, ContentAddress { method, hash }, references, &received)?;
        let path = info.path.clone();
        self.add_received(received, info, false)?;
        Ok(path)
    }

    fn content_info(
        &self,
        name: &str,
        content: ContentAddress,
        references: &StoreReferences,
        received: &Received,
    ) -> Result<PathInfo> {
        let path = self
            .store_dir()
            .make_content_path(name, &content, references)?;
        let mut info = PathInfo::new(path.clone(), received.nar_hash, received.nar_size);
        info.references = references.others.clone();
        if references.self_reference {
            info.references.insert(path);
        }
        info.content_address = Some(content);
        Ok(info)
    }

    /// As [`LocalStore::add_source`], for files. Large folders are read a second time if they turn out not
    /// to be in the store: many files are hashed much faster than they are written in vain.
    pub fn add_path(
        &self,
        path: &Path,
        name: &str,
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
    ) -> Result<StorePath> {
        crate::store_path::check_name(name)?;
        let none = StoreReferences::none();
        let node = FileSystem::node(path);
        if method != ContentAddressMethod::Nar {
            let content = hash_tree(&mut FileSystem, &node, method, algorithm)?;
            let known = self.store_dir().make_content_path(name, &content, &none)?;
            self.add_temp_root(&known)?;
            if self.is_valid(&known)? {
                return Ok(known);
            }
            self.check_writable()?;
            return self.add_source(name, &mut FileSystem, &node, method, algorithm, &none);
        }
        let mut receiver = Receiver::new(self, Some(algorithm));
        if FileSystem.kind(&node)? == NodeKind::Directory {
            receiver = receiver.forget_large();
        }
        let received = write_nar(&mut FileSystem, &node, receiver)?.finish()?;
        let hash = received.other_hash.unwrap_or(received.nar_hash);
        let content = ContentAddress { method, hash };
        let info = self.content_info(name, content, &none, &received)?;
        let added = info.path.clone();
        if !received.is_forgotten() || self.config.read_only {
            self.add_received(received, info, false)?;
            return Ok(added);
        }
        self.add_once(&added, false, |dest| {
            let receiver = Receiver::new(self, None).unpack_to(dest.to_path_buf())?;
            let again = write_nar(&mut FileSystem, &node, receiver)?.finish()?;
            if again.nar_hash != info.nar_hash {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "'{}' changed while it was added to the store",
                        path.display()
                    ),
                ));
            }
            Ok((info, HashMap::new()))
        })?;
        Ok(added)
    }

    fn receive_source<S: NarSource>(
        &self,
        source: &mut S,
        root: &S::Node,
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
    ) -> Result<(Received, Hash), S::Error> {
        match method {
            ContentAddressMethod::Nar => {
                let receiver = write_nar(source, root, Receiver::new(self, Some(algorithm)))?;
                let received = receiver.finish()?;
                let hash = received.other_hash.unwrap_or(received.nar_hash);
                Ok((received, hash))
            }
            ContentAddressMethod::Flat | ContentAddressMethod::Text => {
                if !matches!(source.kind(root)?, NodeKind::Regular { .. }) {
                    return Err(Error::new(
                        ErrorKind::InvalidDerivation,
                        "only a regular file can be hashed flat",
                    )
                    .into());
                }
                let mut file = OneFile {
                    source,
                    hasher: Hasher::new(algorithm),
                };
                let receiver = write_nar(&mut file, root, Receiver::new(self, None))?;
                let hash = file.hasher.finish();
                Ok((receiver.finish()?, hash))
            }
            ContentAddressMethod::Git => {
                let receiver = write_nar(source, root, Receiver::new(self, None).always_unpack())?;
                let received = receiver.finish()?;
                let Some(tree) = received.unpacked() else {
                    return Err(self.read_only().into());
                };
                let hash = git_hash(&mut FileSystem, &FileSystem::node(tree), algorithm)?.1;
                Ok((received, hash))
            }
        }
    }

    /// Makes received contents a valid path.
    pub(super) fn add_received(
        &self,
        received: Received,
        info: PathInfo,
        repair: bool,
    ) -> Result<()> {
        let path = info.path.clone();
        self.add_once(&path, repair, |dest| {
            received.install(dest)?;
            Ok((info, HashMap::new()))
        })
    }

    /// Adds a path from an archive whose hash, size and, if it has one, content address are checked. The
    /// archive is read to its end even if the path is valid already. With `repair`, contents that are
    /// there are replaced.
    pub fn add_nar<R: Read>(&self, info: &PathInfo, nar: R, repair: bool) -> Result<R> {
        self.check_writable()?;
        self.add_temp_root(&info.path)?;
        let mut nar = Some(nar);
        let mut read = false;
        self.add_once(&info.path, repair, |dest| {
            read = true;
            let Some(input) = nar.take() else {
                return Err(self.not_valid(&info.path));
            };
            let mut input = HashingReader {
                input,
                hasher: Hasher::new(HashAlgorithm::Sha256),
            };
            input = restore_nar(input, dest, Metadata::Canonical)?;
            let size = input.hasher.bytes_hashed();
            let hash = input.hasher.finish();
            nar = Some(input.input);
            self.check_received(info, hash, size, dest)?;
            Ok((info.clone(), HashMap::new()))
        })?;
        match nar {
            // It was valid.
            Some(input) if !read => Ok(copy_nar(input, io::sink())?.0),
            Some(input) => Ok(input),
            None => Err(self.not_valid(&info.path)),
        }
    }

    /// Checks an archive against what was promised.
    pub(super) fn check_received(
        &self,
        info: &PathInfo,
        hash: Hash,
        size: u64,
        contents: &Path,
    ) -> Result<()> {
        let mismatch = |what: &str, specified: String, got: String| {
            Error::new(
                ErrorKind::Mismatch,
                format!(
                    "{what} mismatch importing path '{}';\n  specified: {specified}\n  got:       {got}",
                    self.print(&info.path)
                ),
            )
        };
        let show = |hash: &Hash| hash.encode_with_algorithm(HashFormat::Nix32);
        if hash != info.nar_hash {
            return Err(mismatch("hash", show(&info.nar_hash), show(&hash)));
        }
        if size != info.nar_size {
            return Err(mismatch(
                "size",
                info.nar_size.to_string(),
                size.to_string(),
            ));
        }
        if let Some(content) = &info.content_address {
            let node = FileSystem::node(contents);
            let algorithm = content.hash.algorithm();
            let actual = match content.method {
                ContentAddressMethod::Nar if info.references.contains(&info.path) => {
                    let hasher = super::modulo::HashModulo::new(algorithm, info.path.hash_part());
                    write_nar(&mut FileSystem, &node, hasher)?.finish()
                }
                method => hash_tree(&mut FileSystem, &node, method, algorithm)?.hash,
            };
            if actual != content.hash {
                return Err(mismatch("ca hash", show(&content.hash), show(&actual)));
            }
        }
        Ok(())
    }
}

/// Hashes what is read through it.
struct HashingReader<R> {
    input: R,
    hasher: Hasher,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or(&[]));
        Ok(read)
    }
}

/// A source that is one file, never executable, whose contents are hashed as they pass.
struct OneFile<'s, S> {
    source: &'s mut S,
    hasher: Hasher,
}

impl<S: NarSource> NarSource for OneFile<'_, S> {
    type Node = S::Node;
    type Error = S::Error;

    fn kind(&mut self, _: &S::Node) -> Result<NodeKind, S::Error> {
        Ok(NodeKind::Regular { executable: false })
    }

    fn read_dir(&mut self, _: &S::Node) -> Result<Vec<(Vec<u8>, S::Node)>, S::Error> {
        Ok(Vec::new())
    }

    fn read_link(&mut self, _: &S::Node) -> Result<Vec<u8>, S::Error> {
        Ok(Vec::new())
    }

    fn read_file(&mut self, node: &S::Node, out: &mut dyn FileSink) -> Result<(), S::Error> {
        let mut tee = Tee {
            out,
            hasher: &mut self.hasher,
        };
        self.source.read_file(node, &mut tee)
    }
}

struct Tee<'t> {
    out: &'t mut dyn FileSink,
    hasher: &'t mut Hasher,
}

impl FileSink for Tee<'_> {
    fn begin(&mut self, len: u64) -> Result<()> {
        self.out.begin(len)
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.hasher.update(data);
        self.out.write(data)
    }
}
