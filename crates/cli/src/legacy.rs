//! Nix's older commands, `nix-…`: which there are, and how their command lines are parsed: flags in any order.

use crate::common::Arguments;
use crate::gc_command;
use crate::hash_command;
use crate::instantiate::{self, Instantiate, Output};
use crate::nivis_command::help_of;
use crate::nix_build;
use crate::nix_store;
use crate::progress::LogFormat;
use crate::session::{Common, Failure, print, report_plain};
use crate::settings::{system_file, user_files};
use crate::store_access;
use nivis::builtins::NIX_VERSION;

/// Runs an older command; what failed is reported here. The process's status.
pub fn run(name: &str, args: impl Iterator<Item = String>) -> i32 {
    let args: Vec<String> = args.collect();
    if args.iter().any(|a| a == "--version") {
        return version(name, args);
    }
    let help = args.iter().any(|a| a == "--help");
    match dispatch(name, args, help) {
        Ok(()) => 0,
        Err(failure) => {
            report_plain(&failure, name);
            failure.status()
        }
    }
}

/// Prints the version of Nix that the command stands for; with `--verbose`, also where it looks for things.
pub fn version(name: &str, args: Vec<String>) -> i32 {
    let shown = || -> Result<String, Failure> {
        let mut common = Common::load()?;
        Arguments::new(args).all(&mut common)?;
        let mut text = format!("{name} (Nix) {NIX_VERSION}\n");
        if common.louder > 0 {
            let build = store_access::build_settings(&common)?;
            let platforms: Vec<String> = build.extra_platforms.into_iter().collect();
            let users: Vec<String> = user_files()
                .iter()
                .map(|f| f.display().to_string())
                .collect();
            text.push_str(&format!("System type: {}\n", build.system));
            text.push_str(&format!(
                "Additional system types: {}\n",
                platforms.join(", ")
            ));
            text.push_str(&format!(
                "System configuration file: {}\nUser configuration files: {}\n",
                system_file().display(),
                users.join(":")
            ));
            let store = store_access::config(&common)?;
            text.push_str(&format!(
                "Store directory: {}\nState directory: {}\n",
                store.store_dir,
                store.state_dir.display()
            ));
        }
        Ok(text)
    };
    match shown().and_then(|text| print(text.as_bytes())) {
        Ok(()) => 0,
        Err(failure) => {
            report_plain(&failure, name);
            failure.status()
        }
    }
}

fn dispatch(name: &str, args: Vec<String>, help: bool) -> Result<(), Failure> {
    let mut args = Arguments::new(args);
    let mut common = Common::load()?;
    if help {
        let text = match name {
            "nix-instantiate" => help_of("instantiate", "nix-instantiate"),
            "nix-hash" => help_of("hash", "nix-hash"),
            "nix-build" => help_of("build", "nix-build"),
            "nix-store" => help_of("store", "nix-store"),
            "nix-collect-garbage" => help_of("gc", "nix-collect-garbage"),
            _ => String::new(),
        };
        println!("{text}");
        return Ok(());
    }
    match name {
        "nix-instantiate" => instantiate::run(nix_instantiate(&mut args, common)?),
        "nix-hash" => hash_command::nix_hash(&mut args, &mut common),
        "nix-build" => nix_build::run(&mut args, common),
        "nix-store" => nix_store::run(&mut args, common),
        "nix-collect-garbage" => gc_command::nix_collect_garbage(&mut args, common),
        _ => Err(Failure::Other(format!("there is no command '{name}' here"))),
    }
}

/// Reads flags to the end; whatever is shown from then on is shown as they say.
fn nix_instantiate(args: &mut Arguments, common: Common) -> Result<Instantiate, Failure> {
    let mut o = Instantiate {
        common,
        location: true,
        ..Instantiate::default()
    };
    while let Some(arg) = args.next(&mut o.common)? {
        match arg.as_str() {
            // What follows is parsed all the same, by the original too.
            "--" => {}
            "-" => o.read_stdin = true,
            "--dry-run" => o.common.read_only = true,
            "--repair" => o.repair = true,
            "--expr" | "-E" => o.from_args = true,
            "--eval" | "--eval-only" => o.eval_only = true,
            "--parse" | "--parse-only" => {
                o.parse_only = true;
                o.eval_only = true;
            }
            "--find-file" => o.find_file = true,
            "--attr" | "-A" => o.attrs.push(args.value(&arg)?),
            "--add-root" => o.gc_root = Some(args.value(&arg)?),
            "--indirect" => {}
            "--raw" => o.output = Output::Raw,
            "--xml" => o.output = Output::Xml,
            "--json" => o.output = Output::Json,
            "--no-location" => o.location = false,
            "--strict" => o.strict = true,
            flag if flag.starts_with('-') => {
                return Err(Failure::Usage(format!("unrecognised flag '{arg}'")));
            }
            _ => o.files.push(arg),
        }
    }
    o.common.start_reporter(LogFormat::RawWithLogs);
    Ok(o)
}
