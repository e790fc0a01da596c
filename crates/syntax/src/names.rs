//! Interning of the names of one file.

use std::hash::Hasher;

use rustc_hash::FxHasher;
use smol_str::SmolStr;

use crate::ast::Name;

/// Hash and index of a name.
pub(crate) type Slot = (u32, u32);

/// Gives equal names equal indices. Open addressing on 32-bit hashes, at most half full.
#[derive(Debug)]
pub(crate) struct Interner {
    /// Hash and index of a name, or [`VACANT`].
    pub(crate) slots: Vec<Slot>,
    /// The names in order of their first occurrence.
    pub(crate) names: Vec<SmolStr>,
}

const VACANT: u32 = u32::MAX;

impl Interner {
    pub(crate) fn new(source_length: usize) -> Self {
        Interner::reusing(source_length, Vec::new(), Vec::new())
    }

    /// Like [`Interner::new`], using the memory of what an earlier one left.
    pub(crate) fn reusing(
        source_length: usize,
        mut slots: Vec<Slot>,
        mut names: Vec<SmolStr>,
    ) -> Self {
        let len = (source_length / 64).next_power_of_two().clamp(64, 4096);
        slots.clear();
        slots.resize(len, (0, VACANT));
        names.clear();
        names.reserve(len / 4);
        Interner { slots, names }
    }

    /// The index of a name; `None` if it is not UTF-8.
    pub(crate) fn intern(&mut self, name: &[u8]) -> Option<Name> {
        if (self.names.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = hash(name);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots.get_mut(at)?;
            if slot.1 == VACANT {
                let text = std::str::from_utf8(name).ok()?;
                let index = u32::try_from(self.names.len()).ok()?;
                *slot = (hash, index);
                self.names.push(SmolStr::new(text));
                return Some(Name(index));
            }
            if slot.0 == hash {
                let known = self.names.get(slot.1 as usize);
                if known.is_some_and(|known| known.as_bytes() == name) {
                    return Some(Name(slot.1));
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![(0, VACANT); mask + 1];
        for slot in self.slots.iter().filter(|slot| slot.1 != VACANT) {
            let mut at = slot.0 as usize & mask;
            while slots.get(at).is_some_and(|slot| slot.1 != VACANT) {
                at = (at + 1) & mask;
            }
            if let Some(vacant) = slots.get_mut(at) {
                *vacant = *slot;
            }
        }
        self.slots = slots;
    }
}

fn hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}
