//! Where the ops of a program stand in its source, compactly.
//!
//! Positions are needed when an error is reported, and there are as many of them as ops: so they are kept in four bytes each
//! instead of twelve, as differences, with a mark every [`STRIDE`] entries where reading can begin.

/// Entries from one mark to the next.
const STRIDE: usize = 32;

/// Op index, start and end of each op that has a place, ascending by op index.
#[derive(Debug, Default)]
pub(crate) struct SpanTable {
    marks: Box<[Mark]>,
    bytes: Box<[u8]>,
}

/// An entry that can be read without those before it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    op: u32,
    /// Start of the entry before, to which the first difference is added.
    start: u32,
    /// Where its bytes begin.
    offset: u32,
}

impl SpanTable {
    /// The table of these entries; `bytes` is a buffer to be used again.
    pub fn new(entries: &[(u32, u32, u32)], bytes: &mut Vec<u8>) -> SpanTable {
        bytes.clear();
        let mut marks = Vec::with_capacity(entries.len().div_ceil(STRIDE));
        let (mut last_op, mut last_start) = (0u32, 0u32);
        for (i, &(op, start, end)) in entries.iter().enumerate() {
            if i % STRIDE == 0 {
                marks.push(Mark {
                    op,
                    start: last_start,
                    offset: bytes.len() as u32,
                });
                last_op = op;
            }
            push(bytes, op.wrapping_sub(last_op));
            let difference = start.wrapping_sub(last_start) as i32;
            push(bytes, (difference << 1 ^ difference >> 31) as u32);
            push(bytes, end.wrapping_sub(start));
            (last_op, last_start) = (op, start);
        }
        SpanTable {
            marks: marks.into(),
            bytes: bytes.as_slice().into(),
        }
    }

    /// Start and end of the last entry whose op index is at most `op`.
    pub fn find(&self, op: u32) -> Option<(u32, u32)> {
        let mark = self.marks.partition_point(|m| m.op <= op).checked_sub(1)?;
        let Mark {
            op: mut at,
            mut start,
            offset,
        } = *self.marks.get(mark)?;
        let end = self.marks.get(mark + 1).map(|next| next.offset as usize);
        let mut bytes = self
            .bytes
            .get(offset as usize..end.unwrap_or(self.bytes.len()))?;
        let mut found = None;
        while !bytes.is_empty() {
            at = at.wrapping_add(pop(&mut bytes));
            if at > op {
                break;
            }
            let difference = pop(&mut bytes);
            start = start.wrapping_add(difference >> 1 ^ (difference & 1).wrapping_neg());
            let len = pop(&mut bytes);
            found = Some((start, start.wrapping_add(len)));
        }
        found
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.marks)
    }
}

/// Appends a number, seven bits a byte, the lowest first.
fn push(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pop(bytes: &mut &[u8]) -> u32 {
    let mut number = 0u32;
    let mut shift = 0;
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found() {
        let entries: Vec<(u32, u32, u32)> = (0..1000u32)
            .map(|i| {
                let start = if i % 7 == 0 {
                    4_000_000_000 - i
                } else {
                    i * 13 % 5000
                };
                (i * 3 + i / 100 * 1000, start, start + i % 300)
            })
            .collect();
        let table = SpanTable::new(&entries, &mut Vec::new());
        for (i, &(op, start, end)) in entries.iter().enumerate() {
            let next = entries.get(i + 1).map_or(op + 5, |e| e.0);
            for op in op..next {
                assert_eq!(table.find(op), Some((start, end)), "{op}");
            }
        }
        let later = SpanTable::new(&[(5, 1, 2)], &mut Vec::new());
        assert_eq!(later.find(4), None);
        assert_eq!(later.find(u32::MAX), Some((1, 2)));
        assert_eq!(SpanTable::new(&[], &mut Vec::new()).find(0), None);
    }
}
