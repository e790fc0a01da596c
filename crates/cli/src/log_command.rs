//! `nivis log`: what a build printed.

use crate::installable::{self, SourceArgs};
use crate::session::{Common, Failure, print};
use crate::store_access::{self, Wanted};
use clap::Args;
use nivis_store::StorePath;
use nivis_store::io_text;
use nivis_store::local::LocalStore;
use std::io::Read;

#[derive(Args)]
pub struct LogArgs {
    /// A store path, DRV^OUTPUT, or an attribute of --file or --expr
    #[arg(value_name = "INSTALLABLE")]
    installable: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
///
/// # Errors
/// When there is no log.
pub fn run(mut common: Common, args: &LogArgs) -> Result<(), Failure> {
    let named = args.source.file.is_some() || args.source.expr.is_some();
    if args.installable.is_none() && !named {
        return Err(Failure::Usage("more arguments are required".to_string()));
    }
    let wanted = installable::resolve(&mut common, &args.source, args.installable.as_slice())?;
    let store = store_access::open_beside(&common)?;
    for wanted in &wanted {
        let path = match wanted {
            Wanted::Path(path) => path.clone(),
            Wanted::Built(request) => store_access::drv_path(&store, &request.drv)?,
        };
        let what = match wanted {
            _ if named => args.installable.clone().unwrap_or_default(),
            Wanted::Path(path) => store.print(path),
            Wanted::Built(request) => request.print(store.store_dir()),
        };
        let log = find_log(&store, &path)?
            .ok_or_else(|| Failure::Other(format!("build log of '{what}' is not available")))?;
        store_access::info(format!(
            "got build log for '{what}' from '{}'",
            store.config().uri()
        ));
        print(&log)?;
    }
    Ok(())
}

/// What the build of a derivation, or of an output, printed.
///
/// # Errors
/// When nobody knows.
pub fn log_of(store: &LocalStore, path: &StorePath) -> Result<Vec<u8>, Failure> {
    find_log(store, path)?.ok_or_else(|| {
        Failure::Other(format!(
            "build log of derivation '{}' is not available",
            store.print(path)
        ))
    })
}

fn find_log(store: &LocalStore, path: &StorePath) -> Result<Option<Vec<u8>>, Failure> {
    let drv = match path.is_derivation() {
        true => Some(path.clone()),
        false => store.find_path_info(path)?.and_then(|info| info.deriver),
    };
    let Some(drv) = drv else {
        return Ok(None);
    };
    let Some(mut log) = nivis_store::build::open_log(store, &drv)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    log.read_to_end(&mut text).map_err(|e| {
        Failure::Other(format!(
            "cannot read the log of '{}': {}",
            store.print(&drv),
            io_text(&e)
        ))
    })?;
    Ok(Some(text))
}
