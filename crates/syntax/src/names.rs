//! Interning of the names of one file.

use std::hash::Hasher;

use rustc_hash::FxHasher;
use smol_str::SmolStr;

use crate::ast::Name;

/// Gives equal names equal indices. Open addressing on 32-bit hashes, at most half full.
#[derive(Debug)]
pub(crate) struct Interner {
    /// Hash and index of a name, or [`VACANT`].
    slots: Vec<(u32, u32)>,
    /// The names in order of their first occurrence.
    pub(crate) names: Vec<SmolStr>,
}

const VACANT: u32 = u32::MAX;

impl Interner {
    pub(crate) fn new(source_length: usize) -> Self {
        let slots = (source_length / 64).next_power_of_two().clamp(64, 4096);
        Interner {
            slots: vec![(0, VACANT); slots],
            names: Vec::with_capacity(slots / 4),
        }
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
