//! Randomness of the phantom: in goes a seed, the name of a stream and a position, out comes a number that depends on
//! nothing else.
//!
//! Counter-based: any value can be asked for in any order. Only integer arithmetic and `+ - * /` and `sqrt` of IEEE 754
//! are used here and in the whole phantom (sines come from [`sin_cos`]), so the same seed gives the same bytes on every
//! machine with IEEE arithmetic, whichever vector instructions it has.

/// One stream of random numbers, told apart from the others of the same seed by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    key: u64,
}

/// Finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stream {
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
        for byte in name.bytes() {
            key = mix(key.wrapping_add(u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        Self { key }
    }

    /// A stream of its own for the `i`-th of several like things.
    pub fn child(self, i: u64) -> Self {
        Self {
            key: mix(self.key ^ i.wrapping_mul(0xd1b5_4a32_d192_ed03).wrapping_add(0x632b_e59b_d9b4_e019)),
        }
    }

    #[inline(always)]
    pub fn bits(self, i: u64) -> u64 {
        mix(self.key.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Uniform in [0, 1).
    #[inline(always)]
    pub fn unit(self, i: u64) -> f32 {
        (self.bits(i) >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [lo, hi).
    #[inline(always)]
    pub fn range(self, i: u64, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.unit(i)
    }

    /// Smooth noise of one variable in (-1, 1), twice differentiable, a new value at every integer;
    /// `period` (in integers) makes it repeat.
    pub fn wander(self, x: f64, period: Option<u64>) -> f64 {
        let cell = x.floor();
        let f = x - cell;
        let at = |k: f64| -> f64 {
            let k = k as i64;
            let k = match period {
                Some(n) => k.rem_euclid(n as i64) as u64,
                None => k as u64,
            };
            f64::from(self.unit(k)) * 2.0 - 1.0
        };
        let (a, b) = (at(cell), at(cell + 1.0));
        a + (b - a) * (f * f * f * (f * (f * 6.0 - 15.0) + 10.0))
    }

    /// Smooth noise of two variables in (-1, 1); the lattice repeats every `wrap` (a power of two) in both.
    #[inline(always)]
    pub fn plane(self, x: f32, y: f32, wrap_x: u32, wrap_y: u32) -> f32 {
        let (cx, cy) = (x.floor(), y.floor());
        let (fx, fy) = (ease(x - cx), ease(y - cy));
        let (ix, iy) = (cx as i32, cy as i32);
        let at = |i: i32, j: i32| {
            let i = (i as u32) & (wrap_x - 1);
            let j = (j as u32) & (wrap_y - 1);
            self.unit(u64::from(i) | (u64::from(j) << 32))
        };
        let a = lerp(at(ix, iy), at(ix + 1, iy), fx);
        let b = lerp(at(ix, iy + 1), at(ix + 1, iy + 1), fx);
        lerp(a, b, fy) * 2.0 - 1.0
    }

    /// Smooth noise of three variables in (-1, 1).
    pub fn space(self, p: [f32; 3]) -> f32 {
        let c = p.map(f32::floor);
        let f = [ease(p[0] - c[0]), ease(p[1] - c[1]), ease(p[2] - c[2])];
        let i = c.map(|v| v as i32);
        let at = |x: i32, y: i32, z: i32| {
            let pack = |v: i32| u64::from(v as u32 & 0x1f_ffff);
            self.unit(pack(i[0] + x) | pack(i[1] + y) << 21 | pack(i[2] + z) << 42)
        };
        let face = |z| {
            let a = lerp(at(0, 0, z), at(1, 0, z), f[0]);
            let b = lerp(at(0, 1, z), at(1, 1, z), f[0]);
            lerp(a, b, f[1])
        };
        lerp(face(0), face(1), f[2]) * 2.0 - 1.0
    }
}

#[inline(always)]
fn ease(f: f32) -> f32 {
    f * f * f * (f * (f * 6.0 - 15.0) + 10.0)
}

#[inline(always)]
pub(crate) fn lerp(a: f32, b: f32, f: f32) -> f32 {
    a + (b - a) * f
}

/// 0 below `lo`, 1 above `hi`, smooth between (`lo` may exceed `hi`: then it falls).
#[inline(always)]
pub(crate) fn smooth_step(lo: f32, hi: f32, x: f32) -> f32 {
    let t = ((x - lo) / (hi - lo)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Sine and cosine of an angle given in turns (1 = 360°), to 1e-9, from `+ - *` alone: the platform's own differ in the
/// last bit from machine to machine.
pub(crate) fn sin_cos(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0 + 0.5).floor();
    let x = (turns - quarter * 0.25) * std::f64::consts::TAU;
    let x2 = x * x;
    let s =
        x * (1.0 - x2 / 6.0 * (1.0 - x2 / 20.0 * (1.0 - x2 / 42.0 * (1.0 - x2 / 72.0 * (1.0 - x2 / 110.0)))));
    let c = 1.0 - x2 / 2.0 * (1.0 - x2 / 12.0 * (1.0 - x2 / 30.0 * (1.0 - x2 / 56.0 * (1.0 - x2 / 90.0))));
    match (quarter as i64).rem_euclid(4) {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_agree_with_the_platform() {
        for i in -4000..4000 {
            let turns = f64::from(i) * 0.000_73;
            let (s, c) = sin_cos(turns);
            let (ps, pc) = (turns * std::f64::consts::TAU).sin_cos();
            assert!((s - ps).abs() < 1e-8 && (c - pc).abs() < 1e-8, "{turns}");
        }
    }

    #[test]
    fn noise_stays_in_range_repeats_and_moves() {
        let s = Stream::new(7, "test");
        let mut seen = (f64::MAX, f64::MIN);
        for i in 0..2000 {
            let x = f64::from(i) * 0.037;
            let v = s.wander(x, Some(8));
            assert!((-1.0..=1.0).contains(&v));
            assert!((v - s.wander(x + 8.0, Some(8))).abs() < 1e-9);
            seen = (seen.0.min(v), seen.1.max(v));
            let p = s.plane(x as f32, 3.3, 8, 8);
            assert!((p - s.plane(x as f32 + 8.0, 3.3 + 16.0, 8, 8)).abs() < 1e-3);
            assert!(s.space([x as f32, -2.5, 1.5]).abs() <= 1.0);
        }
        assert!(seen.1 - seen.0 > 0.5, "noise that does not move is no noise: {seen:?}");
        assert_ne!(s.bits(1), Stream::new(8, "test").bits(1));
        assert_ne!(s.bits(1), Stream::new(7, "tesu").bits(1));
    }
}
