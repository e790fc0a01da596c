//! What a store knows about a path.

use crate::content_address::ContentAddress;
use crate::derivation::OutputName;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashFormat};
use crate::signature::PublicKeys;
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

    /// Whether the path follows from the content address; `None` when there is none.
    pub fn has_content_address(&self, store: &StoreDir) -> Option<bool> {
        let content = self.content_address.as_ref()?;
        let path = store.make_content_path(self.path.name(), content, &self.split_references());
        Some(path.is_ok_and(|path| path == self.path))
    }

    /// The line of text that signatures are made of: path, hash, size and references.
    ///
    /// # Errors
    /// When the size is not known.
    pub fn fingerprint(&self, store: &StoreDir) -> Result<String> {
        let path = store.print(&self.path);
        if self.nar_size == 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot calculate fingerprint of path '{path}' because its size is not known"
                ),
            ));
        }
        let references: Vec<String> = self.references.iter().map(|r| store.print(r)).collect();
        let hash = self.nar_hash.encode_with_algorithm(HashFormat::Nix32);
        Ok(format!(
            "1;{path};{hash};{};{}",
            self.nar_size,
            references.join(",")
        ))
    }

    /// Those of some signatures that trusted keys made of this path.
    ///
    /// # Errors
    /// Signatures that are none; when there are some, but the size of the path is not known.
    pub fn good_signatures<'a>(
        &self,
        store: &StoreDir,
        keys: &PublicKeys,
        signatures: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeSet<&'a str>> {
        let mut fingerprint = None;
        let mut good = BTreeSet::new();
        for signature in signatures {
            let text = match &fingerprint {
                Some(text) => text,
                None => fingerprint.insert(self.fingerprint(store)?),
            };
            if keys.verify(text.as_bytes(), signature)? {
                good.insert(signature.as_str());
            }
        }
        Ok(good)
    }

    /// An error unless the path follows from the content address, if there is one.
    pub fn check_content_address(&self, store: &StoreDir) -> Result<()> {
        match self.has_content_address(store) {
            None | Some(true) => Ok(()),
            Some(false) => Err(Error::new(
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
