//! A mask drawn on the source's own pixels.
//!
//! In: a writable picture in any layout, and a mask. Out: the same picture with the polyps filled and outlined, and a
//! status rectangle. Every byte outside these marks stays as it was: an outline runs inside its polyp, and a chroma
//! sample is touched only if all the pixels it serves lie in a mark.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod marks;
mod paint;

pub use marks::{Overlay, Style};
