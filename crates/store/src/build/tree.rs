//! Copying, hashing and moving what builders made.

use super::scan::{ReferenceScanner, Rewriter, Rewrites};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::nar::{FileSystem, MAX_DEPTH, write_nar};
use crate::store_path::StorePath;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What one pass over a tree tells.
#[derive(Debug, Clone)]
pub(super) struct Scanned {
    /// SHA-256 of its archive.
    pub nar_hash: Hash,
    /// Length of its archive.
    pub nar_size: u64,
    /// Which candidates occur in it.
    pub references: BTreeSet<StorePath>,
}

struct Tee(Hasher, ReferenceScanner);

impl Write for Tee {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.update(data);
        self.1.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes a tree and looks for references.
pub(super) fn scan<'p>(
    path: &Path,
    candidates: impl IntoIterator<Item = &'p StorePath>,
) -> Result<Scanned> {
    let tee = Tee(
        Hasher::new(HashAlgorithm::Sha256),
        ReferenceScanner::new(candidates),
    );
    let Tee(hasher, scanner) = write_nar(&mut FileSystem, &FileSystem::node(path), tee)?;
    Ok(Scanned {
        nar_size: hasher.bytes_hashed(),
        nar_hash: hasher.finish(),
        references: scanner.finish(),
    })
}

fn fail(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |e| Error::io(format_args!("{what} '{}'", path.display()), e)
}

/// Copies a tree, hash parts replaced on the way. Modes are those of archives: only the owner's execute bit counts.
/// The copy has no file in common with the original, whoever may still have that open.
pub(super) fn copy(from: &Path, to: &Path, rewrites: &Rewrites) -> Result<()> {
    let mut todo = vec![(from.to_owned(), to.to_owned(), 0)];
    while let Some((from, to, depth)) = todo.pop() {
        let meta = fs::symlink_metadata(&from).map_err(fail("getting status of", &from))?;
        if meta.is_symlink() {
            let target = fs::read_link(&from).map_err(fail("reading symlink", &from))?;
            let target = rewrite_name(target.into_os_string(), rewrites);
            symlink(target, &to).map_err(fail("creating symlink", &to))?;
        } else if meta.is_dir() {
            if depth > MAX_DEPTH {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("'{}' lies too deep", from.display()),
                ));
            }
            fs::create_dir(&to).map_err(fail("creating directory", &to))?;
            for entry in fs::read_dir(&from).map_err(fail("opening directory", &from))? {
                let entry = entry.map_err(fail("reading directory", &from))?;
                let name = rewrite_name(entry.file_name(), rewrites);
                todo.push((entry.path(), to.join(name), depth + 1));
            }
        } else if meta.is_file() {
            copy_file(&from, &to, rewrites)?;
            let mode = 0o644 | (meta.permissions().mode() & 0o100);
            fs::set_permissions(&to, Permissions::from_mode(mode))
                .map_err(fail("setting permissions of", &to))?;
        } else {
            return Err(Error::new(
                ErrorKind::Nar,
                format!("file '{}' has an unsupported type", from.display()),
            ));
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, rewrites: &Rewrites) -> Result<()> {
    if rewrites.is_empty() {
        // Shares blocks on file systems that can.
        return fs::copy(from, to)
            .map(|_| ())
            .map_err(fail("copying", from));
    }
    let mut input = File::open(from).map_err(fail("opening", from))?;
    let output = File::create_new(to).map_err(fail("creating", to))?;
    let mut output = Rewriter::new(rewrites, output);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail("reading", from)(e)),
        };
        output
            .write_all(buffer.get(..n).unwrap_or(&[]))
            .map_err(fail("writing", to))?;
    }
    output.finish().map_err(fail("writing", to))?;
    Ok(())
}

fn rewrite_name(name: OsString, rewrites: &Rewrites) -> OsString {
    if rewrites.is_empty() || name.as_bytes().len() < 32 {
        return name;
    }
    let mut bytes = name.into_vec();
    rewrites.apply(&mut bytes);
    OsString::from_vec(bytes)
}

/// Renames a tree. A folder that its owner may not write is made writable meanwhile, since `..` in it changes.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(from).map_err(fail("getting status of", from))?;
    let mode = meta.permissions().mode();
    let change = meta.is_dir() && mode & 0o200 == 0 && !nix::unistd::geteuid().is_root();
    let set = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(fail("setting permissions of", path))
    };
    if change {
        set(from, mode | 0o200)?;
    }
    fs::rename(from, to).map_err(|e| {
        Error::io(
            format_args!("renaming '{}' to '{}'", from.display(), to.display()),
            e,
        )
    })?;
    if change {
        set(to, mode)?;
    }
    Ok(())
}

/// `path` with something appended to its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether something is there, be it a link that leads nowhere.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
