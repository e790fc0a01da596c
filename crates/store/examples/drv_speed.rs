//! Times parsing and completing the `.drv` files of a folder, given as the argument.
//!
//! ```text
//! cargo run --release -p nivis-store --example drv_speed -- /nix/store
//! ```

use nivis_store::{
    Derivation, DerivationOutput, DrvHashMemo, Error, ErrorKind, Result, StoreDir, StorePath,
};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

fn main() -> Result<()> {
    let Some(dir) = std::env::args().nth(1) else {
        eprintln!("usage: drv_speed FOLDER");
        return Ok(());
    };
    let origin = Instant::now();
    let store = StoreDir::default();
    let mut files: Vec<(StorePath, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().ends_with(b".drv") {
            let path = StorePath::from_base_name(name.as_encoded_bytes())?;
            files.push((path, std::fs::read(entry.path())?));
        }
    }
    let size: usize = files.iter().map(|(_, text)| text.len()).sum();
    println!("{} files, {} KiB", files.len(), size / 1024);

    let start = now(origin);
    let mut drvs = HashMap::new();
    for (path, text) in &files {
        let drv = Derivation::parse_aterm(&store, path.derivation_name()?, text)?;
        drvs.insert(path.clone(), drv);
    }
    report("parse", now(origin) - start, files.len(), size);

    let start = now(origin);
    for drv in drvs.values() {
        std::hint::black_box(drv.to_aterm(&store)?);
    }
    report("write", now(origin) - start, files.len(), size);

    // Inputs first, as evaluation makes them.
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    let mut stack: Vec<(&StorePath, bool)> = drvs.keys().map(|path| (path, false)).collect();
    while let Some((path, inputs_done)) = stack.pop() {
        if inputs_done {
            order.push(path);
        } else if seen.insert(path) {
            let drv = drvs.get(path).ok_or_else(|| {
                Error::new(ErrorKind::UnknownDerivation, format!("{path} is missing"))
            })?;
            stack.push((path, true));
            stack.extend(drv.input_drvs.keys().map(|input| (input, false)));
        }
    }
    let mut bare: Vec<Derivation> = Vec::new();
    for path in &order {
        let mut drv = drvs.get(*path).cloned().unwrap_or(Derivation::new("x"));
        for (name, output) in &mut drv.outputs {
            if let DerivationOutput::InputAddressed(_) = output {
                *output = DerivationOutput::Deferred;
                drv.env.insert(name.as_bytes().into(), "".into());
            }
        }
        bare.push(drv);
    }
    // Completed right after it is made, as in an evaluation, so that it lies in the processor's cache.
    let start = now(origin);
    for drv in &bare {
        std::hint::black_box(drv.clone());
    }
    let cloning = now(origin) - start;
    let mut memo = DrvHashMemo::new();
    let start = now(origin);
    for (drv, path) in bare.iter().zip(&order) {
        let found = drv.clone().finish(&store, &mut memo)?;
        assert_eq!(&found, *path);
    }
    let finishing = now(origin) - start - cloning;
    report("clone", cloning, files.len(), size);
    report("finish", finishing, files.len(), size);
    Ok(())
}

/// Seconds of processor time of this process so far where the system tells, or of wall-clock time.
fn now(origin: Instant) -> f64 {
    std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .map_or_else(|| origin.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

fn report(what: &str, seconds: f64, count: usize, size: usize) {
    println!(
        "{what}: {:.1} ms, {:.1} µs each, {:.0} MB/s",
        seconds * 1e3,
        seconds * 1e6 / count as f64,
        size as f64 / 1e6 / seconds
    );
}
