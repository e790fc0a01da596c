//! The values of string literals.

use memchr::{memchr, memchr2};

use crate::ast::{ExprId, Part, Range, Span};

/// Appends the value of a piece of a `"…"` string.
///
/// `\n`, `\r` and `\t` are what they are elsewhere, any other escaped byte is itself. CR and CR LF become
/// LF, unless escaped.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr2(b'\\', b'\r', rest) {
        let (before, special) = rest.split_at(at);
        out.extend_from_slice(before);
        rest = match special {
            [b'\\', escaped, tail @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                tail
            }
            [b'\r', b'\n', tail @ ..] | [b'\r', tail @ ..] => {
                out.push(b'\n');
                tail
            }
            [_, tail @ ..] => tail,
            [] => special,
        };
    }
    out.extend_from_slice(rest);
}

/// A piece of an indented string.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segment {
    /// Text as it stands; its indentation counts.
    Text(Span),
    /// An escape sequence, or a single `$` or `'`. It ends the indentation of its line.
    Escape(Span),
    /// An interpolation, likewise.
    Expr(ExprId),
}

/// The indentation of a string that has none, in effect no limit.
const NO_INDENTATION: usize = 1_000_000;

/// Removes the indentation common to all lines that are not blank, and a blank last line.
///
/// Only spaces indent. Pieces that become empty are left out.
pub(crate) fn strip_indentation(
    source: &[u8],
    segments: &[Segment],
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) {
    let bytes = |span: &Span| {
        source
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    };

    let mut indentation = NO_INDENTATION;
    let mut line_start = true;
    let mut current = 0;
    for segment in segments {
        let Segment::Text(span) = segment else {
            if line_start {
                line_start = false;
                indentation = indentation.min(current);
            }
            continue;
        };
        let mut rest = bytes(span);
        loop {
            if line_start {
                let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
                current += spaces;
                rest = rest.get(spaces..).unwrap_or_default();
                match rest.first() {
                    None => break,
                    Some(b'\n') => {
                        // Blank lines do not count.
                        current = 0;
                        rest = rest.get(1..).unwrap_or_default();
                    }
                    Some(_) => {
                        line_start = false;
                        indentation = indentation.min(current);
                    }
                }
            } else {
                let Some(at) = memchr(b'\n', rest) else {
                    break;
                };
                line_start = true;
                current = 0;
                rest = rest.get(at + 1..).unwrap_or_default();
            }
        }
    }

    let mut strip = Strip {
        indentation,
        line_start: true,
        dropped: 0,
    };
    for (index, segment) in segments.iter().enumerate() {
        let start = out.len();
        match segment {
            Segment::Expr(id) => {
                strip.line_start = false;
                strip.dropped = 0;
                parts.push(Part::Expr(*id));
                continue;
            }
            Segment::Text(span) => strip.append(bytes(span), out),
            Segment::Escape(span) => match bytes(span) {
                [b'\'', b'\'', escape @ ..] if escape.first() == Some(&b'\\') => {
                    let mut value = Vec::with_capacity(4);
                    unescape(escape, &mut value);
                    strip.append(&value, out);
                }
                [b'\'', b'\'', b'\''] => strip.append(b"''", out),
                [b'\'', b'\'', b'$'] => strip.append(b"$", out),
                other => strip.append(other, out),
            },
        }
        if index + 1 == segments.len() {
            let written = out.get(start..).unwrap_or_default();
            if let Some(at) = memchr::memrchr(b'\n', written)
                && written.iter().skip(at + 1).all(|byte| *byte == b' ')
            {
                out.truncate(start + at + 1);
            }
        }
        if out.len() > start {
            parts.push(Part::Text(Range {
                start: start as u32,
                end: out.len() as u32,
            }));
        }
    }
}

struct Strip {
    indentation: usize,
    line_start: bool,
    /// Spaces seen since the line began.
    dropped: usize,
}

impl Strip {
    fn append(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let mut rest = text;
        loop {
            if self.line_start {
                let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
                let dropped = self.indentation.saturating_sub(self.dropped).min(spaces);
                out.extend_from_slice(rest.get(dropped..spaces).unwrap_or_default());
                self.dropped += spaces;
                rest = rest.get(spaces..).unwrap_or_default();
                match rest.first() {
                    None => break,
                    Some(b'\n') => {
                        self.dropped = 0;
                        out.push(b'\n');
                        rest = rest.get(1..).unwrap_or_default();
                    }
                    Some(_) => {
                        self.line_start = false;
                        self.dropped = 0;
                    }
                }
            } else {
                let end = memchr(b'\n', rest).map_or(rest.len(), |at| {
                    self.line_start = true;
                    at + 1
                });
                let (line, tail) = rest.split_at(end);
                out.extend_from_slice(line);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}
