//! Functions: closures, builtins, and either with some of its arguments.

use super::thunks::EnvPtr;
use super::{Heap, read, write};
use crate::code::Lambda;
use crate::value::{Value, tag};

pub(crate) mod function {
    pub const CLOSURE: u64 = 0;
    pub const PRIMOP: u64 = 1;
    pub const PARTIAL: u64 = 2;
    pub const MASK: u64 = 7;
}

/// A value known to be a function.
#[derive(Clone, Copy, Debug)]
pub struct FunctionRef(pub(crate) Value);

/// What a function value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    Closure(*const Lambda, EnvPtr),
    Primop(u32),
    Partial,
}

impl FunctionRef {
    /// The value.
    pub fn value(self) -> Value {
        self.0
    }
    #[inline(always)]
    pub(crate) fn callee(self) -> Callee {
        let addr = self.0.addr();
        let head = read(addr, 0);
        match head & function::MASK {
            function::CLOSURE => Callee::Closure(
                (head & !function::MASK) as *const Lambda,
                EnvPtr(read(addr, 1) as usize),
            ),
            function::PRIMOP => Callee::Primop(read(addr, 1) as u32),
            _ => Callee::Partial,
        }
    }
    /// Of a partial application: its function.
    pub(crate) fn partial_callee(self) -> Value {
        Value(read(self.0.addr(), 1))
    }
    /// Of a partial application: number of arguments it has.
    pub(crate) fn partial_len(self) -> usize {
        (read(self.0.addr(), 0) >> 3) as usize
    }
    pub(crate) fn partial_arg(self, index: usize) -> Value {
        Value(read(self.0.addr(), 2 + index))
    }
}

impl Heap {
    #[inline(always)]
    pub(crate) fn closure(&mut self, lambda: *const Lambda, env: EnvPtr) -> Value {
        let p = self.alloc(2);
        write(p, 0, lambda as u64 | function::CLOSURE);
        write(p, 1, env.0 as u64);
        Value(p as u64 | tag::FUNCTION)
    }

    pub(crate) fn primop(&mut self, index: u32) -> Value {
        let p = self.alloc(2);
        write(p, 0, function::PRIMOP);
        write(p, 1, u64::from(index));
        Value(p as u64 | tag::FUNCTION)
    }

    /// A function that still lacks arguments: `callee` is a closure or primop.
    pub(crate) fn partial(&mut self, callee: Value, args: &[Value]) -> Value {
        let p = self.alloc(2 + args.len());
        write(p, 0, function::PARTIAL | (args.len() as u64) << 3);
        write(p, 1, callee.0);
        for (i, arg) in args.iter().enumerate() {
            write(p, 2 + i, arg.0);
        }
        Value(p as u64 | tag::FUNCTION)
    }

    /// The same function with an identity of its own.
    ///
    /// Inside lists and sets a function equals itself, where that is the same place in memory: every thunk, every selection
    /// in a list, in an argument or of an `inherit` is such a place.
    #[cold]
    #[inline(never)]
    pub(crate) fn copy_function(&mut self, function: Value) -> Value {
        let words = match FunctionRef(function).callee() {
            Callee::Partial => 2 + FunctionRef(function).partial_len(),
            _ => 2,
        };
        let p = self.alloc(words);
        for i in 0..words {
            write(p, i, read(function.addr(), i));
        }
        Value(p as u64 | tag::FUNCTION)
    }
}
