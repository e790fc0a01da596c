//! The algorithm of `builtins.replaceStrings`.

use memchr::memchr;

/// Replaces in `text` every occurrence of a pattern, scanning from the left; at each position the first
/// pattern of the list that fits wins.
///
/// `replacement(i, out)` appends the text for pattern `i`; it is called once per replacement, so that the
/// caller can force (and remember) a replacement only when it is needed. An empty pattern fits everywhere,
/// also at the end: it inserts its replacement and then passes one byte of the text through.
///
/// Time is O(|text| × patterns) in the worst case; positions whose byte begins no pattern are skipped.
pub fn replace_strings<E>(
    from: &[&[u8]],
    text: &[u8],
    mut replacement: impl FnMut(usize, &mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut out = Vec::with_capacity(text.len());
    if from.is_empty() {
        out.extend_from_slice(text);
        return Ok(out);
    }
    let has_empty = from.iter().any(|f| f.is_empty());
    let mut starts = [false; 256];
    for first in from.iter().filter_map(|f| f.first()) {
        starts[usize::from(*first)] = true;
    }
    let single = match from {
        [one] => one.first().copied(),
        _ => None,
    };
    let mut at = 0;
    while at <= text.len() {
        let rest = text.get(at..).unwrap_or_default();
        if !has_empty {
            // No pattern can begin before the next byte that begins one.
            let skip = match single {
                Some(byte) => memchr(byte, rest),
                None => rest.iter().position(|b| starts[usize::from(*b)]),
            };
            let skip = skip.unwrap_or(rest.len());
            if skip > 0 {
                out.extend_from_slice(rest.get(..skip).unwrap_or_default());
                at += skip;
                continue;
            }
            if rest.is_empty() {
                break;
            }
        }
        match from.iter().position(|f| rest.starts_with(f)) {
            Some(i) => {
                replacement(i, &mut out)?;
                let len = from.get(i).map_or(0, |f| f.len());
                if len == 0 {
                    out.extend(rest.first());
                    at += 1;
                } else {
                    at += len;
                }
            }
            None => {
                out.extend(rest.first());
                at += 1;
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn run(from: &[&str], to: &[&str], text: &str) -> String {
        let from: Vec<&[u8]> = from.iter().map(|f| f.as_bytes()).collect();
        let out = replace_strings(&from, text.as_bytes(), |i, out| {
            out.extend_from_slice(to[i].as_bytes());
            Ok::<(), Infallible>(())
        });
        String::from_utf8(out.unwrap()).unwrap()
    }

    #[test]
    fn facts() {
        assert_eq!(run(&["a"], &["b"], "banana"), "bbnbnb");
        assert_eq!(run(&[""], &["X"], "abc"), "XaXbXcX");
        assert_eq!(run(&[""], &["X"], ""), "X");
        assert_eq!(run(&["-", ""], &["_", "."], "a-b"), ".a_.b.");
        assert_eq!(run(&["", "a"], &["X", "Y"], "aa"), "XaXaX");
        assert_eq!(run(&["oo", "o"], &["a", "i"], "foobaro"), "fabari");
        assert_eq!(run(&[], &[], "abc"), "abc");
        assert_eq!(run(&["abc"], &[""], "xabcabcy"), "xy");
    }

    proptest::proptest! {
        /// The reference algorithm, byte by byte, without the shortcuts.
        #[test]
        fn agrees_with_the_plain_algorithm(
            from in proptest::collection::vec("[ab]{0,3}", 0..4),
            text in "[abc]{0,20}",
        ) {
            let from: Vec<&[u8]> = from.iter().map(|f| f.as_bytes()).collect();
            let text = text.as_bytes();
            let mut want = Vec::new();
            let mut p = 0;
            while p <= text.len() {
                match from.iter().position(|f| text[p..].starts_with(f)) {
                    Some(i) => {
                        want.extend_from_slice(format!("<{i}>").as_bytes());
                        if from[i].is_empty() {
                            want.extend(text.get(p));
                            p += 1;
                        } else {
                            p += from[i].len();
                        }
                    }
                    None => {
                        want.extend(text.get(p));
                        p += 1;
                    }
                }
            }
            let got = replace_strings(&from, text, |i, out| {
                out.extend_from_slice(format!("<{i}>").as_bytes());
                Ok::<(), Infallible>(())
            }).unwrap();
            proptest::prop_assert_eq!(got, want);
        }
    }
}
