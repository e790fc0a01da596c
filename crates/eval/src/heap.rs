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

mod sparse;

use crate::code::{Lambda, Op};
use crate::context::ContextId;
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::{Type, Value, tag};
use sparse::Side;
pub(crate) use sparse::{Origin, SPARSE_FROM, SparseCode};
use std::num::NonZero;
use std::rc::Rc;

/// States of a thunk, in the low bits of its first word.
pub(crate) mod state {
    /// Suspended: the word is a code pointer, the payload an environment.
    pub const CODE: u64 = 0;
    /// Evaluated: the payload is the value, never a thunk.
    pub const VALUE: u64 = 1;
    /// Suspended application: the word points to a function object, the payload is its argument.
    pub const APPLY1: u64 = 2;
    /// Suspended application to name and value of an attribute: the word points to a function object, the
    /// payload to a flat set (48 bits) and the attribute's index in it (16 bits).
    pub const APPLY_ATTR: u64 = 3;
    /// Suspended selection: the word points to a thunk, the payload holds symbol and position.
    pub const SELECT: u64 = 4;
    /// Failed: the payload is the index of the error.
    pub const FAILED: u64 = 5;
    /// Being evaluated: the word's pointer is that of the former state, the payload is kept, and the
    /// bits below say which state to go back to when evaluation is cancelled.
    pub const BLACKHOLE_CODE: u64 = 6;
    /// Being evaluated, formerly `APPLY1`, `APPLY_ATTR` or `SELECT`.
    pub const BLACKHOLE_OTHER: u64 = 7;
    pub const MASK: u64 = 7;
}

const FIRST_BLOCK: usize = 1 << 18;
/// Size and alignment of blocks; also the alignment of blocks for single large objects.
const BLOCK: usize = 2 << 20;
/// Address space kept back for when the system gives no more.
const RESERVE: usize = 8 << 20;
/// Words of the marks that lie right before each block: one bit for each word of the block. Of a block for a large object
/// only the first word of marks is looked at. Being there, they are found with nothing but an object's address.
const MARK_WORDS: usize = BLOCK / 64 / 8;
/// Objects larger than this many bytes get a block of their own.
const LARGE: usize = 1 << 17;
/// Free runs shorter than this many words are not worth the search; they wait for their neighbours.
const SHORTEST_RUN: usize = 8;
/// Objects of at most this many words are put into free runs, larger ones into fresh blocks.
const FITS_RUNS: usize = 64;

struct Block {
    start: usize,
    /// Bytes that objects may use.
    len: usize,
    mapped: *mut u8,
    mapped_len: usize,
    /// Whether it holds one large object.
    large: bool,
    /// Whether its marks say which words belonged to live objects at the last collection. They do not in blocks that
    /// are newer, nor in those that the collection found empty.
    marked: bool,
}

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

/// A pointer to an environment; zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct EnvPtr(pub usize);

impl EnvPtr {
    pub const NONE: EnvPtr = EnvPtr(0);
}

/// A pointer to a thunk; zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct ThunkPtr(pub usize);

impl ThunkPtr {
    pub const NONE: ThunkPtr = ThunkPtr(0);
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

    // ---- integers, floats, paths ------------------------------------------------------------------

    /// An integer.
    #[inline(always)]
    pub fn int(&mut self, i: i64) -> Value {
        match Value::small_int(i) {
            Some(v) => v,
            None => self.boxed(boxed::INT, i as u64),
        }
    }

    /// A float.
    pub fn float(&mut self, f: f64) -> Value {
        self.boxed(boxed::FLOAT, f.to_bits())
    }

    /// A path; the bytes must be absolute and canonical.
    pub fn path(&mut self, path: &[u8]) -> Value {
        let s = self.string(path, ContextId::EMPTY);
        self.boxed(boxed::PATH, s.0)
    }

    /// A value of the embedding program, by its index in the evaluator's table.
    pub(crate) fn external(&mut self, index: usize) -> Value {
        self.boxed(boxed::EXTERNAL, index as u64)
    }

    fn boxed(&mut self, kind: u64, payload: u64) -> Value {
        let p = self.alloc(2);
        write(p, 0, kind);
        write(p, 1, payload);
        Value(p as u64 | tag::BOXED)
    }

    // ---- strings ----------------------------------------------------------------------------------

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

    // ---- lists ------------------------------------------------------------------------------------

    /// A list of the given elements.
    pub fn list(&mut self, items: &[Value]) -> Value {
        if items.is_empty() {
            return self.empty_list;
        }
        let v = self.list_uninit(items.len());
        // SAFETY: the list has room for `items`, and is not yet shared.
        unsafe {
            std::ptr::copy_nonoverlapping(
                items.as_ptr(),
                ((v.addr()) as *mut Value).add(1),
                items.len(),
            );
        }
        v
    }

    /// A list whose elements are set with [`Heap::list_init`] before anything else happens.
    pub(crate) fn list_uninit(&mut self, len: usize) -> Value {
        self.stats.lists += 1;
        self.stats.list_elements += len as u64;
        let p = self.alloc(1 + len);
        write(p, 0, len as u64);
        Value(p as u64 | tag::LIST)
    }

    #[inline(always)]
    pub(crate) fn list_init(&mut self, list: Value, index: usize, item: Value) {
        write(list.addr(), 1 + index, item.0);
    }

    /// A list that joins lists.
    pub fn concat_lists(&mut self, lists: &[Value]) -> Value {
        let total: usize = lists.iter().map(|l| ListRef(*l).len()).sum();
        if total == 0 {
            return self.empty_list;
        }
        if let Some(only) = lists.iter().find(|l| ListRef(**l).len() == total) {
            return *only;
        }
        let v = self.list_uninit(total);
        let mut at = v.addr() + 8;
        for l in lists {
            let len = ListRef(*l).len();
            // SAFETY: both ranges lie inside live lists; the target is not yet shared.
            unsafe {
                std::ptr::copy_nonoverlapping((l.addr() + 8) as *const u64, at as *mut u64, len);
            }
            at += len * 8;
        }
        v
    }

    // ---- attribute sets ---------------------------------------------------------------------------

    fn new_shape_raw(&mut self, len: usize) -> Shape {
        self.stats.shapes += 1;
        let p = self.alloc(Shape::HEADER + len);
        write(p, 0, len as u64);
        Shape(p)
    }

    /// A shape with the given names, strictly increasing by symbol.
    pub(crate) fn shape(
        &mut self,
        entries: impl ExactSizeIterator<Item = (Symbol, PosId)>,
    ) -> Shape {
        let len = entries.len();
        if len == 0 {
            return self.empty_shape;
        }
        let shape = self.new_shape_raw(len);
        for (i, (symbol, pos)) in entries.enumerate() {
            shape.set(i, symbol, pos);
        }
        shape
    }

    /// A shape to be filled with [`Shape::set`], in increasing order of symbols.
    pub(crate) fn shape_uninit(&mut self, len: usize) -> Shape {
        if len == 0 {
            self.empty_shape
        } else {
            self.new_shape_raw(len)
        }
    }

    /// An attribute set of the given shape; `values` in the shape's order.
    pub(crate) fn attrs_of_shape(&mut self, shape: Shape, values: &[Value]) -> Value {
        if values.is_empty() {
            return self.empty_attrs;
        }
        let v = self.attrs_uninit(shape, values.len());
        // SAFETY: the set has room for `values`, and is not yet shared.
        unsafe {
            std::ptr::copy_nonoverlapping(
                values.as_ptr(),
                (v.addr() as *mut Value).add(1),
                values.len(),
            );
        }
        v
    }

    pub(crate) fn attrs_uninit(&mut self, shape: Shape, len: usize) -> Value {
        if len == 0 {
            return self.empty_attrs;
        }
        self.stats.attrsets += 1;
        self.stats.attrs += len as u64;
        let p = self.alloc(1 + len);
        write(p, 0, shape.0 as u64);
        Value(p as u64 | tag::ATTRS)
    }

    #[inline(always)]
    pub(crate) fn attrs_init(&mut self, attrs: Value, index: usize, value: Value) {
        write(attrs.addr(), 1 + index, value.0);
    }

    /// Copies `count` values from `from[at..]` to `to[to_at..]`, where `to` is not yet shared.
    #[inline(always)]
    pub(crate) fn attrs_copy(
        &mut self,
        to: Value,
        to_at: usize,
        from: AttrsRef,
        at: usize,
        count: usize,
    ) {
        // SAFETY: callers stay within both sets; `to` was just allocated, so they do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (from.0.addr() as *const u64).add(1 + at),
                (to.addr() as *mut u64).add(1 + to_at),
                count,
            );
        }
    }

    // ---- functions --------------------------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn closure(&mut self, lambda: *const Lambda, env: EnvPtr) -> Value {
        let p = self.alloc(2);
        write(p, 0, lambda as u64 | function::CLOSURE);
        write(p, 1, env.0 as u64);
        Value(p as u64 | tag::FUNCTION)
    }

    pub(crate) fn primop(&mut self, index: u32) -> Value {
        let p = self.alloc(2);
        write(p, 0, function::PRIMOP);
        write(p, 1, u64::from(index));
        Value(p as u64 | tag::FUNCTION)
    }

    /// A function that still lacks arguments: `callee` is a closure or primop.
    pub(crate) fn partial(&mut self, callee: Value, args: &[Value]) -> Value {
        let p = self.alloc(2 + args.len());
        write(p, 0, function::PARTIAL | (args.len() as u64) << 3);
        write(p, 1, callee.0);
        for (i, arg) in args.iter().enumerate() {
            write(p, 2 + i, arg.0);
        }
        Value(p as u64 | tag::FUNCTION)
    }

    /// The same function with an identity of its own.
    ///
    /// Inside lists and sets a function equals itself, where that is the same place in memory: every thunk, every selection
    /// in a list, in an argument or of an `inherit` is such a place.
    #[cold]
    #[inline(never)]
    pub(crate) fn copy_function(&mut self, function: Value) -> Value {
        let words = match FunctionRef(function).callee() {
            Callee::Partial => 2 + FunctionRef(function).partial_len(),
            _ => 2,
        };
        let p = self.alloc(words);
        for i in 0..words {
            write(p, i, read(function.addr(), i));
        }
        Value(p as u64 | tag::FUNCTION)
    }

    // ---- environments and thunks ------------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn env(&mut self, parent: EnvPtr, slots: usize) -> EnvPtr {
        self.stats.envs += 1;
        self.stats.env_slots += slots as u64;
        if slots < 0xffff {
            let p = self.alloc(1 + slots);
            write(p, 0, parent.0 as u64 | (slots as u64) << 48);
            EnvPtr(p)
        } else {
            // The slots follow the number, so that slot addresses do not depend on the size.
            let p = self.alloc(2 + slots);
            write(p, 0, slots as u64);
            write(p, 1, parent.0 as u64 | 0xffff << 48);
            EnvPtr(p + 8)
        }
    }

    #[inline(always)]
    pub(crate) fn thunk(&mut self, code: *const Op, env: EnvPtr) -> Value {
        self.stats.thunks += 1;
        let p = self.alloc(2);
        write(p, 0, code as u64 | state::CODE);
        write(p, 1, env.0 as u64);
        Value(p as u64)
    }

    /// The suspended application of a function object (not a thunk, not a functor) to one argument.
    pub(crate) fn apply_thunk(&mut self, function: Value, arg: Value) -> Value {
        debug_assert!(function.is_function());
        self.stats.thunks += 1;
        let p = self.alloc(2);
        write(p, 0, function.addr() as u64 | state::APPLY1);
        write(p, 1, arg.0);
        Value(p as u64)
    }

    /// The suspended application of a function object to name and value of the attribute at `index` of a
    /// flat set; `None` when the index is too large to be kept.
    pub(crate) fn apply_attr_thunk(
        &mut self,
        function: Value,
        attrs: AttrsRef,
        index: usize,
    ) -> Option<Value> {
        debug_assert!(function.is_function());
        let index = u16::try_from(index).ok()?;
        self.stats.thunks += 1;
        let p = self.alloc(2);
        write(p, 0, function.addr() as u64 | state::APPLY_ATTR);
        write(p, 1, attrs.0.addr() as u64 | u64::from(index) << 48);
        Some(Value(p as u64))
    }

    /// A thunk that is evaluated already, where one is needed to point to.
    pub(crate) fn evaluated_thunk(&mut self, value: Value) -> Value {
        let p = self.alloc(2);
        write(p, 0, state::VALUE);
        write(p, 1, value.0);
        Value(p as u64)
    }

    /// The suspended selection of `symbol` from the value of an unevaluated thunk.
    pub(crate) fn select_thunk(&mut self, set: Value, symbol: Symbol, pos: PosId) -> Value {
        debug_assert!(set.is_thunk());
        self.stats.thunks += 1;
        let p = self.alloc(2);
        write(p, 0, set.addr() as u64 | state::SELECT);
        write(p, 1, u64::from(symbol.0) | u64::from(pos.0) << 32);
        Value(p as u64)
    }
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
fn next_bit(bits: &[u64], from: usize, set: bool) -> usize {
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
fn refused() -> ! {
    let layout = std::alloc::Layout::from_size_align(isize::MAX as usize & !4095, 1)
        .unwrap_or(std::alloc::Layout::new::<u64>());
    // SAFETY: the size is not zero; what is returned is null, or not used.
    std::hint::black_box(unsafe { std::alloc::alloc(layout) });
    std::alloc::handle_alloc_error(layout)
}

/// A block of zeros; `None` when the system gives none.
fn map_block(size: usize, large: bool, populate: bool) -> Option<Block> {
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
fn can_map(bytes: usize) -> bool {
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

/// Asks for an object and its mark; the address need not be valid.
#[inline(always)]
pub(crate) fn prefetch_object(addr: usize) {
    prefetch(addr);
    let (block, at) = (addr & !(BLOCK - 1), addr & (BLOCK - 1));
    prefetch(block.wrapping_sub(MARK_WORDS * 8) + at / 512 * 8);
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
    fn marks(&self) -> &[u64] {
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

    fn unmap(&mut self) {
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

const INDIRECT: u64 = 1 << 63;

pub(crate) mod boxed {
    pub const FLOAT: u64 = 0;
    pub const INT: u64 = 1;
    pub const PATH: u64 = 2;
    pub const EXTERNAL: u64 = 3;
}

pub(crate) mod function {
    pub const CLOSURE: u64 = 0;
    pub const PRIMOP: u64 = 1;
    pub const PARTIAL: u64 = 2;
    pub const MASK: u64 = 7;
}

// ---- environments ---------------------------------------------------------------------------------

impl EnvPtr {
    #[inline(always)]
    pub fn parent(self) -> EnvPtr {
        EnvPtr((read(self.0, 0) & 0xffff_ffff_ffff) as usize)
    }

    #[inline(always)]
    pub fn ancestor(self, depth: usize) -> EnvPtr {
        let mut env = self;
        for _ in 0..depth {
            env = env.parent();
        }
        env
    }

    #[inline(always)]
    pub fn get(self, slot: usize) -> Value {
        Value(read(self.0, 1 + slot))
    }

    #[inline(always)]
    pub fn set(self, slot: usize, value: Value) {
        write(self.0, 1 + slot, value.0);
    }

    pub fn len(self) -> usize {
        match (read(self.0, 0) >> 48) as usize {
            0xffff => read(self.0 - 8, 0) as usize,
            n => n,
        }
    }
}

// ---- thunks ---------------------------------------------------------------------------------------

impl ThunkPtr {
    #[inline(always)]
    pub fn of(v: Value) -> ThunkPtr {
        debug_assert!(v.is_thunk());
        ThunkPtr(v.addr())
    }
    #[inline(always)]
    pub fn head(self) -> u64 {
        read(self.0, 0)
    }
    #[inline(always)]
    pub fn payload(self) -> u64 {
        read(self.0, 1)
    }
    /// Set and index that the payload of `APPLY_ATTR` holds.
    pub fn payload_attr(self) -> (AttrsRef, usize) {
        let payload = self.payload();
        let set = Value(payload & 0xffff_ffff_ffff | tag::ATTRS);
        (AttrsRef(set), (payload >> 48) as usize)
    }
    /// The value, if evaluated.
    #[inline(always)]
    pub fn value(self) -> Option<Value> {
        (self.head() == state::VALUE).then(|| Value(self.payload()))
    }
    #[inline(always)]
    pub fn set_head(self, head: u64) {
        write(self.0, 0, head);
    }
    #[inline(always)]
    pub fn set_value(self, v: Value) {
        debug_assert!(!v.is_thunk());
        write(self.0, 1, v.0);
        write(self.0, 0, state::VALUE);
    }
    pub fn set_failed(self, error: usize) {
        write(self.0, 1, error as u64);
        write(self.0, 0, state::FAILED);
    }
}

impl Value {
    /// Follows an evaluated thunk to its value; an unevaluated one stays itself.
    #[inline(always)]
    pub fn resolved(self) -> Value {
        if self.is_thunk() && self.0 != 0 {
            ThunkPtr::of(self).value().unwrap_or(self)
        } else {
            self
        }
    }

    /// The type; an evaluated thunk has that of its value.
    pub fn type_of(self) -> Type {
        let v = self.resolved();
        match v.tag() {
            tag::THUNK => Type::Thunk,
            tag::INT => Type::Int,
            tag::ATTRS => Type::Attrs,
            tag::LIST => Type::List,
            tag::FUNCTION => Type::Function,
            tag::STRING => Type::String,
            tag::BOXED => match read(v.addr(), 0) {
                boxed::FLOAT => Type::Float,
                boxed::INT => Type::Int,
                boxed::PATH => Type::Path,
                _ => Type::External,
            },
            _ if v.is_null() => Type::Null,
            _ => Type::Bool,
        }
    }

    /// The integer, if it is one.
    #[inline(always)]
    pub fn as_int(self) -> Option<i64> {
        if self.tag() == tag::INT {
            Some((self.0 as i64) >> 3)
        } else if self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::INT {
            Some(read(self.addr(), 1) as i64)
        } else {
            None
        }
    }

    /// The float, if it is one (an integer is not).
    #[inline(always)]
    pub fn as_float(self) -> Option<f64> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::FLOAT)
            .then(|| f64::from_bits(read(self.addr(), 1)))
    }

    /// The path's bytes as a string without context, if it is a path.
    #[inline(always)]
    pub fn as_path(self) -> Option<StringRef> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::PATH)
            .then(|| StringRef(Value(read(self.addr(), 1))))
    }

    pub(crate) fn as_external(self) -> Option<usize> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::EXTERNAL)
            .then(|| read(self.addr(), 1) as usize)
    }

    /// The string, if it is one.
    #[inline(always)]
    pub fn as_string(self) -> Option<StringRef> {
        self.is_string().then_some(StringRef(self))
    }

    /// The list, if it is one.
    #[inline(always)]
    pub fn as_list(self) -> Option<ListRef> {
        self.is_list().then_some(ListRef(self))
    }

    /// The attribute set, if it is one.
    #[inline(always)]
    pub fn as_attrs(self) -> Option<AttrsRef> {
        self.is_attrs().then_some(AttrsRef(self))
    }

    /// The function, if it is one.
    #[inline(always)]
    pub fn as_function(self) -> Option<FunctionRef> {
        self.is_function().then_some(FunctionRef(self))
    }
}

// ---- references to objects ------------------------------------------------------------------------

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

/// A value known to be a list.
#[derive(Clone, Copy, Debug)]
pub struct ListRef(pub(crate) Value);

impl ListRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    /// Number of elements.
    #[inline(always)]
    pub fn len(self) -> usize {
        read(self.0.addr(), 0) as usize
    }
    /// Whether it has no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// The element at `index`; an evaluated thunk is followed. `None` beyond the end.
    #[inline(always)]
    pub fn get(self, index: usize) -> Option<Value> {
        (index < self.len()).then(|| Value(read(self.0.addr(), 1 + index)).resolved())
    }
    /// The element as it is stored. An evaluated thunk is not followed: it tells apart places that hold the same list.
    pub fn slot(self, index: usize) -> Option<Value> {
        (index < self.len()).then(|| Value(read(self.0.addr(), 1 + index)))
    }
    /// The elements, as [`ListRef::get`] gives them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Value> {
        (0..self.len()).map(move |i| Value(read(self.0.addr(), 1 + i)).resolved())
    }
}

/// The sorted names (and positions) that attribute sets built alike share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape(pub(crate) usize);

impl Shape {
    /// Words before the names: length and flags; pointer to the order by name.
    const HEADER: usize = 2;
    const STATIC: u64 = 1 << 32;

    /// Number of names.
    #[inline(always)]
    pub fn len(self) -> usize {
        (read(self.0, 0) & 0xffff_ffff) as usize
    }
    /// Whether there are no names.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// Whether it comes from the program's text, so that transitions from it are worth keeping.
    pub(crate) fn is_static(self) -> bool {
        read(self.0, 0) & Shape::STATIC != 0
    }
    pub(crate) fn set_static(self) {
        write(self.0, 0, read(self.0, 0) | Shape::STATIC);
    }
    #[inline(always)]
    pub(crate) fn set(self, index: usize, symbol: Symbol, pos: PosId) {
        write(
            self.0,
            Shape::HEADER + index,
            u64::from(symbol.0) | u64::from(pos.0) << 32,
        );
    }
    #[inline(always)]
    pub(crate) fn symbol(self, index: usize) -> Symbol {
        Symbol(read(self.0, Shape::HEADER + index) as u32)
    }
    #[inline(always)]
    pub(crate) fn pos(self, index: usize) -> PosId {
        PosId((read(self.0, Shape::HEADER + index) >> 32) as u32)
    }
    #[inline(always)]
    pub(crate) fn entry(self, index: usize) -> (Symbol, PosId) {
        let w = read(self.0, Shape::HEADER + index);
        (Symbol(w as u32), PosId((w >> 32) as u32))
    }
    /// Copies entries from another shape into this one, which is not yet shared.
    pub(crate) fn copy(self, at: usize, from: Shape, from_at: usize, count: usize) {
        // SAFETY: callers stay within both shapes, which are distinct objects.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (from.0 as *const u64).add(Shape::HEADER + from_at),
                (self.0 as *mut u64).add(Shape::HEADER + at),
                count,
            );
        }
    }
    /// Index of a name, in logarithmic time.
    #[inline]
    pub(crate) fn find(self, symbol: Symbol) -> Option<usize> {
        self.lower_bound(0, symbol).ok()
    }
    /// Index of a name at or after `from`, or the index where it would be.
    #[inline]
    pub(crate) fn lower_bound(self, from: usize, symbol: Symbol) -> Result<usize, usize> {
        let (mut low, mut high) = (from, self.len());
        while low < high {
            let mid = (low + high) / 2;
            match self.symbol(mid).cmp(&symbol) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
                std::cmp::Ordering::Equal => return Ok(mid),
            }
        }
        Err(low)
    }
    /// Words of the object.
    pub(crate) fn words(self) -> usize {
        Shape::HEADER + self.len()
    }
    /// Takes over the order by name, if it was computed, of a shape with the same names.
    pub(crate) fn share_order(self, from: Shape) {
        write(self.0, 1, read(from.0, 1));
    }
    /// The order by name, if it was computed.
    pub(crate) fn order(self) -> Option<&'static [u32]> {
        let p = read(self.0, 1) as usize;
        // SAFETY: `Heap::set_order` stored the address of `len` initialised `u32`s in the heap. The
        // lifetime is the heap's; callers (one, in `Evaluator::sorted`) do not let it escape.
        (p != 0).then(|| unsafe { std::slice::from_raw_parts(p as *const u32, self.len()) })
    }
}

/// The attributes of a set in the order of their names: what [`Machine::in_order`](crate::Machine::in_order) gives. As any
/// value, it must not be held across what may evaluate or collect.
#[derive(Clone, Copy, Debug)]
pub struct InOrder(pub(crate) AttrsRef);

impl InOrder {
    /// Symbol, value and position of the attribute at an index.
    #[inline]
    pub fn get(self, index: usize) -> Option<(Symbol, Value, PosId)> {
        let shape = self.0.shape();
        if index >= shape.len() {
            return None;
        }
        let at = shape.order().map_or(index, |o| o[index] as usize);
        Some((shape.symbol(at), self.0.at(at), self.0.position_at(at)))
    }
}

impl Heap {
    pub(crate) fn set_order(&mut self, shape: Shape, order: &[u32]) {
        let p = self.alloc(order.len().div_ceil(2));
        // SAFETY: just allocated with room for `order.len()` `u32`s.
        unsafe { std::ptr::copy_nonoverlapping(order.as_ptr(), p as *mut u32, order.len()) };
        write(shape.0, 1, p as u64);
    }
}

/// Where the attribute of a name is: which of several flat sets, and which index in it; ordered by symbol.
#[derive(Clone, Copy)]
struct Place {
    symbol: Symbol,
    layer: u32,
    index: u32,
}

impl Place {
    /// The names of two rows, each where the upper one has it, if it does.
    fn merge(upper: &[Place], lower: &[Place]) -> Vec<Place> {
        let mut merged = Vec::with_capacity(upper.len() + lower.len());
        let (mut upper, mut lower) = (upper, lower);
        while let (Some((a, above)), Some((b, below))) = (upper.split_first(), lower.split_first())
        {
            match a.symbol.cmp(&b.symbol) {
                std::cmp::Ordering::Less => {
                    merged.push(*a);
                    upper = above;
                }
                std::cmp::Ordering::Greater => {
                    merged.push(*b);
                    lower = below;
                }
                std::cmp::Ordering::Equal => {
                    merged.push(*a);
                    (upper, lower) = (above, below);
                }
            }
        }
        merged.extend_from_slice(upper);
        merged.extend_from_slice(lower);
        merged
    }
}

/// A value known to be an attribute set.
///
/// A set is *flat* (a shape and a row of values) or *layered* (one set over another: what `//` makes of large
/// sets; a tree with at most `MAX_LAYERS` + 1 flat sets). A layered set that is asked for its order or shape is joined to a flat one,
/// which it then stands for.
#[derive(Clone, Copy, Debug)]
pub struct AttrsRef(pub(crate) Value);

/// Most layers that a set may have above its lowest one.
pub(crate) const MAX_LAYERS: usize = 15;

/// The length of a layered set that was not counted yet.
const UNCOUNTED: u32 = u32::MAX;

const LAYERED: u64 = 1;
const JOINED: u64 = 2;
const SPARSE: u64 = 4;

/// Words of a layered set: the upper and the lower set; numbers of names and layers; the heap's [`Side`].
pub(crate) const LAYERED_WORDS: usize = 4;

impl AttrsRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    #[inline(always)]
    fn head(self) -> u64 {
        read(self.0.addr(), 0)
    }
    /// What a joined set stands for; any other is itself.
    #[inline(always)]
    pub(crate) fn joined(self) -> AttrsRef {
        let head = self.head();
        if head & JOINED != 0 {
            AttrsRef(Value(head & !3 | tag::ATTRS))
        } else {
            self
        }
    }
    /// The upper and the lower set of a layered one.
    #[inline(always)]
    pub(crate) fn layers(self) -> Option<(AttrsRef, AttrsRef)> {
        let set = self.joined();
        let head = set.head();
        (head & LAYERED != 0).then(|| {
            let lower = AttrsRef(Value(read(set.0.addr(), 1)));
            (
                AttrsRef(Value(head & !3 | tag::ATTRS)).joined(),
                lower.joined(),
            )
        })
    }
    /// Of a layered set: makes it refer to what its upper set was joined to, and returns that.
    pub(crate) fn settle_upper(self) -> AttrsRef {
        match self.layers() {
            Some((upper, _)) => {
                write(self.0.addr(), 0, upper.0.addr() as u64 | LAYERED);
                upper
            }
            None => self,
        }
    }
    /// Adds the flat sets that a set consists of, the strongest first.
    pub(crate) fn flat_sets(self, sets: &mut Vec<AttrsRef>) {
        match self.layers() {
            Some((upper, lower)) => {
                // As deep as there are layers, which are few.
                upper.flat_sets(sets);
                lower.flat_sets(sets);
            }
            None => sets.push(self.joined()),
        }
    }
    /// The flat sets of a layered one, and where among them each name is found, by symbol. Merges neighbours until one row
    /// is left, so that time is O(names · log layers).
    #[cold]
    fn merged(self) -> (Vec<AttrsRef>, Vec<Place>) {
        let mut sets = Vec::new();
        self.flat_sets(&mut sets);
        let row = |(layer, set): (usize, &AttrsRef)| {
            let shape = set.shape();
            let places = (0..shape.len()).map(|i| Place {
                symbol: shape.symbol(i),
                layer: layer as u32,
                index: i as u32,
            });
            places.collect::<Vec<_>>()
        };
        let mut rows: Vec<Vec<Place>> = sets.iter().enumerate().map(row).collect();
        while rows.len() > 1 {
            let mut next = Vec::with_capacity(rows.len().div_ceil(2));
            let mut pairs = rows.into_iter();
            while let Some(upper) = pairs.next() {
                next.push(match pairs.next() {
                    Some(lower) => Place::merge(&upper, &lower),
                    None => upper,
                });
            }
            rows = next;
        }
        (sets, rows.pop().unwrap_or_default())
    }
    /// Layers above the lowest.
    pub(crate) fn depth(self) -> usize {
        let set = self.joined();
        if set.head() & LAYERED != 0 {
            (read(set.0.addr(), 2) >> 32) as usize
        } else {
            0
        }
    }
    /// The shape of a flat set.
    #[inline(always)]
    pub(crate) fn shape(self) -> Shape {
        debug_assert!(self.head() & (LAYERED | JOINED) == 0);
        Shape((self.head() & !SPARSE) as usize)
    }
    /// The shape, unless the set is layered or joined.
    #[inline(always)]
    pub(crate) fn flat_shape(self) -> Option<Shape> {
        let head = self.head();
        (head & (LAYERED | JOINED) == 0).then_some(Shape((head & !SPARSE) as usize))
    }
    /// Number of attributes.
    #[inline(always)]
    pub fn len(self) -> usize {
        let set = self.joined();
        let head = set.head();
        if head & LAYERED != 0 {
            set.layered_len()
        } else {
            Shape((head & !SPARSE) as usize).len()
        }
    }
    /// The number of names in a layered set, counted when first asked for.
    #[cold]
    fn layered_len(self) -> usize {
        let word = read(self.0.addr(), 2);
        if word as u32 != UNCOUNTED {
            return word as u32 as usize;
        }
        let len = self.merged().1.len();
        write(self.0.addr(), 2, word & !u64::from(UNCOUNTED) | len as u64);
        len
    }
    /// The number of names, or a number that it does not exceed where that is quicker to say.
    pub(crate) fn len_at_most(self) -> usize {
        let mut set = self.joined();
        let mut len = 0;
        while let Some((upper, lower)) = set.layers() {
            let word = read(set.0.addr(), 2) as u32;
            if word != UNCOUNTED {
                return len + word as usize;
            }
            // As deep as there are layers, which are few.
            len += upper.len_at_most();
            set = lower;
        }
        len + set.shape().len()
    }
    /// Whether it has no attributes.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        // A layered set has at least those of its layers.
        self.joined().flat_shape().is_some_and(Shape::is_empty)
    }
    /// The value of a name; an evaluated thunk is followed. Logarithmic time.
    #[inline]
    pub fn get(self, symbol: Symbol) -> Option<Value> {
        self.find(symbol).map(|(set, i)| set.at(i))
    }
    /// The value of a name as it is stored; see [`ListRef::slot`].
    pub fn slot(self, symbol: Symbol) -> Option<Value> {
        self.find(symbol)
            .map(|(set, i)| match Value(read(set.0.addr(), 1 + i)) {
                Value::EMPTY => set.make(i),
                v => v,
            })
    }
    /// Whether it has a name. Logarithmic time.
    pub fn has(self, symbol: Symbol) -> bool {
        self.find(symbol).is_some()
    }
    /// Value and position of a name. Logarithmic time.
    pub fn entry(self, symbol: Symbol) -> Option<(Value, PosId)> {
        self.find(symbol)
            .map(|(set, i)| (set.at(i), set.position_at(i)))
    }
    /// Where a name is defined: `None` if there is no such name, [`PosId::NONE`] if it has no position.
    pub fn position(self, symbol: Symbol) -> Option<PosId> {
        self.find(symbol).map(|(set, i)| set.position_at(i))
    }
    /// The flat set that holds a name, and its index there.
    #[inline]
    fn find(self, symbol: Symbol) -> Option<(AttrsRef, usize)> {
        let set = self.joined();
        if set.head() & LAYERED == 0 {
            return set.shape().find(symbol).map(|i| (set, i));
        }
        let addr = set.0.addr();
        // SAFETY: the word was written by `Heap::layered`; the heap keeps its `Side` as long as its objects, and
        // whoever refers to it does so by a shared reference.
        let side = unsafe { &*(read(addr, 3) as *const Side) };
        side.find(addr, symbol, || set.search(symbol))
    }
    /// Looks through the layers.
    fn search(self, symbol: Symbol) -> Option<(AttrsRef, usize)> {
        let mut set = self.joined();
        while let Some((upper, lower)) = set.layers() {
            // As deep as there are layers, which are few.
            if let Some(found) = upper.search(symbol) {
                return Some(found);
            }
            set = lower;
        }
        set.shape().find(symbol).map(|i| (set, i))
    }
    /// The value at an index of a flat set's shape.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> Value {
        let v = Value(read(self.0.addr(), 1 + index));
        if v.is_thunk() {
            if v == Value::EMPTY {
                return self.make(index);
            }
            return ThunkPtr::of(v).value().unwrap_or(v);
        }
        v
    }
    /// Words of a flat set.
    pub(crate) fn words(self) -> usize {
        let extra = if self.is_sparse() { sparse::EXTRA } else { 0 };
        1 + self.shape().len() + extra
    }
    /// Name, value and position of each attribute, ordered by symbol (not by name).
    pub fn iter(self) -> AttrsIter {
        AttrsIter(self.places())
    }
    /// The names, ordered by symbol. Looks at no value, so that thunks of sparse sets are not made.
    pub fn names(self) -> impl Iterator<Item = Symbol> + Clone {
        self.places().map(|(symbol, ..)| symbol)
    }
    /// Each name with the flat set that holds it and its index there, ordered by symbol.
    pub(crate) fn places(self) -> AttrPlaces {
        let mut places = AttrPlaces {
            sets: [self; MAX_LAYERS + 1],
            next: [0; MAX_LAYERS + 1],
            count: 0,
        };
        self.collect_flat(&mut places);
        places
    }
    fn collect_flat(self, iter: &mut AttrPlaces) {
        let mut set = self.joined();
        while let Some((upper, lower)) = set.layers() {
            upper.collect_flat(iter);
            set = lower;
        }
        if let Some(place) = iter.sets.get_mut(iter.count) {
            *place = set;
            iter.count += 1;
        }
    }
}

/// The attributes of a set, ordered by symbol; see [`AttrsRef::iter`].
#[derive(Clone, Debug)]
pub struct AttrsIter(AttrPlaces);

impl Iterator for AttrsIter {
    type Item = (Symbol, Value, PosId);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (symbol, set, at) = self.0.next()?;
        Some((symbol, set.at(at), set.position_at(at)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// Where the attributes of a set are; see [`AttrsRef::places`].
#[derive(Clone, Debug)]
pub(crate) struct AttrPlaces {
    /// Flat sets, the strongest first.
    sets: [AttrsRef; MAX_LAYERS + 1],
    next: [u32; MAX_LAYERS + 1],
    count: usize,
}

impl Iterator for AttrPlaces {
    type Item = (Symbol, AttrsRef, usize);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.count == 1 {
            let at = self.next[0] as usize;
            if at >= self.sets[0].shape().len() {
                return None;
            }
            self.next[0] += 1;
            let set = self.sets[0];
            return Some((set.shape().symbol(at), set, at));
        }
        let head = |iter: &AttrPlaces, i: usize| {
            let (set, at) = (iter.sets[i], iter.next[i] as usize);
            (at < set.shape().len()).then(|| set.shape().symbol(at))
        };
        // The smallest symbol, from the strongest set that has it.
        let (mut best, mut best_symbol) = (0, None);
        for i in 0..self.count {
            if let Some(s) = head(self, i)
                && best_symbol.is_none_or(|b| s < b)
            {
                (best, best_symbol) = (i, Some(s));
            }
        }
        let symbol = best_symbol?;
        let at = self.next[best] as usize;
        let set = self.sets[best];
        for i in best..self.count {
            if head(self, i) == Some(symbol) {
                self.next[i] += 1;
            }
        }
        Some((symbol, set, at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = |i: usize| self.sets[i].shape().len() - self.next[i] as usize;
        if self.count == 1 {
            return (left(0), Some(left(0)));
        }
        let each = (0..self.count).map(left);
        (each.clone().max().unwrap_or(0), Some(each.sum()))
    }
}

impl Heap {
    /// A layered set: `upper` over `lower`, which have together fewer than [`MAX_LAYERS`]. Its names are counted when that matters, unless
    /// `len` is known.
    pub(crate) fn layered(
        &mut self,
        upper: AttrsRef,
        lower: AttrsRef,
        len: Option<usize>,
    ) -> Value {
        let len = len.map_or(UNCOUNTED, |l| l as u32);
        self.stats.attrsets += 1;
        let p = self.alloc(LAYERED_WORDS);
        write(p, 3, Rc::as_ptr(&self.side) as u64);
        write(p, 0, upper.0.addr() as u64 | LAYERED);
        write(p, 1, lower.0.0);
        let depth = upper.depth() + lower.depth() + 1;
        debug_assert!(depth <= MAX_LAYERS);
        write(p, 2, u64::from(len) | (depth as u64) << 32);
        Value(p as u64 | tag::ATTRS)
    }

    /// The flat form of a set. A layered set is joined once; time is linear in its size.
    pub(crate) fn flat(&mut self, attrs: AttrsRef) -> AttrsRef {
        let attrs = attrs.joined();
        if attrs.layers().is_none() {
            return attrs;
        }
        let (sets, places) = attrs.merged();
        let shape = self.new_shape_raw(places.len());
        let flat = self.attrs_uninit(shape, places.len());
        for (i, place) in places.into_iter().enumerate() {
            let Some(set) = sets.get(place.layer as usize) else {
                continue;
            };
            let index = place.index as usize;
            shape.set(i, place.symbol, set.position_at(index));
            self.attrs_init(flat, i, set.at(index));
        }
        write(attrs.0.addr(), 0, flat.addr() as u64 | JOINED);
        AttrsRef(flat)
    }
}

/// A value known to be a function.
#[derive(Clone, Copy, Debug)]
pub struct FunctionRef(pub(crate) Value);

/// What a function value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    Closure(*const Lambda, EnvPtr),
    Primop(u32),
    Partial,
}

impl FunctionRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    #[inline(always)]
    pub(crate) fn callee(self) -> Callee {
        let addr = self.0.addr();
        let head = read(addr, 0);
        match head & function::MASK {
            function::CLOSURE => Callee::Closure(
                (head & !function::MASK) as *const Lambda,
                EnvPtr(read(addr, 1) as usize),
            ),
            function::PRIMOP => Callee::Primop(read(addr, 1) as u32),
            _ => Callee::Partial,
        }
    }
    /// Of a partial application: its function.
    pub(crate) fn partial_callee(self) -> Value {
        Value(read(self.0.addr(), 1))
    }
    /// Of a partial application: number of arguments it has.
    pub(crate) fn partial_len(self) -> usize {
        (read(self.0.addr(), 0) >> 3) as usize
    }
    pub(crate) fn partial_arg(self, index: usize) -> Value {
        Value(read(self.0.addr(), 2 + index))
    }
}
