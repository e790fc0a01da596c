//! `nix-instantiate` and `nivis instantiate`.

use crate::session::{Common, Failure, Session, current_dir, print, read_stdin, warn};
use nivis::eval::print::PrintOptions;
use nivis::eval::{Value, ops};
use nivis::output::{JsonOptions, XmlOptions, json, xml};
use nivis::packages::find_packages;
use nivis::select::{auto_call, find_along};
use std::path::Path;

/// How an evaluated value is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Output {
    #[default]
    Plain,
    Raw,
    Xml,
    Json,
}

/// The flags of `nix-instantiate`.
#[derive(Clone, Debug, Default)]
pub struct Instantiate {
    pub common: Common,
    pub files: Vec<String>,
    pub read_stdin: bool,
    pub from_args: bool,
    pub find_file: bool,
    pub eval_only: bool,
    pub parse_only: bool,
    pub repair: bool,
    pub output: Output,
    pub location: bool,
    pub strict: bool,
    pub attrs: Vec<String>,
    pub gc_root: Option<String>,
}

/// Runs it.
///
/// # Errors
/// What evaluation, or writing to the store, fails with.
pub fn run(mut options: Instantiate) -> Result<(), Failure> {
    if options.eval_only && !options.common.read_write {
        options.common.read_only = true;
    }
    if !options.read_stdin && options.files.is_empty() && !options.from_args && !options.find_file {
        options.files.push("./default.nix".to_string());
    }
    if options.parse_only {
        return parse(&options);
    }
    Session::run(&options.common, |session| evaluate(session, &options))
}

fn evaluate(session: &mut Session, options: &Instantiate) -> Result<(), Failure> {
    if options.find_file {
        for file in &options.files {
            let path = session.find_file(file)?;
            let bytes = path.as_os_str().as_encoded_bytes();
            if nivis::eval::own::inside(bytes).is_some() {
                let shown = nivis::eval::own::shown(bytes);
                return Err(Failure::Other(format!(
                    "'{}' has no physical path",
                    String::from_utf8_lossy(&shown)
                )));
            }
            print(format!("{}\n", path.display()).as_bytes())?;
        }
        return Ok(());
    }
    let mut roots = 0;
    if options.read_stdin {
        let value = session.stdin()?;
        process(session, options, value, &mut roots)?;
    }
    for file in &options.files {
        let value = if options.from_args {
            session.expression(file)?
        } else {
            session.file(file)?
        };
        process(session, options, value, &mut roots)?;
    }
    Ok(())
}

fn process(
    session: &mut Session,
    options: &Instantiate,
    value: Value,
    roots: &mut u32,
) -> Result<(), Failure> {
    let args = session.args;
    let value = session.machine.force(value)?;
    let root = session.machine.root(value);
    let whole = [String::new()];
    let paths = if options.attrs.is_empty() {
        &whole[..]
    } else {
        &options.attrs[..]
    };
    for path in paths {
        let m = &mut session.machine;
        let found = find_along(m, args, m.rooted(root), path)?;
        let value = m.force(found)?;
        if options.eval_only {
            let value = if args.is_empty(m) {
                value
            } else {
                auto_call(m, args, value)?
            };
            show(session, options, value)?;
        } else {
            instantiate(session, options, value, roots)?;
        }
    }
    session.machine.unroot(root);
    Ok(())
}

fn show(session: &mut Session, options: &Instantiate, value: Value) -> Result<(), Failure> {
    let m = &mut session.machine;
    let mut value = m.force(value)?;
    let mut text = match options.output {
        // Without a newline, as the reference prints it.
        Output::Raw => {
            let text = m
                .run_native(
                    ops::coerce_to_string,
                    &[value, ops::Coerce::INTERPOLATION.value()],
                )
                .map_err(|e| {
                    e.context(
                        "while generating the nix-instantiate output",
                        Default::default(),
                        true,
                    )
                })?;
            return print(m.want_string(text)?.bytes());
        }
        Output::Xml => {
            let text = xml(
                m,
                value,
                XmlOptions {
                    strict: options.strict,
                    locations: options.location,
                },
            )?;
            return print(&text);
        }
        Output::Json => json(
            m,
            value,
            JsonOptions {
                strict: options.strict,
                copy_paths: true,
            },
        )?,
        Output::Plain => {
            if options.strict {
                value = m.run_native(ops::force_deep, &[value])?;
            }
            m.try_print(value, &PrintOptions::CLASSIC)?
        }
    };
    text.push(b'\n');
    print(&text)
}

fn instantiate(
    session: &mut Session,
    options: &Instantiate,
    value: Value,
    roots: &mut u32,
) -> Result<(), Failure> {
    let args = session.args;
    for package in find_packages(&mut session.machine, args, value)? {
        let m = &mut session.machine;
        let path = package.drv_path(m)?;
        let output = package.output_name(m)?;
        package.release(m);
        if output.is_empty() {
            return Err(Failure::Other(format!(
                "derivation '{path}' lacks an 'outputName' attribute"
            )));
        }
        if session.store.is_none() && !options.common.read_only && !options.common.keeps_nothing() {
            return Err(Failure::Other(
                "operation 'addToStore' is not supported by store 'dummy://'".to_string(),
            ));
        }
        let mut shown = path.clone();
        match &options.gc_root {
            None => {
                if !options.common.no_gc_warning && !std::mem::replace(&mut session.gc_warned, true)
                {
                    warn(
                        "you did not specify '--add-root'; the result might be removed by the garbage collector",
                    );
                }
            }
            Some(root) => {
                *roots += 1;
                shown = add_root(session, root, *roots, &path)?;
            }
        }
        if output != "out" {
            shown = format!("{shown}!{output}");
        }
        print(format!("{shown}\n").as_bytes())?;
    }
    Ok(())
}

/// Makes a symbolic link to a store path, and a root of it; the second and further ones get a number.
fn add_root(session: &Session, root: &str, number: u32, target: &str) -> Result<String, Failure> {
    let mut link = session.cwd().join(root).into_os_string();
    if number > 1 {
        link.push(format!("-{number}"));
    }
    let Some(store) = &session.store else {
        return Err(Failure::Other(
            "a store that keeps nothing has no roots".to_string(),
        ));
    };
    let store = store.get()?;
    let path = store.store_dir().parse(target)?;
    let link = store.add_perm_root(&path, link.as_ref())?;
    Ok(link.display().to_string())
}

/// Prints syntax trees; evaluates nothing.
fn parse(options: &Instantiate) -> Result<(), Failure> {
    let cwd = current_dir()?;
    let features = options.common.settings.list("experimental-features");
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let one = |text: &[u8], origin: &str, dir: &Path| {
        crate::parse::print_tree(text, origin, dir, &features, false)
    };
    if options.read_stdin {
        one(&read_stdin()?, "«stdin»", &cwd)?;
    }
    for file in &options.files {
        if options.from_args {
            one(file.as_bytes(), "«string»", &cwd)?;
        } else {
            let path = crate::parse::resolve(&cwd, file);
            let text = std::fs::read(&path).map_err(|e| crate::parse::unreadable(&path, &e))?;
            one(
                &text,
                &path.display().to_string(),
                path.parent().unwrap_or(&cwd),
            )?;
        }
    }
    Ok(())
}
