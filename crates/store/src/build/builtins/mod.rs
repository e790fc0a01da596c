//! Builders inside nivis: what `builtin:NAME` as a builder means.
//!
//! They run in this process, on the thread of their build, since they do nothing but what is written here; they
//! read inputs and write their output in the store's folder, and no isolation is needed for that. Where builds have users of
//! their own, files are reached as one of them. Their only doors to the outside are `builtin:fetchurl`'s, whose result is
//! checked against a hash.

mod buildenv;
mod fetchurl;
mod unpack_channel;

use super::Failed;
use super::environment::{InputRewrites, rewrite};
use super::job::Build;
use super::log::{LogFile, LogLines};
use super::run::Ended;
use super::sandbox::ExitStatus;
use super::users::FilesAs;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Level;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// What a builder of this kind works with.
struct Context<'c> {
    build: &'c Build<'c>,
    rewrites: &'c InputRewrites,
    lines: &'c mut LogLines,
    log: &'c mut LogFile,
    secrets: fetchurl::Secrets,
}

/// Runs the builder that a derivation names. Its failure is told as that of other builders: in the log.
pub(super) fn run(
    build: &Build<'_>,
    rewrites: &InputRewrites,
    lines: &mut LogLines,
    log: &mut LogFile,
) -> Result<Ended, Failed> {
    let builder = build.drv.builder.to_vec();
    let name = builder.strip_prefix(b"builtin:").unwrap_or(&builder);
    let mut context = Context {
        build,
        rewrites,
        lines,
        log,
        secrets: fetchurl::Secrets::read(&build.shared.settings),
    };
    // It may read and write what other builders may.
    let _files = build.user().map(FilesAs::user).transpose()?;
    let result = match name {
        b"fetchurl" => fetchurl::run(&mut context),
        b"unpack-channel" => unpack_channel::run(&mut context),
        b"buildenv" => buildenv::run(&mut context),
        other => Err(failure(format!(
            "unsupported builtin builder '{}'",
            String::from_utf8_lossy(other)
        ))),
    };
    match result {
        Ok(()) => Ok(Ended::Status(ExitStatus::Code(0))),
        Err(_) if build.shared.cancel.is_cancelled() => Ok(Ended::Cancelled),
        Err(e) => {
            context.say(&format!("error: {}", e.message()));
            Ok(Ended::Status(ExitStatus::Code(1)))
        }
    }
}

fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Build, message)
}

fn io_failure(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |e| {
        failure(format!(
            "{what} '{}': {}",
            path.display(),
            super::os_message(&e)
        ))
    }
}

/// Makes a folder that nobody else may write, whatever the caller's umask is: outputs like that are refused.
fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .map_err(io_failure("creating directory", path))
}

impl Context<'_> {
    /// Writes to the build's log.
    fn say(&mut self, text: &str) {
        let text = format!("{text}\n");
        self.lines.write(text.as_bytes());
        self.build
            .shared
            .tell_warning(self.log.write(text.as_bytes()));
    }

    fn warn(&self, text: String) {
        self.build.shared.observer.message(Level::Warn, text);
    }

    /// An attribute, if it is set.
    fn find(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.build.drv.env.get(name.as_bytes())?;
        Some(rewrite(value, self.rewrites))
    }

    /// An attribute.
    fn attribute(&self, name: &str) -> Result<Vec<u8>> {
        self.find(name)
            .ok_or_else(|| failure(format!("attribute '{name}' missing")))
    }

    /// The output `out`: where it is to be written.
    fn out(&self) -> Result<PathBuf> {
        let place = self
            .build
            .scratch
            .get("out")
            .ok_or_else(|| failure("the derivation has no output 'out'"))?;
        Ok(self.build.actual_path(place))
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.build.shared.cancel.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "interrupted by the user")),
            false => Ok(()),
        }
    }

    /// Where a path, which may be one of the store, is on the machine.
    fn real(&self, path: &Path) -> PathBuf {
        let store = &self.build.shared.store;
        match store.store_dir().split(path.as_os_str().as_bytes()) {
            Ok((top, rest)) => {
                let top = store.real_path(&top);
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                match rest.is_empty() {
                    true => top,
                    false => top.join(OsStr::from_bytes(rest)),
                }
            }
            Err(_) => path.to_owned(),
        }
    }

    /// Follows all links in a path of the store, whose targets are such paths too. `None` if it leads nowhere.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let config = self.build.shared.store.config();
        if Path::new(config.store_dir.as_str()) == config.real_store_dir {
            return fs::canonicalize(path).ok();
        }
        let mut left = 40;
        let mut done = PathBuf::from("/");
        let mut todo: Vec<PathBuf> = components(path);
        while let Some(part) = todo.pop() {
            if part.as_os_str() == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            // Folders above the store need not be there.
            let above = Path::new(config.store_dir.as_str()).starts_with(&next);
            match fs::symlink_metadata(self.real(&next)) {
                Ok(meta) if meta.is_symlink() && !above => {
                    left -= 1;
                    if left == 0 {
                        return None;
                    }
                    let target = fs::read_link(self.real(&next)).ok()?;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    todo.extend(components(&target));
                }
                Ok(_) => done = next,
                Err(_) if above => done = next,
                Err(_) => return None,
            }
        }
        Some(done)
    }
}

/// The parts of a path, the last one first.
fn components(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect()
}
