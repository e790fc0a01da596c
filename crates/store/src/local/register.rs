//! Making paths valid, and no longer valid.

use super::db::{self, db_error};
use super::query::{drv_key, id_of, realisation_in, referrers_of};
use super::{LocalStore, PathInfo, Realisation};
use crate::derivation::{Derivation, LoadingHashes, OutputName};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{HashAlgorithm, HashFormat};
use crate::store_path::StorePath;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

impl LocalStore {
    /// Makes paths valid, all or none, in one transaction. Their contents must be in place; what they
    /// refer to must be valid or among them. What is known about paths that are valid already is
    /// replaced.
    ///
    /// Derivations are read and checked: an output path that does not follow from the derivation is an
    /// error, as is a path that claims to follow from its contents but does not, and a circle of
    /// references.
    pub fn register<'i>(&self, infos: impl IntoIterator<Item = &'i PathInfo>) -> Result<()> {
        self.register_all(infos.into_iter().collect(), &HashMap::new())
    }

    /// As [`LocalStore::register`], with the outputs of derivations that were checked already.
    pub(super) fn register_all(
        &self,
        infos: Vec<&PathInfo>,
        checked: &HashMap<StorePath, BTreeMap<OutputName, StorePath>>,
    ) -> Result<()> {
        self.check_writable()?;
        if infos.is_empty() {
            return Ok(());
        }
        if self.config.settings.sync_before_registering {
            nix::unistd::sync();
        }
        let mut outputs: HashMap<&StorePath, BTreeMap<OutputName, StorePath>> = HashMap::new();
        for info in &infos {
            if info.nar_hash.algorithm() != HashAlgorithm::Sha256 {
                return Err(Error::new(
                    ErrorKind::InvalidHash,
                    format!("the hash of '{}' must be a SHA-256", self.print(&info.path)),
                ));
            }
            info.check_content_address(self.store_dir())?;
            if info.path.is_derivation() && !checked.contains_key(&info.path) {
                outputs.insert(&info.path, self.checked_outputs(&info.path)?);
            }
        }
        let references: HashMap<&StorePath, &BTreeSet<StorePath>> = infos
            .iter()
            .map(|info| (&info.path, &info.references))
            .collect();
        // Circles can only occur among paths that become valid together.
        if infos.len() > 1 {
            let paths = infos.iter().map(|info| info.path.clone()).collect();
            self.sort_by_references(&paths, |path| {
                references
                    .get(path)
                    .copied()
                    .cloned()
                    .unwrap_or_default()
                    .into_iter()
            })?;
        }
        let db = self.db();
        db::write(&db, "registering paths", |db| {
            let mut ids = HashMap::with_capacity(infos.len());
            for info in &infos {
                let id = match id_of(db, &self.print(&info.path))? {
                    Some(id) => {
                        self.update_row(db, id, info)?;
                        id
                    }
                    None => {
                        let id = self.insert_row(db, info)?;
                        let known = checked.get(&info.path).or(outputs.get(&info.path));
                        for (name, path) in known.into_iter().flatten() {
                            self.insert_output(db, id, name, path)?;
                        }
                        id
                    }
                };
                ids.insert(&info.path, id);
            }
            for info in &infos {
                let Some(&referrer) = ids.get(&info.path) else {
                    continue;
                };
                for reference in &info.references {
                    let id = match ids.get(reference) {
                        Some(&id) => id,
                        None => id_of(db, &self.print(reference))?
                            .ok_or_else(|| self.not_valid(reference))?,
                    };
                    db.prepare_cached(
                        "insert or replace into Refs (referrer, reference) values (?, ?)",
                    )
                    .and_then(|mut s| s.execute([referrer, id]))
                    .map_err(db_error("registering a reference"))?;
                }
            }
            Ok(())
        })
    }

    fn insert_row(&self, db: &Connection, info: &PathInfo) -> Result<i64> {
        let time = match info.registration_time {
            0 => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |d| d.as_secs()),
            time => time,
        };
        let row = Row::new(info);
        db.prepare_cached(
            "insert into ValidPaths \
             (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca) \
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .and_then(|mut s| {
            s.insert(params![
                self.print(&info.path),
                row.hash,
                i64::try_from(time).unwrap_or(i64::MAX),
                info.deriver.as_ref().map(|deriver| self.print(deriver)),
                row.size,
                row.ultimate,
                row.signatures,
                row.content,
            ])
        })
        .map_err(db_error("registering a path"))
    }

    fn update_row(&self, db: &Connection, id: i64, info: &PathInfo) -> Result<()> {
        let row = Row::new(info);
        db.prepare_cached(
            "update ValidPaths set narSize = ?, hash = ?, ultimate = ?, sigs = ?, ca = ? where id = ?",
        )
        .and_then(|mut s| {
            s.execute(params![
                row.size,
                row.hash,
                row.ultimate,
                row.signatures,
                row.content,
                id
            ])
        })
        .map(|_| ())
        .map_err(db_error("updating a path"))
    }

    fn insert_output(
        &self,
        db: &Connection,
        drv: i64,
        name: &OutputName,
        path: &StorePath,
    ) -> Result<()> {
        db.prepare_cached(
            "insert or replace into DerivationOutputs (drv, id, path) values (?, ?, ?)",
        )
        .and_then(|mut s| s.execute(params![drv, name.as_str(), self.print(path)]))
        .map(|_| ())
        .map_err(db_error("registering an output"))
    }

    /// The outputs with known paths of a derivation in the store, after checking that these paths follow
    /// from it.
    fn checked_outputs(&self, path: &StorePath) -> Result<BTreeMap<OutputName, StorePath>> {
        let drv = self.read_derivation(path)?;
        let mut copy = drv.clone();
        let mut memo = self
            .drv_hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut hashes = LoadingHashes::new(&mut memo, self.store_dir(), |input| {
            self.read_derivation(input)
        });
        let computed = copy.finish(self.store_dir(), &mut hashes).map_err(|e| {
            Error::new(
                e.kind(),
                format!("in derivation '{}': {}", self.print(path), e.message()),
            )
        })?;
        if computed != *path {
            return Err(Error::new(
                ErrorKind::InvalidDerivation,
                format!(
                    "derivation '{}' should be at '{}'",
                    self.print(path),
                    self.print(&computed)
                ),
            ));
        }
        Ok(drv
            .output_paths(self.store_dir())?
            .into_iter()
            .filter_map(|(name, path)| Some((name, path?)))
            .collect())
    }

    /// The [output hash](Derivation::output_hash) of a derivation, whose inputs must be in the store. Hashes of the inputs are
    /// remembered.
    pub fn output_hash(&self, drv: &Derivation) -> Result<[u8; 32]> {
        let mut memo = self
            .drv_hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut hashes = LoadingHashes::new(&mut memo, self.store_dir(), |input| {
            self.read_derivation(input)
        });
        drv.output_hash(self.store_dir(), &mut hashes)
    }

    /// Makes a path no longer valid. The files stay; a path that is not valid is no error, but one that
    /// others refer to is, of kind [`InUse`](ErrorKind::InUse).
    pub fn invalidate(&self, path: &StorePath) -> Result<()> {
        self.check_writable()?;
        let text = self.print(path);
        let db = self.db();
        db::write(&db, "invalidating a path", |db| {
            if id_of(db, &text)?.is_none() {
                return Ok(());
            }
            let mut referrers = referrers_of(db, &text)?;
            referrers.retain(|referrer| *referrer != text);
            if !referrers.is_empty() {
                referrers.sort();
                let list: Vec<String> = referrers.iter().map(|r| format!("'{r}'")).collect();
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!(
                        "cannot delete path '{text}' because it is in use by {}",
                        list.join(", ")
                    ),
                ));
            }
            delete_row(db, &text)
        })
    }

    /// Records which path an output of a content-addressed derivation is. The path must be valid. An
    /// error if another path is recorded; signatures are added to those that are known.
    pub fn register_realisation(&self, realisation: &Realisation) -> Result<()> {
        self.check_writable()?;
        let what = "registering a realisation";
        let key = drv_key(&realisation.drv_hash);
        let db = self.db();
        db::write(&db, what, |db| {
            if !db::has_ca_schema(db)? {
                db::add_ca_schema(db)?;
            }
            let output = &realisation.output;
            match realisation_in(db, self, &realisation.drv_hash, output)? {
                Some(old) if old.path != realisation.path => Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "Trying to register a realisation of '{key}!{output}', but we already have another one locally.\nLocal:  {}\nRemote: {}",
                        self.print(&old.path),
                        self.print(&realisation.path)
                    ),
                )),
                Some(old) => {
                    let all: Vec<&str> = old
                        .signatures
                        .union(&realisation.signatures)
                        .map(String::as_str)
                        .collect();
                    db.prepare_cached(
                        "update Realisations set signatures = ? where drvPath = ? and outputName = ?",
                    )
                    .and_then(|mut s| s.execute(params![all.join(" "), key, output.as_str()]))
                    .map(|_| ())
                    .map_err(db_error(what))
                }
                None => {
                    let path = id_of(db, &self.print(&realisation.path))?
                        .ok_or_else(|| self.not_valid(&realisation.path))?;
                    let signatures: Vec<&str> =
                        realisation.signatures.iter().map(String::as_str).collect();
                    db.prepare_cached(
                        "insert into Realisations (drvPath, outputName, outputPath, signatures) \
                         values (?, ?, ?, ?)",
                    )
                    .and_then(|mut s| {
                        s.execute(params![key, output.as_str(), path, signatures.join(" ")])
                    })
                    .map(|_| ())
                    .map_err(db_error(what))
                }
            }
        })
    }

    /// Adds signatures to a valid path.
    pub fn add_signatures(
        &self,
        path: &StorePath,
        signatures: impl IntoIterator<Item = String>,
    ) -> Result<()> {
        let mut info = self.query_path_info(path)?;
        info.signatures.extend(signatures);
        self.update_path_info(&info)
    }

    /// Replaces what is known about a valid path, but for its references and deriver.
    pub(super) fn update_path_info(&self, info: &PathInfo) -> Result<()> {
        self.check_writable()?;
        let db = self.db();
        db::write(&db, "updating a path", |db| {
            let id =
                id_of(db, &self.print(&info.path))?.ok_or_else(|| self.not_valid(&info.path))?;
            self.update_row(db, id, info)
        })
    }
}

/// Deletes a path's row; references go with it.
pub(super) fn delete_row(db: &Connection, path: &str) -> Result<()> {
    db.prepare_cached("delete from ValidPaths where path = ?")
        .and_then(|mut s| s.execute([path]))
        .map(|_| ())
        .map_err(|e| db_error("invalidating a path")(e))
}

/// The columns that registering and updating share.
struct Row {
    hash: String,
    size: Option<i64>,
    ultimate: Option<i64>,
    signatures: Option<String>,
    content: Option<String>,
}

impl Row {
    fn new(info: &PathInfo) -> Row {
        let signatures: Vec<&str> = info.signatures.iter().map(String::as_str).collect();
        Row {
            hash: info.nar_hash.encode_with_algorithm(HashFormat::Base16),
            size: i64::try_from(info.nar_size).ok().filter(|size| *size != 0),
            ultimate: info.ultimate.then_some(1),
            signatures: Some(signatures.join(" ")).filter(|s| !s.is_empty()),
            content: info.content_address.map(|content| content.to_string()),
        }
    }
}
