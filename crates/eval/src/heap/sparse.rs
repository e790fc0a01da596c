//! Sparse sets: large sets whose thunks are made when they are first asked for.
//!
//! A package set has tens of thousands of attributes, an evaluation makes dozens of such sets and looks at a
//! few hundred attributes of each. A *sparse* set starts with a row of empty slots, followed by what its thunks are
//! to be made of:
//!
//! | made by | first word after the row | second word |
//! |---|---|---|
//! | a literal | pointer to its [`SparseCode`] | the environment |
//! | `mapAttrs` | the function | the set that is mapped, flat |
//!
//! Whoever reads an empty slot makes its thunk. Readers have no access to the heap, so the thunks come from a
//! small allocator of their own, the [`Side`], which the third word after the row points to.

use super::blocks::{Block, map_block};
use super::{AttrsRef, EnvPtr, Heap, Shape, read, state, write};
use crate::code::Op;
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::{Value, tag};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// Sets of fewer attributes are not worth it. Not less than what `//` copies instead of layering, so that no
/// sparse set is copied.
pub(crate) const SPARSE_FROM: usize = 256;

/// Words after the row.
pub(super) const EXTRA: usize = 3;

/// Words of a thunk.
const THUNK: usize = 2;

/// Addresses that are taken from the system at a time; pages are touched as they are needed.
const REGION: usize = super::blocks::BLOCK;

/// The names of a set literal and where the code of each attribute begins.
pub(crate) struct SparseCode {
    pub shape: Shape,
    /// Null where the literal's value was at hand.
    pub code: Box<[*const Op]>,
    /// The places of those, in order.
    pub at_hand: Box<[u32]>,
}

/// Where an attribute was found before.
#[derive(Clone, Copy)]
struct Found {
    /// Address of the layered set, and above it the number of collections before.
    key: u64,
    symbol: Symbol,
    /// Index in the flat set, or [`ABSENT`].
    index: u32,
    /// Address of the flat set that has the attribute.
    flat: usize,
}

const ABSENT: u32 = u32::MAX;

/// Number of remembered places.
const FOUND: usize = 1 << 11;

/// What readers of sets need to change and share: where thunks of sparse sets come from, and where attributes of
/// layered sets were found.
#[derive(Default)]
pub(super) struct Side {
    next: Cell<usize>,
    end: Cell<usize>,
    /// Blocks that the heap does not know of yet.
    blocks: RefCell<Vec<Block>>,
    /// Addresses for when the system gives no more.
    spare: RefCell<Option<Block>>,
    /// Thunks made so far.
    pub(super) made: Cell<u64>,
    /// In stress mode, the objects made since the heap asked.
    ledger: RefCell<Option<Vec<(usize, u32)>>>,
    /// By a hash of set and symbol. Sets never change, so only collections invalidate it. Made when first used.
    found: OnceCell<Box<[Cell<Found>]>>,
    /// Collections so far, in the bits that an address leaves free.
    collections: Cell<u64>,
}

impl Side {
    #[inline(always)]
    fn place(&self, set: usize, symbol: Symbol) -> Option<&Cell<Found>> {
        let hash =
            (set as u64 >> 3 ^ u64::from(symbol.0) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let found = self.found.get_or_init(|| {
            let none = Found {
                key: 0,
                symbol: Symbol(0),
                index: ABSENT,
                flat: 0,
            };
            vec![Cell::new(none); FOUND].into()
        });
        found.get((hash >> (64 - FOUND.trailing_zeros())) as usize)
    }

    /// The flat set, and the index in it, where a layered set has an attribute. `search` says so when it is not known.
    #[inline(always)]
    pub(super) fn find(
        &self,
        set: usize,
        symbol: Symbol,
        search: impl FnOnce() -> Option<(AttrsRef, usize)>,
    ) -> Option<(AttrsRef, usize)> {
        let Some(place) = self.place(set, symbol) else {
            return search();
        };
        let known = place.get();
        let key = set as u64 | self.collections.get();
        if known.key == key && known.symbol == symbol {
            let flat = AttrsRef(Value(known.flat as u64 | tag::ATTRS));
            return (known.index != ABSENT).then_some((flat, known.index as usize));
        }
        let found = search();
        place.set(Found {
            key,
            symbol,
            index: found.map_or(ABSENT, |(_, i)| i as u32),
            flat: found.map_or(0, |(flat, _)| flat.0.addr()),
        });
        found
    }

    /// Forgets where attributes were found: their sets may be gone.
    pub(super) fn forget(&self) {
        self.collections
            .set(self.collections.get().wrapping_add(1 << 48));
        if self.collections.get() == 0 {
            for place in self.found.get().into_iter().flatten() {
                place.set(Found {
                    key: 0,
                    ..place.get()
                });
            }
        }
    }

    fn alloc(&self) -> usize {
        let start = self.next.get();
        self.made.set(self.made.get() + 1);
        let start = if THUNK * 8 <= self.end.get() - start {
            start
        } else {
            let block = map_block(REGION, false, false)
                .or_else(|| self.spare.take())
                // The same end as any allocation of the standard library that the system refuses.
                .unwrap_or_else(
                    || std::alloc::handle_alloc_error(std::alloc::Layout::new::<u64>()),
                );
            let start = block.start;
            self.end.set(start + block.len);
            self.blocks.borrow_mut().push(block);
            start
        };
        self.next.set(start + THUNK * 8);
        if let Some(ledger) = &mut *self.ledger.borrow_mut() {
            ledger.push((start, THUNK as u32));
        }
        start
    }

    /// Blocks that were begun since the last call.
    pub(super) fn take_blocks(&self) -> Vec<Block> {
        self.blocks.take()
    }

    /// After a collection: gives up what is left of the current region, which the heap's free runs will cover.
    pub(super) fn collected(&self) {
        self.forget();
        self.next.set(0);
        self.end.set(0);
    }

    /// Makes sure that a region is kept back; whether there is one.
    pub(super) fn restore_spare(&self) -> bool {
        let mut spare = self.spare.borrow_mut();
        if spare.is_none() {
            *spare = map_block(REGION, false, false);
        }
        spare.is_some()
    }

    /// Starts or reads the list of objects that stress mode needs.
    pub(super) fn watch(&self) -> Vec<(usize, u32)> {
        self.ledger
            .borrow_mut()
            .replace(Vec::new())
            .unwrap_or_default()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for block in self.blocks.take().iter_mut() {
            block.unmap();
        }
        if let Some(mut block) = self.spare.take() {
            block.unmap();
        }
    }
}

impl Heap {
    /// A set of the names of `code`'s literal. Values at hand are set with [`Heap::attrs_init`].
    pub(crate) fn sparse_literal(&mut self, code: &Rc<SparseCode>, env: EnvPtr) -> Value {
        let what = Rc::as_ptr(code) as u64;
        self.sparse(code.shape, what, env.0 as u64)
    }

    /// The set that `mapAttrs` makes of a flat one; `function` is a function object.
    pub(crate) fn sparse_map(&mut self, function: Value, attrs: AttrsRef) -> Value {
        debug_assert!(function.is_function());
        self.sparse(attrs.shape(), function.0, attrs.0.0)
    }

    fn sparse(&mut self, shape: Shape, what: u64, with: u64) -> Value {
        let len = shape.len();
        self.stats.attrsets += 1;
        self.stats.attrs += len as u64;
        let p = self.alloc(1 + len + EXTRA);
        write(p, 0, shape.0 as u64 | super::attrs::SPARSE);
        write(p, 1 + len, what);
        write(p, 2 + len, with);
        write(p, 3 + len, Rc::as_ptr(&self.side) as u64);
        Value(p as u64 | tag::ATTRS)
    }
}

/// What a sparse set's thunks are made of.
pub(crate) enum Origin {
    Literal(*const SparseCode, EnvPtr),
    Map(Value, AttrsRef),
}

impl AttrsRef {
    #[inline(always)]
    pub(crate) fn is_sparse(self) -> bool {
        self.head() & super::attrs::SPARSE != 0
    }

    /// What the thunks of a sparse set are made of.
    pub(crate) fn origin(self) -> Option<Origin> {
        if !self.is_sparse() {
            return None;
        }
        let (addr, after) = (self.0.addr(), 1 + self.shape().len());
        let (what, with) = (read(addr, after), read(addr, after + 1));
        Some(if what & tag::MASK == tag::FUNCTION {
            Origin::Map(Value(what), AttrsRef(Value(with)))
        } else {
            Origin::Literal(what as *const SparseCode, EnvPtr(with as usize))
        })
    }

    /// The position of the attribute at an index of a flat set's shape; sets that were mapped have none.
    #[inline]
    pub(crate) fn position_at(self, index: usize) -> PosId {
        if self.is_sparse() && matches!(self.origin(), Some(Origin::Map(..))) {
            return PosId::NONE;
        }
        self.shape().pos(index)
    }

    /// Makes the thunk of an empty slot.
    #[cold]
    #[inline(never)]
    pub(super) fn make(self, index: usize) -> Value {
        let Some(origin) = self.origin() else {
            return Value::EMPTY;
        };
        let addr = self.0.addr();
        let side = read(addr, 3 + self.shape().len()) as *const Side;
        // SAFETY: the word was written by `Heap::sparse`; the heap keeps its `Side` as long as its objects, and
        // whoever refers to it does so by a shared reference.
        let side = unsafe { &*side };
        let (head, payload) = match origin {
            Origin::Literal(code, env) => {
                // SAFETY: the evaluator's tables keep the code of literals for good.
                let code = unsafe { &*code };
                match code.code.get(index) {
                    Some(at) if !at.is_null() => (*at as u64 | state::CODE, env.0 as u64),
                    _ => return Value::EMPTY,
                }
            }
            Origin::Map(function, attrs) => (
                function.addr() as u64 | state::APPLY_ATTR,
                attrs.0.addr() as u64 | (index as u64) << 48,
            ),
        };
        let thunk = side.alloc();
        write(thunk, 0, head);
        write(thunk, 1, payload);
        write(addr, 1 + index, thunk as u64);
        Value(thunk as u64)
    }
}
