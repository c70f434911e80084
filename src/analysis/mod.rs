//! What the video path does about masks on each frame, before anything is drawn or attached.
//!
//! In: a picture that passes, with its number and times. Out: the newest finished mask as it lies on that picture, and
//! whether it may be shown. Never waits: a copy of the picture is offered to the workers, and the mask is of whichever
//! earlier frame was finished last. A live session draws it; the loadable element attaches it to the buffer.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod frame_pool;
mod newest_mask;

pub use frame_pool::FrameCopy;
pub use newest_mask::{Ages, Analysis, Found, Parts, Stamp};
