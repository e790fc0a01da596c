//! Syntax errors.

use std::fmt;

use crate::ast::Span;

/// What sort of error it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SyntaxErrorKind {
    /// A token that cannot stand here.
    UnexpectedToken,
    /// The source ends too early.
    UnexpectedEnd,
    /// A bracket or quote that is never closed.
    Unclosed,
    /// A character that begins no token.
    UnknownCharacter,
    /// A comment without end.
    UnterminatedComment,
    /// An integer literal that does not fit into 64 bits.
    InvalidInteger,
    /// A float literal outside the range of doubles.
    InvalidFloat,
    /// A path literal that ends in a slash.
    PathTrailingSlash,
    /// A NUL byte in a string.
    NulByte,
    /// An attribute that is defined twice; [`SyntaxError::related`] is the first definition.
    DuplicateAttribute,
    /// A formal argument that is named twice; [`SyntaxError::related`] is the first one.
    DuplicateFormal,
    /// A computed attribute name in `let` or after `inherit`.
    DynamicAttribute,
    /// An attribute name in `let` or after `inherit` that is not UTF-8.
    InvalidName,
    /// Syntax that has to be enabled first.
    FeatureDisabled,
    /// The source has 4 GiB or more.
    TooLarge,
}

/// An error in a source text.
///
/// Spans are byte offsets into the source. The message does not repeat where the error is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// What sort of error it is.
    pub kind: SyntaxErrorKind,
    /// What is wrong, in one line.
    pub message: Box<str>,
    /// Where.
    pub span: Span,
    /// A second place that the message refers to, and what is there.
    pub related: Option<(Span, &'static str)>,
}

impl SyntaxError {
    pub(crate) fn new(kind: SyntaxErrorKind, message: impl Into<Box<str>>, span: Span) -> Self {
        SyntaxError {
            kind,
            message: message.into(),
            span,
            related: None,
        }
    }

    pub(crate) fn with_related(mut self, span: Span, what: &'static str) -> Self {
        self.related = Some((span, what));
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}
