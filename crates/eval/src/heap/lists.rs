//! Lists: a length and the elements.

use super::{Heap, read, write};
use crate::value::{Value, tag};

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

impl Heap {
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
}
