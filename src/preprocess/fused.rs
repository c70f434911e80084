//! Field of view, colour, antialiased resize and normalisation in one pass over the source.
//!
//! In: a rectangle of a picture. Out: normalised planes, the same to the bit as the plain steps in
//! [`frame::resize`](crate::frame::resize) and [`frame::colour`](crate::frame::colour) give. Sixteen source rows at a
//! time are converted, turned so that the sixteen lie side by side, and reduced horizontally with one row a lane; what
//! is left of the picture is small and reduced vertically with one column a lane. Compiled for AVX-512, AVX2 and the
//! processor's baseline from the same plain Rust, chosen at run time.

use crate::frame::colour::{FieldRows, Matrix, v210_component, word};
use crate::frame::resize::{BITS, Coefficients, Filter};
use crate::frame::{Chroma, Layout, Picture, Rect};

/// Source rows reduced together.
const ROWS: usize = 16;

/// Turns rectangles of pictures into network inputs; keeps its tables and buffers while sizes stay the same.
#[derive(Debug)]
pub struct Reducer {
    filter: Filter,
    key: (usize, usize, usize, usize),
    across: Coefficients,
    down: Coefficients,
    /// Y, U, V of one row at full width.
    samples: [Vec<u16>; 3],
    /// R, G, B of sixteen rows: `[channel][row][pixel]`, rows padded to whole blocks of sixteen pixels.
    colours: Vec<u8>,
    /// The same turned: `[channel][pixel][row]`.
    turned: Vec<[u8; ROWS]>,
    /// One slab reduced horizontally: `[channel][pixel][row]`.
    reduced: Vec<[u8; ROWS]>,
    /// Every source row reduced horizontally: `[row][channel][pixel]`, padded as above.
    narrow: Vec<u8>,
    sums: Vec<i32>,
    /// Normalised value of each 8-bit one, by channel.
    normalised: [[f32; 256]; 3],
}

impl Reducer {
    /// `mean` and `std` as in a checkpoint's description.
    pub fn new(filter: Filter, mean: [f32; 3], std: [f32; 3]) -> Self {
        let table = |c: usize| std::array::from_fn(|v| (v as f32 / 255.0 - mean[c]) / std[c]);
        Self {
            filter,
            key: (0, 0, 0, 0),
            across: Coefficients::default(),
            down: Coefficients::default(),
            samples: Default::default(),
            colours: Vec::new(),
            turned: Vec::new(),
            reduced: Vec::new(),
            narrow: Vec::new(),
            sums: Vec::new(),
            normalised: [table(0), table(1), table(2)],
        }
    }

    /// Fills `input` (`[3, height, width]`) from `view`, which must lie in the picture and not be empty, and `rgb`
    /// (`[height, width, 3]`) with the same before normalisation. Of an interlaced picture only the first field is
    /// read.
    pub fn run(
        &mut self,
        picture: &Picture,
        view: Rect,
        (height, width): (usize, usize),
        input: &mut [f32],
        rgb: &mut [u8],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor was asked.
                return unsafe { self.run_avx512(picture, view, (height, width), input, rgb) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was asked.
                return unsafe { self.run_avx2(picture, view, (height, width), input, rgb) };
            }
        }
        self.run_plainly(picture, view, (height, width), input, rgb);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
    fn run_avx512(
        &mut self,
        picture: &Picture,
        view: Rect,
        size: (usize, usize),
        input: &mut [f32],
        rgb: &mut [u8],
    ) {
        self.run_plainly(picture, view, size, input, rgb);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2(
        &mut self,
        picture: &Picture,
        view: Rect,
        size: (usize, usize),
        input: &mut [f32],
        rgb: &mut [u8],
    ) {
        self.run_plainly(picture, view, size, input, rgb);
    }

    #[inline(always)]
    pub(super) fn run_plainly(
        &mut self,
        picture: &Picture,
        view: Rect,
        (height, width): (usize, usize),
        input: &mut [f32],
        rgb: &mut [u8],
    ) {
        let rows = FieldRows::of(picture);
        let (top, bottom) = rows.of_view(picture, view);
        let (source_w, source_h) = (view.w as usize, bottom - top);
        self.prepare(source_w, source_h, width, height);
        let matrix = Matrix::of(picture);
        let pitch = source_w.next_multiple_of(ROWS);
        let target_pitch = width.next_multiple_of(ROWS);

        for (slab, narrow) in self.narrow.chunks_mut(ROWS * 3 * target_pitch).enumerate() {
            let first = top + slab * ROWS;
            let count = (bottom - first).min(ROWS);
            for r in 0..count {
                let (red, rest) = self.colours.split_at_mut(ROWS * pitch);
                let (green, blue) = rest.split_at_mut(ROWS * pitch);
                let at = r * pitch..r * pitch + source_w;
                let colours = [&mut red[at.clone()], &mut green[at.clone()], &mut blue[at]];
                convert(picture, &matrix, rows, first + r, view.x as usize, &mut self.samples, colours);
            }
            for (from, to) in self.colours.chunks_exact(ROWS * pitch).zip(self.turned.chunks_exact_mut(pitch))
            {
                for (block, to) in to.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                    let mut rows = [[0; ROWS]; ROWS];
                    for (r, row) in rows.iter_mut().enumerate() {
                        row.copy_from_slice(&from[r * pitch + block * ROWS..][..ROWS]);
                    }
                    *to = turn(rows);
                }
            }
            for (from, to) in self.turned.chunks_exact(pitch).zip(self.reduced.chunks_exact_mut(target_pitch))
            {
                let taps = self.across.taps();
                for ((to, &(first, n)), weights) in
                    to.iter_mut().zip(self.across.spans()).zip(self.across.weights().chunks_exact(taps))
                {
                    let mut sums = [1i32 << (BITS - 1); ROWS];
                    for (pixels, &w) in from[first..first + n].iter().zip(weights) {
                        for (s, &p) in sums.iter_mut().zip(pixels) {
                            *s += i32::from(p) * w;
                        }
                    }
                    for (o, &s) in to.iter_mut().zip(&sums) {
                        *o = (s >> BITS).clamp(0, 255) as u8;
                    }
                }
            }
            for (c, from) in self.reduced.chunks_exact(target_pitch).enumerate() {
                for (block, from) in from.as_chunks::<ROWS>().0.iter().enumerate() {
                    for (r, row) in turn(*from)[..count].iter().enumerate() {
                        narrow[(r * 3 + c) * target_pitch + block * ROWS..][..ROWS].copy_from_slice(row);
                    }
                }
            }
        }

        let plane = width * height;
        let taps = self.down.taps();
        for (y, (&(first, n), weights)) in
            self.down.spans().iter().zip(self.down.weights().chunks_exact(taps)).enumerate()
        {
            self.sums.fill(1 << (BITS - 1));
            let rows = self.narrow[first * 3 * target_pitch..].chunks_exact(3 * target_pitch);
            for (row, &w) in rows.zip(&weights[..n]) {
                for (s, &p) in self.sums.iter_mut().zip(row) {
                    *s += i32::from(p) * w;
                }
            }
            let rgb = &mut rgb[y * width * 3..(y + 1) * width * 3];
            for c in 0..3 {
                let table = &self.normalised[c];
                let out = &mut input[c * plane + y * width..][..width];
                let sums = &self.sums[c * target_pitch..][..width];
                for (x, (o, &s)) in out.iter_mut().zip(sums).enumerate() {
                    let v = (s >> BITS).clamp(0, 255) as u8;
                    *o = table[usize::from(v)];
                    rgb[x * 3 + c] = v;
                }
            }
        }
    }

    fn prepare(&mut self, source_w: usize, source_h: usize, width: usize, height: usize) {
        let key = (source_w, source_h, width, height);
        if self.key == key {
            return;
        }
        self.key = key;
        self.across = Coefficients::new(source_w, width, self.filter);
        self.down = Coefficients::new(source_h, height, self.filter);
        let (pitch, target_pitch) = (source_w.next_multiple_of(ROWS), width.next_multiple_of(ROWS));
        for row in &mut self.samples {
            row.resize(source_w, 0);
        }
        self.colours.resize(3 * ROWS * pitch, 0);
        self.turned.resize(3 * pitch, [0; ROWS]);
        self.reduced.resize(3 * target_pitch, [0; ROWS]);
        self.narrow.resize(source_h * 3 * target_pitch, 0);
        self.sums.resize(3 * target_pitch, 0);
    }
}

/// One row as R, G and B.
#[inline(always)]
fn convert(
    picture: &Picture,
    matrix: &Matrix,
    rows: FieldRows,
    row: usize,
    x0: usize,
    samples: &mut [Vec<u16>; 3],
    [red, green, blue]: [&mut [u8]; 3],
) {
    let line = picture.planes[0].row(rows.line(row));
    match picture.info.format.layout() {
        Layout::Gray => {
            for (o, &y) in red.iter_mut().zip(&line[x0..]) {
                *o = matrix.grey(y);
            }
            green.copy_from_slice(red);
            blue.copy_from_slice(red);
        }
        Layout::Rgb { stride: 3, r, g, b } => packed::<3>(line, x0, [r, g, b], red, green, blue),
        Layout::Rgb { r, g, b, .. } => packed::<4>(line, x0, [r, g, b], red, green, blue),
        Layout::Yuv { depth, shift, sub_x, sub_y, chroma } => {
            let [ys, us, vs] = samples;
            let width = red.len();
            let c0 = x0 >> sub_x;
            let covered = ((x0 + width - 1) >> sub_x) + 1 - c0;
            let height = picture.info.height as usize;
            let chroma_rows = if sub_y == 1 { height.div_ceil(2) } else { height };
            let cline = rows.chroma_line(row, sub_y, chroma_rows);
            match chroma {
                Chroma::Planar { u, v } => {
                    let (ul, vl) = (picture.planes[u].row(cline), picture.planes[v].row(cline));
                    if depth == 8 {
                        fill(ys, bytes::<1>(line, x0, width, 0));
                        spread(sub_x, x0, us, bytes::<1>(ul, c0, covered, 0));
                        spread(sub_x, x0, vs, bytes::<1>(vl, c0, covered, 0));
                    } else {
                        fill(ys, words::<1>(line, x0, width, 0, shift));
                        spread(sub_x, x0, us, words::<1>(ul, c0, covered, 0, shift));
                        spread(sub_x, x0, vs, words::<1>(vl, c0, covered, 0, shift));
                    }
                }
                Chroma::Pairs { u, v } => {
                    let cl = picture.planes[1].row(cline);
                    if depth == 8 {
                        fill(ys, bytes::<1>(line, x0, width, 0));
                        spread(sub_x, x0, us, bytes::<2>(cl, c0, covered, u));
                        spread(sub_x, x0, vs, bytes::<2>(cl, c0, covered, v));
                    } else {
                        fill(ys, words::<1>(line, x0, width, 0, shift));
                        spread(sub_x, x0, us, words::<2>(cl, c0, covered, u, shift));
                        spread(sub_x, x0, vs, words::<2>(cl, c0, covered, v, shift));
                    }
                }
                Chroma::Packed422 { y, u, v } => {
                    fill(ys, bytes::<2>(line, x0, width, y));
                    spread(sub_x, x0, us, bytes::<4>(line, c0, covered, u));
                    spread(sub_x, x0, vs, bytes::<4>(line, c0, covered, v));
                }
                Chroma::V210 => {
                    for i in 0..width {
                        let x = x0 + i;
                        let group = &line[x / 6 * 16..];
                        let k = x % 6;
                        ys[i] = v210_component(group, 2 * k + 1) as u16;
                        us[i] = v210_component(group, k / 2 * 4) as u16;
                        vs[i] = v210_component(group, k / 2 * 4 + 2) as u16;
                    }
                }
            }
            let m = matrix;
            let each = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
            for (((r, g), b), ((&y, &u), &v)) in each.zip(ys.iter().zip(us.iter()).zip(vs.iter())) {
                [*r, *g, *b] = m.rgb(u32::from(y), u32::from(u), u32::from(v));
            }
        }
    }
}

/// Byte `offset` of `count` groups of `GROUP` bytes from group `first` on.
#[inline(always)]
fn bytes<const GROUP: usize>(
    line: &[u8],
    first: usize,
    count: usize,
    offset: usize,
) -> impl Iterator<Item = u16> {
    line[first * GROUP..(first + count) * GROUP].chunks_exact(GROUP).map(move |g| u16::from(g[offset]))
}

/// Sample `offset` of `count` groups of `GROUP` 10-bit samples from group `first` on.
#[inline(always)]
fn words<const GROUP: usize>(
    line: &[u8],
    first: usize,
    count: usize,
    offset: usize,
    shift: u32,
) -> impl Iterator<Item = u16> {
    let groups = line[first * GROUP * 2..(first + count) * GROUP * 2].chunks_exact(GROUP * 2);
    groups.map(move |g| word(g, offset, shift) as u16)
}

#[inline(always)]
fn fill(out: &mut [u16], samples: impl Iterator<Item = u16>) {
    for (o, v) in out.iter_mut().zip(samples) {
        *o = v;
    }
}

/// Each chroma sample for all the luma samples it covers; the first one belongs to pixel `x0`.
#[inline(always)]
fn spread(sub_x: u32, x0: usize, out: &mut [u16], mut samples: impl Iterator<Item = u16>) {
    if sub_x == 0 {
        return fill(out, samples);
    }
    let (head, rest) = out.split_at_mut((x0 % 2).min(out.len()));
    for (o, v) in head.iter_mut().zip(&mut samples) {
        *o = v;
    }
    let (pairs, last) = rest.as_chunks_mut::<2>();
    for (pair, v) in pairs.iter_mut().zip(&mut samples) {
        *pair = [v, v];
    }
    for (o, v) in last.iter_mut().zip(samples) {
        *o = v;
    }
}

#[inline(always)]
fn packed<const BYTES: usize>(
    line: &[u8],
    x0: usize,
    [r, g, b]: [usize; 3],
    red: &mut [u8],
    green: &mut [u8],
    blue: &mut [u8],
) {
    let pixels = line[x0 * BYTES..(x0 + red.len()) * BYTES].chunks_exact(BYTES);
    for (((p, o), q), s) in pixels.zip(red).zip(green).zip(blue) {
        *o = p[r];
        *q = p[g];
        *s = p[b];
    }
}

/// Sixteen rows of sixteen bytes, turned.
#[inline(always)]
fn turn(rows: [[u8; 16]; 16]) -> [[u8; 16]; 16] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 is part of x86-64; both forms are 256 bytes without padding.
        unsafe {
            let mut v = std::mem::transmute::<[[u8; 16]; 16], [__m128i; 16]>(rows);
            // Interleaving row i with row i + 8, four times, turns the block.
            for _ in 0..4 {
                let mut next = v;
                for i in 0..8 {
                    next[2 * i] = _mm_unpacklo_epi8(v[i], v[i + 8]);
                    next[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + 8]);
                }
                v = next;
            }
            std::mem::transmute::<[__m128i; 16], [[u8; 16]; 16]>(v)
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::array::from_fn(|x| std::array::from_fn(|y| rows[y][x]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::resize::Resampler;
    use crate::frame::{Colorimetry, FieldOrder, Matrix as Primaries, PictureInfo, PixelFormat, packed_len};

    /// The pass as it is compiled for one kind of processor, and as `run` chooses.
    #[derive(Clone, Copy, Debug)]
    enum Form {
        Chosen,
        Avx512,
        Avx2,
        Baseline,
    }

    impl Form {
        fn is_here(self) -> bool {
            match self {
                Self::Chosen | Self::Baseline => true,
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl"),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => is_x86_feature_detected!("avx2"),
                #[cfg(not(target_arch = "x86_64"))]
                Self::Avx512 | Self::Avx2 => false,
            }
        }

        /// Those that this processor can run; the others are left out, aloud.
        fn all() -> Vec<Self> {
            let all = [Self::Chosen, Self::Avx512, Self::Avx2, Self::Baseline].into_iter();
            all.filter(|form| {
                if !form.is_here() {
                    crate::skipped::skip("processor", format_args!("this processor has no {form:?}"));
                }
                form.is_here()
            })
            .collect()
        }

        fn run(
            self,
            reducer: &mut Reducer,
            picture: &Picture,
            view: Rect,
            size: (usize, usize),
            input: &mut [f32],
            rgb: &mut [u8],
        ) {
            assert!(self.is_here(), "{self:?}");
            match self {
                Self::Chosen => reducer.run(picture, view, size, input, rgb),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor was asked.
                Self::Avx512 => unsafe { reducer.run_avx512(picture, view, size, input, rgb) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor was asked.
                Self::Avx2 => unsafe { reducer.run_avx2(picture, view, size, input, rgb) },
                #[cfg(not(target_arch = "x86_64"))]
                Self::Avx512 | Self::Avx2 => {}
                Self::Baseline => reducer.run_plainly(picture, view, size, input, rgb),
            }
        }
    }

    /// Every layout, odd sizes, odd rectangles, fields, both ranges, enlargement too: the plain steps' bytes.
    #[test]
    fn gives_the_plain_steps_bytes() {
        let mut state = 1u64;
        let mut next = |n: u32| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as u32 % n
        };
        let (mean, std) = ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]);
        let forms = Form::all();
        for format in PixelFormat::ALL {
            for case in 0..6 {
                let (w, h) = (3 + next(120), 3 + next(90));
                let mut info = PictureInfo::new(format, w, h);
                info.colorimetry = Colorimetry {
                    matrix: [Primaries::Bt601, Primaries::Bt709, Primaries::Bt2020][case % 3],
                    full_range: case % 2 == 0,
                };
                info.fields =
                    [FieldOrder::Progressive, FieldOrder::TopFirst, FieldOrder::BottomFirst][case / 2];
                let bytes: Vec<u8> = (0..packed_len(&info)).map(|_| next(256) as u8).collect();
                let picture = Picture::packed(info, &bytes).expect("long enough");
                let (x, y) = (next(w), next(h));
                let view = if case == 0 {
                    Rect::full(w, h)
                } else {
                    Rect::new(x, y, 1 + next(w - x), 1 + next(h - y))
                };
                let (th, tw) = (1 + next(40) as usize, 1 + next(40) as usize);
                for filter in [Filter::Antialiased, Filter::Plain] {
                    let mut want = vec![0; 3 * tw * th];
                    Resampler::new(filter).run(&picture, view, tw, th, &mut want);
                    let mut reducer = Reducer::new(filter, mean, std);
                    // The first once more at the end, over what the others left in the buffers.
                    for form in forms.iter().chain(&forms[..1]) {
                        let (mut input, mut rgb) = (vec![f32::NAN; 3 * tw * th], vec![7; 3 * tw * th]);
                        form.run(&mut reducer, &picture, view, (th, tw), &mut input, &mut rgb);
                        let case = format!("{w}x{h} {view} to {tw}x{th}, {filter:?}, {info:?}");
                        assert_eq!(rgb, want, "{form:?}: {format:?} {case}");
                        for (i, p) in want.chunks_exact(3).enumerate() {
                            for c in 0..3 {
                                let value = (f32::from(p[c]) / 255.0 - mean[c]) / std[c];
                                assert_eq!(input[c * tw * th + i], value);
                            }
                        }
                    }
                }
            }
        }
    }
}
