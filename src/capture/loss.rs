//! What a recording lost, and how it is said.
//!
//! In: stretches of lost or damaged frames as the reader finds them. Out: a bounded list of [`Loss`]es in the order of
//! the recording, for `summary.json` and the report's timeline, and one sentence for people.

use serde::{Deserialize, Serialize};

use crate::frame::Pts;

/// Losses kept one by one; what follows is added to the last of its reason, so that a recording that is damaged
/// throughout does not fill the memory.
const MOST: usize = 1000;

/// What became of the frames of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// They are in the file, but no picture came out of the decoder.
    Undecodable,
    /// They are not in the file, or the damage hides them: the timestamps leave room for them.
    Missing,
    /// Their pictures came, but the decoder marked them as damaged: part of what they show is made up.
    Damaged,
    /// The decoder or demuxer complained, and which frames suffered is not known.
    Complaint,
    /// The file's structure is broken here, and which frames suffered is not known.
    Broken,
    /// The file ends before its picture does.
    CutOff,
}

/// A stretch of a recording that could not be read as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Loss {
    /// What became of its frames.
    pub reason: LossReason,
    /// Where it begins, in the recording's own time.
    pub at_ns: u64,
    /// Where it ends; null where that is not known.
    pub until_ns: Option<u64>,
    /// The number of its first frame; null where no frame can be named.
    pub frame: Option<u64>,
    /// How many frames; null where that is not known.
    pub frames: Option<u64>,
}

impl LossReason {
    /// Whether its frames have numbers that no picture carries.
    pub fn takes_numbers(self) -> bool {
        matches!(self, Self::Undecodable | Self::Missing | Self::CutOff)
    }
}

/// Losses in the order they were found.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    list: Vec<Loss>,
}

impl Losses {
    /// Adds a stretch; one that touches the last of its reason makes that longer.
    pub fn add(&mut self, new: Loss) {
        let full = self.list.len() >= MOST;
        let last = self.list.iter_mut().rev().find(|l| l.reason == new.reason);
        if let Some(last) = last {
            let next_frame = last.frame.zip(last.frames).map(|(first, n)| first + n);
            let touches = match (next_frame, new.frame) {
                (Some(next), Some(frame)) => next == frame,
                // Complaints come in bursts.
                _ => new.at_ns.saturating_sub(last.until_ns.unwrap_or(last.at_ns)) < 1_000_000_000,
            };
            if touches || full {
                last.until_ns = last.until_ns.max(new.until_ns);
                last.frames = match (last.frames, new.frames) {
                    (Some(a), Some(b)) => Some(a + b),
                    (a, b) => a.or(b),
                };
                return;
            }
        }
        self.list.push(new);
    }

    /// Whether something that explains a complaint at this time is known already.
    pub fn covers(&self, at_ns: u64) -> bool {
        const NEAR: u64 = 1_500_000_000;
        self.list.iter().any(|l| {
            l.reason != LossReason::Complaint
                && at_ns + NEAR >= l.at_ns
                && at_ns <= l.until_ns.unwrap_or(u64::MAX).saturating_add(NEAR)
        })
    }

    /// In the order of the recording.
    pub fn finish(mut self) -> Vec<Loss> {
        self.list.sort_by_key(|l| l.at_ns);
        self.list
    }
}

/// How many frames have a number but no picture.
pub(crate) fn lost_frames(losses: &[Loss]) -> u64 {
    losses.iter().filter(|l| l.reason.takes_numbers()).filter_map(|l| l.frames).sum()
}

/// All losses in one sentence, each reason with its number of frames and its places; `None` if there are none.
/// `promised_ns` is where the picture should have ended.
pub(super) fn sentence(losses: &[Loss], promised_ns: Option<u64>) -> Option<String> {
    let mut parts = Vec::new();
    for reason in [
        LossReason::Undecodable,
        LossReason::Missing,
        LossReason::Damaged,
        LossReason::Broken,
        LossReason::Complaint,
    ] {
        let of: Vec<&Loss> = losses.iter().filter(|l| l.reason == reason).collect();
        let Some(first) = of.first() else { continue };
        let known: u64 = of.iter().filter_map(|l| l.frames).sum();
        let what = match reason {
            LossReason::Undecodable => counted(known, "frame", "could not be decoded"),
            LossReason::Missing if known == 1 => "1 frame is missing".to_owned(),
            LossReason::Missing => counted(known, "frame", "are missing"),
            LossReason::Damaged if known == 1 => "1 frame is damaged".to_owned(),
            LossReason::Damaged => counted(known, "frame", "are damaged"),
            LossReason::Broken => "the file is damaged".to_owned(),
            _ => "the decoder reported errors".to_owned(),
        };
        parts.push(format!("{what} ({})", places(first, &of)));
    }
    if let Some(cut) = losses.iter().find(|l| l.reason == LossReason::CutOff) {
        let of = match promised_ns.filter(|p| *p > cut.at_ns) {
            Some(p) => format!(" of {}", Pts(p)),
            None => String::new(),
        };
        let frames = match cut.frames {
            Some(0) | None => String::new(),
            Some(1) => ", 1 frame is lost".to_owned(),
            Some(n) => format!(", {n} frames are lost"),
        };
        parts.push(format!("is cut off at {}{of}{frames}", Pts(cut.at_ns)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn counted(n: u64, one: &str, verb: &str) -> String {
    if n == 1 { format!("1 {one} {verb}") } else { format!("{n} {one}s {verb}") }
}

/// "frames 31 to 42, at 0:00:01.240", or the first of several places.
fn places(first: &Loss, all: &[&Loss]) -> String {
    let numbers = match (first.frame, first.frames) {
        (Some(a), Some(n)) if n > 1 => format!("frames {a} to {}, ", a + n - 1),
        (Some(a), _) => format!("frame {a}, "),
        _ => String::new(),
    };
    let at = Pts(first.at_ns);
    match all.len() {
        1 => format!("{numbers}at {at}"),
        n => format!("in {n} places, first {numbers}at {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn loss(reason: LossReason, frame: u64, frames: u64) -> Loss {
        Loss {
            reason,
            at_ns: frame * 40 * MS,
            until_ns: Some((frame + frames) * 40 * MS),
            frame: Some(frame),
            frames: Some(frames),
        }
    }

    #[test]
    fn neighbours_become_one_and_places_are_counted() {
        let mut l = Losses::default();
        l.add(loss(LossReason::Undecodable, 31, 1));
        l.add(loss(LossReason::Undecodable, 32, 3));
        l.add(loss(LossReason::Damaged, 50, 1));
        l.add(loss(LossReason::Undecodable, 60, 2));
        let l = l.finish();
        assert_eq!(l.len(), 3);
        assert_eq!(lost_frames(&l), 6);
        assert_eq!(
            sentence(&l, None).unwrap(),
            "6 frames could not be decoded (in 2 places, first frames 31 to 34, at 0:00:01.240); \
             1 frame is damaged (frame 50, at 0:00:02.000)"
        );
        assert_eq!(sentence(&[], None), None);
    }

    #[test]
    fn a_cut_says_where_and_how_much() {
        let cut = Loss { until_ns: None, ..loss(LossReason::CutOff, 25, 15) };
        assert_eq!(
            sentence(&[cut], Some(1600 * MS)).unwrap(),
            "is cut off at 0:00:01.000 of 0:00:01.600, 15 frames are lost"
        );
        let unknown = Loss { frame: None, frames: None, ..cut };
        assert_eq!(sentence(&[unknown], None).unwrap(), "is cut off at 0:00:01.000");
    }

    #[test]
    fn a_recording_damaged_throughout_takes_bounded_memory() {
        let mut l = Losses::default();
        (0..5000).for_each(|i| l.add(loss(LossReason::Undecodable, i * 2, 1)));
        let l = l.finish();
        assert_eq!((l.len(), lost_frames(&l)), (MOST, 5000));
        assert_eq!(l.last().unwrap().until_ns, Some(9999 * 40 * MS));
    }
}
