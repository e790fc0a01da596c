//! `nivis build`.

use crate::installable::{self, SourceArgs};
use crate::session::{Common, Failure, print};
use crate::store_access::{self, Wanted};
use clap::Args;
use nivis_store::build::{BuildMode, BuildRequest, DrvRef, Outputs};
use nivis_store::json::Json;
use nivis_store::local::LocalStore;
use nivis_store::{OutputName, StorePath};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Args)]
pub struct BuildArgs {
    /// Store paths, DRV^OUTPUT, or attributes of --file or --expr
    #[arg(value_name = "INSTALLABLE")]
    installables: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// More of them are on standard input
    #[arg(long)]
    stdin: bool,
    /// Where the link to the result is made
    #[arg(short, long, value_name = "PATH", default_value = "result")]
    out_link: String,
    /// Make no link to the result
    #[arg(long)]
    no_link: bool,
    /// Print the paths of the results
    #[arg(long)]
    print_out_paths: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only say what would be built
    #[arg(long)]
    dry_run: bool,
    /// Build again what is there, and compare
    #[arg(long, alias = "check")]
    rebuild: bool,
    /// Build again what is damaged
    #[arg(long, conflicts_with = "rebuild")]
    repair: bool,
}

/// What became of one argument.
enum Built {
    Path(StorePath),
    Outputs {
        drv: DrvRef,
        outputs: BTreeMap<OutputName, StorePath>,
    },
}

/// Runs the command.
///
/// # Errors
/// What evaluation or a build fails with.
pub fn run(mut common: Common, args: &BuildArgs) -> Result<(), Failure> {
    let mut named = args.installables.clone();
    if args.stdin {
        named.extend(installable::from_stdin()?);
    }
    let wanted = if named.is_empty() && args.stdin {
        Vec::new()
    } else {
        installable::resolve(&mut common, &args.source, &named)?
    };
    let store = store_access::open_for(&common, &wanted)?;
    if args.dry_run {
        crate::missing::find(&store, &wanted)?.print_always(&store)?;
        if args.json {
            let items = wanted.iter().map(|w| planned_json(&store, w));
            let json = Json::Array(items.collect::<Result<_, _>>()?);
            common.print_json(json.to_text().as_bytes())?;
        }
        return Ok(());
    }
    let mode = match (args.rebuild, args.repair) {
        (true, _) => BuildMode::Check,
        (_, true) => BuildMode::Repair,
        _ => BuildMode::Normal,
    };
    let built = build(&common, &store, &wanted, mode)?;
    if args.json {
        let items = built.iter().map(|b| built_json(&store, b));
        let json = Json::Array(items.collect::<Result<_, _>>()?);
        common.print_json(json.to_text().as_bytes())?;
    }
    if !args.no_link {
        link_all(&store, &args.out_link, &built)?;
    }
    if args.print_out_paths {
        for built in &built {
            let paths: Vec<&StorePath> = match built {
                Built::Path(path) => vec![path],
                Built::Outputs { outputs, .. } => outputs.values().collect(),
            };
            for path in paths {
                print(format!("{}\n", store.print(path)).as_bytes())?;
            }
        }
    }
    Ok(())
}

fn build(
    common: &Common,
    store: &Arc<LocalStore>,
    wanted: &[Wanted],
    mode: BuildMode,
) -> Result<Vec<Built>, Failure> {
    if common.settings.switch("print-missing").unwrap_or(true) {
        crate::missing::find(store, wanted)?.print(store)?;
    }
    let settings = store_access::build_settings(common)?;
    let results = store_access::build_each(store, settings, wanted, mode)?;
    let mut built = Vec::new();
    for (wanted, result) in wanted.iter().zip(results) {
        built.push(match wanted {
            Wanted::Path(path) => Built::Path(path.clone()),
            Wanted::Built(request) => {
                let known = result.map(|r| r.outputs);
                Built::Outputs {
                    outputs: match known {
                        Some(outputs) if !outputs.is_empty() => outputs,
                        _ => store_access::outputs_of(store, request)?,
                    },
                    drv: request.drv.clone(),
                }
            }
        });
    }
    Ok(built)
}

/// Builds what is missing. The paths of everything that is wanted.
///
/// # Errors
/// Failed builds.
pub fn built_paths(
    common: &Common,
    store: &Arc<LocalStore>,
    wanted: &[Wanted],
) -> Result<Vec<StorePath>, Failure> {
    let built = build(common, store, wanted, BuildMode::Normal)?;
    let paths = built.into_iter().flat_map(|built| match built {
        Built::Path(path) => vec![path],
        Built::Outputs { outputs, .. } => outputs.into_values().collect(),
    });
    Ok(paths.collect())
}

fn link_all(store: &LocalStore, out_link: &str, built: &[Built]) -> Result<(), Failure> {
    let link = crate::session::current_dir()?.join(out_link);
    let place = |i: usize, output: &str| {
        let mut name = link.clone().into_os_string();
        if i > 0 {
            name.push(format!("-{i}"));
        }
        if output != "out" {
            name.push(format!("-{output}"));
        }
        std::path::PathBuf::from(name)
    };
    for (i, built) in built.iter().enumerate() {
        match built {
            Built::Path(path) => {
                store.add_perm_root(path, &place(i, "out"))?;
            }
            Built::Outputs { outputs, .. } => {
                for (name, path) in outputs {
                    store.add_perm_root(path, &place(i, name))?;
                }
            }
        }
    }
    Ok(())
}

/// A derivation as JSON: its path, or how it is an output of another one.
fn drv_json(store: &LocalStore, drv: &DrvRef) -> Result<Json, Failure> {
    match drv {
        DrvRef::Path(path) => Ok(Json::string(store.print(path))),
        DrvRef::Output(inner, output) => {
            let request = BuildRequest::outputs((**inner).clone(), [output.clone()]);
            let path = store_access::outputs_of(store, &request)
                .ok()
                .and_then(|outputs| outputs.into_values().next());
            Ok(Json::object([
                ("drvPath", drv_json(store, inner)?),
                ("output", Json::string(output.as_str())),
                (
                    "outputPath",
                    path.map_or(Json::Null, |p| Json::string(store.print(&p))),
                ),
            ]))
        }
    }
}

fn planned_json(store: &LocalStore, wanted: &Wanted) -> Result<Json, Failure> {
    let request = match wanted {
        Wanted::Path(path) => return Ok(Json::string(store.print(path))),
        Wanted::Built(request) => request,
    };
    let drv = store_access::drv_path(store, &request.drv)?;
    let known = store.query_output_map(&drv)?;
    let outputs = known.iter().filter(|(name, _)| match &request.outputs {
        Outputs::All => true,
        Outputs::Names(names) => names.contains(*name),
    });
    let outputs = outputs.map(|(name, path)| {
        let path = path.as_ref().map(|p| Json::string(store.print(p)));
        (name.as_str(), path.unwrap_or(Json::Null))
    });
    Ok(Json::object([
        ("drvPath", drv_json(store, &request.drv)?),
        ("outputs", Json::object(outputs)),
    ]))
}

fn built_json(store: &LocalStore, built: &Built) -> Result<Json, Failure> {
    let (drv, outputs) = match built {
        Built::Path(path) => return Ok(Json::string(store.print(path))),
        Built::Outputs { drv, outputs } => (drv, outputs),
    };
    let outputs = outputs
        .iter()
        .map(|(name, path)| (name.as_str(), Json::string(store.print(path))));
    Ok(Json::object([
        ("drvPath", drv_json(store, drv)?),
        ("outputs", Json::object(outputs)),
    ]))
}
