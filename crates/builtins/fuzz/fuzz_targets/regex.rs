//! Any pattern on any text: an error or a result whose ranges lie within the text, and a split that gives the text back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_builtins::pure::regex::{Piece, Regex};

fuzz_target!(|input: &[u8]| {
    // The first newline parts pattern and text.
    let cut = input
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(input.len());
    let (pattern, text) = input.split_at(cut);
    let text = text.get(1..).unwrap_or_default();
    let Ok(regex) = Regex::new(pattern) else {
        return;
    };
    if let Ok(Some(groups)) = regex.match_whole(text) {
        assert_eq!(groups.len(), regex.groups());
        for range in groups.into_iter().flatten() {
            assert!(text.get(range).is_some());
        }
    }
    let Ok(pieces) = regex.split(text) else {
        return;
    };
    assert!(pieces.len() % 2 == 1);
    let mut at = 0;
    for piece in pieces {
        match piece {
            Piece::Text(range) => {
                assert!(range.start >= at && text.get(range.clone()).is_some());
                at = range.end;
            }
            Piece::Groups(groups) => {
                for range in groups.into_iter().flatten() {
                    assert!(range.start >= at && text.get(range).is_some());
                }
            }
        }
    }
    assert_eq!(at, text.len());
});
