//! What several integration tests share.
#![allow(dead_code)]

pub mod allocations;
#[cfg(feature = "video")]
pub mod field_coded;
pub mod generator;
#[cfg(feature = "video")]
pub mod recordings;
pub mod red_finder;
pub mod schema;
pub mod skipped;
pub mod torch_file;

use std::path::PathBuf;

pub use skipped::skip;

/// Reference material beside the repository; `None`, said aloud, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let p = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if p.exists() {
        return Some(p);
    }
    skip("shared", format_args!("../shared/{path} is not here"));
    None
}
