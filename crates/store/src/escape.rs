//! What the text forms of derivations and JSON have in common: quotes, backslashes and control characters are escaped.

/// Whether one of eight bytes may be a quote, a backslash or a control character. Says so of some that are not, too; never
/// misses one.
///
/// All text of all derivations of a package set goes through here, and little of it needs escaping.
#[inline]
pub fn may_need_escape(word: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    // The high bit of each byte that is less than `n`, `n` at most 128 (and maybe of ones after it).
    let less = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & HIGH;
    let quote = less(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = less(word ^ (ONES * u64::from(b'\\')), 1);
    less(word, 0x20) | quote | backslash != 0
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
                assert!(!needs || may_need_escape(word), "{byte} at {place}");
            }
        }
        assert!(!may_need_escape(*b"plain tx"));
    }
}
