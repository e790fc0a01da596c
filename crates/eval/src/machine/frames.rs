//! Frames: what is being evaluated and where it goes on.

use super::Machine;
use crate::code::Op;
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{EnvPtr, ThunkPtr, state};
use crate::native::Resume;
use crate::value::Value;

pub(crate) mod flag {
    /// The result is not pushed.
    pub const DISCARD: u8 = 1;
    /// A native frame that catches `throw` and `assert`.
    pub const CATCH: u8 = 2;
    /// A native frame that catches every error.
    pub const CATCH_ALL: u8 = 4;
    /// A native frame whose step failed.
    pub const FAILED: u8 = 8;
    /// A call of a function written in Nix; `info` is the lambda.
    pub const CALL: u8 = 16;
    /// The thunk being evaluated was an application of one argument.
    pub const APPLY1: u8 = 32;
    /// The thunk being evaluated was an application to an attribute.
    pub const APPLY_ATTR: u8 = 64;
    /// The thunk being evaluated was a selection.
    pub const SELECT: u8 = 128;
}

/// An activation of code or of a native function.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// Next op, saved when another frame is pushed.
    pub ip: *const Op,
    /// Environment of code; state of a native function.
    pub env: EnvPtr,
    /// The thunk that gets the result.
    pub update: ThunkPtr,
    /// The native function, if it is one.
    pub resume: Option<Resume>,
    /// Where a native function's locals begin.
    pub base: u32,
    /// Nested calls so far.
    pub depth: u32,
    /// Which lambda or builtin.
    pub info: u32,
    /// Height of the stack when a catching step began.
    pub height: u32,
    pub flags: u8,
}

pub(super) const NO_INFO: u32 = u32::MAX;

impl Machine {
    #[inline(always)]
    pub(super) fn depth(&self) -> u32 {
        self.frames.last().map_or(0, |f| f.depth)
    }

    pub(super) fn push_code(&mut self, ip: *const Op, env: EnvPtr, update: ThunkPtr, flags: u8) {
        self.frames.push(Frame {
            ip,
            env,
            update,
            resume: None,
            base: 0,
            depth: self.depth(),
            info: NO_INFO,
            height: 0,
            flags,
        });
    }

    /// Arranges for ops without an environment to run.
    pub(crate) fn push_ops(&mut self, ops: *const Op) {
        self.push_code(ops, EnvPtr::NONE, ThunkPtr::NONE, 0);
    }

    pub(super) fn push_native(&mut self, resume: Resume, locals: usize, info: u32) -> Result<()> {
        let depth = self.depth() + 1;
        if depth > self.settings.max_call_depth {
            return Err(self.too_deep());
        }
        self.frames.push(Frame {
            ip: std::ptr::null(),
            env: EnvPtr(0),
            update: ThunkPtr::NONE,
            resume: Some(resume),
            base: (self.stack.len() - locals) as u32,
            depth,
            info,
            height: 0,
            flags: 0,
        });
        Ok(())
    }

    /// Fails when the running native function is nested too deeply, where `nesting` counts what it keeps on the stack
    /// instead of calling itself.
    pub(crate) fn check_nesting(&self, nesting: usize) -> Result<()> {
        if self.depth() as usize + nesting > self.settings.max_call_depth as usize + 1 {
            return Err(self.too_deep());
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn too_deep(&self) -> Error {
        Error::new(
            ErrorKind::CallDepth,
            "stack overflow; max-call-depth exceeded",
        )
    }

    /// Arranges for an unevaluated thunk to be evaluated, its value pushed (or only kept by the thunk,
    /// with [`flag::DISCARD`]).
    pub(super) fn enter_thunk(&mut self, value: Value, flags: u8) -> Result<()> {
        let thunk = ThunkPtr::of(value);
        let head = thunk.head();
        let pointer = head & !state::MASK;
        match head & state::MASK {
            state::CODE => {
                thunk.set_head(pointer | state::BLACKHOLE_CODE);
                self.push_code(
                    pointer as *const Op,
                    EnvPtr(thunk.payload() as usize),
                    thunk,
                    flags,
                );
            }
            state::VALUE => {
                if flags & flag::DISCARD == 0 {
                    self.stack.push(Value(thunk.payload()));
                }
            }
            state::APPLY1 => {
                self.stack
                    .push(Value(pointer | crate::value::tag::FUNCTION));
                self.stack.push(Value(thunk.payload()));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                self.push_code(
                    self.apply_ops[1].as_ptr(),
                    EnvPtr::NONE,
                    thunk,
                    flags | flag::APPLY1,
                );
            }
            state::APPLY_ATTR => {
                let (attrs, index) = thunk.payload_attr();
                let name = self.symbol_string(attrs.shape().symbol(index));
                self.stack
                    .push(Value(pointer | crate::value::tag::FUNCTION));
                self.stack.push(name);
                self.stack.push(attrs.at(index));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                let flags = flags | flag::APPLY_ATTR;
                self.push_code(self.apply_ops[2].as_ptr(), EnvPtr::NONE, thunk, flags);
            }
            state::SELECT => {
                self.stack.push(value);
                self.stack.push(Value(pointer));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                self.push_code(
                    self.select_ops.as_ptr(),
                    EnvPtr::NONE,
                    thunk,
                    flags | flag::SELECT,
                );
            }
            state::FAILED => {
                return Err(self
                    .errors
                    .get(thunk.payload() as usize)
                    .cloned()
                    .unwrap_or_else(|| Error::other("evaluation failed before")));
            }
            _ => return Err(self.infinite_recursion(thunk)),
        }
        Ok(())
    }
}
