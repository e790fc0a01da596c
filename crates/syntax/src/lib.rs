//! The syntax of the Nix language.
#![doc = ""]

mod bindings;
mod code;
mod messages;
mod names;
mod print;
mod strings;

pub mod ast;
pub mod error;
pub mod kind;
pub mod lexer;
pub mod line_index;
pub mod nodes;
pub mod parser;
pub mod tree;

pub use error::{SyntaxError, SyntaxErrorKind};
pub use kind::SyntaxKind;
pub use line_index::{LineColumn, LineIndex};
pub use tree::{Tree, parse_tree};

use ast::Ast;
use parser::{Parser, StrictParser};

/// What the parser accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParseOptions {
    /// The experimental feature `pipe-operators`: `a |> f` and `f <| a`.
    pub pipe_operators: bool,
}

/// Parses a file for evaluation.
///
/// `source` need not be UTF-8: string literals and comments may hold any bytes (strings no NUL).
///
/// # Errors
///
/// All that is wrong with the source as far as that can be told, in source order; never an empty list.
pub fn parse(source: &[u8], options: &ParseOptions) -> Result<Ast, Vec<SyntaxError>> {
    let lexed = lexer::lex(source, false);
    let mut sink = code::CodeSink::new(source, &lexed.tokens, options.pipe_operators);
    let unexpected = StrictParser.parse(&lexed.tokens, &mut sink);
    if lexed.errors.is_empty() && unexpected.is_empty() {
        return sink.finish();
    }
    drop(sink);
    if unexpected.is_empty() {
        return Err(lexed.errors);
    }
    Err(tree::errors_of(
        source,
        &lexed.tokens,
        unexpected,
        lexed.errors,
    ))
}
