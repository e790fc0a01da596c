//! Checks of literals that the settings `lint-url-literals`, `lint-short-path-literals` and
//! `lint-absolute-path-literals` switch on.

use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::position::{PosId, SourceSpan, offset};
use nivis_syntax::ast::{Ast, Expr, ExprId, PathKind};

/// What is done about a literal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lint {
    /// Nothing.
    #[default]
    Ignore,
    /// A warning.
    Warn,
    /// The file is refused.
    Fatal,
}

/// Which literals are objected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lints {
    /// URLs without quotes.
    pub url_literals: Lint,
    /// Relative paths that do not start with a dot.
    pub short_path_literals: Lint,
    /// Absolute paths and those of the user's home.
    pub absolute_path_literals: Lint,
}

impl Lints {
    fn any(self) -> bool {
        self != Lints::default()
    }
}

impl Machine {
    /// Looks through the literals of a parsed file.
    pub(crate) fn lint(&self, ast: &Ast, source: &[u8], base: PosId) -> Result<()> {
        let lints = self.settings.lints;
        if !lints.any() {
            return Ok(());
        }
        // In the order of the text, which that of the arena is not.
        let mut literals: Vec<(u32, usize, Lint, String)> = Vec::new();
        for (i, expr) in ast.exprs.iter().enumerate() {
            let span = ast.span(ExprId(i as u32));
            let text = source
                .get(span.start as usize..span.end as usize)
                .unwrap_or_default();
            // Of a path with parts that are computed, what comes before them.
            let literal = match text.windows(2).position(|w| w == b"${") {
                Some(end) => text.get(..end).unwrap_or(text),
                None => text,
            };
            let shown = String::from_utf8_lossy(literal).into_owned();
            let unportable = |kind: &str| {
                format!(
                    "{kind} path literals are not portable. Consider replacing path literal '{shown}' by a string, relative path, or parameter"
                )
            };
            let (lint, name, message) = match expr {
                // A string without quotes is a URL.
                Expr::Str(_) if text.first().is_some_and(u8::is_ascii_alphabetic) => (
                    lints.url_literals,
                    "lint-url-literals",
                    format!(
                        "URL literals are {}. Consider using a string literal \"{shown}\" instead",
                        match lints.url_literals {
                            Lint::Fatal => "disallowed",
                            _ => "discouraged",
                        }
                    ),
                ),
                Expr::Path(PathKind::Relative, _)
                | Expr::PathInterpolation(PathKind::Relative, _)
                    if text.first().is_some_and(|b| *b != b'.') =>
                {
                    (
                        lints.short_path_literals,
                        "lint-short-path-literals",
                        format!(
                            "relative path literal '{shown}' should be prefixed with '.' for clarity: './{shown}'"
                        ),
                    )
                }
                Expr::Path(PathKind::Absolute, _)
                | Expr::PathInterpolation(PathKind::Absolute, _) => (
                    lints.absolute_path_literals,
                    "lint-absolute-path-literals",
                    unportable("absolute"),
                ),
                Expr::Path(PathKind::Home, _) | Expr::PathInterpolation(PathKind::Home, _) => (
                    lints.absolute_path_literals,
                    "lint-absolute-path-literals",
                    unportable("home"),
                ),
                _ => continue,
            };
            if lint != Lint::Ignore {
                literals.push((span.start, text.len(), lint, format!("{message} ({name})")));
            }
        }
        literals.sort_by_key(|l| l.0);
        for (start, len, lint, message) in literals {
            let start = offset(base, start);
            if lint == Lint::Fatal {
                let span = SourceSpan {
                    start,
                    len: len as u32,
                };
                return Err(Error::new(ErrorKind::Syntax, message).at(span));
            }
            let place = self.describe_position(start);
            self.host
                .message(format!("warning: {message}\n  at {place}").as_bytes());
        }
        Ok(())
    }
}
