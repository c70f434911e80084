//! Live overlay: the newest-wins policy over capture, worker and overlay.
//!
//! In: a pipeline file and an engine. Out: the source's picture with the newest mask on it, and what the session comes
//! to. The video path never waits for anything in here.

mod adaptive_size;
mod compositor;
mod controls;
mod frame_taps;
mod network;
mod overlay_graph;
mod recordings;
mod session;
mod session_control;
mod sizing;
mod stills;
mod timestamps;

pub use compositor::{Shown, Tap};
pub use controls::Controls;
pub use frame_taps::Taps;
pub use network::{LiveNetwork, NetworkSettings, Wrap};
pub use overlay_graph::{OverlayGraph, OverlayGraphSettings};
pub use session::{Session, Settings, Step};
pub use session_control::LiveSessionControl;
