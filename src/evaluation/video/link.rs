//! Identities over time: the boxes of each frame flow in, a number per box flows out, the same for the same thing.

use super::region::Bounds;
use super::rules::LinkRule;

/// Gives things that look alike from frame to frame one number each.
#[derive(Clone, Debug)]
pub struct Linker {
    rule: LinkRule,
    gap_ms: f64,
    next: u64,
    tracks: Vec<Track>,
}

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    bounds: Bounds,
    seen_ms: f64,
}

impl Linker {
    /// A thing unseen for more than `gap_ms` is another when it comes back. The first number is `first`.
    pub fn new(rule: LinkRule, gap_ms: f64, first: u64) -> Self {
        Self { rule, gap_ms, next: first, tracks: Vec::new() }
    }

    /// Numbers for the boxes of a frame, each number at most once (unless the rule is [`LinkRule::All`]): the closest
    /// pair of a thing and a box is linked first. Frames come in the order of time.
    pub fn frame(&mut self, now_ms: f64, boxes: &[Bounds]) -> Vec<u64> {
        if self.rule == LinkRule::All {
            return vec![self.next; boxes.len()];
        }
        let gap = self.gap_ms;
        self.tracks.retain(|t| now_ms - t.seen_ms <= gap + 1e-6);
        let mut candidates = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
            for (b, bounds) in boxes.iter().enumerate() {
                if let Some(distance) = self.rule.distance(&track.bounds, bounds) {
                    candidates.push((distance, t, b));
                }
            }
        }
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut given: Vec<Option<u64>> = vec![None; boxes.len()];
        let mut taken = vec![false; self.tracks.len()];
        for (_, t, b) in candidates {
            if !taken[t] && given[b].is_none() {
                taken[t] = true;
                given[b] = Some(self.tracks[t].id);
                self.tracks[t].bounds = boxes[b];
                self.tracks[t].seen_ms = now_ms;
            }
        }
        given
            .into_iter()
            .zip(boxes)
            .map(|(id, &bounds)| {
                id.unwrap_or_else(|| {
                    let id = self.next;
                    self.next += 1;
                    self.tracks.push(Track { id, bounds, seen_ms: now_ms });
                    id
                })
            })
            .collect()
    }
}
