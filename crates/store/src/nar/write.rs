//! Writing archives, from events or from a source.

use super::{
    CHUNK, MAGIC, MAX_DEPTH, State, bad, check_entry_name, check_target, too_deep, write_string,
    zeros,
};
use crate::error::{Error, Result, excerpt};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Writes an archive from events, checking that they make one: a misuse is an error, and never a bad
/// archive.
#[derive(Debug, Clone)]
pub struct NarWriter<W> {
    out: W,
    state: State,
    /// For each open folder, the name of the last entry.
    folders: Vec<Vec<u8>>,
}

impl<W: Write> NarWriter<W> {
    /// Begins an archive.
    pub fn new(mut out: W) -> Result<NarWriter<W>> {
        write_string(&mut out, MAGIC.as_bytes())?;
        Ok(NarWriter {
            out,
            state: State::Node,
            folders: Vec::new(),
        })
    }

    fn tags(&mut self, tags: &[&str]) -> Result<()> {
        for tag in tags {
            write_string(&mut self.out, tag.as_bytes())?;
        }
        Ok(())
    }

    fn begin_node(&mut self) -> Result<()> {
        if self.state != State::Node {
            return Err(bad("a node cannot be written to the archive here"));
        }
        if self.folders.len() >= MAX_DEPTH {
            return Err(too_deep(None));
        }
        self.tags(&["(", "type"])
    }

    fn end_node(&mut self) -> Result<()> {
        self.tags(&[")"])?;
        if self.folders.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.state = State::Folder;
        // Closes the entry that the node belongs to.
        self.tags(&[")"])
    }

    /// Begins a folder. What follows are its entries, then [`NarWriter::end_directory`].
    pub fn begin_directory(&mut self) -> Result<()> {
        self.begin_node()?;
        self.tags(&["directory"])?;
        self.folders.push(Vec::new());
        self.state = State::Folder;
        Ok(())
    }

    /// Names the entry of the folder that the next node will be. Names must come in order.
    pub fn entry(&mut self, name: &[u8]) -> Result<()> {
        check_entry_name(name)?;
        match self.folders.last_mut() {
            Some(last) if self.state == State::Folder => {
                if name <= last.as_slice() {
                    return Err(bad("NAR directory is not sorted"));
                }
                last.clear();
                last.extend_from_slice(name);
            }
            _ => return Err(bad("an entry cannot be written to the archive here")),
        }
        self.tags(&["entry", "(", "name"])?;
        write_string(&mut self.out, name)?;
        self.tags(&["node"])?;
        self.state = State::Node;
        Ok(())
    }

    /// Ends a folder.
    pub fn end_directory(&mut self) -> Result<()> {
        if self.state != State::Folder || self.folders.pop().is_none() {
            return Err(bad("no folder of the archive can end here"));
        }
        self.end_node()
    }

    /// Writes a symbolic link.
    pub fn symlink(&mut self, target: &[u8]) -> Result<()> {
        check_target(target)?;
        self.begin_node()?;
        self.tags(&["symlink", "target"])?;
        write_string(&mut self.out, target)?;
        self.end_node()
    }

    /// Begins a file of `len` bytes, which [`NarWriter::contents`] is to add.
    pub fn begin_regular(&mut self, executable: bool, len: u64) -> Result<()> {
        self.begin_node()?;
        self.tags(&["regular"])?;
        if executable {
            self.tags(&["executable", ""])?;
        }
        self.tags(&["contents"])?;
        self.out.write_all(&len.to_le_bytes())?;
        self.state = State::File { left: len, len };
        self.end_regular_if_complete()
    }

    /// Adds bytes to the file that was begun. With the last of them, the file ends.
    pub fn contents(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let State::File { left, len } = self.state else {
            return Err(bad("contents cannot be written to the archive here"));
        };
        let Some(left) = left.checked_sub(data.len() as u64) else {
            return Err(bad(format!(
                "file is longer than the {len} bytes announced"
            )));
        };
        self.out.write_all(data)?;
        self.state = State::File { left, len };
        self.end_regular_if_complete()
    }

    fn end_regular_if_complete(&mut self) -> Result<()> {
        if let State::File { left: 0, len } = self.state {
            self.out.write_all(zeros(len))?;
            self.end_node()?;
        }
        Ok(())
    }

    /// Writes a whole file.
    pub fn regular(&mut self, executable: bool, data: &[u8]) -> Result<()> {
        self.begin_regular(executable, data.len() as u64)?;
        self.contents(data)
    }

    /// Gives the writer back; an error when the archive is incomplete.
    pub fn finish(self) -> Result<W> {
        match self.state {
            State::Done => Ok(self.out),
            State::File { left, len } => Err(bad(format!(
                "file is {left} bytes shorter than the {len} bytes announced"
            ))),
            _ => Err(bad("the archive is incomplete")),
        }
    }
}

/// The kinds of nodes that an archive can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A file.
    Regular {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Takes the contents of one file.
pub trait FileSink {
    /// Announces the length. To be called once, before any contents.
    fn begin(&mut self, len: u64) -> Result<()>;

    /// Adds contents.
    fn write(&mut self, data: &[u8]) -> Result<()>;
}

/// A tree of files that can be archived: a real file system, one in memory, one behind a filter, …
///
/// The methods are called in the order in which nodes are archived, depth first and by name, so that a
/// source can have effects (such as calling a filter) in a defined order.
pub trait NarSource {
    /// Stands for a file, folder or link: a path, say.
    type Node;
    /// The source's own errors.
    type Error: From<Error>;

    /// What the node is. The source reports nodes of other kinds (devices, sockets) as errors.
    fn kind(&mut self, node: &Self::Node) -> Result<NodeKind, Self::Error>;

    /// The entries of a folder, in any order.
    #[expect(clippy::type_complexity, reason = "a list of pairs is plain enough")]
    fn read_dir(&mut self, node: &Self::Node) -> Result<Vec<(Vec<u8>, Self::Node)>, Self::Error>;

    /// The target of a symbolic link.
    fn read_link(&mut self, node: &Self::Node) -> Result<Vec<u8>, Self::Error>;

    /// Gives the contents of a file to `out`.
    fn read_file(&mut self, node: &Self::Node, out: &mut dyn FileSink) -> Result<(), Self::Error>;

    /// Whether an entry of a folder is to be archived. Called for each entry just before its turn.
    fn include(&mut self, node: &Self::Node) -> Result<bool, Self::Error> {
        let _ = node;
        Ok(true)
    }

    /// Where a node is, for messages, if that has a name.
    fn place(&self, node: &Self::Node) -> Option<PathBuf> {
        let _ = node;
        None
    }
}

/// Sorts the entries of a folder by name and refuses repeated and impossible names. The last entry
/// comes first, so that entries can be popped.
pub(crate) fn sort_entries<N>(mut entries: Vec<(Vec<u8>, N)>) -> Result<Vec<(Vec<u8>, N)>> {
    entries.sort_by(|a, b| b.0.cmp(&a.0));
    for pair in entries.windows(2) {
        if let [a, b] = pair
            && a.0 == b.0
        {
            return Err(bad(format!(
                "file name '{}' occurs twice in a directory",
                excerpt(&a.0)
            )));
        }
    }
    for (name, _) in &entries {
        check_entry_name(name)?;
    }
    Ok(entries)
}

struct FileInNar<'w, W> {
    nar: &'w mut NarWriter<W>,
    executable: bool,
    begun: bool,
}

impl<W: Write> FileSink for FileInNar<'_, W> {
    fn begin(&mut self, len: u64) -> Result<()> {
        if self.begun {
            return Err(bad("the length of a file was announced twice"));
        }
        self.begun = true;
        self.nar.begin_regular(self.executable, len)
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.nar.contents(data)
    }
}

/// Archives a node of a source and everything below it.
///
/// Entries are visited by name; a folder's list of entries is the only thing held in memory.
pub fn write_nar<S: NarSource, W: Write>(
    source: &mut S,
    root: &S::Node,
    out: W,
) -> Result<W, S::Error> {
    let mut nar = NarWriter::new(out)?;
    let mut folders: Vec<Vec<(Vec<u8>, S::Node)>> = Vec::new();
    folders.extend(write_node(source, root, &mut nar)?);
    while let Some(folder) = folders.last_mut() {
        match folder.pop() {
            None => {
                nar.end_directory()?;
                folders.pop();
            }
            Some((name, node)) => {
                if source.include(&node)? {
                    nar.entry(&name)?;
                    folders.extend(write_node(source, &node, &mut nar)?);
                }
            }
        }
    }
    Ok(nar.finish()?)
}

/// Writes a file or link, or begins a folder and gives its entries.
#[expect(clippy::type_complexity, reason = "private, used once")]
fn write_node<S: NarSource, W: Write>(
    source: &mut S,
    node: &S::Node,
    nar: &mut NarWriter<W>,
) -> Result<Option<Vec<(Vec<u8>, S::Node)>>, S::Error> {
    if nar.folders.len() >= MAX_DEPTH {
        return Err(too_deep(source.place(node).as_deref()).into());
    }
    match source.kind(node)? {
        NodeKind::Directory => {
            nar.begin_directory()?;
            Ok(Some(sort_entries(source.read_dir(node)?)?))
        }
        NodeKind::Symlink => {
            nar.symlink(&source.read_link(node)?)?;
            Ok(None)
        }
        NodeKind::Regular { executable } => {
            let mut file = FileInNar {
                nar,
                executable,
                begun: false,
            };
            source.read_file(node, &mut file)?;
            if !file.begun {
                file.begin(0)?;
            }
            if let State::File { left, len } = nar.state {
                return Err(bad(format!(
                    "file is {left} bytes shorter than the {len} bytes announced"
                ))
                .into());
            }
            Ok(None)
        }
    }
}

/// Copies `len` bytes from a reader to a file of an archive; an error when there are fewer or more.
pub fn copy_file(reader: &mut dyn Read, len: u64, out: &mut dyn FileSink) -> Result<()> {
    out.begin(len)?;
    // A file may hold more than it did when its length was taken: one byte more tells.
    let size = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(1);
    let mut buffer = vec![0; size.min(CHUNK)];
    let mut left = len;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        left = match left.checked_sub(read as u64) {
            Some(0) if read == 0 => return Ok(()),
            Some(_) if read == 0 => {
                return Err(bad(format!(
                    "file is {left} bytes shorter than the {len} bytes announced"
                )));
            }
            Some(left) => left,
            None => {
                return Err(bad(format!(
                    "file is longer than the {len} bytes announced"
                )));
            }
        };
        out.write(buffer.get(..read).unwrap_or(&[]))?;
    }
}

/// The archive of a single file that is not executable, as `builtins.toFile` and text sources have it.
pub fn write_file_nar<W: Write>(data: &[u8], out: W) -> Result<W> {
    let mut nar = NarWriter::new(out)?;
    nar.regular(false, data)?;
    nar.finish()
}
