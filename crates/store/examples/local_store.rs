//! Tries a local store: `local_store ADDRESS COMMAND …`, for comparisons with other implementations.
//!
//! Commands: `add PATH…`, `texts N` (as many small files that refer to each other), `verify`, `optimise`,
//! `gc`, `dead`, `export FILE PATH…`, `import FILE`, `dump` (what the database knows), `info`, `churn SECONDS`
//! (adds texts and looks whether all of them stay, while somebody else collects garbage, say).

use nivis_store::build::events::{Event, Observer};
use nivis_store::local::{GcAction, GcOptions, LocalStore, StoreConfig, VerifyOptions};
use nivis_store::{ContentAddressMethod, Error, HashAlgorithm, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Print;

impl Observer for Print {
    fn event(&self, event: Event) {
        if let Event::Message { level, text } = event
            && level as u8 <= 3
            && std::env::var_os("QUIET").is_none()
        {
            eprintln!("{text}");
        }
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [uri, command, args @ ..] = args.as_slice() else {
        eprintln!("local_store ADDRESS COMMAND …");
        return Ok(());
    };
    let config = StoreConfig::from_env(Some(uri))?;
    if command == "info" {
        println!("{config:#?}");
        return Ok(());
    }
    let store = LocalStore::open(config)?;
    store.set_observer(Arc::new(Print));
    let parse = |paths: &[String]| -> Result<BTreeSet<_>> {
        paths.iter().map(|p| store.store_dir().parse(p)).collect()
    };
    match command.as_str() {
        "add" => {
            for path in args {
                let path = Path::new(path);
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let added = store.add_path(
                    path,
                    &name,
                    ContentAddressMethod::Nar,
                    HashAlgorithm::Sha256,
                )?;
                println!("{}", store.print(&added));
            }
        }
        "texts" => {
            let count: usize = args.first().and_then(|n| n.parse().ok()).unwrap_or(1000);
            let mut last = BTreeSet::new();
            for n in 0..count {
                let path = store.add_text(&format!("text-{n}"), b"some text\n", &last)?;
                last = [path].into();
            }
        }
        "verify" => {
            let options = VerifyOptions {
                check_contents: true,
                repair: false,
            };
            if !store.verify(&options, None)?.ok() {
                return Err(Error::new(
                    nivis_store::ErrorKind::Mismatch,
                    "not all is well",
                ));
            }
        }
        "optimise" => println!("{:?}", store.optimise()?),
        "gc" | "dead" => {
            let action = match command.as_str() {
                "gc" => GcAction::DeleteDead,
                _ => GcAction::ReturnDead,
            };
            let results = store.collect_garbage(&GcOptions {
                action,
                ..GcOptions::default()
            })?;
            println!(
                "{} paths, {} bytes",
                results.paths.len(),
                results.bytes_freed
            );
        }
        "export" => {
            let [file, paths @ ..] = args else {
                return Ok(());
            };
            store.export(&parse(paths)?, BufWriter::new(File::create(file)?))?;
        }
        "import" => {
            for file in args {
                for path in store.import(BufReader::new(File::open(file)?))? {
                    println!("{}", store.print(&path));
                }
            }
        }
        "churn" => {
            let seconds: u64 = args.first().and_then(|n| n.parse().ok()).unwrap_or(10);
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut added = Vec::new();
            while Instant::now() < end {
                let references = added.last().cloned().into_iter().collect();
                // The same names each time, so that what is being deleted is made again.
                let path = store.add_text(&format!("c{}", added.len()), b"text", &references)?;
                added.push(path);
                if let Some(some) = added.get(added.len() / 2) {
                    store.query_path_info(some)?;
                }
            }
            for path in &added {
                store.query_path_info(path)?;
                std::fs::metadata(store.real_path(path))?;
            }
            println!("{} texts stayed", added.len());
        }
        "dump" => store.dump_infos(&store.query_all_valid()?, &mut std::io::stdout())?,
        _ => eprintln!("unknown command '{command}'"),
    }
    Ok(())
}
