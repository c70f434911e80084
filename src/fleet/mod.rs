//! Archives: thousands of recordings, worked through by an engine that exists already (Slurm, Kubernetes, HyperQueue,
//! GNU parallel, Ray); nothing here schedules.
//!
//! In: an archive's recordings and a network. Out: a [`Manifest`] of units, one a recording; the results of a shard of
//! them in a [`Store`]; what stands and what is missing ([`status`]); everything in a few tables and one page
//! ([`merge`]).
//!
//! *A unit's key* is made of the recording's content, the checkpoint, the settings and the version of what they come to
//! ([`manifest`]). The same key is the same result, so a unit whose result stands is never computed again, whoever asks
//! for it.
//!
//! *The store* is only ever added to, and every object in it is created once:
//!
//! ```text
//! done/KEY.json              the unit's outcome; from then on its result stands
//! first/KEY.json             the outcome of a first try that was partial: it is tried once more
//! segments/KEY/T-NNNNN.gz    some minutes of frames, of try T
//! failures/KEY/…json         what went wrong and may go well another time
//! ```
//!
//! *A segment* ends where nothing is followed, so that what comes after it can be computed by a process that knows only
//! the frames before it, and not what was found on them: a killed worker's successor decodes up to there and goes on
//! (see `unit`). An uninterrupted run ends its segments at the same frames, so the results do not depend on who was
//! killed when.
//!
//! Nothing in the store is named after a file, and no sentence in it names one: names are in the manifest alone.

// What a shard does runs unattended for days.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod address;
mod best_frames;
mod bucket;
mod content;
mod failure;
pub mod manifest;
mod merge;
mod outcome;
mod plan;
mod segment;
mod settings;
mod shard;
mod source;
mod status;
mod store;
mod unit;
mod work;

pub use manifest::{Manifest, Unit};
pub use merge::{Merged, merge};
pub use outcome::{Ending, Outcome};
pub use plan::{Plan, plan};
pub use settings::Settings;
pub use shard::{Shard, shards_for};
pub use source::Staging;
pub use status::{Status, status};
pub use store::{Created, Store};
pub use work::{Tally, Work};
