//! `builtin:unpack-channel`: a tarball with a single folder, under another name.

use super::{Context, failure, io_failure, make_dir};
use crate::error::Result;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn run(context: &mut Context<'_>) -> Result<()> {
    let out = context.out()?;
    let name = context.attribute("channelName")?;
    let source = context.attribute("src")?;
    let source_text = String::from_utf8_lossy(&source).into_owned();
    if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
        return Err(failure(format!(
            "channelName is not allowed to contain filesystem separators, got {}",
            String::from_utf8_lossy(&name)
        )));
    }
    make_dir(&out)?;
    let source = context.real(Path::new(OsStr::from_bytes(&source)));
    let file = File::open(&source).map_err(io_failure("opening", &source))?;
    let reader = decompress(file).map_err(io_failure("reading", &source))?;
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_mtime(false);
    // Entries that would lie outside are left out.
    archive
        .unpack(&out)
        .map_err(|e| failure(format!("unpacking '{source_text}': {e}")))?;
    let mut entries = fs::read_dir(&out).map_err(io_failure("reading directory", &out))?;
    let only = match entries.next() {
        None => {
            return Err(failure(format!("channel tarball '{source_text}' is empty")));
        }
        Some(entry) => entry.map_err(io_failure("reading directory", &out))?,
    };
    if entries.next().is_some() {
        return Err(failure(format!(
            "channel tarball '{source_text}' contains more than one file"
        )));
    }
    let target = out.join(OsStr::from_bytes(&name));
    fs::rename(only.path(), &target).map_err(|e| {
        failure(format!(
            "failed to rename '{}' to '{}': {e}",
            only.path().display(),
            target.display()
        ))
    })
}

/// Decompresses what begins like a compressed file.
fn decompress(file: File) -> std::io::Result<Box<dyn Read>> {
    let mut reader = BufReader::new(file);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if start.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
    } else {
        Box::new(reader)
    })
}
