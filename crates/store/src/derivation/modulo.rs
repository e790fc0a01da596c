//! Hashes of derivations "modulo" their fixed outputs, from which the paths of input-addressed outputs
//! are made.
//!
//! The hash modulo of a fixed output depends on nothing but its contents and path. That of any other
//! derivation is the SHA-256 of its ATerm form in which each input derivation is replaced by *its* hash
//! modulo; so how a fixed output is obtained has no influence on what is built from it. Two inputs with
//! the same hash modulo become one, with the outputs of both.

use super::aterm::Hole;
use super::{
    Derivation, DerivationKind, DerivationOutput, DerivationParts, OutputName, invalid,
    sha256_bytes,
};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{HashAlgorithm, HashFormat, Hasher};
use crate::store_path::{StoreDir, StorePath};
use bstr::BString;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The hash modulo of a derivation, and for which outputs it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrvHash {
    hash: [u8; 32],
    deferred: bool,
    outputs: Outputs,
}

// Nearly all derivations have the one output `out`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outputs {
    Out,
    Many(Arc<[OutputName]>),
}

impl DrvHash {
    fn new(
        outputs: &BTreeMap<OutputName, DerivationOutput>,
        hash: [u8; 32],
        deferred: bool,
    ) -> DrvHash {
        let mut names = outputs.keys();
        let outputs = match (names.next(), names.next()) {
            (Some(name), None) if name == "out" => Outputs::Out,
            _ => Outputs::Many(outputs.keys().cloned().collect()),
        };
        DrvHash {
            hash,
            deferred,
            outputs,
        }
    }

    /// The SHA-256.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whether the path of an output, or of an input's output, is unknown before it is built. Then the
    /// paths of what depends on it are unknown too.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Whether the derivation has this output.
    pub fn has_output(&self, output: &str) -> bool {
        match &self.outputs {
            Outputs::Out => output == "out",
            Outputs::Many(names) => names
                .binary_search_by(|name| name.as_str().cmp(output))
                .is_ok(),
        }
    }
}

/// Where hashes modulo are found and kept.
pub trait DrvHashes {
    /// The hash modulo (with the output paths in place) of the derivation at a path.
    fn hash_modulo(&mut self, drv_path: &StorePath) -> Result<DrvHash>;

    /// As [`DrvHashes::hash_modulo`], for the input at an index of [`DerivationParts::input_drvs`]: for callers that know
    /// more of their inputs than their paths.
    fn hash_modulo_of_input(&mut self, index: usize, drv_path: &StorePath) -> Result<DrvHash> {
        let _ = index;
        self.hash_modulo(drv_path)
    }

    /// Keeps the hash modulo of a derivation that was just completed.
    fn record(&mut self, drv_path: &StorePath, hash: &DrvHash);
}

/// Hashes modulo by derivation path, in memory. It knows the derivations that were
/// [finished](Derivation::finish) with it, and no others.
#[derive(Debug, Clone, Default)]
pub struct DrvHashMemo {
    known: HashMap<StorePath, DrvHash>,
}

impl DrvHashMemo {
    /// An empty memo.
    pub fn new() -> DrvHashMemo {
        DrvHashMemo::default()
    }

    /// The hash of a derivation, if it is known.
    pub fn get(&self, drv_path: &StorePath) -> Option<&DrvHash> {
        self.known.get(drv_path)
    }

    /// The number of derivations known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no derivation is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl DrvHashes for DrvHashMemo {
    fn hash_modulo(&mut self, drv_path: &StorePath) -> Result<DrvHash> {
        self.known.get(drv_path).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownDerivation,
                format!("derivation '{drv_path}' is not known"),
            )
        })
    }

    fn record(&mut self, drv_path: &StorePath, hash: &DrvHash) {
        self.known.insert(drv_path.clone(), hash.clone());
    }
}

/// A memo that loads derivations it does not know, and their inputs, with a function: from `.drv` files
/// of a store, say.
pub struct LoadingHashes<'m, F> {
    memo: &'m mut DrvHashMemo,
    store: StoreDir,
    load: F,
}

/// A derivation whose inputs are being hashed.
struct Open {
    path: StorePath,
    drv: Derivation,
    inputs: Vec<StorePath>,
}

impl<'m, F: FnMut(&StorePath) -> Result<Derivation>> LoadingHashes<'m, F> {
    fn open(&mut self, path: &StorePath) -> Result<Open> {
        let drv = (self.load)(path)?;
        // A fixed output does not depend on its inputs.
        let inputs = match drv.kind()? {
            DerivationKind::CaFixed => Vec::new(),
            _ => drv.input_drvs.keys().cloned().collect(),
        };
        Ok(Open {
            path: path.clone(),
            drv,
            inputs,
        })
    }

    /// What is loaded is kept in `memo`.
    pub fn new(memo: &'m mut DrvHashMemo, store: &StoreDir, load: F) -> LoadingHashes<'m, F> {
        LoadingHashes {
            memo,
            store: store.clone(),
            load,
        }
    }
}

impl<F: FnMut(&StorePath) -> Result<Derivation>> DrvHashes for LoadingHashes<'_, F> {
    // Depth first on an explicit stack: chains of derivations can be long.
    fn hash_modulo(&mut self, drv_path: &StorePath) -> Result<DrvHash> {
        if let Some(hash) = self.memo.get(drv_path) {
            return Ok(hash.clone());
        }
        let mut stack = vec![self.open(drv_path)?];
        // Paths on the stack, to notice cycles, which only damaged input can have.
        let mut open: HashSet<StorePath> = [drv_path.clone()].into();
        while let Some(top) = stack.last_mut() {
            if let Some(input) = top.inputs.pop() {
                if self.memo.get(&input).is_none() {
                    if !open.insert(input.clone()) {
                        return Err(invalid(format!("derivation '{input}' depends on itself")));
                    }
                    stack.push(self.open(&input)?);
                }
            } else if let Some(done) = stack.pop() {
                let hash = done.drv.hash_modulo(&self.store, self.memo)?;
                self.memo.record(&done.path, &hash);
                open.remove(&done.path);
            }
        }
        self.memo.hash_modulo(drv_path)
    }

    fn record(&mut self, drv_path: &StorePath, hash: &DrvHash) {
        self.memo.record(drv_path, hash);
    }
}

/// The parts of the text that are hashed several times.
struct Texts<'a> {
    /// Inputs replaced by their hashes.
    inputs: Vec<u8>,
    /// Whether any of them is deferred.
    deferred: bool,
    /// What follows the inputs, without the outputs' variables.
    masked_tail: Vec<u8>,
    holes: Vec<Hole<'a>>,
}

fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    for part in parts {
        hasher.update(part);
    }
    sha256_bytes(hasher)
}

/// A derivation that was completed; see [`DerivationParts::finish`].
#[derive(Debug, Clone)]
pub struct Finished {
    /// The path of the `.drv` file.
    pub path: StorePath,
    /// The path of each output, in the order of their names; `None` where it is not known before it is built.
    pub outputs: Vec<Option<StorePath>>,
}

impl Derivation {
    /// The hash modulo, with the output paths as they are.
    pub fn hash_modulo(&self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<DrvHash> {
        let kind = self.kind()?;
        let parts = self.as_parts();
        let paths = parts.known_paths(store)?;
        if kind == DerivationKind::CaFixed {
            return parts.fixed_hash(store, &paths);
        }
        let texts = parts.texts(store, hashes)?;
        // The variables are hashed as they are.
        let tail = parts.fill_tail(store, &texts.masked_tail, &texts.holes, &[]);
        let head = parts.head(store, Some(&paths))?;
        let hash = sha256_of(&[&head, &texts.inputs, &tail]);
        let deferred = texts.deferred || is_floating(kind);
        Ok(DrvHash::new(&self.outputs, hash, deferred))
    }

    /// The hash by which a store remembers which paths the outputs became, once built: the hash modulo, but of the text without
    /// the outputs' paths and variables.
    pub fn output_hash(&self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<[u8; 32]> {
        let parts = self.as_parts();
        if self.kind()? == DerivationKind::CaFixed {
            let paths = parts.known_paths(store)?;
            return Ok(parts.fixed_hash(store, &paths)?.hash);
        }
        let texts = parts.texts(store, hashes)?;
        let head = parts.head(store, None)?;
        Ok(sha256_of(&[&head, &texts.inputs, &texts.masked_tail]))
    }

    pub(super) fn finish_into(
        &mut self,
        store: &StoreDir,
        hashes: &mut dyn DrvHashes,
        text: Option<&mut Vec<u8>>,
    ) -> Result<StorePath> {
        self.check_parts()?;
        let kind = self.kind()?;
        if !is_floating(kind) {
            // The variables must be there when the text is hashed, even though their values are not.
            let names: Vec<BString> = self.outputs.keys().map(|n| n.as_str().into()).collect();
            for name in names {
                self.env.entry(name).or_default();
            }
        }
        let finished = self.as_parts().finish_kind(kind, store, hashes, text)?;
        let names: Vec<OutputName> = self.outputs.keys().cloned().collect();
        for (name, path) in names.into_iter().zip(finished.outputs) {
            if let (Some(path), false) = (path, is_floating(kind)) {
                self.fill_env(store, &name, &path)?;
                if let Some(output) = self.outputs.get_mut(&name)
                    && kind != DerivationKind::CaFixed
                {
                    *output = DerivationOutput::InputAddressed(path);
                }
            }
        }
        Ok(finished.path)
    }
}

impl<'a> DerivationParts<'a> {
    /// Completes the derivation and gives its path and those of its outputs, as [`Derivation::finish`] does; the text of
    /// the `.drv` file is appended to `text`, if wanted.
    ///
    /// The environment must have a variable for each output (but for floating ones), which is empty or the output's
    /// path. The derivation's hash modulo is recorded in `hashes`.
    pub fn finish(
        &self,
        store: &StoreDir,
        hashes: &mut dyn DrvHashes,
        text: Option<&mut Vec<u8>>,
    ) -> Result<Finished> {
        self.check()?;
        self.finish_kind(super::kind_of(self.outputs)?, store, hashes, text)
    }

    fn finish_kind(
        &self,
        kind: DerivationKind,
        store: &StoreDir,
        hashes: &mut dyn DrvHashes,
        text: Option<&mut Vec<u8>>,
    ) -> Result<Finished> {
        let (tail, hash, paths, mut head) = if kind == DerivationKind::CaFixed {
            let paths = self.known_paths(store)?;
            let (tail, holes) = self.masked_tail(store);
            self.check_holes(store, &holes, &paths)?;
            let tail = self.fill_tail(store, &tail, &holes, &paths);
            let head = self.head(store, Some(&paths))?;
            (tail, self.fixed_hash(store, &paths)?, paths, head)
        } else {
            let texts = self.texts(store, hashes)?;
            let paths = if is_floating(kind) {
                self.known_paths(store)?
            } else {
                let paths = self.addressed_paths(store, &texts)?;
                self.check_holes(store, &texts.holes, &paths)?;
                paths
            };
            let tail = self.fill_tail(store, &texts.masked_tail, &texts.holes, &paths);
            let head = self.head(store, Some(&paths))?;
            let hash = sha256_of(&[&head, &texts.inputs, &tail]);
            let deferred = texts.deferred || is_floating(kind);
            let hash = DrvHash::new(self.outputs, hash, deferred);
            (tail, hash, paths, head)
        };

        self.write_inputs(store, &mut head)?;
        let path = self.path_from_text_hash(store, &sha256_of(&[&head, &tail]))?;
        if let Some(text) = text {
            text.extend_from_slice(&head);
            text.extend_from_slice(&tail);
        }
        hashes.record(&path, &hash);
        Ok(Finished {
            path,
            outputs: paths,
        })
    }

    /// For a fixed output: a pure function of contents and path.
    fn fixed_hash(&self, store: &StoreDir, paths: &[Option<StorePath>]) -> Result<DrvHash> {
        let mut hash = None;
        for (output, path) in self.outputs.values().zip(paths) {
            if let (DerivationOutput::CaFixed(content), Some(path)) = (output, path) {
                let line = format!(
                    "fixed:out:{}:{}:{}",
                    content
                        .method
                        .print_with_algorithm(content.hash.algorithm()),
                    content.hash.encode(HashFormat::Base16),
                    store.print(path)
                );
                hash = Some(crate::hash::sha256(line));
            }
        }
        match hash {
            Some(hash) => Ok(DrvHash::new(self.outputs, hash, false)),
            None => Err(invalid("derivation has no fixed output")),
        }
    }

    fn head(&self, store: &StoreDir, paths: Option<&[Option<StorePath>]>) -> Result<Vec<u8>> {
        let inputs = self.input_drvs.len() * 100;
        let mut out = Vec::with_capacity(32 + self.outputs.len() * 256 + inputs);
        self.write_head(store, paths, &mut out)?;
        Ok(out)
    }

    fn texts(&self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<Texts<'a>> {
        let mut deferred = false;
        // Sorted by hash and free of repetition below: this merges inputs that have the same hash.
        let mut wanted: Vec<([u8; 32], &OutputName)> = Vec::with_capacity(self.input_drvs.len());
        for (index, (path, names)) in self.input_drvs.iter().enumerate() {
            let hash = hashes.hash_modulo_of_input(index, path)?;
            deferred |= hash.deferred;
            for output in names.outputs() {
                if !hash.has_output(output) {
                    return Err(invalid(format!(
                        "no hash for output '{output}' of derivation '{}'",
                        self.name
                    )));
                }
                wanted.push((hash.hash, output));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut inputs = Vec::with_capacity(wanted.len() * 76 + 8);
        inputs.push(b'[');
        for (i, group) in wanted.chunk_by(|a, b| a.0 == b.0).enumerate() {
            let Some((hash, _)) = group.first() else {
                continue;
            };
            inputs.extend_from_slice(if i == 0 { b"(\"" } else { b",(\"" });
            push_hex(&mut inputs, hash);
            inputs.extend_from_slice(b"\",[");
            for (j, (_, output)) in group.iter().enumerate() {
                inputs.extend_from_slice(if j == 0 { b"\"" } else { b",\"" });
                inputs.extend_from_slice(output.as_bytes());
                inputs.push(b'"');
            }
            inputs.extend_from_slice(b"])");
        }
        inputs.extend_from_slice(b"],");
        let (masked_tail, holes) = self.masked_tail(store);
        Ok(Texts {
            inputs,
            deferred,
            masked_tail,
            holes,
        })
    }

    /// Computes the paths of input-addressed outputs; none if that of an input is not known.
    fn addressed_paths(
        &self,
        store: &StoreDir,
        texts: &Texts<'_>,
    ) -> Result<Vec<Option<StorePath>>> {
        let masked = if texts.deferred {
            None
        } else {
            let head = self.head(store, None)?;
            Some(sha256_of(&[&head, &texts.inputs, &texts.masked_tail]))
        };
        let mut paths = Vec::with_capacity(self.outputs.len());
        for (name, output) in self.outputs {
            let path = match &masked {
                Some(hash) => Some(store.make_output_path(name, hash, self.name)?),
                None => None,
            };
            if let DerivationOutput::InputAddressed(old) = output
                && path.as_ref() != Some(old)
            {
                let right = match &path {
                    Some(path) => format!("'{}'", store.print(path)),
                    None => "deferred".to_string(),
                };
                return Err(invalid(format!(
                    "derivation has incorrect output '{}', should be {right}",
                    store.print(old),
                )));
            }
            paths.push(path);
        }
        Ok(paths)
    }
}

fn push_hex(out: &mut Vec<u8>, hash: &[u8; 32]) {
    let mut digits = [0; 64];
    data_encoding::HEXLOWER.encode_mut(hash, &mut digits);
    out.extend_from_slice(&digits);
}

fn is_floating(kind: DerivationKind) -> bool {
    matches!(kind, DerivationKind::CaFloating | DerivationKind::Impure)
}
