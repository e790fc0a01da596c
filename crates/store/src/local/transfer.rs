//! Taking paths from one store to another: exports, and the text form of what is known about paths.

use super::receive::Receiver;
use super::{Canonicalise, InodesSeen, LocalStore, PathInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{ExportInfo, ExportReader, ExportWriter};
use crate::hash::{Hash, HashAlgorithm, HashFormat, Hasher};
use crate::ingest::nar_hash;
use crate::nar::{FileSystem, write_nar};
use crate::registration::{Registration, RegistrationReader};
use crate::store_path::StorePath;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};

/// How [`LocalStore::load_infos`] treats what it reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Replace what is known about paths that are valid already.
    pub reregister: bool,
    /// The text has hashes and sizes; otherwise the contents are hashed.
    pub hash_given: bool,
    /// Make the files' modes and times canonical first.
    pub canonicalise: bool,
}

impl LocalStore {
    /// Writes the archive of a valid path.
    pub fn write_nar<W: Write>(&self, path: &StorePath, out: W) -> Result<W> {
        if !self.is_valid(path)? {
            return Err(self.not_valid(path));
        }
        write_nar(
            &mut FileSystem,
            &FileSystem::node(self.real_path(path)),
            out,
        )
    }

    /// Writes paths as `nix-store --export` does, referenced ones first. Contents that have changed are
    /// an error.
    pub fn export<'p, W: Write>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        out: W,
    ) -> Result<W> {
        let paths: BTreeSet<StorePath> = paths.into_iter().cloned().collect();
        let mut writer = ExportWriter::new(out, self.store_dir());
        for path in self.topo_sort(&paths)? {
            let info = self.query_path_info(&path)?;
            let export = ExportInfo {
                path: path.clone(),
                references: info.references.clone(),
                deriver: info.deriver.clone(),
                signature: None,
            };
            writer.add(&export, |out| {
                let hashing = HashingWriter {
                    out,
                    hasher: Hasher::new(HashAlgorithm::Sha256),
                };
                let hashing = self.write_nar(&path, hashing)?;
                let hash = hashing.hasher.finish();
                let unknown = info.nar_hash.as_bytes().iter().all(|b| *b == 0);
                if hash != info.nar_hash && !unknown {
                    let show = |hash: &Hash| hash.encode_with_algorithm(HashFormat::Nix32);
                    return Err(Error::new(
                        ErrorKind::Mismatch,
                        format!(
                            "hash of path '{}' has changed from '{}' to '{}'!",
                            self.print(&path),
                            show(&info.nar_hash),
                            show(&hash)
                        ),
                    ));
                }
                Ok::<(), Error>(())
            })?;
        }
        writer.finish()
    }

    /// Adds the paths of an export, and gives them in its order. Reads no further than its end; give it a
    /// buffered reader. Signatures are not asked for.
    pub fn import<R: Read>(&self, input: R) -> Result<Vec<StorePath>> {
        self.check_writable()?;
        let mut reader = ExportReader::new(input, self.store_dir());
        let mut paths = Vec::new();
        loop {
            let mut receiver = Receiver::new(self, None);
            let Some(export) = reader.next_object(&mut receiver)? else {
                return Ok(paths);
            };
            let received = receiver.finish()?;
            let mut info = PathInfo::new(export.path.clone(), received.nar_hash, received.nar_size);
            info.references = export.references;
            info.deriver = export.deriver;
            self.add_received(received, info, false)?;
            paths.push(export.path);
        }
    }

    /// Copies a valid path of another store, which has the same store folder, unless it is here. What it refers to must
    /// be valid here.
    pub fn copy_from(&self, other: &LocalStore, path: &StorePath) -> Result<()> {
        if self.is_valid(path)? {
            return Ok(());
        }
        let mut info = other.query_path_info(path)?;
        // Nobody knows how the other store got it.
        info.ultimate = false;
        info.registration_time = 0;
        let broken = |e| Error::io("making a pipe", e);
        let (reader, writer) = std::io::pipe().map_err(broken)?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || -> Result<()> {
                let out = std::io::BufWriter::with_capacity(1 << 16, writer);
                let mut out = other.write_nar(path, out)?;
                out.flush().map_err(|e| Error::io("writing to a pipe", e))
            });
            let reader = std::io::BufReader::with_capacity(1 << 16, reader);
            let added = self.add_nar(&info, reader, false).map(drop);
            match sender.join() {
                // What went wrong here closed the pipe.
                Ok(sent) => added.and(sent),
                Err(_) => added,
            }
        })
    }

    /// Writes what is known about valid paths as `nix-store --dump-db` does.
    pub fn dump_infos<'p, W: Write>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        out: &mut W,
    ) -> Result<()> {
        let mut text = String::new();
        for path in paths {
            let info = self.query_path_info(path)?;
            let registration = Registration {
                path: path.clone(),
                nar: Some((info.nar_hash, info.nar_size)),
                deriver: info.deriver,
                references: info.references,
            };
            text.clear();
            registration.write(self.store_dir(), &mut text);
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`LocalStore::dump_infos`] writes (without hashes and sizes, unless the options say
    /// that they are given) and registers it, all or none. The contents must be in place.
    pub fn load_infos<R: BufRead>(&self, input: R, options: &LoadOptions) -> Result<()> {
        self.check_writable()?;
        let mut infos: Vec<PathInfo> = Vec::new();
        let mut reader = RegistrationReader::new(input, self.store_dir(), options.hash_given);
        while let Some(entry) = reader.next_entry()? {
            if self.is_valid(&entry.path)? && !options.reregister {
                continue;
            }
            let real = self.real_path(&entry.path);
            if options.canonicalise {
                let canonicalise = Canonicalise {
                    owners: None,
                    ignored_acls: &self.config.settings.ignored_acls,
                };
                canonicalise.apply(&real, &mut InodesSeen::new())?;
            }
            let (hash, size) = match entry.nar {
                Some(given) => given,
                None => {
                    let node = FileSystem::node(&real);
                    nar_hash(&mut FileSystem, &node, HashAlgorithm::Sha256)?
                }
            };
            let mut info = PathInfo::new(entry.path, hash, size);
            info.deriver = entry.deriver;
            info.references = entry.references;
            infos.push(info);
        }
        self.register(&infos)
    }
}

/// Hashes what is written through it.
struct HashingWriter<'o, W> {
    out: &'o mut W,
    hasher: Hasher,
}

impl<W: Write> Write for HashingWriter<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.out.write(data)?;
        self.hasher.update(data.get(..written).unwrap_or(&[]));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
