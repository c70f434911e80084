//! Rows of a picture as 8-bit R'G'B'.
//!
//! In: one row of any [`PixelFormat`](crate::frame::PixelFormat), its matrix and range. Out: packed RGB bytes. Chroma
//! samples serve the luma samples they cover (no interpolation: what follows averages over many pixels). ITU-T H.273.

use super::{Chroma, FieldOrder, Layout, Picture, Rect};

/// Fixed-point conversion from code values of any depth to 8-bit RGB, 16 fractional bits. Products of 10-bit values and
/// their sums stay below 2^26.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    luma: i32,
    luma_offset: i32,
    chroma_offset: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

const FRACTION: u32 = 16;

impl Matrix {
    /// For a picture's own layout and colorimetry.
    pub(crate) fn of(picture: &Picture) -> Self {
        Self::new(picture, depth(picture.info.format.layout()))
    }

    fn new(picture: &Picture, depth: u32) -> Self {
        let c = picture.info.colorimetry;
        let (kr, kb) = c.matrix.kr_kb();
        let kg = 1.0 - kr - kb;
        let unit = f64::from(1u32 << (depth - 8));
        let top = f64::from((1u32 << depth) - 1);
        let (luma_range, chroma_range, offset) =
            if c.full_range { (top, top, 0.0) } else { (219.0 * unit, 224.0 * unit, 16.0 * unit) };
        let fixed = |v: f64| (v * 255.0 * f64::from(1u32 << FRACTION)).round() as i32;
        Self {
            luma: fixed(1.0 / luma_range),
            luma_offset: offset as i32,
            chroma_offset: 1 << (depth - 1),
            red_v: fixed(2.0 * (1.0 - kr) / chroma_range),
            green_u: fixed(-2.0 * kb * (1.0 - kb) / kg / chroma_range),
            green_v: fixed(-2.0 * kr * (1.0 - kr) / kg / chroma_range),
            blue_u: fixed(2.0 * (1.0 - kb) / chroma_range),
        }
    }

    /// Luma, luma offset, chroma offset, red of V, green of U, green of V, blue of U: for kernels on other processors.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn coefficients(&self) -> [i32; 7] {
        let Self { luma, luma_offset, chroma_offset, red_v, green_u, green_v, blue_u } = *self;
        [luma, luma_offset, chroma_offset, red_v, green_u, green_v, blue_u]
    }

    #[inline(always)]
    pub(crate) fn rgb(&self, y: u32, u: u32, v: u32) -> [u8; 3] {
        let l = (y as i32 - self.luma_offset) * self.luma + (1 << (FRACTION - 1));
        let u = u as i32 - self.chroma_offset;
        let v = v as i32 - self.chroma_offset;
        let clip = |x: i32| (x >> FRACTION).clamp(0, 255) as u8;
        [clip(l + v * self.red_v), clip(l + u * self.green_u + v * self.green_v), clip(l + u * self.blue_u)]
    }

    /// Red, green and blue alike of 8-bit luma alone.
    #[inline(always)]
    pub(crate) fn grey(&self, y: u8) -> u8 {
        let l = (i32::from(y) - self.luma_offset) * self.luma + (1 << (FRACTION - 1));
        (l >> FRACTION).clamp(0, 255) as u8
    }
}

/// Where the rows of one field, or of a whole progressive frame, lie in the planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRows {
    first: usize,
    step: usize,
}

impl FieldRows {
    /// The rows to analyse: all of a progressive frame; of an interlaced one only those of its first field, since the
    /// two are 1/50 or 1/60 s apart and combed edges are no edges.
    pub fn of(picture: &Picture) -> Self {
        match picture.info.fields {
            FieldOrder::Progressive => Self { first: 0, step: 1 },
            FieldOrder::TopFirst => Self { first: 0, step: 2 },
            FieldOrder::BottomFirst if picture.info.height > 1 => Self { first: 1, step: 2 },
            FieldOrder::BottomFirst => Self { first: 0, step: 1 },
        }
    }

    /// Number of rows in a picture of `height` lines.
    pub fn count(&self, height: usize) -> usize {
        (height.saturating_sub(self.first)).div_ceil(self.step)
    }

    /// First and one past the last row that lie in the view; at least one.
    pub(crate) fn of_view(&self, picture: &Picture, view: Rect) -> (usize, usize) {
        let top = self.count(view.y as usize);
        let all = self.count(picture.info.height as usize);
        let bottom = self.count(view.bottom() as usize).max(top + 1).min(all);
        (top.min(bottom - 1), bottom)
    }

    /// Frame lines from one row to the next.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Frame line of row `row`.
    pub fn line(&self, row: usize) -> usize {
        row * self.step + self.first
    }

    /// Line in a vertically subsampled chroma plane that belongs to row `row`: fields are subsampled apart.
    pub(crate) fn chroma_line(&self, row: usize, sub_y: u32, rows: usize) -> usize {
        ((row >> sub_y) * self.step + self.first).min(rows.saturating_sub(1))
    }
}

/// Reads rows of one picture. Made anew for every picture; costs nothing.
pub struct RowReader<'a> {
    picture: Picture<'a>,
    rows: FieldRows,
    matrix: Matrix,
}

fn depth(layout: Layout) -> u32 {
    match layout {
        Layout::Yuv { depth, .. } => depth,
        _ => 8,
    }
}

/// Sample `i` of 10 bits, stored shifted left; bits beyond them are padding.
#[inline(always)]
pub(crate) fn word(row: &[u8], i: usize, shift: u32) -> u32 {
    u16::from_le_bytes([row[2 * i], row[2 * i + 1]]) as u32 >> shift & 0x3ff
}

/// Component `index` (0 … 11 in the group's order Cb Y Cr Y …) of v210's 16-byte group.
#[inline(always)]
pub(crate) fn v210_component(group: &[u8], index: usize) -> u32 {
    let at = index / 3 * 4;
    let bits = u32::from_le_bytes([group[at], group[at + 1], group[at + 2], group[at + 3]]);
    bits >> (10 * (index % 3)) & 0x3ff
}

impl<'a> RowReader<'a> {
    /// For the rows of a picture, of its first field if it is interlaced.
    pub fn new(picture: Picture<'a>) -> Self {
        let matrix = Matrix::of(&picture);
        Self { picture, rows: FieldRows::of(&picture), matrix }
    }

    /// Which lines of the picture its rows are.
    pub fn rows(&self) -> FieldRows {
        self.rows
    }

    /// Pixels `x0 .. x0 + rgb.len() / 3` of row `row` (a field's row if the picture is interlaced).
    pub fn rgb(&self, row: usize, x0: usize, rgb: &mut [u8]) {
        let out = rgb.chunks_exact_mut(3).enumerate().map(|(i, o)| (x0 + i, o));
        let line = self.picture.planes[0].row(self.rows.line(row));
        let m = &self.matrix;
        match self.picture.info.format.layout() {
            Layout::Gray => {
                for (x, o) in out {
                    o.fill(m.grey(line[x]));
                }
            }
            Layout::Rgb { stride, r, g, b } => {
                for (x, o) in out {
                    let p = &line[x * stride..];
                    o.copy_from_slice(&[p[r], p[g], p[b]]);
                }
            }
            Layout::Yuv { depth, shift, sub_x, sub_y, chroma } => {
                let height = self.picture.info.height as usize;
                let chroma_rows = if sub_y == 1 { height.div_ceil(2) } else { height };
                let cline = self.rows.chroma_line(row, sub_y, chroma_rows);
                match chroma {
                    Chroma::Planar { u, v } => {
                        let ul = self.picture.planes[u].row(cline);
                        let vl = self.picture.planes[v].row(cline);
                        if depth == 8 {
                            for (x, o) in out {
                                let c = x >> sub_x;
                                o.copy_from_slice(&m.rgb(line[x] as u32, ul[c] as u32, vl[c] as u32));
                            }
                        } else {
                            for (x, o) in out {
                                let c = x >> sub_x;
                                o.copy_from_slice(&m.rgb(
                                    word(line, x, shift),
                                    word(ul, c, shift),
                                    word(vl, c, shift),
                                ));
                            }
                        }
                    }
                    Chroma::Pairs { u, v } => {
                        let cl = self.picture.planes[1].row(cline);
                        if depth == 8 {
                            for (x, o) in out {
                                let c = (x >> sub_x) * 2;
                                o.copy_from_slice(&m.rgb(line[x] as u32, cl[c + u] as u32, cl[c + v] as u32));
                            }
                        } else {
                            for (x, o) in out {
                                let c = (x >> sub_x) * 2;
                                o.copy_from_slice(&m.rgb(
                                    word(line, x, shift),
                                    word(cl, c + u, shift),
                                    word(cl, c + v, shift),
                                ));
                            }
                        }
                    }
                    Chroma::Packed422 { y, u, v } => {
                        for (x, o) in out {
                            let p = &line[(x >> 1) * 4..];
                            o.copy_from_slice(&m.rgb(p[y + (x & 1) * 2] as u32, p[u] as u32, p[v] as u32));
                        }
                    }
                    Chroma::V210 => {
                        for (x, o) in out {
                            let group = &line[x / 6 * 16..];
                            let i = x % 6;
                            o.copy_from_slice(&m.rgb(
                                v210_component(group, 2 * i + 1),
                                v210_component(group, i / 2 * 4),
                                v210_component(group, i / 2 * 4 + 2),
                            ));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::frame::{Colorimetry, Matrix as Coefficients, PictureInfo, PixelFormat, packed_len};

    /// R'G'B' from 0–1 code values by the textbook, in f64.
    fn textbook(c: Colorimetry, depth: u32, y: u32, u: u32, v: u32) -> [f64; 3] {
        let (kr, kb) = c.matrix.kr_kb();
        let unit = f64::from(1 << (depth - 8));
        let top = f64::from((1 << depth) - 1);
        let half = f64::from(1 << (depth - 1));
        let (l, cu, cv) = if c.full_range {
            (f64::from(y) / top, (f64::from(u) - half) / top, (f64::from(v) - half) / top)
        } else {
            (
                (f64::from(y) - 16.0 * unit) / (219.0 * unit),
                (f64::from(u) - half) / (224.0 * unit),
                (f64::from(v) - half) / (224.0 * unit),
            )
        };
        let r = l + 2.0 * (1.0 - kr) * cv;
        let b = l + 2.0 * (1.0 - kb) * cu;
        let g = (l - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|x| (x * 255.0).clamp(0.0, 255.0))
    }

    #[test]
    fn yuv_becomes_rgb_as_in_the_textbook() {
        for matrix in [Coefficients::Bt601, Coefficients::Bt709, Coefficients::Bt2020] {
            for full_range in [false, true] {
                for format in [PixelFormat::I420, PixelFormat::Y444_10le] {
                    let mut info = PictureInfo::new(format, 1, 1);
                    info.colorimetry = Colorimetry { matrix, full_range };
                    let d = depth(format.layout());
                    for seed in 0..200u32 {
                        let pick =
                            |k: u32| (seed.wrapping_mul(2654435761).wrapping_mul(k) >> 16) & ((1 << d) - 1);
                        let (y, u, v) = (pick(3), pick(7), pick(11));
                        let bytes: Vec<u8> = if d == 8 {
                            vec![y as u8, u as u8, v as u8]
                        } else {
                            [y, u, v].iter().flat_map(|s| (*s as u16).to_le_bytes()).collect()
                        };
                        let mut rgb = [0; 3];
                        RowReader::new(Picture::packed(info, &bytes).unwrap()).rgb(0, 0, &mut rgb);
                        for (got, want) in rgb.iter().zip(textbook(info.colorimetry, d, y, u, v)) {
                            assert!(
                                (f64::from(*got) - want).abs() <= 0.51,
                                "{info:?} {y} {u} {v}: {rgb:?} {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Writes one flat colour in any layout.
    pub(crate) fn flat(info: PictureInfo, y: u16, u: u16, v: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; packed_len(&info)];
        let (w, h) = (info.width, info.height);
        match info.format.layout() {
            Layout::Gray => bytes.fill(y as u8),
            Layout::Rgb { .. } => bytes.fill(y as u8),
            Layout::Yuv { depth, shift, chroma, .. } => {
                let scale = if depth == 10 { 2 + shift } else { 0 };
                let put = |plane: &mut [u8], values: &[u16]| {
                    if depth == 8 {
                        for (i, b) in plane.iter_mut().enumerate() {
                            *b = values[i % values.len()] as u8;
                        }
                    } else {
                        for (i, b) in plane.chunks_exact_mut(2).enumerate() {
                            b.copy_from_slice(&(values[i % values.len()] << scale).to_le_bytes());
                        }
                    }
                };
                let size = |p| {
                    let (stride, rows) = info.format.plane_size(p, w, h);
                    stride * rows
                };
                match chroma {
                    Chroma::Planar { u: up, .. } => {
                        let (first, rest) = bytes.split_at_mut(size(0));
                        put(first, &[y]);
                        let (second, third) = rest.split_at_mut(size(1));
                        let (uv, vu) = if up == 1 { (u, v) } else { (v, u) };
                        put(second, &[uv]);
                        put(third, &[vu]);
                    }
                    Chroma::Pairs { u: ui, .. } => {
                        let (first, rest) = bytes.split_at_mut(size(0));
                        put(first, &[y]);
                        put(rest, &if ui == 0 { [u, v] } else { [v, u] });
                    }
                    Chroma::Packed422 { y: yi, .. } => {
                        put(&mut bytes, &if yi == 0 { [y, u, y, v] } else { [u, y, v, y] });
                    }
                    Chroma::V210 => {
                        for group in bytes.chunks_exact_mut(16) {
                            for at in 0..4 {
                                let mut bits = 0u32;
                                for k in 0..3 {
                                    let value = match (at * 3 + k) % 4 {
                                        0 => u,
                                        2 => v,
                                        _ => y,
                                    };
                                    bits |= u32::from(value << 2) << (10 * k);
                                }
                                group[at * 4..at * 4 + 4].copy_from_slice(&bits.to_le_bytes());
                            }
                        }
                    }
                }
            }
        }
        bytes
    }

    /// The same colour in every layout gives the same RGB, at odd sizes too, and on every row.
    #[test]
    fn every_layout_reads_the_same_colour() {
        let mut want = None;
        for format in PixelFormat::ALL {
            if !matches!(format.layout(), Layout::Yuv { .. }) {
                continue;
            }
            for fields in [FieldOrder::Progressive, FieldOrder::TopFirst, FieldOrder::BottomFirst] {
                let mut info = PictureInfo::new(format, 13, 7);
                info.fields = fields;
                let bytes = flat(info, 120, 90, 160);
                let reader = RowReader::new(Picture::packed(info, &bytes).unwrap());
                for row in 0..reader.rows().count(7) {
                    let mut rgb = vec![0; 12 * 3];
                    reader.rgb(row, 1, &mut rgb);
                    let first: [u8; 3] = rgb[..3].try_into().unwrap();
                    assert!(rgb.chunks(3).all(|p| p == first), "{format:?}");
                    let want = *want.get_or_insert(first);
                    let off = first.iter().zip(want).map(|(a, b)| a.abs_diff(b)).max();
                    assert!(off <= Some(1), "{format:?} {fields:?}: {first:?} is not {want:?}");
                }
            }
        }
    }

    #[test]
    fn a_field_is_every_other_row_with_its_own_chroma() {
        let mut info = PictureInfo::new(PixelFormat::I420, 2, 8);
        info.fields = FieldOrder::BottomFirst;
        let bytes = flat(info, 100, 128, 128);
        let rows = RowReader::new(Picture::packed(info, &bytes).unwrap()).rows();
        assert_eq!(rows.count(8), 4);
        assert_eq!((0..4).map(|r| rows.line(r)).collect::<Vec<_>>(), [1, 3, 5, 7]);
        assert_eq!((0..4).map(|r| rows.chroma_line(r, 1, 4)).collect::<Vec<_>>(), [1, 1, 3, 3]);
    }
}
