//! What is accepted as a derivation is written again with the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::{Derivation, DrvHashMemo, StoreDir};

fuzz_target!(|input: &[u8]| {
    let store = StoreDir::default();
    if let Ok(mut drv) = Derivation::parse_aterm(&store, "fuzz", input) {
        assert_eq!(drv.to_aterm(&store).unwrap(), input);
        if let Ok(json) = drv.to_json() {
            let again = Derivation::from_json(&json).unwrap();
            assert_eq!(again.to_json().unwrap(), json);
        }
        let _ = drv.finish(&store, &mut DrvHashMemo::new());
    }
});
