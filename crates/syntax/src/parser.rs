//! From tokens to the events that sinks understand.
//!
//! The parsers are generated from `grammar/nix.lalrpop`. All that the rest of the crate knows of them is
//! the trait [`Parser`]: tokens in, [`Sink::node`] calls and [`Unexpected`] tokens out. Another parser, one
//! that repairs half-written files better, can take their place without a change to any sink.

use std::cell::RefCell;

use lalrpop_util::ParseError;

use crate::kind::SyntaxKind;
use crate::lexer::Token;

/// Is told which nodes there are.
pub trait Sink {
    /// A node of `kind` spans the significant tokens `first..end` (at least one). All nodes inside of it
    /// were announced before, in source order.
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32);

    /// The tokens `first..end`, perhaps none, fit nowhere; the parser went on after them. Nodes inside of
    /// them may have been announced before.
    fn recovered(&mut self, first: u32, end: u32, error: Unexpected) {
        let _ = (first, end, error);
    }
}

/// A place where the tokens do not fit the grammar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unexpected {
    /// Index of the significant token that does not fit; the number of tokens if more were needed.
    pub token: u32,
    /// The kinds that would have fitted, by their names in the grammar.
    pub expected: Vec<String>,
}

/// Turns significant tokens into a post-order sequence of nodes.
pub trait Parser {
    /// Parses a whole file. `tokens` are without trivia.
    ///
    /// If nothing is returned, the nodes are those of a valid file. Otherwise they are a well-nested
    /// sequence all the same, which need not cover all tokens.
    fn parse<S: Sink>(&self, tokens: &[Token], sink: &mut S) -> Vec<Unexpected>;
}

/// Stops at the first token that does not fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrictParser;

impl Parser for StrictParser {
    fn parse<S: Sink>(&self, tokens: &[Token], sink: &mut S) -> Vec<Unexpected> {
        let kinds = (0u32..)
            .zip(tokens)
            .map(|(index, token)| Ok::<_, ()>((index, token.kind, index + 1)));
        match strict::RootParser::new().parse(sink, kinds) {
            Ok(()) => Vec::new(),
            Err(error) => vec![error.into()],
        }
    }
}

/// Skips what does not fit, so that one run finds several errors.
///
/// Meant for files that [`StrictParser`] rejects. Recovery examines the parser's whole stack for every
/// token it skips, so it gives up, with the errors found until then, once that would cost too much: when
/// hundreds of tokens in a row fit nowhere, or inside of very deep nesting. It may then find nothing at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct TolerantParser;

/// Errors after which a file is not worth further reading.
pub(crate) const MOST_ERRORS: usize = 100;

/// Depth of the parser's stack up to which errors can be recovered from.
const DEEPEST_RECOVERY: u64 = 1000;

/// Bound of the work that recovery may do, in squares of the stack's depth, summed up over tokens.
const MOST_WORK: u64 = 50_000_000;

impl Parser for TolerantParser {
    fn parse<S: Sink>(&self, tokens: &[Token], sink: &mut S) -> Vec<Unexpected> {
        let watch = RefCell::new(Watch::default());
        let kinds = (0u32..).zip(tokens).map(|(index, token)| {
            if watch.borrow_mut().consumed(index) {
                Ok((index, token.kind, index + 1))
            } else {
                Err(())
            }
        });
        let mut watched = Watched {
            sink,
            watch: &watch,
        };
        let result = tolerant::RootParser::new().parse(&mut watched, kinds);
        let mut errors = watch.into_inner().errors;
        if let Err(error) = result
            && !matches!(error, ParseError::User { .. })
        {
            errors.push(error.into());
        }
        errors
    }
}

/// Keeps account of a tolerant parser.
#[derive(Default)]
struct Watch {
    errors: Vec<Unexpected>,
    /// Where each node begins that is not part of another one yet.
    pending: Vec<u32>,
    /// Number of tokens inside of these.
    covered: u64,
    /// Where each of them ends.
    ends: Vec<u32>,
    work: u64,
}

impl Watch {
    /// A token is about to be read. Whether the parser may go on.
    fn consumed(&mut self, index: u32) -> bool {
        // What is on the parser's stack: nodes, and tokens outside of them.
        let depth = self.pending.len() as u64 + u64::from(index).saturating_sub(self.covered);
        if depth > DEEPEST_RECOVERY || self.errors.len() > MOST_ERRORS {
            return false;
        }
        if !self.errors.is_empty() {
            self.work += depth * depth;
        }
        self.work < MOST_WORK
    }

    fn node(&mut self, first: u32, end: u32) {
        while self.pending.last().is_some_and(|before| *before >= first) {
            let start = self.pending.pop().unwrap_or(0);
            let stop = self.ends.pop().unwrap_or(start);
            self.covered = self.covered.saturating_sub(u64::from(stop - start));
        }
        self.pending.push(first);
        self.ends.push(end);
        self.covered += u64::from(end - first);
    }
}

struct Watched<'a, S> {
    sink: &'a mut S,
    watch: &'a RefCell<Watch>,
}

impl<S: Sink> Sink for Watched<'_, S> {
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32) {
        self.watch.borrow_mut().node(first, end);
        self.sink.node(kind, first, end);
    }

    fn recovered(&mut self, first: u32, end: u32, error: Unexpected) {
        let mut watch = self.watch.borrow_mut();
        watch.node(first, end);
        watch.errors.push(error);
        if end > first {
            self.sink.node(SyntaxKind::ERROR, first, end);
        }
    }
}

impl From<ParseError<u32, SyntaxKind, ()>> for Unexpected {
    fn from(error: ParseError<u32, SyntaxKind, ()>) -> Self {
        let (token, expected) = match error {
            ParseError::UnrecognizedToken { token, expected } => (token.0, expected),
            ParseError::UnrecognizedEof { location, expected } => (location, expected),
            ParseError::ExtraToken { token } => (token.0, Vec::new()),
            ParseError::InvalidToken { location } => (location, Vec::new()),
            ParseError::User { error: () } => (0, Vec::new()),
        };
        Unexpected { token, expected }
    }
}

#[allow(clippy::all, clippy::pedantic, missing_docs, unused)]
mod strict {
    include!(concat!(env!("OUT_DIR"), "/strict.rs"));
}

#[allow(clippy::all, clippy::pedantic, missing_docs, unused)]
mod tolerant {
    include!(concat!(env!("OUT_DIR"), "/tolerant.rs"));
}
