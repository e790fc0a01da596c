//! What outputs may be: the right hash for fixed ones, and the limits that a derivation sets itself.

use super::Failed;
use super::options::{AllOutputChecks, AllowedRef, OutputChecks};
use super::request::BuildStatus;
use crate::derivation::{Derivation, DerivationOutput, OutputName};
use crate::error::Result;
use crate::local::{LocalStore, PathInfo};
use crate::store_path::StorePath;
use std::collections::{BTreeMap, BTreeSet};

/// Checks outputs that are about to become valid.
pub(super) fn check_outputs(
    store: &LocalStore,
    drv_path: &StorePath,
    drv: &Derivation,
    checks: &AllOutputChecks,
    infos: &BTreeMap<OutputName, PathInfo>,
) -> Result<(), Failed> {
    for (name, info) in infos {
        if let Some(DerivationOutput::CaFixed(wanted)) = drv.outputs.get(name) {
            check_fixed(store, drv_path, info, &wanted.hash)?;
        }
        let checks = match checks {
            AllOutputChecks::Same(checks) => checks,
            AllOutputChecks::ByOutput(checks) => match checks.get(name) {
                Some(checks) => checks,
                None => continue,
            },
        };
        Checker {
            store,
            drv_path,
            name,
            infos,
            info,
            checks,
        }
        .run()?;
    }
    Ok(())
}

fn check_fixed(
    store: &LocalStore,
    drv_path: &StorePath,
    info: &PathInfo,
    wanted: &crate::hash::Hash,
) -> Result<(), Failed> {
    let mismatch = |message| Err(Failed::new(BuildStatus::HashMismatch, message));
    let drv = store.print(drv_path);
    if let Some(got) = info.content_address.as_ref().map(|ca| &ca.hash)
        && got != wanted
    {
        return mismatch(format!(
            "hash mismatch in fixed-output derivation '{drv}':\n  specified: {}\n     got:    {}",
            wanted.to_sri(),
            got.to_sri()
        ));
    }
    match info.references.first() {
        Some(first) => mismatch(format!(
            "fixed-output derivations must not reference store paths: '{drv}' references {} distinct paths, e.g. '{}'",
            info.references.len(),
            store.print(first)
        )),
        None => Ok(()),
    }
}

struct Checker<'c> {
    store: &'c LocalStore,
    drv_path: &'c StorePath,
    name: &'c OutputName,
    infos: &'c BTreeMap<OutputName, PathInfo>,
    info: &'c PathInfo,
    checks: &'c OutputChecks,
}

impl Checker<'_> {
    fn run(&self) -> Result<(), Failed> {
        let (info, checks) = (self.info, self.checks);
        let path = self.store.print(&info.path);
        if let Some(limit) = checks.max_size
            && info.nar_size > limit
        {
            return Err(rejected(format!(
                "path '{path}' is too large at {} bytes; limit is {limit} bytes",
                info.nar_size
            )));
        }
        if let Some(limit) = checks.max_closure_size {
            let size = self.closure()?.1;
            if size > limit {
                return Err(rejected(format!(
                    "closure of path '{path}' is too large at {size} bytes; limit is {limit} bytes"
                )));
            }
        }
        if let Some(allowed) = &checks.allowed_references {
            self.references(allowed, true, false)?;
        }
        if let Some(allowed) = &checks.allowed_requisites {
            self.references(allowed, true, true)?;
        }
        if !checks.disallowed_references.is_empty() {
            self.references(&checks.disallowed_references, false, false)?;
        }
        if !checks.disallowed_requisites.is_empty() {
            self.references(&checks.disallowed_requisites, false, true)?;
        }
        Ok(())
    }

    /// The closure and its size. Other outputs of the derivation are not valid yet.
    fn closure(&self) -> Result<(BTreeSet<StorePath>, u64), Failed> {
        let mut done = BTreeSet::new();
        let mut todo = vec![self.info.path.clone()];
        let mut size = 0u64;
        while let Some(path) = todo.pop() {
            if !done.insert(path.clone()) {
                continue;
            }
            let own = self.infos.values().find(|info| info.path == path);
            let info = match own {
                Some(info) => info.clone(),
                None => self.store.query_path_info(&path)?,
            };
            size = size.saturating_add(info.nar_size);
            todo.extend(info.references);
        }
        Ok((done, size))
    }

    fn references(
        &self,
        list: &BTreeSet<AllowedRef>,
        allowed: bool,
        recursive: bool,
    ) -> Result<(), Failed> {
        let mut spec = BTreeSet::new();
        for element in list {
            match element {
                AllowedRef::Path(path) => {
                    spec.insert(path.clone());
                }
                AllowedRef::Output(name) => match self.infos.get(name) {
                    Some(info) => {
                        spec.insert(info.path.clone());
                    }
                    None => {
                        let valid: Vec<&str> =
                            self.infos.keys().map(|name| name.as_str()).collect();
                        return Err(rejected(format!(
                            "derivation '{}' output check for '{}' contains output name '{name}', but this is not a valid output of this derivation. (Valid outputs are [{}].)",
                            self.store.print(self.drv_path),
                            self.name,
                            valid.join(", ")
                        )));
                    }
                },
            }
        }
        let mut used = match recursive {
            true => self.closure()?.0,
            false => self.info.references.clone(),
        };
        if recursive && self.checks.ignore_self_refs {
            used.remove(&self.info.path);
        }
        let bad: Vec<String> = used
            .iter()
            .filter(|path| spec.contains(*path) != allowed)
            .map(|path| format!("\n  {}", self.store.print(path)))
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        Err(rejected(format!(
            "output '{}' is not allowed to refer to the following paths:{}",
            self.store.print(&self.info.path),
            bad.concat()
        )))
    }
}

fn rejected(message: String) -> Failed {
    Failed::new(BuildStatus::OutputRejected, message)
}
