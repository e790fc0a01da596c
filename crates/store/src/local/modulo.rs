//! Hashing contents that mention their own path: with the hash part blanked out.
//!
//! What is hashed are the contents with each occurrence of the hash part replaced by NUL bytes. (C++ Nix means to
//! hash the offsets of occurrences as well, but 2.34.8 does not.)

use crate::hash::{Hash, HashAlgorithm, Hasher};
use std::io;

/// A hasher that blanks out one string.
pub struct HashModulo {
    hasher: Hasher,
    needle: Vec<u8>,
    /// Bytes that may be the beginning of an occurrence.
    tail: Vec<u8>,
}

impl HashModulo {
    /// Blanks out `needle`, the hash part of a store path.
    pub fn new(algorithm: HashAlgorithm, needle: &str) -> HashModulo {
        HashModulo {
            hasher: Hasher::new(algorithm),
            needle: needle.as_bytes().to_vec(),
            tail: Vec::new(),
        }
    }

    /// The hash.
    pub fn finish(mut self) -> Hash {
        self.hasher.update(&self.tail);
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
            at = start + len;
        }
        let keep = (len - 1).min(self.tail.len() - at);
        let done = self.tail.len() - keep;
        self.hasher.update(self.tail.get(..done).unwrap_or(&[]));
        self.tail.drain(..done);
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

    /// What C++ Nix 2.34.8 computes for a builder that writes `$out` into `$out`.
    #[test]
    fn the_hash_of_the_reference() {
        let needle = "v86w16qbkj20zr1wv8s7gqbizdl59fj6";
        let text = format!("/bench/same/store/{needle}-checkself\n");
        let hasher = HashModulo::new(HashAlgorithm::Sha256, needle);
        let hasher = crate::nar::write_file_nar(text.as_bytes(), hasher).unwrap();
        assert_eq!(
            hasher
                .finish()
                .encode_with_algorithm(crate::hash::HashFormat::Nix32),
            "sha256:1ac88jrsl5gsnh5hx2vfcbms39kgzvp95l3x0a6b3ij49bg91rwy"
        );
    }

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
            let expected = whole.replace(needle, &"\0".repeat(needle.len())).into_bytes();
            prop_assert_eq!(hasher.finish(), Hash::of(HashAlgorithm::Sha256, expected));
        }
    }
}
