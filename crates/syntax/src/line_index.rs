//! Lines and columns.

/// A place in a text as people count: both from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct LineColumn {
    /// The line, from 1.
    pub line: u32,
    /// The column in bytes, from 1.
    pub column: u32,
}

/// Finds line and column of byte offsets.
///
/// Lines end in `\n`, `\r\n` or a lone `\r`, and columns count bytes, as in C++ Nix.
#[derive(Clone, Debug)]
pub struct LineIndex {
    /// Offset of each line's first byte; never empty.
    starts: Box<[u32]>,
}

impl LineIndex {
    /// Reads a text once. Offsets past 4 GiB are not indexed.
    pub fn new(source: &[u8]) -> Self {
        let mut starts = vec![0];
        for at in memchr::memchr2_iter(b'\n', b'\r', source) {
            // The `\n` of `\r\n` ends the line.
            if source.get(at) == Some(&b'\r') && source.get(at + 1) == Some(&b'\n') {
                continue;
            }
            match u32::try_from(at + 1) {
                Ok(start) => starts.push(start),
                Err(_) => break,
            }
        }
        LineIndex {
            starts: starts.into_boxed_slice(),
        }
    }

    /// Line and column of a byte offset, in logarithmic time. Offsets past the end count as being on the
    /// last line.
    pub fn line_column(&self, offset: u32) -> LineColumn {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index));
        LineColumn {
            line: line as u32,
            column: offset - start.copied().unwrap_or(0) + 1,
        }
    }

    /// Offset of the first byte of a line (from 1), if there is such a line.
    pub fn line_start(&self, line: u32) -> Option<u32> {
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        self.starts.get(index).copied()
    }

    /// Number of lines: one more than there are line ends.
    pub fn lines(&self) -> u32 {
        self.starts.len() as u32
    }
}
