//! `nivis config`.

use crate::session::{Common, Failure, print};
use crate::setting_names::{DEFAULTS, LISTS, MAPS, OPTIONAL_PATHS};
use crate::store_access;
use clap::{Args, Subcommand};
use nivis_store::json::Json;
use std::collections::BTreeMap;

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the settings, or one of them
    Show(ConfigArgs),
}

#[derive(Args)]
pub struct ConfigArgs {
    /// The setting
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no such setting.
pub fn run(common: &Common, command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Show(ConfigArgs { name, json }) = command;
    let all = values(common)?;
    if let Some(name) = name {
        if json {
            return Err(Failure::Usage(
                "'--json' is not supported when specifying a setting name".to_string(),
            ));
        }
        let value = all
            .get(&name)
            .ok_or_else(|| Failure::Other(format!("could not find setting '{name}'")))?;
        return print(format!("{value}\n").as_bytes());
    }
    if json {
        let entries = all
            .iter()
            .map(|(name, value)| (name, Json::object([("value", typed(name, value))])));
        let json = Json::object(entries.map(|(n, v)| (n.clone(), v)));
        return common.print_json(json.to_text().as_bytes());
    }
    let text: String = all.iter().map(|(n, v)| format!("{n} = {v}\n")).collect();
    print(text.as_bytes())
}

fn typed(name: &str, value: &str) -> Json {
    let words = || value.split_whitespace();
    match value {
        _ if LISTS.contains(&name) => Json::Array(words().map(Json::string).collect()),
        _ if name == "sandbox-paths" => Json::object(words().map(|word| {
            let (place, source) = word.split_once('=').unwrap_or((word, word));
            let optional = source.ends_with('?');
            let entry = Json::object([
                ("optional", Json::Bool(optional)),
                ("source", Json::string(source.trim_end_matches('?'))),
            ]);
            (place.trim_end_matches('?'), entry)
        })),
        _ if MAPS.contains(&name) => Json::object(words().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name, Json::string(value)))
        })),
        "" if OPTIONAL_PATHS.contains(&name) => Json::Null,
        _ if name == "external-builders" => Json::parse(value).unwrap_or(Json::string(value)),
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
            Json::Number(value.to_string())
        }
        _ => Json::string(value),
    }
}

/// All settings that are given or have a default that is known here.
fn values(common: &Common) -> Result<BTreeMap<String, String>, Failure> {
    let build = store_access::build_settings(common)?;
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        all.insert(name.to_string(), value);
    };
    for name in crate::setting_names::SWITCHES {
        set(name, "false".into());
    }
    for name in crate::setting_names::VALUED {
        set(name, String::new());
    }
    for name in crate::setting_names::ON_BY_DEFAULT {
        set(name, "true".into());
    }
    for (name, value) in DEFAULTS {
        set(name, value.to_string());
    }
    let conf_dir = std::env::var("NIX_CONF_DIR").unwrap_or_else(|_| "/etc/nix".into());
    set("builders", format!("@{conf_dir}/machines"));
    set("netrc-file", format!("{conf_dir}/netrc"));
    let words = |set: &std::collections::BTreeSet<String>| {
        set.iter().cloned().collect::<Vec<_>>().join(" ")
    };
    let seconds = |d: Option<std::time::Duration>| d.map_or(0, |d| d.as_secs()).to_string();
    let root = nix::unistd::geteuid().is_root();
    set("require-drop-supplementary-groups", root.to_string());
    let certificates = build.ssl_cert_file.as_ref();
    set(
        "ssl-cert-file",
        certificates.map_or(String::new(), |path| path.display().to_string()),
    );
    set("build-users-group", build.build_users_group.clone());
    set("max-jobs", build.max_jobs.to_string());
    let shown = build.sandbox_paths.iter().map(|(place, path)| {
        let optional = if path.optional { "?" } else { "" };
        match *place == path.source {
            true => format!("{}{optional}", place.display()),
            false => format!("{}={}{optional}", place.display(), path.source.display()),
        }
    });
    set("sandbox-paths", shown.collect::<Vec<_>>().join(" "));
    set("cores", build.cores.to_string());
    set("log-lines", build.log_lines.to_string());
    set("system", build.system.clone());
    set("extra-platforms", words(&build.extra_platforms));
    set("system-features", words(&build.system_features));
    set("max-silent-time", seconds(build.max_silent_time));
    set("timeout", seconds(build.timeout));
    set(
        "sandbox-build-dir",
        build.sandbox_build_dir.display().to_string(),
    );
    set("sandbox-dev-shm-size", build.sandbox_dev_shm_size.clone());
    set(
        "max-build-log-size",
        build.max_log_size.unwrap_or(0).to_string(),
    );
    for (name, value) in common.settings.given() {
        match name.strip_prefix("extra-") {
            Some(base) if all.contains_key(base) => {
                let known = all.get(base).cloned().unwrap_or_default();
                let added = !known.split(' ').any(|w| w == value);
                if base != "system-features" && base != "extra-platforms" && added {
                    all.insert(
                        base.to_string(),
                        format!("{known} {value}").trim().to_string(),
                    );
                }
            }
            _ => {
                if !matches!(name, "system-features" | "extra-platforms" | "max-jobs") {
                    let number = match crate::setting_names::NUMBERS.contains(&name) {
                        true => crate::settings::bytes_of(value).map(|n| n.to_string()),
                        false => None,
                    };
                    all.insert(
                        name.to_string(),
                        number.unwrap_or_else(|| value.to_string()),
                    );
                }
            }
        }
    }
    if let Some(features) = all.get_mut("experimental-features") {
        let mut sorted: std::collections::BTreeSet<&str> = features.split_whitespace().collect();
        if sorted.contains("flakes") {
            sorted.insert("fetch-tree");
        }
        *features = sorted.into_iter().collect::<Vec<_>>().join(" ");
    }
    all.retain(|name, _| common.settings.lacks(name).is_none());
    Ok(all)
}
