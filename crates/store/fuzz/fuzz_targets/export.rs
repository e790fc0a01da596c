//! What is accepted as an export is written again with the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_store::export::{ExportReader, ExportWriter};
use nivis_store::{Error, StoreDir};
use std::io::Write;

fuzz_target!(|input: &[u8]| {
    let store = StoreDir::default();
    let mut reader = ExportReader::new(input, &store);
    let mut writer = ExportWriter::new(Vec::new(), &store);
    loop {
        let mut nar = Vec::new();
        match reader.next_object(&mut nar) {
            Ok(Some(info)) => writer
                .add(&info, |out| out.write_all(&nar).map_err(Error::from))
                .unwrap(),
            Ok(None) => break,
            Err(e) => {
                assert!(e.offset().is_some_and(|at| at <= input.len() as u64));
                return;
            }
        }
    }
    let rest = reader.finish().unwrap();
    assert_eq!(writer.finish().unwrap(), input[..input.len() - rest.len()]);
});
