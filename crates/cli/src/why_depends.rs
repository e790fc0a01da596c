//! `nivis why-depends`.

use crate::installable::{self, SourceArgs};
use crate::progress::reporter;
use crate::session::{Common, Failure, print};
use crate::store_access::{self, Wanted};
use crate::store_command::derivations;
use clap::Args;
use nivis_store::StorePath;
use nivis_store::build::BuildMode;
use nivis_store::local::LocalStore;
use nivis_store::nar::{FileSystem, NarSource, NodeKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Args)]
pub struct WhyArgs {
    /// What depends
    package: String,
    /// On what
    dependency: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Show all ways, not just a shortest one
    #[arg(short, long)]
    all: bool,
    /// Show the files that refer to the dependency
    #[arg(long)]
    precise: bool,
    /// The derivations, not what they build
    #[arg(long)]
    derivation: bool,
}

struct Graph<'s> {
    store: &'s LocalStore,
    references: BTreeMap<StorePath, BTreeSet<StorePath>>,
    /// How far the dependency is, of those that reach it.
    distance: BTreeMap<StorePath, usize>,
}

/// Runs the command.
///
/// # Errors
/// What evaluation or building the package fails with.
pub fn run(mut common: Common, args: &WhyArgs) -> Result<(), Failure> {
    let both = [args.package.clone(), args.dependency.clone()];
    let mut resolve = |arg: &String| {
        let args_of = std::slice::from_ref(arg);
        installable::resolve(&mut common, &args.source, args_of)
    };
    let package = resolve(&both[0])?;
    let dependency = resolve(&both[1])?;
    let store = store_access::open_beside(&common)?;
    if !args.derivation {
        crate::missing::find(&store, &package)?.print(&store)?;
        let settings = store_access::build_settings(&common)?;
        store_access::build(&store, settings, &package, BuildMode::Normal)?;
    }
    let one = |wanted: &[Wanted], arg: &str| -> Result<Option<StorePath>, Failure> {
        let paths = if args.derivation {
            derivations(&store, wanted)?
        } else {
            match installable::paths(&store, wanted) {
                Ok(paths) => paths,
                // What was never built is not in anything's closure.
                Err(_) => return Ok(None),
            }
        };
        match paths.as_slice() {
            [path] => Ok(Some(path.clone())),
            _ => Err(Failure::Other(format!(
                "argument '{arg}' should evaluate to one store path"
            ))),
        }
    };
    let package = one(&package, &args.package)?
        .ok_or_else(|| Failure::Other(format!("'{}' is not built", args.package)))?;
    let closure = store.closure([&package])?;
    let dependency = one(&dependency, &args.dependency)?.filter(|d| closure.contains(d));
    let Some(dependency) = dependency else {
        let text = format!(
            "'{}' does not depend on '{}'",
            args.package, args.dependency
        );
        reporter().rendered(&text);
        return Ok(());
    };
    let graph = Graph::new(&store, &closure, &dependency)?;
    graph.print(&package, &dependency, args)
}

impl<'s> Graph<'s> {
    fn new(
        store: &'s LocalStore,
        closure: &BTreeSet<StorePath>,
        dependency: &StorePath,
    ) -> Result<Graph<'s>, Failure> {
        let mut references = BTreeMap::new();
        let mut referrers: BTreeMap<StorePath, Vec<StorePath>> = BTreeMap::new();
        for path in closure {
            let found = store.query_references(path)?;
            for reference in &found {
                referrers
                    .entry(reference.clone())
                    .or_default()
                    .push(path.clone());
            }
            references.insert(path.clone(), found);
        }
        let mut distance = BTreeMap::from([(dependency.clone(), 0)]);
        let mut todo = VecDeque::from([dependency.clone()]);
        while let Some(path) = todo.pop_front() {
            let next = distance.get(&path).copied().unwrap_or(0) + 1;
            for referrer in referrers.get(&path).into_iter().flatten() {
                if !distance.contains_key(referrer) {
                    distance.insert(referrer.clone(), next);
                    todo.push_back(referrer.clone());
                }
            }
        }
        Ok(Graph {
            store,
            references,
            distance,
        })
    }

    /// Prints the ways from the package to the dependency as a tree; without `all`, one of the shortest.
    fn print(
        &self,
        package: &StorePath,
        dependency: &StorePath,
        args: &WhyArgs,
    ) -> Result<(), Failure> {
        let grey = |seen: bool| if seen { "\x1b[38;5;244m" } else { "" };
        let plain = "\x1b[0m";
        let mut out: Vec<u8> = Vec::new();
        let mut visited = BTreeSet::new();
        if !args.precise {
            out.extend(format!("{}\n", self.store.print(package)).bytes());
        }
        // Nodes still to be shown, last first: how they are shown, and what stands in front of what is below.
        let mut todo = vec![(
            package.clone(),
            None::<String>,
            String::new(),
            String::new(),
        )];
        while let Some((path, line, first, tail)) = todo.pop() {
            if let Some(line) = line {
                let seen = grey(visited.contains(&path));
                let text = self.store.print(&path);
                out.extend(format!("{first}{seen}{line}{text}{plain}\n").bytes());
            }
            if args.precise {
                let seen = grey(visited.contains(&path));
                let arrow = if first.is_empty() { "" } else { "→ " };
                let text = self.store.print(&path);
                out.extend(format!("{first}{seen}{arrow}{text}{plain}\n").bytes());
            }
            if path == *dependency && !args.all && package != dependency {
                break;
            }
            if !visited.insert(path.clone()) {
                continue;
            }
            let mut below: Vec<(usize, &StorePath)> = self
                .references
                .get(&path)
                .into_iter()
                .flatten()
                .filter(|r| **r != path || package == dependency)
                .filter_map(|r| Some((*self.distance.get(r)?, r)))
                .collect();
            below.sort();
            if !args.all {
                below.truncate(1);
            }
            let hits = match args.precise {
                true => self.hits(&path, &below, dependency)?,
                false => BTreeMap::new(),
            };
            let count = below.len();
            let mut next = Vec::new();
            for (i, (_, reference)) in below.into_iter().enumerate() {
                let last = i + 1 == count;
                let (branch, line) = match last {
                    true => ("└───", "    "),
                    false => ("├───", "│   "),
                };
                let deeper = format!("{tail}{line}");
                if args.precise {
                    // What is found in files stands above the path it leads to.
                    let found = hits.get(reference).cloned().unwrap_or_default();
                    let shown = if args.all { found.len() } else { 1 };
                    let mut text = String::new();
                    for (i, hit) in found.iter().take(shown).enumerate() {
                        let mark = if i == 0 { branch } else { line };
                        text.push_str(&format!("{tail}{mark}{hit}\n"));
                    }
                    next.push((reference.clone(), None, deeper.clone(), deeper, text));
                } else {
                    let branch = branch.to_string();
                    next.push((
                        reference.clone(),
                        Some(branch),
                        tail.clone(),
                        deeper,
                        String::new(),
                    ));
                }
            }
            // With several, the text in front of each must come right before it.
            for (path, line, first, tail, text) in next.into_iter().rev() {
                if args.precise && !args.all {
                    out.extend(text.bytes());
                    todo.push((path, line, first, tail));
                } else if args.precise {
                    todo.push((path, line, format!("{text}{first}"), tail));
                } else {
                    todo.push((path, line, first, tail));
                }
            }
        }
        print(&out)
    }

    /// The files of a path that mention others, and how.
    fn hits(
        &self,
        path: &StorePath,
        wanted: &[(usize, &StorePath)],
        dependency: &StorePath,
    ) -> Result<BTreeMap<StorePath, Vec<String>>, Failure> {
        let root = self.store.real_path(path);
        let mut hits: BTreeMap<StorePath, Vec<String>> = BTreeMap::new();
        let mut todo = vec![(String::new(), FileSystem::node(&root))];
        while let Some((name, node)) = todo.pop() {
            let shown = if name.is_empty() { "/" } else { &name };
            let (text, arrow) = match FileSystem.kind(&node)? {
                NodeKind::Directory => {
                    let mut entries = FileSystem.read_dir(&node)?;
                    entries.sort_by(|a, b| b.0.cmp(&a.0));
                    for (entry, child) in entries {
                        let entry = String::from_utf8_lossy(&entry);
                        let below = match name.is_empty() {
                            true => entry.into_owned(),
                            false => format!("{name}/{entry}"),
                        };
                        todo.push((below, child));
                    }
                    continue;
                }
                NodeKind::Symlink => (FileSystem.read_link(&node)?, true),
                NodeKind::Regular { .. } => (
                    std::fs::read(node.path()).map_err(|e| Failure::Other(e.to_string()))?,
                    false,
                ),
            };
            for (_, reference) in wanted {
                let hash = reference.hash_part().as_bytes();
                let Some(at) = text.windows(hash.len()).position(|w| w == hash) else {
                    continue;
                };
                let colour = match *reference == dependency {
                    true => "\x1b[32;1m",
                    false => "\x1b[34;1m",
                };
                let printable = |bytes: &[u8]| -> String {
                    let shown = bytes.iter().map(|b| match b {
                        b' '..=b'~' => char::from(*b),
                        _ => '.',
                    });
                    shown.collect()
                };
                let (from, to) = match arrow {
                    true => (0, text.len()),
                    false => (
                        at.saturating_sub(32),
                        (at + hash.len() + 32).min(text.len()),
                    ),
                };
                let before = printable(text.get(from..at).unwrap_or_default());
                let after = printable(text.get(at + hash.len()..to).unwrap_or_default());
                let marked = format!("{before}{colour}{}\x1b[0m{after}", reference.hash_part());
                hits.entry((*reference).clone())
                    .or_default()
                    .push(match arrow {
                        true => format!("{shown} -> {marked}"),
                        false => format!("{shown}: …{marked}…"),
                    });
            }
        }
        Ok(hits)
    }
}
