//! The error of this module tree.

use std::fmt;

/// What went wrong, for callers that treat some failures apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a regular expression.
    InvalidRegex,
    /// The regular expression, or the work to match it, is larger than the limit.
    RegexLimit,
    /// The text is not JSON.
    InvalidJson,
    /// A JSON integer that is valid but has no counterpart in Nix.
    JsonInteger,
    /// A value that JSON cannot carry (a string that is not UTF-8).
    JsonOutput,
    /// The text is not TOML, or holds a value that is not supported.
    InvalidToml,
    /// A NUL byte where a Nix string is to be made.
    NulByte,
}

/// A failure, with the words that C++ Nix has for it where these are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of a kind, with its message (one line, no `error:` in front).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without a leading `error:`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error for a string that would hold a NUL byte.
    pub(crate) fn nul_byte(text: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(text).replace('\0', "␀");
        Error::new(
            ErrorKind::NulByte,
            format!(
                "input string '{shown}' cannot be represented as Nix string because it contains null bytes"
            ),
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
