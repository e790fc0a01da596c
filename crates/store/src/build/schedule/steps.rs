//! What becomes of each kind of node: what it waits for, and how it ends.

use super::{Key, Schedule, Value, error};
use crate::build::Failed;
use crate::build::environment::missing_feature;
use crate::build::job::Job;
use crate::build::request::{BuildMode, BuildStatus, DrvRef, Outputs};
use crate::build::resolve::{Chain, input_chains, resolve, should_resolve};
use crate::derivation::{Derivation, DerivationKind, OutputName};
use crate::events::{Activity, ActivityKind, Level};
use crate::local::Realisation;
use crate::store_path::StorePath;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Schedule<'_> {
    pub(super) fn step_root(
        &mut self,
        number: usize,
        phase: u8,
        request: usize,
    ) -> Result<Option<Value>, Failed> {
        let Some(request) = self.requests.get(request) else {
            return Err(error("no such request"));
        };
        match phase {
            0 => {
                self.wait_for(number, vec![Key::Drv(request.drv.clone())]);
                Ok(None)
            }
            1 => {
                let path = self.single_path(number)?;
                let drv = self.derivation(&path)?;
                let names: Vec<OutputName> = match &request.outputs {
                    Outputs::All => drv.outputs.keys().cloned().collect(),
                    Outputs::Names(names) => names.iter().cloned().collect(),
                };
                let mode = self.mode;
                let keys = names
                    .into_iter()
                    .map(|name| Key::Output(path.clone(), name, mode))
                    .collect();
                self.wait_for(number, keys);
                Ok(None)
            }
            _ => {
                let mut outputs = BTreeMap::new();
                let mut status = BuildStatus::AlreadyValid;
                let values = self.results(number)?;
                let needs = self.nodes.get(number).map(|node| node.needs.clone());
                for (need, value) in needs.unwrap_or_default().into_iter().zip(values) {
                    if let (Some(Key::Output(_, name, _)), Value::Path(path, how)) =
                        (self.nodes.get(need).map(|need| &need.key), value)
                    {
                        if how == BuildStatus::Built {
                            status = BuildStatus::Built;
                        }
                        outputs.insert(name.clone(), path);
                    }
                }
                Ok(Some(Value::Request(outputs, status)))
            }
        }
    }

    pub(super) fn step_drv(
        &mut self,
        number: usize,
        phase: u8,
        drv: &DrvRef,
    ) -> Result<Option<Value>, Failed> {
        let store = &self.shared.store;
        let obtain = |_| {
            Failed::new(
                BuildStatus::DependencyFailed,
                format!(
                    "failed to obtain derivation of '{}'",
                    drv.print(self.shared.store.store_dir())
                ),
            )
        };
        match (drv, phase) {
            (DrvRef::Path(path), _) => {
                store.add_temp_root(path)?;
                if !self.drvs.contains_key(path) && !store.has_derivation(path)? {
                    return Err(obtain(()));
                }
                Ok(Some(Value::Path(path.clone(), BuildStatus::AlreadyValid)))
            }
            (DrvRef::Output(inner, output), 0) => {
                if !self.shared.settings.feature("dynamic-derivations") {
                    return Err(missing_feature("dynamic-derivations").into());
                }
                self.wait_for(number, vec![Key::Nested((**inner).clone(), output.clone())]);
                Ok(None)
            }
            (DrvRef::Output(..), _) => {
                let path = self
                    .single_path(number)
                    .map_err(|failed| match failed.status {
                        BuildStatus::Cancelled => failed,
                        _ => obtain(()),
                    })?;
                path.derivation_name()?;
                store.add_temp_root(&path)?;
                Ok(Some(Value::Path(path, BuildStatus::AlreadyValid)))
            }
        }
    }

    pub(super) fn step_nested(
        &mut self,
        number: usize,
        phase: u8,
        drv: &DrvRef,
        output: &OutputName,
    ) -> Result<Option<Value>, Failed> {
        match phase {
            0 => self.wait_for(number, vec![Key::Drv(drv.clone())]),
            1 => {
                let path = self.single_path(number)?;
                let key = Key::Output(path, output.clone(), BuildMode::Normal);
                self.wait_for(number, vec![key]);
            }
            _ => {
                let path = self.single_path(number)?;
                return Ok(Some(Value::Path(path, BuildStatus::AlreadyValid)));
            }
        }
        Ok(None)
    }

    pub(super) fn step_output(
        &mut self,
        number: usize,
        phase: u8,
        drv_path: &StorePath,
        output: &OutputName,
        mode: BuildMode,
    ) -> Result<Option<Value>, Failed> {
        let drv = self.derivation(drv_path)?;
        match phase {
            0 => {
                if let Some(value) = self.output_is_there(number, drv_path, &drv, output, mode)? {
                    return Ok(value);
                }
                self.wait_for(number, vec![Key::Build(drv_path.clone(), mode)]);
                Ok(None)
            }
            1 => match self.results(number)?.into_iter().next() {
                Some(Value::Outputs(outputs, status)) => {
                    let path = outputs.get(output).cloned().ok_or_else(|| {
                        error(format!(
                            "derivation '{}' has not produced output '{output}'",
                            self.shared.store.print(drv_path)
                        ))
                    })?;
                    Ok(Some(Value::Path(path, status)))
                }
                Some(Value::Resolved(resolved)) => {
                    self.wait_for(number, vec![Key::Output(resolved, output.clone(), mode)]);
                    Ok(None)
                }
                // The closure was repaired.
                Some(Value::Path(..)) | None => {
                    let path = self.known_path(drv_path, &drv, output)?;
                    match path {
                        Some(path) => Ok(Some(Value::Path(path, BuildStatus::AlreadyValid))),
                        None => Err(error("an output is not known that should be")),
                    }
                }
                Some(Value::Request(..)) => Err(error("unexpected result")),
            },
            _ => {
                let store = &self.shared.store;
                let resolved = match self.nodes.get(number).and_then(|node| node.needs.first()) {
                    Some(need) => self.nodes.get(*need).map(|need| need.key.clone()),
                    None => None,
                };
                let (path, status) = match self.results(number) {
                    Ok(values) => match values.into_iter().next() {
                        Some(Value::Path(path, status)) => (path, status),
                        _ => return Err(error("an output is not known that should be")),
                    },
                    Err(failed) if failed.status == BuildStatus::Cancelled => return Err(failed),
                    Err(_) => {
                        let name = match resolved {
                            Some(Key::Output(path, ..)) => store.print(&path),
                            _ => store.print(drv_path),
                        };
                        return Err(Failed::new(
                            BuildStatus::DependencyFailed,
                            format!("build of resolved derivation '{name}' failed"),
                        ));
                    }
                };
                if drv.kind()? != DerivationKind::Impure {
                    self.record(store.output_hash(&drv)?, output, &path)?;
                }
                Ok(Some(Value::Path(path, status)))
            }
        }
    }

    /// Remembers which path an output of a derivation, told by its hash, has got.
    fn record(
        &self,
        drv_hash: [u8; 32],
        output: &OutputName,
        path: &StorePath,
    ) -> Result<(), Failed> {
        self.shared.store.register_realisation(&Realisation {
            drv_hash,
            output: output.clone(),
            path: path.clone(),
            signatures: BTreeSet::new(),
        })?;
        Ok(())
    }

    /// The path of an output, if it is known already.
    fn known_path(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        output: &OutputName,
    ) -> Result<Option<StorePath>, Failed> {
        let store = &self.shared.store;
        let spec = drv.outputs.get(output).ok_or_else(|| {
            error(format!(
                "derivation '{}' does not have output '{output}'",
                store.print(drv_path)
            ))
        })?;
        if let Some(path) = spec.path(store.store_dir(), &drv.name, output)? {
            return Ok(Some(path));
        }
        let hash = store.output_hash(drv)?;
        Ok(store.find_realisation(&hash, output)?.map(|r| r.path))
    }

    /// Looks whether an output has to be built. `Some` if it has not: it is there, or something else is to be
    /// waited for.
    fn output_is_there(
        &mut self,
        number: usize,
        drv_path: &StorePath,
        drv: &Derivation,
        output: &OutputName,
        mode: BuildMode,
    ) -> Result<Option<Option<Value>>, Failed> {
        let (store, settings) = (&self.shared.store, &self.shared.settings);
        let kind = drv.kind()?;
        if matches!(
            kind,
            DerivationKind::CaFloating | DerivationKind::Deferred | DerivationKind::Impure
        ) && !settings.feature("ca-derivations")
        {
            return Err(missing_feature("ca-derivations").into());
        }
        if kind == DerivationKind::Impure {
            if !settings.feature("impure-derivations") {
                return Err(missing_feature("impure-derivations").into());
            }
            return Ok(None);
        }
        let path = self.known_path(drv_path, drv, output)?;
        let valid = match &path {
            None => false,
            Some(path) => {
                store.add_temp_root(path)?;
                store.is_valid(path)?
            }
        };
        match (mode, path) {
            (BuildMode::Normal, Some(path)) if valid => {
                if settings.feature("ca-derivations") && !store.config().read_only {
                    // What was built without the feature has no record yet.
                    let hash = store.output_hash(drv)?;
                    if store.find_realisation(&hash, output)?.is_none() {
                        self.record(hash, output, &path)?;
                    }
                }
                Ok(Some(Some(Value::Path(path, BuildStatus::AlreadyValid))))
            }
            (BuildMode::Check, _) if !valid => Err(error(format!(
                "some outputs of '{}' are not valid, so checking is not possible\n\
                 Hint: --rebuild and --check error if the derivation was not previously built and cannot be substituted.\n      \
                 Remove it to perform a fresh build, or use --repair to rewrite missing or corrupted builds in the store.",
                store.print(drv_path)
            ))),
            (BuildMode::Repair, Some(path)) if valid && self.shared.contents_good(&path)? => {
                self.repair_closure(number, drv_path, drv, &path)?;
                Ok(Some(None))
            }
            _ => Ok(None),
        }
    }

    /// Looks for damage in the closure of an output which is itself undamaged, and has it built anew.
    fn repair_closure(
        &mut self,
        number: usize,
        drv_path: &StorePath,
        drv: &Derivation,
        output: &StorePath,
    ) -> Result<(), Failed> {
        let store = self.shared.store.clone();
        let own: BTreeSet<StorePath> = drv
            .output_paths(store.store_dir())?
            .into_values()
            .flatten()
            .collect();
        let mut bad = BTreeSet::new();
        for path in store.closure([output])? {
            if !own.contains(&path) && !self.shared.contents_good(&path)? {
                self.shared.observer.finding(format!(
                    "found corrupted or missing path '{}' in the output closure of '{}'",
                    store.print(&path),
                    store.print(drv_path)
                ));
                bad.insert(path);
            }
        }
        let mut keys = Vec::new();
        if !bad.is_empty() {
            for path in store.closure([drv_path])? {
                if path.is_derivation() {
                    for (name, made) in store.query_output_map(&path)? {
                        if made.is_some_and(|made| bad.remove(&made)) {
                            keys.push(Key::Output(path.clone(), name, BuildMode::Repair));
                        }
                    }
                }
            }
            if let Some(lost) = bad.first() {
                return Err(error(format!(
                    "some paths in the output closure of derivation '{}' could not be repaired, for instance '{}'",
                    store.print(drv_path),
                    store.print(lost)
                )));
            }
        }
        self.wait_for(number, keys);
        Ok(())
    }

    pub(super) fn step_build(
        &mut self,
        number: usize,
        phase: u8,
        drv_path: &StorePath,
        mode: BuildMode,
    ) -> Result<Option<Value>, Failed> {
        let drv = self.derivation(drv_path)?;
        if phase == 0 {
            self.expected += 1;
            let keys = self.inputs(drv_path, &drv)?;
            self.wait_for(number, keys);
            return Ok(None);
        }
        let failed = self.failed_needs(number);
        if failed > 0 {
            if let Err(cancelled) = self.results(number)
                && cancelled.status == BuildStatus::Cancelled
            {
                return Err(cancelled);
            }
            let word = if failed == 1 {
                "dependency"
            } else {
                "dependencies"
            };
            return Err(Failed::new(
                BuildStatus::DependencyFailed,
                format!(
                    "Cannot build '{}'.\nReason: {failed} {word} failed.{}",
                    self.shared.store.print(drv_path),
                    self.shared.known_outputs(&drv)
                ),
            ));
        }
        let store = &self.shared.store;
        let sources: Vec<&StorePath> = drv.input_srcs.iter().collect();
        let valid = store.valid_among(sources.iter().copied())?;
        if let Some(missing) = sources.into_iter().find(|path| !valid.contains(*path)) {
            return Err(error(format!(
                "dependency '{}' of '{}' does not exist, and substitution is disabled",
                store.print(missing),
                store.print(drv_path)
            )));
        }
        let known: BTreeMap<Chain, StorePath> = input_chains(&drv)
            .into_iter()
            .zip(self.results(number)?)
            .filter_map(|(chain, value)| match value {
                Value::Path(path, _) => Some((chain, path)),
                _ => None,
            })
            .collect();
        if should_resolve(&drv, &self.shared.settings)? {
            if !self.shared.settings.feature("ca-derivations") {
                return Err(missing_feature("ca-derivations").into());
            }
            let (path, resolved) = resolve(store.store_dir(), &drv, &known)?;
            let (from, to) = (store.print(drv_path), store.print(&path));
            // Ends at once: it only tells monitors which derivation stands for which.
            Activity::start(
                &self.shared.observer,
                self.shared.activity,
                Level::Info,
                ActivityKind::BuildWaiting,
                format!("resolved derivation: '{from}' -> '{to}'"),
                vec![from.into(), to.into()],
            );
            self.expected = self.expected.saturating_sub(1);
            self.drvs.insert(path.clone(), Arc::new(resolved));
            return Ok(Some(Value::Resolved(path)));
        }
        if !store.has_derivation(drv_path)? {
            // A resolved one: a record of what is really built.
            store.add_derivation(&drv)?;
        }
        let mut inputs = drv.input_srcs.clone();
        inputs.extend(known.into_values());
        self.jobs.add(
            number,
            Job {
                drv_path: drv_path.clone(),
                drv,
                inputs,
                mode,
            },
        );
        Ok(None)
    }

    /// What a derivation needs, in the order of [`input_chains`].
    fn inputs(&mut self, drv_path: &StorePath, drv: &Arc<Derivation>) -> Result<Vec<Key>, Failed> {
        let kind = drv.kind()?;
        let pure = !matches!(kind, DerivationKind::Impure | DerivationKind::CaFixed);
        if pure && self.shared.settings.feature("impure-derivations") {
            for input in drv.input_drvs.keys() {
                if self.derivation(input)?.kind()? == DerivationKind::Impure {
                    return Err(error(format!(
                        "pure derivation '{}' depends on impure derivation '{}'",
                        self.shared.store.print(drv_path),
                        self.shared.store.print(input)
                    )));
                }
            }
        }
        let keys = input_chains(drv).into_iter().map(|(path, mut outputs)| {
            let last = outputs.pop().unwrap_or_default();
            if outputs.is_empty() {
                return Key::Output(path, last, BuildMode::Normal);
            }
            let mut inner = DrvRef::Path(path);
            for output in outputs {
                inner = DrvRef::Output(Box::new(inner), output);
            }
            Key::Nested(inner, last)
        });
        Ok(keys.collect())
    }
}
