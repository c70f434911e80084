//! What the targets do, a module each: `run` reads foreign bytes as the program would and says whether a reader took
//! them. What is taken as well as what is refused must hold what the module states. `tests/fuzz_seeds` holds the seeds
//! to the same `run`.

use std::path::PathBuf;

use polypscope::Result;

pub mod checkpoint;
pub mod datasets;
pub mod description;
pub mod detections;
#[cfg(feature = "video")]
pub mod http;
#[cfg(feature = "video")]
pub mod manifest;
pub mod maps;
pub mod names;
#[cfg(feature = "video")]
pub mod pipeline;
pub mod still;
#[cfg(feature = "video")]
pub mod structure;
pub mod training_data;
pub mod truth;

/// A mask of 16x16 pixels (PNG, 8-bit grey): 255 within (4, 4) to (12, 12).
const MASK: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\0\0\0\0\x3a\x98\xa0\xbd\
    \0\0\0\x13IDATx\xdac`\xa0\x12\xf8\x0f\x05\x03-@!\0\0\xe0\xff?\xc1\xccr4X\0\0\0\0IEND\xaeB`\x82";

/// A path in a folder of this thread's own, with the folders above it.
fn place(name: &str) -> PathBuf {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    let path = FOLDER.with(|folder| folder.path().join(name));
    let above = path.parent().expect("it lies in the folder");
    if !above.is_dir() {
        std::fs::create_dir_all(above).expect("the folder can be written");
    }
    path
}

/// The bytes as a file of this name, which may have folders in it.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = place(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// What goes wrong is said in one sentence, without what steers a terminal.
fn is_a_sentence(e: &polypscope::Error) {
    let said = e.to_string();
    assert!(!said.is_empty() && said.len() < 8192, "{} bytes", said.len());
    assert!(!said.contains("panicked"), "{said}");
}

/// What was read; none if it was refused, in a sentence.
fn taken<T>(read: Result<T>) -> Option<T> {
    read.inspect_err(is_a_sentence).ok()
}
