//! What is known of one thing seen over time.
//!
//! In: nothing. Out: the states a track goes through, and its entry in a frame's record.

use super::Rect;

/// How far a track is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrackState {
    /// Seen, but not for long enough: not drawn.
    #[default]
    Tentative,
    /// Seen for long enough, and on this frame.
    Confirmed,
    /// Confirmed before, but not seen on this frame, or on a frame that proves nothing.
    Coasting,
    /// This frame ended it.
    Ended,
}

impl TrackState {
    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tentative => "tentative",
            Self::Confirmed => "confirmed",
            Self::Coasting => "coasting",
            Self::Ended => "ended",
        }
    }
}

/// Why a frame starts no track: what is seen on it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Little fine detail: out of focus, or moved too fast.
    Blurred,
    /// Bubbles or water.
    Bubbles,
    /// Much of the picture is white.
    OverExposed,
    /// Few of the lit pixels have the colours of tissue.
    OutsideBody,
}

impl Gate {
    /// Every gate. A set of gates is a bit for each, in this order.
    pub const ALL: [Gate; 4] = [Gate::Blurred, Gate::Bubbles, Gate::OverExposed, Gate::OutsideBody];

    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blurred => "blurred",
            Self::Bubbles => "bubbles",
            Self::OverExposed => "over_exposed",
            Self::OutsideBody => "outside_body",
        }
    }

    /// The same, to people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Blurred => "the picture is blurred",
            Self::Bubbles => "bubbles or water cover the picture",
            Self::OverExposed => "the picture is over-exposed",
            Self::OutsideBody => "the endoscope is outside the body",
        }
    }
}

/// One track on one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrackMark {
    /// From 1, never used again.
    pub track_id: u64,
    /// From 1; the same for tracks taken for one polyp. None until the track is confirmed.
    pub polyp_id: Option<u64>,
    /// How far it is believed on this frame.
    pub state: TrackState,
    /// Since it was first seen.
    pub age_ms: f64,
    /// From its first frame to its confirmation.
    pub confirmed_after_ms: Option<f64>,
    /// Number of the frame on which it was first seen.
    pub first_frame: u64,
    /// Timestamp of that frame.
    pub first_pts_ns: u64,
    /// Where most of it was seen most surely, so far.
    pub best_frame: u64,
    /// In source pixels.
    pub bbox: Rect,
    /// Whether it is part of this frame's mask.
    pub drawn: bool,
}

impl TrackMark {
    /// Whether this frame is the one that confirmed it.
    pub fn is_newly_confirmed(&self) -> bool {
        self.state == TrackState::Confirmed && self.confirmed_after_ms == Some(self.age_ms)
    }
}
