//! What is accepted as an archive is copied with the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::nar::{NarReader, copy_nar};

fuzz_target!(|input: &[u8]| {
    let mut skipping = NarReader::new(input);
    let skipped = loop {
        match skipping.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => break Some(skipping.offset()),
            Err(e) => {
                assert!(e.offset().is_some_and(|at| at <= input.len() as u64));
                break None;
            }
        }
    };
    match copy_nar(input, Vec::new()) {
        Ok((rest, copy)) => {
            assert_eq!(copy, input[..input.len() - rest.len()]);
            assert_eq!(skipped, Some(copy.len() as u64));
        }
        Err(_) => assert_eq!(skipped, None),
    }
});
