//! From bytes to tokens.
//!
//! Ordinary code goes through a logos automaton; the bodies of strings, indented strings, interpolated
//! paths and comments are scanned by hand between two calls of it, where "search for one of two or three
//! bytes" is all there is to do. A stack of modes says what a `}` returns to. The lexer never fails: what
//! it cannot read becomes an [`SyntaxKind::ERROR_TOKEN`], and what is readable but wrong (an integer too
//! large, a path with a trailing slash) an ordinary token and an entry in [`Lexed::errors`].

use logos::Logos;
use memchr::{memchr, memchr2, memchr3, memmem};

use crate::ast::Span;
use crate::error::{SyntaxError, SyntaxErrorKind};
use crate::kind::SyntaxKind::{self, *};

/// A token: its kind and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// Its kind.
    pub kind: SyntaxKind,
    /// Offset of its first byte.
    pub start: u32,
    /// Offset after its last byte.
    pub end: u32,
}

impl Token {
    /// Its bytes.
    pub fn bytes(self, source: &[u8]) -> &[u8] {
        source
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Its byte range.
    pub fn span(self) -> Span {
        Span {
            start: self.start,
            end: self.end,
        }
    }
}

/// What [`lex`] returns.
#[derive(Clone, Debug, Default)]
pub struct Lexed {
    /// All tokens; with trivia they cover the source without a gap.
    pub tokens: Vec<Token>,
    /// What is wrong with single tokens, in source order.
    pub errors: Vec<SyntaxError>,
}

/// Where the lexer is; on a stack, since these nest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Code inside `{ }` or `${ }`.
    Code,
    /// Inside `"…"`.
    String,
    /// Inside `''…''`.
    IndentedString,
    /// Inside an interpolated path.
    Path,
    /// Likewise, directly after a `/`.
    PathAfterSlash,
}

/// Splits `source` into tokens, in one pass over it.
///
/// With `trivia`, whitespace and comments are among the tokens; without, they are left out. Sources of
/// 4 GiB and more give a single error, for offsets have 32 bits.
pub fn lex(source: &[u8], trivia: bool) -> Lexed {
    lex_into(source, trivia, Vec::new())
}

/// Like [`lex`], using the memory of `tokens`.
pub(crate) fn lex_into(source: &[u8], trivia: bool, mut tokens: Vec<Token>) -> Lexed {
    tokens.clear();
    if u32::try_from(source.len()).is_err() {
        return Lexed {
            tokens,
            errors: vec![SyntaxError::new(
                SyntaxErrorKind::TooLarge,
                "the source has 4 GiB or more",
                Span::default(),
            )],
        };
    }
    tokens.reserve(source.len() / if trivia { 4 } else { 8 } + 8);
    let mut lexer = Lexer {
        source,
        logos: SyntaxKind::lexer(source),
        trivia,
        lexed: Lexed {
            tokens,
            errors: Vec::new(),
        },
        modes: Vec::new(),
        run: Run::default(),
    };
    lexer.run();
    if memchr(0, source).is_some() {
        lexer.report_nul();
    }
    lexer.lexed
}

struct Lexer<'a> {
    source: &'a [u8],
    logos: logos::Lexer<'a, SyntaxKind>,
    trivia: bool,
    lexed: Lexed,
    modes: Vec<Mode>,
    /// The last run of path characters that was looked at.
    run: Run,
}

/// A run of characters that may be in a path.
///
/// Whether `1+1.a-b` begins a path is known at its end only, by the `/` after it; likewise URIs and their
/// `:`. If it does not, the next token begins within the same run, whose end is known by then.
#[derive(Clone, Copy, Default)]
struct Run {
    start: usize,
    end: usize,
    /// After its last `_`, which the scheme of a URI has none of; the start if there is none.
    after_underscore: usize,
}

/// Whether a byte may be in a path.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+')
}

/// Whether a byte may be in a URI after the scheme.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'%' | b'/'
                | b'?'
                | b':'
                | b'@'
                | b'&'
                | b'='
                | b'+'
                | b'$'
                | b','
                | b'-'
                | b'_'
                | b'.'
                | b'!'
                | b'~'
                | b'*'
                | b'\''
        )
}

/// How many of the first bytes fulfil a condition.
fn prefix(bytes: &[u8], condition: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| condition(**byte)).count()
}

/// How many of the first bytes continue a UTF-8 character.
fn continuation_bytes(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| **byte & 0xc0 == 0x80)
        .count()
}

impl Lexer<'_> {
    fn run(&mut self) {
        loop {
            let more = match self.modes.last() {
                None | Some(Mode::Code) => self.code(),
                Some(Mode::String) => self.string(),
                Some(Mode::IndentedString) => self.indented_string(),
                Some(Mode::Path) => self.path(false),
                Some(Mode::PathAfterSlash) => self.path(true),
            };
            if !more {
                break;
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.source.get(self.logos.span().end..).unwrap_or_default()
    }

    fn push(&mut self, kind: SyntaxKind, start: usize, end: usize) {
        self.lexed.tokens.push(Token {
            kind,
            start: start as u32,
            end: end as u32,
        });
    }

    /// Takes the next `length` bytes as a token.
    fn take(&mut self, kind: SyntaxKind, length: usize) {
        let start = self.logos.span().end;
        self.logos.bump(length);
        self.push(kind, start, start + length);
    }

    fn report(
        &mut self,
        kind: SyntaxErrorKind,
        message: impl Into<Box<str>>,
        start: usize,
        end: usize,
    ) {
        let span = Span {
            start: start as u32,
            end: end as u32,
        };
        self.lexed
            .errors
            .push(SyntaxError::new(kind, message, span));
    }

    /// Reads code up to the next change of mode. Whether there may be more.
    fn code(&mut self) -> bool {
        while let Some(kind) = self.logos.next() {
            let kind = self.longer(kind.unwrap_or(ERROR_TOKEN));
            let span = self.logos.span();
            match kind {
                WHITESPACE => {
                    if self.trivia {
                        self.push(kind, span.start, span.end);
                    }
                }
                LINE_COMMENT => {
                    let rest = self.rest();
                    let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    self.logos.bump(length);
                    if self.trivia {
                        self.push(kind, span.start, span.end + length);
                    }
                }
                BLOCK_COMMENT => self.block_comment(span.start),
                L_BRACE => {
                    self.push(kind, span.start, span.end);
                    self.modes.push(Mode::Code);
                }
                DOLLAR_BRACE => {
                    self.push(kind, span.start, span.end);
                    self.modes.push(Mode::Code);
                }
                R_BRACE => {
                    self.push(kind, span.start, span.end);
                    self.modes.pop();
                    if !matches!(self.modes.last(), None | Some(Mode::Code)) {
                        return true;
                    }
                }
                STRING_START => {
                    self.push(kind, span.start, span.end);
                    self.modes.push(Mode::String);
                    return true;
                }
                IND_STRING_START => {
                    self.push(kind, span.start, span.end);
                    self.modes.push(Mode::IndentedString);
                    return true;
                }
                PATH => {
                    let slash = self.logos.slice().last() == Some(&b'/');
                    let rest = self.rest();
                    if rest.starts_with(b"${") || (slash && rest.starts_with(b"/")) {
                        self.push(PATH_START, span.start, span.start);
                        self.push(PATH_TEXT, span.start, span.end);
                        self.modes.push(if slash {
                            Mode::PathAfterSlash
                        } else {
                            Mode::Path
                        });
                        return true;
                    }
                    if slash {
                        self.trailing_slash(span.start, span.end);
                    }
                    self.push(kind, span.start, span.end);
                }
                PATH_BEFORE_INTERPOLATION => {
                    self.push(PATH_START, span.start, span.start);
                    self.push(PATH_TEXT, span.start, span.end - 2);
                    self.push(DOLLAR_BRACE, span.end - 2, span.end);
                    self.modes.push(Mode::Path);
                    self.modes.push(Mode::Code);
                }
                INT => {
                    if span.len() > 18 && parse_int(self.logos.slice()).is_none() {
                        let message = format!(
                            "invalid integer '{}': it does not fit into 64 bits",
                            String::from_utf8_lossy(self.logos.slice())
                        );
                        self.report(
                            SyntaxErrorKind::InvalidInteger,
                            message,
                            span.start,
                            span.end,
                        );
                    }
                    self.push(kind, span.start, span.end);
                }
                FLOAT => {
                    if parse_float(self.logos.slice()).is_none() {
                        let message = format!(
                            "invalid float '{}': it is out of range",
                            String::from_utf8_lossy(self.logos.slice())
                        );
                        self.report(SyntaxErrorKind::InvalidFloat, message, span.start, span.end);
                    }
                    self.push(kind, span.start, span.end);
                }
                ERROR_TOKEN => {
                    let length = continuation_bytes(self.rest());
                    self.logos.bump(length);
                    self.push(kind, span.start, span.end + length);
                }
                _ => self.push(kind, span.start, span.end),
            }
        }
        false
    }

    /// Makes a path or URI of the token just read if it is the beginning of one. The kind of the token.
    ///
    /// These are not part of the automaton, because it would read on to the end of the run for every token
    /// in it.
    #[inline]
    fn longer(&mut self, kind: SyntaxKind) -> SyntaxKind {
        let begins = matches!(
            kind,
            INT | FLOAT | DOT | ELLIPSIS | PLUS | CONCAT | MINUS | SLASH
        ) || (kind >= IDENT && kind <= OR_KW);
        if !begins {
            return kind;
        }
        let end = self.logos.span().end;
        match self.source.get(end) {
            Some(b'/' | b':') => self.path_or_uri(kind),
            Some(b'$') if kind == SLASH => self.path_or_uri(kind),
            Some(byte) if is_path_byte(*byte) => self.path_or_uri(kind),
            _ => kind,
        }
    }

    fn path_or_uri(&mut self, kind: SyntaxKind) -> SyntaxKind {
        let source = self.source;
        let span = self.logos.span();
        let from = |at: usize| source.get(at..).unwrap_or_default();
        if kind == SLASH {
            self.run = Run {
                start: span.start,
                end: span.start,
                after_underscore: span.start,
            };
        } else if span.start < self.run.start || span.start >= self.run.end {
            let length = prefix(from(span.start), is_path_byte);
            let run = from(span.start).get(..length).unwrap_or_default();
            self.run = Run {
                start: span.start,
                end: span.start + length,
                after_underscore: memchr::memrchr(b'_', run)
                    .map_or(span.start, |at| span.start + at + 1),
            };
        }
        let end = self.run.end;
        if kind != SLASH && end < span.end {
            // The token has a `'` in it, which no path and no scheme has.
            return kind;
        }
        match from(end) {
            [b'/', b'$', b'{', ..] => {
                self.logos.bump(end + 3 - span.end);
                PATH_BEFORE_INTERPOLATION
            }
            [b'/', next, ..] if is_path_byte(*next) => {
                let mut end = end;
                while let [b'/', tail @ ..] = from(end) {
                    let segment = prefix(tail, is_path_byte);
                    end += 1 + segment;
                    if segment == 0 {
                        break;
                    }
                }
                self.logos.bump(end - span.end);
                PATH
            }
            [b':', tail @ ..]
                if self.run.after_underscore <= span.start
                    && source.get(span.start).is_some_and(u8::is_ascii_alphabetic) =>
            {
                match prefix(tail, is_uri_byte) {
                    0 => kind,
                    length => {
                        self.logos.bump(end + 1 + length - span.end);
                        URI
                    }
                }
            }
            _ => kind,
        }
    }

    fn block_comment(&mut self, start: usize) {
        let rest = self.rest();
        let (length, closed) = match memmem::find(rest, b"*/") {
            Some(at) => (at + 2, true),
            None => (rest.len(), false),
        };
        // `/**` documents, unless it is `/**/` or begins a row of stars.
        let documents = closed
            && rest.first() == Some(&b'*')
            && !matches!(rest.get(1), None | Some(b'*' | b'/'));
        self.logos.bump(length);
        let end = self.logos.span().end;
        if !closed {
            self.report(
                SyntaxErrorKind::UnterminatedComment,
                "this comment is never closed; expected `*/`",
                start,
                end,
            );
        }
        if self.trivia {
            let kind = if documents {
                DOC_COMMENT
            } else {
                BLOCK_COMMENT
            };
            self.push(kind, start, end);
        }
    }

    fn trailing_slash(&mut self, start: usize, end: usize) {
        self.report(
            SyntaxErrorKind::PathTrailingSlash,
            "path has a trailing slash",
            start,
            end,
        );
    }

    /// Reads a string up to its end or the next interpolation. Whether there may be more.
    fn string(&mut self) -> bool {
        let rest = self.rest();
        let mut at = 0;
        let stop = loop {
            let tail = rest.get(at..).unwrap_or_default();
            let Some(found) = memchr3(b'"', b'\\', b'$', tail) else {
                at = rest.len();
                break None;
            };
            at += found;
            match (rest.get(at), rest.get(at + 1)) {
                (Some(b'"'), _) => break Some(STRING_END),
                (Some(b'$'), Some(b'{')) => break Some(DOLLAR_BRACE),
                // The `\` or `"` has to be looked at, any other character is part of the text; above
                // all the second `$` of `$${`, which thus does not begin an interpolation.
                (Some(b'$'), Some(b'"' | b'\\')) => at += 1,
                _ => at += 2,
            }
            if at >= rest.len() {
                at = rest.len();
                break None;
            }
        };
        if at > 0 {
            self.take(STRING_TEXT, at);
        }
        match stop {
            Some(STRING_END) => {
                self.take(STRING_END, 1);
                self.modes.pop();
                true
            }
            Some(_) => {
                self.take(DOLLAR_BRACE, 2);
                self.modes.push(Mode::Code);
                true
            }
            None => false,
        }
    }

    /// Reads one token of an indented string. Whether there may be more.
    fn indented_string(&mut self) -> bool {
        let rest = self.rest();
        match rest {
            [] => return false,
            [b'\'', b'\'', b'$' | b'\'', ..] => self.take(IND_STRING_ESCAPE, 3),
            [b'\'', b'\'', b'\\', _, tail @ ..] => {
                // A whole character, so that tokens of a text are texts.
                let length = 4 + continuation_bytes(tail);
                self.take(IND_STRING_ESCAPE, length);
            }
            [b'\'', b'\'', ..] => {
                self.take(IND_STRING_END, 2);
                self.modes.pop();
            }
            [b'$', b'{', ..] => {
                self.take(DOLLAR_BRACE, 2);
                self.modes.push(Mode::Code);
            }
            _ => {
                let mut at = 0;
                loop {
                    let tail = rest.get(at..).unwrap_or_default();
                    let Some(found) = memchr2(b'$', b'\'', tail) else {
                        at = rest.len();
                        break;
                    };
                    at += found;
                    match (rest.get(at), rest.get(at + 1)) {
                        (_, None) => break,
                        (Some(b'$'), Some(b'{' | b'\'')) => break,
                        (Some(b'\''), Some(b'$' | b'\'')) => break,
                        _ => at += 2,
                    }
                }
                if at == 0 {
                    self.take(IND_STRING_ESCAPE, 1);
                } else {
                    self.take(IND_STRING_TEXT, at);
                }
            }
        }
        true
    }

    /// Reads one token of an interpolated path.
    fn path(&mut self, after_slash: bool) -> bool {
        let rest = self.rest();
        if rest.starts_with(b"${") {
            self.set_path_mode(false);
            self.take(DOLLAR_BRACE, 2);
            self.modes.push(Mode::Code);
            return true;
        }
        let path_bytes = |at: usize| prefix(rest.get(at..).unwrap_or_default(), is_path_byte);
        let mut length = path_bytes(0);
        while rest.get(length) == Some(&b'/') {
            let more = path_bytes(length + 1);
            length += 1 + more;
            if more == 0 {
                break;
            }
        }
        if length == 0 {
            let end = self.logos.span().end;
            if after_slash {
                self.trailing_slash(end - 1, end);
            }
            self.push(PATH_END, end, end);
            self.modes.pop();
        } else {
            let slash = rest.get(length - 1) == Some(&b'/');
            self.set_path_mode(slash);
            self.take(PATH_TEXT, length);
        }
        true
    }

    fn set_path_mode(&mut self, after_slash: bool) {
        if let Some(mode) = self.modes.last_mut() {
            *mode = if after_slash {
                Mode::PathAfterSlash
            } else {
                Mode::Path
            };
        }
    }

    /// Reports NUL bytes in strings, which the language has no value for. In code they are unknown
    /// characters already, in comments they are harmless.
    fn report_nul(&mut self) {
        for index in 0..self.lexed.tokens.len() {
            let Some(token) = self.lexed.tokens.get(index).copied() else {
                break;
            };
            if !matches!(
                token.kind,
                STRING_TEXT | IND_STRING_TEXT | IND_STRING_ESCAPE
            ) {
                continue;
            }
            if let Some(at) = memchr(0, token.bytes(self.source)) {
                let at = token.start as usize + at;
                self.report(
                    SyntaxErrorKind::NulByte,
                    "a string cannot hold a NUL byte",
                    at,
                    at + 1,
                );
            }
        }
        self.lexed.errors.sort_by_key(|error| error.span.start);
    }
}

/// The value of an integer literal, `None` when it does not fit.
pub(crate) fn parse_int(digits: &[u8]) -> Option<i64> {
    let mut value: i64 = 0;
    for digit in digits {
        value = value
            .checked_mul(10)?
            .checked_add(i64::from(digit.wrapping_sub(b'0')))?;
    }
    Some(value)
}

/// The value of a float literal, `None` when it is too large, or so small that digits are lost.
pub(crate) fn parse_float(literal: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(literal).ok()?;
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let zero = mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    (zero || value.is_normal()).then_some(value)
}
