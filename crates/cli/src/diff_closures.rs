//! `nivis store diff-closures`: which packages and versions another closure has.

use crate::installable::{self, SourceArgs};
use crate::session::{Common, Failure, print};
use crate::store_access;
use clap::Args;
use nivis::builtins::pure::version::parse_drv_name;
use nivis_store::StorePath;
use nivis_store::local::{LocalStore, render_size};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

#[derive(Args)]
pub struct DiffArgs {
    /// The closure to start from: a store path, DRV^OUTPUT, or an attribute of --file or --expr
    before: String,
    /// The closure to compare with it
    after: String,
    #[command(flatten)]
    source: SourceArgs,
}

/// The versions of a package in a closure, and the size of all its paths.
#[derive(Default)]
struct Package {
    versions: BTreeSet<String>,
    size: u64,
}

/// Sizes that differ by less are not mentioned.
const WORTH_MENTIONING: u64 = 8 << 10;

/// Runs the command.
///
/// # Errors
/// Paths that are not valid.
pub fn run(mut common: Common, args: &DiffArgs) -> Result<(), Failure> {
    let named = [args.before.clone(), args.after.clone()];
    let mut packages = Vec::new();
    let wanted = installable::resolve(&mut common, &args.source, &named)?;
    let store = store_access::open_beside(&common)?;
    for wanted in wanted {
        packages.push(closure(&store, &installable::paths(&store, &[wanted])?)?);
    }
    let [before, after] = packages.as_slice() else {
        return Err(Failure::Other("two closures are compared".to_string()));
    };
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let none = Package::default();
    for name in names {
        let old = before.get(name).unwrap_or(&none);
        let new = after.get(name).unwrap_or(&none);
        let removed: Vec<&String> = old.versions.difference(&new.versions).collect();
        let added: Vec<&String> = new.versions.difference(&old.versions).collect();
        let mut items = Vec::new();
        if !removed.is_empty() || !added.is_empty() {
            items.push(format!("{} → {}", list(&removed), list(&added)));
        }
        if old.size.abs_diff(new.size) >= WORTH_MENTIONING {
            let size = render_size(i128::from(new.size) - i128::from(old.size));
            items.push(match (colours, new.size > old.size) {
                (false, _) => size,
                (_, true) => format!("\x1b[31;1m{size}\x1b[0m"),
                (_, false) => format!("\x1b[32;1m{size}\x1b[0m"),
            });
        }
        if !items.is_empty() {
            print(format!("{name}: {}\n", items.join(", ")).as_bytes())?;
        }
    }
    Ok(())
}

fn list(versions: &[&String]) -> String {
    let shown = |v: &&String| match v.is_empty() {
        true => "ε".to_string(),
        false => v.to_string(),
    };
    match versions {
        [] => "∅".to_string(),
        versions => versions.iter().map(shown).collect::<Vec<_>>().join(", "),
    }
}

fn closure(store: &LocalStore, paths: &[StorePath]) -> Result<BTreeMap<String, Package>, Failure> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for path in store.closure(paths)? {
        let (name, version) = parse_drv_name(without_output(path.name()).as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let package = packages.entry(text(name)).or_default();
        package.versions.insert(text(version));
        package.size += store.query_path_info(&path)?.nar_size;
    }
    Ok(packages)
}

/// A name without the output's name at its end, which cannot be told from a word at the end of a version.
fn without_output(name: &str) -> &str {
    let is_output = |end: &str| {
        matches!(end, "lib32" | "lib64")
            || (!end.is_empty() && end.bytes().all(|b| b.is_ascii_lowercase()))
    };
    match name.rsplit_once('-') {
        Some((start, end)) if is_output(end) => start,
        _ => name,
    }
}
