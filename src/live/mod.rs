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
mod recordings;
mod session;
pub mod sizing;
mod stamps;
mod stills;
mod taps;

pub use adapting::{Adapting, Build, Built, Sides};
pub use compositor::Tap;
pub use controls::Controls;
pub use core::{Core, CoreSettings};
pub use desk::LiveDesk;
pub use session::{Session, Settings, Step};
pub use taps::Taps;
