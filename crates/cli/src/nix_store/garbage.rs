//! `nix-store --gc` and `--delete`.

use super::{Run, unknown_flag, usage};
use crate::gc_command::{collect, number_of};
use crate::session::{Failure, print};
use nivis_store::StorePath;
use nivis_store::local::{GcAction, GcOptions};
use std::collections::{BTreeMap, BTreeSet};

impl Run {
    pub(super) fn gc(&mut self) -> Result<(), Failure> {
        let mut print_roots = false;
        let mut options = GcOptions::default();
        let mut limited = false;
        let mut flags = std::mem::take(&mut self.flags).into_iter();
        while let Some(flag) = flags.next() {
            match flag.as_str() {
                "--print-roots" => print_roots = true,
                "--print-live" => options.action = GcAction::ReturnLive,
                "--print-dead" => options.action = GcAction::ReturnDead,
                "--max-freed" => {
                    options.max_freed = number_of(&flag, &flags.next().unwrap_or_default())?;
                    limited = true;
                }
                _ => return Err(usage(format!("bad sub-operation '{flag}' in GC"))),
            }
        }
        self.no_args()?;
        let deletes = matches!(options.action, GcAction::DeleteDead) && !print_roots;
        if limited && !deletes {
            return Err(usage(
                "option --max-freed cannot be combined with --print-live, --print-dead, or --print-roots",
            ));
        }
        if !print_roots {
            return collect(&self.store, &options, false);
        }
        let mut lines = BTreeSet::new();
        for (target, links) in self.find_roots()? {
            for link in links {
                lines.insert((link, target.clone()));
            }
        }
        for (link, target) in lines {
            let target = self.store.print(&target);
            print(format!("{link} -> {target}\n").as_bytes())?;
        }
        Ok(())
    }

    pub(super) fn find_roots(&self) -> Result<BTreeMap<StorePath, Vec<String>>, Failure> {
        let roots = self.store.find_roots(false)?;
        let shown = roots.into_iter().map(|(path, places)| {
            let places = places.into_iter().map(|p| p.to_string()).collect();
            (path, places)
        });
        Ok(shown.collect())
    }

    pub(super) fn delete(&mut self) -> Result<(), Failure> {
        let mut options = GcOptions::default();
        for flag in &self.flags {
            match flag.as_str() {
                "--ignore-liveness" => options.ignore_liveness = true,
                _ => return Err(unknown_flag(flag)),
            }
        }
        options.action = GcAction::DeleteSpecific(self.all_args()?.into_iter().collect());
        collect(&self.store, &options, false)
    }
}
