//! What the arguments of Nix's newer commands name: store paths, outputs of derivations, attributes of a file or
//! expression.

use crate::session::{Common, Failure, Session};
use crate::store_access::{Wanted, follow_links};
use clap::Args;
use nivis::eval::context::ContextElement;
use nivis::eval::{Error, Machine, Type, Value, ops};
use nivis::keeper::LazyStore;
use nivis::packages::{Package, find_packages};
use nivis::select::find_along;
use nivis_store::build::{BuildRequest, DrvRef, Outputs};
use nivis_store::placeholder::DownstreamPlaceholder;
use nivis_store::{OutputName, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where attributes are looked up.
#[derive(Args, Clone, Debug, Default)]
pub struct SourceArgs {
    /// An expression; what else is named are attributes of it
    #[arg(
        short = 'E',
        long,
        value_name = "EXPR",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    pub expr: Option<String>,
    /// A file, a folder, `<NAME>` of the search path, or - for standard input
    #[arg(short, long)]
    pub file: Option<String>,
}

/// Which outputs an argument asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Those that a package wants installed.
    Default,
    /// `^*` or `^NAME,…`
    Explicit(Outputs),
}

impl Spec {
    /// Splits `WHAT^OUTPUTS`.
    ///
    /// # Errors
    /// Empty names of outputs.
    pub fn split(text: &str) -> Result<(&str, Spec), Failure> {
        let Some((what, outputs)) = text.rsplit_once('^') else {
            return Ok((text, Spec::Default));
        };
        if outputs == "*" {
            return Ok((what, Spec::Explicit(Outputs::All)));
        }
        let names: BTreeSet<OutputName> = outputs.split(',').map(OutputName::from).collect();
        if names
            .iter()
            .any(|n| nivis_store::store_path::check_name(n).is_err())
        {
            return Err(Failure::Other(format!(
                "invalid extended outputs specifier '{text}'"
            )));
        }
        Ok((what, Spec::Explicit(Outputs::Names(names))))
    }
}

/// Arguments from standard input, separated by white space.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn from_stdin() -> Result<Vec<String>, Failure> {
    let text = String::from_utf8(crate::session::read_stdin()?)
        .map_err(|_| Failure::Other("standard input is not UTF-8".to_string()))?;
    Ok(text.split_whitespace().map(String::from).collect())
}

/// What arguments name, in their order; evaluates where that is needed.
///
/// # Errors
/// What evaluation fails with, paths that are not in the store, and flakes.
pub fn resolve(
    common: &mut Common,
    source: &SourceArgs,
    args: &[String],
) -> Result<Vec<Wanted>, Failure> {
    if source.file.is_some() {
        common.pure_by_default = false;
    } else if source.expr.is_some() {
        common.pure_by_default = true;
    } else {
        let dir = crate::store_access::config(common)?.store_dir;
        let mut wanted = Vec::new();
        let here = [".".to_string()];
        let args = if args.is_empty() { &here } else { args };
        for arg in args {
            wanted.push(store_path(&dir, arg)?);
        }
        return Ok(wanted);
    }
    Session::run(common, |session| {
        let value = match (&source.file, &source.expr) {
            (Some(file), _) if file == "-" => session.stdin()?,
            (Some(file), _) => session.file(file)?,
            (_, Some(expr)) => session.expression(expr)?,
            _ => return Ok(Vec::new()),
        };
        let value = session.machine.force(value)?;
        let root = session.machine.root(value);
        let whole = [String::new()];
        let args = if args.is_empty() { &whole } else { args };
        let mut wanted = Vec::new();
        for arg in args {
            let (path, spec) = Spec::split(arg)?;
            let path = if path == "." { "" } else { path };
            let value = session.machine.rooted(root);
            attribute(session, value, path, &spec, &mut wanted)?;
        }
        Ok(wanted)
    })
}

/// A store path as argument, or outputs of a `.drv` file there; without outputs, such a file stands for itself.
fn store_path(dir: &StoreDir, arg: &str) -> Result<Wanted, Failure> {
    let (text, spec) = Spec::split(arg)?;
    if !text.contains('/') && !std::path::Path::new(text).is_symlink() {
        return Err(Failure::Other(format!(
            "'{arg}' is no store path; flakes are not supported, attributes need --file or --expr"
        )));
    }
    match spec {
        Spec::Default => {
            let path = follow_links(dir, text).map_err(|e| match e {
                Failure::Other(m) => Failure::Other(format!("{m}; flakes are not supported")),
                e => e,
            })?;
            Ok(Wanted::Path(path.0))
        }
        Spec::Explicit(outputs) => Ok(Wanted::Built(BuildRequest {
            drv: parse_drv(dir, text)?,
            outputs,
        })),
    }
}

/// `PATH^OUTPUT^…`: an output of an output …
fn parse_drv(dir: &StoreDir, text: &str) -> Result<DrvRef, Failure> {
    let mut parts = text.split('^');
    let (path, _) = follow_links(dir, parts.next().unwrap_or_default())?;
    Ok(parts.fold(DrvRef::Path(path), |drv, output| {
        DrvRef::Output(Box::new(drv), OutputName::from(output))
    }))
}

/// What an attribute stands for.
fn attribute(
    session: &mut Session,
    value: Value,
    path: &str,
    spec: &Spec,
    wanted: &mut Vec<Wanted>,
) -> Result<(), Failure> {
    let args = session.args;
    let m = &mut session.machine;
    let found = find_along(m, args, value, path)?;
    let mut found = m.force(found)?;
    let kept = m.root(found);
    if found.type_of() == Type::Path {
        let copy =
            session.expression("path: builtins.path { inherit path; name = \"source\"; }")?;
        let m = &mut session.machine;
        found = m.call(copy, &[m.rooted(kept)])?;
    }
    let store = &session.store;
    let m = &mut session.machine;
    let single = match found.type_of() {
        Type::String => Some(single_string(m, store, found)?),
        _ => None,
    };
    if let Some(single) = single {
        wanted.push(single);
        m.unroot(kept);
        return Ok(());
    }
    // Each derivation once, with all outputs that any place asks for, in the order of their paths.
    let first = wanted.len();
    for package in find_packages(m, args, found)? {
        let drv = package.drv_path(m)?;
        let outputs = match spec {
            Spec::Default => Outputs::Names(outputs_to_install(m, &package)?),
            Spec::Explicit(outputs) => outputs.clone(),
        };
        package.release(m);
        let drv = StoreDir::new(&m.settings.store_dir)?.parse(&drv)?;
        let same = wanted.iter_mut().skip(first).find_map(|w| match w {
            Wanted::Built(request) if *request.drv.root() == drv => Some(&mut request.outputs),
            _ => None,
        });
        match (same, outputs) {
            (Some(Outputs::Names(names)), Outputs::Names(more)) => names.extend(more),
            (Some(all), Outputs::All) => *all = Outputs::All,
            (Some(Outputs::All), _) => {}
            (None, outputs) => wanted.push(Wanted::Built(BuildRequest {
                drv: DrvRef::Path(drv),
                outputs,
            })),
        }
    }
    if let Some(found) = wanted.get_mut(first..) {
        found.sort_by(|a, b| match (a, b) {
            (Wanted::Built(a), Wanted::Built(b)) => a.drv.root().cmp(b.drv.root()),
            _ => std::cmp::Ordering::Equal,
        });
    }
    m.unroot(kept);
    Ok(())
}

/// The store that evaluation works on, if it keeps anything.
type MaybeStore = Option<Rc<LazyStore>>;

/// What the text of a reference to an output is: its path, or what stands for that until it is built. `None` when the
/// derivation is not there to be looked at.
fn output_text(
    store: &MaybeStore,
    drv: &StorePath,
    output: &str,
) -> Result<Option<String>, Failure> {
    let Some(store) = store else {
        return Ok(None);
    };
    let store = store.get()?;
    if !store.is_valid(drv)? {
        return Ok(None);
    }
    let derivation = store.read_derivation(drv)?;
    let paths = derivation.output_paths(store.store_dir())?;
    Ok(match paths.get(output) {
        Some(Some(path)) => Some(store.print(path)),
        Some(None) => Some(DownstreamPlaceholder::unknown_ca_output(drv, output)?.render()),
        None => None,
    })
}

/// A string that is a reference to one thing in the store stands for that.
fn single_string(m: &mut Machine, store: &MaybeStore, value: Value) -> Result<Wanted, Failure> {
    let text = m.want_string(value)?;
    let dir = StoreDir::new(&m.settings.store_dir)?;
    let elements: Vec<ContextElement> = m.contexts.elements(text.context()).cloned().collect();
    let wrong = |why: String| Failure::Other(format!("string '{}' {why}", text.to_text()));
    let [element] = elements.as_slice() else {
        return Err(wrong(format!(
            "has {} entries in its context. It should only have exactly one entry",
            elements.len()
        )));
    };
    Ok(match element {
        ContextElement::Path(path) => {
            if text.bytes() != &**path {
                return Err(Failure::Other(format!(
                    "path string '{}' has context with the different path '{}'",
                    text.to_text(),
                    String::from_utf8_lossy(path)
                )));
            }
            Wanted::Path(dir.parse(path)?)
        }
        ContextElement::DrvDeep(_) => {
            return Err(wrong(
                "has a context which refers to a complete source and binary closure. This is not supported at this time"
                    .to_string(),
            ));
        }
        ContextElement::Output { drv, output } => {
            let path = dir.parse(drv)?;
            let output = String::from_utf8_lossy(output);
            let expected = match output.contains('!') {
                true => None,
                false => output_text(store, &path, &output)?,
            };
            if let Some(expected) = expected.filter(|e| e.as_bytes() != text.bytes()) {
                return Err(wrong(format!(
                    "has context with the output '{output}' from derivation '{}', but the string is not the right placeholder for this derivation output. It should be '{expected}'",
                    String::from_utf8_lossy(drv)
                )));
            }
            let mut drv = DrvRef::Path(path);
            let mut names: Vec<&str> = output.split('!').collect();
            let last = names.pop().unwrap_or_default();
            for name in names {
                drv = DrvRef::Output(Box::new(drv), OutputName::from(name));
            }
            Wanted::Built(BuildRequest::outputs(drv, [last]))
        }
    })
}

/// The outputs that a package wants installed: the one it stands for, those of `meta.outputsToInstall`, or all.
fn outputs_to_install(m: &mut Machine, package: &Package) -> Result<BTreeSet<OutputName>, Failure> {
    let strings = |m: &mut Machine, package: &Package, path: &[&str]| {
        let mut value = package.value(m);
        for name in path {
            value = m.force(value)?;
            let symbol = m.symbols.intern(name.as_bytes());
            match value.as_attrs().and_then(|a| a.get(symbol)) {
                Some(found) => value = found,
                None => return Ok::<_, Error>(None),
            }
        }
        let value = m.run_native(ops::force_deep, &[value])?;
        let Some(list) = value.as_list() else {
            return Ok(None);
        };
        let mut names = BTreeSet::new();
        for item in list.iter() {
            names.insert(OutputName::from(m.want_plain_string(item)?.to_text()));
        }
        Ok(Some(names))
    };
    let only = ["out"].map(OutputName::from).into();
    let all = strings(m, package, &["outputs"])?.unwrap_or(only);
    let attrs = m.want_attrs(package.value(m))?;
    let symbol = m.symbols.intern(b"outputSpecified");
    if let Some(specified) = attrs.get(symbol) {
        let specified = m.force(specified)?;
        if m.want_bool(specified)? {
            let name = OutputName::from(package.output_name(m)?);
            if !all.contains(&name) {
                return Err(Failure::Other(format!(
                    "derivation does not have output '{name}'"
                )));
            }
            return Ok([name].into());
        }
    }
    match strings(m, package, &["meta", "outputsToInstall"])? {
        Some(wanted) => {
            if let Some(name) = wanted.iter().find(|n| !all.contains(*n)) {
                return Err(Failure::Other(format!(
                    "this derivation has bad 'meta.outputsToInstall': it has no output '{name}'"
                )));
            }
            if wanted.is_empty() {
                return Ok(["out"].map(OutputName::from).into());
            }
            Ok(wanted)
        }
        None => Ok(all),
    }
}

/// The store path that each argument stands for, outputs included.
///
/// # Errors
/// Outputs that were not built.
pub fn paths(
    store: &nivis_store::local::LocalStore,
    wanted: &[Wanted],
) -> Result<Vec<StorePath>, Failure> {
    let mut paths = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Path(path) => paths.push(path.clone()),
            Wanted::Built(request) => {
                paths.extend(crate::store_access::outputs_of(store, request)?.into_values());
            }
        }
    }
    Ok(paths)
}
