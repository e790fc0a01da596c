//! The text form of what is known about valid paths: what `nix-store --dump-db` prints, `--load-db` and
//! `--register-validity` read, and `exportReferencesGraph` hands to builders.
//!
//! ```text
//! registration = { path LF [ hash LF size LF ] deriver LF count LF { reference LF } }
//! ```
//!
//! Whether hashes and sizes are there is not told by the text. The deriver may be an empty line.

use crate::error::{Error, ErrorKind, Result, excerpt};
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use crate::store_path::{StoreDir, StorePath};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{BufRead, Read};

/// The longest line: longer than any path or hash.
const MAX_LINE: u64 = 16 * 1024;

/// What is known about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its archive and its length in bytes, if they are part of the text.
    pub nar: Option<(Hash, u64)>,
    /// The derivation that made it, if that is known.
    pub deriver: Option<StorePath>,
    /// The paths that it refers to; its own may be among them.
    pub references: BTreeSet<StorePath>,
}

impl Registration {
    /// Appends the text form.
    pub fn write(&self, store: &StoreDir, out: &mut String) {
        store.print_to(&self.path, out);
        out.push('\n');
        if let Some((hash, size)) = &self.nar {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}\n{size}", hash.encode(HashFormat::Base16));
        }
        if let Some(deriver) = &self.deriver {
            store.print_to(deriver, out);
        }
        let _ = writeln!(out, "\n{}", self.references.len());
        for reference in &self.references {
            store.print_to(reference, out);
            out.push('\n');
        }
    }
}

/// Reads the text form.
///
/// Paths are spelled exactly, numbers without signs and leading zeros. As in C++ Nix, references may come in any order,
/// and hashes in any spelling, since those who write them do.
#[derive(Debug)]
pub struct RegistrationReader<R> {
    input: R,
    offset: u64,
    store: StoreDir,
    hash_given: bool,
}

impl<R: BufRead> RegistrationReader<R> {
    /// Reads from the start. `hash_given`: whether hashes and sizes are there.
    pub fn new(input: R, store: &StoreDir, hash_given: bool) -> RegistrationReader<R> {
        RegistrationReader {
            input,
            offset: 0,
            store: store.clone(),
            hash_given,
        }
    }

    /// The next entry; `None` at the end of the input.
    pub fn next_entry(&mut self) -> Result<Option<Registration>> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let path = self.path("path")?;
        let nar = match self.hash_given {
            true => Some((self.hash()?, self.number()?)),
            false => None,
        };
        let deriver = self.optional_path("deriver")?;
        let mut references = BTreeSet::new();
        for _ in 0..self.number()? {
            references.insert(self.path("reference")?);
        }
        Ok(Some(Registration {
            path,
            nar,
            deriver,
            references,
        }))
    }

    /// What a line is, which has to be there.
    fn line<T>(&mut self, what: &str, parse: impl FnOnce(&Self, &[u8]) -> Result<T>) -> Result<T> {
        let start = self.offset;
        let mut line = Vec::new();
        let read = self
            .input
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        self.offset += read as u64;
        if line.pop() != Some(b'\n') {
            return Err(match read as u64 == MAX_LINE {
                true => bad(start, format!("{what} of more than {MAX_LINE} bytes")),
                false => Error::at(
                    ErrorKind::UnexpectedEnd,
                    self.offset,
                    format!("{what} expected"),
                ),
            });
        }
        parse(self, &line).map_err(|e| e.with_offset(start))
    }

    fn optional_path(&mut self, what: &str) -> Result<Option<StorePath>> {
        self.line(what, |reader, line| match line {
            [] => Ok(None),
            line => reader.store.parse(line).map(Some),
        })
    }

    fn path(&mut self, what: &str) -> Result<StorePath> {
        self.line(what, |reader, line| reader.store.parse(line))
    }

    fn hash(&mut self) -> Result<Hash> {
        self.line("hash", |_, line| {
            Hash::parse_any(line, Some(HashAlgorithm::Sha256))
        })
    }

    fn number(&mut self) -> Result<u64> {
        self.line("number", |reader, line| {
            let number = std::str::from_utf8(line).ok().and_then(|text| {
                let number: u64 = text.parse().ok()?;
                (number.to_string() == text).then_some(number)
            });
            number.ok_or_else(|| {
                bad(
                    reader.offset,
                    format!("'{}' is not a number", excerpt(line)),
                )
            })
        })
    }
}

fn bad(offset: u64, message: String) -> Error {
    Error::at(ErrorKind::Registration, offset, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8], hash_given: bool) -> Result<Vec<Registration>> {
        let mut reader = RegistrationReader::new(text, &StoreDir::default(), hash_given);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    const A: &str = "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-a";
    const B: &str = "/nix/store/m0iyz1rzcgxw68h6skk8b9sg0p0napwc-b";

    #[test]
    fn bad_text_is_refused() {
        let good = format!("{A}\n\n2\n{B}\n{A}\n{B}\n{A}\n0\n");
        let entries = read(good.as_bytes(), false).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].references.len(), 2);
        let hash = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
        read(format!("{A}\n{hash}\n120\n\n0\n").as_bytes(), true).unwrap();
        for len in 1..good.len() {
            if len != format!("{A}\n\n2\n{B}\n{A}\n").len() {
                let error = read(&good.as_bytes()[..len], false).unwrap_err();
                assert!(error.offset().is_some_and(|at| at <= len as u64), "{len}");
            }
        }
        for bad in [
            format!("{A}/\n\n0\n"),
            format!("{A}\r\n\n0\n"),
            format!("/nix/store/../store{}\n\n0\n", &A[10..]),
            format!("{A}\n\n+0\n"),
            format!("{A}\n\n00\n"),
            format!("{A}\n\n-1\n"),
            format!("{A}\n\n18446744073709551616\n"),
            format!("{A}\n \n0\n"),
            format!("{A}\0\n\n0\n"),
            "\n".into(),
            format!("{}\n", "x".repeat(1 << 20)),
        ] {
            assert!(read(bad.as_bytes(), false).is_err(), "{bad:.100}");
        }
    }

    fn paths() -> impl Strategy<Value = StorePath> {
        (any::<[u8; 20]>(), "[a-z][a-z0-9.-]{0,12}")
            .prop_map(|(hash, name)| StorePath::from_parts(hash, &name).unwrap())
    }

    prop_compose! {
        fn entries()(
            path in paths(),
            nar in any::<([u8; 32], u64)>(),
            deriver in prop::option::of(paths()),
            references in prop::collection::btree_set(paths(), 0..4),
        ) -> Registration {
            let nar = Some((Hash::from_sha256(nar.0), nar.1));
            Registration { path, nar, deriver, references }
        }
    }

    proptest! {
        #[test]
        fn registrations_round_trip(
            mut entries in prop::collection::vec(entries(), 0..4),
            hash_given: bool,
            at: prop::sample::Index,
            byte: u8,
        ) {
            let store = StoreDir::default();
            let mut text = String::new();
            for entry in &mut entries {
                entry.nar = entry.nar.filter(|_| hash_given);
                entry.write(&store, &mut text);
            }
            prop_assert_eq!(read(text.as_bytes(), hash_given).unwrap(), entries);
            // Damaged text is read or refused.
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let _ = read(&bytes, hash_given);
            }
        }

        #[test]
        fn any_text_is_an_answer(text: Vec<u8>, hash_given: bool) {
            let _ = read(&text, hash_given);
        }
    }
}
