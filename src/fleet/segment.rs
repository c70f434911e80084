//! Some minutes of a recording's frames, as one object of the store.
//!
//! In: frames in order, pictures of the best of them, and how the stretch ended. Out: JSON lines, compressed; and back.
//! The lines are frames, then best frames, then the tail, so that an object that lacks its tail is not whole.

use std::io::{BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::capture::Loss;
use crate::frame::Rect;
use crate::replay::record::FrameRecord;
use crate::{Error, Result};

/// The longest line: a picture of 480 pixels a side, or a frame with very many outlines.
const LONGEST_LINE: u64 = 16 << 20;

/// A picture of the field of view at a best frame, and what was marked on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BestFrame {
    pub frame: u64,
    pub view: Rect,
    pub outlines: Vec<Vec<[i32; 2]>>,
    pub width: u32,
    pub height: u32,
    /// Base64.
    pub jpeg: String,
}

/// How the recording ended, if it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    /// Why it does not cover the whole recording.
    pub partial: Option<String>,
    pub losses: Vec<Loss>,
}

/// What the frames cost; not part of the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    pub elapsed_ms: f64,
    /// Decoding up to where this segment begins, after a kill.
    pub resume_ms: f64,
    pub engine: String,
    pub cpu: String,
    /// Stage → milliseconds, all frames together.
    pub stages_ms: Vec<(String, f64)>,
    /// The slowest frames: number, milliseconds, and of those in the network.
    pub slowest: Vec<(u64, f64, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub frames: u64,
    pub last_frame: u64,
    /// It ended although something was being followed: what goes on behind it may be the same polyp.
    pub forced: bool,
    pub width: u32,
    pub height: u32,
    pub view: Rect,
    pub end: Option<End>,
    pub cost: Cost,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<F = FrameRecord> {
    /// With how long it is shown, in nanoseconds.
    Frame(u64, F),
    /// Under the name that the lines have had from the first version on.
    #[serde(rename = "sight")]
    BestFrame(BestFrame),
    Tail(Tail),
}

/// A segment being written, in memory.
pub(super) struct Writer(GzEncoder<Vec<u8>>);

impl Writer {
    pub fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::new(4)))
    }

    pub fn frame(&mut self, record: &FrameRecord, duration_ns: u64) -> Result<()> {
        self.line(&Line::Frame(duration_ns, record))
    }

    pub fn finish(mut self, best_frames: Vec<BestFrame>, tail: Tail) -> Result<Vec<u8>> {
        for best in best_frames {
            self.line::<FrameRecord>(&Line::BestFrame(best))?;
        }
        self.line::<FrameRecord>(&Line::Tail(tail))?;
        self.0.finish().map_err(|e| unwritten(&e))
    }

    fn line<F: Serialize>(&mut self, line: &Line<F>) -> Result<()> {
        serde_json::to_writer(&mut self.0, line).map_err(|e| unwritten(&e))?;
        self.0.write_all(b"\n").map_err(|e| unwritten(&e))
    }
}

fn unwritten(e: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("a segment of results cannot be put together ({e})"))
}

/// What a segment holds besides its frames.
pub(super) struct Segment {
    pub best_frames: Vec<BestFrame>,
    pub tail: Tail,
}

/// Reads a segment; its frames are shown one by one with how long each is shown.
///
/// # Errors
/// Bytes that are no whole segment; what `see` says.
pub(super) fn read(
    name: &str,
    bytes: &[u8],
    see: &mut dyn FnMut(FrameRecord, u64) -> Result<()>,
) -> Result<Segment> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::output(format!("{name}: is not a whole segment of results ({e})"))
            .remedy("delete it from the store and run its shard again")
    };
    let mut lines = BufReader::new(GzDecoder::new(bytes));
    let (mut best_frames, mut text) = (Vec::new(), Vec::new());
    loop {
        text.clear();
        let n = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(|e| wrong(&e))?;
        if n == 0 {
            return Err(wrong(&"it has no end"));
        }
        match serde_json::from_slice(&text).map_err(|e| wrong(&e))? {
            Line::Frame(duration, record) => see(record, duration)?,
            Line::BestFrame(best) => best_frames.push(best),
            Line::Tail(tail) => return Ok(Segment { best_frames, tail }),
        }
    }
}

/// The name of segment `index` of try `round` at a unit.
pub(super) fn name(key: &str, round: u32, index: usize) -> String {
    format!("segments/{key}/{round}-{index:05}.gz")
}

/// The try and the index in a name, relative to the unit's folder.
pub(super) fn parse(name: &str) -> Option<(u32, usize)> {
    let (round, index) = name.rsplit('/').next()?.strip_suffix(".gz")?.split_once('-')?;
    Some((round.parse().ok()?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_is_missed_when_cut_off() {
        let mut w = Writer::new();
        let frames: Vec<_> = (0..40)
            .map(|n| FrameRecord {
                frame: n,
                pts_ns: n * 7,
                max_probability: 0.1 + n as f32,
                ..Default::default()
            })
            .collect();
        for f in &frames {
            w.frame(f, f.frame + 1).unwrap();
        }
        let best = BestFrame {
            frame: 3,
            view: Rect::new(1, 2, 3, 4),
            outlines: vec![vec![[1, 2]]],
            width: 1,
            height: 2,
            jpeg: "aGk=".into(),
        };
        let tail = Tail { frames: 40, last_frame: 39, end: Some(End::default()), ..Tail::default() };
        let bytes = w.finish(vec![best.clone()], tail.clone()).unwrap();
        let mut seen = Vec::new();
        let back = read("a", &bytes, &mut |f, d| {
            assert_eq!(d, f.frame + 1);
            seen.push(f);
            Ok(())
        })
        .unwrap();
        assert_eq!((seen, back.best_frames, back.tail), (frames, vec![best], tail));
        for cut in [0, 1, 10, bytes.len() / 2, bytes.len() - 12] {
            assert!(read("a", &bytes[..cut], &mut |_, _| Ok(())).is_err(), "{cut}");
        }
        assert_eq!(parse(&name("ab", 2, 17)), Some((2, 17)));
        assert_eq!(parse("segments/ab/x"), None);
    }
}
