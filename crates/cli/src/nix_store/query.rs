//! `nix-store --query`.

use super::{Run, unknown_flag, usage};
use crate::session::{Failure, print};
use crate::store_access::Wanted;
use nivis_store::build::{BuildMode, BuildRequest};
use nivis_store::local::ClosureOptions;
use nivis_store::{HashFormat, StorePath};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    Outputs,
    Requisites,
    References,
    Referrers,
    ReferrersClosure,
    Deriver,
    ValidDerivers,
    Binding,
    Hash,
    Size,
    Tree,
    Graph,
    GraphMl,
    Resolve,
    Roots,
}

/// What the flags say, and the arguments.
struct Asked {
    query: Query,
    use_output: bool,
    include_outputs: bool,
    force_realise: bool,
    binding: String,
}

impl Run {
    pub(super) fn query(&mut self) -> Result<(), Failure> {
        let asked = self.parse_query()?;
        match asked.query {
            Query::Outputs => {
                for path in self.all_args()? {
                    for output in self.maybe_outputs(&path, true, asked.force_realise)? {
                        self.say(&output)?;
                    }
                }
                Ok(())
            }
            Query::Requisites | Query::References | Query::Referrers | Query::ReferrersClosure => {
                let mut found = BTreeSet::new();
                for path in self.subjects(&asked)? {
                    match asked.query {
                        Query::Requisites => {
                            let options = ClosureOptions {
                                include_outputs: asked.include_outputs,
                                ..ClosureOptions::default()
                            };
                            found.extend(self.store.closure_with([&path], options)?);
                        }
                        Query::References => found.extend(self.store.query_references(&path)?),
                        Query::Referrers => found.extend(self.store.query_referrers(&path)?),
                        _ => {
                            let options = ClosureOptions {
                                reverse: true,
                                ..ClosureOptions::default()
                            };
                            found.extend(self.store.closure_with([&path], options)?);
                        }
                    }
                }
                self.say_sorted(&found)
            }
            Query::Deriver => {
                for path in self.all_args()? {
                    match self.store.query_path_info(&path)?.deriver {
                        Some(deriver) => self.say(&deriver)?,
                        None => print(b"unknown-deriver\n")?,
                    }
                }
                Ok(())
            }
            Query::ValidDerivers => {
                let mut found = BTreeSet::new();
                for path in self.all_args()? {
                    found.extend(self.store.query_valid_derivers(&path)?);
                }
                self.say_sorted(&found)
            }
            Query::Binding => {
                for path in self.all_args()? {
                    self.print_binding(&path, &asked.binding)?;
                }
                Ok(())
            }
            Query::Hash | Query::Size => {
                for path in self.subjects(&asked)? {
                    let info = self.store.query_path_info(&path)?;
                    let text = match asked.query {
                        Query::Hash => info.nar_hash.encode_with_algorithm(HashFormat::Nix32),
                        _ => info.nar_size.to_string(),
                    };
                    print(format!("{text}\n").as_bytes())?;
                }
                Ok(())
            }
            Query::Tree => {
                let mut done = BTreeSet::new();
                for path in self.all_args()? {
                    self.print_tree(&path, &mut done)?;
                }
                Ok(())
            }
            Query::Graph => {
                let roots = self.subjects(&asked)?;
                self.print_dot(roots)
            }
            Query::GraphMl => {
                let roots = self.subjects(&asked)?;
                self.print_graphml(roots)
            }
            Query::Resolve => self.all_args()?.iter().try_for_each(|path| self.say(path)),
            Query::Roots => {
                let subjects = self.subjects(&asked)?;
                let settings = &self.store.config().settings;
                let options = ClosureOptions {
                    reverse: true,
                    include_outputs: settings.keep_outputs,
                    include_derivers: settings.keep_derivations,
                };
                let referrers = self.store.closure_with(&subjects, options)?;
                self.print_roots_of(&referrers)
            }
        }
    }

    fn parse_query(&mut self) -> Result<Asked, Failure> {
        let mut query = None;
        let mut asked = Asked {
            query: Query::Outputs,
            use_output: false,
            include_outputs: false,
            force_realise: false,
            binding: String::new(),
        };
        for flag in std::mem::take(&mut self.flags) {
            let found = match flag.as_str() {
                "--outputs" => Query::Outputs,
                "--requisites" | "-R" => Query::Requisites,
                "--references" => Query::References,
                "--referrers" | "--referers" => Query::Referrers,
                "--referrers-closure" | "--referers-closure" => Query::ReferrersClosure,
                "--deriver" | "-d" => Query::Deriver,
                "--valid-derivers" => Query::ValidDerivers,
                "--binding" | "-b" => {
                    if self.args.is_empty() {
                        return Err(usage("expected binding name"));
                    }
                    asked.binding = self.args.remove(0);
                    Query::Binding
                }
                "--hash" => Query::Hash,
                "--size" => Query::Size,
                "--tree" => Query::Tree,
                "--graph" => Query::Graph,
                "--graphml" => Query::GraphMl,
                "--resolve" => Query::Resolve,
                "--roots" => Query::Roots,
                "--use-output" | "-u" => {
                    asked.use_output = true;
                    continue;
                }
                "--force-realise" | "--force-realize" | "-f" => {
                    asked.force_realise = true;
                    continue;
                }
                "--include-outputs" => {
                    asked.include_outputs = true;
                    continue;
                }
                _ => return Err(unknown_flag(&flag)),
            };
            if query.is_some_and(|q| q != found) {
                return Err(usage(format!(
                    "query type '{flag}' conflicts with earlier flag"
                )));
            }
            query = Some(found);
        }
        asked.query = query.unwrap_or(Query::Outputs);
        Ok(asked)
    }

    /// The paths that a query is about.
    fn subjects(&mut self, asked: &Asked) -> Result<BTreeSet<StorePath>, Failure> {
        let mut subjects = BTreeSet::new();
        for path in self.all_args()? {
            subjects.extend(self.maybe_outputs(&path, asked.use_output, asked.force_realise)?);
        }
        Ok(subjects)
    }

    fn maybe_outputs(
        &mut self,
        path: &StorePath,
        use_output: bool,
        force_realise: bool,
    ) -> Result<Vec<StorePath>, Failure> {
        if force_realise {
            let wanted = match path.is_derivation() {
                true => Wanted::Built(BuildRequest::all(path.clone())),
                false => Wanted::Path(path.clone()),
            };
            let settings = self.settings.clone();
            crate::store_access::build(&self.store, settings, &[wanted], BuildMode::Normal)?;
            if !std::mem::replace(&mut self.no_gc_warning, true) {
                super::realise::warn_of_no_root();
            }
        }
        if !use_output || !path.is_derivation() {
            return Ok(vec![path.clone()]);
        }
        let known = match force_realise {
            true => self.store.query_output_map(path)?,
            false => {
                let drv = self.store.read_derivation(path)?;
                drv.output_paths(self.store.store_dir())?
            }
        };
        let mut outputs = BTreeSet::new();
        for output in known.into_values() {
            outputs.insert(output.ok_or_else(|| {
                usage("Cannot use output path of floating content-addressing derivation until we know what it is (e.g. by building it)")
            })?);
        }
        Ok(outputs.into_iter().collect())
    }

    fn say_sorted(&self, paths: &BTreeSet<StorePath>) -> Result<(), Failure> {
        let sorted = self.store.topo_sort(paths)?;
        let text: String = sorted.iter().map(|p| self.store.print(p) + "\n").collect();
        print(text.as_bytes())
    }

    fn print_binding(&self, path: &StorePath, name: &str) -> Result<(), Failure> {
        let drv_path = match path.is_derivation() {
            true => path.clone(),
            false => self.store.query_path_info(path)?.deriver.ok_or_else(|| {
                Failure::Other(format!(
                    "deriver of path '{}' is not known",
                    self.store.print(path)
                ))
            })?,
        };
        let drv = self.store.read_derivation(&drv_path)?;
        match drv.env.get(name.as_bytes()) {
            Some(value) => print(&[value.as_slice(), b"\n"].concat()),
            None => Err(Failure::Other(format!(
                "derivation '{}' has no environment binding named '{name}'",
                self.store.print(&drv_path)
            ))),
        }
    }

    /// Prints what a path refers to as a tree; each path's part of it once.
    fn print_tree(&self, root: &StorePath, done: &mut BTreeSet<StorePath>) -> Result<(), Failure> {
        let mut out = String::new();
        // What is still to print, last first, with what stands in front of it and of its parts.
        let mut todo = vec![(root.clone(), String::new(), String::new())];
        while let Some((path, first, tail)) = todo.pop() {
            let text = self.store.print(&path);
            if !done.insert(path.clone()) {
                out.push_str(&format!("{first}{text} [...]\n"));
                continue;
            }
            out.push_str(&format!("{first}{text}\n"));
            let sorted = self.store.topo_sort(&self.store.query_references(&path)?)?;
            let count = sorted.len();
            for (i, child) in sorted.into_iter().enumerate().rev() {
                let (branch, below) = match i + 1 == count {
                    true => ("└───", "    "),
                    false => ("├───", "│   "),
                };
                todo.push((child, format!("{tail}{branch}"), format!("{tail}{below}")));
            }
        }
        print(out.as_bytes())
    }

    /// Visits paths and what they refer to, in the order of paths.
    fn visit(
        &self,
        mut todo: BTreeSet<StorePath>,
        mut node: impl FnMut(&StorePath, u64),
        mut edge: impl FnMut(&StorePath, &StorePath),
    ) -> Result<(), Failure> {
        let mut done = BTreeSet::new();
        while let Some(path) = todo.pop_first() {
            if !done.insert(path.clone()) {
                continue;
            }
            let info = self.store.query_path_info(&path)?;
            node(&path, info.nar_size);
            for reference in info.references.iter().filter(|r| **r != path) {
                todo.insert(reference.clone());
                edge(reference, &path);
            }
        }
        Ok(())
    }

    fn print_dot(&self, roots: BTreeSet<StorePath>) -> Result<(), Failure> {
        const COLOURS: [&str; 6] = ["black", "red", "green", "blue", "magenta", "burlywood"];
        let out = std::cell::RefCell::new(String::from("digraph G {\n"));
        let mut colours = COLOURS.iter().cycle();
        self.visit(
            roots,
            |path, _| {
                out.borrow_mut().push_str(&format!(
                    "\"{path}\" [label = \"{}\", shape = box, style = filled, fillcolor = \"#ff0000\"];\n",
                    path.name()
                ));
            },
            |reference, path| {
                let colour = colours.next().unwrap_or(&"black");
                out.borrow_mut().push_str(&format!(
                    "\"{reference}\" -> \"{path}\" [color = \"{colour}\"];\n"
                ));
            },
        )?;
        out.borrow_mut().push_str("}\n");
        print(out.borrow().as_bytes())
    }

    fn print_graphml(&self, roots: BTreeSet<StorePath>) -> Result<(), Failure> {
        let out = std::cell::RefCell::new(String::from(concat!(
            "<?xml version='1.0' encoding='utf-8'?>\n",
            "<graphml xmlns='http://graphml.graphdrawing.org/xmlns'\n",
            "    xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'\n",
            "    xsi:schemaLocation='http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd'>\n",
            "<key id='narSize' for='node' attr.name='narSize' attr.type='long'/>",
            "<key id='name' for='node' attr.name='name' attr.type='string'/>",
            "<key id='type' for='node' attr.name='type' attr.type='string'/>",
            "<graph id='G' edgedefault='directed'>\n",
        )));
        self.visit(
            roots,
            |path, size| {
                let name = path.name();
                let symbolic = name.find('-').map_or("", |i| &name[..=i]);
                let kind = match path.is_derivation() {
                    true => "derivation",
                    false => "output-path",
                };
                out.borrow_mut().push_str(&format!(
                    "  <node id=\"{path}\">\n    <data key=\"narSize\">{size}</data>\n    \
                     <data key=\"name\">{symbolic}</data>\n    <data key=\"type\">{kind}</data>\n  </node>\n"
                ));
            },
            |reference, path| {
                out.borrow_mut().push_str(&format!(
                    "  <edge source=\"{path}\" target=\"{reference}\"/>\n"
                ));
            },
        )?;
        out.borrow_mut().push_str("</graph>\n</graphml>\n");
        print(out.borrow().as_bytes())
    }

    fn print_roots_of(&self, referrers: &BTreeSet<StorePath>) -> Result<(), Failure> {
        let roots: BTreeMap<StorePath, _> = self.find_roots()?;
        for (target, links) in roots {
            if referrers.contains(&target) {
                for link in links {
                    let target = self.store.print(&target);
                    print(format!("{link} -> {target}\n").as_bytes())?;
                }
            }
        }
        Ok(())
    }
}
