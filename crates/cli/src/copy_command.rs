//! `nivis copy`: paths from one local store to another.

use crate::session::{Common, Failure};
use crate::store_access;
use crate::store_command::PathsArgs;
use clap::Args;
use nivis_store::StorePath;
use nivis_store::build::events::{Activity, ActivityKind, Level};
use nivis_store::local::LocalStore;
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;

#[derive(Args)]
pub struct CopyArgs {
    #[command(flatten)]
    paths: PathsArgs,
    /// The store to copy to; the usual one if only --from is given
    #[arg(long, value_name = "STORE")]
    to: Option<String>,
    /// The store to copy from; the usual one if only --to is given
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    /// Accepted and ignored: what comes from a store on this machine is trusted
    #[arg(long)]
    no_check_sigs: bool,
}

/// Runs the command: everything that the paths refer to is copied with them.
///
/// # Errors
/// Paths that are not valid; stores that cannot be opened or written.
pub fn run(common: &Common, args: &CopyArgs) -> Result<(), Failure> {
    let _ = args.no_check_sigs;
    if args.to.is_none() && args.from.is_none() {
        return Err(Failure::Usage(
            "you must pass '--from' and/or '--to'".to_string(),
        ));
    }
    let elsewhere = |uri: &Option<String>| -> Result<Common, Failure> {
        let mut common = common.clone();
        if let Some(uri) = uri {
            let source = crate::settings::Source::Flag;
            common.settings.set("store", uri, source)?;
        }
        Ok(common)
    };
    let (from, paths) = args.paths.resolve(&mut elsewhere(&args.from)?)?;
    let to = store_access::open(&elsewhere(&args.to)?)?;
    let closure = from.closure(&paths)?;
    let there = to.valid_among(&closure)?;
    let missing: Vec<StorePath> = from
        .topo_sort(&closure)?
        .into_iter()
        .filter(|path| !there.contains(path))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let observer = to.observer();
    let total = missing.len() as u64;
    let all = Activity::start(
        &observer,
        0,
        Level::Info,
        ActivityKind::CopyPaths,
        format!("copying {total} paths"),
        Vec::new(),
    );
    for (done, path) in missing.iter().enumerate() {
        all.progress(done as u64, total, 1, 0);
        let text = from.print(path);
        let uris = [from.config().uri(), to.config().uri()];
        let _copying = Activity::start(
            &observer,
            all.id(),
            Level::Info,
            ActivityKind::CopyPath,
            format!("copying path '{text}' to '{}'", uris[1]),
            vec![
                text.as_str().into(),
                uris[0].as_str().into(),
                uris[1].as_str().into(),
            ],
        );
        copy(&from, &to, path)?;
    }
    Ok(())
}

/// Copies one path; what it refers to must be there.
fn copy(from: &Arc<LocalStore>, to: &LocalStore, path: &StorePath) -> Result<(), Failure> {
    let mut info = from.query_path_info(path)?;
    // Nobody knows how this store got it.
    info.ultimate = false;
    info.registration_time = 0;
    let broken = |e: std::io::Error| Failure::Other(format!("cannot make a pipe: {e}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<(), Failure> {
            let out = BufWriter::with_capacity(1 << 16, writer);
            let mut out = from.write_nar(path, out)?;
            out.flush().map_err(broken)
        });
        let added = to.add_nar(&info, BufReader::with_capacity(1 << 16, reader), false);
        let sent = sender.join();
        // What went wrong at the source is the cause of what went wrong here.
        match sent {
            Ok(Err(e)) if added.is_ok() => return Err(e),
            Err(_) => return Err(Failure::Other("reading the store ended early".to_string())),
            _ => {}
        }
        added?;
        Ok(())
    })
}
