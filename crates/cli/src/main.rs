//! The command `nivis`, which is also Nix's older commands, and `nix`, when called by those names.

mod allocator;
mod build_command;
mod common;
mod complete;
mod config_command;
mod copy_command;
mod derivation_command;
mod diff_closures;
mod eval_command;
mod gc_command;
mod hash_command;
mod installable;
mod instantiate;
mod legacy;
mod listing;
mod log_command;
mod missing;
mod nar_command;
mod nivis_command;
mod nix_build;
mod nix_store;
mod parse;
mod path_info;
mod profile;
mod progress;
mod session;
mod setting_names;
mod settings;
mod store_access;
mod store_command;
mod surroundings;
mod usage;
mod verify_command;
mod why_depends;
mod write_to;

use std::path::Path;

fn main() {
    let mut args = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .map_or("nivis".into(), |n| n.to_string_lossy());
    // As Nix has it: a store is for all users to read, and for one to write, whatever the caller's own files are.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let status = match name.as_ref() {
        "nix" => nivis_command::run(args, "nix"),
        name if name.starts_with("nix-") => legacy::run(name, args),
        _ => nivis_command::run(args, "nivis"),
    };
    store_access::close_all();
    progress::reporter().finish();
    // Tearing the heap down takes time and gains nothing.
    std::process::exit(status);
}
