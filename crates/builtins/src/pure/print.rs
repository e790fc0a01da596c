//! How values and names are printed, and which names are suggested for a wrong one.

use std::collections::BTreeSet;

/// Appends a string in quotes as values are printed: `"`, `\`, newline, carriage return, tab and `${` are escaped,
/// every other byte stays as it is.
pub fn string_into(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'$' if text.get(i + 1) == Some(&b'{') => out.extend_from_slice(b"\\$"),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// [`string_into`] as a new buffer.
pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    string_into(text, &mut out);
    out
}

/// The words that cannot be attribute names without quotes. `or` can.
pub const KEYWORDS: [&str; 9] = [
    "if", "then", "else", "assert", "with", "let", "in", "rec", "inherit",
];

/// True when a name needs no quotes in a printed attribute set.
pub fn is_identifier(name: &[u8]) -> bool {
    let starts = matches!(name.first(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'));
    starts
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'\''))
        && !KEYWORDS.iter().any(|k| k.as_bytes() == name)
}

/// Appends an attribute name, in quotes when it needs them.
pub fn attr_name_into(name: &[u8], out: &mut Vec<u8>) {
    if is_identifier(name) {
        out.extend_from_slice(name);
    } else {
        string_into(name, out);
    }
}

/// The edit distance (insertions, deletions, substitutions) of two byte strings. O(|a| × |b|) time.
pub fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (*cell + 1)
                .min(left + 1)
                .min(diagonal + usize::from(x != y));
            diagonal = *cell;
            *cell = here;
            left = here;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// How many names are suggested at most.
const SUGGESTIONS: usize = 5;
/// How far a suggested name may be from what was written.
const MAX_DISTANCE: usize = 2;

/// The names to suggest for `wrong`, best first: those within distance 2, nearest first, then by name, five at most.
pub fn suggestions<'a>(wrong: &[u8], names: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut best: BTreeSet<(usize, &[u8])> = BTreeSet::new();
    for name in names {
        if name.len().abs_diff(wrong.len()) > MAX_DISTANCE {
            continue;
        }
        let distance = edit_distance(wrong, name);
        if distance <= MAX_DISTANCE {
            best.insert((distance, name));
            if best.len() > SUGGESTIONS {
                best.pop_last();
            }
        }
    }
    best.into_iter().map(|(_, name)| name).collect()
}

/// Suggestions as one line: `Did you mean a?`, `Did you mean one of a, b or c?`; `None` when there are none.
pub fn did_you_mean(names: &[&[u8]]) -> Option<String> {
    let shown: Vec<_> = names.iter().map(|n| String::from_utf8_lossy(n)).collect();
    let (last, rest) = shown.split_last()?;
    Some(if rest.is_empty() {
        format!("Did you mean {last}?")
    } else {
        format!("Did you mean one of {} or {last}?", rest.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        let show = |t: &str| String::from_utf8(string(t.as_bytes())).unwrap();
        assert_eq!(
            show("a\"b\\c\n\r\t$x ${y} $${z}"),
            r#""a\"b\\c\n\r\t$x \${y} $\${z}""#
        );
        assert_eq!(show("$"), "\"$\"");
        assert_eq!(string(b"\xff\x01"), b"\"\xff\x01\"");
    }

    #[test]
    fn names() {
        let show = |t: &str| {
            let mut out = Vec::new();
            attr_name_into(t.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        for name in ["a", "_", "a'b", "a-b", "or", "A1", "true", "null"] {
            assert_eq!(show(name), name);
        }
        for name in [
            "", "1a", "-a", "'a", "a.b", "if", "inherit", "\u{e9}", "a b",
        ] {
            assert_eq!(show(name), format!("\"{name}\""));
        }
        assert_eq!(show("${a}"), "\"\\${a}\"");
    }

    #[test]
    fn distances() {
        for (a, b, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
            ("abc", "abc", 0),
        ] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), want);
        }
    }

    #[test]
    fn suggested() {
        let names: [&[u8]; 7] = [b"aa", b"ab", b"ac", b"zzzzz", b"b", b"abcd", b"ad"];
        let got = suggestions(b"ad", names);
        assert_eq!(got, [&b"ad"[..], b"aa", b"ab", b"ac", b"abcd"]);
        assert_eq!(
            did_you_mean(&[b"aa", b"ab", b"ac"]).unwrap(),
            "Did you mean one of aa, ab or ac?"
        );
        assert_eq!(did_you_mean(&[b"aa"]).unwrap(), "Did you mean aa?");
        assert_eq!(did_you_mean(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in "[abc]{0,8}", b in "[abc]{0,8}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let d = edit_distance(a, b);
            proptest::prop_assert_eq!(d, edit_distance(b, a));
            proptest::prop_assert!(d >= a.len().abs_diff(b.len()) && d <= a.len().max(b.len()));
        }
    }
}
