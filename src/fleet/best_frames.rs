//! Pictures of what was found, taken while a segment runs.
//!
//! In: frames that show a polyp (or an episode) best so far. Out: the picture of each one's best frame: the field of
//! view alone, small, without marks. Pictures are compressed once nothing better came for a while.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::segment::BestFrame;
use crate::capture::Frame;
use crate::frame::Rect;
use crate::frame::resize::{Filter, Resampler};
use crate::replay::findings::{Seen, Total};
use crate::replay::record::{FrameRecord, PolypRecord};
use crate::replay::report::{Thumbnail, outlines};
use crate::replay::thumbnail;

/// A segment keeps the pictures of its longest polyps, this many.
const MOST: usize = 64;

/// Frames after which a picture is not expected to be replaced soon.
const SETTLED: u64 = 50;

enum Picture {
    Taken(Thumbnail),
    Kept(Option<BestFrame>),
}

struct Best {
    of: u64,
    frame: u64,
    outlines: Vec<Vec<[i32; 2]>>,
    picture: Picture,
}

impl Best {
    fn settle(&mut self) {
        let Picture::Taken(taken) = &mut self.picture else { return };
        let taken = std::mem::take(taken);
        let view = taken.view;
        let outlines = std::mem::take(&mut self.outlines);
        self.picture = Picture::Kept(taken.encode().map(|jpeg| BestFrame {
            frame: self.frame,
            view,
            outlines,
            width: jpeg.width,
            height: jpeg.height,
            jpeg: STANDARD.encode(&jpeg.bytes),
        }));
    }
}

/// See the module.
pub(super) struct BestFrames {
    wanted: bool,
    followed: bool,
    resampler: Resampler,
    best: Vec<Best>,
    /// Of episodes that are over, with their length in frames.
    over: Vec<Best>,
}

impl BestFrames {
    pub fn new(wanted: bool, followed: bool) -> Self {
        let resampler = Resampler::new(Filter::Antialiased);
        Self { wanted, followed, resampler, best: Vec::new(), over: Vec::new() }
    }

    /// Takes the frame's picture where it is the best of something.
    pub fn frame(&mut self, frame: &Frame, view: Rect, record: &FrameRecord, seen: &Seen) {
        if !self.wanted {
            return;
        }
        if seen.episode_ended
            && !self.followed
            && let Some(mut best) = self.best.pop()
        {
            best.settle();
            if self.over.len() < MOST {
                self.over.push(best);
            }
        }
        for best in self.best.iter_mut().filter(|b| record.frame > b.frame + SETTLED) {
            best.settle();
        }
        if seen.best_of.is_empty() {
            return;
        }
        let Some(picture) = thumbnail(frame, view, &mut self.resampler) else { return };
        for &of in &seen.best_of {
            let outlines = outlines(record, self.followed.then_some(of));
            let best = Best { of, frame: record.frame, outlines, picture: Picture::Taken(picture.clone()) };
            match self.best.iter_mut().find(|b| b.of == of) {
                Some(before) => *before = best,
                None => self.best.push(best),
            }
        }
    }

    /// The pictures to keep. Of what was drawn for a moment only that which may go on in the segment before or behind.
    pub fn finish(
        &mut self,
        total: &Total,
        first_frame: u64,
        last_frame: u64,
        gap_frames: u64,
    ) -> Vec<BestFrame> {
        let mut best = std::mem::take(&mut self.over);
        if self.followed {
            let touches = |p: &&PolypRecord| {
                p.last_frame == last_frame || p.confirmed_frame <= first_frame.saturating_add(gap_frames)
            };
            let mut kept: Vec<_> = total.polyps.iter().chain(total.brief.iter().filter(touches)).collect();
            kept.sort_by_key(|p| (std::cmp::Reverse(p.frames), p.polyp_id));
            kept.truncate(MOST);
            best.extend(self.best.drain(..).filter(|b| kept.iter().any(|p| p.polyp_id == b.of)));
        } else {
            best.append(&mut self.best);
        }
        best.sort_by_key(|b| (b.frame, b.of));
        let kept = best.into_iter().filter_map(|mut b| {
            b.settle();
            match b.picture {
                Picture::Kept(best) => best,
                Picture::Taken(_) => None,
            }
        });
        kept.collect()
    }
}
