//! The heap: bump-allocated objects, their layouts, and the only raw memory access of the evaluator.
//!
//! Objects are sequences of 8-byte words in blocks that the heap owns; they never move. The tag of a
//! [`Value`] says which layout its object has:
//!
//! | tag | first word | then |
//! |---|---|---|
//! | thunk | code pointer and state (3 bits) | environment, or what the state says |
//! | attribute set | pointer to its [`Shape`] | one value per name, in the shape's order |
//! | … in layers | pointer to the upper set, bit 0 set | the lower set; number of names and of layers |
//! | … sparse | pointer to its shape, bit 2 set | see `sparse` |
//! | … joined | pointer to the set that it was joined to, bit 1 set | nothing of use |
//! | list | length | the elements |
//! | function | kind (8 bits), number of stored arguments, or lambda pointer | see [`FunctionRef`] |
//! | string | length (32 bits), context (31 bits), indirect (1 bit) | the bytes, or a pointer into a buffer |
//! | boxed | kind | float, large integer, path (a string value), external (an index) |
//!
//! Environments (`EnvPtr`) and shapes are not values but live here too. An environment's first word
//! holds its parent (48 bits) and its number of slots (16 bits; 0xffff means that the number is in a
//! second word, before the slots).
//!
//! **Soundness.** All accessors here rely on one invariant: *a `Value` with a pointer tag was made by
//! this module, and its object is still allocated.* Values cannot be forged outside the crate (the
//! word is private), and objects are released only when the heap is dropped or when a collection at a
//! safepoint of the machine finds them unreachable from the machine's stacks and registered roots. Native
//! functions run between safepoints, so a `Value` in a local variable of one is good until it returns.
//!
//! Here is the allocator; `blocks` has the memory itself and its marks, and each kind of object has a module with what
//! makes it and what reads it.

mod attrs;
mod blocks;
mod functions;
mod lists;
mod scalars;
mod sparse;
mod strings;
mod thunks;

pub use attrs::{AttrsIter, AttrsRef, InOrder, Shape};
pub(crate) use attrs::{LAYERED_WORDS, MAX_LAYERS};
pub(crate) use functions::Callee;
pub use functions::FunctionRef;
pub use lists::ListRef;
pub(crate) use sparse::{Origin, SPARSE_FROM, SparseCode};
pub use strings::StringRef;
pub(crate) use thunks::{EnvPtr, ThunkPtr, state};

use crate::context::ContextId;
use crate::value::{Value, tag};
use blocks::{
    BLOCK, Block, FIRST_BLOCK, FITS_RUNS, LARGE, MARK_WORDS, RESERVE, SHORTEST_RUN, can_map,
    map_block, next_bit, refused,
};
use sparse::Side;
use std::num::NonZero;
use std::rc::Rc;

/// Counts that `NIX_SHOW_STATS` prints.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// Thunks created.
    pub thunks: u64,
    /// Suspended selections that could be done at once instead, without a thunk.
    pub avoided: u64,
    /// Calls of functions written in Nix.
    pub function_calls: u64,
    /// Calls of builtins.
    pub primop_calls: u64,
    /// Variable look-ups through `with`.
    pub lookups: u64,
    /// `//` operations.
    pub updates: u64,
    /// Attributes copied by `//`.
    pub update_values_copied: u64,
    /// Environments created.
    pub envs: u64,
    /// Slots in them.
    pub env_slots: u64,
    /// Attribute sets created.
    pub attrsets: u64,
    /// Attributes in them.
    pub attrs: u64,
    /// Lists created.
    pub lists: u64,
    /// Elements in them.
    pub list_elements: u64,
    /// `++` operations.
    pub list_concats: u64,
    /// Strings created while evaluating.
    pub strings: u64,
    /// Shapes created.
    pub shapes: u64,
    /// Bytes handed out before the last collection, rounded up as [`Heap::taken_bytes`] are.
    pub bytes_before: u64,
    /// Time spent in collections.
    pub collecting: std::time::Duration,
}

/// The memory of one evaluator.
pub struct Heap {
    /// Where small objects go: a fresh block or a free run.
    next: usize,
    end: usize,
    /// Where other objects go while `next` is in a free run; equal when it is not.
    fresh: (usize, usize),
    /// In stress mode `end` is kept equal to `next`, and this is the true end.
    stress_end: usize,
    blocks: Vec<Block>,
    /// Where the search for free runs goes on: block and word. At the end of blocks: no more.
    cursor: (usize, usize),
    /// Blocks of the usual size in which nothing is alive, by their places in `blocks`; free runs leave them alone.
    empty: Vec<usize>,
    mapped: usize,
    limit: usize,
    reserve: Option<Block>,
    /// Bytes handed out since the last collection, counted by runs and blocks.
    taken: usize,
    /// Bytes of live objects after the last collection.
    live: usize,
    /// Collections so far.
    pub(crate) collections: u64,
    /// Set when the limit is exceeded; the machine polls it.
    pub(crate) exhausted: bool,
    /// Every object, in allocation order; kept only in stress mode.
    pub(crate) ledger: Option<Vec<(usize, u32)>>,
    pub(crate) empty_attrs: Value,
    pub(crate) empty_list: Value,
    pub(crate) empty_string: Value,
    pub(crate) empty_shape: Shape,
    /// Running counts.
    pub stats: Stats,
    appendable: (usize, usize),
    side: Rc<Side>,
}

/// Asks for the memory at an address, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(addr: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect but on caches; invalid addresses are ignored.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(addr as *const i8);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = addr;
}

/// A word of an object that holds a value.
#[derive(Clone, Copy)]
pub(crate) struct Slot(NonZero<usize>);

impl Slot {
    /// Word `word` of the object at `addr`.
    #[inline(always)]
    pub fn of(addr: usize, word: usize) -> Slot {
        // An object is at no address this small.
        Slot(NonZero::new(addr + word * 8).unwrap_or(NonZero::<usize>::MAX))
    }

    /// The slot that is `count` slots further on in the same object.
    #[inline(always)]
    pub fn after(self, count: usize) -> Slot {
        Slot(self.0.saturating_add(count * 8))
    }

    #[inline(always)]
    pub fn get(self) -> Value {
        Value(read(self.0.get(), 0))
    }

    #[inline(always)]
    pub fn set(self, value: Value) {
        write(self.0.get(), 0, value.0);
    }
}

#[inline(always)]
fn read(addr: usize, word: usize) -> u64 {
    // SAFETY: by the module's invariant `addr` is that of a live object with more than `word` words.
    unsafe { *(addr as *const u64).add(word) }
}

#[inline(always)]
fn write(addr: usize, word: usize, value: u64) {
    // SAFETY: by the module's invariant `addr` is that of a live object with more than `word` words,
    // and no reference to its words exists: accessors copy words out.
    unsafe { *(addr as *mut u64).add(word) = value }
}

/// Asks for an object and its mark; the address need not be valid.
#[inline(always)]
pub(crate) fn prefetch_object(addr: usize) {
    prefetch(addr);
    let (block, at) = (addr & !(BLOCK - 1), addr & (BLOCK - 1));
    prefetch(block.wrapping_sub(MARK_WORDS * 8) + at / 512 * 8);
}

impl Heap {
    /// An empty heap that refuses to grow beyond `limit` bytes.
    pub fn new(limit: usize) -> Heap {
        let mut heap = Heap {
            next: 0,
            end: 0,
            fresh: (0, 0),
            stress_end: 0,
            blocks: Vec::new(),
            cursor: (usize::MAX, 0),
            empty: Vec::new(),
            mapped: 0,
            limit,
            reserve: None,
            taken: 0,
            live: 0,
            collections: 0,
            exhausted: false,
            ledger: None,
            empty_attrs: Value::NULL,
            empty_list: Value::NULL,
            empty_string: Value::NULL,
            empty_shape: Shape(0),
            stats: Stats::default(),
            appendable: (0, 0),
            side: Rc::default(),
        };
        heap.restore_reserve();
        let shape = heap.new_shape_raw(0);
        heap.empty_shape = shape;
        let attrs = heap.alloc(1);
        write(attrs, 0, shape.0 as u64);
        heap.empty_attrs = Value(attrs as u64 | tag::ATTRS);
        let list = heap.alloc(1);
        write(list, 0, 0);
        heap.empty_list = Value(list as u64 | tag::LIST);
        heap.empty_string = heap.string(b"", ContextId::EMPTY);
        heap
    }

    /// Makes sure that there is address space kept back; whether there is.
    pub(crate) fn restore_reserve(&mut self) -> bool {
        if self.reserve.is_none() && can_map(RESERVE) {
            // Mapped, not touched: it costs address space alone.
            let mapped = self.mapped;
            self.map(RESERVE, false, false);
            self.reserve = self.blocks.pop();
            self.mapped = mapped;
        }
        self.reserve.is_some() && self.side.restore_spare()
    }

    /// Thunks created so far.
    pub fn thunks_created(&self) -> u64 {
        self.stats.thunks + self.side.made.get()
    }

    /// Takes over the blocks that sparse sets have begun.
    fn adopt_blocks(&mut self) {
        for block in self.side.take_blocks() {
            self.mapped += block.len;
            self.taken += block.len;
            self.blocks.push(block);
        }
    }

    /// Bytes obtained from the system.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped
    }

    /// Bytes that hold objects, as far as is known: what was alive at the last collection and what was
    /// handed out since.
    pub fn used_bytes(&self) -> usize {
        self.live + self.taken
    }

    /// Bytes handed out since the last collection, rounded up to blocks and free runs.
    pub fn taken_bytes(&self) -> usize {
        self.taken
    }

    /// Bytes handed out in all, freed ones included.
    pub fn total_bytes(&self) -> u64 {
        self.stats.bytes_before + self.taken as u64
    }

    /// How often garbage was collected.
    pub fn collections(&self) -> u64 {
        self.collections
    }

    /// Bytes of the objects that the last collection found alive.
    pub fn live_bytes(&self) -> usize {
        self.live
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are left below the limit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.mapped)
    }

    /// Whether `bytes` more would exceed the limit, or more than the system gives.
    /// `outside` is what is in use beside the heap.
    pub(crate) fn would_exceed(&self, bytes: usize, outside: usize) -> bool {
        self.mapped.saturating_add(bytes).saturating_add(outside) > self.limit
            || bytes > RESERVE && !can_map(bytes)
    }

    /// Reserves an object of `words` words, all zero, and returns its address.
    #[inline(always)]
    fn alloc(&mut self, words: usize) -> usize {
        let start = self.next;
        if words * 8 <= self.end - start {
            self.next = start + words * 8;
            return start;
        }
        self.alloc_slow(words)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&mut self, words: usize) -> usize {
        if self.ledger.is_some() {
            self.end = self.stress_end;
            let addr = self.alloc_unwatched(words);
            self.stress_end = self.end;
            self.end = self.next;
            if let Some(ledger) = &mut self.ledger {
                ledger.push((addr, words as u32));
            }
            return addr;
        }
        self.alloc_unwatched(words)
    }

    fn alloc_unwatched(&mut self, words: usize) -> usize {
        let bytes = words * 8;
        if bytes <= self.end - self.next {
            let start = self.next;
            self.next += bytes;
            return start;
        }
        if bytes > LARGE {
            self.taken += bytes;
            return self.map(bytes.next_multiple_of(4096), true, true);
        }
        if self.cursor.0 < self.blocks.len() {
            if words <= FITS_RUNS {
                if let Some((start, end)) = self.next_run(words.max(SHORTEST_RUN)) {
                    self.next = start + bytes;
                    self.end = end;
                    return start;
                }
            } else {
                let (start, end) = self.fresh;
                if bytes <= end - start {
                    self.fresh.0 += bytes;
                    return start;
                }
                let (start, end) = self.fresh_block();
                self.fresh = (start + bytes, end);
                return start;
            }
        }
        // No free runs (left): what remains of the fresh block, or a new one.
        let (mut start, mut end) = std::mem::take(&mut self.fresh);
        if bytes > end - start {
            (start, end) = self.fresh_block();
        }
        self.next = start + bytes;
        self.end = end;
        start
    }

    fn fresh_block(&mut self) -> (usize, usize) {
        if let Some(block) = self.empty.pop().and_then(|i| self.blocks.get_mut(i)) {
            self.taken += block.len;
            // SAFETY: the whole block belongs to the heap, and no object in it is alive.
            unsafe { std::ptr::write_bytes(block.start as *mut u8, 0, block.len) };
            return (block.start, block.start + block.len);
        }
        let size = if self.blocks.is_empty() {
            FIRST_BLOCK
        } else {
            BLOCK
        };
        self.taken += size;
        let start = self.map(size, false, true);
        (start, start + size)
    }

    /// The next free run of at least `words` words, cleared.
    fn next_run(&mut self, words: usize) -> Option<(usize, usize)> {
        while let Some(block) = self.blocks.get(self.cursor.0) {
            let total = if block.marked { block.len / 8 } else { 0 };
            let mut at = self.cursor.1;
            while at < total {
                // The next clear bit, then the next set one.
                let free = next_bit(block.marks(), at, false);
                if free >= total {
                    break;
                }
                let used = next_bit(block.marks(), free, true).min(total);
                at = used;
                if used - free >= words {
                    self.cursor.1 = used;
                    let start = block.start + free * 8;
                    self.taken += (used - free) * 8;
                    // SAFETY: the words lie in the block and belong to no live object.
                    unsafe { std::ptr::write_bytes(start as *mut u64, 0, used - free) };
                    return Some((start, block.start + used * 8));
                }
            }
            self.cursor = (self.cursor.0 + 1, 0);
        }
        None
    }

    fn map(&mut self, size: usize, large: bool, populate: bool) -> usize {
        self.adopt_blocks();
        self.mapped += size;
        if self.mapped > self.limit {
            self.exhausted = true;
        }
        let block = match map_block(size, large, populate) {
            Some(block) => block,
            None => {
                // The reserve lasts until the machine's next safepoint turns this into an error.
                self.exhausted = true;
                match self.reserve.take() {
                    Some(block) if size <= RESERVE => Block {
                        len: size,
                        large,
                        ..block
                    },
                    _ => refused(),
                }
            }
        };
        let start = block.start;
        self.blocks.push(block);
        start
    }
}
