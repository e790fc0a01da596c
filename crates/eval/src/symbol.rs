//! Interned attribute names.

use crate::context::ContextId;
use crate::heap::{Heap, StringRef};
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
    /// Hash and number of each name.
    table: HashTable<(u64, u32)>,
    /// All names, one after the other.
    text: Vec<u8>,
    /// Where each name ends in `text`.
    ends: Vec<usize>,
    /// The string value of each name, made when first wanted.
    strings: Vec<Value>,
    /// The beginning of each name, so that few comparisons look further.
    prefixes: Vec<u64>,
    /// Addresses of string values whose symbols were looked up before, with these; by the address' low bits.
    known: Vec<(usize, Symbol)>,
}

/// Number of string values whose symbols are remembered.
const KNOWN: usize = 1 << 10;

fn hash(name: &[u8]) -> u64 {
    let mut h = FxHasher::default();
    h.write(name);
    h.finish()
}

/// The first eight bytes, as a number that is ordered like them.
fn prefix(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(name) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

impl Symbols {
    /// About the bytes that the table takes. Names are kept as long as the evaluator.
    pub(crate) fn table_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 24 + self.table.capacity() * 17
    }

    /// The symbol of a string.
    pub fn of_string(&mut self, s: StringRef) -> Symbol {
        match self.remembered(s) {
            Some(symbol) => symbol,
            None => {
                let symbol = self.intern(s.bytes());
                self.remember(s, symbol);
                symbol
            }
        }
    }

    /// The symbol of a string, if any value or program has mentioned it.
    pub fn find_string(&mut self, s: StringRef) -> Option<Symbol> {
        if let Some(symbol) = self.remembered(s) {
            return Some(symbol);
        }
        let symbol = self.find(s.bytes())?;
        self.remember(s, symbol);
        Some(symbol)
    }

    fn remembered(&self, s: StringRef) -> Option<Symbol> {
        let addr = s.value().addr();
        let (known, symbol) = *self.known.get(addr >> 3 & (KNOWN - 1))?;
        (known == addr).then_some(symbol)
    }

    fn remember(&mut self, s: StringRef, symbol: Symbol) {
        if self.known.is_empty() {
            self.known.resize(KNOWN, (0, Symbol(0)));
        }
        let addr = s.value().addr();
        if let Some(place) = self.known.get_mut(addr >> 3 & (KNOWN - 1)) {
            *place = (addr, symbol);
        }
    }

    /// Forgets the addresses of string values: these may be gone.
    pub(crate) fn forget_strings(&mut self) {
        self.known.clear();
    }

    /// The beginning of a symbol's name: where two differ, their names are in the same order.
    pub(crate) fn prefix(&self, symbol: Symbol) -> u64 {
        self.prefixes.get(symbol.index()).copied().unwrap_or(0)
    }

    /// The symbol of a name.
    pub fn intern(&mut self, name: &[u8]) -> Symbol {
        let h = hash(name);
        if let Some(symbol) = self.find_hashed(h, name) {
            return symbol;
        }
        let i = self.ends.len() as u32;
        self.text.extend_from_slice(name);
        self.ends.push(self.text.len());
        self.strings.push(Value::EMPTY);
        self.prefixes.push(prefix(name));
        if self.table.len() == self.table.capacity() {
            // Growing fourfold moves every name less often; a package set has tens of thousands.
            self.table.reserve(3 * self.table.len(), |(h, _)| *h);
        }
        self.table.insert_unique(h, (h, i), |(h, _)| *h);
        Symbol(i)
    }

    /// The symbol of a name, if any value or program has mentioned it.
    pub fn find(&self, name: &[u8]) -> Option<Symbol> {
        self.find_hashed(hash(name), name)
    }

    fn find_hashed(&self, h: u64, name: &[u8]) -> Option<Symbol> {
        let found = self
            .table
            .find(h, |&(other, i)| other == h && self.name(Symbol(i)) == name);
        found.map(|&(_, i)| Symbol(i))
    }

    /// The text of a symbol.
    pub fn name(&self, symbol: Symbol) -> &[u8] {
        let i = symbol.index();
        let start = i
            .checked_sub(1)
            .and_then(|i| self.ends.get(i))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(i).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or(b"")
    }

    /// The text of a symbol, with replacement characters where it is not UTF-8.
    pub fn text(&self, symbol: Symbol) -> String {
        String::from_utf8_lossy(self.name(symbol)).into_owned()
    }

    /// The symbol's name as a string value without context; the same value each time.
    pub fn string(&mut self, heap: &mut Heap, symbol: Symbol) -> Value {
        let Some(&known) = self.strings.get(symbol.index()) else {
            return heap.empty_string;
        };
        if known != Value::EMPTY {
            return known;
        }
        let string = heap.string(self.name(symbol), ContextId::EMPTY);
        if let Some(slot) = self.strings.get_mut(symbol.index()) {
            *slot = string;
        }
        string
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all names together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = Value> + '_ {
        self.strings.iter().copied().filter(|v| *v != Value::EMPTY)
    }
}
