//! A frame's identity and time, its picture, and the mask that belongs to it.
//!
//! In: nothing. Out: the vocabulary every other module speaks ([`FrameId`], [`Pts`], [`Nanos`], [`Picture`], [`Mask`]),
//! and what can be done with a picture or a mask alone: read its [`colour`]s, [`resize`] it, find its connected
//! [`components`]. This module knows neither GStreamer nor candle, and uses no other module of this crate but its
//! errors.

pub mod colour;
pub mod components;
mod map;
mod mask;
mod picture;
mod rate;
pub mod resize;
mod track;

pub use map::{Extent, Found, Shape};
pub use mask::{Mask, Polyp};
pub use picture::{
    Chroma, Colorimetry, FieldOrder, Layout, Matrix, Picture, PictureInfo, PictureMut, PixelFormat, Plane,
    PlaneMut, packed_len,
};
pub use rate::Rate;
pub use track::{Gate, TrackMark, TrackState};

use std::fmt;
use std::time::Duration;

/// Our own number of a frame: 0, 1, 2, … in the order frames enter the video path. Never repeats, never runs backwards,
/// whatever the source's timestamps do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u64);

impl FrameId {
    /// The number of the frame after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}", self.0)
    }
}

/// Presentation timestamp in nanoseconds of the stream's running time, as the source gave it: may jump or repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pts(pub u64);

impl fmt::Display for Pts {
    /// `h:mm:ss.mmm`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1_000_000;
        write!(f, "{}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
    }
}

/// A span of monotonic time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// In microseconds, with their fraction.
    pub fn as_micros_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

impl From<Duration> for Nanos {
    /// Saturates after 584 years.
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A rectangle of whole pixels: `x`, `y` of its top left corner, then width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct Rect {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Number of columns.
    pub w: u32,
    /// Number of rows.
    pub h: u32,
}

impl Rect {
    /// From the top left corner, the width and the height.
    pub const fn new(x: u32, y: u32, w: u32, h: u32) -> Self {
        Self { x, y, w, h }
    }

    /// All pixels of a picture of this size.
    pub const fn full(w: u32, h: u32) -> Self {
        Self { x: 0, y: 0, w, h }
    }

    /// One past the last column.
    pub const fn right(&self) -> u32 {
        self.x + self.w
    }

    /// One past the last row.
    pub const fn bottom(&self) -> u32 {
        self.y + self.h
    }

    /// Number of its pixels.
    pub const fn area(&self) -> u64 {
        self.w as u64 * self.h as u64
    }

    /// Whether it has no pixel.
    pub const fn is_empty(&self) -> bool {
        self.w == 0 || self.h == 0
    }

    /// Whether the pixel in column `x` of row `y` is one of its own.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        x >= self.x && y >= self.y && x < self.right() && y < self.bottom()
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn around(&self, other: &Rect) -> Rect {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        Rect { x, y, w: self.right().max(other.right()) - x, h: self.bottom().max(other.bottom()) - y }
    }

    /// The part common to both; empty (w or h 0) if there is none.
    #[must_use]
    pub fn intersect(&self, other: &Rect) -> Rect {
        let x = self.x.max(other.x);
        let y = self.y.max(other.y);
        Rect {
            x,
            y,
            w: self.right().min(other.right()).saturating_sub(x),
            h: self.bottom().min(other.bottom()).saturating_sub(y),
        }
    }
}

impl From<[u32; 4]> for Rect {
    fn from([x, y, w, h]: [u32; 4]) -> Self {
        Self { x, y, w, h }
    }
}

impl From<Rect> for [u32; 4] {
    fn from(r: Rect) -> Self {
        [r.x, r.y, r.w, r.h]
    }
}

impl fmt::Display for Rect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.w, self.h)
    }
}
