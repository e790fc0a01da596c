//! What to say about a token that does not fit.

use crate::ast::Span;
use crate::error::{SyntaxError, SyntaxErrorKind};
use crate::kind::SyntaxKind::*;
use crate::lexer::Token;
use crate::parser::Unexpected;

/// The error for an unexpected token.
pub(crate) fn unexpected(source: &[u8], tokens: &[Token], unexpected: &Unexpected) -> SyntaxError {
    let expected = unexpected.expected.join(", ");
    match tokens.get(unexpected.token as usize) {
        Some(token) => {
            let kind = if token.kind == ERROR_TOKEN {
                SyntaxErrorKind::UnknownCharacter
            } else {
                SyntaxErrorKind::UnexpectedToken
            };
            let text = String::from_utf8_lossy(token.bytes(source));
            SyntaxError::new(
                kind,
                format!("unexpected `{text}`, expected {expected}"),
                token.span(),
            )
        }
        None => {
            let end = source.len() as u32;
            SyntaxError::new(
                SyntaxErrorKind::UnexpectedEnd,
                format!("unexpected end of file, expected {expected}"),
                Span { start: end, end },
            )
        }
    }
}
