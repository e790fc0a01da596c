//! Blocks of memory: asking the system for them, marks, free runs.

use super::{Heap, read, write};
use crate::value::Value;

pub(super) const FIRST_BLOCK: usize = 1 << 18;

/// Size and alignment of blocks; also the alignment of blocks for single large objects.
pub(super) const BLOCK: usize = 2 << 20;

/// Address space kept back for when the system gives no more.
pub(super) const RESERVE: usize = 8 << 20;

/// Words of the marks that lie right before each block: one bit for each word of the block. Of a block for a large object
/// only the first word of marks is looked at. Being there, they are found with nothing but an object's address.
pub(super) const MARK_WORDS: usize = BLOCK / 64 / 8;

/// Objects larger than this many bytes get a block of their own.
pub(super) const LARGE: usize = 1 << 17;

/// Free runs shorter than this many words are not worth the search; they wait for their neighbours.
pub(super) const SHORTEST_RUN: usize = 8;

/// Objects of at most this many words are put into free runs, larger ones into fresh blocks.
pub(super) const FITS_RUNS: usize = 64;

pub(super) struct Block {
    pub(super) start: usize,
    /// Bytes that objects may use.
    pub(super) len: usize,
    pub(super) mapped: *mut u8,
    pub(super) mapped_len: usize,
    /// Whether it holds one large object.
    pub(super) large: bool,
    /// Whether its marks say which words belonged to live objects at the last collection. They do not in blocks that
    /// are newer, nor in those that the collection found empty.
    pub(super) marked: bool,
}

/// Marking and sweeping; the order of events is in `collect`.
impl Heap {
    /// Prepares for marking: no object is marked.
    pub(crate) fn begin_marking(&mut self) {
        self.adopt_blocks();
        for block in &mut self.blocks {
            block.marks_mut().fill(0);
        }
    }

    /// Marks an object of this heap, of `words` words; whether it was not marked before.
    #[inline]
    pub(crate) fn mark(&mut self, addr: usize, words: usize) -> bool {
        debug_assert!(self.owns(addr));
        let (at, bit) = mark_place(addr);
        let old = read(at, 0);
        if old & 1 << bit != 0 {
            return false;
        }
        if bit + words <= 64 {
            let ones = if words == 64 { !0 } else { (1 << words) - 1 };
            write(at, 0, old | ones << bit);
            return true;
        }
        if words > BLOCK / 8 {
            // Alone in its block, and too long for the marks.
            write(at, 0, old | 1 << bit);
            return true;
        }
        write(at, 0, old | !0 << bit);
        let end = bit + words;
        for i in 1..end / 64 {
            write(at, i, !0);
        }
        if !end.is_multiple_of(64) {
            write(at, end / 64, read(at, end / 64) | ((1 << (end % 64)) - 1));
        }
        true
    }

    /// Whether an object of this heap is marked.
    pub(crate) fn is_marked(&self, addr: usize) -> bool {
        debug_assert!(self.owns(addr));
        let (at, bit) = mark_place(addr);
        read(at, 0) & 1 << bit != 0
    }

    /// Whether an address lies in a block; linear in their number.
    fn owns(&self, addr: usize) -> bool {
        let within = |b: &Block| (b.start..b.start + b.len).contains(&addr);
        self.blocks.iter().any(within)
    }

    /// Ends a collection: unmarked objects are gone, their words are given out again from now on.
    pub(crate) fn finish_marking(&mut self) {
        self.collections += 1;
        self.appendable = (0, 0);
        let mut live = 0;
        let mut mapped = self.mapped;
        self.blocks.retain_mut(|block| {
            let words = block.marks_mut().iter().map(|w| w.count_ones() as usize);
            let words: usize = words.sum();
            if !block.large {
                live += words * 8;
            } else if words > 0 {
                live += block.len;
            } else {
                mapped -= block.len;
                block.unmap();
                return false;
            }
            // Nothing for free runs to look at where nothing is alive.
            block.marked = !block.large && (words > 0 || block.len != BLOCK);
            true
        });
        // Blocks in which nothing is alive are handed out again as fresh ones, for objects of any size.
        self.empty.clear();
        let is_empty = |b: &Block| !b.large && !b.marked;
        let empty = self.blocks.iter().enumerate();
        self.empty
            .extend(empty.filter(|(_, b)| is_empty(b)).map(|(i, _)| i));
        self.mapped = mapped;
        self.live = live;
        self.stats.bytes_before += self.taken as u64;
        self.taken = 0;
        self.exhausted = self.mapped > self.limit && live > self.limit / 4 * 3;
        self.next = 0;
        self.end = 0;
        self.fresh = (0, 0);
        self.cursor = (0, 0);
        self.side.collected();
    }

    /// Instead of [`Heap::finish_marking`], in stress mode: unmarked objects are overwritten and not used again.
    pub(crate) fn poison_unmarked(&mut self) {
        let Some(mut ledger) = self.ledger.take() else {
            return;
        };
        ledger.extend(self.side.watch());
        ledger.retain(|&(addr, words)| {
            if self.is_marked(addr) {
                return true;
            }
            for i in 0..words as usize {
                write(addr, i, Value::POISON.0);
            }
            false
        });
        self.ledger = Some(ledger);
        self.collections += 1;
        self.side.forget();
        self.appendable = (0, 0);
        for block in &mut self.blocks {
            block.marked = false;
        }
    }

    /// Starts the ledger of objects that stress mode needs.
    pub(crate) fn watch(&mut self) {
        if self.ledger.is_none() {
            self.ledger = Some(Vec::new());
            self.side.watch();
            self.stress_end = self.end;
            self.end = self.next;
        }
    }
}

/// Index of the first bit at or after `from` that is set (or clear); the number of bits if there is none.
pub(super) fn next_bit(bits: &[u64], from: usize, set: bool) -> usize {
    let mut word = from / 64;
    let mut skip = from % 64;
    while let Some(&w) = bits.get(word) {
        let w = if set { w } else { !w } & (!0 << skip);
        if w != 0 {
            return word * 64 + w.trailing_zeros() as usize;
        }
        word += 1;
        skip = 0;
    }
    bits.len() * 64
}

/// The same end as that of any allocation of the standard library that the system refuses: the program's allocator, which may
/// have a way to end, is asked for more than there can be.
#[cold]
pub(super) fn refused() -> ! {
    let layout = std::alloc::Layout::from_size_align(isize::MAX as usize & !4095, 1)
        .unwrap_or(std::alloc::Layout::new::<u64>());
    // SAFETY: the size is not zero; what is returned is null, or not used.
    std::hint::black_box(unsafe { std::alloc::alloc(layout) });
    std::alloc::handle_alloc_error(layout)
}

/// A block of zeros; `None` when the system gives none.
pub(super) fn map_block(size: usize, large: bool, populate: bool) -> Option<Block> {
    // Aligned, so that an address says where its marks are, which come first.
    let mapped_len = size + BLOCK + MARK_WORDS * 8;
    let mapped;
    #[cfg(not(miri))]
    {
        // SAFETY: an anonymous private mapping has no preconditions.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return None;
        }
        mapped = p.cast::<u8>();
    }
    #[cfg(miri)]
    {
        // SAFETY: the size is not zero.
        mapped = unsafe {
            std::alloc::alloc_zeroed(std::alloc::Layout::from_size_align_unchecked(
                mapped_len, 4096,
            ))
        };
    }
    let start = (mapped as usize + MARK_WORDS * 8).next_multiple_of(BLOCK);
    #[cfg(all(target_os = "linux", not(miri)))]
    if populate && size >= BLOCK {
        // One call for the whole block instead of a fault for each page. Large pages would be fewer
        // still, but take three times as long when the system has to look for them.
        // SAFETY: the range lies inside the mapping, which it leaves as it is: zero.
        unsafe { libc::madvise(start as *mut _, size, libc::MADV_POPULATE_WRITE) };
    }
    Some(Block {
        start,
        len: size,
        mapped,
        mapped_len,
        large,
        marked: false,
    })
}

/// Whether the system would map this many bytes now.
pub(super) fn can_map(bytes: usize) -> bool {
    #[cfg(not(miri))]
    {
        let Some(len) = bytes
            .checked_add(2 * BLOCK)
            .filter(|l| *l < isize::MAX as usize)
        else {
            return false;
        };
        // SAFETY: an anonymous private mapping without access has no preconditions; it is unmapped at
        // once, with the length it was made with.
        unsafe {
            let p = libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            p != libc::MAP_FAILED && libc::munmap(p, len) == 0
        }
    }
    #[cfg(miri)]
    {
        let _ = bytes;
        true
    }
}

/// The word that holds the mark of an object, and the bit in it.
#[inline(always)]
fn mark_place(addr: usize) -> (usize, usize) {
    let (block, at) = (addr & !(BLOCK - 1), addr & (BLOCK - 1));
    (block - MARK_WORDS * 8 + at / 512 * 8, at / 8 % 64)
}

impl Block {
    /// Words of marks that are looked at.
    fn mark_len(&self) -> usize {
        if self.large {
            1
        } else {
            self.len.div_ceil(512)
        }
    }

    /// One bit per word that belongs to a live object.
    pub(super) fn marks(&self) -> &[u64] {
        // SAFETY: the mapping begins at least `MARK_WORDS` words before `start`, which are kept for this, are
        // initialised (zero at first), and are written only through the heap that owns the block.
        unsafe {
            std::slice::from_raw_parts((self.start as *const u64).sub(MARK_WORDS), self.mark_len())
        }
    }

    fn marks_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `marks`; the block is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(
                (self.start as *mut u64).sub(MARK_WORDS),
                self.mark_len(),
            )
        }
    }

    pub(super) fn unmap(&mut self) {
        #[cfg(not(miri))]
        // SAFETY: the mapping was made by `map` and is unmapped once, when nothing refers to it.
        unsafe {
            libc::munmap(self.mapped.cast(), self.mapped_len);
        }
        #[cfg(miri)]
        // SAFETY: allocated by `map` with this layout.
        unsafe {
            std::alloc::dealloc(
                self.mapped,
                std::alloc::Layout::from_size_align_unchecked(self.mapped_len, 4096),
            );
        }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for block in self.blocks.iter_mut().chain(self.reserve.iter_mut()) {
            block.unmap();
        }
    }
}
