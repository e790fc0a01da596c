//! `nivis copy`: paths from one local store to another.

use crate::session::{Common, Failure};
use crate::store_access::{self, at};
use crate::store_command::PathsArgs;
use crate::verify_command::public_keys;
use clap::Args;
use nivis_store::StorePath;
use nivis_store::build::events::{Activity, ActivityKind, Level};
use nivis_store::local::LocalStore;
use nivis_store::signature::PublicKeys;

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
    /// Copy only the paths themselves, not what they refer to
    #[arg(long)]
    no_recursive: bool,
    /// Copy also what nobody who is trusted has signed
    #[arg(long)]
    no_check_sigs: bool,
}

/// Runs the command: what is missing is built, and everything that the paths refer to is copied with them.
///
/// # Errors
/// Failed builds; paths that are not valid, or not trusted; stores that cannot be opened or written.
pub fn run(common: &Common, args: &CopyArgs) -> Result<(), Failure> {
    if args.to.is_none() && args.from.is_none() {
        return Err(Failure::Usage(
            "you must pass '--from' and/or '--to'".to_string(),
        ));
    }
    let (from, paths) = args
        .paths
        .resolve_built(&mut at(common, args.from.as_deref())?)?;
    let to = store_access::open(&at(common, args.to.as_deref())?)?;
    let closure = match args.no_recursive {
        true => paths.into_iter().collect(),
        false => from.closure(&paths)?,
    };
    let there = to.valid_among(&closure)?;
    let missing: Vec<StorePath> = from
        .topo_sort(&closure)?
        .into_iter()
        .filter(|path| !there.contains(path))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let checks = !args.no_check_sigs && common.settings.switch("require-sigs") != Some(false);
    let keys = checks.then(|| public_keys(common)).transpose()?;
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
        if let Some(keys) = &keys {
            check_trust(&from, path, keys)?;
        }
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

/// An error unless a path follows from its contents or somebody who is trusted has signed it: whoever wrote the store
/// that it comes from may be anybody.
fn check_trust(from: &LocalStore, path: &StorePath, keys: &PublicKeys) -> Result<(), Failure> {
    let info = from.query_path_info(path)?;
    let dir = from.store_dir();
    if info.has_content_address(dir) == Some(true)
        || !info
            .good_signatures(dir, keys, &info.signatures)?
            .is_empty()
    {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "cannot add path '{}' because it lacks a signature by a trusted key",
        from.print(path)
    )))
}
