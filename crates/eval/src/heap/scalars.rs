//! Integers that do not fit a word, floats, paths, external values; and what kind of value a word is.

use super::attrs::AttrsRef;
use super::functions::FunctionRef;
use super::lists::ListRef;
use super::strings::StringRef;
use super::thunks::ThunkPtr;
use super::{Heap, read, write};
use crate::context::ContextId;
use crate::value::{Type, Value, tag};

pub(crate) mod boxed {
    pub const FLOAT: u64 = 0;
    pub const INT: u64 = 1;
    pub const PATH: u64 = 2;
    pub const EXTERNAL: u64 = 3;
}

impl Value {
    /// Follows an evaluated thunk to its value; an unevaluated one stays itself.
    #[inline(always)]
    pub fn resolved(self) -> Value {
        if self.is_thunk() && self.0 != 0 {
            ThunkPtr::of(self).value().unwrap_or(self)
        } else {
            self
        }
    }

    /// The type; an evaluated thunk has that of its value.
    pub fn type_of(self) -> Type {
        let v = self.resolved();
        match v.tag() {
            tag::THUNK => Type::Thunk,
            tag::INT => Type::Int,
            tag::ATTRS => Type::Attrs,
            tag::LIST => Type::List,
            tag::FUNCTION => Type::Function,
            tag::STRING => Type::String,
            tag::BOXED => match read(v.addr(), 0) {
                boxed::FLOAT => Type::Float,
                boxed::INT => Type::Int,
                boxed::PATH => Type::Path,
                _ => Type::External,
            },
            _ if v.is_null() => Type::Null,
            _ => Type::Bool,
        }
    }

    /// The integer, if it is one.
    #[inline(always)]
    pub fn as_int(self) -> Option<i64> {
        if self.tag() == tag::INT {
            Some((self.0 as i64) >> 3)
        } else if self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::INT {
            Some(read(self.addr(), 1) as i64)
        } else {
            None
        }
    }

    /// The float, if it is one (an integer is not).
    #[inline(always)]
    pub fn as_float(self) -> Option<f64> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::FLOAT)
            .then(|| f64::from_bits(read(self.addr(), 1)))
    }

    /// The path's bytes as a string without context, if it is a path.
    #[inline(always)]
    pub fn as_path(self) -> Option<StringRef> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::PATH)
            .then(|| StringRef(Value(read(self.addr(), 1))))
    }

    pub(crate) fn as_external(self) -> Option<usize> {
        (self.tag() == tag::BOXED && read(self.addr(), 0) == boxed::EXTERNAL)
            .then(|| read(self.addr(), 1) as usize)
    }

    /// The string, if it is one.
    #[inline(always)]
    pub fn as_string(self) -> Option<StringRef> {
        self.is_string().then_some(StringRef(self))
    }

    /// The list, if it is one.
    #[inline(always)]
    pub fn as_list(self) -> Option<ListRef> {
        self.is_list().then_some(ListRef(self))
    }

    /// The attribute set, if it is one.
    #[inline(always)]
    pub fn as_attrs(self) -> Option<AttrsRef> {
        self.is_attrs().then_some(AttrsRef(self))
    }

    /// The function, if it is one.
    #[inline(always)]
    pub fn as_function(self) -> Option<FunctionRef> {
        self.is_function().then_some(FunctionRef(self))
    }
}

impl Heap {
    /// An integer.
    #[inline(always)]
    pub fn int(&mut self, i: i64) -> Value {
        match Value::small_int(i) {
            Some(v) => v,
            None => self.boxed(boxed::INT, i as u64),
        }
    }

    /// A float.
    pub fn float(&mut self, f: f64) -> Value {
        self.boxed(boxed::FLOAT, f.to_bits())
    }

    /// A path; the bytes must be absolute and canonical.
    pub fn path(&mut self, path: &[u8]) -> Value {
        let s = self.string(path, ContextId::EMPTY);
        self.boxed(boxed::PATH, s.0)
    }

    /// A value of the embedding program, by its index in the evaluator's table.
    pub(crate) fn external(&mut self, index: usize) -> Value {
        self.boxed(boxed::EXTERNAL, index as u64)
    }

    fn boxed(&mut self, kind: u64, payload: u64) -> Value {
        let p = self.alloc(2);
        write(p, 0, kind);
        write(p, 1, payload);
        Value(p as u64 | tag::BOXED)
    }
}
