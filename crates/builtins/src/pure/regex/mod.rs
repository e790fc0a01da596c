//! The regular expressions of `builtins.match` and `builtins.split`.
//!
//! Both are libstdc++'s `std::regex` in extended mode in C++ Nix, and that is neither POSIX nor Perl:
//!
//! - quantifiers are greedy and keep the first way that leads to a match, as in Perl;
//! - of the alternatives of `|` all are tried, and the one that makes the whole match longest wins, the first of equals;
//! - a repetition may run twice, not more, without consuming anything;
//! - groups keep the text of an earlier repetition.
//!
//! So `split "a*(ab)?" "aab"` finds `aa`, where POSIX would find `aab`, and `(a|ab)` finds `ab` where Perl would find `a`.
//!
//! [`Regex`] compiles to a small program and runs it by backtracking. When a text makes it go back often, it starts to
//! remember which (instruction, position) pairs are hopeless, which bounds the time by program × text, and the memory
//! with it; beyond [`MEMORY_LIMIT`] a match ends in an error. Nothing recurses on the host stack.

mod exec;
mod parse;
mod program;

use super::{Error, ErrorKind};
use program::Program;
use std::ops::Range;

/// libstdc++'s limit on automaton states, which decides between "invalid" and "memory limit exceeded".
const STATE_LIMIT: usize = 100_000;

/// Bytes that one match may use for what it remembers, unless it is told to use less.
pub const MEMORY_LIMIT: usize = 1 << 29;

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn none() -> Self {
        ByteSet([0; 4])
    }

    fn all() -> Self {
        ByteSet([u64::MAX; 4])
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    fn negate(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }

    fn extend(&mut self, other: &ByteSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// The only member, if there is just one.
    fn single(&self) -> Option<u8> {
        let mut members = (0..=255u8).filter(|b| self.contains(*b));
        let first = members.next();
        if members.next().is_some() {
            None
        } else {
            first
        }
    }
}

/// A group of a match: the bytes it matched last, or `None` if it took no part.
pub type Group = Option<Range<usize>>;

/// A compiled pattern. Cheap to share: matching takes `&self`.
#[derive(Debug)]
pub struct Regex {
    pattern: Vec<u8>,
    program: Program,
}

/// One match within a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Where the match lies.
    pub range: Range<usize>,
    /// The groups, in the order of their opening parentheses.
    pub groups: Vec<Group>,
}

/// A piece of a split text: texts and matches take turns, beginning and ending with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text between matches, often empty.
    Text(Range<usize>),
    /// The groups of a match.
    Groups(Vec<Group>),
}

impl Regex {
    /// Compiles a pattern; time and memory are linear in its expanded size.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRegex`] and [`ErrorKind::RegexLimit`], with C++ Nix's messages.
    pub fn new(pattern: &[u8]) -> Result<Self, Error> {
        match parse::parse(pattern) {
            Ok(tree) => Ok(Regex {
                pattern: pattern.to_vec(),
                program: Program::new(&tree),
            }),
            Err(parse::Refusal::Invalid) => Err(Error::new(
                ErrorKind::InvalidRegex,
                format!(
                    "invalid regular expression '{}'",
                    String::from_utf8_lossy(pattern)
                ),
            )),
            Err(parse::Refusal::TooLarge) => Err(limit(pattern)),
        }
    }

    /// How large the compiled pattern is.
    pub fn instructions(&self) -> usize {
        self.program.code.len()
    }

    /// How many groups the pattern has.
    pub fn groups(&self) -> usize {
        self.program.groups
    }

    /// Matches the whole text, as `builtins.match` does: its groups, or `None` if the text does not match.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RegexLimit`] when matching would take more memory than [`MEMORY_LIMIT`].
    pub fn match_whole(&self, text: &[u8]) -> Result<Option<Vec<Group>>, Error> {
        self.match_whole_within(text, MEMORY_LIMIT)
    }

    /// The same, with so many bytes to remember things in.
    ///
    /// # Errors
    ///
    /// As [`Regex::match_whole`].
    pub fn match_whole_within(
        &self,
        text: &[u8],
        memory: usize,
    ) -> Result<Option<Vec<Group>>, Error> {
        if let Some(literal) = &self.program.literal {
            return Ok((literal == text).then(Vec::new));
        }
        let memory = memory.min(MEMORY_LIMIT);
        let mut machine = exec::Machine::new(&self.program, text, exec::Mode::Whole, memory);
        match machine.match_at(0, false) {
            Ok(found) => Ok(found.map(|m| m.groups)),
            Err(exec::OutOfMemory) => Err(limit(&self.pattern)),
        }
    }

    /// The matches that `builtins.split` finds, from left to right and not overlapping.
    pub fn matches<'r, 't>(&'r self, text: &'t [u8]) -> Matches<'r, 't> {
        self.matches_within(text, MEMORY_LIMIT)
    }

    /// The same, with so many bytes to remember things in.
    pub fn matches_within<'r, 't>(&'r self, text: &'t [u8], memory: usize) -> Matches<'r, 't> {
        let memory = memory.min(MEMORY_LIMIT);
        Matches {
            regex: self,
            text,
            machine: exec::Machine::new(&self.program, text, exec::Mode::Prefix, memory),
            at: 0,
            after_empty: false,
            done: false,
        }
    }

    /// Splits a text, as `builtins.split` does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RegexLimit`] when matching would take more memory than [`MEMORY_LIMIT`].
    pub fn split(&self, text: &[u8]) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for found in self.matches(text) {
            let found = found?;
            pieces.push(Piece::Text(at..found.range.start));
            pieces.push(Piece::Groups(found.groups));
            at = found.range.end;
        }
        pieces.push(Piece::Text(at..text.len()));
        Ok(pieces)
    }
}

fn limit(pattern: &[u8]) -> Error {
    Error::new(
        ErrorKind::RegexLimit,
        format!(
            "memory limit exceeded by regular expression '{}'",
            String::from_utf8_lossy(pattern)
        ),
    )
}

/// Iterator over the matches in a text. After an error it ends.
#[derive(Debug)]
pub struct Matches<'r, 't> {
    regex: &'r Regex,
    text: &'t [u8],
    machine: exec::Machine<'r, 't>,
    /// Where the last match ended.
    at: usize,
    /// The last match was empty: a longer one may begin at the same place, otherwise the search goes on one byte later.
    after_empty: bool,
    done: bool,
}

impl Matches<'_, '_> {
    fn find(&mut self) -> Result<Option<Match>, exec::OutOfMemory> {
        if self.after_empty {
            if self.at >= self.text.len() {
                return Ok(None);
            }
            if let Some(found) = self.machine.match_at(self.at, true)? {
                return Ok(Some(found));
            }
            self.at += 1;
        }
        self.machine.search(self.at)
    }
}

impl Iterator for Matches<'_, '_> {
    type Item = Result<Match, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.find() {
            Ok(Some(found)) => {
                self.at = found.range.end;
                self.after_empty = found.range.is_empty();
                Some(Ok(found))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(exec::OutOfMemory) => {
                self.done = true;
                Some(Err(limit(&self.regex.pattern)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
