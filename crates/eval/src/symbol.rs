//! Interned attribute names.

use crate::context::ContextId;
use crate::heap::Heap;
use crate::value::Value;
use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;

/// An interned name. Ordered by age, not by text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Symbol(pub(crate) u32);

impl Symbol {
    /// Its number; dense from zero within one evaluator.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The table of names of one evaluator.
#[derive(Default)]
pub struct Symbols {
    table: HashTable<u32>,
    names: Vec<Box<[u8]>>,
    /// The string value of each name, made when first wanted.
    strings: Vec<Value>,
}

fn hash(name: &[u8]) -> u64 {
    let mut h = FxHasher::default();
    h.write(name);
    h.finish()
}

impl Symbols {
    /// The symbol of a name.
    pub fn intern(&mut self, name: &[u8]) -> Symbol {
        let h = hash(name);
        let names = &self.names;
        if let Some(&i) = self.table.find(h, |&i| *names[i as usize] == *name) {
            return Symbol(i);
        }
        let i = self.names.len() as u32;
        self.names.push(name.into());
        self.strings.push(Value::EMPTY);
        let names = &self.names;
        self.table.insert_unique(h, i, |&i| hash(&names[i as usize]));
        Symbol(i)
    }

    /// The symbol of a name, if any value or program has mentioned it.
    pub fn find(&self, name: &[u8]) -> Option<Symbol> {
        self.table.find(hash(name), |&i| *self.names[i as usize] == *name).map(|&i| Symbol(i))
    }

    /// The text of a symbol.
    pub fn name(&self, symbol: Symbol) -> &[u8] {
        self.names.get(symbol.index()).map_or(b"", |n| n)
    }

    /// The text of a symbol, with replacement characters where it is not UTF-8.
    pub fn text(&self, symbol: Symbol) -> String {
        String::from_utf8_lossy(self.name(symbol)).into_owned()
    }

    /// The symbol's name as a string value without context; the same value each time.
    pub fn string(&mut self, heap: &mut Heap, symbol: Symbol) -> Value {
        let Some(slot) = self.strings.get_mut(symbol.index()) else {
            return heap.empty_string;
        };
        if *slot == Value::EMPTY {
            *slot = heap.string(&self.names[symbol.index()], ContextId::EMPTY);
        }
        *slot
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of all names together.
    pub fn bytes(&self) -> usize {
        self.names.iter().map(|n| n.len()).sum()
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = Value> + '_ {
        self.strings.iter().copied().filter(|v| *v != Value::EMPTY)
    }
}
