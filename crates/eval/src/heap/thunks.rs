//! Environments, and thunks with their states.

use super::attrs::AttrsRef;
use super::{Heap, read, write};
use crate::code::Op;
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::{Value, tag};

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

impl Heap {
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

    /// What a selection gives, which is a place of its own: functions and lists are told apart by that.
    pub(crate) fn selected(&mut self, value: Value) -> Value {
        if value.is_function() {
            self.copy_function(value)
        } else if value.is_list() {
            self.evaluated_thunk(value)
        } else {
            value
        }
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
