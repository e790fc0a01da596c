//! `nivis path-info`.

use crate::session::{Common, Failure, print};
use crate::store_command::PathsArgs;
use clap::Args;
use nivis_store::StorePath;
use nivis_store::json::Json;
use nivis_store::local::{LocalStore, PathInfo, render_size};
use std::collections::HashMap;

#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct PathInfoArgs {
    #[command(flatten)]
    paths: PathsArgs,
    /// Print the size of the archive
    #[arg(short, long)]
    size: bool,
    /// Print the size of the archives of everything that the path refers to
    #[arg(short = 'S', long)]
    closure_size: bool,
    /// Print sizes for people
    #[arg(short, long)]
    human_readable: bool,
    /// Print signatures
    #[arg(long)]
    sigs: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The version of the JSON: 1 or 2
    #[arg(long, value_name = "VERSION")]
    json_format: Option<u8>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Runs `nivis path-info`.
///
/// # Errors
/// Paths that are not valid.
pub fn run(mut common: Common, args: &PathInfoArgs) -> Result<(), Failure> {
    let (store, paths) = args.paths.resolve(&mut common)?;
    let sizes = match args.closure_size {
        true => store.closure_sizes(&store.valid_among(&paths)?)?,
        false => HashMap::new(),
    };
    let closure_size = |path: &StorePath| sizes.get(path).copied().unwrap_or(0);
    if args.json {
        let format = args.json_format.unwrap_or_else(|| {
            crate::session::warn(
                "'--json' without '--json-format' is deprecated; please specify '--json-format 1' or '--json-format 2'. This will become an error in a future release.",
            );
            1
        });
        if !matches!(format, 1 | 2) {
            return Err(Failure::Other(format!(
                "unsupported path info JSON format version {format}; supported versions are 1 and 2"
            )));
        }
        let mut entries = Vec::new();
        for path in &paths {
            let json = match store.find_path_info(path)? {
                None => Json::Null,
                Some(info) => {
                    let mut json = info_json(&store, &info, format);
                    if args.closure_size
                        && let Json::Object(entries) = &mut json
                    {
                        let size = Json::Number(closure_size(path).to_string());
                        entries.insert("closureSize".into(), size);
                    }
                    json
                }
            };
            let key = match format {
                1 => store.print(path),
                _ => path.to_string(),
            };
            entries.push((key, json));
        }
        let mut json = Json::object(entries);
        if format == 2 {
            json = Json::object([
                ("version", Json::Number("2".into())),
                ("storeDir", Json::string(store.store_dir().as_str())),
                ("info", json),
            ]);
        }
        return common.print_json(json.to_text().as_bytes());
    }
    let width = paths
        .iter()
        .map(|p| store.print(p).len())
        .max()
        .unwrap_or(0);
    for path in &paths {
        let info = store.query_path_info(path)?;
        let mut line = store.print(path);
        if args.size || args.closure_size || args.sigs {
            line = format!("{line:width$}");
        }
        let size = |n: u64| match args.human_readable {
            true => {
                let text = render_size(n.into());
                let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
                format!("\t{number:>6} {unit}")
            }
            false => format!("\t{n:>11}"),
        };
        if args.size {
            line.push_str(&size(info.nar_size));
        }
        if args.closure_size {
            line.push_str(&size(closure_size(path)));
        }
        if args.sigs {
            let mut words = Vec::new();
            if info.ultimate {
                words.push("ultimate".to_string());
            }
            words.extend(info.content_address.iter().map(|ca| format!("ca:{ca}")));
            words.extend(info.signatures.iter().cloned());
            line.push_str(&format!("\t{}", words.join(" ")));
        }
        print(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// What is known about a path as JSON, in one of two versions.
fn info_json(store: &LocalStore, info: &PathInfo, format: u8) -> Json {
    let path = |path: &StorePath| match format {
        1 => Json::string(store.print(path)),
        _ => Json::string(path.to_string()),
    };
    let number = |n: u64| Json::Number(n.to_string());
    let ca = info.content_address.as_ref().map(|ca| match format {
        1 => Json::string(ca.to_string()),
        _ => Json::object([
            ("method", Json::string(ca.method.name())),
            ("hash", Json::string(ca.hash.to_sri())),
        ]),
    });
    let signatures = info
        .signatures
        .iter()
        .map(|s| match (format, s.split_once(':')) {
            (2, Some((key, signature))) => Json::object([
                ("keyName", Json::string(key)),
                ("sig", Json::string(signature)),
            ]),
            _ => Json::string(s),
        });
    let registered = match info.registration_time {
        0 => Json::Null,
        time => number(time),
    };
    Json::object([
        ("version", number(format.into())),
        ("storeDir", Json::string(store.store_dir().as_str())),
        ("narHash", Json::string(info.nar_hash.to_sri())),
        ("narSize", number(info.nar_size)),
        (
            "references",
            Json::Array(info.references.iter().map(path).collect()),
        ),
        ("ca", ca.unwrap_or(Json::Null)),
        ("deriver", info.deriver.as_ref().map_or(Json::Null, path)),
        ("registrationTime", registered),
        ("ultimate", Json::Bool(info.ultimate)),
        ("signatures", Json::Array(signatures.collect())),
    ])
}
