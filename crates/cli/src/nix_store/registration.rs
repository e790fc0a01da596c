//! `nix-store --dump-db`, `--load-db`, `--register-validity` and `--check-validity`.

use super::{Run, unknown_flag};
use crate::session::{Failure, print};
use nivis_store::local::LoadOptions;

impl Run {
    pub(super) fn dump_db(&self) -> Result<(), Failure> {
        self.no_flags()?;
        let paths = match self.args.is_empty() {
            true => self.store.query_all_valid()?.into_iter().collect(),
            false => self.all_args()?,
        };
        let mut out = Vec::new();
        self.store.dump_infos(&paths, &mut out)?;
        print(&out)
    }

    pub(super) fn load_db(&self) -> Result<(), Failure> {
        self.no_flags()?;
        self.no_args()?;
        self.load(&LoadOptions {
            reregister: true,
            hash_given: true,
            canonicalise: false,
        })
    }

    pub(super) fn register_validity(&self) -> Result<(), Failure> {
        let mut options = LoadOptions {
            canonicalise: true,
            ..LoadOptions::default()
        };
        for flag in &self.flags {
            match flag.as_str() {
                "--reregister" => options.reregister = true,
                "--hash-given" => options.hash_given = true,
                _ => return Err(unknown_flag(flag)),
            }
        }
        self.no_args()?;
        self.load(&options)
    }

    fn load(&self, options: &LoadOptions) -> Result<(), Failure> {
        Ok(self.store.load_infos(std::io::stdin().lock(), options)?)
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
