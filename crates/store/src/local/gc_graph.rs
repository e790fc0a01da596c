//! What a collector knows about paths: which are valid, and what keeps what alive.

use super::LocalStore;
use super::db::{self, db_error};
use super::gc::{GcAction, GcOptions};
use crate::error::Result;
use crate::store_path::StorePath;
use std::collections::{HashMap, HashSet};

/// All valid paths and what keeps what alive.
pub(super) struct Graph {
    pub(super) paths: Vec<StorePath>,
    pub(super) index: HashMap<StorePath, usize>,
    /// What lives if a path does.
    pub(super) keeps: Vec<Vec<usize>>,
    /// What a path refers to.
    pub(super) references: Vec<Vec<usize>>,
}

impl Graph {
    /// Marks what lives if a path does.
    pub(super) fn mark(&self, start: usize, alive: &mut [bool]) {
        let mut todo = vec![start];
        while let Some(at) = todo.pop() {
            match alive.get_mut(at) {
                Some(mark) if !*mark => *mark = true,
                _ => continue,
            }
            for edges in [&self.references, &self.keeps] {
                todo.extend(edges.get(at).into_iter().flatten());
            }
        }
    }
}

impl LocalStore {
    /// Reads the graph, in one transaction.
    pub(super) fn read_graph(&self, options: &GcOptions) -> Result<Graph> {
        let what = "reading the graph of paths";
        let specific = matches!(options.action, GcAction::DeleteSpecific(_));
        // With these, deleting single paths regardless of roots would delete more.
        let (keep_outputs, keep_derivations) = match specific && options.ignore_liveness {
            true => (false, false),
            false => (
                self.config.settings.keep_outputs,
                self.config.settings.keep_derivations,
            ),
        };
        let db = self.db();
        let mut graph = Graph {
            paths: Vec::new(),
            index: HashMap::new(),
            keeps: Vec::new(),
            references: Vec::new(),
        };
        let mut unknown_outputs = Vec::new();
        db::read(&db, what, |db| {
            let mut ids: HashMap<i64, usize> = HashMap::new();
            let mut derivers = Vec::new();
            let fail = db_error(what);
            let mut statement = db
                .prepare("select id, path, deriver from ValidPaths")
                .map_err(&fail)?;
            let mut rows = statement.query([]).map_err(&fail)?;
            while let Some(row) = rows.next().map_err(&fail)? {
                let id: i64 = row.get(0).map_err(&fail)?;
                let path: String = row.get(1).map_err(&fail)?;
                let deriver: Option<String> = row.get(2).map_err(&fail)?;
                let path = self.store_dir().parse(path)?;
                let at = graph.paths.len();
                ids.insert(id, at);
                graph.index.insert(path.clone(), at);
                graph.paths.push(path);
                if let Some(deriver) = deriver.filter(|d| keep_derivations && !d.is_empty()) {
                    derivers.push((at, deriver));
                }
            }
            graph.keeps = vec![Vec::new(); graph.paths.len()];
            graph.references = vec![Vec::new(); graph.paths.len()];
            let mut statement = db
                .prepare("select referrer, reference from Refs")
                .map_err(&fail)?;
            let mut rows = statement.query([]).map_err(&fail)?;
            while let Some(row) = rows.next().map_err(&fail)? {
                let from: i64 = row.get(0).map_err(&fail)?;
                let to: i64 = row.get(1).map_err(&fail)?;
                if let (Some(&from), Some(&to)) = (ids.get(&from), ids.get(&to))
                    && from != to
                    && let Some(references) = graph.references.get_mut(from)
                {
                    references.push(to);
                }
            }
            for (at, deriver) in derivers {
                if let Ok(deriver) = self.store_dir().parse(deriver)
                    && let Some(&deriver) = graph.index.get(&deriver)
                    && let Some(keeps) = graph.keeps.get_mut(at)
                {
                    keeps.push(deriver);
                }
            }
            if keep_outputs {
                let mut with_outputs = HashSet::new();
                let mut statement = db
                    .prepare("select drv, path from DerivationOutputs")
                    .map_err(&fail)?;
                let mut rows = statement.query([]).map_err(&fail)?;
                while let Some(row) = rows.next().map_err(&fail)? {
                    let drv: i64 = row.get(0).map_err(&fail)?;
                    let path: String = row.get(1).map_err(&fail)?;
                    let Some(&drv) = ids.get(&drv) else { continue };
                    with_outputs.insert(drv);
                    if let Ok(path) = self.store_dir().parse(path)
                        && let Some(&output) = graph.index.get(&path)
                        && let Some(keeps) = graph.keeps.get_mut(drv)
                    {
                        keeps.push(output);
                    }
                }
                if db::has_ca_schema(db)? {
                    unknown_outputs = graph
                        .paths
                        .iter()
                        .enumerate()
                        .filter(|(at, path)| path.is_derivation() && !with_outputs.contains(at))
                        .map(|(at, path)| (at, path.clone()))
                        .collect();
                }
            }
            Ok(())
        })?;
        drop(db);
        // Derivations with content-addressed outputs, which the database has elsewhere.
        for (at, drv) in unknown_outputs {
            for output in self.query_output_map(&drv)?.into_values().flatten() {
                if let Some(&output) = graph.index.get(&output)
                    && let Some(keeps) = graph.keeps.get_mut(at)
                {
                    keeps.push(output);
                }
            }
        }
        Ok(graph)
    }
}
