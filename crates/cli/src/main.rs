//! The command `nivis`, which is also `nix-instantiate` when called by that name.

mod instantiate;
mod legacy;
mod nivis_command;
mod parse;
mod session;
mod setting_names;
mod settings;
mod write_to;

use nivis::builtins::NIX_VERSION;
use std::path::Path;

fn main() {
    let mut args = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .map_or("nivis".into(), |n| n.to_string_lossy());
    let success = if name == "nix-instantiate" {
        nix_instantiate(args, &name)
    } else {
        nivis_command::run(std::iter::once("nivis".to_string()).chain(args))
    };
    // Tearing the heap down takes time and gains nothing.
    std::process::exit(i32::from(!success));
}

fn nix_instantiate(args: impl Iterator<Item = String>, name: &str) -> bool {
    match legacy::parse(args) {
        Ok(legacy::Parsed::Run(options)) => instantiate::run(*options),
        Ok(legacy::Parsed::Version) => {
            println!("{name} (Nix) {NIX_VERSION}");
            true
        }
        Ok(legacy::Parsed::Help) => {
            println!("{}", nivis_command::instantiate_help());
            true
        }
        Err(e) => {
            session::report_plain(&session::Failure::Usage(e.0), name);
            false
        }
    }
}
