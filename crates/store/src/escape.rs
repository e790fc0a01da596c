//! What the text forms of derivations and JSON have in common: quotes, backslashes and control characters are escaped.

/// Whether one of eight bytes is a quote, a backslash or a control character.
///
/// All text of all derivations of a package set goes through here, and little of it needs escaping.
#[inline]
pub fn may_need_escape(word: [u8; 8]) -> bool {
    mask(word) != 0
}

/// Which of eight bytes is the first that is a quote, a backslash or a control character.
#[inline]
pub fn first_escape(word: [u8; 8]) -> Option<usize> {
    let mask = mask(word);
    (mask != 0).then(|| mask.trailing_zeros() as usize / 8)
}

/// The high bit of each byte that is a quote, a backslash or a control character, and maybe of others after the first one.
#[inline]
fn mask(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    // The high bit of each byte that is less than `n`, `n` at most 128; a borrow may add some after the first.
    let less = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & HIGH;
    let quote = less(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = less(word ^ (ONES * u64::from(b'\\')), 1);
    less(word, 0x20) | quote | backslash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_that_is_escaped_is_missed() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut word = *b"abcdefgh";
                word[place] = byte;
                let needs = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(may_need_escape(word), needs, "{byte} at {place}");
                assert_eq!(first_escape(word), needs.then_some(place));
                // What follows does not matter.
                let mut more = word;
                more[place..].fill(byte);
                assert_eq!(first_escape(more), needs.then_some(place));
                if place < 7 {
                    word[place + 1] = byte.wrapping_add(1);
                    let next = matches!(word[place + 1], 0..0x20 | b'"' | b'\\');
                    let first = if needs {
                        Some(place)
                    } else {
                        next.then_some(place + 1)
                    };
                    assert_eq!(first_escape(word), first);
                }
            }
        }
        assert!(!may_need_escape(*b"plain tx"));
    }
}
