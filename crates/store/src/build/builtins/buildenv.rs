//! `builtin:buildenv`: a tree of links to several packages, which is what a user's profile is.
//!
//! Folders that only one package has are linked as a whole; where two packages have the same folder, it is made and
//! its entries are linked. Of two files with the same name the one of the package with the lower priority number
//! wins; with equal numbers it is an error.

use super::{Context, failure, io_failure, make_dir};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Files that every package may have and no profile wants.
const LEFT_OUT: [&str; 7] = [
    "/propagated-build-inputs",
    "/nix-support",
    "/perllocal.pod",
    "/info/dir",
    "/log",
    "/manifest.nix",
    "/manifest.json",
];

struct Profile<'p, 'c> {
    context: &'p mut Context<'c>,
    priorities: BTreeMap<PathBuf, i64>,
    /// Folders to link, with where and how important; the last one is next.
    todo: Vec<(PathBuf, PathBuf, i64)>,
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| b" \t\n\r".contains(b))
        .filter(|word| !word.is_empty())
}

pub(super) fn run(context: &mut Context<'_>) -> Result<()> {
    let out = context.out()?;
    make_dir(&out)?;
    let list = context.attribute("derivations")?;
    let manifest = context.attribute("manifest")?;
    let mut packages = packages(&list)?;
    packages.sort();
    let mut profile = Profile {
        context,
        priorities: BTreeMap::new(),
        todo: Vec::new(),
    };
    let mut done = BTreeSet::new();
    let mut postponed = BTreeSet::new();
    for (priority, path) in packages {
        profile.add(path, &out, priority, &mut done, &mut postponed)?;
    }
    // What packages ask to be installed with them comes after what the user has asked for.
    let mut priority = 1000;
    while !postponed.is_empty() {
        for path in std::mem::take(&mut postponed) {
            profile.add(path, &out, priority, &mut done, &mut postponed)?;
            priority += 1;
        }
    }
    let link = out.join("manifest.nix");
    symlink(OsStr::from_bytes(&manifest), &link).map_err(io_failure("creating symlink", &link))
}

/// Groups of: whether active, priority, number of outputs, outputs.
fn packages(list: &[u8]) -> Result<Vec<(i64, PathBuf)>> {
    let bad = || failure("the attribute 'derivations' is not a list of packages");
    let number = |word: &[u8]| -> Result<i64> {
        std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse().ok())
            .ok_or_else(bad)
    };
    let mut packages = Vec::new();
    let mut words = words(list);
    while let Some(active) = words.next() {
        let priority = number(words.next().ok_or_else(bad)?)?;
        let outputs = number(words.next().ok_or_else(bad)?)?;
        for _ in 0..outputs {
            let path = words.next().ok_or_else(bad)?;
            if active != b"false" {
                packages.push((priority, PathBuf::from(OsStr::from_bytes(path))));
            }
        }
    }
    Ok(packages)
}

impl Profile<'_, '_> {
    fn add(
        &mut self,
        package: PathBuf,
        out: &Path,
        priority: i64,
        done: &mut BTreeSet<PathBuf>,
        postponed: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        if !done.insert(package.clone()) {
            return Ok(());
        }
        self.todo.push((package.clone(), out.to_owned(), priority));
        while let Some((source, target, priority)) = self.todo.pop() {
            self.link(&source, &target, priority)?;
        }
        let more = package.join("nix-support/propagated-user-env-packages");
        if let Some(more) = self.context.resolve(&more) {
            let more = self.context.real(&more);
            let text = fs::read(&more).map_err(io_failure("reading", &more))?;
            for path in words(&text) {
                let path = PathBuf::from(OsStr::from_bytes(path));
                if !done.contains(&path) {
                    postponed.insert(path);
                }
            }
        }
        Ok(())
    }

    /// Links what is in one folder. Folders that have to be gone into are left for later.
    fn link(&mut self, source: &Path, target: &Path, priority: i64) -> Result<()> {
        self.context.check_cancelled()?;
        let real = match self.context.resolve(source) {
            Some(path) => self.context.real(&path),
            None => self.context.real(source),
        };
        if !real.is_dir() && real.exists() {
            self.context.warn(format!(
                "not including '{}' in the user environment because it's not a directory",
                source.display()
            ));
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&real).map_err(io_failure("reading directory", &real))? {
            names.push(
                entry
                    .map_err(io_failure("reading directory", &real))?
                    .file_name(),
            );
        }
        names.sort();
        for name in names {
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            self.entry(&source.join(&name), &target.join(&name), priority)?;
        }
        Ok(())
    }

    fn entry(&mut self, source: &Path, target: &Path, priority: i64) -> Result<()> {
        let Some(resolved) = self.context.resolve(source) else {
            self.context
                .warn(format!("skipping dangling symlink '{}'", target.display()));
            return Ok(());
        };
        let bytes = source.as_os_str().as_bytes();
        if LEFT_OUT.iter().any(|end| bytes.ends_with(end.as_bytes())) {
            return Ok(());
        }
        let is_dir = self.context.real(&resolved).is_dir();
        let existing = fs::symlink_metadata(target).ok();
        match existing {
            Some(meta) if is_dir && meta.is_dir() => {
                self.todo
                    .push((source.to_owned(), target.to_owned(), priority));
                return Ok(());
            }
            Some(meta) if is_dir && meta.is_symlink() => {
                let old = fs::read_link(target).map_err(io_failure("reading symlink", target))?;
                let old = self.context.resolve(&old).unwrap_or(old);
                if !self.context.real(&old).is_dir() {
                    return Err(failure(format!(
                        "collision between '{}' and non-directory '{}'",
                        source.display(),
                        old.display()
                    )));
                }
                fs::remove_file(target).map_err(io_failure("removing", target))?;
                make_dir(target)?;
                let before = self.priorities.get(target).copied().unwrap_or(0);
                // The last one is next: first what was there.
                self.todo
                    .push((source.to_owned(), target.to_owned(), priority));
                self.todo.push((old, target.to_owned(), before));
                return Ok(());
            }
            Some(meta) if !is_dir && meta.is_symlink() => {
                let before = self.priorities.get(target).copied().unwrap_or(0);
                if before == priority {
                    let old =
                        fs::read_link(target).map_err(io_failure("reading symlink", target))?;
                    return Err(failure(format!(
                        "Unable to build profile. There is a conflict for the following files:\n\n  '{}'\n  '{}'",
                        old.display(),
                        source.display()
                    )));
                }
                if before < priority {
                    return Ok(());
                }
                fs::remove_file(target).map_err(io_failure("removing", target))?;
            }
            Some(meta) if !is_dir && meta.is_dir() => {
                return Err(failure(format!(
                    "collision between non-directory '{}' and directory '{}'",
                    source.display(),
                    target.display()
                )));
            }
            _ => {}
        }
        symlink(source, target).map_err(io_failure("creating symlink", target))?;
        self.priorities.insert(target.to_owned(), priority);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_list_is_an_answer(list in "(true|false|[0-9]{1,2}|-1|99999999999999999999|/a| ){0,12}") {
            if let Ok(packages) = packages(list.as_bytes()) {
                prop_assert!(packages.len() <= list.len());
            }
        }
    }
}
