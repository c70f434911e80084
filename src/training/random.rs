//! Random numbers that are the same everywhere for the same seed, and whose state is one number that a file can keep.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): enough for augmentation and initial weights, where nobody chooses the seed
//! to do harm.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The stream of one seed.
    pub fn new(seed: u64) -> Self {
        let mut out = Self(seed);
        // Seeds that follow each other must not give streams that follow each other.
        Self(out.next() ^ 0x5851_F42D_4C95_7F2D)
    }

    /// The stream of one thing among many, such as a picture in an epoch: independent of how many others were drawn.
    pub fn of(seed: u64, path: &[u64]) -> Self {
        path.iter().fold(Self::new(seed), |r, &p| Self::new(r.0 ^ p.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to `high`, without `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// `true` with the probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Mean 0, deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Puts a list into random order, each order as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |mut r: Random| (0..8).map(|_| r.next()).collect::<Vec<_>>();
        assert_eq!(draw(Random::of(7, &[1, 2])), draw(Random::of(7, &[1, 2])));
        assert_ne!(draw(Random::of(7, &[1, 2])), draw(Random::of(7, &[2, 1])));
        let mut r = Random::new(3);
        let values: Vec<f64> = (0..20_000).map(|_| r.normal()).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut counts = [0; 5];
        (0..5000).for_each(|_| counts[r.below(5)] += 1);
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }
}
