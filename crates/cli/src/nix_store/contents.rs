//! What `nix-store` and `nivis store` do with the contents of paths: adding, verifying, repairing, linking, moving
//! between stores.

use super::{Run, unknown_flag, usage};
use crate::hash_command::without_links_on_the_way;
use crate::progress::reporter;
use crate::session::{Failure, print, warn};
use crate::store_access::{self, Wanted};
use nivis_store::build::events::Level;
use nivis_store::build::{BuildMode, BuildRequest, BuildSettings};
use nivis_store::io_text;
use nivis_store::local::{LocalStore, VerifyOptions, render_size};
use nivis_store::nar::FileSystem;
use nivis_store::{
    ContentAddressMethod, Error, ErrorKind, HashAlgorithm, HashFormat, StorePath, StoreReferences,
    ingest,
};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

impl Run {
    pub(super) fn add(&self) -> Result<(), Failure> {
        self.no_flags()?;
        self.add_all(&self.args, ContentAddressMethod::Nar, HashAlgorithm::Sha256)
    }

    pub(super) fn add_fixed(&self) -> Result<(), Failure> {
        let mut method = ContentAddressMethod::Flat;
        for flag in &self.flags {
            match flag.as_str() {
                "--recursive" => method = ContentAddressMethod::Nar,
                _ => return Err(unknown_flag(flag)),
            }
        }
        let Some((algorithm, files)) = self.args.split_first() else {
            return Err(usage("first argument must be hash algorithm"));
        };
        let algorithm = crate::hash_command::algorithm(&self.common, algorithm)?;
        self.add_all(files, method, algorithm)
    }

    fn add_all(
        &self,
        files: &[String],
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
    ) -> Result<(), Failure> {
        for file in files {
            let path = without_links_on_the_way(Path::new(file))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let added = match self.store.config().read_only {
                true => self.already_there(&path, &name, method, algorithm)?,
                false => self.store.add_path(&path, &name, method, algorithm)?,
            };
            self.say(&added)?;
        }
        Ok(())
    }

    /// What is valid already can be added to a store that cannot be written.
    fn already_there(
        &self,
        file: &Path,
        name: &str,
        method: ContentAddressMethod,
        algorithm: HashAlgorithm,
    ) -> Result<StorePath, Failure> {
        let node = FileSystem::node(file);
        let content = ingest::hash_tree(&mut FileSystem, &node, method, algorithm)?;
        let dir = self.store.store_dir();
        let path = dir.make_content_path(name, &content, &StoreReferences::none())?;
        if self.store.is_valid(&path)? {
            return Ok(path);
        }
        let folder = &self.store.config().real_store_dir;
        let why = match nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK) {
            Ok(()) => "attempt to write a readonly database".to_string(),
            Err(e) => e.desc().to_string(),
        };
        Err(Failure::Other(format!(
            "cannot add '{}' to a store that is opened read-only: {why}",
            dir.print(&path)
        )))
    }

    pub(super) fn export(&self) -> Result<(), Failure> {
        self.no_flags()?;
        export(&self.store, &self.all_args()?)
    }

    pub(super) fn import(&self) -> Result<(), Failure> {
        self.no_flags()?;
        self.no_args()?;
        import(&self.store)
    }

    pub(super) fn optimise(&self) -> Result<(), Failure> {
        optimise(&self.store)
    }

    pub(super) fn verify(&self) -> Result<(), Failure> {
        self.no_args()?;
        let mut options = VerifyOptions::default();
        for flag in &self.flags {
            match flag.as_str() {
                "--check-contents" => options.check_contents = true,
                "--repair" => options.repair = true,
                _ => return Err(unknown_flag(flag)),
            }
        }
        let repair = |path: &StorePath| {
            repair_path(&self.store, &self.settings, path).map_err(|failure| {
                Error::new(ErrorKind::Build, crate::session::message_of(&failure))
            })
        };
        let report = self.store.verify(&options, Some(&repair))?;
        if report.ok() {
            return Ok(());
        }
        warn("not all store errors were fixed");
        Err(Failure::Exit(1))
    }

    pub(super) fn verify_path(&self) -> Result<(), Failure> {
        self.no_flags()?;
        let mut damaged = false;
        for path in self.all_args()? {
            let text = self.store.print(&path);
            reporter().message(Level::Talkative, &format!("checking path '{text}'..."));
            if let Some(found) = self.store.check_contents(&path)? {
                let expected = self.store.query_path_info(&path)?.nar_hash;
                reporter().finding(&format!(
                    "path '{text}' was modified! expected hash '{}', got '{}'",
                    expected.encode_with_algorithm(HashFormat::Nix32),
                    found.encode_with_algorithm(HashFormat::Nix32)
                ));
                damaged = true;
            }
        }
        match damaged {
            true => Err(Failure::Exit(1)),
            false => Ok(()),
        }
    }

    pub(super) fn repair_path(&self) -> Result<(), Failure> {
        self.no_flags()?;
        self.all_args()?
            .iter()
            .try_for_each(|path| repair_path(&self.store, &self.settings, path))
    }
}

/// Makes a path as it was, by building its deriver again.
///
/// # Errors
/// When nothing is known that made it, or building fails.
pub fn repair_path(
    store: &Arc<LocalStore>,
    settings: &BuildSettings,
    path: &StorePath,
) -> Result<(), Failure> {
    let deriver = store.query_path_info(path)?.deriver;
    let Some(deriver) = deriver.filter(|d| store.is_valid(d).unwrap_or(false)) else {
        return Err(Failure::Other(format!(
            "cannot repair path '{}'",
            store.print(path)
        )));
    };
    let wanted = Wanted::Built(BuildRequest::all(deriver));
    store_access::build(store, settings.clone(), &[wanted], BuildMode::Repair).map(|_| ())
}

/// Links files with the same contents, and says what that freed.
///
/// # Errors
/// When the store cannot be changed.
pub fn optimise(store: &LocalStore) -> Result<(), Failure> {
    let stats = store.optimise()?;
    store_access::info(format!(
        "{} freed by hard-linking {} files",
        render_size(stats.bytes_freed.into()),
        stats.files_linked
    ));
    Ok(())
}

/// Writes paths to standard output.
///
/// # Errors
/// Paths that are not valid or were changed; a reader that has gone away.
pub fn export(store: &LocalStore, paths: &[StorePath]) -> Result<(), Failure> {
    let out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut out = store.export(paths, out)?;
    out.flush()
        .map_err(|e| Failure::Other(format!("writing to standard output: {}", io_text(&e))))
}

/// Takes paths in from standard input, and prints them.
///
/// # Errors
/// Input that is no export.
pub fn import(store: &LocalStore) -> Result<(), Failure> {
    let input = BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    for path in store.import(input)? {
        print(format!("{}\n", store.print(&path)).as_bytes())?;
    }
    Ok(())
}
