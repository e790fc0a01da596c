//! Memory for everything but the evaluator's heap, with an orderly end when there is none.
//!
//! Evaluation has a limit of its own, and stays below it with an error that can be traced. What the standard library
//! allocates beside it may still find that the system gives no more, and would abort the process with a backtrace then. A
//! command ends with an error instead, as it does for everything else that goes wrong.

use nix::libc;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator; where that has nothing left, the process ends with an error.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Neither allocates nor waits for anything: whoever asked for memory may hold any lock.
#[cold]
#[inline(never)]
fn out_of_memory() -> ! {
    const MESSAGE: &str = "error: out of memory: the system gives no more\n";
    // SAFETY: the pointer and the length are those of a string that lives as long as the process.
    unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    // SAFETY: ends the process at once; nothing is run that could find things half done. What is on disk is as whole as
    // after any other sudden end.
    unsafe { libc::_exit(1) }
}

// SAFETY: hands everything through to the system's allocator, which keeps the contract; only null is never returned.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises is what the system's allocator asks for.
        let p = unsafe { System.alloc(layout) };
        if p.is_null() { out_of_memory() } else { p }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let p = unsafe { System.alloc_zeroed(layout) };
        if p.is_null() { out_of_memory() } else { p }
    }

    #[inline]
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let p = unsafe { System.realloc(old, layout, size) };
        if p.is_null() { out_of_memory() } else { p }
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}
