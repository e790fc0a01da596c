//! Limits, cancellation and collection, looked at where everything that is needed is known.

use super::Machine;
use super::frames::{Frame, flag};
use crate::code::Default as FormalDefault;
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{ThunkPtr, state};
use crate::trace::Marker;
use crate::value::Value;
use std::sync::atomic::Ordering;

/// Calls between two looks at limits and cancellation.
pub(super) const TICKS: u32 = 1024;

impl Machine {
    /// Reserves nothing, but fails when `bytes` more would exceed the memory limit.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`].
    pub fn check_memory(&self, bytes: usize) -> Result<()> {
        if self.heap.would_exceed(bytes, self.outside()) {
            return Err(self.out_of_memory());
        }
        Ok(())
    }

    /// About the bytes of what is kept as long as the machine: names, contexts, code, the errors of failed thunks.
    fn outside(&self) -> usize {
        self.symbols.table_bytes() + self.contexts.bytes() + self.code_bytes + self.error_bytes
    }

    fn out_of_memory(&self) -> Error {
        Error::new(
            ErrorKind::Memory,
            format!(
                "out of memory: evaluation needs more than its limit of {} MiB",
                self.heap.limit() >> 20
            ),
        )
    }

    /// Looked at now and then: limits, cancellation, collection. All registers are saved.
    #[cold]
    #[inline(never)]
    pub(super) fn safepoint(&mut self) -> Result<()> {
        self.ticks = TICKS;
        if self.heap.ledger.is_some() {
            self.ticks = 1;
            self.collect();
        } else if self.heap.taken_bytes() > self.settings.collect_after.max(self.heap.live_bytes())
        {
            self.collect();
        }
        if self.cancel.0.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "evaluation was cancelled"));
        }
        if let Some(fuel) = &mut self.fuel {
            if *fuel < u64::from(TICKS) {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "evaluation ran out of steps",
                ));
            }
            *fuel -= u64::from(TICKS);
        }
        if !self.heap.restore_reserve() {
            // The system gives no more memory.
            if self.heap.ledger.is_none() {
                self.collect();
            }
            return Err(self.out_of_memory());
        }
        let stacks = self.stack.len() * size_of::<Value>() + self.frames.len() * size_of::<Frame>();
        let outside = self.outside();
        if self.heap.exhausted || self.heap.would_exceed(stacks, outside) {
            if self.heap.ledger.is_none() && self.heap.taken_bytes() > self.heap.limit() / 8 {
                self.collect();
            }
            let room = self.heap.limit().saturating_sub(self.heap.live_bytes());
            if self.heap.exhausted || room < stacks.saturating_add(outside) {
                return Err(self.out_of_memory());
            }
        }
        Ok(())
    }

    /// Makes every safepoint check that what the program can still use is reachable from the roots: all
    /// other objects are overwritten. Slow; for tests.
    pub fn set_stress(&mut self) {
        self.heap.watch();
        self.ticks = 1;
    }

    /// Frees what cannot be reached any more. Must only be called while the machine is not running, or
    /// at its safepoint: values in local variables of the caller are not seen, those that are
    /// [rooted](Machine::root) are.
    pub fn collect(&mut self) {
        let begin = std::time::Instant::now();
        let mut marker = Marker::new(&mut self.heap);
        // A claimed application or selection goes back to what it was when it is cancelled, so that must stay.
        for f in &self.frames {
            if f.resume.is_none() {
                marker.env(f.env);
            }
            if f.update == ThunkPtr::NONE {
                continue;
            }
            let old = f.update.head() & !state::MASK;
            if f.flags & (flag::APPLY1 | flag::APPLY_ATTR) != 0 {
                marker.claimed(f.update);
                marker.value(Value(old | crate::value::tag::FUNCTION));
                marker.value(if f.flags & flag::APPLY1 != 0 {
                    Value(f.update.payload())
                } else {
                    f.update.payload_attr().0.value()
                });
            } else if f.flags & flag::SELECT != 0 {
                marker.claimed(f.update);
                marker.value(Value(old));
            }
        }
        for f in &self.frames {
            if f.update != ThunkPtr::NONE {
                marker.value(Value(f.update.0 as u64));
            }
        }
        marker.values(self.stack.iter().copied());
        marker.values(self.tables.consts.iter().copied());
        marker.values(self.globals.values().copied());
        marker.values(self.imports.values().copied());
        marker.values(self.roots.iter().flatten().copied());
        marker.values(self.symbols.roots());
        for program in &self.tables.programs {
            program.roots(|v| marker.value(v));
        }
        for shape in &self.tables.shapes {
            marker.shape(*shape);
        }
        for ((a, b), t) in &self.transitions {
            marker.shape(*a);
            marker.shape(*b);
            marker.shape(t.shape);
        }
        marker.finish();
        self.shapes
            .retain(|(_, shape)| self.heap.is_marked(shape.0));
        // Caches keep neither strings nor shapes alive.
        self.symbols.forget_strings();
        let empty = self.heap.empty_shape;
        for site in &mut self.tables.sites {
            if !self.heap.is_marked(site.shape.0) {
                site.shape = empty;
            }
        }
        if self.heap.ledger.is_some() {
            self.heap.poison_unmarked();
        } else {
            self.heap.finish_marking();
        }
        self.heap.stats.collecting += begin.elapsed();
    }
}

impl crate::code::Program {
    pub(crate) fn roots(&self, mut visit: impl FnMut(Value)) {
        for lambda in &self.lambdas {
            visit(lambda.args.get());
            for formal in lambda.formals.iter().flat_map(|f| f.entries.iter()) {
                if let FormalDefault::Constant(v) = formal.default {
                    visit(v);
                }
            }
        }
    }
}
