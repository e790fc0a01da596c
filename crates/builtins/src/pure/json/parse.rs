//! Reads JSON as a stream of events.

use super::super::{Error, ErrorKind};
use std::borrow::Cow;

/// What comes next in a JSON text.
///
/// A text is one value; lists and objects come as their begin, their contents and their end. Within an object every value
/// follows its key; when a key comes twice, the later value is the one that counts in Nix.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer between -2^63 and 2^63 - 1.
    Int(i64),
    /// A number with fraction or exponent, or an integer outside the range of 64 bits.
    Float(f64),
    /// A string: valid UTF-8 without NUL.
    String(Cow<'a, [u8]>),
    /// The key of the value that follows.
    Key(Cow<'a, [u8]>),
    /// `[`
    ListStart,
    /// `]`
    ListEnd,
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    List,
    Object,
}

/// What the grammar allows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value or `]`, directly after `[`.
    ValueOrEnd,
    /// A key or `}`, directly after `{`.
    KeyOrEnd,
    /// `,` or the end of the container; at the top the end of the text.
    Separator,
    Done,
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    String(Cow<'a, [u8]>),
    ListStart,
    ListEnd,
    ObjectStart,
    ObjectEnd,
    Colon,
    Comma,
    End,
}

impl Token<'_> {
    fn name(&self) -> &'static str {
        match self {
            Token::Null => "null literal",
            Token::Bool(true) => "true literal",
            Token::Bool(false) => "false literal",
            Token::Int(_) | Token::Unsigned(_) | Token::Float(_) => "number literal",
            Token::String(_) => "string literal",
            Token::ListStart => "'['",
            Token::ListEnd => "']'",
            Token::ObjectStart => "'{'",
            Token::ObjectEnd => "'}'",
            Token::Colon => "':'",
            Token::Comma => "','",
            Token::End => "end of input",
        }
    }
}

/// A pull parser for one JSON text, with nlohmann's idea of what is valid and its messages.
///
/// Memory beyond the input is one byte per open container and one copy of a string with escapes. Depth is not limited.
#[derive(Debug)]
pub struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the last string or number begins: messages show what was read from there on.
    token: usize,
    /// The last thing looked at was the end of the text, which counts as a column.
    at_end: bool,
    /// The token ended because of a newline, which was put back: the column is 0 then.
    put_back_newline: bool,
    open: Vec<Container>,
    expect: Expect,
}

type Result<T> = std::result::Result<T, Error>;

impl<'a> Parser<'a> {
    /// A parser at the begin of `text`. A byte order mark is skipped.
    pub fn new(text: &'a [u8]) -> Self {
        Parser {
            text,
            at: 0,
            token: 0,
            at_end: false,
            put_back_newline: false,
            open: Vec::new(),
            expect: Expect::Value,
        }
    }

    /// The next event, or `None` after the end of the text. Not to be called again after an error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`], [`ErrorKind::JsonInteger`] for an integer from 2^63 to 2^64 - 1, and
    /// [`ErrorKind::NulByte`] for a string with `\u0000`.
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>> {
        loop {
            match self.expect {
                Expect::Done => return Ok(None),
                Expect::Value => {
                    let token = self.token("value")?;
                    return self.value(token).map(Some);
                }
                Expect::ValueOrEnd => {
                    let token = self.token("value")?;
                    if token == Token::ListEnd {
                        return Ok(Some(self.close(Event::ListEnd)));
                    }
                    return self.value(token).map(Some);
                }
                Expect::KeyOrEnd => {
                    let token = self.token("object key")?;
                    if token == Token::ObjectEnd {
                        return Ok(Some(self.close(Event::ObjectEnd)));
                    }
                    return self.key(&token).map(Some);
                }
                Expect::Separator => match self.open.last() {
                    None => {
                        let token = self.token("value")?;
                        if token != Token::End {
                            return Err(self.unexpected(&token, "value", "end of input"));
                        }
                        self.expect = Expect::Done;
                    }
                    Some(Container::List) => match self.token("array")? {
                        Token::Comma => self.expect = Expect::Value,
                        Token::ListEnd => return Ok(Some(self.close(Event::ListEnd))),
                        token => return Err(self.unexpected(&token, "array", "']'")),
                    },
                    Some(Container::Object) => match self.token("object")? {
                        Token::Comma => {
                            let token = self.token("object key")?;
                            return self.key(&token).map(Some);
                        }
                        Token::ObjectEnd => return Ok(Some(self.close(Event::ObjectEnd))),
                        token => return Err(self.unexpected(&token, "object", "'}'")),
                    },
                },
            }
        }
    }

    fn close(&mut self, event: Event<'a>) -> Event<'a> {
        self.open.pop();
        self.expect = Expect::Separator;
        event
    }

    fn value(&mut self, token: Token<'a>) -> Result<Event<'a>> {
        self.expect = Expect::Separator;
        Ok(match token {
            Token::Null => Event::Null,
            Token::Bool(value) => Event::Bool(value),
            Token::Int(value) => Event::Int(value),
            Token::Unsigned(value) => {
                return Err(Error::new(
                    ErrorKind::JsonInteger,
                    format!("unsigned json number {value} outside of Nix integer range"),
                ));
            }
            Token::Float(value) => {
                if !value.is_finite() {
                    return Err(Error::new(
                        ErrorKind::InvalidJson,
                        format!(
                            "[json.exception.out_of_range.406] number overflow parsing '{}'",
                            self.token_text()
                        ),
                    ));
                }
                Event::Float(value)
            }
            Token::String(text) => Event::String(no_nul(text)?),
            Token::ListStart => {
                self.open.push(Container::List);
                self.expect = Expect::ValueOrEnd;
                Event::ListStart
            }
            Token::ObjectStart => {
                self.open.push(Container::Object);
                self.expect = Expect::KeyOrEnd;
                Event::ObjectStart
            }
            Token::End if self.at == 0 => {
                return Err(self.error(
                    "attempting to parse an empty input; check that your input string or stream contains the expected JSON",
                ));
            }
            token => return Err(self.unexpected(&token, "value", "'[', '{', or a literal")),
        })
    }

    fn key(&mut self, token: &Token<'a>) -> Result<Event<'a>> {
        let Token::String(key) = token else {
            return Err(self.unexpected(token, "object key", "string literal"));
        };
        let key = no_nul(key.clone())?;
        let colon = self.token("object separator")?;
        if colon != Token::Colon {
            return Err(self.unexpected(&colon, "object separator", "':'"));
        }
        self.expect = Expect::Value;
        Ok(Event::Key(key))
    }

    /// What was read since the last string or number began, as messages show it.
    fn token_text(&self) -> String {
        let mut shown = Vec::new();
        for byte in self.text.get(self.token..self.at).unwrap_or_default() {
            match byte {
                0..=31 => shown.extend_from_slice(format!("<U+{byte:04X}>").as_bytes()),
                _ => shown.push(*byte),
            }
        }
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// A syntax error where the parser stands.
    fn error(&self, what: &str) -> Error {
        let read = self.text.get(..self.at).unwrap_or_default();
        let line = read.iter().filter(|b| **b == b'\n').count() + 1;
        let line_start = read.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let column = if self.put_back_newline {
            0
        } else {
            read.len() - line_start + usize::from(self.at_end)
        };
        Error::new(
            ErrorKind::InvalidJson,
            format!(
                "[json.exception.parse_error.101] parse error at line {line}, column {column}: {what}"
            ),
        )
    }

    fn unexpected(&self, token: &Token<'_>, context: &str, expected: &str) -> Error {
        let found = token.name();
        self.error(&format!(
            "syntax error while parsing {context} - unexpected {found}; expected {expected}"
        ))
    }

    /// An error inside a token. nlohmann names what it would have accepted instead, except where any value would do.
    fn bad_token(&self, context: &str, what: &str) -> Error {
        let expected = match context {
            "object key" => "; expected string literal",
            "object separator" => "; expected ':'",
            "array" => "; expected ']'",
            "object" => "; expected '}'",
            _ if self.expect == Expect::Separator => "; expected end of input",
            _ => "",
        };
        let read = self.token_text();
        self.error(&format!(
            "syntax error while parsing {context} - {what}; last read: '{read}'{expected}"
        ))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte; at the end notes that the end was seen.
    fn get(&mut self) -> Option<u8> {
        let byte = self.peek();
        match byte {
            Some(_) => self.at += 1,
            None => self.at_end = true,
        }
        byte
    }

    fn token(&mut self, context: &'static str) -> Result<Token<'a>> {
        self.put_back_newline = false;
        if self.at == 0 && self.peek() == Some(0xEF) {
            self.at += 1;
            if self.get() != Some(0xBB) || self.get() != Some(0xBF) {
                return Err(self.bad_token(context, "invalid BOM; must be 0xEF 0xBB 0xBF if given"));
            }
        }
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let begin = self.at;
        let Some(byte) = self.get() else {
            return Ok(Token::End);
        };
        if matches!(byte, b'"' | b'-' | b'0'..=b'9') {
            self.token = begin;
        }
        match byte {
            b'[' => Ok(Token::ListStart),
            b']' => Ok(Token::ListEnd),
            b'{' => Ok(Token::ObjectStart),
            b'}' => Ok(Token::ObjectEnd),
            b':' => Ok(Token::Colon),
            b',' => Ok(Token::Comma),
            b't' => self.literal(b"rue", Token::Bool(true), context),
            b'f' => self.literal(b"alse", Token::Bool(false), context),
            b'n' => self.literal(b"ull", Token::Null, context),
            b'"' => self.string(context).map(Token::String),
            b'-' | b'0'..=b'9' => self.number(byte, context),
            0 => Ok(Token::End),
            _ => Err(self.bad_token(context, "invalid literal")),
        }
    }

    fn literal(&mut self, rest: &[u8], token: Token<'a>, context: &str) -> Result<Token<'a>> {
        for want in rest {
            if self.get() != Some(*want) {
                return Err(self.bad_token(context, "invalid literal"));
            }
        }
        Ok(token)
    }

    fn number(&mut self, first: u8, context: &str) -> Result<Token<'a>> {
        let digit = |p: &mut Self, what: &str| match p.get() {
            Some(b @ b'0'..=b'9') => Ok(b),
            _ => Err(p.bad_token(context, what)),
        };
        let lead = if first == b'-' {
            digit(self, "invalid number; expected digit after '-'")?
        } else {
            first
        };
        let mut integer = true;
        if lead != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            integer = false;
            digit(self, "invalid number; expected digit after '.'")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            integer = false;
            match self.get() {
                Some(b'0'..=b'9') => {}
                Some(b'+' | b'-') => {
                    digit(self, "invalid number; expected digit after exponent sign")?;
                }
                _ => {
                    return Err(self.bad_token(
                        context,
                        "invalid number; expected '+', '-', or digit after exponent",
                    ));
                }
            }
            self.digits();
        }
        self.put_back_newline = self.peek() == Some(b'\n');
        let text = self.text.get(self.token..self.at).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        if integer {
            if let Ok(value) = text.parse() {
                return Ok(Token::Int(value));
            }
            if let Ok(value) = text.parse() {
                return Ok(Token::Unsigned(value));
            }
        }
        // Rust and C agree on correctly rounded results.
        Ok(Token::Float(text.parse().unwrap_or(f64::INFINITY)))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// The contents of a string, after its opening quote.
    fn string(&mut self, context: &str) -> Result<Cow<'a, [u8]>> {
        let begin = self.at;
        // What was read before `plain`, if it had escapes.
        let mut owned: Option<Vec<u8>> = None;
        let mut plain = begin;
        loop {
            while matches!(self.peek(), Some(32..=33 | 35..=91 | 93..=127)) {
                self.at += 1;
            }
            let end = self.at;
            match self.get() {
                None => {
                    return Err(self.bad_token(context, "invalid string: missing closing quote"));
                }
                Some(b'"') => {
                    let last = self.text.get(plain..end).unwrap_or_default();
                    return Ok(match owned {
                        None => Cow::Borrowed(last),
                        Some(mut text) => {
                            text.extend_from_slice(last);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.extend_from_slice(self.text.get(plain..end).unwrap_or_default());
                    let character = self.escape(context)?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    plain = self.at;
                }
                Some(control @ 0..=31) => {
                    return Err(self.bad_token(context, &control_message(control)));
                }
                Some(lead) => self.multibyte(lead, context)?,
            }
        }
    }

    /// The character that an escape stands for, after its backslash.
    fn escape(&mut self, context: &str) -> Result<char> {
        Ok(match self.get() {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.code_unit(context)?;
                let code = match first {
                    0xD800..=0xDBFF => {
                        const UNPAIRED: &str = "invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF";
                        if self.get() != Some(b'\\') || self.get() != Some(b'u') {
                            return Err(self.bad_token(context, UNPAIRED));
                        }
                        let second = self.code_unit(context)?;
                        if !(0xDC00..=0xDFFF).contains(&second) {
                            return Err(self.bad_token(context, UNPAIRED));
                        }
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    code => code,
                };
                match char::from_u32(code) {
                    Some(character) => character,
                    None => {
                        let what =
                            "invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF";
                        return Err(self.bad_token(context, what));
                    }
                }
            }
            _ => {
                return Err(self.bad_token(
                    context,
                    "invalid string: forbidden character after backslash",
                ));
            }
        })
    }

    /// Four hexadecimal digits.
    fn code_unit(&mut self, context: &str) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.get().and_then(|b| char::from(b).to_digit(16)) else {
                return Err(self.bad_token(
                    context,
                    "invalid string: '\\u' must be followed by 4 hex digits",
                ));
            };
            code = code << 4 | digit;
        }
        Ok(code)
    }

    /// The bytes that must follow the lead byte of a UTF-8 sequence.
    fn multibyte(&mut self, lead: u8, context: &str) -> Result<()> {
        let (second, more) = match lead {
            0xC2..=0xDF => (0x80..=0xBF, 0),
            0xE0 => (0xA0..=0xBF, 1),
            0xED => (0x80..=0x9F, 1),
            0xE1..=0xEF => (0x80..=0xBF, 1),
            0xF0 => (0x90..=0xBF, 2),
            0xF1..=0xF3 => (0x80..=0xBF, 2),
            0xF4 => (0x80..=0x8F, 2),
            _ => return Err(self.bad_token(context, "invalid string: ill-formed UTF-8 byte")),
        };
        let rest = std::iter::once(second).chain(std::iter::repeat_n(0x80..=0xBF, more));
        for range in rest {
            if !self.get().is_some_and(|b| range.contains(&b)) {
                return Err(self.bad_token(context, "invalid string: ill-formed UTF-8 byte"));
            }
        }
        Ok(())
    }
}

fn no_nul(text: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>> {
    if text.contains(&0) {
        Err(Error::nul_byte(&text))
    } else {
        Ok(text)
    }
}

fn control_message(byte: u8) -> String {
    const NAMES: [&str; 32] = [
        "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR",
        "SO", "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB",
        "ESC", "FS", "GS", "RS", "US",
    ];
    let name = NAMES.get(usize::from(byte)).copied().unwrap_or_default();
    let short = match byte {
        8 => " or \\b",
        9 => " or \\t",
        10 => " or \\n",
        12 => " or \\f",
        13 => " or \\r",
        _ => "",
    };
    format!(
        "invalid string: control character U+{byte:04X} ({name}) must be escaped to \\u{byte:04X}{short}"
    )
}
