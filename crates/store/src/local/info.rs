//! What a store knows about a path.

use crate::content_address::ContentAddress;
use crate::derivation::OutputName;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::store_path::{StoreDir, StorePath, StoreReferences};
use std::collections::BTreeSet;

/// What the database knows about a valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its archive.
    pub nar_hash: Hash,
    /// Length of its archive in bytes; 0 if it is not known (very old stores).
    pub nar_size: u64,
    /// The paths that it refers to; its own may be among them.
    pub references: BTreeSet<StorePath>,
    /// The derivation that made it, if that is known. It need not be valid.
    pub deriver: Option<StorePath>,
    /// When it became valid, in seconds since 1970; 0 when registering means now.
    pub registration_time: u64,
    /// Whether it was built here, so that nobody else has to be trusted.
    pub ultimate: bool,
    /// Signatures, as `<key name>:<base 64>`.
    pub signatures: BTreeSet<String>,
    /// How its contents make up its path, if they do.
    pub content_address: Option<ContentAddress>,
}

impl PathInfo {
    /// What is known when only the contents are: no references, no deriver, registered now.
    pub fn new(path: StorePath, nar_hash: Hash, nar_size: u64) -> PathInfo {
        PathInfo {
            path,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            deriver: None,
            registration_time: 0,
            ultimate: false,
            signatures: BTreeSet::new(),
            content_address: None,
        }
    }

    /// The references split into others and the path itself.
    pub fn split_references(&self) -> StoreReferences {
        let mut others = self.references.clone();
        let self_reference = others.remove(&self.path);
        StoreReferences {
            others,
            self_reference,
        }
    }

    /// An error unless the path follows from the content address, if there is one.
    pub fn check_content_address(&self, store: &StoreDir) -> Result<()> {
        let Some(content) = &self.content_address else {
            return Ok(());
        };
        let path = store.make_content_path(self.path.name(), content, &self.split_references());
        match path {
            Ok(path) if path == self.path => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "cannot add path '{}' to the Nix store because it claims to be content-addressed but isn't",
                    store.print(&self.path)
                ),
            )),
        }
    }
}

/// Which path an output of a content-addressed derivation turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Realisation {
    /// The derivation's hash modulo (SHA-256).
    pub drv_hash: [u8; 32],
    /// The output.
    pub output: OutputName,
    /// Its path.
    pub path: StorePath,
    /// Signatures, as `<key name>:<base 64>`.
    pub signatures: BTreeSet<String>,
}
