//! Errors on their way out: frames are dropped, and traces say what they were doing.

use super::frames::{Frame, NO_INFO, flag};
use super::{Machine, lambda_ref};
use crate::code::Op;
use crate::error::{Error, ErrorKind};
use crate::heap::{Callee, ThunkPtr, state};
use crate::native::Activation;
use crate::position::SourceSpan;
use crate::value::Value;

/// What there is to say about arguments of builtins in the trace of an error.
#[derive(Default)]
struct AboutArguments {
    /// What one of them is for.
    purpose: Option<String>,
    /// The call of the builtin, if no frame says that.
    called: Option<(String, SourceSpan)>,
}

/// Whether a builtin that fails with this refuses an argument.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::Type
        || error
            .message()
            .contains("is not allowed to refer to a store path")
}

impl Machine {
    #[cold]
    pub(super) fn infinite_recursion(&self, thunk: ThunkPtr) -> Error {
        let mut error = Error::new(
            ErrorKind::InfiniteRecursion,
            "infinite recursion encountered",
        );
        // The frame that is evaluating this thunk is where the cycle was entered.
        if let Some(i) = self.frames.iter().rposition(|f| f.update == thunk)
            && let Some(ip) = self.frames.get(i).map(|f| f.ip)
            && let Some(span) = self
                .tables
                .span(ip.wrapping_sub(1))
                .or(self.tables.span(ip))
        {
            error.data_mut().related = Some((
                "the value that needs itself is evaluated here".to_string(),
                span,
            ));
        }
        error
    }

    /// Pops frames after an error, down to a frame that catches it (`None`) or to `floor`.
    pub(super) fn unwind(&mut self, error: Error, floor: usize) -> Option<Error> {
        let transient = error.kind().is_transient();
        let catcher = self.frames.iter().skip(floor).rposition(|f| {
            f.resume.is_some()
                && ((f.flags & flag::CATCH != 0 && error.kind().is_catchable())
                    || (f.flags & flag::CATCH_ALL != 0 && !transient))
        });
        let keep = catcher.map(|i| floor + i + 1);
        let mut error = error;
        if keep.is_none_or(|k| {
            self.frames
                .get(k - 1)
                .is_some_and(|f| f.flags & flag::CATCH_ALL != 0)
        }) {
            error = self.add_trace(error, keep.unwrap_or(floor));
        }
        let mut stored = None;
        let target = keep.unwrap_or(floor);
        while self.frames.len() > target {
            let Some(frame) = self.frames.pop() else {
                break;
            };
            if frame.update == ThunkPtr::NONE {
                continue;
            }
            if transient {
                let pointer = frame.update.head() & !state::MASK;
                let former = if frame.flags & flag::APPLY1 != 0 {
                    state::APPLY1
                } else if frame.flags & flag::APPLY_ATTR != 0 {
                    state::APPLY_ATTR
                } else if frame.flags & flag::SELECT != 0 {
                    state::SELECT
                } else {
                    state::CODE
                };
                frame.update.set_head(pointer | former);
            } else {
                let index = *stored.get_or_insert_with(|| {
                    // With its trace and the pointers to it.
                    self.error_bytes += 320 + error.message().len();
                    self.errors.push(error.clone());
                    self.errors.len() - 1
                });
                frame.update.set_failed(index);
            }
        }
        if keep.is_some()
            && let Some(frame) = self.frames.last_mut()
        {
            frame.flags |= flag::FAILED;
            self.stack.truncate(frame.height as usize);
            self.pending = Some(error);
            return None;
        }
        Some(error)
    }

    /// Adds place and trace from the frames above `floor`.
    fn add_trace(&mut self, mut error: Error, floor: usize) -> Error {
        /// Steps kept at either end of a long trace.
        const KEPT: usize = 500;
        let mut items: Vec<(String, SourceSpan)> = Vec::new();
        let mut placed = !error.data().span.start.is_none();
        let already = error.trace_len();
        let mut top = self.frames.len();
        // Whether all frames so far only help the next one; the thunk that it waits for; where on the stack its values end.
        let mut own = true;
        let mut awaited = None;
        let mut below = self.stack.len();
        if error.data().at_call
            && !placed
            && let Some(frame) = self.frames.get(floor..).and_then(<[Frame]>::last)
            && frame.flags & flag::CALL != 0
        {
            // The function does not run yet; what it says is said of its call. A suspended application has no other place
            // than the function.
            top -= 1;
            let suspended = frame.flags & (flag::APPLY1 | flag::APPLY_ATTR) != 0;
            // Frames that only hold further arguments have no place.
            let callers = self.frames[..top].iter().rev();
            let call = callers
                .take_while(|f| !suspended && f.resume.is_none() && !f.ip.is_null())
                .take(3)
                .find_map(|f| self.tables.span(f.ip.wrapping_sub(1)));
            let function = error.data().related.as_ref().map(|(_, span)| *span);
            if let Some(span) = call.or(function) {
                error = error.at(span);
                placed = true;
            }
        }
        for i in (floor..top).rev() {
            let frame = self.frames[i];
            let arguments = self.about_arguments(&error, i, own, awaited, &mut below);
            if let Some(text) = arguments.purpose {
                items.push((text, SourceSpan::default()));
            }
            if let Some(called) = arguments.called {
                items.push(called);
            }
            if frame.update != ThunkPtr::NONE {
                (own, awaited) = (false, Some((frame.update, frame.flags)));
            } else if frame.resume.is_none() || frame.info != NO_INFO {
                (own, awaited) = (false, None);
            }
            if frame.resume.is_none()
                && !placed
                && !frame.ip.is_null()
                && let Some(span) = self.tables.span(frame.ip.wrapping_sub(1))
                && !self.is_internal(span)
            {
                error = error.at(span);
                placed = true;
            }
            if let Some(resume) = frame.resume {
                let mut described = self.native_describers.iter();
                let described = described.find(|(f, _)| std::ptr::fn_addr_eq(*f, resume));
                if let Some((_, describe)) = described.copied() {
                    let activation = Activation {
                        base: frame.base as usize,
                        state: frame.env.0 as u64,
                        failed: false,
                    };
                    items.extend(describe(self, &activation));
                }
            }
            if !placed
                && let Some((message, span)) = items.iter().find(|(_, span)| !span.start.is_none())
            {
                // Better than a place in a file that nobody can look at.
                let data = error.data_mut();
                data.span = *span;
                data.related.get_or_insert((message.clone(), *span));
                placed = true;
            }
            if frame.resume.is_some()
                && let Some(builtin) = self.builtins.get(frame.info as usize)
                && let Some(describe) = self.describers.get(builtin.name).copied()
            {
                let activation = Activation {
                    base: frame.base as usize,
                    state: frame.env.0 as u64,
                    failed: false,
                };
                items.extend(describe(self, &activation));
                continue;
            }
            let message = if frame.flags & flag::CALL != 0 {
                self.tables.lambdas.get(frame.info as usize).and_then(|l| {
                    let lambda = lambda_ref(*l)?;
                    Some(match lambda.name.get() {
                        Some(name) => format!("while calling '{}'", self.symbols.text(name)),
                        None => "while calling an anonymous function".to_string(),
                    })
                })
            } else if frame.resume.is_some() {
                self.builtins
                    .get(frame.info as usize)
                    .map(|b| format!("while calling the '{}' builtin", b.name))
            } else {
                None
            };
            if let Some(message) = message {
                let span = self.frames[..i]
                    .iter()
                    .rev()
                    .filter(|f| f.resume.is_none())
                    .take(3)
                    .find_map(|f| self.tables.span(f.ip.wrapping_sub(1)))
                    .unwrap_or_default();
                items.push((message, span));
                if items.len() >= KEPT {
                    break;
                }
            }
        }
        if already < KEPT {
            for (message, span) in items {
                error = error.context(message, span, false);
            }
        }
        error
    }

    /// What an error, or a thunk that failed, has to do with the arguments of the builtin whose frame is at `i`, or which the
    /// code of that frame was about to call.
    fn about_arguments(
        &self,
        error: &Error,
        i: usize,
        own: bool,
        awaited: Option<(ThunkPtr, u8)>,
        below: &mut usize,
    ) -> AboutArguments {
        let mut about = AboutArguments::default();
        let (Some(frame), Some(purpose)) = (self.frames.get(i), self.purpose) else {
            return about;
        };
        if frame.resume.is_some() {
            let Some(builtin) = self.builtins.get(frame.info as usize) else {
                return about;
            };
            let base = frame.base as usize;
            let Some(args) = self.stack.get(base..base + builtin.args.len()) else {
                return about;
            };
            *below = base.min(*below);
            let failed = awaited
                .and_then(|(thunk, _)| args.iter().position(|v| *v == Value(thunk.0 as u64)));
            if failed.is_some() || own && is_refusal(error) {
                about.purpose = purpose(self, builtin.name, args, failed);
            }
            return about;
        }
        if own && i + 1 < self.frames.len() && is_refusal(error) {
            let waiting = self.tables.op(frame.ip.wrapping_sub(1));
            let joins = |op: &Op| {
                matches!(
                    op,
                    Op::CoercePart | Op::CoercePathPart | Op::Add | Op::BeginAdd
                )
            };
            if waiting.as_ref().is_some_and(joins) {
                about.purpose = Some("while evaluating a path segment".to_string());
                return about;
            }
        }
        // Arguments that are always evaluated are so before a builtin has a frame: the call runs again after each.
        let Some((thunk, flags)) = awaited else {
            return about;
        };
        if flags & flag::DISCARD == 0 {
            return about;
        }
        let fixed = || {
            let mut ops = self.call_ops.iter();
            ops.find(|ops| ops.as_ptr() == frame.ip).map(|ops| ops[0])
        };
        let Some(Op::Call(n)) = self.tables.op(frame.ip).or_else(fixed) else {
            return about;
        };
        let waits = |v: &Value| *v == Value(thunk.0 as u64);
        let Some(at) = self
            .stack
            .get(..*below)
            .and_then(|s| s.iter().rposition(waits))
        else {
            return about;
        };
        *below = at;
        for index in 0..usize::from(n) {
            let Some(function) = at.checked_sub(index + 1) else {
                break;
            };
            let callee = self.stack[function]
                .resolved()
                .as_function()
                .map(|f| f.callee());
            if let Some(Callee::Primop(which)) = callee
                && let Some(builtin) = self.builtins.get(which as usize)
                && index < builtin.args.len()
                && builtin.strict & 1 << index != 0
            {
                let args = self
                    .stack
                    .get(function + 1..function + 1 + builtin.args.len());
                about.purpose = purpose(self, builtin.name, args.unwrap_or(&[]), Some(index));
                let span = self.tables.span(frame.ip).unwrap_or_default();
                about.called = Some((
                    format!("while calling the '{}' builtin", builtin.name),
                    span,
                ));
                break;
            }
        }
        about
    }

    /// Whether a place is in a text that belongs to the language itself.
    fn is_internal(&self, span: SourceSpan) -> bool {
        self.sources
            .resolve(span.start)
            .is_some_and(|(source, _)| source.origin.name().starts_with("«<nix/"))
    }
}
