//! JSON text out of strings and numbers.

use super::super::{Error, ErrorKind};
use nivis_store::escape::first_escape;

/// Appends an integer.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0u8; 20];
    let mut rest = value.unsigned_abs();
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Appends a string in quotes: `"`, `\` and control characters are escaped, anything else stays as it is.
///
/// # Errors
///
/// [`ErrorKind::JsonOutput`] when the bytes are not UTF-8; `out` is as before then.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(not_utf8(text, &error));
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = find_escaped(rest) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = from.split_first() else {
            break;
        };
        rest = after;
        out.extend_from_slice(match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            byte => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                continue;
            }
        });
    }
    out.extend_from_slice(rest);
    out.push(b'"');
    Ok(())
}

/// The place of the first byte that JSON wants escaped.
#[inline]
fn find_escaped(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks();
    for (i, word) in words.iter().enumerate() {
        if let Some(at) = first_escape(*word) {
            return Some(i * 8 + at);
        }
    }
    let at = rest
        .iter()
        .position(|b| matches!(b, 0..0x20 | b'"' | b'\\'));
    at.map(|at| words.len() * 8 + at)
}

fn not_utf8(text: &[u8], error: &std::str::Utf8Error) -> Error {
    let message = match error.error_len() {
        None => {
            let last = text.last().copied().unwrap_or(0);
            format!("incomplete UTF-8 string; last byte: 0x{last:02X}")
        }
        Some(len) => {
            // The byte that makes the sequence impossible: the first one, unless that begins a sequence.
            let begin = error.valid_up_to();
            let lead = matches!(text.get(begin), Some(0xC2..=0xF4));
            let at = if lead { begin + len } else { begin };
            let byte = text.get(at).copied().unwrap_or(0);
            format!("invalid UTF-8 byte at index {at}: 0x{byte:02X}")
        }
    };
    Error::new(
        ErrorKind::JsonOutput,
        format!("JSON serialization error: [json.exception.type_error.316] {message}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &[u8]) -> Result<String, String> {
        let mut out = Vec::new();
        match write_string(text, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(e) => Err(e.message().rsplit("316] ").next().unwrap().to_owned()),
        }
    }

    #[test]
    fn strings() {
        assert_eq!(
            show(b"a\"\\\n\r\t\x08\x0c\x01\x1f\x7f/").unwrap(),
            r#""a\"\\\n\r\t\b\f\u0001\u001f/""#.replace('/', "\u{7f}/")
        );
        assert_eq!(show("é€😀".as_bytes()).unwrap(), "\"é€😀\"");
        assert_eq!(
            show(b"a\xff").unwrap_err(),
            "invalid UTF-8 byte at index 1: 0xFF"
        );
        assert_eq!(
            show(b"\xe2A").unwrap_err(),
            "invalid UTF-8 byte at index 1: 0x41"
        );
        assert_eq!(
            show(b"\xe2\x82A").unwrap_err(),
            "invalid UTF-8 byte at index 2: 0x41"
        );
        assert_eq!(
            show(b"\xe0\x80").unwrap_err(),
            "invalid UTF-8 byte at index 1: 0x80"
        );
        assert_eq!(
            show(b"x\xe2\x82").unwrap_err(),
            "incomplete UTF-8 string; last byte: 0x82"
        );
        assert_eq!(
            show(b"\xed\xa0\x80").unwrap_err(),
            "invalid UTF-8 byte at index 1: 0xA0"
        );
    }

    #[test]
    fn integers() {
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN, 1_000_000] {
            let mut out = Vec::new();
            write_int(n, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }
}
