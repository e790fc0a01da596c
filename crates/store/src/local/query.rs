//! Questions to the database.

use super::db::{self, db_error};
use super::{LocalStore, PathInfo, Realisation};
use crate::content_address::ContentAddress;
use crate::derivation::OutputName;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::store_path::{HASH_PART_LEN, StorePath};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Which edges a [closure](LocalStore::closure_with) follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosureOptions {
    /// Referrers instead of references.
    pub reverse: bool,
    /// From derivations to their valid outputs (in reverse: from outputs to their derivers).
    pub include_outputs: bool,
    /// From paths to their valid derivers (in reverse: from derivations to their outputs).
    pub include_derivers: bool,
}

impl LocalStore {
    /// Whether a path is valid.
    pub fn is_valid(&self, path: &StorePath) -> Result<bool> {
        id_of(&self.db(), &self.print(path)).map(|id| id.is_some())
    }

    /// The valid ones among some paths.
    pub fn valid_among<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<BTreeSet<StorePath>> {
        let db = self.db();
        db::read(&db, "querying paths", |db| {
            let mut valid = BTreeSet::new();
            for path in paths {
                if id_of(db, &self.print(path))?.is_some() {
                    valid.insert(path.clone());
                }
            }
            Ok(valid)
        })
    }

    /// What is known about a path; `None` if it is not valid.
    pub fn find_path_info(&self, path: &StorePath) -> Result<Option<PathInfo>> {
        let db = self.db();
        db::read(&db, "querying a path", |db| self.path_info_in(db, path))
    }

    /// What is known about a path; an error of kind [`NotValid`](ErrorKind::NotValid) if it is not valid.
    pub fn query_path_info(&self, path: &StorePath) -> Result<PathInfo> {
        self.find_path_info(path)?
            .ok_or_else(|| self.not_valid(path))
    }

    fn path_info_in(&self, db: &Connection, path: &StorePath) -> Result<Option<PathInfo>> {
        let what = "querying a path";
        let text = self.print(path);
        let row = db
            .prepare_cached(
                "select id, hash, registrationTime, deriver, narSize, ultimate, sigs, ca \
                 from ValidPaths where path = ?",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([&text], |row| {
                        Ok((
                            row.get::<_, i64>(0)?,
                            row.get::<_, String>(1)?,
                            row.get::<_, i64>(2)?,
                            row.get::<_, Option<String>>(3)?,
                            row.get::<_, Option<i64>>(4)?,
                            row.get::<_, Option<i64>>(5)?,
                            row.get::<_, Option<String>>(6)?,
                            row.get::<_, Option<String>>(7)?,
                        ))
                    })
                    .optional()
            })
            .map_err(db_error(what))?;
        let Some((id, hash, time, deriver, size, ultimate, signatures, content)) = row else {
            return Ok(None);
        };
        let nar_hash = Hash::parse_prefixed(&hash)
            .ok()
            .filter(|hash| hash.algorithm() == HashAlgorithm::Sha256)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Database,
                    format!("invalid-path entry for '{text}': bad hash '{hash}'"),
                )
            })?;
        let references = self.parse_all(references_of(db, id)?)?;
        Ok(Some(PathInfo {
            path: path.clone(),
            nar_hash,
            nar_size: u64::try_from(size.unwrap_or(0)).unwrap_or(0),
            references,
            deriver: match deriver.filter(|deriver| !deriver.is_empty()) {
                Some(deriver) => Some(self.store_dir().parse(deriver)?),
                None => None,
            },
            registration_time: u64::try_from(time).unwrap_or(0),
            ultimate: ultimate == Some(1),
            signatures: split_signatures(signatures),
            content_address: match content.filter(|content| !content.is_empty()) {
                Some(content) => Some(ContentAddress::parse(content)?),
                None => None,
            },
        }))
    }

    /// The paths that a path refers to; its own may be among them.
    pub fn query_references(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let db = self.db();
        db::read(&db, "querying references", |db| {
            match id_of(db, &self.print(path))? {
                Some(id) => self.parse_all(references_of(db, id)?),
                None => Err(self.not_valid(path)),
            }
        })
    }

    /// The valid paths that refer to a path; its own may be among them. None if it is not valid.
    pub fn query_referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.parse_all(referrers_of(&self.db(), &self.print(path))?)
    }

    /// The valid derivations that have a path among their outputs.
    pub fn query_valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.parse_all(derivers_of(&self.db(), &self.print(path))?)
    }

    /// The outputs of a valid derivation whose paths are known before building, as the database has them.
    pub fn query_static_outputs(&self, drv: &StorePath) -> Result<BTreeMap<OutputName, StorePath>> {
        let db = self.db();
        let what = "querying outputs";
        db::read(&db, what, |db| {
            let id = id_of(db, &self.print(drv))?.ok_or_else(|| self.not_valid(drv))?;
            let rows = db
                .prepare_cached("select id, path from DerivationOutputs where drv = ?")
                .and_then(|mut statement| {
                    statement
                        .query_map([id], |row| {
                            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                        })?
                        .collect::<rusqlite::Result<Vec<_>>>()
                })
                .map_err(db_error(what))?;
            rows.into_iter()
                .map(|(name, path)| Ok((name.into(), self.store_dir().parse(path)?)))
                .collect()
        })
    }

    /// The outputs of a derivation with the paths that are known: those known before building, and those
    /// of content-addressed outputs that were built.
    pub fn query_output_map(
        &self,
        drv_path: &StorePath,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>> {
        let drv = self.read_derivation(drv_path)?;
        let mut outputs = drv.output_paths(self.store_dir())?;
        if outputs.values().any(Option::is_none) && db::has_ca_schema(&self.db())? {
            let hash = self.output_hash(&drv)?;
            for (name, path) in &mut outputs {
                if path.is_none() {
                    *path = self.find_realisation(&hash, name)?.map(|r| r.path);
                }
            }
        }
        Ok(outputs)
    }

    /// Which path an output of a content-addressed derivation is, if it was built.
    pub fn find_realisation(
        &self,
        drv_hash: &[u8; 32],
        output: &str,
    ) -> Result<Option<Realisation>> {
        realisation_in(&self.db(), self, drv_hash, output)
    }

    /// The valid path with a hash part (32 digits), if there is one.
    pub fn query_path_from_hash_part(&self, hash_part: &str) -> Result<Option<StorePath>> {
        if hash_part.len() != HASH_PART_LEN {
            return Err(Error::new(ErrorKind::InvalidStorePath, "invalid hash part"));
        }
        let prefix = format!("{}/{hash_part}", self.store_dir());
        let found: Option<String> = self
            .db()
            .prepare_cached("select path from ValidPaths where path >= ? limit 1")
            .and_then(|mut s| s.query_row([&prefix], |row| row.get(0)).optional())
            .map_err(db_error("querying a path by its hash part"))?;
        match found.filter(|path| path.starts_with(&prefix)) {
            Some(path) => self.store_dir().parse(path).map(Some),
            None => Ok(None),
        }
    }

    /// All valid paths.
    pub fn query_all_valid(&self) -> Result<BTreeSet<StorePath>> {
        let paths = strings(&self.db(), "select path from ValidPaths", [])?;
        self.parse_all(paths)
    }

    /// All paths that can be reached from some through references, these included. All must be valid.
    pub fn closure<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<BTreeSet<StorePath>> {
        self.closure_with(paths, ClosureOptions::default())
    }

    /// All paths that can be reached from some in the ways that the options say, these included.
    pub fn closure_with<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        options: ClosureOptions,
    ) -> Result<BTreeSet<StorePath>> {
        if !options.include_outputs && !options.include_derivers {
            return self.closure_of_references(paths, options.reverse);
        }
        let mut todo: Vec<StorePath> = paths.into_iter().cloned().collect();
        let mut seen: BTreeSet<StorePath> = todo.iter().cloned().collect();
        while let Some(path) = todo.pop() {
            for next in self.neighbours(&path, options)? {
                if seen.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
        Ok(seen)
    }

    /// All paths that can be reached through references, or referrers: in one transaction, by number.
    fn closure_of_references<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
        reverse: bool,
    ) -> Result<BTreeSet<StorePath>> {
        let what = "computing a closure";
        let query = match reverse {
            false => {
                "select id, path from Refs join ValidPaths on reference = id where referrer = ?"
            }
            true => {
                "select id, path from Refs join ValidPaths on referrer = id where reference = ?"
            }
        };
        let db = self.db();
        db::read(&db, what, |db| {
            let mut closure = BTreeSet::new();
            let mut seen = HashSet::new();
            let mut todo = Vec::new();
            for path in paths {
                match id_of(db, &self.print(path))? {
                    Some(id) if seen.insert(id) => todo.push(id),
                    Some(_) => {}
                    // Nobody refers to it, at least.
                    None if reverse => {}
                    None => return Err(self.not_valid(path)),
                }
                closure.insert(path.clone());
            }
            let fail = db_error(what);
            let mut statement = db.prepare_cached(query).map_err(&fail)?;
            while let Some(id) = todo.pop() {
                let mut rows = statement.query([id]).map_err(&fail)?;
                while let Some(row) = rows.next().map_err(&fail)? {
                    let id = row.get(0).map_err(&fail)?;
                    if seen.insert(id) {
                        todo.push(id);
                        let path: String = row.get(1).map_err(&fail)?;
                        closure.insert(self.store_dir().parse(path)?);
                    }
                }
            }
            Ok(closure)
        })
    }

    /// The size of the closure of each of some paths: of the archives of all that it reaches through references, in bytes.
    ///
    /// Quadratic, but in memory: asking the database for each closure takes minutes for a whole system.
    pub fn closure_sizes<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<HashMap<StorePath, u64>> {
        let paths: BTreeSet<&StorePath> = paths.into_iter().collect();
        let closure: Vec<StorePath> = self.closure(paths.iter().copied())?.into_iter().collect();
        let index: HashMap<&StorePath, usize> = closure
            .iter()
            .enumerate()
            .map(|(at, path)| (path, at))
            .collect();
        let mut nodes: Vec<(u64, Vec<usize>)> = Vec::with_capacity(closure.len());
        {
            let db = self.db();
            db::read(&db, "computing closures", |db| {
                for path in &closure {
                    let info = self.path_info_in(db, path)?;
                    let info = info.ok_or_else(|| self.not_valid(path))?;
                    let references = info.references.iter().filter_map(|r| index.get(r).copied());
                    nodes.push((info.nar_size, references.collect()));
                }
                Ok(())
            })?;
        }
        // From where each was reached last.
        let mut seen = vec![usize::MAX; nodes.len()];
        let mut todo = Vec::new();
        let mut sizes = HashMap::with_capacity(paths.len());
        for path in paths {
            let Some(&start) = index.get(path) else {
                continue;
            };
            let mut size = 0u64;
            todo.push(start);
            while let Some(at) = todo.pop() {
                if let (Some(last), Some((own, references))) = (seen.get_mut(at), nodes.get(at))
                    && *last != start
                {
                    *last = start;
                    size = size.saturating_add(*own);
                    todo.extend(references);
                }
            }
            sizes.insert(path.clone(), size);
        }
        Ok(sizes)
    }

    fn neighbours(&self, path: &StorePath, options: ClosureOptions) -> Result<Vec<StorePath>> {
        let ClosureOptions {
            reverse,
            include_outputs,
            include_derivers,
        } = options;
        let mut next = Vec::new();
        let outputs = match reverse {
            false => include_outputs,
            true => include_derivers,
        };
        if reverse {
            next.extend(self.query_referrers(path)?);
            if include_outputs {
                next.extend(self.query_valid_derivers(path)?);
            }
        } else if include_derivers {
            let info = self.query_path_info(path)?;
            next.extend(info.references);
            if let Some(deriver) = info.deriver
                && self.is_valid(&deriver)?
            {
                next.push(deriver);
            }
        } else {
            next.extend(self.query_references(path)?);
        }
        if outputs && path.is_derivation() {
            let outputs = self.query_output_map(path)?;
            next.extend(self.valid_among(outputs.values().flatten())?);
        }
        Ok(next)
    }

    /// Sorts paths so that each comes after all those of them that it refers to. References of paths that
    /// are not valid do not count. An error when paths refer to each other in a circle.
    pub fn topo_sort<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<Vec<StorePath>> {
        let paths: BTreeSet<StorePath> = paths.into_iter().cloned().collect();
        let mut edges = HashMap::new();
        {
            let db = self.db();
            db::read(&db, "querying references", |db| {
                for path in &paths {
                    let references = match id_of(db, &self.print(path))? {
                        Some(id) => self.parse_all(references_of(db, id)?)?,
                        None => BTreeSet::new(),
                    };
                    edges.insert(path.clone(), references);
                }
                Ok(())
            })?;
        }
        self.sort_by_references(&paths, |path| {
            edges.get(path).cloned().unwrap_or_default().into_iter()
        })
    }

    /// Sorts paths by references that a function knows; those outside `paths` do not count.
    pub(super) fn sort_by_references<I: Iterator<Item = StorePath>>(
        &self,
        paths: &BTreeSet<StorePath>,
        references: impl Fn(&StorePath) -> I,
    ) -> Result<Vec<StorePath>> {
        let mut sorted = Vec::with_capacity(paths.len());
        let mut done: HashSet<StorePath> = HashSet::new();
        let mut open: HashSet<StorePath> = HashSet::new();
        for start in paths {
            if done.contains(start) {
                continue;
            }
            open.insert(start.clone());
            let mut stack = vec![(start.clone(), references(start))];
            while let Some((path, rest)) = stack.last_mut() {
                match rest.next() {
                    Some(next) if next == *path || done.contains(&next) => {}
                    Some(next) if !paths.contains(&next) => {}
                    Some(next) if open.contains(&next) => {
                        return Err(Error::new(
                            ErrorKind::Mismatch,
                            format!(
                                "cycle detected in the references of '{}' from '{}'",
                                self.print(&next),
                                self.print(path)
                            ),
                        ));
                    }
                    Some(next) => {
                        open.insert(next.clone());
                        let rest = references(&next);
                        stack.push((next, rest));
                    }
                    None => {
                        if let Some((path, _)) = stack.pop() {
                            open.remove(&path);
                            done.insert(path.clone());
                            sorted.push(path);
                        }
                    }
                }
            }
        }
        Ok(sorted)
    }

    fn parse_all(&self, paths: Vec<String>) -> Result<BTreeSet<StorePath>> {
        paths
            .iter()
            .map(|path| self.store_dir().parse(path))
            .collect()
    }
}

fn split_signatures(text: Option<String>) -> BTreeSet<String> {
    text.unwrap_or_default()
        .split_whitespace()
        .map(String::from)
        .collect()
}

fn strings(db: &Connection, query: &str, params: impl rusqlite::Params) -> Result<Vec<String>> {
    db.prepare_cached(query)
        .and_then(|mut statement| {
            statement
                .query_map(params, |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        })
        .map_err(|e| db_error("querying the database")(e))
}

/// The number of a valid path in the database.
pub(super) fn id_of(db: &Connection, path: &str) -> Result<Option<i64>> {
    db.prepare_cached("select id from ValidPaths where path = ?")
        .and_then(|mut s| s.query_row([path], |row| row.get(0)).optional())
        .map_err(|e| db_error("querying a path")(e))
}

fn references_of(db: &Connection, id: i64) -> Result<Vec<String>> {
    strings(
        db,
        "select path from Refs join ValidPaths on reference = id where referrer = ?",
        [id],
    )
}

pub(super) fn referrers_of(db: &Connection, path: &str) -> Result<Vec<String>> {
    strings(
        db,
        "select path from Refs join ValidPaths on referrer = id \
         where reference = (select id from ValidPaths where path = ?)",
        [path],
    )
}

fn derivers_of(db: &Connection, path: &str) -> Result<Vec<String>> {
    strings(
        db,
        "select v.path from DerivationOutputs d join ValidPaths v on d.drv = v.id where d.path = ?",
        [path],
    )
}

pub(super) fn realisation_in(
    db: &Connection,
    store: &LocalStore,
    drv_hash: &[u8; 32],
    output: &str,
) -> Result<Option<Realisation>> {
    let what = "querying a realisation";
    if !db::has_ca_schema(db)? {
        return Ok(None);
    }
    let row = db
        .prepare_cached(
            "select Output.path, Realisations.signatures from Realisations \
             inner join ValidPaths as Output on Output.id = Realisations.outputPath \
             where drvPath = ? and outputName = ?",
        )
        .and_then(|mut statement| {
            statement
                .query_row([drv_key(drv_hash).as_str(), output], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
                })
                .optional()
        })
        .map_err(db_error(what))?;
    row.map(|(path, signatures)| {
        Ok(Realisation {
            drv_hash: *drv_hash,
            output: output.into(),
            path: store.store_dir().parse(path)?,
            signatures: split_signatures(signatures),
        })
    })
    .transpose()
}

/// A derivation's hash modulo as the database spells it.
pub(super) fn drv_key(drv_hash: &[u8; 32]) -> String {
    Hash::from_sha256(*drv_hash).encode_with_algorithm(crate::hash::HashFormat::Base16)
}
