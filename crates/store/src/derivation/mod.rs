//! Derivations: what is to be built, from what, and where the outputs go.
//!
//! A [`Derivation`] is filled in by its creator without output paths; [`Derivation::finish`] computes
//! these, fills them in, and gives the path of the `.drv` file. For this it needs the
//! [hashes modulo](DrvHash) of the derivations that it takes inputs from, which a [`DrvHashes`] supplies
//! and into which `finish` records the new one. Evaluating a package set therefore hashes each
//! derivation once, and needs no store on disk.
//!
//! The text form, ATerm, is written by [`Derivation::write_aterm`] and read by
//! [`Derivation::parse_aterm`]; the JSON form by [`Derivation::to_json`] and
//! [`Derivation::from_json`].

mod aterm;
mod json;
mod modulo;
#[cfg(test)]
mod tests;

pub use json::{JSON_VERSION, show_derivations};
pub use modulo::{DrvHash, DrvHashMemo, DrvHashes, Finished, LoadingHashes};

use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::error::{Error, ErrorKind, Result, excerpt};
use crate::hash::HashAlgorithm;
use crate::store_path::{StoreDir, StorePath, check_name, output_path_name};
use bstr::BString;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};

/// The name of an output (`out`, `dev`, …). At most 23 bytes are stored without an allocation.
pub type OutputName = SmolStr;

/// The environment variable under which structured attributes are kept in the ATerm form.
pub const STRUCTURED_ATTRS_KEY: &str = "__json";

/// How deeply outputs of outputs of derivations may nest ([`InputOutputs::add_dynamic`]).
pub const MAX_DYNAMIC_DEPTH: usize = 64;

/// A store derivation.
///
/// Strings are bytes: the language allows any but NUL in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// The name, which is that of the `.drv` file without the suffix. It is not part of the ATerm form.
    pub name: String,
    /// The outputs by name.
    pub outputs: BTreeMap<OutputName, DerivationOutput>,
    /// Store objects needed as they are.
    pub input_srcs: BTreeSet<StorePath>,
    /// Derivations whose outputs are needed, and which of them.
    pub input_drvs: BTreeMap<StorePath, InputOutputs>,
    /// The system that can build this, such as `x86_64-linux`.
    pub platform: BString,
    /// The program to run.
    pub builder: BString,
    /// Its arguments.
    pub args: Vec<BString>,
    /// Its environment. Must not hold [`STRUCTURED_ATTRS_KEY`].
    pub env: BTreeMap<BString, BString>,
    /// The structured attributes as JSON text. It is written as it stands, so it should be as C++ Nix
    /// prints it: compact, with the keys of objects sorted.
    pub structured_attrs: Option<BString>,
}

/// What a [`Derivation`] consists of, borrowed: for evaluators, which have the texts already.
#[derive(Debug, Clone)]
pub struct DerivationParts<'a> {
    /// See [`Derivation::name`].
    pub name: &'a str,
    /// See [`Derivation::outputs`].
    pub outputs: &'a BTreeMap<OutputName, DerivationOutput>,
    /// See [`Derivation::input_srcs`]. Strictly ascending.
    pub input_srcs: Vec<&'a StorePath>,
    /// See [`Derivation::input_drvs`]. Strictly ascending by path.
    pub input_drvs: Vec<(&'a StorePath, InputNames<'a>)>,
    /// See [`Derivation::platform`].
    pub platform: &'a [u8],
    /// See [`Derivation::builder`].
    pub builder: &'a [u8],
    /// See [`Derivation::args`].
    pub args: Vec<&'a [u8]>,
    /// See [`Derivation::env`]. Strictly ascending by name.
    pub env: Vec<(&'a [u8], &'a [u8])>,
    /// See [`Derivation::structured_attrs`].
    pub structured_attrs: Option<&'a [u8]>,
}

/// Which outputs of an input derivation are needed: nearly always one.
#[derive(Debug, Clone, Copy)]
pub enum InputNames<'a> {
    /// This one.
    One(&'a OutputName),
    /// Any number.
    Many(&'a InputOutputs),
}

impl<'a> InputNames<'a> {
    /// The outputs needed directly, in order.
    fn outputs(self) -> impl Iterator<Item = &'a OutputName> {
        let (one, many) = match self {
            InputNames::One(name) => (Some(name), None),
            InputNames::Many(node) => (None, Some(&node.outputs)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn is_dynamic(self) -> bool {
        matches!(self, InputNames::Many(node) if !node.dynamic.is_empty())
    }
}

impl<'a> DerivationParts<'a> {
    fn has_dynamic_inputs(&self) -> bool {
        self.input_drvs.iter().any(|(_, names)| names.is_dynamic())
    }

    /// The paths of the outputs, in the order of their names, as far as they are known without the inputs.
    fn known_paths(&self, store: &StoreDir) -> Result<Vec<Option<StorePath>>> {
        self.outputs
            .iter()
            .map(|(name, output)| output.path(store, self.name, name))
            .collect()
    }

    /// See [`Derivation::references`].
    pub fn references(&self) -> Vec<&'a StorePath> {
        let mut all = Vec::with_capacity(self.input_srcs.len() + self.input_drvs.len());
        all.extend(&self.input_srcs);
        all.extend(self.input_drvs.iter().map(|(path, _)| *path));
        // Two sorted runs, which this sort merges.
        all.sort();
        all.dedup();
        all
    }

    /// Fails unless the parts that no type rules out are fit to be written.
    fn check(&self) -> Result<()> {
        check_name(self.name)?;
        let variable = |name: &[u8]| self.env.binary_search_by(|(known, _)| (*known).cmp(name));
        if variable(STRUCTURED_ATTRS_KEY.as_bytes()).is_ok() {
            return Err(invalid(
                "Cannot have an environment variable named '__json'. This key is reserved for encoding structured attrs",
            ));
        }
        for name in self.outputs.keys() {
            check_output_name(self.name, name)?;
        }
        for (path, _) in &self.input_drvs {
            path.derivation_name()?;
        }
        Ok(())
    }

    /// Fails if a variable that is named like an output is neither empty nor that output's path.
    fn check_holes(
        &self,
        store: &StoreDir,
        holes: &[aterm::Hole<'_>],
        paths: &[Option<StorePath>],
    ) -> Result<()> {
        for hole in holes.iter().filter(|hole| !hole.value.is_empty()) {
            let mut names = self.outputs.keys().zip(paths);
            if let Some((output, Some(path))) = names.nth(hole.output) {
                let printed = store.print(path);
                if hole.value != printed.as_bytes() {
                    return Err(wrong_variable(output, &printed, hole.value));
                }
            }
        }
        Ok(())
    }

    fn path_from_text_hash(&self, store: &StoreDir, sha256: &[u8; 32]) -> Result<StorePath> {
        let name = format!("{}.drv", self.name);
        store.make_text_path(&name, sha256, self.references())
    }
}

fn wrong_variable(output: &str, right: &str, value: &[u8]) -> Error {
    invalid(format!(
        "derivation has incorrect environment variable '{output}', should be '{right}' but is actually '{}'",
        excerpt(value)
    ))
}

/// Where an output goes, or how that will be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DerivationOutput {
    /// The path follows from the derivation.
    InputAddressed(StorePath),
    /// The contents are known beforehand, and the path follows from them.
    CaFixed(ContentAddress),
    /// The path follows from the contents once they are built.
    CaFloating {
        /// How the contents are hashed.
        method: ContentAddressMethod,
        /// With which algorithm.
        algorithm: HashAlgorithm,
    },
    /// Input-addressed, but the path is not known yet: either nobody has computed it
    /// ([`Derivation::finish`] does), or an input's path is not known yet.
    Deferred,
    /// Built anew each time, with network access; the path follows from the contents.
    Impure {
        /// How the contents are hashed.
        method: ContentAddressMethod,
        /// With which algorithm.
        algorithm: HashAlgorithm,
    },
}

impl DerivationOutput {
    /// The path of the output, if it is known before building.
    pub fn path(
        &self,
        store: &StoreDir,
        drv_name: &str,
        output: &str,
    ) -> Result<Option<StorePath>> {
        match self {
            DerivationOutput::InputAddressed(path) => Ok(Some(path.clone())),
            DerivationOutput::CaFixed(content) => store
                .make_fixed_output_path(&output_path_name(drv_name, output), content)
                .map(Some),
            _ => Ok(None),
        }
    }
}

/// The kind of all outputs of a derivation; they may not be mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DerivationKind {
    /// All paths are known and follow from the derivation.
    InputAddressed,
    /// As [`DerivationKind::InputAddressed`], but the paths are not known yet.
    Deferred,
    /// One output, `out`, with known contents.
    CaFixed,
    /// Paths follow from the contents once built.
    CaFloating,
    /// Built anew each time.
    Impure,
}

/// Which outputs of an input derivation are needed, and which outputs of derivations that these
/// outputs are (`dynamic-derivations`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputOutputs {
    outputs: BTreeSet<OutputName>,
    dynamic: BTreeMap<OutputName, InputOutputs>,
}

impl InputOutputs {
    /// Nothing yet.
    pub fn new() -> InputOutputs {
        InputOutputs::default()
    }

    /// The outputs needed directly.
    pub fn outputs(&self) -> &BTreeSet<OutputName> {
        &self.outputs
    }

    /// For outputs that are derivations themselves, what is needed from them.
    pub fn dynamic(&self) -> &BTreeMap<OutputName, InputOutputs> {
        &self.dynamic
    }

    /// Adds an output.
    pub fn add(&mut self, output: impl Into<OutputName>) {
        self.outputs.insert(output.into());
    }

    /// Adds the output at the end of a chain: `["a", "b"]` and `c` mean output `c` of the derivation
    /// which is output `b` of the derivation which is output `a`. An error when the chain is longer than
    /// [`MAX_DYNAMIC_DEPTH`].
    pub fn add_dynamic<O: Into<OutputName>>(
        &mut self,
        chain: impl IntoIterator<Item = O>,
        output: impl Into<OutputName>,
    ) -> Result<()> {
        let mut node = self;
        for (depth, step) in chain.into_iter().enumerate() {
            if depth >= MAX_DYNAMIC_DEPTH {
                return Err(too_deep());
            }
            node = node.dynamic.entry(step.into()).or_default();
        }
        node.add(output);
        Ok(())
    }
}

impl<O: Into<OutputName>> FromIterator<O> for InputOutputs {
    fn from_iter<I: IntoIterator<Item = O>>(outputs: I) -> InputOutputs {
        InputOutputs {
            outputs: outputs.into_iter().map(Into::into).collect(),
            dynamic: BTreeMap::new(),
        }
    }
}

fn too_deep() -> Error {
    Error::new(
        ErrorKind::Limit,
        format!("dynamic derivations nest more than {MAX_DYNAMIC_DEPTH} deep"),
    )
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidDerivation, message)
}

fn kind_of(outputs: &BTreeMap<OutputName, DerivationOutput>) -> Result<DerivationKind> {
    let mut floating = None;
    let mut found = None;
    for (name, output) in outputs {
        let kind = match output {
            DerivationOutput::InputAddressed(_) => DerivationKind::InputAddressed,
            DerivationOutput::Deferred => DerivationKind::Deferred,
            DerivationOutput::CaFixed(_) => DerivationKind::CaFixed,
            DerivationOutput::CaFloating { .. } => DerivationKind::CaFloating,
            DerivationOutput::Impure { .. } => DerivationKind::Impure,
        };
        match found {
            None => found = Some(kind),
            Some(other) if other != kind => {
                return Err(invalid("can't mix derivation output types"));
            }
            Some(DerivationKind::CaFixed) => {
                return Err(invalid("only one fixed output is allowed for now"));
            }
            Some(_) => {}
        }
        match output {
            DerivationOutput::CaFixed(_) if name != "out" => {
                return Err(invalid("single fixed output must be named \"out\""));
            }
            DerivationOutput::CaFloating { algorithm, .. }
                if *floating.get_or_insert(*algorithm) != *algorithm =>
            {
                return Err(invalid(
                    "all floating outputs must use the same hash algorithm",
                ));
            }
            _ => {}
        }
    }
    found.ok_or_else(|| invalid("must have at least one output"))
}

impl Derivation {
    /// A derivation with nothing but a name.
    pub fn new(name: impl Into<String>) -> Derivation {
        Derivation {
            name: name.into(),
            outputs: BTreeMap::new(),
            input_srcs: BTreeSet::new(),
            input_drvs: BTreeMap::new(),
            platform: BString::default(),
            builder: BString::default(),
            args: Vec::new(),
            env: BTreeMap::new(),
            structured_attrs: None,
        }
    }

    /// Whether the builder is one inside Nix.
    pub fn is_builtin(&self) -> bool {
        self.builder.starts_with(b"builtin:")
    }

    /// Whether any input is an output of a derivation that is itself an output.
    pub fn has_dynamic_inputs(&self) -> bool {
        let mut inputs = self.input_drvs.values();
        inputs.any(|node| !node.dynamic.is_empty())
    }

    /// The same, borrowed.
    pub fn as_parts(&self) -> DerivationParts<'_> {
        DerivationParts {
            name: &self.name,
            outputs: &self.outputs,
            input_srcs: self.input_srcs.iter().collect(),
            input_drvs: self
                .input_drvs
                .iter()
                .map(|(path, node)| (path, InputNames::Many(node)))
                .collect(),
            platform: &self.platform,
            builder: &self.builder,
            args: self.args.iter().map(|arg| arg.as_slice()).collect(),
            env: self
                .env
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_slice()))
                .collect(),
            structured_attrs: self.structured_attrs.as_ref().map(|json| json.as_slice()),
        }
    }

    /// The kind of the outputs. An error when there are none, when kinds are mixed, when a fixed output is
    /// not the only one and called `out`, or when floating outputs differ in their algorithm.
    pub fn kind(&self) -> Result<DerivationKind> {
        kind_of(&self.outputs)
    }

    /// The paths of the outputs that are known before building.
    pub fn output_paths(
        &self,
        store: &StoreDir,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>> {
        self.outputs
            .iter()
            .map(|(name, output)| Ok((name.clone(), output.path(store, &self.name, name)?)))
            .collect()
    }

    /// The store objects that the `.drv` file refers to, sorted: source inputs and derivations. Outputs
    /// are not among them.
    pub fn references(&self) -> Vec<&StorePath> {
        self.as_parts().references()
    }

    /// Fails unless the parts that no type rules out are fit to be written.
    fn check_parts(&self) -> Result<()> {
        self.as_parts().check()
    }

    /// Sets a missing or empty environment variable to an output's path; one that is set must agree.
    fn fill_env(&mut self, store: &StoreDir, output: &OutputName, path: &StorePath) -> Result<()> {
        let printed = store.print(path);
        match self.env.get_mut(output.as_bytes()) {
            None => {
                self.env.insert(output.as_str().into(), printed.into());
            }
            Some(value) if value.is_empty() => *value = printed.into(),
            Some(value) if value.as_slice() == printed.as_bytes() => {}
            Some(value) => return Err(wrong_variable(output, &printed, value)),
        }
        Ok(())
    }

    /// Completes the derivation and gives the path of its `.drv` file.
    ///
    /// - [`Deferred`](DerivationOutput::Deferred) outputs become
    ///   [`InputAddressed`](DerivationOutput::InputAddressed), unless an input's path is unknown before
    ///   it is built; then they stay as they are.
    /// - For these and for fixed outputs, the environment variable named like the output is set to the
    ///   path where it is missing or empty; any other value is an error, as is a wrong output path.
    /// - The derivation's own hash modulo is recorded in `hashes` under its path.
    ///
    /// The time is linear in the size of the derivation; its text is escaped once and hashed up to three
    /// times.
    pub fn finish(&mut self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<StorePath> {
        self.finish_into(store, hashes, None)
    }

    /// As [`Derivation::finish`]; also appends the text of the `.drv` file to `text`.
    pub fn finish_with_text(
        &mut self,
        store: &StoreDir,
        hashes: &mut dyn DrvHashes,
        text: &mut Vec<u8>,
    ) -> Result<StorePath> {
        self.finish_into(store, hashes, Some(text))
    }

    /// The path of the `.drv` file, with the outputs as they are.
    pub fn drv_path(&self, store: &StoreDir) -> Result<StorePath> {
        self.check_parts()?;
        let mut hasher = crate::hash::Hasher::new(HashAlgorithm::Sha256);
        self.write_aterm(store, &mut hasher)?;
        self.as_parts()
            .path_from_text_hash(store, &sha256_bytes(hasher))
    }
}

fn check_output_name(drv_name: &str, output: &str) -> Result<()> {
    if output.is_empty() {
        return Err(invalid("an output has an empty name"));
    }
    check_name(output_path_name(drv_name, output))
}

fn sha256_bytes(hasher: crate::hash::Hasher) -> [u8; 32] {
    let mut out = [0; 32];
    for (o, b) in out.iter_mut().zip(hasher.finish().as_bytes()) {
        *o = *b;
    }
    out
}
