//! The command line, and nothing else: see [`polypscope::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3 (its binding names only a few options).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
const TEN_SECONDS_MS: std::ffi::c_long = 10_000;

fn main() -> ExitCode {
    // Freed pages are kept for the next frame: activations and pictures come and go at the same sizes, and a page fault
    // in the middle of a frame costs more than the memory.
    // SAFETY: sets a number; the allocator is usable from the start.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, TEN_SECONDS_MS) };
    polypscope::cli::main()
}
