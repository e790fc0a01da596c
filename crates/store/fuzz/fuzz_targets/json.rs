//! What is accepted as JSON keeps its value when printed; the same for derivations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::Derivation;
use nivis_store::json::Json;

fuzz_target!(|input: &[u8]| {
    if let Ok(json) = Json::parse(input) {
        assert_eq!(Json::parse(json.to_text()).unwrap(), json);
        assert_eq!(Json::parse(json.to_text_indented(2)).unwrap(), json);
        if let Ok(drv) = Derivation::from_json(&json) {
            assert_eq!(drv.to_json().unwrap(), json);
        }
    }
});
