//! Hashes of derivations "modulo" their fixed outputs, from which the paths of input-addressed outputs
//! are made.
//!
//! The hash modulo of a fixed output depends on nothing but its contents and path. That of any other
//! derivation is the SHA-256 of its ATerm form in which each input derivation is replaced by *its* hash
//! modulo; so how a fixed output is obtained has no influence on what is built from it. Two inputs with
//! the same hash modulo become one, with the outputs of both.

use super::aterm::Hole;
use super::{Derivation, DerivationKind, DerivationOutput, OutputName, invalid, sha256_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, HashFormat, Hasher};
use crate::store_path::{StoreDir, StorePath};
use bstr::BString;
use std::collections::{HashMap, HashSet};
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
    fn new(drv: &Derivation, hash: [u8; 32], deferred: bool) -> DrvHash {
        let mut names = drv.outputs.keys();
        let outputs = match (names.next(), names.next()) {
            (Some(name), None) if name == "out" => Outputs::Out,
            _ => Outputs::Many(drv.outputs.keys().cloned().collect()),
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
struct Parts {
    /// Inputs replaced by their hashes.
    inputs: Vec<u8>,
    /// Whether any of them is deferred.
    deferred: bool,
    /// What follows the inputs, without the outputs' variables.
    masked_tail: Vec<u8>,
    holes: Vec<Hole>,
}

fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    for part in parts {
        hasher.update(part);
    }
    sha256_bytes(hasher)
}

impl Derivation {
    /// The hash modulo, with the output paths as they are.
    pub fn hash_modulo(&self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<DrvHash> {
        let kind = self.kind()?;
        if kind == DerivationKind::CaFixed {
            return self.fixed_hash(store);
        }
        let parts = self.parts(store, hashes)?;
        let tail = self.fill_tail(&parts.masked_tail, &parts.holes);
        let head = self.head(store, false)?;
        let hash = sha256_of(&[&head, &parts.inputs, &tail]);
        let deferred = parts.deferred || is_floating(kind);
        Ok(DrvHash::new(self, hash, deferred))
    }

    /// For a fixed output: a pure function of contents and path.
    fn fixed_hash(&self, store: &StoreDir) -> Result<DrvHash> {
        let mut hash = None;
        for (name, output) in &self.outputs {
            if let DerivationOutput::CaFixed(content) = output {
                let path = store
                    .make_fixed_output_path(&super::output_path_name(&self.name, name), content)?;
                let line = format!(
                    "fixed:out:{}:{}:{}",
                    content
                        .method
                        .print_with_algorithm(content.hash.algorithm()),
                    content.hash.encode(HashFormat::Base16),
                    store.print(&path)
                );
                hash = Some(crate::hash::sha256(line));
            }
        }
        match hash {
            Some(hash) => Ok(DrvHash::new(self, hash, false)),
            None => Err(invalid("derivation has no fixed output")),
        }
    }

    fn head(&self, store: &StoreDir, masked: bool) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(32 + self.outputs.len() * 256);
        self.write_head(store, masked, &mut out)?;
        Ok(out)
    }

    fn parts(&self, store: &StoreDir, hashes: &mut dyn DrvHashes) -> Result<Parts> {
        let mut deferred = false;
        // Sorted by hash and free of repetition below: this merges inputs that have the same hash.
        let mut wanted: Vec<([u8; 32], &OutputName)> = Vec::with_capacity(self.input_drvs.len());
        for (path, node) in &self.input_drvs {
            let hash = hashes.hash_modulo(path)?;
            deferred |= hash.deferred;
            for output in node.outputs() {
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
            let hex = Hash::from_sha256(*hash).encode(HashFormat::Base16);
            inputs.extend_from_slice(hex.as_bytes());
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
        Ok(Parts {
            inputs,
            deferred,
            masked_tail,
            holes,
        })
    }

    pub(super) fn finish_into(
        &mut self,
        store: &StoreDir,
        hashes: &mut dyn DrvHashes,
        text: Option<&mut Vec<u8>>,
    ) -> Result<StorePath> {
        self.check_parts()?;
        let kind = self.kind()?;
        let (tail, hash) = if kind == DerivationKind::CaFixed {
            for (name, path) in self.output_paths(store)? {
                if let Some(path) = path {
                    self.fill_env(store, &name, &path)?;
                }
            }
            let (tail, holes) = self.masked_tail(store);
            (self.fill_tail(&tail, &holes), self.fixed_hash(store)?)
        } else {
            if !is_floating(kind) {
                // The variables must be there when the text is hashed, even though their values are not.
                let names: Vec<BString> = self.outputs.keys().map(|n| n.as_str().into()).collect();
                for name in names {
                    self.env.entry(name).or_default();
                }
            }
            let parts = self.parts(store, hashes)?;
            if !is_floating(kind) {
                self.fill_outputs(store, &parts)?;
            }
            let tail = self.fill_tail(&parts.masked_tail, &parts.holes);
            let head = self.head(store, false)?;
            let hash = sha256_of(&[&head, &parts.inputs, &tail]);
            let deferred = parts.deferred || is_floating(kind);
            (tail, DrvHash::new(self, hash, deferred))
        };

        let mut head = self.head(store, false)?;
        self.write_inputs(store, &mut head)?;
        let drv_path = self.path_from_text_hash(store, &sha256_of(&[&head, &tail]))?;
        if let Some(text) = text {
            text.extend_from_slice(&head);
            text.extend_from_slice(&tail);
        }
        hashes.record(&drv_path, &hash);
        Ok(drv_path)
    }

    /// Computes the paths of input-addressed outputs and fills them in.
    fn fill_outputs(&mut self, store: &StoreDir, parts: &Parts) -> Result<()> {
        let masked = if parts.deferred {
            None
        } else {
            let head = self.head(store, true)?;
            Some(sha256_of(&[&head, &parts.inputs, &parts.masked_tail]))
        };
        let names: Vec<OutputName> = self.outputs.keys().cloned().collect();
        for name in names {
            let path = match &masked {
                Some(hash) => Some(store.make_output_path(&name, hash, &self.name)?),
                None => None,
            };
            match (self.outputs.get_mut(&name), path) {
                (Some(DerivationOutput::InputAddressed(old)), Some(path)) if *old != path => {
                    return Err(invalid(format!(
                        "derivation has incorrect output '{}', should be '{}'",
                        store.print(old),
                        store.print(&path)
                    )));
                }
                (Some(DerivationOutput::InputAddressed(old)), None) => {
                    return Err(invalid(format!(
                        "derivation has incorrect output '{}', should be deferred",
                        store.print(old)
                    )));
                }
                (Some(output), Some(path)) => {
                    *output = DerivationOutput::InputAddressed(path.clone());
                    self.fill_env(store, &name, &path)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_floating(kind: DerivationKind) -> bool {
    matches!(kind, DerivationKind::CaFloating | DerivationKind::Impure)
}
