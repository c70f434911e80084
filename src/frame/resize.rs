//! Bilinear reduction of a picture to the network's input size.
//!
//! In: a rectangle of a picture. Out: packed 8-bit RGB at another size. The antialiased filter is Pillow's `BILINEAR`:
//! a triangle whose support widens with the reduction, applied horizontally and then vertically in fixed point, with
//! 8-bit values in between; it gives the same bytes.

use super::colour::RowReader;
use super::{Picture, Rect};

/// How wide the triangle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// As wide as the reduction.
    Antialiased,
    /// Two neighbours, whatever the reduction.
    Plain,
}

/// Fractional bits of a coefficient: 32 less 8 for the value and 2 for the sum.
pub(crate) const BITS: u32 = 32 - 8 - 2;

/// Which source samples one output sample is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Coefficients {
    /// (first source sample, number of them) of each output sample.
    spans: Vec<(usize, usize)>,
    /// `taps` values for each output sample, the rest zero.
    weights: Vec<i32>,
    taps: usize,
}

impl Coefficients {
    pub(crate) fn new(source: usize, target: usize, filter: Filter) -> Self {
        let scale = source as f64 / target as f64;
        let width = match filter {
            Filter::Antialiased => scale.max(1.0),
            Filter::Plain => 1.0,
        };
        let taps = width.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(target);
        let mut weights = vec![0; target * taps];
        for (i, out) in weights.chunks_exact_mut(taps).enumerate() {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - width + 0.5).max(0.0)) as usize;
            let end = ((centre + width + 0.5) as usize).min(source);
            let n = end - first;
            let triangle = |k: usize| (1.0 - ((k + first) as f64 - centre + 0.5).abs() / width).max(0.0);
            let sum: f64 = (0..n).map(triangle).sum();
            for (k, o) in out.iter_mut().enumerate().take(n) {
                *o = (triangle(k) / sum * f64::from(1u32 << BITS)).round() as i32;
            }
            spans.push((first, n));
        }
        Self { spans, weights, taps }
    }

    pub(crate) fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    pub(crate) fn weights(&self) -> &[i32] {
        &self.weights
    }

    pub(crate) fn taps(&self) -> usize {
        self.taps
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes rectangles of pictures; keeps its tables and buffers while sizes stay the same.
#[derive(Debug)]
pub struct Resampler {
    filter: Filter,
    key: (usize, usize, usize, usize),
    across: Coefficients,
    down: Coefficients,
    line: Vec<u8>,
    /// Every source row, already reduced horizontally.
    narrow: Vec<u8>,
}

impl Resampler {
    /// Without tables: they are made for the first picture, and again for another size.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            key: (0, 0, 0, 0),
            across: Coefficients::default(),
            down: Coefficients::default(),
            line: Vec::new(),
            narrow: Vec::new(),
        }
    }

    /// Reduces `view` (which must lie in the picture and not be empty) to `width` x `height` packed RGB.
    ///
    /// Of an interlaced picture only the first field is read.
    pub fn run(&mut self, picture: &Picture, view: Rect, width: usize, height: usize, rgb: &mut [u8]) {
        let reader = RowReader::new(*picture);
        let rows = reader.rows();
        let (top, bottom) = rows.of_view(picture, view);
        let (source_w, source_h) = (view.w as usize, bottom - top);
        let key = (source_w, source_h, width, height);
        if self.key != key {
            self.across = Coefficients::new(source_w, width, self.filter);
            self.down = Coefficients::new(source_h, height, self.filter);
            self.line.resize(source_w * 3, 0);
            self.narrow.resize(source_h * width * 3, 0);
            self.key = key;
        }
        for (row, narrow) in (top..bottom).zip(self.narrow.chunks_exact_mut(width * 3)) {
            reader.rgb(row, view.x as usize, &mut self.line);
            for ((out, &(first, n)), weights) in narrow
                .chunks_exact_mut(3)
                .zip(&self.across.spans)
                .zip(self.across.weights.chunks_exact(self.across.taps))
            {
                let mut sum = [1i32 << (BITS - 1); 3];
                for (pixel, &w) in self.line[first * 3..(first + n) * 3].chunks_exact(3).zip(weights) {
                    for c in 0..3 {
                        sum[c] += pixel[c] as i32 * w;
                    }
                }
                for c in 0..3 {
                    out[c] = clip(sum[c]);
                }
            }
        }
        for ((out, &(first, n)), weights) in rgb
            .chunks_exact_mut(width * 3)
            .zip(&self.down.spans)
            .zip(self.down.weights.chunks_exact(self.down.taps))
        {
            for (x, o) in out.iter_mut().enumerate() {
                let mut sum = 1i32 << (BITS - 1);
                for (k, &w) in weights[..n].iter().enumerate() {
                    sum += self.narrow[(first + k) * width * 3 + x] as i32 * w;
                }
                *o = clip(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FieldOrder, PictureInfo, PixelFormat};
    use proptest::prelude::*;

    fn run(filter: Filter, w: u32, h: u32, bytes: &[u8], to: (usize, usize)) -> Vec<u8> {
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Rgb, w, h), bytes).unwrap();
        let mut out = vec![0; to.0 * to.1 * 3];
        Resampler::new(filter).run(&picture, Rect::full(w, h), to.0, to.1, &mut out);
        out
    }

    /// The definition in f64, without 8-bit values in between.
    fn textbook(w: usize, h: usize, bytes: &[u8], to: (usize, usize), x: usize, y: usize, c: usize) -> f64 {
        let weights = |n: usize, m: usize, i: usize| -> Vec<f64> {
            let scale = n as f64 / m as f64;
            let width = scale.max(1.0);
            let centre = (i as f64 + 0.5) * scale;
            let raw: Vec<f64> =
                (0..n).map(|k| (1.0 - (k as f64 + 0.5 - centre).abs() / width).max(0.0)).collect();
            let sum: f64 = raw.iter().sum();
            raw.into_iter().map(|v| v / sum).collect()
        };
        let (wx, wy) = (weights(w, to.0, x), weights(h, to.1, y));
        (0..h)
            .map(|j| wy[j] * (0..w).map(|i| wx[i] * f64::from(bytes[(j * w + i) * 3 + c])).sum::<f64>())
            .sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn antialiased_resize_follows_its_definition(
            w in 1usize..40, h in 1usize..40, tw in 1usize..20, th in 1usize..20, seed in any::<u64>(),
        ) {
            let mut s = seed;
            let bytes: Vec<u8> = (0..w * h * 3).map(|_| {
                s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (s >> 56) as u8
            }).collect();
            let out = run(Filter::Antialiased, w as u32, h as u32, &bytes, (tw, th));
            for y in 0..th { for x in 0..tw { for c in 0..3 {
                let want = textbook(w, h, &bytes, (tw, th), x, y, c);
                let got = f64::from(out[(y * tw + x) * 3 + c]);
                prop_assert!((got - want).abs() <= 1.01, "{w}x{h} to {tw}x{th} at {x},{y}: {got} is not {want}");
            }}}
        }
    }

    #[test]
    fn the_same_size_is_the_identity_under_both_filters() {
        let bytes: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 256) as u8).collect();
        for filter in [Filter::Antialiased, Filter::Plain] {
            assert_eq!(run(filter, 5, 4, &bytes, (5, 4)), bytes);
        }
    }

    #[test]
    fn an_interlaced_picture_is_read_from_its_first_field() {
        let mut info = PictureInfo::new(PixelFormat::Rgb, 4, 8);
        info.fields = FieldOrder::BottomFirst;
        let bytes: Vec<u8> = (0..8).flat_map(|y| vec![if y % 2 == 1 { 200 } else { 10 }; 12]).collect();
        let mut out = vec![0; 2 * 2 * 3];
        let picture = Picture::packed(info, &bytes).unwrap();
        for view in [Rect::full(4, 8), Rect::new(1, 3, 2, 4), Rect::new(0, 7, 4, 1), Rect::new(0, 0, 4, 1)] {
            Resampler::new(Filter::Antialiased).run(&picture, view, 2, 2, &mut out);
            assert!(out.iter().all(|v| *v == 200), "{view}");
        }
    }
}
