//! Taking paths from one store to another: exports, and the text form of what is known about paths.

use super::receive::Receiver;
use super::{Canonicalise, InodesSeen, LocalStore, PathInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{ExportInfo, ExportReader, ExportWriter};
use crate::hash::{Hash, HashAlgorithm, HashFormat, Hasher};
use crate::ingest::nar_hash;
use crate::nar::{FileSystem, write_nar};
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
        for path in paths {
            let info = self.query_path_info(path)?;
            let mut text = format!(
                "{}\n{}\n{}\n{}\n{}\n",
                self.print(path),
                info.nar_hash.encode(HashFormat::Base16),
                info.nar_size,
                info.deriver.map(|d| self.print(&d)).unwrap_or_default(),
                info.references.len()
            );
            for reference in &info.references {
                self.store_dir().print_to(reference, &mut text);
                text.push('\n');
            }
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`LocalStore::dump_infos`] writes (without hashes and sizes, unless the options say
    /// that they are given) and registers it, all or none. The contents must be in place.
    pub fn load_infos<R: BufRead>(&self, mut input: R, options: &LoadOptions) -> Result<()> {
        self.check_writable()?;
        let mut infos: Vec<PathInfo> = Vec::new();
        while let Some(mut info) = self.read_info(&mut input, options.hash_given)? {
            if self.is_valid(&info.path)? && !options.reregister {
                continue;
            }
            let real = self.real_path(&info.path);
            if options.canonicalise {
                let canonicalise = Canonicalise {
                    owners: None,
                    ignored_acls: &self.config.settings.ignored_acls,
                };
                canonicalise.apply(&real, &mut InodesSeen::new())?;
            }
            if !options.hash_given {
                let node = FileSystem::node(&real);
                (info.nar_hash, info.nar_size) =
                    nar_hash(&mut FileSystem, &node, HashAlgorithm::Sha256)?;
            }
            infos.push(info);
        }
        self.register(&infos)
    }

    fn read_info<R: BufRead>(&self, input: &mut R, hash_given: bool) -> Result<Option<PathInfo>> {
        let bad = |what: &str| Error::new(ErrorKind::Database, format!("{what} expected"));
        let Some(path) = read_line(input)? else {
            return Ok(None);
        };
        let path = self.store_dir().parse_lenient(path)?;
        let mut line = |what: &str| read_line(input)?.ok_or_else(|| bad(what));
        let (mut hash, mut size) = (Hash::from_sha256([0; 32]), 0);
        if hash_given {
            hash = Hash::parse_any(line("hash")?, Some(HashAlgorithm::Sha256))?;
            size = line("number")?.parse().map_err(|_| bad("number"))?;
        }
        let mut info = PathInfo::new(path, hash, size);
        let deriver = line("deriver")?;
        if !deriver.is_empty() {
            info.deriver = Some(self.store_dir().parse_lenient(deriver)?);
        }
        let count: u64 = line("number")?.parse().map_err(|_| bad("number"))?;
        for _ in 0..count {
            info.references
                .insert(self.store_dir().parse_lenient(line("reference")?)?);
        }
        Ok(Some(info))
    }
}

/// A line without its end; `None` at the end of the input.
fn read_line<R: BufRead>(input: &mut R) -> Result<Option<String>> {
    /// Longer than any path.
    const MAX_LINE: u64 = 64 * 1024;
    let mut line = Vec::new();
    let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| Error::new(ErrorKind::Database, "text expected"))
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
