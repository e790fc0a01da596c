//! `nivis eval`.

use crate::installable::SourceArgs;
use crate::session::{Common, Failure, Session, print};
use clap::Args;
use nivis::eval::{Value, ops};
use nivis::output::{JsonOptions, json, print_forced};
use nivis::select::find_along;
use std::cell::Cell;
use std::path::Path;

#[derive(Args)]
pub struct EvalArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Attribute paths; without --expr and --file the first one is the file
    #[arg(value_name = "ATTRIBUTE")]
    attrs: Vec<String>,
    /// An attribute path
    #[arg(short = 'A', long = "attr", value_name = "ATTRIBUTE")]
    attr: Vec<String>,
    /// Call this function with the value
    #[arg(long, value_name = "EXPR", allow_hyphen_values = true)]
    apply: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "write_to")]
    json: bool,
    /// Print a string as it is
    #[arg(long, conflicts_with = "write_to")]
    raw: bool,
    /// Write a string to a file, or a set of strings to a folder
    #[arg(long, value_name = "PATH")]
    write_to: Option<String>,
}

/// Runs the command; `nix` is whether it was called by that name, and then writes derivations to the store. Otherwise
/// it writes only what it needs to build for evaluation to go on.
///
/// # Errors
/// What evaluation fails with.
pub fn run(mut common: Common, mut args: EvalArgs, nix: bool) -> Result<(), Failure> {
    if args.source.file.is_none() && args.source.expr.is_none() {
        if args.attrs.is_empty() {
            return Err(Failure::Usage(
                "give a file, or an expression with --expr".to_string(),
            ));
        }
        args.source.file = Some(args.attrs.remove(0));
    }
    if args.raw && args.json {
        return Err(Failure::Usage(
            "--raw and --json are mutually exclusive".to_string(),
        ));
    }
    // Evaluation of files is never pure; that of an expression is unless told otherwise.
    if args.source.file.is_some() {
        if common.settings.by_flag("pure-eval") && common.settings.switch("pure-eval") == Some(true)
        {
            return Err(Failure::Usage(
                "files are not compatible with '--pure-eval'".to_string(),
            ));
        }
        common.pure_by_default = false;
    } else {
        common.pure_by_default = true;
    }
    let shown = Cell::new(0);
    let evaluate = |session: &mut Session| evaluate(session, &common, &args, &shown);
    match nix || common.read_write {
        true => Session::run(&common, evaluate),
        false => Session::run_writing_if_needed(&common, evaluate),
    }
}

/// Prints the values of all attributes but the first ones that were `shown` already.
fn evaluate(
    session: &mut Session,
    common: &Common,
    args: &EvalArgs,
    shown: &Cell<usize>,
) -> Result<(), Failure> {
    let value = match (&args.source.file, &args.source.expr) {
        (Some(file), _) if file == "-" => session.stdin()?,
        (Some(file), _) => session.file(file)?,
        (None, Some(expr)) => session.expression(expr)?,
        (None, None) => return Err(Failure::Usage("nothing to evaluate".to_string())),
    };
    let value = session.machine.force(value)?;
    let root = session.machine.root(value);
    let mut paths: Vec<&str> = args
        .attrs
        .iter()
        .chain(&args.attr)
        .map(String::as_str)
        .collect();
    if paths.is_empty() {
        paths.push("");
    }
    for path in paths.into_iter().skip(shown.get()) {
        let m = &mut session.machine;
        let path = if path == "." { "" } else { path };
        let found = find_along(m, session.args, m.rooted(root), path)?;
        let mut value = m.force(found)?;
        if let Some(apply) = &args.apply {
            let kept = m.root(value);
            let function = session.expression(apply)?;
            let m = &mut session.machine;
            value = m.call(function, &[m.rooted(kept)])?;
            m.unroot(kept);
        }
        show(session, common, args, value)?;
        shown.set(shown.get() + 1);
    }
    Ok(())
}

fn show(
    session: &mut Session,
    common: &Common,
    args: &EvalArgs,
    value: Value,
) -> Result<(), Failure> {
    let m = &mut session.machine;
    if let Some(path) = &args.write_to {
        return crate::write_to::write_to(m, value, Path::new(path));
    }
    if args.raw {
        let text = m
            .run_native(
                ops::coerce_to_string,
                &[value, ops::Coerce::INTERPOLATION.value()],
            )
            .map_err(|e| {
                e.context(
                    "while generating the eval command output",
                    Default::default(),
                    true,
                )
            })?;
        return print(m.want_string(text)?.bytes());
    }
    if args.json {
        let options = JsonOptions {
            strict: true,
            copy_paths: false,
        };
        return common.print_json(&json(m, value, options)?);
    }
    let mut text = print_forced(m, value)?;
    text.push(b'\n');
    print(&text)
}
