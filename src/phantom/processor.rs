//! The video processor behind the sensor: where on the frame the picture lies, its softness, motion blur, noise, and
//! the text beside it. Colours of the picture go in, packed RGB rows come out.

use super::noise::Stream;
use super::raster::Span;
use super::settings::{Settings, View};
use super::simd_dispatch::by_cpu;
use super::space::Lens;

/// The part of the frame that shows the picture.
pub(crate) struct Field {
    /// Visible pixels of every row.
    pub spans: Vec<Span>,
    pub lens: Lens,
    /// Leftmost visible column and one past the rightmost.
    pub left: u32,
    pub right: u32,
    /// First visible row and one past the last.
    pub top: u32,
    pub bottom: u32,
}

impl Field {
    pub fn new(settings: &Settings) -> Self {
        let (w, h) = (settings.width as f32, settings.height as f32);
        let (cx, cy, half_w, half_h) = match settings.view {
            View::Full => (0.5 * w, 0.5 * h, 0.5 * w, 0.5 * h),
            View::Octagon => {
                let half_h = 0.4925 * h;
                (0.5 * w, 0.5 * h, (half_h * 1.28).min(0.4925 * w), half_h)
            }
            View::Processor => {
                let half_h = 0.4925 * h;
                let half_w = (half_h * 1.28).min(0.37 * w);
                (w - half_w - (0.0075 * h).max(1.0), 0.5 * h, half_w, half_h)
            }
        };
        // 75° off the axis in the corners of a full frame, 70° at the sides of an octagon (see `Lens`).
        let focal = match settings.view {
            View::Full => (half_w * half_w + half_h * half_h).sqrt() / 1.283,
            _ => half_w.max(half_h) / 1.20,
        };
        let cut = 0.27 * half_h.min(half_w) * 2.0;
        // The corners of the octagon are a little rounded.
        let corner = ((half_w - cut) * (half_w - cut) + half_h * half_h)
            .max(half_w * half_w + (half_h - cut) * (half_h - cut))
            .sqrt();
        let round = corner * 0.992;
        let inside = |x: u32, y: u32| {
            let (dx, dy) = ((x as f32 + 0.5 - cx).abs(), (y as f32 + 0.5 - cy).abs());
            settings.view == View::Full
                || (dx <= half_w
                    && dy <= half_h
                    && (half_w - dx) + (half_h - dy) >= cut
                    && dx * dx + dy * dy <= round * round)
        };
        let spans: Vec<Span> = (0..settings.height)
            .map(|y| {
                let first = (0..settings.width).find(|&x| inside(x, y));
                let last = (0..settings.width).rev().find(|&x| inside(x, y));
                match (first, last) {
                    (Some(a), Some(b)) => (a, b + 1),
                    _ => (0, 0),
                }
            })
            .collect();
        let shown = || spans.iter().filter(|s| s.1 > s.0);
        let left = shown().map(|s| s.0).min().unwrap_or(0);
        let right = shown().map(|s| s.1).max().unwrap_or(0);
        let top = spans.iter().position(|s| s.1 > s.0).unwrap_or(0) as u32;
        let bottom = spans.iter().rposition(|s| s.1 > s.0).map_or(0, |y| y + 1) as u32;
        Self { lens: Lens { centre: [cx, cy], focal }, left, right, top, bottom, spans }
    }

    pub fn contains(&self, x: f32, y: f32) -> bool {
        if !(x >= 0.0 && y >= 0.0) {
            return false;
        }
        match self.spans.get(y as usize) {
            Some(&(a, b)) => x >= a as f32 && x < b as f32,
            None => false,
        }
    }
}

/// Sums neighbouring pixels into rows without unpacking them: red and blue in one word, green in another.
const EVEN: u32 = 0x00ff_00ff;

/// Pixels beside the picture that repeat its border, for the smear to reach into.
pub(crate) const MARGIN: usize = 64;
/// Pixels smeared alike.
const BLOCK: usize = 16;

by_cpu! {
    /// Smears the picture along the motion of the frame: `motion` is the displacement at (x, y) while the shutter is
    /// open, in pixels, as an affine map. Row `y` of the result. Rows of `picture` are `stride` long, the frame begins
    /// after [`MARGIN`].
    pub(crate) fn smear(picture: &[u32], stride: usize, field: &Field, motion: &[f64; 6], y: usize, out: &mut [u32]) {
        let (x0, x1) = (field.spans[y].0 as usize, field.spans[y].1 as usize);
        let m = motion.map(|v| v as f32);
        let last = field.bottom as i32 - 1;
        // Whole blocks: what they overlap at the ends lies in the margin.
        for x in (x0..x1).step_by(BLOCK) {
            let (cx, cy) = (x as f32 + 0.5 * BLOCK as f32, y as f32 + 0.5);
            let limit = (MARGIN - BLOCK) as f32;
            let sx = (m[0] * cx + m[1] * cy + m[2]).clamp(-limit, limit);
            let sy = (m[3] * cx + m[4] * cy + m[5]).clamp(-limit, limit);
            let (mut even, mut odd) = ([0u32; BLOCK], [0u32; BLOCK]);
            // Eight places from half a motion before to half a motion after.
            for k in 0..8 {
                let f = 0.125 * k as f32 - 0.4375;
                let row = (((cy + f * sy).floor()) as i32).clamp(field.top as i32, last) as usize;
                let column = ((MARGIN + x) as f32 + f * sx + 0.5).floor() as usize;
                let source = &picture[row * stride + column..][..BLOCK];
                for i in 0..BLOCK {
                    even[i] += source[i] & EVEN;
                    odd[i] += (source[i] >> 8) & EVEN;
                }
            }
            let target = &mut out[MARGIN + x..][..BLOCK];
            for i in 0..BLOCK {
                target[i] = ((even[i] >> 3) & EVEN) | (((odd[i] >> 3) & EVEN) << 8);
            }
        }
        spread_border(out, x0, x1);
    }
}

/// Repeats the first and the last pixel of the picture on a row to both sides.
pub(crate) fn spread_border(row: &mut [u32], x0: usize, x1: usize) {
    if x0 < x1 {
        let (first, last) = (row[MARGIN + x0], row[MARGIN + x1 - 1]);
        row[x0..MARGIN + x0].fill(first);
        row[MARGIN + x1..2 * MARGIN + x1].fill(last);
    }
}

/// Noise of the sensor, made once: a long line of it, of which every row of every frame takes its own piece.
pub(crate) struct Grain {
    line: Vec<[i16; 3]>,
    stream: Stream,
}

const GRAIN: usize = 1 << 16;

impl Grain {
    pub fn new(seed: u64, width: usize) -> Self {
        let stream = Stream::new(seed, "grain");
        // A sum of four uniform numbers is as good as a normal one here.
        let draw = |k: u64, i: usize| {
            let bits = stream.child(k).bits(i as u64);
            (0..4).map(|b| ((bits >> (16 * b)) & 0xffff) as f32 / 65536.0 - 0.5).sum::<f32>() * 1.732
        };
        let n = GRAIN + width;
        let raw: Vec<[f32; 4]> = (0..n + 4).map(|i| std::array::from_fn(|k| draw(k as u64, i))).collect();
        let line = (0..n)
            .map(|i| {
                // Colour noise is coarser than brightness noise: it went through chroma subsampling.
                let soft = |k: usize| (raw[i][k] + raw[i + 1][k] + raw[i + 2][k] + raw[i + 3][k]) * 0.5;
                let luma = 2.1 * raw[i][0];
                let c = [soft(1), soft(2), soft(3)];
                std::array::from_fn(|k| (luma + 1.5 * c[k] + 0.5).floor() as i16)
            })
            .collect();
        Self { line, stream: stream.child(9) }
    }

    fn piece(&self, frame: u64, y: usize, n: usize) -> &[[i16; 3]] {
        let at = self.stream.bits(frame << 16 | y as u64) as usize % GRAIN;
        &self.line[at..at + n]
    }
}

by_cpu! {
    /// One finished row: the picture softened as by the lens and the processor's scaler (1 2 1 in both directions),
    /// grain on it, black around. `soft` is scratch for two words a pixel.
    pub(crate) fn finish(
        picture: &[u32],
        stride: usize,
        field: &Field,
        grain: &Grain,
        frame: u64,
        y: usize,
        soft: &mut [[u32; 2]],
        rgb: &mut [u8],
    ) {
        let (a, b) = (field.spans[y].0 as usize, field.spans[y].1 as usize);
        rgb.fill(0);
        if a >= b {
            return;
        }
        let above = y.max(field.top as usize + 1) - 1;
        let below = (y + 1).min(field.bottom as usize - 1);
        // One pixel more on both sides, from the margin.
        let row = |r: usize| &picture[r * stride + MARGIN + a - 1..r * stride + MARGIN + b + 1];
        let (top, mid, low) = (row(above), row(y), row(below));
        let soft = &mut soft[..b - a + 2];
        for (((s, t), m), l) in soft.iter_mut().zip(top).zip(mid).zip(low) {
            s[0] = (t & EVEN) + 2 * (m & EVEN) + (l & EVEN);
            s[1] = ((t >> 8) & EVEN) + 2 * ((m >> 8) & EVEN) + ((l >> 8) & EVEN);
        }
        let grain = grain.piece(frame, y, b - a);
        for ((out, s), g) in rgb[3 * a..3 * b].chunks_exact_mut(3).zip(soft.windows(3)).zip(grain) {
            let even = (s[0][0] + 2 * s[1][0] + s[2][0] + 0x0008_0008) >> 4;
            let odd = (s[0][1] + 2 * s[1][1] + s[2][1] + 0x0008_0008) >> 4;
            let c = [(even & 0xff) as i16, (odd & 0xff) as i16, ((even >> 16) & 0xff) as i16];
            for k in 0..3 {
                out[k] = (c[k] + g[k]).clamp(0, 255) as u8;
            }
        }
    }
}

/// Letters of five by seven dots, the rows from above, the leftmost dot the highest of five bits.
fn glyph(letter: u8) -> [u8; 7] {
    match letter {
        b'0' => [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
        b'1' => [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
        b'2' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
        b'3' => [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
        b'4' => [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
        b'5' => [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
        b'6' => [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
        b'7' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        b'8' => [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
        b'9' => [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
        b'A' => [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        b'D' => [0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e],
        b'E' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
        b'H' => [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        b'I' => [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        b'M' => [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11],
        b'N' => [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11],
        b'O' => [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        b'P' => [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10],
        b'S' => [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e],
        b'T' => [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04],
        b':' => [0x00, 0x04, 0x04, 0x00, 0x04, 0x04, 0x00],
        _ => [0; 7],
    }
}

/// The processor's text: draws `lines` at the left of the picture, as far as there is room.
pub(crate) fn caption(rgb: &mut [u8], width: usize, height: usize, field: &Field, lines: &[&[u8]]) {
    let dot = (height / 300).max(1);
    let (x0, mut y0) = (2 * dot + width / 80, height / 12);
    for line in lines {
        for (k, &letter) in line.iter().enumerate() {
            for (r, bits) in glyph(letter).into_iter().enumerate() {
                for c in 0..5 {
                    if bits >> (4 - c) & 1 == 0 {
                        continue;
                    }
                    for y in y0 + r * dot..y0 + (r + 1) * dot {
                        let x = x0 + (k * 6 + c) * dot;
                        // Never on the picture.
                        if y >= height
                            || x + dot >= width.min(field.spans[y].0 as usize) && field.spans[y].1 > 0
                        {
                            continue;
                        }
                        if x + dot <= width {
                            rgb[3 * (y * width + x)..3 * (y * width + x + dot)].fill(214);
                        }
                    }
                }
            }
        }
        y0 += 11 * dot;
    }
}

/// Minutes, seconds and hours of a time, `00:01:23`.
pub(crate) fn clock(seconds: u64) -> [u8; 8] {
    let mut text = *b"00:00:00";
    let parts = [seconds / 3600 % 100, seconds / 60 % 60, seconds % 60];
    for (k, p) in parts.into_iter().enumerate() {
        text[3 * k] = b'0' + (p / 10) as u8;
        text[3 * k + 1] = b'0' + (p % 10) as u8;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts() {
        assert_eq!(&clock(3723), b"01:02:03");
        assert_eq!(&clock(0), b"00:00:00");
    }

    #[test]
    fn every_view_fits_its_frame() {
        for view in View::ALL {
            for (width, height) in [(1280, 720), (321, 199), (32, 32), (64, 400), (1920, 1080), (400, 33)] {
                let s = Settings { width, height, view: *view, ..Settings::default() };
                let f = Field::new(&s);
                assert!(f.right <= width && f.left < f.right, "{view} {width}x{height}");
                let lit: u32 = f.spans.iter().map(|(a, b)| b - a).sum();
                let side = width.min(height);
                assert!(lit * 2 > side * side, "{view} {width}x{height}: {lit}");
                if *view == View::Processor {
                    assert!(f.left * 8 > width, "room for text at {width}x{height}: {}", f.left);
                }
            }
        }
    }
}
