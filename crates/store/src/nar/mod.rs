//! Nix archives (NAR): one file, folder or symbolic link as a stream of bytes, the same for the same
//! contents, whatever the file system.
//!
//! An archive is a sequence of strings, each with its length before it (eight bytes, little end first)
//! and padded with zeros to a multiple of eight bytes:
//!
//! ```text
//! archive   = "nix-archive-1" node
//! node      = "(" "type" ( regular | symlink | directory ) ")"
//! regular   = "regular" [ "executable" "" ] "contents" CONTENTS
//! symlink   = "symlink" "target" TARGET
//! directory = "directory" { "entry" "(" "name" NAME "node" node ")" }
//! ```
//!
//! Entries are sorted by name, bytewise. Nothing else about a file (owner, times, other permissions) is
//! recorded.
//!
//! [`NarWriter`] and [`NarReader`] are the two ends of the format; both hold a constant amount of
//! memory, whatever the archive. [`write_nar`] walks a [`NarSource`], which stands for any kind of file
//! system, real or not.

#[cfg(unix)]
mod fs;
mod read;
#[cfg(test)]
mod tests;
mod write;

#[cfg(unix)]
pub use fs::{FileSystem, FileSystemNode};
pub(crate) use read::copy_nar_at;
pub use read::{NarEvent, NarReader, copy_nar};
pub(crate) use write::sort_entries;
pub use write::{FileSink, NarSource, NarWriter, NodeKind, copy_file, write_file_nar, write_nar};

use crate::error::{Error, ErrorKind, Result, excerpt};
use std::io::{self, Read, Write};
use std::path::Path;

/// How deeply folders may nest: nodes lie at depths 0 to 63, as in C++ Nix.
pub const MAX_DEPTH: usize = 64;

/// The longest name of an entry, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// The longest target of a symbolic link, in bytes.
pub const MAX_TARGET_LEN: usize = 4095;

/// The string that archives begin with.
pub const MAGIC: &str = "nix-archive-1";

// Keywords have at most ten bytes.
const MAX_TAG_LEN: usize = 16;

/// Size of the pieces in which files are copied.
const CHUNK: usize = 128 * 1024;

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Nar, message)
}

/// Fails unless a name may stand in a folder of an archive.
pub fn check_entry_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME_LEN {
        return Err(bad(format!(
            "NAR contains a file name of more than {MAX_NAME_LEN} bytes, '{}'",
            excerpt(name)
        )));
    }
    if name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|b| matches!(b, b'/' | 0))
    {
        return Err(bad(format!(
            "NAR contains invalid file name '{}'",
            excerpt(name)
        )));
    }
    Ok(())
}

fn check_target(target: &[u8]) -> Result<()> {
    if target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_LEN {
        return Err(bad("NAR contains invalid symlink target"));
    }
    Ok(())
}

/// The zero bytes after a string.
fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 8) as usize
}

/// Writes a string of the archive and export formats: length, bytes, zeros.
pub(crate) fn write_string<W: Write + ?Sized>(out: &mut W, text: &[u8]) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text)?;
    out.write_all(zeros(text.len() as u64))
}

fn zeros(len: u64) -> &'static [u8] {
    const ZEROS: [u8; 8] = [0; 8];
    ZEROS.get(..padding(len)).unwrap_or(&[])
}

/// What a writer or reader is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A node comes next.
    Node,
    /// In a folder: an entry or the end comes next.
    Folder,
    /// In a file of `len` bytes, `left` of which are missing.
    File { left: u64, len: u64 },
    /// The root is complete.
    Done,
}

/// The error of folders nested too deeply for an archive, at a place if that is known.
pub(crate) fn too_deep(place: Option<&Path>) -> Error {
    let text = match place {
        Some(path) => format!(
            "path '{}' exceeds maximum NAR directory depth of {MAX_DEPTH}",
            path.display()
        ),
        None => format!("NAR directory nesting exceeds maximum depth of {MAX_DEPTH}"),
    };
    Error::new(ErrorKind::Limit, text)
}

fn ended(offset: u64) -> Error {
    Error::at(ErrorKind::UnexpectedEnd, offset, "unexpected end of input")
}

pub(crate) fn read_exact<R: Read + ?Sized>(
    input: &mut R,
    offset: &mut u64,
    buffer: &mut [u8],
) -> Result<()> {
    input.read_exact(buffer).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ended(*offset),
        _ => Error::from(e).with_offset(*offset),
    })?;
    *offset += buffer.len() as u64;
    Ok(())
}

pub(crate) fn read_padding<R: Read + ?Sized>(
    input: &mut R,
    offset: &mut u64,
    len: u64,
) -> Result<()> {
    let at = *offset;
    let mut buffer = [0; 8];
    let Some(part) = buffer.get_mut(..padding(len)) else {
        return Ok(());
    };
    read_exact(input, offset, part)?;
    if part.iter().any(|b| *b != 0) {
        return Err(bad("non-zero padding").with_offset(at));
    }
    Ok(())
}

/// Reads a string (length, bytes, zeros) that fits the buffer, and gives its length.
pub(crate) fn read_string<R: Read + ?Sized>(
    input: &mut R,
    offset: &mut u64,
    buffer: &mut [u8],
) -> Result<usize> {
    let at = *offset;
    let mut bytes = [0; 8];
    read_exact(input, offset, &mut bytes)?;
    let len = u64::from_le_bytes(bytes);
    let limit = buffer.len();
    let part = usize::try_from(len)
        .ok()
        .and_then(|len| buffer.get_mut(..len));
    let Some(part) = part else {
        return Err(Error::at(
            ErrorKind::Limit,
            at,
            format!("string of {len} bytes is longer than the {limit} bytes allowed here"),
        ));
    };
    read_exact(input, offset, part)?;
    let len = part.len();
    read_padding(input, offset, len as u64)?;
    Ok(len)
}
