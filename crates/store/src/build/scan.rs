//! Finding references: which hash parts of store paths occur in what a builder made.
//!
//! The contents are scanned as they stream by, so that one pass over an output gives its hash, its size
//! and its references. What counts is the archive, so names and targets of links are scanned too.

use crate::store_path::StorePath;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};

/// Length of the hash part of a store path.
const LEN: usize = 32;

/// Which bytes are digits of Nix's base 32.
const DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let digits = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut i = 0;
    while i < digits.len() {
        table[digits[i] as usize] = true;
        i += 1;
    }
    table
};

fn is_digit(byte: u8) -> bool {
    DIGIT.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Calls `found` with the offset of each window of [`LEN`] digits; it returns how far to go on (at least 1).
///
/// Looks at the end of a window first: whatever is no digit there rules out all windows that hold it, so that most
/// bytes of most files are never looked at.
fn windows(data: &[u8], mut found: impl FnMut(usize, &[u8; LEN]) -> usize) {
    let mut at = 0;
    while let Some(window) = data.get(at..).and_then(|rest| rest.first_chunk::<LEN>()) {
        match window.iter().rposition(|byte| !is_digit(*byte)) {
            Some(last) => at += last + 1,
            None => at += found(at, window).max(1),
        }
    }
}

/// Collects which of some paths occur in the bytes written to it.
#[derive(Debug)]
pub struct ReferenceScanner {
    candidates: HashMap<[u8; LEN], StorePath>,
    found: BTreeSet<StorePath>,
    /// The last bytes written, where a hash part may have begun.
    tail: Vec<u8>,
}

impl ReferenceScanner {
    /// Looks for these paths. Only hash parts count: paths that share one are found under the last of them.
    pub fn new<'p>(candidates: impl IntoIterator<Item = &'p StorePath>) -> ReferenceScanner {
        ReferenceScanner {
            candidates: candidates
                .into_iter()
                .filter_map(|path| Some((hash_part(path)?, path.clone())))
                .collect(),
            found: BTreeSet::new(),
            tail: Vec::with_capacity(2 * LEN),
        }
    }

    /// Scans the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        // The seam first: the end of what came before with the beginning of this.
        let seam = data.len().min(LEN - 1);
        self.tail
            .extend_from_slice(data.get(..seam).unwrap_or(data));
        let tail = std::mem::take(&mut self.tail);
        self.scan(&tail);
        self.scan(data);
        self.tail = tail;
        if data.len() >= LEN - 1 {
            self.tail.clear();
            self.tail
                .extend_from_slice(data.get(data.len() - (LEN - 1)..).unwrap_or(data));
        } else {
            let extra = self.tail.len().saturating_sub(LEN - 1);
            self.tail.drain(..extra);
        }
    }

    fn scan(&mut self, data: &[u8]) {
        let (candidates, found) = (&mut self.candidates, &mut self.found);
        windows(data, |_, window| {
            // Once found, it need not be looked for any more.
            if let Some(path) = candidates.remove(window) {
                found.insert(path);
            }
            1
        });
    }

    /// The paths that occurred.
    pub fn finish(self) -> BTreeSet<StorePath> {
        self.found
    }
}

impl Write for ReferenceScanner {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash_part(path: &StorePath) -> Option<[u8; LEN]> {
    path.hash_part().as_bytes().try_into().ok()
}

/// Hash parts and what is to stand in their place.
#[derive(Debug, Clone, Default)]
pub struct Rewrites(HashMap<[u8; LEN], [u8; LEN]>);

impl Rewrites {
    /// None.
    pub fn new() -> Rewrites {
        Rewrites::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces the hash part of one path with that of another.
    pub fn add(&mut self, from: &StorePath, to: &StorePath) {
        if let (Some(from), Some(to)) = (hash_part(from), hash_part(to))
            && from != to
        {
            self.0.insert(from, to);
        }
    }

    /// What replaces the hash part of a path, if anything does.
    pub fn get(&self, path: &StorePath) -> Option<&str> {
        let to = self.0.get(&hash_part(path)?)?;
        std::str::from_utf8(to).ok()
    }

    /// Rewrites all of some bytes in place.
    pub fn apply(&self, data: &mut [u8]) {
        self.rewrite(data);
    }

    /// Rewrites, and returns the end of the last replacement.
    fn rewrite(&self, data: &mut [u8]) -> usize {
        let mut changes = Vec::new();
        windows(data, |at, window| match self.0.get(window) {
            Some(to) => {
                changes.push((at, *to));
                LEN
            }
            None => 1,
        });
        let mut end = 0;
        for (at, to) in changes {
            if let Some(place) = data.get_mut(at..at + LEN) {
                place.copy_from_slice(&to);
            }
            end = at + LEN;
        }
        end
    }
}

/// Rewrites what is written to it and hands it on. [`Rewriter::finish`] hands on the rest.
pub struct Rewriter<'r, W> {
    rewrites: &'r Rewrites,
    out: W,
    /// Bytes that may be the beginning of a hash part.
    held: Vec<u8>,
}

impl<'r, W: Write> Rewriter<'r, W> {
    /// Rewrites what goes to `out`.
    pub fn new(rewrites: &'r Rewrites, out: W) -> Rewriter<'r, W> {
        Rewriter {
            rewrites,
            out,
            held: Vec::new(),
        }
    }

    /// Hands on what was held back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&self.held)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Rewriter<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(data);
        let rewritten = self.rewrites.rewrite(&mut self.held);
        let keep = (LEN - 1).min(self.held.len() - rewritten);
        let done = self.held.len() - keep;
        self.out.write_all(self.held.get(..done).unwrap_or(&[]))?;
        self.held.drain(..done);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(digit: char) -> StorePath {
        let hash: String = std::iter::repeat_n(digit, LEN).collect();
        StorePath::from_base_name(format!("{hash}-x")).unwrap()
    }

    #[test]
    fn finds_across_any_cut() {
        let (a, b, c) = (path('a'), path('b'), path('c'));
        let text = format!("e{}-x, {}{}", a.hash_part(), a.hash_part(), b.hash_part());
        for cut in 0..text.len() {
            for cut2 in cut..text.len() {
                let mut scanner = ReferenceScanner::new([&a, &b, &c]);
                let bytes = text.as_bytes();
                for part in [&bytes[..cut], &bytes[cut..cut2], &bytes[cut2..]] {
                    scanner.update(part);
                }
                assert_eq!(
                    scanner.finish().into_iter().collect::<Vec<_>>(),
                    [a.clone(), b.clone()]
                );
            }
        }
    }

    #[test]
    fn one_byte_at_a_time() {
        let a = path('a');
        let text = format!("aaaa {} aaaa", a.hash_part());
        let mut scanner = ReferenceScanner::new([&a]);
        for byte in text.bytes() {
            scanner.update(&[byte]);
        }
        assert_eq!(scanner.finish().len(), 1);
    }

    proptest! {
        #[test]
        fn rewriting_in_parts_is_rewriting_the_whole(
            parts in proptest::collection::vec("[ab!]{0,5}|a{30,33}|b{30,34}|c{32}", 0..20),
            cuts in proptest::collection::vec(0usize..400, 0..6),
        ) {
            let text = parts.concat().into_bytes();
            let mut rewrites = Rewrites::new();
            rewrites.add(&path('a'), &path('z'));
            rewrites.add(&path('b'), &path('a'));
            let mut whole = text.clone();
            rewrites.apply(&mut whole);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort();
            cuts.push(text.len());
            let mut rewriter = Rewriter::new(&rewrites, Vec::new());
            let mut from = 0;
            for cut in cuts {
                rewriter.write_all(&text[from..cut]).unwrap();
                from = cut;
            }
            prop_assert_eq!(rewriter.finish().unwrap(), whole);
        }
    }
}
