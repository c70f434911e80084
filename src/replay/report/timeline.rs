//! The course of a recording of any length in a fixed memory.
//!
//! In: what each frame showed, and when on the report's line. Out: at most [`MOST_BINS`] bins of equal width that
//! double as the recording grows; each keeps its extremes, so that a single frame's detection never vanishes.

pub(super) const MOST_BINS: usize = 2048;

/// About a millisecond; widths are this times a power of two.
const NARROWEST_NS: u64 = 1 << 20;

/// What happened within one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    /// Largest area inside polyps on any of its frames, in pixels.
    pub area_px: u64,
    /// Largest probability on any of its frames.
    pub probability: f32,
    /// The frame with that area (the most probable one where none has any), plus one; 0 where no frame is shown.
    frame: u64,
    from_ns: u64,
}

impl Bin {
    pub fn frame(&self) -> Option<u64> {
        self.frame.checked_sub(1)
    }

    /// When that frame begins.
    pub fn starts_ns(&self) -> u64 {
        self.from_ns
    }

    fn add(&mut self, other: Bin) {
        let larger = (other.area_px, other.probability) > (self.area_px, self.probability);
        if other.frame != 0 && (self.frame == 0 || larger) {
            (self.frame, self.from_ns) = (other.frame, other.from_ns);
        }
        self.area_px = self.area_px.max(other.area_px);
        self.probability = self.probability.max(other.probability);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Timeline {
    bins: Vec<Bin>,
    width_ns: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { bins: Vec::with_capacity(MOST_BINS), width_ns: NARROWEST_NS }
    }
}

impl Timeline {
    /// Adds a frame shown from `from_ns` to `to_ns`. Allocates nothing.
    pub fn add(&mut self, from_ns: u64, to_ns: u64, frame: u64, area_px: u64, probability: f32) {
        let last_ns = to_ns.max(from_ns.saturating_add(1)) - 1;
        while last_ns / self.width_ns >= MOST_BINS as u64 {
            self.halve();
        }
        let (first, last) = ((from_ns / self.width_ns) as usize, (last_ns / self.width_ns) as usize);
        if self.bins.len() <= last {
            self.bins.resize(last + 1, Bin::default());
        }
        let probability = if probability.is_finite() { probability } else { 0.0 };
        let seen = Bin { area_px, probability, frame: frame.saturating_add(1), from_ns };
        self.bins[first..=last].iter_mut().for_each(|b| b.add(seen));
    }

    /// Merges neighbours two by two.
    fn halve(&mut self) {
        let half = self.bins.len().div_ceil(2);
        for i in 0..half {
            let mut merged = self.bins[2 * i];
            if let Some(b) = self.bins.get(2 * i + 1) {
                merged.add(*b);
            }
            self.bins[i] = merged;
        }
        self.bins.truncate(half);
        self.width_ns *= 2;
    }

    /// The bins and their common width.
    pub fn bins(&self) -> (&[Bin], u64) {
        (&self.bins, self.width_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_fit_and_a_single_frame_stays_visible() {
        let mut t = Timeline::default();
        let period = 16_666_667;
        for i in 0..3 * 3600 * 60u64 {
            let (area, p) = if i == 400_000 { (1234, 0.75) } else { (0, 0.1) };
            t.add(i * period, (i + 1) * period, i, area, p);
        }
        let (bins, width) = t.bins();
        assert!((MOST_BINS / 2..=MOST_BINS).contains(&bins.len()));
        let peak = (400_000 * period / width) as usize;
        assert_eq!(
            (bins[peak].area_px, bins[peak].probability, bins[peak].frame()),
            (1234, 0.75, Some(400_000))
        );
        assert!(bins.iter().all(|b| b.frame().is_some()));
        assert_eq!(bins.iter().filter(|b| b.area_px > 0).count(), 1);
    }

    #[test]
    fn one_frame_and_the_end_of_time_are_survived() {
        let mut t = Timeline::default();
        t.add(0, 40_000_000, 0, 5, f32::NAN);
        assert_eq!(t.bins().0.iter().map(|b| b.area_px).max(), Some(5));
        t.add(u64::MAX - 1, u64::MAX, 1, 6, 0.5);
        assert!(t.bins().0.len() <= MOST_BINS);
    }

    proptest! {
        /// Against bins made at once at the final width.
        #[test]
        fn growing_loses_nothing(frames in prop::collection::vec((1u64..3_000_000_000, 0u64..9), 1..60)) {
            let mut t = Timeline::default();
            let mut at = 0;
            let mut seen = Vec::new();
            for (i, &(duration, area)) in frames.iter().enumerate() {
                t.add(at, at + duration, i as u64, area, area as f32 / 10.0);
                seen.push((at, at + duration, area));
                at += duration;
            }
            let (bins, width) = t.bins();
            for (i, bin) in bins.iter().enumerate() {
                let (from, to) = (i as u64 * width, (i as u64 + 1) * width);
                let most = seen.iter().filter(|s| s.0 < to && s.1 > from).map(|s| s.2).max();
                prop_assert_eq!(Some(bin.area_px), most);
                prop_assert_eq!(bin.frame().map(|f| seen[f as usize].2), most);
                prop_assert_eq!(bin.frame().map(|f| seen[f as usize].0), most.map(|_| bin.starts_ns()));
            }
        }
    }
}
