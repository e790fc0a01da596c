//! Store paths, hashes and content addresses: accepted or refused, and printed as they were read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::hash::nix32;
use nivis_store::{ContentAddress, Hash, HashAlgorithm, StoreDir, StorePath};

fuzz_target!(|input: &[u8]| {
    let store = StoreDir::default();
    if let Ok(path) = store.parse(input) {
        assert_eq!(store.print(&path).as_bytes(), input);
    }
    if let Ok(path) = StorePath::from_base_name(input) {
        assert_eq!(path.base_name().as_bytes(), input);
    }
    let _ = store.parse_lenient(input);
    let _ = store.split(input);
    if let Ok(address) = ContentAddress::parse(input) {
        assert_eq!(address.to_string().as_bytes(), input);
    }
    for algorithm in HashAlgorithm::ALL {
        if let Ok((hash, format)) = Hash::parse_any_with_format(input, Some(algorithm)) {
            let text = hash.encode_with_algorithm(format);
            assert_eq!(Hash::parse_any(text, None).unwrap(), hash);
        }
    }
    let _ = Hash::parse_any(input, None);
    if let Some(bytes) = nix32::decode(input) {
        assert!(bytes.len() <= input.len());
    }
});
