//! Store paths, hashes and content addresses: accepted or refused, and printed as they were read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::hash::nix32;
use nivis_store::{
    ContentAddress, ContentAddressMethod, Hash, HashAlgorithm, HashFormat, StoreDir, StorePath,
};

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
    if let Ok((method, algorithm)) = ContentAddressMethod::parse_with_algorithm(input) {
        assert_eq!(method.print_with_algorithm(algorithm).as_bytes(), input);
    }
    if let Ok(dir) = std::str::from_utf8(input).map_or(Err(()), |s| StoreDir::new(s).map_err(drop))
    {
        assert_eq!(StoreDir::new(dir.as_str()).unwrap(), dir);
    }
    for algorithm in HashAlgorithm::ALL {
        if let Ok(hash) = Hash::parse_base16_strict(input, algorithm) {
            assert_eq!(hash.encode(HashFormat::Base16).as_bytes(), input);
        }
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
