//! JSON values as the formats of the store need them: numbers kept as they are spelled, objects with
//! sorted keys, nesting of bounded depth, and printing as C++ Nix does.
//!
//! Structured attributes are hashed as text, so reading a derivation and printing it must not touch the
//! spelling of numbers, which general JSON libraries do not promise.

use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// How deeply arrays and objects may nest.
pub const MAX_DEPTH: usize = 512;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is spelled.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; the keys are sorted bytewise.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// An object from pairs.
    pub fn object<K: Into<String>>(entries: impl IntoIterator<Item = (K, Json)>) -> Json {
        Json::Object(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// A string.
    pub fn string(text: impl Into<String>) -> Json {
        Json::String(text.into())
    }

    /// The compact form: no spaces or line ends.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.print(None, 0, &mut out);
        out
    }

    /// A form for people, indented by so many spaces a level.
    pub fn to_text_indented(&self, spaces: usize) -> String {
        let mut out = String::new();
        self.print(Some(spaces), 0, &mut out);
        out
    }

    // Recursive; depth is bounded by the parser and by what this crate builds.
    fn print(&self, indent: Option<usize>, depth: usize, out: &mut String) {
        let line = |depth: usize, out: &mut String| {
            if let Some(spaces) = indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', spaces * depth));
            }
        };
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(text) => out.push_str(text),
            Json::String(text) => print_string(text, out),
            Json::Array(items) if items.is_empty() => out.push_str("[]"),
            Json::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    out.push(if i == 0 { '[' } else { ',' });
                    line(depth + 1, out);
                    item.print(indent, depth + 1, out);
                }
                line(depth, out);
                out.push(']');
            }
            Json::Object(entries) if entries.is_empty() => out.push_str("{}"),
            Json::Object(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push(if i == 0 { '{' } else { ',' });
                    line(depth + 1, out);
                    print_string(key, out);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.print(indent, depth + 1, out);
                }
                line(depth, out);
                out.push('}');
            }
        }
    }

    /// Parses JSON text (RFC 8259). Repeated keys, text after the value and nesting beyond
    /// [`MAX_DEPTH`] are refused.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Json> {
        Parser {
            input: text.as_ref(),
            offset: 0,
        }
        .document()
    }
}

fn print_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'i> {
    input: &'i [u8],
    offset: usize,
}

/// An array or object that is being read.
enum Open {
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>, String),
}

impl Parser<'_> {
    fn fail<T>(&self, message: &str) -> Result<T> {
        if self.peek().is_none() {
            return Err(Error::at(
                ErrorKind::UnexpectedEnd,
                self.offset as u64,
                "JSON text ends early",
            ));
        }
        Err(Error::at(ErrorKind::Json, self.offset as u64, message))
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.offset).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset += 1;
        }
    }

    fn document(&mut self) -> Result<Json> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.space();
            // A value, or the start of one.
            let mut value = match self.peek() {
                Some(b'[') => {
                    self.offset += 1;
                    self.space();
                    if !self.eat(b']') {
                        self.nest(&mut open, Open::Array(Vec::new()))?;
                        continue;
                    }
                    Json::Array(Vec::new())
                }
                Some(b'{') => {
                    self.offset += 1;
                    self.space();
                    if !self.eat(b'}') {
                        let key = self.key()?;
                        self.nest(&mut open, Open::Object(BTreeMap::new(), key))?;
                        continue;
                    }
                    Json::Object(BTreeMap::new())
                }
                Some(b'"') => Json::String(self.string()?),
                Some(b'-' | b'0'..=b'9') => Json::Number(self.number()?),
                _ => self.word()?,
            };
            // Put it where it belongs, and close what is complete.
            loop {
                self.space();
                match open.pop() {
                    None if self.offset == self.input.len() => return Ok(value),
                    None => return self.fail("something follows the JSON value"),
                    Some(Open::Array(mut items)) => {
                        items.push(value);
                        if self.eat(b',') {
                            open.push(Open::Array(items));
                            break;
                        }
                        if !self.eat(b']') {
                            return self.fail("expected ',' or ']' in a JSON array");
                        }
                        value = Json::Array(items);
                    }
                    Some(Open::Object(mut entries, key)) => {
                        if entries.insert(key, value).is_some() {
                            return Err(Error::at(
                                ErrorKind::Json,
                                self.offset as u64,
                                "a key occurs twice in a JSON object",
                            ));
                        }
                        if self.eat(b',') {
                            self.space();
                            let key = self.key()?;
                            open.push(Open::Object(entries, key));
                            break;
                        }
                        if !self.eat(b'}') {
                            return self.fail("expected ',' or '}' in a JSON object");
                        }
                        value = Json::Object(entries);
                    }
                }
            }
        }
    }

    fn nest(&self, open: &mut Vec<Open>, new: Open) -> Result<()> {
        if open.len() >= MAX_DEPTH {
            return Err(Error::at(
                ErrorKind::Limit,
                self.offset as u64,
                format!("JSON nests more than {MAX_DEPTH} deep"),
            ));
        }
        open.push(new);
        Ok(())
    }

    fn word(&mut self) -> Result<Json> {
        let rest = self.input.get(self.offset..).unwrap_or(&[]);
        for (word, value) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if rest.starts_with(word.as_bytes()) {
                self.offset += word.len();
                return Ok(value);
            }
        }
        self.fail("expected a JSON value")
    }

    fn key(&mut self) -> Result<String> {
        let key = self.string()?;
        self.space();
        if !self.eat(b':') {
            return self.fail("expected ':' after a key of a JSON object");
        }
        Ok(key)
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.offset;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.offset += 1;
        }
        match self.offset > start {
            true => Ok(()),
            false => self.fail("expected a digit in a JSON number"),
        }
    }

    fn number(&mut self) -> Result<String> {
        let start = self.offset;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let text = self.input.get(start..self.offset).unwrap_or(&[]);
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn string(&mut self) -> Result<String> {
        if !self.eat(b'"') {
            return self.fail("expected a JSON string");
        }
        let mut out = Vec::new();
        let start = self.offset;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return String::from_utf8(out).map_err(|_| {
                        Error::at(
                            ErrorKind::Json,
                            start as u64,
                            "JSON string is not valid UTF-8",
                        )
                    });
                }
                Some(b'\\') => {
                    self.offset += 1;
                    let c = self.escape()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(c) if c >= 0x20 => {
                    self.offset += 1;
                    out.push(c);
                }
                _ => return self.fail("control character in a JSON string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.offset += 1;
                return self.unicode();
            }
            _ => return self.fail("unknown escape in a JSON string"),
        };
        self.offset += 1;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char> {
        let high = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            if !(self.eat(b'\\') && self.eat(b'u')) {
                return self.fail("lone surrogate in a JSON string");
            }
            let low = self.hex4()?;
            match low.checked_sub(0xdc00) {
                Some(low) if low < 0x400 => 0x10000 + ((high - 0xd800) << 10) + low,
                _ => return self.fail("lone surrogate in a JSON string"),
            }
        } else {
            high
        };
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.fail("lone surrogate in a JSON string"),
        }
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|c| char::from(c).to_digit(16));
            let Some(digit) = digit else {
                return self.fail("expected four hexadecimal digits in a JSON string");
            };
            code = code << 4 | digit;
            self.offset += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_and_bad() {
        for (text, printed) in [
            (
                " [ 1 , -0.50e+3 , \"\\u00e9\\ud83d\\ude00\\/\" ] ",
                "[1,-0.50e+3,\"é😀/\"]",
            ),
            (
                "{\"b\":{},\"a\":[],\"c\":null}",
                "{\"a\":[],\"b\":{},\"c\":null}",
            ),
            (
                "\"\\u0000\\u001f\\b\\f\\u007f\"",
                "\"\\u0000\\u001f\\b\\f\u{7f}\"",
            ),
            ("true", "true"),
        ] {
            assert_eq!(Json::parse(text).unwrap().to_text(), printed);
        }
        for bad in [
            "",
            "nul",
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "01",
            "-",
            "1.",
            "1e",
            "+1",
            ".5",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "1 1",
            "[]]",
            "NaN",
            "'a'",
        ] {
            let error = Json::parse(bad).unwrap_err();
            assert!(error.offset().is_some(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH)).is_ok());
        let deep = Json::parse("[".repeat(1_000_000)).unwrap_err();
        assert_eq!(deep.kind(), ErrorKind::Limit);
    }

    #[test]
    fn indented() {
        let json = Json::parse("{\"a\":[1,{}],\"b\":[]}").unwrap();
        assert_eq!(
            json.to_text_indented(2),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"
        );
    }

    fn values() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(|n| Json::Number(n.to_string())),
            "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?".prop_map(Json::Number),
            any::<String>().prop_map(Json::String),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn round_trips(json in values()) {
            prop_assert_eq!(&Json::parse(json.to_text()).unwrap(), &json);
            prop_assert_eq!(&Json::parse(json.to_text_indented(2)).unwrap(), &json);
        }

        #[test]
        fn any_text_is_an_answer(text in "[\\[\\]{}:,\"\\\\0-9eEtrufalsn. -]{0,40}") {
            if let Ok(json) = Json::parse(&text) {
                prop_assert_eq!(Json::parse(json.to_text()).unwrap(), json);
            }
        }
    }
}
