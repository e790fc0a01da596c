//! The format of `nix-store --export`: archives of store objects with what is known about them, one
//! after the other.
//!
//! ```text
//! export = { 1 object } 0
//! object = ARCHIVE 0x4558494e PATH count { REFERENCE } DERIVER ( 0 | 1 SIGNATURE )
//! ```
//!
//! Numbers have eight bytes, little end first; strings are those of the [archive format](crate::nar).
//! Paths are spelled with the store folder. An object comes after those that it refers to. Signatures
//! were written by very old versions only, and mean nothing.

use crate::error::{Error, ErrorKind, Result};
use crate::nar::{copy_nar_at, read_exact, read_string, write_string};
use crate::store_path::{HASH_PART_LEN, MAX_NAME_LEN, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

/// Stands behind each archive ("NIXE").
const MAGIC: u64 = 0x4558_494e;

/// The longest signature.
const MAX_SIGNATURE_LEN: usize = 64 * 1024;

/// What an export tells about a store object besides its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The path.
    pub path: StorePath,
    /// The paths that it refers to; its own may be among them.
    pub references: BTreeSet<StorePath>,
    /// The derivation that made it, if that is known.
    pub deriver: Option<StorePath>,
    /// A signature of an old version.
    pub signature: Option<Vec<u8>>,
}

/// Writes an export.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    store: StoreDir,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export.
    pub fn new(out: W, store: &StoreDir) -> ExportWriter<W> {
        ExportWriter {
            out,
            store: store.clone(),
        }
    }

    /// Adds an object. `nar` writes its archive, with [`write_nar`](crate::nar::write_nar) say.
    pub fn add<E: From<Error>>(
        &mut self,
        info: &ExportInfo,
        nar: impl FnOnce(&mut W) -> Result<(), E>,
    ) -> Result<(), E> {
        self.number(1).map_err(Error::from)?;
        nar(&mut self.out)?;
        self.info(info).map_err(Error::from)?;
        Ok(())
    }

    fn info(&mut self, info: &ExportInfo) -> io::Result<()> {
        self.number(MAGIC)?;
        self.path(Some(&info.path))?;
        self.number(info.references.len() as u64)?;
        for reference in &info.references {
            self.path(Some(reference))?;
        }
        self.path(info.deriver.as_ref())?;
        match &info.signature {
            None => self.number(0),
            Some(signature) => {
                self.number(1)?;
                write_string(&mut self.out, signature)
            }
        }
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.out.write_all(&number.to_le_bytes())
    }

    fn path(&mut self, path: Option<&StorePath>) -> io::Result<()> {
        let text = path.map(|p| self.store.print(p)).unwrap_or_default();
        write_string(&mut self.out, text.as_bytes())
    }

    /// Ends the export and gives the writer back.
    pub fn finish(mut self) -> Result<W> {
        self.number(0)?;
        Ok(self.out)
    }
}

/// Reads an export. It reads no further than its end; give it a buffered reader.
#[derive(Debug)]
pub struct ExportReader<R> {
    input: R,
    offset: u64,
    store: StoreDir,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Done,
    Failed,
}

impl<R: Read> ExportReader<R> {
    /// Reads an export from the start. Objects must lie in the given store folder.
    pub fn new(input: R, store: &StoreDir) -> ExportReader<R> {
        ExportReader {
            input,
            offset: 0,
            store: store.clone(),
            state: State::Reading,
        }
    }

    /// The number of bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next object: copies its archive to `nar`, checking it, and tells what else is known.
    /// `None` at the end of the export. The path comes after the archive, so `nar` has to keep it.
    ///
    /// After an error, every call fails.
    pub fn next_object<W: Write>(&mut self, nar: W) -> Result<Option<ExportInfo>> {
        match self.state {
            State::Done => return Ok(None),
            State::Failed => return Err(bad(self.offset, "the export could not be read")),
            State::Reading => {}
        }
        match self.object(nar) {
            Ok(Some(info)) => Ok(Some(info)),
            Ok(None) => {
                self.state = State::Done;
                Ok(None)
            }
            Err(e) => {
                self.state = State::Failed;
                Err(e.with_offset(self.offset))
            }
        }
    }

    fn object<W: Write>(&mut self, nar: W) -> Result<Option<ExportInfo>> {
        let at = self.offset;
        match self.number()? {
            0 => return Ok(None),
            1 => {}
            _ => {
                return Err(bad(
                    at,
                    "input doesn't look like something created by 'nix-store --export'",
                ));
            }
        }
        copy_nar_at(&mut self.input, &mut self.offset, nar)?;
        let at = self.offset;
        if self.number()? != MAGIC {
            return Err(bad(at, "Nix archive cannot be imported; wrong format"));
        }
        let at = self.offset;
        let path = self
            .path()?
            .ok_or_else(|| bad(at, "the path of an object is empty"))?;
        let count = self.number()?;
        let mut references = BTreeSet::new();
        for _ in 0..count {
            let at = self.offset;
            let reference = self
                .path()?
                .ok_or_else(|| bad(at, "a reference of an object is empty"))?;
            if references.last().is_some_and(|last| *last >= reference) {
                return Err(bad(
                    at,
                    "references of an object are not sorted, or repeated",
                ));
            }
            references.insert(reference);
        }
        let deriver = self.path()?;
        let at = self.offset;
        let signature = match self.number()? {
            0 => None,
            1 => {
                let mut signature = vec![0; MAX_SIGNATURE_LEN];
                let len = read_string(&mut self.input, &mut self.offset, &mut signature)?;
                signature.truncate(len);
                Some(signature)
            }
            _ => return Err(bad(at, "an object has more than one signature")),
        };
        Ok(Some(ExportInfo {
            path,
            references,
            deriver,
            signature,
        }))
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        read_exact(&mut self.input, &mut self.offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A path, or nothing where the string is empty.
    fn path(&mut self) -> Result<Option<StorePath>> {
        let at = self.offset;
        let limit = self.store.as_str().len() + 1 + HASH_PART_LEN + 1 + MAX_NAME_LEN;
        let mut buffer = vec![0; limit];
        let len = read_string(&mut self.input, &mut self.offset, &mut buffer)?;
        match buffer.get(..len).unwrap_or(&[]) {
            [] => Ok(None),
            text => match self.store.parse(text) {
                Ok(path) => Ok(Some(path)),
                Err(e) => Err(e.with_offset(at)),
            },
        }
    }

    /// Gives the reader back, which stands just behind the export; an error before its end.
    pub fn finish(self) -> Result<R> {
        match self.state {
            State::Done => Ok(self.input),
            _ => Err(bad(self.offset, "the export was not read to its end")),
        }
    }
}

fn bad(offset: u64, message: &str) -> Error {
    Error::at(ErrorKind::Export, offset, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nar::write_file_nar;
    use proptest::prelude::*;

    fn export(objects: &[(ExportInfo, Vec<u8>)]) -> Vec<u8> {
        let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
        for (info, data) in objects {
            writer
                .add(info, |out| write_file_nar(data, out).map(|_| ()))
                .unwrap();
        }
        writer.finish().unwrap()
    }

    fn import(input: &[u8]) -> Result<Vec<(ExportInfo, Vec<u8>)>> {
        let mut reader = ExportReader::new(input, &StoreDir::default());
        let mut objects = Vec::new();
        loop {
            let mut nar = Vec::new();
            match reader.next_object(&mut nar)? {
                Some(info) => objects.push((info, nar)),
                None => break,
            }
        }
        assert_eq!(
            reader.offset() as usize,
            input.len() - reader.finish()?.len()
        );
        Ok(objects)
    }

    fn sample() -> ExportInfo {
        let path = StorePath::from_base_name("m0iyz1rzcgxw68h6skk8b9sg0p0napwc-foo.txt").unwrap();
        ExportInfo {
            references: [path.clone()].into(),
            path,
            deriver: None,
            signature: None,
        }
    }

    /// The hash is that of what `nix-store --export` of C++ Nix 2.34.8 printed for
    /// `builtins.toFile "foo.txt" "hello"`.
    #[test]
    fn bytes_of_the_reference() {
        let info = ExportInfo {
            references: BTreeSet::new(),
            ..sample()
        };
        let bytes = export(&[(info, b"hello".to_vec())]);
        assert_eq!(bytes.len(), EXPORT_LEN);
        let hash = crate::Hash::from_sha256(crate::hash::sha256(&bytes));
        assert_eq!(hash.to_sri(), EXPORT_HASH);
    }

    const EXPORT_LEN: usize = 232;
    const EXPORT_HASH: &str = "sha256-S24sXiR2FtiC151RIkZtWNHbc53vQ7omIOsbiYu1YHI=";

    #[test]
    fn bad_exports_are_refused() {
        let good = export(&[(sample(), b"hello".to_vec())]);
        assert_eq!(import(&good).unwrap().len(), 1);
        for len in 0..good.len() {
            let error = import(&good[..len]).unwrap_err();
            assert!(error.offset().is_some_and(|at| at <= len as u64));
        }
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0x80;
            if let Ok(objects) = import(&changed) {
                // Only the file's contents may be anything.
                assert_ne!(objects, import(&good).unwrap(), "{at}");
            }
        }
        let elsewhere = StoreDir::new("/elsewhere").unwrap();
        let mut reader = ExportReader::new(&good[..], &elsewhere);
        let error = reader.next_object(Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidStorePath);
        assert!(reader.next_object(Vec::new()).is_err());
        assert!(reader.finish().is_err());
    }

    fn paths() -> impl Strategy<Value = StorePath> {
        (any::<[u8; 20]>(), "[a-z][a-z0-9.-]{0,12}")
            .prop_map(|(hash, name)| StorePath::from_parts(hash, &name).unwrap())
    }

    prop_compose! {
        fn infos()(
            path in paths(),
            references in prop::collection::btree_set(paths(), 0..5),
            deriver in prop::option::of(paths()),
            signature in prop::option::of(any::<Vec<u8>>()),
        ) -> ExportInfo {
            ExportInfo { path, references, deriver, signature }
        }
    }

    proptest! {
        #[test]
        fn exports_round_trip(objects in prop::collection::vec((infos(), any::<Vec<u8>>()), 0..4)) {
            let bytes = export(&objects);
            let read = import(&bytes).unwrap();
            prop_assert_eq!(read.len(), objects.len());
            for ((info, data), (found, nar)) in objects.iter().zip(&read) {
                prop_assert_eq!(info, found);
                prop_assert_eq!(&write_file_nar(data, Vec::new()).unwrap(), nar);
            }
        }

        #[test]
        fn damaged_exports_are_read_or_refused(info in infos(), at: prop::sample::Index, byte: u8) {
            let mut bytes = export(&[(info, b"x".to_vec())]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = import(&bytes);
        }
    }
}
