//! The one error type of this crate.

use std::fmt;

/// What went wrong, coarsely: enough for a caller to decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name that may not follow the hash part of a store path.
    InvalidName,
    /// Text that is not a store path, or not one of this store.
    InvalidStorePath,
    /// The name of a hash algorithm, hash format or ingestion method that does not exist.
    UnknownMethod,
    /// A hash that cannot be decoded, or is not of the wanted algorithm.
    InvalidHash,
    /// Text that is no key, or no signature.
    InvalidKey,
    /// A derivation that contradicts itself (wrong output path, mixed kinds of output, …).
    InvalidDerivation,
    /// A derivation whose hash is needed but not known.
    UnknownDerivation,
    /// Bytes that are not the ATerm form of a derivation.
    Aterm,
    /// Bytes that are not JSON, or not the JSON form of a derivation.
    Json,
    /// Bytes that are not a Nix archive, or a tree that cannot become one.
    Nar,
    /// Bytes that are not in the format of `nix-store --export`.
    Export,
    /// Bytes that are not in the format of `nix-store --dump-db`.
    Registration,
    /// A tree that cannot be hashed as a Git object.
    Git,
    /// The input ended early.
    UnexpectedEnd,
    /// A limit of this crate was reached (nesting, length).
    Limit,
    /// Something could not be built.
    Build,
    /// A sandbox could not be set up.
    Sandbox,
    /// Somebody asked to stop.
    Cancelled,
    /// A store path that is not valid: not in the database.
    NotValid,
    /// A path that cannot be deleted, since it is alive or others refer to it.
    InUse,
    /// The database of a store cannot be opened, read or written, or holds nonsense.
    Database,
    /// Somebody else holds a lock, and waiting was not wanted.
    Busy,
    /// Contents that differ from what was promised: a hash or a size that does not fit.
    Mismatch,
    /// The store was opened for reading only.
    ReadOnly,
    /// Something that this crate does not do.
    Unsupported,
    /// The underlying reader, writer or file system failed.
    Io(std::io::ErrorKind),
}

/// An error of this crate: kind, message and, for parsers, the byte offset in the input.
///
/// One word wide, so that `Result`s stay small.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    offset: Option<u64>,
    message: String,
    source: Option<std::io::Error>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a place in an input.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            offset: None,
            message: message.into(),
            source: None,
        }))
    }

    /// An error at a byte offset of a parser's input.
    pub fn at(kind: ErrorKind, offset: u64, message: impl Into<String>) -> Error {
        Error::new(kind, message).with_offset(offset)
    }

    /// Sets the offset unless one is known already (the innermost parser knows best).
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Adds where an operating-system error happened.
    pub fn io(context: impl fmt::Display, error: std::io::Error) -> Error {
        Error(Box::new(Inner {
            kind: ErrorKind::Io(error.kind()),
            offset: None,
            message: format!("{context}: {}", io_text(&error)),
            source: Some(error),
        }))
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Byte offset in the parsed input, if a parser made this error.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The message alone, without the offset. Where C++ Nix has a message for the same mistake, it is
    /// worded in the same way, so that scripts which search for it go on working.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error(Box::new(Inner {
            kind: ErrorKind::Io(error.kind()),
            offset: None,
            message: io_text(&error),
            source: Some(error),
        }))
    }
}

/// What the system says of an error, without the number that the standard library puts behind it.
pub fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_string(),
        None => text,
    }
}

/// Bytes for a message: invalid UTF-8 is replaced and long input cut, so that an error stays readable
/// and of bounded size whatever was parsed.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LIMIT: usize = 400;
    if bytes.len() <= LIMIT {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from_utf8_lossy(&bytes[..LIMIT]).into_owned();
    text.push('…');
    text
}
