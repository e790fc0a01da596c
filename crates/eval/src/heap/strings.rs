//! Strings: bytes in the object itself, or in a buffer that several may share as long as one is the beginning of the other.

use super::{Heap, read, write};
use crate::context::ContextId;
use crate::value::{Value, tag};

const INDIRECT: u64 = 1 << 63;

/// A value known to be a string.
#[derive(Clone, Copy, Debug)]
pub struct StringRef(pub(crate) Value);

impl StringRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    /// Length in bytes.
    #[inline(always)]
    pub fn len(self) -> usize {
        (read(self.0.addr(), 0) & 0xffff_ffff) as usize
    }
    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// The context.
    #[inline(always)]
    pub fn context(self) -> ContextId {
        ContextId((read(self.0.addr(), 0) >> 32) as u32 & 0x7fff_ffff)
    }
    /// The bytes.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        let addr = self.0.addr();
        let head = read(addr, 0);
        let start = if head & INDIRECT != 0 {
            read(addr, 1) as usize
        } else {
            addr + 8
        };
        // SAFETY: a live string has this many initialised bytes there, and they never change.
        unsafe { std::slice::from_raw_parts(start as *const u8, (head & 0xffff_ffff) as usize) }
    }
    /// Words of the string's own object.
    pub(crate) fn words(self) -> usize {
        if read(self.0.addr(), 0) & INDIRECT != 0 {
            2
        } else {
            1 + self.len().div_ceil(8)
        }
    }
    /// The object that holds the bytes, when it is another one, and its words.
    pub(crate) fn buffer(self) -> Option<(usize, usize)> {
        let addr = self.0.addr();
        (read(addr, 0) & INDIRECT != 0).then(|| {
            let buffer = read(addr, 1) as usize - 8;
            // A buffer's first word is its capacity; a string's is its length and context.
            let head = read(buffer, 0);
            let words = if head & INDIRECT != 0 {
                1 + (head & !INDIRECT) as usize / 8
            } else {
                1 + ((head & 0xffff_ffff) as usize).div_ceil(8)
            };
            (buffer, words)
        })
    }
    /// The bytes as text, with replacement characters where they are not UTF-8.
    pub fn to_text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

impl Heap {
    /// A string of at most `u32::MAX` bytes; callers check (see `Machine::check_string`).
    pub fn string(&mut self, bytes: &[u8], context: ContextId) -> Value {
        self.stats.strings += 1;
        let p = self.alloc(1 + bytes.len().div_ceil(8));
        write(p, 0, bytes.len() as u64 | (u64::from(context.0) << 32));
        // SAFETY: the object has room for the bytes after its first word, and is not yet shared.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), (p as *mut u8).add(8), bytes.len());
        }
        Value(p as u64 | tag::STRING)
    }

    /// The concatenation of strings, in time linear in the parts after the first: when the first part
    /// was the last one to be extended, its spare room is used.
    pub fn concat(&mut self, parts: &[Value], total: usize, context: ContextId) -> Value {
        self.stats.strings += 1;
        let Some((&first, rest)) = parts.split_first() else {
            return self.empty_string;
        };
        let head = StringRef(first);
        let head_len = head.len();
        let start = head.bytes().as_ptr() as usize;
        let grows = self.appendable.0 == start + head_len;
        if total < 256 || head_len * 2 < total || !grows {
            let p = self.alloc(1 + total.div_ceil(8));
            write(p, 0, total as u64 | (u64::from(context.0) << 32));
            self.fill(p + 8, 0, parts);
            if total >= 256 {
                // Should it be extended next, it gets a buffer.
                self.appendable = (p + 8 + total, p + 8 + total);
            }
            return Value(p as u64 | tag::STRING);
        }
        // Growing what was made last: share a buffer with spare room, so that a loop of `+` stays linear.
        let (buffer, filled) = if self.appendable.1 - self.appendable.0 >= total - head_len {
            (start, head_len)
        } else {
            let capacity = (total * 2).next_multiple_of(8);
            let buffer = self.alloc(capacity / 8 + 1);
            // The buffer is an object without tag: its first word holds its capacity.
            write(buffer, 0, capacity as u64 | INDIRECT);
            self.fill(buffer + 8, 0, &parts[..1]);
            self.appendable = (0, buffer + 8 + capacity);
            (buffer + 8, head_len)
        };
        self.fill(buffer, filled, rest);
        self.appendable.0 = buffer + total;
        let p = self.alloc(2);
        write(p, 0, total as u64 | (u64::from(context.0) << 32) | INDIRECT);
        write(p, 1, buffer as u64);
        Value(p as u64 | tag::STRING)
    }

    fn fill(&mut self, start: usize, mut at: usize, parts: &[Value]) {
        for part in parts {
            let s = StringRef(*part);
            let bytes = s.bytes();
            // SAFETY: callers reserve the sum of the parts' lengths from `start`; the target is beyond
            // the end of every string that shares the buffer, so the ranges do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), (start + at) as *mut u8, bytes.len());
            }
            at += bytes.len();
        }
    }

    /// The same string with another context.
    pub fn with_context(&mut self, s: StringRef, context: ContextId) -> Value {
        if s.context() == context {
            return s.0;
        }
        let bytes = s.bytes();
        if bytes.len() < 64 {
            return self.string(bytes, context);
        }
        let start = bytes.as_ptr() as u64;
        let len = bytes.len() as u64;
        let p = self.alloc(2);
        write(p, 0, len | (u64::from(context.0) << 32) | INDIRECT);
        write(p, 1, start);
        Value(p as u64 | tag::STRING)
    }
}
