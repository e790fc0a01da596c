//! Checks every `.drv` file of a folder, which `NIVIS_DRV_DIR` names: each must be read, be written
//! again with the same bytes, and have its output paths and its own path computed from its contents.
//!
//! ```text
//! NIVIS_DRV_DIR=/nix/store cargo test -p nivis-store --test drv_dir -- --nocapture
//! ```

use nivis_store::derivation::LoadingHashes;
use nivis_store::{Derivation, DerivationOutput, DrvHashMemo, Error, Result, StoreDir, StorePath};
use std::path::Path;

/// The derivation without anything that `finish` computes.
fn bare(drv: &Derivation) -> Derivation {
    let mut bare = drv.clone();
    for (name, output) in &mut bare.outputs {
        let computed = match output {
            DerivationOutput::InputAddressed(_) => {
                *output = DerivationOutput::Deferred;
                true
            }
            DerivationOutput::CaFixed(_) => true,
            _ => false,
        };
        if computed && let Some(value) = bare.env.get_mut(name.as_bytes()) {
            value.clear();
        }
    }
    bare
}

#[test]
fn every_derivation_of_a_folder() {
    let Some(dir) = std::env::var_os("NIVIS_DRV_DIR") else {
        println!("skipped: set NIVIS_DRV_DIR to a folder of .drv files");
        return;
    };
    let dir = Path::new(&dir);
    let store = StoreDir::default();
    let read = |path: &StorePath| -> Result<Derivation> {
        let text = std::fs::read(dir.join(path.base_name())).map_err(|e| Error::io(path, e))?;
        Derivation::parse_aterm(&store, path.derivation_name()?, &text)
    };
    let mut memo = DrvHashMemo::new();
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name();
        if !name.as_encoded_bytes().ends_with(b".drv") {
            continue;
        }
        let path = StorePath::from_base_name(name.as_encoded_bytes()).unwrap();
        let text = std::fs::read(dir.join(&name)).unwrap();
        let drv = read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(drv.to_aterm(&store).unwrap(), text, "{path}: text");
        assert_eq!(
            drv.drv_path(&store).unwrap(),
            path,
            "{path}: path of the text"
        );

        let mut again = bare(&drv);
        let mut again_text = Vec::new();
        let mut hashes = LoadingHashes::new(&mut memo, &store, read);
        let again_path = again
            .finish_with_text(&store, &mut hashes, &mut again_text)
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(again, drv, "{path}: outputs");
        assert_eq!(again_text, text, "{path}: text after completion");
        assert_eq!(again_path, path, "{path}: path after completion");
        count += 1;
    }
    assert!(count > 0, "no .drv file in {}", dir.display());
    println!("checked {count} derivations");
}
