//! `nivis copy`: paths from one local store to another.

use crate::session::{Common, Failure};
use crate::store_access::{self, at};
use crate::store_command::PathsArgs;
use clap::Args;
use nivis_store::StorePath;
use nivis_store::build::events::{Activity, ActivityKind, Level};

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
    let (from, paths) = args.paths.resolve(&mut at(common, args.from.as_deref())?)?;
    let to = store_access::open(&at(common, args.to.as_deref())?)?;
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
        to.copy_from(&from, path)?;
    }
    Ok(())
}
