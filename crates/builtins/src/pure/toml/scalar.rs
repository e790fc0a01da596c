//! Strings, numbers, dates and times.

use super::{Node, Parser, Result, Timestamps};
use crate::pure::Error;

impl Parser<'_> {
    /// `"…"` on one line.
    pub(super) fn basic_string(&mut self) -> Result<Vec<u8>> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a string without an end")),
                Some(b'"') => {
                    self.at += 1;
                    return without_nul(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => self.copy(&mut out)?,
            }
        }
    }

    /// `'…'` on one line.
    pub(super) fn literal_string(&mut self) -> Result<Vec<u8>> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a string without an end")),
                Some(b'\'') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(_) => self.copy(&mut out)?,
            }
        }
    }

    /// `"""…"""`
    pub(super) fn multiline_basic(&mut self) -> Result<Vec<u8>> {
        self.at += 3;
        self.newline();
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a string without an end")),
                Some(b'"') => {
                    if self.closing(b'"', &mut out) {
                        return without_nul(out);
                    }
                }
                Some(b'\\') => {
                    let after = self.rest().get(1..).unwrap_or_default();
                    let spaces = after
                        .iter()
                        .take_while(|b| matches!(b, b' ' | b'\t'))
                        .count();
                    let line_end = after.get(spaces..).unwrap_or_default();
                    if line_end.starts_with(b"\n") || line_end.starts_with(b"\r\n") {
                        // The line goes on at the next visible character.
                        self.at += 1 + spaces;
                        while self.newline() || matches!(self.peek(), Some(b' ' | b'\t')) {
                            self.spaces();
                        }
                    } else {
                        self.escape(&mut out)?;
                    }
                }
                Some(_) => self.copy_or_newline(&mut out)?,
            }
        }
    }

    /// `'''…'''`
    pub(super) fn multiline_literal(&mut self) -> Result<Vec<u8>> {
        self.at += 3;
        self.newline();
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a string without an end")),
                Some(b'\'') => {
                    if self.closing(b'\'', &mut out) {
                        return Ok(out);
                    }
                }
                Some(_) => self.copy_or_newline(&mut out)?,
            }
        }
    }

    /// Quotes in a string of several lines: three end it, and up to two more belong to it.
    fn closing(&mut self, quote: u8, out: &mut Vec<u8>) -> bool {
        let quotes = self
            .rest()
            .iter()
            .take_while(|b| **b == quote)
            .count()
            .min(5);
        self.at += quotes;
        let ends = quotes >= 3;
        let inside = if ends { quotes - 3 } else { quotes };
        out.resize(out.len() + inside, quote);
        ends
    }

    fn copy(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let begin = self.at;
        self.character("a string")?;
        out.extend_from_slice(self.text.get(begin..self.at).unwrap_or_default());
        Ok(())
    }

    fn copy_or_newline(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let begin = self.at;
        if self.newline() {
            out.extend_from_slice(self.text.get(begin..self.at).unwrap_or_default());
            return Ok(());
        }
        self.copy(out)
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let begin = self.at;
        self.at += 1;
        let kind = self.peek();
        self.at += 1;
        let character = match kind {
            Some(b'b') => '\u{8}',
            Some(b't') => '\t',
            Some(b'n') => '\n',
            Some(b'f') => '\u{c}',
            Some(b'r') => '\r',
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'u') => self.code_point(begin, 4)?,
            Some(b'U') => self.code_point(begin, 8)?,
            _ => return Err(self.error_at(begin, "an escape that does not exist")),
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn code_point(&mut self, begin: usize, digits: usize) -> Result<char> {
        let text = self
            .rest()
            .get(..digits)
            .filter(|t| t.iter().all(u8::is_ascii_hexdigit));
        let code = text
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| u32::from_str_radix(t, 16).ok());
        match code.and_then(char::from_u32) {
            Some(character) => {
                self.at += digits;
                Ok(character)
            }
            None => Err(self.error_at(begin, "an escape that is not a Unicode character")),
        }
    }

    /// Everything that begins with a digit or a sign, `inf` and `nan`.
    pub(super) fn number_or_date(&mut self) -> Result<Node> {
        match self.rest() {
            [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|d| d.is_ascii_digit()) => {
                return self.date();
            }
            [a, b, b':', ..] if a.is_ascii_digit() && b.is_ascii_digit() => {
                let begin = self.at;
                let time = self.time()?;
                return self.timestamp(begin, time);
            }
            _ => {}
        }
        let begin = self.at;
        let negative = self.peek() == Some(b'-');
        let signed = negative || self.peek() == Some(b'+');
        self.at += usize::from(signed);
        if self.eat_all(b"inf") {
            return Ok(Node::Float(if negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }));
        }
        if self.eat_all(b"nan") {
            return Ok(Node::Float(f64::NAN.copysign(if negative {
                -1.0
            } else {
                1.0
            })));
        }
        if !signed && self.peek() == Some(b'0') {
            let radix = match self.rest().get(1) {
                Some(b'x') => 16,
                Some(b'o') => 8,
                Some(b'b') => 2,
                _ => 10,
            };
            if radix != 10 {
                self.at += 2;
                let digits = self.digits(radix)?;
                return match i64::from_str_radix(&digits, radix) {
                    Ok(value) => Ok(Node::Int(value)),
                    Err(_) => Err(self.error_at(begin, "an integer that does not fit 64 bits")),
                };
            }
        }
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.error_at(begin, "expected a value"));
        }
        let mut number = String::from(if negative { "-" } else { "" });
        let whole = self.digits(10)?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(self.error_at(begin, "a number with leading zeros"));
        }
        number.push_str(&whole);
        let mut float = false;
        if self.eat(b'.') {
            float = true;
            number.push('.');
            number.push_str(&self.digits(10)?);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            float = true;
            number.push('e');
            match self.peek() {
                Some(b'-') => {
                    number.push('-');
                    self.at += 1;
                }
                Some(b'+') => self.at += 1,
                _ => {}
            }
            number.push_str(&self.digits(10)?);
        }
        if float {
            return match number.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Node::Float(value)),
                _ => Err(self.error_at(begin, "a float that is too large")),
            };
        }
        match number.parse() {
            Ok(value) => Ok(Node::Int(value)),
            Err(_) => Err(self.error_at(begin, "an integer that does not fit 64 bits")),
        }
    }

    /// Digits with single underscores between them, without these.
    fn digits(&mut self, radix: u32) -> Result<String> {
        let mut digits = String::new();
        loop {
            match self.peek().map(char::from).filter(|c| c.is_digit(radix)) {
                Some(digit) => digits.push(digit),
                None => return Err(self.error("expected a digit")),
            }
            self.at += 1;
            match self.peek() {
                Some(b'_') => self.at += 1,
                Some(b) if char::from(b).is_digit(radix) => {}
                _ => return Ok(digits),
            }
        }
    }

    /// A number of just so many digits.
    fn fixed(&mut self, digits: usize, what: &str) -> Result<u32> {
        let text = self
            .rest()
            .get(..digits)
            .filter(|t| t.iter().all(u8::is_ascii_digit));
        match text
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| t.parse().ok())
        {
            Some(value) => {
                self.at += digits;
                Ok(value)
            }
            None => Err(self.error(what)),
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.error(what))
        }
    }

    /// A date, perhaps with a time and an offset.
    fn date(&mut self) -> Result<Node> {
        let begin = self.at;
        const FORM: &str = "expected a date like 1979-05-27";
        let year = self.fixed(4, FORM)?;
        self.expect(b'-', FORM)?;
        let month = self.fixed(2, FORM)?;
        self.expect(b'-', FORM)?;
        let day = self.fixed(2, FORM)?;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if day == 0 || day > days {
            return Err(self.error_at(begin, "a date that does not exist"));
        }
        let mut text = format!("{year:04}-{month:02}-{day:02}");
        let with_time = match self.rest() {
            [b'T' | b't', ..] => true,
            [b' ', next, ..] => next.is_ascii_digit(),
            _ => false,
        };
        if with_time {
            self.at += 1;
            text.push('T');
            text.push_str(&self.time()?);
            text.push_str(&self.offset()?);
        }
        self.timestamp(begin, text)
    }

    fn time(&mut self) -> Result<String> {
        let begin = self.at;
        const FORM: &str = "expected a time like 07:32:00";
        let hour = self.fixed(2, FORM)?;
        self.expect(b':', FORM)?;
        let minute = self.fixed(2, FORM)?;
        self.expect(b':', FORM)?;
        let second = self.fixed(2, FORM)?;
        // 60 is a leap second.
        if hour > 23 || minute > 59 || second > 60 {
            return Err(self.error_at(begin, "a time that does not exist"));
        }
        let mut text = format!("{hour:02}:{minute:02}:{second:02}");
        if self.eat(b'.') {
            let digits = self
                .rest()
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count();
            if digits == 0 {
                return Err(self.error(FORM));
            }
            let mut fraction: String = self
                .rest()
                .iter()
                .take(digits.min(9))
                .map(|b| char::from(*b))
                .collect();
            self.at += digits;
            // Three, six or nine digits; none when they are all zero.
            let needed = fraction.trim_end_matches('0').len().div_ceil(3) * 3;
            while fraction.len() < needed {
                fraction.push('0');
            }
            fraction.truncate(needed);
            if needed > 0 {
                text.push('.');
                text.push_str(&fraction);
            }
        }
        Ok(text)
    }

    fn offset(&mut self) -> Result<String> {
        let begin = self.at;
        let sign = match self.peek() {
            Some(b'Z' | b'z') => {
                self.at += 1;
                return Ok("Z".to_owned());
            }
            Some(sign @ (b'+' | b'-')) => char::from(sign),
            _ => return Ok(String::new()),
        };
        self.at += 1;
        const FORM: &str = "expected an offset like +01:00";
        let hours = self.fixed(2, FORM)?;
        self.expect(b':', FORM)?;
        let minutes = self.fixed(2, FORM)?;
        // The limits of toml11, which counts minutes as a whole.
        if hours > 24 || minutes > 60 {
            return Err(self.error_at(begin, "an offset that does not exist"));
        }
        let (hours, minutes) = (hours + minutes / 60, minutes % 60);
        Ok(if hours == 0 && minutes == 0 {
            "Z".to_owned()
        } else {
            format!("{sign}{hours:02}:{minutes:02}")
        })
    }

    fn timestamp(&self, begin: usize, text: String) -> Result<Node> {
        match self.timestamps {
            Timestamps::Parse => Ok(Node::Timestamp(text)),
            Timestamps::Refuse => Err(self.error_at(begin, "Dates and times are not supported")),
        }
    }
}

fn without_nul(text: Vec<u8>) -> Result<Vec<u8>> {
    if text.contains(&0) {
        let inner = Error::nul_byte(&text);
        return Err(Error::new(
            inner.kind(),
            format!("while parsing TOML: error: {}", inner.message()),
        ));
    }
    Ok(text)
}
