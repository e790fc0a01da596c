//! The command `nivis`, which is also Nix's older commands, and `nix`, when called by those names.

mod common;
mod eval_command;
mod hash_command;
mod instantiate;
mod legacy;
mod listing;
mod nar_command;
mod nivis_command;
mod parse;
mod progress;
mod session;
mod setting_names;
mod settings;
mod write_to;

use std::path::Path;

fn main() {
    let mut args = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .map_or("nivis".into(), |n| n.to_string_lossy());
    let status = match name.as_ref() {
        "nix" => nivis_command::run(args, "nix"),
        name if name.starts_with("nix-") => legacy::run(name, args),
        _ => nivis_command::run(args, "nivis"),
    };
    progress::reporter().finish();
    // Tearing the heap down takes time and gains nothing.
    std::process::exit(status);
}
