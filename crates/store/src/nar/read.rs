//! Reading archives as a series of events.

use super::{
    CHUNK, MAGIC, MAX_DEPTH, MAX_NAME_LEN, MAX_TAG_LEN, MAX_TARGET_LEN, NarWriter, State, bad,
    check_entry_name, check_target, ended, read_exact, read_padding, read_string, too_deep,
};
use crate::error::{Error, ErrorKind, Result, excerpt};
use std::io::{self, Read, Write};

/// Copies an archive from a reader to a writer, checking every byte of it on the way. Reads no further
/// than the archive, and gives both back.
pub fn copy_nar<R: Read, W: Write>(input: R, out: W) -> Result<(R, W)> {
    let mut offset = 0;
    copy_nar_at(input, &mut offset, out)
}

/// As [`copy_nar`], for an archive within another format, of which `offset` bytes were read.
pub(crate) fn copy_nar_at<R: Read, W: Write>(input: R, offset: &mut u64, out: W) -> Result<(R, W)> {
    let mut reader = NarReader::new(input);
    reader.offset = *offset;
    let mut writer = NarWriter::new(out)?;
    let mut buffer = vec![0; CHUNK];
    while let Some(event) = reader.next_event()? {
        match event {
            NarEvent::Directory => writer.begin_directory()?,
            NarEvent::EndDirectory => writer.end_directory()?,
            NarEvent::Entry { name } => writer.entry(name)?,
            NarEvent::Symlink { target } => writer.symlink(target)?,
            NarEvent::Regular { executable, len } => {
                writer.begin_regular(executable, len)?;
                loop {
                    let read = reader.read_contents(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    writer.contents(buffer.get(..read).unwrap_or(&[]))?;
                }
            }
        }
    }
    *offset = reader.offset;
    Ok((reader.finish()?, writer.finish()?))
}

/// What a [`NarReader`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NarEvent<'r> {
    /// A file. Its contents can be had from [`NarReader::read_contents`]; what is not read is skipped.
    Regular {
        /// Whether it is executable.
        executable: bool,
        /// Its length in bytes.
        len: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: &'r [u8],
    },
    /// A folder begins.
    Directory,
    /// The node that comes next is the entry of this name in the current folder.
    Entry {
        /// The name: never empty, `.` or `..`, without slash and NUL, and after the one before it.
        name: &'r [u8],
    },
    /// The current folder ends.
    EndDirectory,
}

/// Reads an archive as a series of events, in constant memory and without recursion.
///
/// It reads no further than the end of the archive, so that archives can be embedded in other formats,
/// and makes many small reads: give it a buffered reader.
#[derive(Debug)]
pub struct NarReader<R> {
    input: R,
    offset: u64,
    state: State,
    begun: bool,
    failed: bool,
    folders: Vec<Vec<u8>>,
    target: Vec<u8>,
}

impl<R: Read> NarReader<R> {
    /// Reads an archive from the start.
    pub fn new(input: R) -> NarReader<R> {
        NarReader {
            input,
            offset: 0,
            state: State::Node,
            begun: false,
            failed: false,
            folders: Vec::new(),
            target: Vec::new(),
        }
    }

    /// The number of bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event; `None` once the archive has ended.
    ///
    /// After an error, every call fails.
    pub fn next_event(&mut self) -> Result<Option<NarEvent<'_>>> {
        if self.failed {
            return Err(bad("the archive could not be read"));
        }
        match self.step() {
            Err(e) => {
                self.failed = true;
                Err(e.with_offset(self.offset))
            }
            Ok(Step::Regular { executable, len }) => {
                Ok(Some(NarEvent::Regular { executable, len }))
            }
            Ok(Step::Symlink) => Ok(Some(NarEvent::Symlink {
                target: &self.target,
            })),
            Ok(Step::Directory) => Ok(Some(NarEvent::Directory)),
            Ok(Step::Entry) => Ok(Some(NarEvent::Entry {
                name: self.folders.last().map_or(&[], |name| name),
            })),
            Ok(Step::EndDirectory) => Ok(Some(NarEvent::EndDirectory)),
            Ok(Step::Done) => Ok(None),
        }
    }

    /// Reads contents of the file that the last event announced: as many bytes as fit; zero at its end.
    pub fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.failed {
            return Err(bad("the archive could not be read"));
        }
        let State::File { left, len } = self.state else {
            return Ok(0);
        };
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else {
            return Ok(0);
        };
        if part.is_empty() {
            return Ok(0);
        }
        let read = loop {
            match self.input.read(part) {
                Ok(read) => break read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failed = true;
                    return Err(Error::from(e).with_offset(self.offset));
                }
            }
        };
        if read == 0 {
            self.failed = true;
            return Err(ended(self.offset));
        }
        self.offset += read as u64;
        self.state = State::File {
            left: left.saturating_sub(read as u64),
            len,
        };
        Ok(read)
    }

    /// Gives the reader back, which stands just behind the archive; an error when the archive was not
    /// read to its end.
    pub fn finish(self) -> Result<R> {
        match self.state {
            State::Done if !self.failed => Ok(self.input),
            _ => Err(bad("the archive was not read to its end").with_offset(self.offset)),
        }
    }

    /// Fails unless the archive was read to its end and nothing follows it.
    pub fn finish_at_end(self) -> Result<()> {
        let offset = self.offset;
        let mut input = self.finish()?;
        loop {
            match input.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    return Err(bad("something follows the archive").with_offset(offset));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from(e).with_offset(offset)),
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        if !self.begun {
            let at = self.offset;
            let mut magic = [0; MAGIC.len()];
            let len = self.string(&mut magic).map_err(|e| match e.kind() {
                ErrorKind::Io(_) => e,
                _ => not_an_archive(at),
            })?;
            if magic.get(..len) != Some(MAGIC.as_bytes()) {
                return Err(not_an_archive(at));
            }
            self.begun = true;
        }
        if matches!(self.state, State::File { .. }) {
            self.end_file()?;
        }
        match self.state {
            State::Node => self.node(),
            State::Folder => self.folder(),
            State::File { .. } | State::Done => Ok(Step::Done),
        }
    }

    fn node(&mut self) -> Result<Step> {
        if self.folders.len() >= MAX_DEPTH {
            return Err(too_deep(None));
        }
        self.expect("(")?;
        self.expect("type")?;
        let at = self.offset;
        let (buffer, len) = self.tag()?;
        match buffer.get(..len).unwrap_or(&[]) {
            b"regular" => {
                let mut executable = false;
                let at = self.offset;
                let (mut buffer, mut len) = self.tag()?;
                if buffer.get(..len) == Some(b"executable") {
                    executable = true;
                    self.expect("")?;
                    (buffer, len) = self.tag()?;
                }
                if buffer.get(..len) != Some(b"contents") {
                    return Err(wrong_tag("contents", buffer.get(..len), at));
                }
                let len = self.number()?;
                self.state = State::File { left: len, len };
                Ok(Step::Regular { executable, len })
            }
            b"symlink" => {
                self.expect("target")?;
                let at = self.offset;
                let mut target = std::mem::take(&mut self.target);
                target.resize(MAX_TARGET_LEN, 0);
                let len = self.string(&mut target)?;
                target.truncate(len);
                check_target(&target).map_err(|e| e.with_offset(at))?;
                self.target = target;
                self.end_node()?;
                Ok(Step::Symlink)
            }
            b"directory" => {
                self.folders.push(Vec::new());
                self.state = State::Folder;
                Ok(Step::Directory)
            }
            other => Err(bad(format!("unknown file type '{}'", excerpt(other))).with_offset(at)),
        }
    }

    fn folder(&mut self) -> Result<Step> {
        let at = self.offset;
        let (buffer, len) = self.tag()?;
        match buffer.get(..len).unwrap_or(&[]) {
            b")" => {
                self.folders.pop();
                self.close()?;
                Ok(Step::EndDirectory)
            }
            b"entry" => {
                self.expect("(")?;
                self.expect("name")?;
                let at = self.offset;
                let mut name = [0; MAX_NAME_LEN];
                let len = self.string(&mut name)?;
                let name = name.get(..len).unwrap_or(&[]);
                check_entry_name(name).map_err(|e| e.with_offset(at))?;
                if let Some(last) = self.folders.last_mut() {
                    if name <= last.as_slice() {
                        return Err(bad("NAR directory is not sorted").with_offset(at));
                    }
                    last.clear();
                    last.extend_from_slice(name);
                }
                self.expect("node")?;
                self.state = State::Node;
                Ok(Step::Entry)
            }
            other => Err(wrong_tag("entry' or ')", Some(other), at)),
        }
    }

    /// Skips what is left of a file, and reads what follows the contents.
    fn end_file(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        while let State::File { left, len } = self.state {
            if left > 0 {
                self.read_contents(&mut buffer)?;
            } else {
                self.padding(len)?;
                self.end_node()?;
            }
        }
        Ok(())
    }

    fn end_node(&mut self) -> Result<()> {
        self.expect(")")?;
        self.close()
    }

    /// After a node: closes the entry that it belongs to.
    fn close(&mut self) -> Result<()> {
        if self.folders.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.state = State::Folder;
        self.expect(")")
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        read_exact(&mut self.input, &mut self.offset, buffer)
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn padding(&mut self, len: u64) -> Result<()> {
        read_padding(&mut self.input, &mut self.offset, len)
    }

    /// Reads a string that fits the buffer, and gives its length.
    fn string(&mut self, buffer: &mut [u8]) -> Result<usize> {
        read_string(&mut self.input, &mut self.offset, buffer)
    }

    fn tag(&mut self) -> Result<([u8; MAX_TAG_LEN], usize)> {
        let mut buffer = [0; MAX_TAG_LEN];
        let len = self.string(&mut buffer)?;
        Ok((buffer, len))
    }

    fn expect(&mut self, tag: &str) -> Result<()> {
        let at = self.offset;
        let (buffer, len) = self.tag()?;
        if buffer.get(..len) == Some(tag.as_bytes()) {
            return Ok(());
        }
        Err(wrong_tag(tag, buffer.get(..len), at))
    }
}

enum Step {
    Regular { executable: bool, len: u64 },
    Symlink,
    Directory,
    Entry,
    EndDirectory,
    Done,
}

fn wrong_tag(expected: &str, found: Option<&[u8]>, offset: u64) -> Error {
    let found = excerpt(found.unwrap_or(&[]));
    bad(format!(
        "bad archive: expected tag '{expected}', got '{found}'"
    ))
    .with_offset(offset)
}

fn not_an_archive(offset: u64) -> Error {
    bad("bad archive: input doesn't look like a Nix archive").with_offset(offset)
}
