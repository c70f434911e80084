//! Whether two handfuls of runs differ by more than runs differ anyway.
//!
//! In: one figure of a few runs on either side. Out: how far their medians lie apart, measured by the larger range
//! (largest minus smallest) within a side, and how far chance alone would carry that.
//!
//! With three runs a side no test of ranks can be surer than 1 in 10, which over the dozens of figures of a report
//! would cry wolf every time. So the ratio `|median(b) − median(a)| / max(range(a), range(b))` is held against its own
//! distribution under "both sides are the same, runs scatter normally", which depends on nothing but the numbers of
//! runs, and is found here by simulation. The level is divided by the number of figures looked at (Bonferroni), so that
//! one comparison in twenty of the same build against itself flags anything. In addition the ranks must agree: every
//! run of one side beyond every run of the other (up to four runs a side), or a Mann–Whitney p below 0.02.

/// Chance that a comparison of the same with the same flags anything.
pub(super) const LEVEL: f64 = 0.05;
/// Fewest runs a side from which anything follows.
pub(super) const FEWEST: usize = 3;
/// Simulated pairs of sides.
const DRAWS: usize = 100_000;

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

pub(super) fn range(values: &[f64]) -> f64 {
    let (least, most) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    if least <= most { most - least } else { 0.0 }
}

/// Splitmix64: the same draws every time.
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller's normal deviate.
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How many ranges apart medians of the same thing come in one case of `figures / LEVEL`.
pub(super) fn threshold(a: usize, b: usize, figures: usize) -> f64 {
    let mut draws = Draws(1);
    let mut side = [vec![0.0; a], vec![0.0; b]];
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            for s in &mut side {
                s.iter_mut().for_each(|v| *v = draws.normal());
            }
            ratio(&side[0], &side[1])
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let beyond = (LEVEL / figures.max(1) as f64 * DRAWS as f64) as usize;
    ratios[DRAWS - 1 - beyond.min(DRAWS - 1)]
}

fn ratio(a: &[f64], b: &[f64]) -> f64 {
    (median(b) - median(a)).abs() / range(a).max(range(b)).max(f64::MIN_POSITIVE)
}

/// Whether the ranks of the two sides differ.
fn ranks_differ(a: &[f64], b: &[f64]) -> bool {
    // How often a value of `a` lies below one of `b`; ties count half.
    let below: f64 = a
        .iter()
        .flat_map(|x| {
            b.iter().map(move |y| {
                if x < y {
                    1.0
                } else if x == y {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    let (m, n) = (a.len() as f64, b.len() as f64);
    let extreme = below.max(m * n - below);
    if a.len() <= 4 || b.len() <= 4 {
        return extreme == m * n;
    }
    let z = (extreme - m * n / 2.0 - 0.5) / (m * n * (m + n + 1.0) / 12.0).sqrt();
    // Two-sided 0.02.
    z > 2.326
}

/// Whether `b` differs from `a`: `times` from [`threshold`], `least` the smallest difference that means anything.
pub(super) fn differs(a: &[f64], b: &[f64], times: f64, least: f64) -> bool {
    let apart = (median(b) - median(a)).abs();
    a.len() >= FEWEST
        && b.len() >= FEWEST
        && apart > least
        && apart > times * range(a).max(range(b))
        && ranks_differ(a, b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians_and_ranges() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (2.0, 2.5, 0.0));
        assert_eq!((range(&[3.0, 1.0, 2.0]), range(&[])), (2.0, 0.0));
    }

    #[test]
    fn more_runs_and_fewer_figures_need_less() {
        let t = |n, figures| threshold(n, n, figures);
        assert!(t(3, 40) > t(5, 40) && t(5, 40) > t(10, 40));
        assert!(t(3, 40) > t(3, 1));
        assert!((1.0..6.0).contains(&t(3, 40)), "{}", t(3, 40));
    }

    #[test]
    fn the_same_is_rarely_flagged_whatever_its_scatter() {
        for n in [3, 5, 8] {
            let times = threshold(n, n, 40);
            let mut draws = Draws(77);
            for skewed in [false, true] {
                let mut flagged = 0;
                for _ in 0..2000 {
                    let one = |d: &mut Draws| {
                        (0..n)
                            .map(|_| {
                                let v = d.normal();
                                100.0 + if skewed { (v * 0.8).exp() } else { v }
                            })
                            .collect::<Vec<_>>()
                    };
                    let (a, b) = (one(&mut draws), one(&mut draws));
                    flagged += usize::from(differs(&a, &b, times, 0.0));
                }
                // 0.125 % is asked of normal scatter; skewed scatter may do a little worse.
                assert!(flagged <= if skewed { 30 } else { 14 }, "{n} runs: {flagged} of 2000");
            }
        }
    }

    #[test]
    fn what_never_varies_differs_only_beyond_the_least() {
        assert!(!differs(&[0.0; 3], &[0.0; 3], 3.0, 1.0));
        assert!(!differs(&[5.0; 3], &[5.5; 3], 3.0, 1.0));
        assert!(differs(&[5.0; 3], &[9.0; 3], 3.0, 1.0));
        assert!(!differs(&[5.0; 2], &[9.0; 2], 3.0, 1.0), "two runs are too few");
    }

    proptest! {
        #[test]
        fn a_shift_beyond_the_spread_is_flagged_both_ways(
            base in 1.0f64..1e5, scatter in 0.001f64..0.05, n in 3usize..8, u in prop::collection::vec(0.0f64..1.0, 16))
        {
            let times = threshold(n, n, 40);
            let a: Vec<f64> = (0..n).map(|i| base * (1.0 + scatter * u[i])).collect();
            let shift = base * scatter * (times + 2.0);
            let b: Vec<f64> = (0..n).map(|i| base * (1.0 + scatter * u[i + 8]) + shift).collect();
            prop_assert!(differs(&a, &b, times, 0.0));
            prop_assert!(differs(&b, &a, times, 0.0));
        }

        #[test]
        fn the_unit_does_not_matter(a in prop::collection::vec(1.0f64..100.0, 3..6), b in prop::collection::vec(1.0f64..100.0, 3..6)) {
            let scaled = |v: &[f64]| v.iter().map(|x| x * 1024.0).collect::<Vec<_>>();
            prop_assert_eq!(differs(&a, &b, 2.0, 0.0), differs(&scaled(&a), &scaled(&b), 2.0, 0.0));
        }
    }
}
