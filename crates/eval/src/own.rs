//! Paths of the files that belong to the language itself, `<nix/fetchurl.nix>`.
//!
//! They lie in a file tree of their own. A path value of that tree begins with a component that no file of a host can
//! have, since it holds a NUL byte. Programs never see it: what is shown and what strings get leave it out.

use crate::error::{Error, ErrorKind};
use std::borrow::Cow;

/// The root of the tree.
pub const ROOT: &[u8] = b"/\0nix";

/// The path inside the tree: with a slash at its beginning, empty for the root. `None` for all other paths.
pub fn inside(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(ROOT)
        .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The path as a string gets it.
pub fn text(path: &[u8]) -> &[u8] {
    match inside(path) {
        Some(b"") => b"/",
        Some(rest) => rest,
        None => path,
    }
}

/// The path as it is shown: `<nix/fetchurl.nix>`.
pub fn shown(path: &[u8]) -> Cow<'_, [u8]> {
    match inside(path) {
        Some(b"") => Cow::Borrowed(b"<nix/>"),
        Some(rest) => Cow::Owned([b"<nix", rest, b">"].concat()),
        None => Cow::Borrowed(path),
    }
}

/// The error for a path of the tree that would have to lie in the store.
#[cold]
pub fn not_in_store(path: &[u8]) -> Error {
    Error::new(
        ErrorKind::Store,
        format!(
            "cannot copy '{}' to the store: it is a part of this evaluator",
            String::from_utf8_lossy(&shown(path))
        ),
    )
}
