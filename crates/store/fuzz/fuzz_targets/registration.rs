//! What is accepted as the text form of the database is written and read again with the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::StoreDir;
use nivis_store::registration::{Registration, RegistrationReader};

fn read(text: &[u8], hash_given: bool) -> Option<Vec<Registration>> {
    let mut reader = RegistrationReader::new(text, &StoreDir::default(), hash_given);
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => return Some(entries),
            Err(e) => {
                assert!(e.offset().is_some_and(|at| at <= text.len() as u64));
                return None;
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    for hash_given in [false, true] {
        if let Some(entries) = read(input, hash_given) {
            let mut text = String::new();
            for entry in &entries {
                entry.write(&StoreDir::default(), &mut text);
            }
            assert!(text.len() <= input.len() + 64 * entries.len());
            assert_eq!(read(text.as_bytes(), hash_given), Some(entries));
        }
    }
});
