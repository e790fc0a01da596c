//! Shapes and attribute sets: flat, in layers, joined.

use super::sparse::Side;
use super::thunks::ThunkPtr;
use super::{Heap, read, write};
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::{Value, tag};
use std::rc::Rc;

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

pub(super) const SPARSE: u64 = 4;

/// Words of a layered set: the upper and the lower set; numbers of names and layers; the heap's [`Side`].
pub(crate) const LAYERED_WORDS: usize = 4;

impl AttrsRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    #[inline(always)]
    pub(super) fn head(self) -> u64 {
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
    /// The value of a name as it is stored; see [`ListRef::slot`](crate::heap::ListRef::slot).
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
    pub(super) fn find(self, symbol: Symbol) -> Option<(AttrsRef, usize)> {
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
        let extra = if self.is_sparse() {
            super::sparse::EXTRA
        } else {
            0
        };
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

impl Heap {
    pub(super) fn new_shape_raw(&mut self, len: usize) -> Shape {
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
}
