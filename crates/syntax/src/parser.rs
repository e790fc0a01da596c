//! From tokens to the events that sinks understand.
//!
//! The parsers are generated from `grammar/nix.lalrpop`. All that the rest of the crate knows of them is
//! the trait [`Parser`]: tokens in, [`Sink::node`] calls and [`Unexpected`] tokens out. Another parser, one
//! that repairs half-written files better, can take their place without a change to any sink.

use lalrpop_util::ParseError;

use crate::kind::SyntaxKind;
use crate::lexer::Token;

/// Is told which nodes there are.
pub trait Sink {
    /// A node of `kind` spans the significant tokens `first..end` (at least one). All nodes inside of it
    /// were announced before, in source order.
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32);
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
            Err(error) => vec![unexpected(error, tokens.len())],
        }
    }
}

fn unexpected(error: ParseError<u32, SyntaxKind, ()>, tokens: usize) -> Unexpected {
    let (token, expected) = match error {
        ParseError::UnrecognizedToken { token, expected } => (token.0, expected),
        ParseError::ExtraToken { token } => (token.0, Vec::new()),
        ParseError::InvalidToken { location } => (location, Vec::new()),
        ParseError::UnrecognizedEof { expected, .. } => (tokens as u32, expected),
        ParseError::User { error: () } => (tokens as u32, Vec::new()),
    };
    Unexpected { token, expected }
}

#[allow(clippy::all, clippy::pedantic, missing_docs, unused)]
mod strict {
    include!(concat!(env!("OUT_DIR"), "/strict.rs"));
}
