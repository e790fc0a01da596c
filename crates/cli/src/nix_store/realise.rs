//! `nix-store --realise`.

use super::{Run, unknown_flag};
use crate::session::{Failure, print, warn};
use crate::store_access::{self, Wanted, parse_legacy};
use nivis_store::build::BuildMode;
use nivis_store::{OutputName, StorePath};
use std::collections::BTreeMap;

/// Says that a result has no root.
pub(super) fn warn_of_no_root() {
    warn("you did not specify '--add-root'; the result might be removed by the garbage collector");
}

impl Run {
    pub(super) fn realise(&mut self) -> Result<(), Failure> {
        let mut dry_run = false;
        let mut mode = BuildMode::Normal;
        let mut ignore_unknown = false;
        for flag in std::mem::take(&mut self.flags) {
            match flag.as_str() {
                "--dry-run" => dry_run = true,
                "--repair" => mode = BuildMode::Repair,
                "--check" => mode = BuildMode::Check,
                "--ignore-unknown" => ignore_unknown = true,
                _ => return Err(unknown_flag(&flag)),
            }
        }
        let mut wanted = Vec::new();
        for arg in &self.args {
            wanted.push(parse_legacy(self.store.store_dir(), arg)?);
        }
        let mut missing = crate::missing::find(&self.store, &wanted)?;
        if ignore_unknown {
            wanted.retain(|w| match w {
                Wanted::Path(path) => !missing.unknown.contains(path),
                Wanted::Built(request) => !missing.unknown.contains(request.drv.root()),
            });
            missing.unknown.clear();
        }
        if self.print_missing {
            missing.print(&self.store)?;
        }
        if dry_run {
            return Ok(());
        }
        let built = store_access::build(&self.store, self.settings.clone(), &wanted, mode)?;
        if ignore_unknown {
            return Ok(());
        }
        for (wanted, outputs) in wanted.iter().zip(built) {
            for path in self.rooted(wanted, outputs)? {
                if !self.no_output {
                    print(format!("{path}\n").as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The paths of what was built, or of the links that were made to them; sorted.
    fn rooted(
        &mut self,
        wanted: &Wanted,
        outputs: BTreeMap<OutputName, StorePath>,
    ) -> Result<Vec<String>, Failure> {
        self.roots += 1;
        let outputs = match wanted {
            Wanted::Path(path) => vec![(String::new(), path.clone())],
            Wanted::Built(_) => outputs
                .into_iter()
                .map(|(name, path)| (name.to_string(), path))
                .collect(),
        };
        let mut shown = Vec::new();
        for (output, path) in outputs {
            shown.push(self.root_of(&output, &path)?);
        }
        shown.sort();
        shown.dedup();
        Ok(shown)
    }

    fn root_of(&mut self, output: &str, path: &StorePath) -> Result<String, Failure> {
        let Some(root) = &self.root else {
            if !std::mem::replace(&mut self.no_gc_warning, true) {
                warn_of_no_root();
            }
            return Ok(self.store.print(path));
        };
        let mut name = root.clone().into_os_string();
        if self.roots > 1 {
            name.push(format!("-{}", self.roots));
        }
        if !output.is_empty() && output != "out" {
            name.push(format!("-{output}"));
        }
        let link = self.store.add_perm_root(path, name.as_ref())?;
        Ok(link.display().to_string())
    }
}
