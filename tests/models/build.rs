//! The code under test is the program's own, word for word, but that its atomics, locks, threads and channels are the
//! model checker's. In: files of `../../src`. Out: the same text with other imports, in `OUT_DIR`.

use std::path::Path;

/// The text before its tests, with every `from` replaced; each must be there.
fn adapt(file: &str, replaced: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src").join(file);
    println!("cargo::rerun-if-changed={}", path.display());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // Inner attributes and comments stand only at the begin of a real file.
    let text = text.split("#[cfg(test)]\nmod ").next().expect("a first part");
    let mut text: String = text
        .lines()
        .filter(|l| !l.starts_with("//!") && !l.starts_with("#!["))
        .map(|l| format!("{l}\n"))
        .collect();
    for (from, to) in replaced {
        assert!(text.contains(from), "{file} no longer has {from:?}: adapt tests/models/build.rs");
        text = text.replace(from, to);
    }
    let out = std::env::var("OUT_DIR").expect("cargo names a folder");
    let name = Path::new(file).file_name().expect("a name");
    std::fs::write(Path::new(&out).join(name), text).expect("results can be written");
}

fn main() {
    adapt(
        "live/timestamps.rs",
        &[
            ("std::sync::atomic", "loom::sync::atomic"),
            // So small that entries are overwritten while they are read.
            ("ROOM: usize = 256", "ROOM: usize = 2"),
        ],
    );
    adapt(
        "mailbox.rs",
        &[
            ("std::sync::Arc", "loom::sync::Arc"),
            ("std::sync::atomic", "loom::sync::atomic"),
            ("crossbeam_channel::", "crate::channel::"),
        ],
    );
    adapt(
        "mask_slot.rs",
        &[
            ("std::sync::Arc", "loom::sync::Arc"),
            ("std::sync::atomic", "loom::sync::atomic"),
            ("crossbeam_channel::", "crate::channel::"),
        ],
    );
    adapt(
        "engine/cpu/thread_pool.rs",
        &[
            ("std::sync::atomic", "shuttle::sync::atomic"),
            (
                "use std::sync::{Arc, Condvar, Mutex, PoisonError}",
                "use std::sync::PoisonError;\nuse shuttle::sync::{Arc, Condvar, Mutex}",
            ),
            ("std::thread::", "shuttle::thread::"),
            ("std::hint::spin_loop", "shuttle::hint::spin_loop"),
            // Spinning longer adds orders that differ in nothing.
            ("SPINS: usize = 600", "SPINS: usize = 1"),
        ],
    );
}
