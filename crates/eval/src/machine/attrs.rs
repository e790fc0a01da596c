//! Making and updating attribute sets.

use super::Machine;
use crate::heap::{AttrsRef, InOrder, MAX_LAYERS, Origin as SparseOrigin, SPARSE_FROM, Shape};
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::Value;
use rustc_hash::FxHasher;
use std::hash::Hasher;

pub(super) struct Transition {
    pub(super) shape: Shape,
    /// Per value of the result: index in its source, shifted, and whether that is the right-hand side.
    plan: Box<[u32]>,
}

/// Sets of at most this many attributes share their shapes however they are made.
pub(crate) const INTERN_UP_TO: usize = 64;

impl Machine {
    /// An attribute set. Of several values for one name the last one counts.
    pub fn attrs(&mut self, entries: impl IntoIterator<Item = (Symbol, PosId, Value)>) -> Value {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend(entries);
        // Stable, so that the last of equals is the one to keep.
        scratch.sort_by_key(|(s, ..)| *s);
        let mut kept = 0;
        for i in 0..scratch.len() {
            if i + 1 < scratch.len() && scratch[i].0 == scratch[i + 1].0 {
                continue;
            }
            scratch[kept] = scratch[i];
            kept += 1;
        }
        scratch.truncate(kept);
        let v = self.attrs_sorted(&scratch);
        self.scratch = scratch;
        v
    }

    /// An attribute set of entries that increase strictly by symbol.
    pub fn attrs_sorted(&mut self, entries: &[(Symbol, PosId, Value)]) -> Value {
        if entries.is_empty() {
            return self.heap.empty_attrs;
        }
        let names = entries.iter().map(|(s, p, _)| (*s, *p));
        let shape = if entries.len() <= INTERN_UP_TO {
            self.interned_shape(names, false)
        } else {
            self.heap.shape(names)
        };
        let v = self.heap.attrs_uninit(shape, entries.len());
        for (i, (.., value)) in entries.iter().enumerate() {
            self.heap.attrs_init(v, i, *value);
        }
        v
    }

    /// A set with the names and positions of another one and new values, in the order of
    /// [`AttrsRef::iter`]. The number of values must be that of the attributes.
    pub fn attrs_like(&mut self, attrs: AttrsRef, values: &[Value]) -> Value {
        let attrs = self.heap.flat(attrs);
        let mut shape = attrs.shape();
        if matches!(attrs.origin(), Some(SparseOrigin::Map(..))) {
            shape = self.shape_without_positions(shape);
        }
        if shape.len() != values.len() {
            return self.heap.empty_attrs;
        }
        self.heap.attrs_of_shape(shape, values)
    }

    /// The attributes in the order of their names: symbol, value, position.
    pub fn sorted_attrs(&mut self, attrs: AttrsRef) -> Vec<(Symbol, Value, PosId)> {
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let item = |i: u32| {
            let i = i as usize;
            (shape.symbol(i), attrs.at(i), attrs.position_at(i))
        };
        if let Some(order) = shape.order() {
            return order.iter().map(|i| item(*i)).collect();
        }
        let key = |i: u32| {
            let symbol = shape.symbol(i as usize);
            (self.symbols.prefix(symbol), symbol, i)
        };
        let mut keys: Vec<(u64, Symbol, u32)> = (0..shape.len() as u32).map(key).collect();
        keys.sort_unstable_by(|a, b| {
            let names = || self.symbols.name(a.1).cmp(self.symbols.name(b.1));
            a.0.cmp(&b.0).then_with(names)
        });
        let order: Vec<u32> = keys.into_iter().map(|(.., i)| i).collect();
        if shape.len() > 1 {
            self.heap.set_order(shape, &order);
        }
        order.iter().map(|i| item(*i)).collect()
    }

    /// The attributes in the order of their names, to be looked at one by one. Time is constant but for the first use of a
    /// set's shape.
    pub fn in_order(&mut self, attrs: AttrsRef) -> InOrder {
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        if shape.order().is_none() && shape.len() > 1 {
            self.sorted_attrs(attrs);
        }
        InOrder(attrs)
    }

    /// The attribute at `index` in the order of names; constant time but for the first use of a set's shape.
    pub fn sorted_attr(&mut self, attrs: AttrsRef, index: usize) -> Option<(Symbol, Value, PosId)> {
        self.in_order(attrs).get(index)
    }

    /// The value of the attribute that is at `index` in the order of names.
    pub(crate) fn attr_by_name_order(&mut self, attrs: AttrsRef, index: usize) -> Value {
        let attrs = self.heap.flat(attrs);
        if attrs.shape().order().is_none() && attrs.len() > 1 {
            self.sorted_attrs(attrs);
        }
        let at = attrs.shape().order().map_or(index, |o| o[index] as usize);
        attrs.at(at)
    }

    /// `left // right`. Copies what it must: time is linear in the result, except that a small right
    /// side is searched for in a large left one.
    pub fn update(&mut self, left: AttrsRef, right: AttrsRef) -> Value {
        /// Sets of at least this many attributes are not copied for a small change but layered; so sparse
        /// sets never are.
        const LAYERS_FROM: usize = SPARSE_FROM;
        /// Names of a left side that are searched for in a large right side.
        const SEARCHED: usize = 64;
        self.heap.stats.updates += 1;
        if right.is_empty() {
            return left.value();
        }
        if left.is_empty() {
            return right.value();
        }
        let (mut left, mut right) = (left.joined(), right.joined());
        if left.len_at_most() >= SEARCHED
            && left.len_at_most().max(right.len_at_most()) >= LAYERS_FROM
        {
            // Package sets are put above other versions of themselves: most of what lies below is hidden then.
            let mut hiding = Vec::new();
            right.flat_sets(&mut hiding);
            let has_shape_of = |set: AttrsRef| hiding.iter().any(|h| h.shape() == set.shape());
            match self.without_hidden(left, &has_shape_of) {
                Some(seen) => left = seen,
                None => return right.value(),
            }
            if left.depth() + right.depth() > MAX_LAYERS / 2 {
                let few = |set: AttrsRef| set.len() < LAYERS_FROM;
                let seen = self.without_hidden(left, &|set| {
                    few(set) && set.names().all(|name| right.has(name))
                });
                match seen {
                    Some(seen) => left = seen,
                    None => return right.value(),
                }
            }
            // Small changes one after another become one, so that layers stay few.
            while let Some((change, base)) = left.layers()
                && change.len_at_most() + right.len_at_most() < LAYERS_FROM
                && let Some(both) = self.update(change, right).as_attrs()
            {
                (left, right) = (base, both);
            }
            self.limit_layers(&mut left, &mut right);
            return self.heap.layered(right, left, None);
        }
        if right.len_at_most() >= LAYERS_FROM {
            // Of the left side only what the right one lacks is seen: that goes above the right one, where
            // it hides nothing.
            let mut new = std::mem::take(&mut self.scratch);
            new.clear();
            let lacking = left.places().filter(|(s, ..)| !right.has(*s));
            new.extend(lacking.map(|(s, set, at)| (s, set.position_at(at), set.at(at))));
            let upper = self.attrs_sorted(&new);
            self.scratch = new;
            if right.depth() == MAX_LAYERS {
                right = self.heap.flat(right);
            }
            return match upper.as_attrs() {
                Some(upper) if !upper.is_empty() => self.heap.layered(upper, right, None),
                _ => right.value(),
            };
        }
        let right = self.heap.flat(right);
        let left = self.heap.flat(left);
        let (a, b) = (left.shape(), right.shape());
        let known = a.is_static() && b.is_static();
        if known && let Some(t) = self.transitions.get(&(a, b)) {
            let v = self.heap.attrs_uninit(t.shape, t.plan.len());
            self.heap.stats.update_values_copied += t.plan.len() as u64;
            for (i, source) in t.plan.iter().enumerate() {
                let from = if source & 1 == 1 { right } else { left };
                self.heap.attrs_init(v, i, from.at((source >> 1) as usize));
            }
            return v;
        }
        if a.len() > 8 * b.len() {
            return self.update_large(left, right);
        }
        let mut plan = std::mem::take(&mut self.plan);
        plan.clear();
        plan.reserve(a.len() + b.len());
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            match a.symbol(i).cmp(&b.symbol(j)) {
                std::cmp::Ordering::Less => {
                    plan.push((i as u32) << 1);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    plan.push((j as u32) << 1 | 1);
                    j += 1;
                }
                std::cmp::Ordering::Equal => {
                    plan.push((j as u32) << 1 | 1);
                    i += 1;
                    j += 1;
                }
            }
        }
        plan.extend((i..a.len()).map(|i| (i as u32) << 1));
        plan.extend((j..b.len()).map(|j| (j as u32) << 1 | 1));
        // When the right side has every name, its shape serves; nothing of the left is seen.
        if plan.len() == b.len() {
            self.plan = plan;
            return right.value();
        }
        self.heap.stats.update_values_copied += plan.len() as u64;
        let entry = |source: u32| {
            let shape = if source & 1 == 1 { b } else { a };
            shape.entry((source >> 1) as usize)
        };
        let keep = known && plan.len() <= 256;
        let shape = if keep || plan.len() <= INTERN_UP_TO {
            self.interned_shape(plan.iter().map(|s| entry(*s)), keep)
        } else {
            self.heap.shape(plan.iter().map(|s| entry(*s)))
        };
        let v = self.heap.attrs_uninit(shape, plan.len());
        for (at, source) in plan.iter().enumerate() {
            let from = if source & 1 == 1 { right } else { left };
            self.heap.attrs_init(v, at, from.at((source >> 1) as usize));
        }
        if keep {
            self.transitions.insert(
                (a, b),
                Transition {
                    shape,
                    plan: plan.as_slice().into(),
                },
            );
        }
        self.plan = plan;
        v
    }

    /// A set without those of its layers that are hidden by something above it; `None` if nothing is left.
    fn without_hidden(
        &mut self,
        set: AttrsRef,
        hidden: &impl Fn(AttrsRef) -> bool,
    ) -> Option<AttrsRef> {
        let Some((upper, lower)) = set.layers() else {
            return (!hidden(set)).then_some(set);
        };
        // As deep as there are layers, which are few.
        let seen = (
            self.without_hidden(upper, hidden),
            self.without_hidden(lower, hidden),
        );
        match seen {
            (Some(a), Some(b)) if a.0 == upper.0 && b.0 == lower.0 => Some(set),
            (Some(a), Some(b)) => self.heap.layered(a, b, None).as_attrs(),
            (a, b) => a.or(b),
        }
    }

    /// Joins layers until two sets can be put above each other.
    fn limit_layers(&mut self, left: &mut AttrsRef, right: &mut AttrsRef) {
        while left.depth() + right.depth() >= MAX_LAYERS {
            let deeper = if left.depth() > right.depth() {
                &mut *left
            } else {
                &mut *right
            };
            *deeper = self.heap.flat(*deeper);
        }
    }

    /// The one shape with these entries. Without it, `x // { … }` in a loop would make a new shape, and a
    /// new transition, each time; and sets made alike by builtins would not share theirs.
    pub(crate) fn interned_shape(
        &mut self,
        entries: impl ExactSizeIterator<Item = (Symbol, PosId)> + Clone,
        fixed: bool,
    ) -> Shape {
        let mut hasher = FxHasher::default();
        for (symbol, pos) in entries.clone() {
            hasher.write_u64(u64::from(symbol.0) | u64::from(pos.0) << 32);
        }
        let hash = hasher.finish();
        let same = |s: &Shape| {
            s.len() == entries.len() && entries.clone().enumerate().all(|(i, e)| s.entry(i) == e)
        };
        let known = self
            .shapes
            .find(hash, |(h, s)| *h == hash && same(s))
            .map(|(_, s)| *s);
        let shape = match known {
            Some(shape) => shape,
            None => {
                let shape = self.heap.shape(entries.clone());
                self.shapes.insert_unique(hash, (hash, shape), |(h, _)| *h);
                shape
            }
        };
        if fixed && !shape.is_empty() {
            shape.set_static();
        }
        shape
    }

    fn update_large(&mut self, left: AttrsRef, right: AttrsRef) -> Value {
        let (a, b) = (left.shape(), right.shape());
        let mut from = 0;
        let mut new = 0;
        for (_, (symbol, _)) in (0..b.len()).map(|j| (j, b.entry(j))) {
            match a.lower_bound(from, symbol) {
                Ok(i) => from = i + 1,
                Err(i) => {
                    from = i;
                    new += 1;
                }
            }
        }
        let total = a.len() + new;
        self.heap.stats.update_values_copied += total as u64;
        let shape = self.heap.shape_uninit(total);
        let v = self.heap.attrs_uninit(shape, total);
        let (mut i, mut at) = (0, 0);
        for j in 0..b.len() {
            let (symbol, pos) = b.entry(j);
            let (next, skip) = match a.lower_bound(i, symbol) {
                Ok(k) => (k, 1),
                Err(k) => (k, 0),
            };
            shape.copy(at, a, i, next - i);
            self.heap.attrs_copy(v, at, left, i, next - i);
            at += next - i;
            shape.set(at, symbol, pos);
            self.heap.attrs_init(v, at, right.at(j));
            at += 1;
            i = next + skip;
        }
        shape.copy(at, a, i, a.len() - i);
        self.heap.attrs_copy(v, at, left, i, a.len() - i);
        v
    }
}
