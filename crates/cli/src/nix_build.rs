//! `nix-build`.

use crate::common::Arguments;
use crate::progress::LogFormat;
use crate::session::{Common, Failure, Session, print};
use crate::store_access::{self, Wanted};
use nivis::eval::Value;
use nivis::packages::find_packages;
use nivis::select::find_along;
use nivis_store::build::{BuildMode, BuildRequest};
use nivis_store::{OutputName, StoreDir, StorePath};
use std::path::PathBuf;

#[derive(Default)]
struct Options {
    args: Vec<String>,
    attrs: Vec<String>,
    from_args: bool,
    read_stdin: bool,
    dry_run: bool,
    mode: BuildMode,
    /// `None` for no link.
    out_link: Option<PathBuf>,
}

/// Runs `nix-build`.
///
/// # Errors
/// Wrong usage; what evaluation or a build fails with.
pub fn run(arguments: &mut Arguments, mut common: Common) -> Result<(), Failure> {
    let options = parse(arguments, &mut common)?;
    common.start_reporter(LogFormat::RawWithLogs);
    let dir = store_access::config(&common)?.store_dir;
    let found = Session::run(&common, |session| evaluate(session, &options, &dir))?;
    let wanted: Vec<Wanted> = found
        .iter()
        .map(|(drv, output)| Wanted::Built(BuildRequest::outputs(drv.clone(), [output.clone()])))
        .collect();
    let store = store_access::open_for(&common, &wanted)?;
    if common.settings.switch("print-missing").unwrap_or(true) {
        crate::missing::find(&store, &wanted)?.print(&store)?;
    }
    if options.dry_run {
        return Ok(());
    }
    let settings = store_access::build_settings(&common)?;
    let built = store_access::build(&store, settings, &wanted, options.mode)?;
    // Links are numbered by derivation.
    let mut numbered: Vec<&StorePath> = Vec::new();
    let mut out = String::new();
    for ((drv, _), outputs) in found.iter().zip(built) {
        let number = match numbered.iter().position(|d| *d == drv) {
            Some(number) => number,
            None => {
                numbered.push(drv);
                numbered.len() - 1
            }
        };
        for (name, path) in outputs {
            if let Some(link) = &options.out_link {
                let mut place = link.clone().into_os_string();
                if number > 0 {
                    place.push(format!("-{}", number + 1));
                }
                if name != "out" {
                    place.push(format!("-{name}"));
                }
                store.add_perm_root(&path, place.as_ref())?;
            }
            out.push_str(&store.print(&path));
            out.push('\n');
        }
    }
    print(out.as_bytes())
}

fn parse(arguments: &mut Arguments, common: &mut Common) -> Result<Options, Failure> {
    let cwd = crate::session::current_dir()?;
    let mut o = Options {
        out_link: Some(cwd.join("result")),
        ..Options::default()
    };
    while let Some(arg) = arguments.next(common)? {
        match arg.as_str() {
            "--add-drv-link" | "--indirect" | "--" => {}
            "--drv-link" => {
                arguments.value(&arg)?;
            }
            "--no-out-link" | "--no-link" => o.out_link = None,
            "--out-link" | "-o" | "--add-root" => {
                o.out_link = Some(cwd.join(arguments.value(&arg)?))
            }
            "--attr" | "-A" => o.attrs.push(arguments.value(&arg)?),
            "--expr" | "-E" => o.from_args = true,
            "--dry-run" => o.dry_run = true,
            "--check" => o.mode = BuildMode::Check,
            "--repair" => o.mode = BuildMode::Repair,
            "--pure" | "--run-env" => {
                return Err(Failure::Other(format!(
                    "'{arg}' is for nix-shell, which is not here"
                )));
            }
            "-" => o.read_stdin = true,
            _ if arg.starts_with('-') => {
                return Err(Failure::Usage(format!("unrecognised flag '{arg}'")));
            }
            _ => o.args.push(arg),
        }
    }
    if !o.from_args && o.args.is_empty() {
        o.args.push(".".to_string());
    }
    if o.attrs.is_empty() {
        o.attrs.push(String::new());
    }
    Ok(o)
}

/// The outputs to build, in the order in which their paths are printed.
fn evaluate(
    session: &mut Session,
    options: &Options,
    dir: &StoreDir,
) -> Result<Vec<(StorePath, OutputName)>, Failure> {
    let mut found = Vec::new();
    if options.read_stdin {
        let value = session.stdin()?;
        select(session, options, value, dir, &mut found)?;
        return Ok(found);
    }
    // Derivations that are named come first.
    let mut files = Vec::new();
    for arg in &options.args {
        match named(dir, arg) {
            Some((_, output)) if !options.from_args && output.contains(',') => {
                return Err(Failure::Other(format!(
                    "building more than one derivation output is not supported, in '{arg}'"
                )));
            }
            Some(named) if !options.from_args => found.push(named),
            _ => files.push(arg),
        }
    }
    for file in files {
        let value = if options.from_args {
            session.expression(file)?
        } else {
            session.file(file)?
        };
        select(session, options, value, dir, &mut found)?;
    }
    Ok(found)
}

/// A `.drv` file of the store as argument, or a link to one.
fn named(dir: &StoreDir, arg: &str) -> Option<(StorePath, OutputName)> {
    let (path, output) = arg.split_once('!').unwrap_or((arg, "out"));
    let (path, rest) = store_access::follow_links(dir, path).ok()?;
    (path.is_derivation() && rest.as_os_str().is_empty()).then(|| (path, OutputName::from(output)))
}

fn select(
    session: &mut Session,
    options: &Options,
    value: Value,
    dir: &StoreDir,
    found: &mut Vec<(StorePath, OutputName)>,
) -> Result<(), Failure> {
    let args = session.args;
    let m = &mut session.machine;
    let value = m.force(value)?;
    let root = m.root(value);
    for path in &options.attrs {
        let value = find_along(m, args, m.rooted(root), path)?;
        let value = m.force(value)?;
        for package in find_packages(m, args, value)? {
            let drv = package.drv_path(m)?;
            let output = package.output_name(m)?;
            package.release(m);
            if output.is_empty() {
                return Err(Failure::Other(format!(
                    "derivation '{drv}' lacks an 'outputName' attribute"
                )));
            }
            found.push((dir.parse(&drv)?, OutputName::from(output)));
        }
    }
    m.unroot(root);
    Ok(())
}
