//! Live overlay: the newest-wins policy over capture, worker and overlay.
//!
//! In: a pipeline file and an engine. Out: the source's picture with the newest mask on it, and what the session comes to.
//! The video path never waits for anything in here.

mod adapting;
mod compositor;
mod controls;
mod copies;
mod core;
mod desk;
mod network;
mod recordings;
mod session;
mod sizing;
mod stamps;
mod stills;
mod taps;

pub use compositor::Tap;
pub use controls::Controls;
pub use core::{Core, CoreSettings};
pub use desk::LiveDesk;
pub use network::{LiveNetwork, NetworkSettings, Wrap};
pub use session::{Session, Settings, Step};
pub use taps::Taps;
