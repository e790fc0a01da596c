//! The lossless tree: every byte of the source, with structure where there is some.
//!
//! Any text gives a tree whose text is the source. What the parsers report are nodes over ranges of
//! significant tokens, in post-order; the tree is built afterwards by walking over all tokens, trivia
//! included, and opening and closing nodes on the way. So tokens that a parser skipped are in it as well.
//!
//! Whitespace and comments between two nodes belong to the smallest node that has both inside; a doc
//! comment is found from the node it documents by [`crate::nodes::AstNode::doc_comment`].

use std::sync::Arc;

use rowan::{GreenNode, GreenNodeBuilder, Language};

use crate::ParseOptions;
use crate::ast::Span;
use crate::code::CodeSink;
use crate::error::{SyntaxError, SyntaxErrorKind};
use crate::kind::SyntaxKind::{self, *};
use crate::lexer::{self, Lexed, Token};
use crate::parser::{MOST_ERRORS, Parser, Sink, StrictParser, TolerantParser, Unexpected};
use crate::{messages, nodes};

/// Nix, as rowan sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NixLanguage {}

impl Language for NixLanguage {
    type Kind = SyntaxKind;

    fn kind_from_raw(raw: rowan::SyntaxKind) -> SyntaxKind {
        u8::try_from(raw.0)
            .ok()
            .and_then(|raw| SyntaxKind::ALL.get(usize::from(raw)).copied())
            .unwrap_or(ERROR)
    }

    fn kind_to_raw(kind: SyntaxKind) -> rowan::SyntaxKind {
        rowan::SyntaxKind(kind as u16)
    }
}

/// A node of the lossless tree.
pub type SyntaxNode = rowan::SyntaxNode<NixLanguage>;
/// A token of the lossless tree.
pub type SyntaxToken = rowan::SyntaxToken<NixLanguage>;
/// A node or a token of the lossless tree.
pub type SyntaxElement = rowan::SyntaxElement<NixLanguage>;

/// Nodes that may be inside of each other in a tree; see [`Tree::is_cut`].
///
/// Releasing a tree takes host stack in proportion to its depth, so there has to be a bound.
pub const DEEPEST_TREE: u32 = 1500;

/// A lossless tree and what is wrong with its source. Cheap to clone, and it may be sent to other threads.
#[derive(Clone, Debug)]
pub struct Tree {
    green: GreenNode,
    errors: Arc<[SyntaxError]>,
    cut: bool,
}

impl Tree {
    /// The outermost node, of kind [`SyntaxKind::ROOT`].
    pub fn syntax(&self) -> SyntaxNode {
        SyntaxNode::new_root(self.green.clone())
    }

    /// The outermost node, typed.
    pub fn root(&self) -> nodes::Root {
        nodes::Root::of(self.syntax())
    }

    /// What is wrong with the source, in source order.
    ///
    /// Syntax errors, duplicate names among them; whether variables exist is not known here.
    pub fn errors(&self) -> &[SyntaxError] {
        &self.errors
    }

    /// Whether the source nests deeper than [`DEEPEST_TREE`]. What is deeper has no nodes of its own: its
    /// tokens are directly in the node at that depth.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

/// Builds the lossless tree of a text.
///
/// Never fails. For sources of 4 GiB and more the tree is empty and the only error says so.
pub fn parse_tree(source: &str, options: &ParseOptions) -> Tree {
    let Lexed {
        tokens: all,
        mut errors,
    } = lexer::lex(source.as_bytes(), true);
    let significant: Vec<Token> = all
        .iter()
        .filter(|token| !token.kind.is_trivia())
        .copied()
        .collect();
    let mut both = Both {
        events: Events {
            nodes: Vec::with_capacity(significant.len()),
        },
        code: CodeSink::new(source.as_bytes(), &significant, options.pipe_operators),
    };
    let unexpected = StrictParser.parse(&significant, &mut both);
    let Both { mut events, code } = both;
    if unexpected.is_empty() {
        // Only what the code sink finds tells whether names are used as they should.
        errors.extend(code.finish().err().unwrap_or_default());
        errors.sort_by_key(|error| error.span.start);
    } else {
        drop(code);
        (events, errors) = recover(source.as_bytes(), &significant, unexpected, errors);
    }
    let (green, cut) = build(source, &all, &events.nodes);
    Tree {
        green,
        errors: errors.into(),
        cut,
    }
}

/// All that is wrong with a source that the strict parser rejects; `errors` is what the lexer found.
pub(crate) fn errors_of(
    source: &[u8],
    tokens: &[Token],
    first: Vec<Unexpected>,
    errors: Vec<SyntaxError>,
) -> Vec<SyntaxError> {
    recover(source, tokens, first, errors).1
}

/// Parses again, now to find several errors and as much structure as possible.
fn recover(
    source: &[u8],
    tokens: &[Token],
    first: Vec<Unexpected>,
    mut errors: Vec<SyntaxError>,
) -> (Events, Vec<SyntaxError>) {
    let balanced = balance(source, tokens);
    let mut events = Events::default();
    let mut unexpected = TolerantParser.parse(&balanced.tokens, &mut events);
    events.map(&balanced.original);
    errors.extend(balanced.errors);
    // What is wrong at a bracket that had to be added is a consequence of its absence.
    unexpected.retain(|unexpected| {
        let at = unexpected.token as usize;
        !balanced.added.get(at).copied().unwrap_or(false)
    });
    for unexpected in &mut unexpected {
        let at = balanced.original.get(unexpected.token as usize);
        unexpected.token = at.copied().unwrap_or(tokens.len() as u32);
    }
    if errors.is_empty() && unexpected.is_empty() {
        unexpected = first;
    }
    // That more is needed at the end says nothing new once something is wrong before it.
    if errors.len() + unexpected.len() > 1 {
        unexpected.retain(|unexpected| (unexpected.token as usize) < tokens.len());
    }
    for unexpected in &unexpected {
        errors.push(messages::unexpected(source, tokens, unexpected));
    }
    errors.sort_by_key(|error| error.span.start);
    errors.truncate(MOST_ERRORS);
    (events, errors)
}

/// Tokens with all brackets closed.
struct Balanced {
    tokens: Vec<Token>,
    /// For each of them, and for the end, how many of the original tokens come before it.
    original: Vec<u32>,
    /// Whether it was added.
    added: Vec<bool>,
    errors: Vec<SyntaxError>,
}

/// A bracket or quote that is open.
#[derive(Clone, Copy)]
struct Open {
    /// The token that closes it.
    kind: SyntaxKind,
    opener: Token,
    /// How many `;` may be directly inside of it.
    semicolons: u32,
}

/// What a `let` adds to the `;` that may follow. It is more than any `let` has and leaves room for many.
const LET_SEMICOLONS: u32 = 1 << 16;

/// The token that closes what `kind` opens.
fn closer(kind: SyntaxKind) -> Option<SyntaxKind> {
    Some(match kind {
        L_BRACE | DOLLAR_BRACE => R_BRACE,
        L_PAREN => R_PAREN,
        L_BRACKET => R_BRACKET,
        STRING_START => STRING_END,
        IND_STRING_START => IND_STRING_END,
        PATH_START => PATH_END,
        _ => return None,
    })
}

/// Adds tokens without bytes for brackets that are never closed, at the place where an outer bracket is
/// closed or the file ends.
fn balance(source: &[u8], tokens: &[Token]) -> Balanced {
    let mut balanced = Balanced {
        tokens: Vec::with_capacity(tokens.len()),
        original: Vec::with_capacity(tokens.len() + 1),
        added: Vec::with_capacity(tokens.len()),
        errors: Vec::new(),
    };
    let mut open: Vec<Open> = Vec::new();
    // How many of each are open, so that a lone closing bracket does not search for its partner.
    let mut counts = [0usize; SyntaxKind::ALL.len()];
    let close = |balanced: &mut Balanced, Open { kind, opener, .. }: Open, before, at: u32| {
        let text = String::from_utf8_lossy(opener.bytes(source)).into_owned();
        let message = match kind {
            STRING_END => "this string is never closed; expected `\"`".to_owned(),
            IND_STRING_END => "this string is never closed; expected `''`".to_owned(),
            PATH_END => return,
            _ => {
                let closing = messages::text(kind);
                format!("this `{text}` is never closed; expected {closing}")
            }
        };
        balanced.errors.push(SyntaxError::new(
            SyntaxErrorKind::Unclosed,
            message,
            opener.span(),
        ));
        balanced.push(
            Token {
                kind,
                start: at,
                end: at,
            },
            before,
            true,
        );
    };
    for (index, token) in (0u32..).zip(tokens) {
        let count = |kind: SyntaxKind| kind as usize;
        if let Some(kind) = closer(token.kind) {
            open.push(Open {
                kind,
                opener: *token,
                semicolons: 0,
            });
            if let Some(count) = counts.get_mut(count(kind)) {
                *count += 1;
            }
        } else if counts.get(count(token.kind)).is_some_and(|open| *open > 0) {
            while let Some(opener) = open.pop() {
                if let Some(count) = counts.get_mut(count(opener.kind)) {
                    *count -= 1;
                }
                if opener.kind == token.kind {
                    break;
                }
                close(&mut balanced, opener, index, token.start);
            }
        } else if token.kind == SEMICOLON {
            // A `;` that a list or parentheses have no use for ends the binding that they are in.
            while let Some(last) = open.last_mut()
                && matches!(last.kind, R_BRACKET | R_PAREN)
                && counts.get(count(R_BRACE)).is_some_and(|open| *open > 0)
            {
                if last.semicolons > 0 {
                    last.semicolons -= 1;
                    break;
                }
                if let Some(count) = counts.get_mut(count(last.kind)) {
                    *count -= 1;
                }
                close(&mut balanced, *last, index, token.start);
                open.pop();
            }
        } else if let Some(last) = open.last_mut() {
            match token.kind {
                WITH_KW | ASSERT_KW => last.semicolons = last.semicolons.saturating_add(1),
                // Any number, up to the `in`.
                LET_KW => last.semicolons = last.semicolons.saturating_add(LET_SEMICOLONS),
                IN_KW => last.semicolons = last.semicolons.saturating_sub(LET_SEMICOLONS),
                _ => {}
            }
        }
        balanced.push(*token, index, false);
    }
    let end = tokens.len() as u32;
    while let Some(opener) = open.pop() {
        close(&mut balanced, opener, end, source.len() as u32);
    }
    balanced.original.push(end);
    balanced
}

impl Balanced {
    fn push(&mut self, token: Token, before: u32, added: bool) {
        self.tokens.push(token);
        self.original.push(before);
        self.added.push(added);
    }
}

/// Records what a parser announces.
#[derive(Default)]
struct Events {
    /// Kind, first and end token of each node, inner nodes before outer ones.
    nodes: Vec<(SyntaxKind, u32, u32)>,
}

impl Sink for Events {
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32) {
        // The same thing with and without an optional part has one kind in the tree.
        let kind = match kind {
            SELECT_OR => SELECT,
            INHERIT_FROM => INHERIT,
            kind => kind,
        };
        self.nodes.push((kind, first, end));
    }
}

/// Records nodes, and lets the code sink find what is wrong with names.
struct Both<'a> {
    events: Events,
    code: CodeSink<'a>,
}

impl Sink for Both<'_> {
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32) {
        self.events.node(kind, first, end);
        self.code.node(kind, first, end);
    }
}

impl Events {
    /// Replaces token indices by those of the tokens before brackets were added.
    fn map(&mut self, original: &[u32]) {
        for (_, first, end) in &mut self.nodes {
            for index in [first, end] {
                *index = original.get(*index as usize).copied().unwrap_or(0);
            }
        }
        self.nodes.retain(|(_, first, end)| first < end);
    }
}

/// Puts all tokens and the nodes over them together.
fn build(source: &str, all: &[Token], nodes: &[(SyntaxKind, u32, u32)]) -> (GreenNode, bool) {
    const NONE: u32 = u32::MAX;
    // For each significant token the last node that begins there, and for each node the one before it that
    // begins at the same token: outer nodes first.
    let mut heads = vec![NONE; all.len() + 1];
    let mut before = Vec::with_capacity(nodes.len());
    for (index, (_, first, _)) in (0u32..).zip(nodes) {
        let head = heads.get_mut(*first as usize);
        before.push(head.map_or(NONE, |head| std::mem::replace(head, index)));
    }

    let mut builder = GreenNodeBuilder::new();
    builder.start_node(NixLanguage::kind_to_raw(ROOT));
    // Where the open nodes end; those that are too deep are left out.
    let mut open: Vec<u32> = Vec::new();
    let mut cut = false;
    let mut significant = 0u32;
    for token in all {
        let text = source
            .get(token.start as usize..token.end as usize)
            .unwrap_or_default();
        if token.kind.is_trivia() {
            builder.token(NixLanguage::kind_to_raw(token.kind), text);
            continue;
        }
        let mut node = heads.get(significant as usize).copied().unwrap_or(NONE);
        while let Some((kind, _, end)) = nodes.get(node as usize) {
            if open.len() as u32 >= DEEPEST_TREE {
                cut = true;
                break;
            }
            builder.start_node(NixLanguage::kind_to_raw(*kind));
            open.push(*end);
            node = before.get(node as usize).copied().unwrap_or(NONE);
        }
        // Tokens without bytes only help the parser.
        if !text.is_empty() {
            builder.token(NixLanguage::kind_to_raw(token.kind), text);
        }
        significant += 1;
        while open.last().is_some_and(|end| *end <= significant) {
            builder.finish_node();
            open.pop();
        }
    }
    for _ in open {
        builder.finish_node();
    }
    builder.finish_node();
    (builder.finish(), cut)
}

/// The span of a node or token.
pub fn span(range: rowan::TextRange) -> Span {
    Span {
        start: range.start().into(),
        end: range.end().into(),
    }
}
