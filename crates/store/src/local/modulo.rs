//! Hashing contents that mention their own path: with the hash part blanked out.
//!
//! What is hashed are the contents with each occurrence of the hash part replaced by NUL bytes, followed
//! by `|` and the offset of each occurrence.

use crate::hash::{Hash, HashAlgorithm, Hasher};
use std::io;

/// A hasher that blanks out one string.
pub struct HashModulo {
    hasher: Hasher,
    needle: Vec<u8>,
    /// Bytes that may be the beginning of an occurrence.
    tail: Vec<u8>,
    /// Offset of `tail` in the whole.
    offset: u64,
    found: Vec<u64>,
}

impl HashModulo {
    /// Blanks out `needle`, the hash part of a store path.
    pub fn new(algorithm: HashAlgorithm, needle: &str) -> HashModulo {
        HashModulo {
            hasher: Hasher::new(algorithm),
            needle: needle.as_bytes().to_vec(),
            tail: Vec::new(),
            offset: 0,
            found: Vec::new(),
        }
    }

    /// The hash.
    pub fn finish(mut self) -> Hash {
        self.hasher.update(&self.tail);
        for offset in &self.found {
            self.hasher.update(format!("|{offset}").as_bytes());
        }
        self.hasher.finish()
    }
}

impl io::Write for HashModulo {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.tail.extend_from_slice(data);
        let len = self.needle.len();
        if len == 0 {
            return Ok(data.len());
        }
        let mut at = 0;
        while let Some(next) = self
            .tail
            .get(at..)
            .and_then(|rest| bstr::ByteSlice::find(rest, &self.needle))
        {
            let start = at + next;
            if let Some(part) = self.tail.get_mut(start..start + len) {
                part.fill(0);
            }
            self.found.push(self.offset + start as u64);
            at = start + len;
        }
        let keep = (len - 1).min(self.tail.len() - at);
        let done = self.tail.len() - keep;
        self.hasher.update(self.tail.get(..done).unwrap_or(&[]));
        self.tail.drain(..done);
        self.offset += done as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    proptest! {
        /// However the input is cut into pieces, the hash is that of the definition.
        #[test]
        fn pieces_do_not_matter(
            parts in prop::collection::vec("[abc]{0,4}|abcab", 0..20),
            needle in prop::sample::select(vec!["abcab", "a", "abab"]),
        ) {
            let mut hasher = HashModulo::new(HashAlgorithm::Sha256, needle);
            for part in &parts {
                hasher.write_all(part.as_bytes()).unwrap();
            }
            let whole = parts.concat();
            let mut expected = whole.replace(needle, &"\0".repeat(needle.len())).into_bytes();
            for (at, _) in whole.match_indices(needle) {
                expected.extend_from_slice(format!("|{at}").as_bytes());
            }
            prop_assert_eq!(hasher.finish(), Hash::of(HashAlgorithm::Sha256, expected));
        }
    }
}
