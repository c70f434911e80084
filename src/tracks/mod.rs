//! From what was detected on single frames to what lasts.
//!
//! In: the network's maps, one frame after the other, with their timestamps and pictures. Out: the part of each map
//! that is to be drawn, and a list of everything followed ([`TrackMark`](crate::frame::TrackMark)). Causal: nothing
//! waits for a later frame, so nothing here delays a picture; what is withheld is withheld by its setting
//! ([`Confirm`]).
//!
//! - [`Scene`] looks at the pictures: motion, cuts, freezes, and [gates](crate::frame::Gate) that say that a picture
//!   proves nothing.
//! - [`Tracks`] follows regions: *tentative* until they have been seen for long enough, then *confirmed* and drawn,
//!   *coasting* while they are not seen, then *ended*.
//! - [`Filter`] is both, with a setting that may change while it runs.
//!
//! Two thresholds: a region must hold a pixel of the higher one to start a track, and of the lower one to continue it.
//! Time is that of the timestamps: 25, 30, 50 or 60 frames a second and frames that are missing behave alike.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod filter;
mod gates;
mod layer;
mod place;
mod regions;
mod scene;
mod settings;
mod shared;

pub use filter::{MOST_TRACKS, Tracks};
pub use gates::{Features, Limits};
pub use scene::{Break, Glance, Scene};
pub use settings::{Confirm, Numbers, Variant};
pub use shared::{Filter, SharedFilter};

/// One map of several classes, `n` values each: at each place the largest. A single class is the map itself.
pub(crate) fn joined<'a>(logits: &'a [f32], classes: usize, n: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
    if classes == 1 {
        return &logits[..n];
    }
    room.clear();
    room.extend_from_slice(&logits[..n]);
    for class in logits.chunks_exact(n).skip(1) {
        for (j, &l) in room.iter_mut().zip(class) {
            *j = j.max(l);
        }
    }
    room
}

#[cfg(test)]
mod tests;
