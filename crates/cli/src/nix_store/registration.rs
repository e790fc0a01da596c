//! `nix-store --dump-db`, `--load-db`, `--register-validity` and `--check-validity`.

use super::{Run, unknown_flag};
use crate::session::{Failure, print};
use nivis_store::local::PathInfo;
use nivis_store::nar::FileSystem;
use nivis_store::{Hash, HashAlgorithm, HashFormat, ingest};
use std::io::BufRead;

impl Run {
    pub(super) fn dump_db(&self) -> Result<(), Failure> {
        self.no_flags()?;
        let paths = match self.args.is_empty() {
            true => self.store.query_all_valid()?.into_iter().collect(),
            false => self.all_args()?,
        };
        for path in paths {
            print(self.registration(&self.store.query_path_info(&path)?).as_bytes())?;
        }
        Ok(())
    }

    /// What is known of a path, as `--load-db` reads it.
    fn registration(&self, info: &PathInfo) -> String {
        let mut out = format!(
            "{}\n{}\n{}\n",
            self.store.print(&info.path),
            info.nar_hash.encode(HashFormat::Base16),
            info.nar_size
        );
        if let Some(deriver) = &info.deriver {
            out.push_str(&self.store.print(deriver));
        }
        out.push_str(&format!("\n{}\n", info.references.len()));
        for reference in &info.references {
            out.push_str(&self.store.print(reference));
            out.push('\n');
        }
        out
    }

    pub(super) fn load_db(&self) -> Result<(), Failure> {
        self.no_flags()?;
        self.no_args()?;
        self.register(true, true, false)
    }

    pub(super) fn register_validity(&self) -> Result<(), Failure> {
        let mut again = false;
        let mut hash_given = false;
        for flag in &self.flags {
            match flag.as_str() {
                "--reregister" => again = true,
                "--hash-given" => hash_given = true,
                _ => return Err(unknown_flag(flag)),
            }
        }
        self.no_args()?;
        self.register(again, hash_given, true)
    }

    /// Registers what standard input tells.
    fn register(&self, again: bool, hash_given: bool, canonical: bool) -> Result<(), Failure> {
        let mut lines = std::io::stdin().lock().lines();
        let mut line = || -> Result<Option<String>, Failure> {
            lines
                .next()
                .transpose()
                .map_err(|e| Failure::Other(format!("cannot read standard input: {e}")))
        };
        let dir = self.store.store_dir();
        let mut infos: Vec<PathInfo> = Vec::new();
        while let Some(path) = line()?.filter(|l| !l.is_empty()) {
            let path = dir.parse(&path)?;
            let missing = || Failure::Other("missing input".to_string());
            let number = |text: String| -> Result<u64, Failure> {
                text.parse()
                    .map_err(|_| Failure::Other(format!("'{text}' is no number")))
            };
            let (mut hash, mut size) = (None, 0);
            if hash_given {
                let text = line()?.ok_or_else(missing)?;
                hash = Some(Hash::parse_any(text, Some(HashAlgorithm::Sha256))?);
                size = number(line()?.ok_or_else(missing)?)?;
            }
            let deriver = line()?.ok_or_else(missing)?;
            let count = number(line()?.ok_or_else(missing)?)?;
            let mut references = std::collections::BTreeSet::new();
            for _ in 0..count {
                references.insert(dir.parse(line()?.ok_or_else(missing)?)?);
            }
            if !again && self.store.is_valid(&path)? {
                continue;
            }
            let real = self.store.real_path(&path);
            if canonical {
                self.store.canonicalise(&path)?;
            }
            let hash = match hash {
                Some(hash) => hash,
                None => {
                    let node = FileSystem::node(real);
                    let (hash, bytes) =
                        ingest::nar_hash(&mut FileSystem, &node, HashAlgorithm::Sha256)?;
                    size = bytes;
                    hash
                }
            };
            let mut info = PathInfo::new(path, hash, size);
            info.references = references;
            if !deriver.is_empty() {
                info.deriver = Some(dir.parse(&deriver)?);
            }
            infos.push(info);
        }
        Ok(self.store.register(&infos)?)
    }

    pub(super) fn check_validity(&self) -> Result<(), Failure> {
        let mut print_invalid = false;
        for flag in &self.flags {
            match flag.as_str() {
                "--print-invalid" => print_invalid = true,
                _ => return Err(unknown_flag(flag)),
            }
        }
        for path in self.all_args()? {
            if self.store.is_valid(&path)? {
                continue;
            }
            if !print_invalid {
                return Err(Failure::Other(format!(
                    "path '{}' is not valid",
                    self.store.print(&path)
                )));
            }
            self.say(&path)?;
        }
        Ok(())
    }
}
