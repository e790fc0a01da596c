//! The syntax of the Nix language, from bytes to trees.
//!
//! **What it does.** [`parse`] turns a source into the compact [`ast::Ast`] that evaluation compiles, with
//! attribute paths merged, duplicates rejected and string literals unescaped and stripped, as C++ Nix 2.34
//! does. [`parse_tree`] turns a text into a lossless [`Tree`] for editors, formatters and linters: its text is
//! the input byte for byte, valid or not, and [`nodes`] are typed views of it. Both report the same
//! [`SyntaxError`]s, several for one source. [`LineIndex`] turns their offsets into lines and columns.
//!
//! **What it refuses to do.** It does no I/O, knows no values and no scopes (whether a variable exists is for
//! the compiler to say), resolves no paths, and has no global state. Nothing panics on any input, and nothing
//! recurses on the host's stack, however deeply a source nests.
//!
//! **How data flows.**
//!
//! ```text
//! bytes ── lexer ──> tokens ── parser ──> nodes, inner before outer ──┬──> code sink ──> Ast
//!                                (grammar/nix.lalrpop)                └──> tree sink ──> Tree
//! ```
//!
//! The [`lexer`] makes one-byte kinds with spans. A [`parser::Parser`] tells a [`parser::Sink`] which nodes
//! end where, and that is all it does; so evaluation builds no lossless tree, and another parser needs no
//! other sinks. The grammar is compiled twice: a strict parser that stops at the first error, and a tolerant
//! one that runs when the strict one has failed, to find more errors and what structure there is.

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
use lexer::Lexed;
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
    parse_with(source, options, &mut Buffers::default())
}

/// Memory that parsing one file after another uses again.
#[derive(Debug, Default)]
pub struct Buffers {
    tokens: Vec<lexer::Token>,
    ast: Ast,
    slots: Vec<names::Slot>,
}

impl Buffers {
    /// Takes back a tree that is no longer needed.
    pub fn recycle(&mut self, ast: Ast) {
        self.ast = ast;
    }
}

/// Like [`parse`], for whoever parses many files.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with(
    source: &[u8],
    options: &ParseOptions,
    buffers: &mut Buffers,
) -> Result<Ast, Vec<SyntaxError>> {
    let lexed = lexer::lex_into(source, false, std::mem::take(&mut buffers.tokens));
    let mut ast = std::mem::take(&mut buffers.ast);
    ast.clear();
    let names = names::Interner::reusing(
        source.len(),
        std::mem::take(&mut buffers.slots),
        std::mem::take(&mut ast.names),
    );
    let mut sink =
        code::CodeSink::reusing(source, &lexed.tokens, options.pipe_operators, ast, names);
    let unexpected = StrictParser.parse(&lexed.tokens, &mut sink);
    if !unexpected.is_empty() {
        drop(sink);
        let Lexed { tokens, errors } = lexed;
        return Err(tree::errors_of(source, &tokens, unexpected, errors));
    }
    let result = sink.finish_with_slots().map(|(ast, slots)| {
        buffers.slots = slots;
        ast
    });
    let Lexed { tokens, mut errors } = lexed;
    buffers.tokens = tokens;
    if errors.is_empty() {
        return result;
    }
    errors.extend(result.err().unwrap_or_default());
    errors.sort_by_key(|error| error.span.start);
    Err(errors)
}
