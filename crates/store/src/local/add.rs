//! Adding contents to the store.

use super::{LocalStore, PathInfo};
use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::derivation::{Derivation, OutputName};
use crate::error::Result;
use crate::hash::{Hash, HashAlgorithm, Hasher, sha256};
use crate::nar::write_file_nar;
use crate::store_path::StorePath;
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl LocalStore {
    /// Adds a text file, as `builtins.toFile` does, which refers to some valid paths.
    pub fn add_text(
        &self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> Result<StorePath> {
        let path = self
            .store_dir()
            .make_text_path(name, &sha256(text), references)?;
        self.add_text_at(&path, text, references, &HashMap::new())?;
        Ok(path)
    }

    /// Adds a complete derivation (see [`Derivation::finish`]) and gives its path. What it refers to must
    /// be valid.
    pub fn add_derivation(&self, drv: &Derivation) -> Result<StorePath> {
        let text = drv.to_aterm(self.store_dir())?;
        let references = drv.references().into_iter().cloned().collect();
        let name = format!("{}.drv", drv.name);
        let path = self
            .store_dir()
            .make_text_path(&name, &sha256(&text), &references)?;
        self.add_text_at(&path, &text, &references, &HashMap::new())?;
        Ok(path)
    }

    fn add_text_at(
        &self,
        path: &StorePath,
        text: &[u8],
        references: &BTreeSet<StorePath>,
        checked: &HashMap<StorePath, BTreeMap<OutputName, StorePath>>,
    ) -> Result<()> {
        self.check_writable()?;
        self.add_temp_root(path)?;
        if self.is_valid(path)? {
            return Ok(());
        }
        let mut locks = self.lock_paths([path], true)?;
        if !self.is_valid(path)? {
            let real = self.real_path(path);
            super::files::delete(&real)?;
            super::files::write_text(&real, text)?;
            if self.config.settings.fsync_store_paths {
                super::files::sync_tree(&real)?;
            }
            let hasher = write_file_nar(text, Hasher::new(HashAlgorithm::Sha256))?;
            let size = hasher.bytes_hashed();
            let mut info = PathInfo::new(path.clone(), hasher.finish(), size);
            info.references = references.clone();
            info.content_address = Some(ContentAddress {
                method: ContentAddressMethod::Text,
                hash: Hash::from_sha256(sha256(text)),
            });
            self.register_all(vec![&info], checked)?;
        }
        if let Some(locks) = &mut locks {
            locks.set_deletion(true);
        }
        Ok(())
    }
}
