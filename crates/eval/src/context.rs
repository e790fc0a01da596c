//! String contexts: what a string's text refers to in the store.
//!
//! A context is an interned, immutable, sorted set of [`ContextElement`]s, named by a [`ContextId`]
//! that fits beside a string's length. The empty context is zero and costs nothing. Unions are
//! remembered by pair, so that building strings from the same few inputs does no set work.

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

/// A context of one evaluator's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ContextId(pub(crate) u32);

impl ContextId {
    /// The context of most strings.
    pub const EMPTY: ContextId = ContextId(0);

    /// Whether nothing is referred to.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One store object that a string refers to. Paths are full store paths as text.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum ContextElement {
    /// The path itself (a source, or a `.drv` file as plain file).
    Path(Arc<[u8]>),
    /// A `.drv` file with all its outputs' closures (`drv.drvPath`).
    DrvDeep(Arc<[u8]>),
    /// An output of a derivation.
    Output {
        /// Path of the `.drv` file.
        drv: Arc<[u8]>,
        /// Name of the output; with `dynamic-derivations` a chain `a!b`, outermost last.
        output: Arc<[u8]>,
    },
}

impl ContextElement {
    /// The store path it names.
    pub fn path(&self) -> &[u8] {
        match self {
            ContextElement::Path(p) | ContextElement::DrvDeep(p) => p,
            ContextElement::Output { drv, .. } => drv,
        }
    }
}

/// As messages show it: `path`, `path (deep)` or `path^output`.
impl std::fmt::Display for ContextElement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.path()))?;
        match self {
            ContextElement::Output { output, .. } => {
                write!(f, "^{}", String::from_utf8_lossy(output))
            }
            ContextElement::DrvDeep(_) => f.write_str(" (deep)"),
            ContextElement::Path(_) => Ok(()),
        }
    }
}

/// A union of contexts, added one after the other.
///
/// [`Contexts::union`] keeps every context that it makes: a list of many derivations joined by it would leave one set
/// behind for each of its elements, in all the square of their number.
#[derive(Default)]
pub struct ContextUnion {
    /// What was added, as long as that was little.
    context: ContextId,
    last: ContextId,
    steps: u32,
    /// The elements of all that was added, once it was more, with duplicates after the first `distinct`.
    ids: Vec<u32>,
    distinct: usize,
}

impl ContextUnion {
    /// Contexts that are worth keeping: strings are often joined anew from the same few.
    const FEW: u32 = 8;

    /// Adds a context.
    #[inline]
    pub fn add(&mut self, contexts: &mut Contexts, context: ContextId) {
        if context.is_empty() || context == self.last {
            return;
        }
        self.last = context;
        if self.steps < Self::FEW {
            let union = contexts.union(self.context, context);
            self.steps += u32::from(union != self.context);
            self.context = union;
        } else {
            self.add_to_many(contexts, context);
        }
    }

    #[cold]
    fn add_to_many(&mut self, contexts: &Contexts, context: ContextId) {
        if self.ids.is_empty() {
            self.ids.extend_from_slice(contexts.ids(self.context));
            self.distinct = self.ids.len();
        }
        self.ids.extend_from_slice(contexts.ids(context));
        if self.ids.len() > 2 * self.distinct + 1024 {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.distinct = self.ids.len();
    }

    /// The union of all that was added.
    #[inline]
    pub fn finish(mut self, contexts: &mut Contexts) -> ContextId {
        if self.ids.is_empty() {
            return self.context;
        }
        self.sort();
        contexts.set(&self.ids)
    }
}

/// The table of contexts of one evaluator.
pub struct Contexts {
    elements: Vec<ContextElement>,
    /// Numbers of elements by their hash.
    element_table: HashTable<(u64, u32)>,
    /// The context with an element alone, by the element's number; empty where it was never asked for.
    singles: Vec<ContextId>,
    sets: Vec<Box<[u32]>>,
    /// Numbers of sets by their hash.
    set_table: HashTable<(u64, u32)>,
    unions: FxHashMap<(u32, u32), u32>,
    /// About the bytes that elements and sets take.
    bytes: usize,
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts {
            elements: Vec::new(),
            element_table: HashTable::new(),
            singles: Vec::new(),
            sets: vec![Box::default()],
            set_table: HashTable::new(),
            unions: FxHashMap::default(),
            bytes: 0,
        }
    }
}

impl Contexts {
    /// About the bytes that all contexts take. They are kept as long as the evaluator.
    pub fn bytes(&self) -> usize {
        self.bytes + self.unions.capacity() * 2 * size_of::<(u32, u32)>()
    }

    fn element(&mut self, element: ContextElement) -> u32 {
        let hash = FxBuildHasher.hash_one(&element);
        let same =
            |(h, i): &(u64, u32)| *h == hash && self.elements.get(*i as usize) == Some(&element);
        if let Some((_, i)) = self.element_table.find(hash, same) {
            return *i;
        }
        let i = self.elements.len() as u32;
        self.bytes += element.path().len() + 2 * size_of::<ContextElement>();
        self.elements.push(element);
        self.singles.push(ContextId::EMPTY);
        self.element_table
            .insert_unique(hash, (hash, i), |(h, _)| *h);
        i
    }

    fn set(&mut self, set: &[u32]) -> ContextId {
        match set {
            [] => return ContextId::EMPTY,
            [e] => {
                if let Some(known) = self.singles.get(*e as usize).filter(|c| !c.is_empty()) {
                    return *known;
                }
                let context = self.new_set(set);
                if let Some(place) = self.singles.get_mut(*e as usize) {
                    *place = context;
                }
                return context;
            }
            _ => {}
        }
        let hash = FxBuildHasher.hash_one(set);
        let same = |(h, i): &(u64, u32)| {
            *h == hash && self.sets.get(*i as usize).is_some_and(|s| **s == *set)
        };
        if let Some((_, i)) = self.set_table.find(hash, same) {
            return ContextId(*i);
        }
        let context = self.new_set(set);
        self.set_table
            .insert_unique(hash, (hash, context.0), |(h, _)| *h);
        context
    }

    fn new_set(&mut self, set: &[u32]) -> ContextId {
        let i = self.sets.len() as u32;
        self.bytes += size_of_val(set) + 3 * size_of::<Box<[u32]>>();
        self.sets.push(set.into());
        ContextId(i)
    }

    /// The context with one element.
    pub fn single(&mut self, element: ContextElement) -> ContextId {
        let e = self.element(element);
        self.set(&[e])
    }

    /// The context with the given elements.
    pub fn collect(&mut self, elements: impl IntoIterator<Item = ContextElement>) -> ContextId {
        let mut ids: Vec<u32> = elements.into_iter().map(|e| self.element(e)).collect();
        ids.sort_unstable();
        ids.dedup();
        self.set(&ids)
    }

    /// The union of two contexts; constant time when the pair was seen before.
    pub fn union(&mut self, a: ContextId, b: ContextId) -> ContextId {
        if a == b || b.is_empty() {
            return a;
        }
        if a.is_empty() {
            return b;
        }
        let key = (a.0.min(b.0), a.0.max(b.0));
        if let Some(&u) = self.unions.get(&key) {
            return ContextId(u);
        }
        let (x, y) = (&self.sets[a.0 as usize], &self.sets[b.0 as usize]);
        let mut merged = Vec::with_capacity(x.len() + y.len());
        let (mut i, mut j) = (0, 0);
        while i < x.len() && j < y.len() {
            match x[i].cmp(&y[j]) {
                std::cmp::Ordering::Less => {
                    merged.push(x[i]);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    merged.push(y[j]);
                    j += 1;
                }
                std::cmp::Ordering::Equal => {
                    merged.push(x[i]);
                    i += 1;
                    j += 1;
                }
            }
        }
        merged.extend_from_slice(&x[i..]);
        merged.extend_from_slice(&y[j..]);
        let u = self.set(&merged);
        self.unions.insert(key, u.0);
        u
    }

    /// The elements' numbers, increasing; dense from zero within one evaluator.
    pub fn ids(&self, context: ContextId) -> &[u32] {
        self.sets.get(context.0 as usize).map_or(&[], |s| s)
    }

    /// The element of a number.
    pub fn get(&self, id: u32) -> Option<&ContextElement> {
        self.elements.get(id as usize)
    }

    /// The elements, in no particular order.
    pub fn elements(&self, context: ContextId) -> impl ExactSizeIterator<Item = &ContextElement> {
        let ids: &[u32] = self.sets.get(context.0 as usize).map_or(&[], |s| s);
        ids.iter().map(|&i| &self.elements[i as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_of_many_keep_few_sets() {
        const MANY: u32 = 2000;
        let mut contexts = Contexts::default();
        let singles: Vec<ContextId> = (0..MANY)
            .map(|i| contexts.single(ContextElement::Path(i.to_string().as_bytes().into())))
            .collect();
        let before = contexts.sets.len();
        let mut union = ContextUnion::default();
        let mut pairwise = ContextId::EMPTY;
        for context in singles.iter().rev().chain(&singles) {
            union.add(&mut contexts, *context);
        }
        let union = union.finish(&mut contexts);
        assert!(contexts.sets.len() < before + 10);
        for context in &singles {
            pairwise = contexts.union(pairwise, *context);
        }
        assert_eq!(union, pairwise);
        assert_eq!(contexts.elements(union).len(), MANY as usize);
    }

    #[test]
    fn unions_of_few() {
        let mut contexts = Contexts::default();
        let [a, b] =
            ["a", "b"].map(|path| contexts.single(ContextElement::Path(path.as_bytes().into())));
        let mut of = |parts: &[ContextId]| {
            let mut union = ContextUnion::default();
            for part in parts {
                union.add(&mut contexts, *part);
            }
            let union = union.finish(&mut contexts);
            contexts.ids(union).to_vec()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[ContextId::EMPTY, a, a]), [0]);
        assert_eq!(of(&[b, a, ContextId::EMPTY, b]), [0, 1]);
    }
}
