//! `nivis derivation`.

use crate::installable::{self, SourceArgs};
use crate::session::{Common, Failure, print, read_stdin};
use crate::store_access;
use crate::store_command::derivations;
use clap::{Args, Subcommand};
use nivis_store::derivation::LoadingHashes;
use nivis_store::derivation::show_derivations;
use nivis_store::json::Json;
use nivis_store::{Derivation, DerivationKind, DerivationOutput};
use std::collections::BTreeMap;

#[derive(Subcommand)]
pub enum DerivationCommand {
    /// Print derivations as JSON
    Show(ShowArgs),
    /// Make a .drv file of JSON on standard input and print its path
    Add {
        /// Only print the path
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub struct ShowArgs {
    /// .drv files, store paths, or attributes of --file or --expr
    #[arg(value_name = "INSTALLABLE")]
    installables: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// And all derivations that they need
    #[arg(short, long)]
    recursive: bool,
}

/// Runs `nivis derivation`.
///
/// # Errors
/// What evaluation fails with; derivations that are not there or are wrong.
pub fn run(common: Common, command: DerivationCommand) -> Result<(), Failure> {
    match command {
        DerivationCommand::Show(args) => show(common, &args),
        DerivationCommand::Add { dry_run } => add(&common, dry_run),
    }
}

/// Runs `nivis derivation show`.
///
/// # Errors
/// What evaluation fails with; derivations that are not there.
pub fn show(mut common: Common, args: &ShowArgs) -> Result<(), Failure> {
    let wanted = installable::resolve(&mut common, &args.source, &args.installables)?;
    let store = store_access::open_beside(&common)?;
    let mut paths = derivations(&store, &wanted)?;
    if args.recursive {
        paths = store.closure(&paths)?.into_iter().collect();
    }
    let mut shown = BTreeMap::new();
    for path in paths.into_iter().filter(|p| p.is_derivation()) {
        let drv = store.read_derivation(&path)?;
        shown.insert(path, drv);
    }
    let json = show_derivations(shown.iter())?;
    common.print_json(json.to_text().as_bytes())
}

fn add(common: &Common, dry_run: bool) -> Result<(), Failure> {
    let drv = Derivation::from_json(&Json::parse(read_stdin()?)?)?;
    let needed = match drv.kind()? {
        DerivationKind::CaFloating => Some("ca-derivations"),
        DerivationKind::Impure => Some("impure-derivations"),
        _ if drv.has_dynamic_inputs() => Some("dynamic-derivations"),
        _ => None,
    };
    if let Some(needed) = needed {
        common.needs_feature(needed)?;
    }
    let store = store_access::open(common)?;
    let dir = store.store_dir();
    // The paths that it claims must be those that follow from it.
    let mut finished = drv.clone();
    let mut memo = Default::default();
    let mut hashes = LoadingHashes::new(&mut memo, dir, |path| store.read_derivation(path));
    finished.finish(dir, &mut hashes)?;
    for (name, output) in &drv.outputs {
        let claimed = !matches!(output, DerivationOutput::Deferred);
        if claimed && finished.outputs.get(name) != Some(output) {
            let path = |drv: &Derivation| {
                let paths = drv.output_paths(dir).ok();
                let path = paths.and_then(|p| p.get(name).cloned().flatten());
                path.map_or_else(String::new, |p| dir.print(&p))
            };
            return Err(Failure::Other(format!(
                "derivation '{}' has incorrect output '{}', should be '{}'",
                drv.name,
                path(&drv),
                path(&finished)
            )));
        }
    }
    let path = match dry_run || common.read_only {
        true => finished.drv_path(dir)?,
        false => store.add_derivation(&finished)?,
    };
    print(format!("{}\n", store.print(&path)).as_bytes())
}
