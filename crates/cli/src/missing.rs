//! What has to be built before something is there.

use crate::progress::reporter;
use crate::session::Failure;
use crate::store_access::{Wanted, info};
use nivis_store::build::{BuildRequest, DrvRef, Outputs};
use nivis_store::local::LocalStore;
use nivis_store::{Derivation, ErrorKind, InputOutputs, OutputName, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// What is not there.
#[derive(Debug, Default)]
pub struct Missing {
    /// Derivations that have to be built.
    pub will_build: BTreeSet<StorePath>,
    /// Paths that nobody can make.
    pub unknown: BTreeSet<StorePath>,
}

/// Looks for what has to be built before everything wanted is there.
///
/// # Errors
/// When the store or a derivation cannot be read.
pub fn find(store: &LocalStore, wanted: &[Wanted]) -> Result<Missing, Failure> {
    let mut missing = Missing::default();
    let mut todo: Vec<BuildRequest> = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Path(path) if !store.is_valid(path)? => {
                missing.unknown.insert(path.clone());
            }
            Wanted::Path(_) => {}
            Wanted::Built(request) => todo.push(request.clone()),
        }
    }
    let mut seen: BTreeMap<StorePath, BTreeSet<OutputName>> = BTreeMap::new();
    while let Some(request) = todo.pop() {
        let path = match &request.drv {
            DrvRef::Path(path) => path,
            // What an output that is not built yet asks for is not known either.
            DrvRef::Output(inner, output) => {
                let inner = BuildRequest::outputs((**inner).clone(), [output.clone()]);
                todo.push(inner);
                continue;
            }
        };
        let drv = match store.read_derivation(path) {
            Ok(drv) => drv,
            Err(e) if e.kind() == ErrorKind::NotValid => {
                missing.unknown.insert(path.clone());
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let mut known = drv.output_paths(store.store_dir())?;
        if known.values().any(Option::is_none) {
            known = store.query_output_map(path)?;
        }
        let names: BTreeSet<OutputName> = match &request.outputs {
            Outputs::All => known.keys().cloned().collect(),
            Outputs::Names(names) => names.clone(),
        };
        if let Some(name) = names.iter().find(|n| !known.contains_key(*n)) {
            return Err(Failure::Other(format!(
                "derivation '{}' does not have output '{name}'",
                store.print(path)
            )));
        }
        let looked_at = seen.entry(path.clone()).or_default();
        let new: BTreeSet<OutputName> = names.difference(looked_at).cloned().collect();
        if new.is_empty() {
            continue;
        }
        looked_at.extend(new.iter().cloned());
        let mut there = true;
        for name in &new {
            there &= match known.get(name).and_then(Option::as_ref) {
                Some(output) => store.is_valid(output)?,
                None => false,
            };
        }
        if there || !missing.will_build.insert(path.clone()) {
            continue;
        }
        inputs(&drv, store, &mut todo, &mut missing)?;
    }
    Ok(missing)
}

fn inputs(
    drv: &Derivation,
    store: &LocalStore,
    todo: &mut Vec<BuildRequest>,
    missing: &mut Missing,
) -> Result<(), Failure> {
    for source in &drv.input_srcs {
        if !store.is_valid(source)? {
            missing.unknown.insert(source.clone());
        }
    }
    for (path, outputs) in &drv.input_drvs {
        let mut nested: Vec<(DrvRef, &InputOutputs)> = vec![(DrvRef::Path(path.clone()), outputs)];
        while let Some((drv, outputs)) = nested.pop() {
            if !outputs.outputs().is_empty() {
                let names = outputs.outputs().iter().cloned();
                todo.push(BuildRequest::outputs(drv.clone(), names));
            }
            for (name, below) in outputs.dynamic() {
                nested.push((DrvRef::Output(Box::new(drv.clone()), name.clone()), below));
            }
        }
    }
    Ok(())
}

impl Missing {
    /// Says what will be built, and what nobody can make.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn print(&self, store: &LocalStore) -> Result<(), Failure> {
        self.print_by(store, &|text| info(text))
    }

    /// The same, however little is to be shown.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn print_always(&self, store: &LocalStore) -> Result<(), Failure> {
        self.print_by(store, &|text| reporter().finding(&text))
    }

    fn print_by(&self, store: &LocalStore, info: &dyn Fn(String)) -> Result<(), Failure> {
        match self.will_build.len() {
            0 => {}
            1 => info("this derivation will be built:".to_string()),
            n => info(format!("these {n} derivations will be built:")),
        }
        for path in store.topo_sort(&self.will_build)? {
            info(format!("  {}", store.print(&path)));
        }
        if !self.unknown.is_empty() {
            info("don't know how to build these paths:".to_string());
            for path in &self.unknown {
                info(format!("  {}", store.print(path)));
            }
        }
        Ok(())
    }
}
