//! Positions: one 32-bit number names a byte of any source the evaluator has read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A position, or none (zero). File and offset are found in the [`SourceMap`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct PosId(pub(crate) u32);

impl PosId {
    /// No position.
    pub const NONE: PosId = PosId(0);

    /// Whether there is no position.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// A range of one source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SourceSpan {
    /// Where it starts.
    pub start: PosId,
    /// Its length in bytes.
    pub len: u32,
}

/// Where a source came from.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Origin {
    /// A file, by its absolute path.
    File(PathBuf),
    /// Text given by the user or embedder (`--expr`, a REPL line), with the name to show.
    Text(Arc<str>),
    /// Standard input.
    Stdin,
}

impl Origin {
    /// The name that messages show.
    pub fn name(&self) -> String {
        match self {
            Origin::File(p) => p.display().to_string(),
            Origin::Text(n) => format!("«{n}»"),
            Origin::Stdin => "«stdin»".to_string(),
        }
    }
    /// The path, of a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Origin::File(p) => Some(p),
            _ => None,
        }
    }
}

/// A source known to the evaluator.
#[derive(Clone, Debug)]
pub struct Source {
    base: u32,
    len: u32,
    /// Where it came from.
    pub origin: Origin,
    /// Its text; `None` for files, which are read again when an error shows them.
    pub text: Option<Arc<[u8]>>,
    /// Offsets at which lines start, computed when the first position is asked for.
    lines: std::cell::OnceCell<Option<Vec<u32>>>,
}

/// All sources of one evaluator, by position.
#[derive(Default)]
pub struct SourceMap {
    sources: Vec<Source>,
    next: u32,
}

impl SourceMap {
    /// Registers a source and returns the position of its first byte, or `None` when the sum of all
    /// sources would exceed 4 GiB.
    pub fn add(&mut self, origin: Origin, len: usize, text: Option<Arc<[u8]>>) -> Option<PosId> {
        let base = self.next.max(1);
        let len = u32::try_from(len).ok()?;
        // One more than the length, so that the end of a file has a position of its own.
        self.next = base.checked_add(len)?.checked_add(1)?;
        self.sources.push(Source {
            base,
            len,
            origin,
            text,
            lines: std::cell::OnceCell::new(),
        });
        Some(PosId(base))
    }

    /// The source of a position and the byte offset in it.
    pub fn resolve(&self, pos: PosId) -> Option<(&Source, usize)> {
        if pos.is_none() {
            return None;
        }
        let i = self
            .sources
            .partition_point(|s| s.base <= pos.0)
            .checked_sub(1)?;
        let source = self.sources.get(i)?;
        (pos.0 - source.base <= source.len).then(|| (source, (pos.0 - source.base) as usize))
    }

    /// Line and column (both from 1, columns in bytes) of an offset. `read` fetches the text of a
    /// file; its lines are then remembered.
    pub fn line_column(
        &self,
        source: &Source,
        offset: usize,
        read: impl FnOnce(&Path) -> Option<Vec<u8>>,
    ) -> Option<(u32, u32)> {
        let lines = source.lines.get_or_init(|| {
            let text: Vec<u8> = match &source.text {
                Some(t) => t.to_vec(),
                None => read(source.origin.path()?)?,
            };
            let mut starts = vec![0];
            let mut i = 0;
            while i < text.len() {
                // A line ends with LF, CR LF or a lone CR.
                match text[i] {
                    b'\n' => starts.push(i as u32 + 1),
                    b'\r' if text.get(i + 1) == Some(&b'\n') => {
                        starts.push(i as u32 + 2);
                        i += 1;
                    }
                    b'\r' => starts.push(i as u32 + 1),
                    _ => {}
                }
                i += 1;
            }
            Some(starts)
        });
        let starts = lines.as_ref()?;
        let offset = offset as u32;
        let line = starts.partition_point(|s| *s <= offset);
        let start = line.checked_sub(1).and_then(|l| starts.get(l))?;
        Some((line as u32, offset - start + 1))
    }
}

/// `start` moved by `by` bytes.
pub(crate) fn offset(start: PosId, by: u32) -> PosId {
    PosId(start.0.saturating_add(by))
}
