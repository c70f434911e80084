//! Painting rows of pixels in any layout.
//!
//! In: one row of a picture and, for each pixel, how much of which colour. Out: the row, painted. Samples shared by
//! several pixels (subsampled chroma) are painted only where every pixel that shares them is.

use crate::frame::colour::v210_component;
use crate::frame::{Chroma, Colorimetry, Layout, PictureMut};

/// A colour and how strongly it covers: the weight of 256 it has against the pixel beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ink {
    pub rgb: [u8; 3],
    pub weight: u16,
}

/// An ink in the picture's own code values.
#[derive(Clone, Copy, Debug)]
struct Coded {
    /// Y, U, V at the layout's depth, or R, G, B.
    value: [i32; 3],
    weight: i32,
}

impl Coded {
    fn new(ink: Ink, layout: Layout, c: Colorimetry) -> Self {
        let [r, g, b] = ink.rgb.map(|v| f64::from(v) / 255.0);
        let (kr, kb) = c.matrix.kr_kb();
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let value = match layout {
            Layout::Rgb { .. } => ink.rgb.map(i32::from),
            Layout::Gray if c.full_range => [(y * 255.0).round() as i32; 3],
            Layout::Gray => [(16.0 + 219.0 * y).round() as i32; 3],
            Layout::Yuv { depth, .. } => {
                let unit = f64::from(1 << (depth - 8));
                let top = f64::from((1 << depth) - 1);
                let half = f64::from(1 << (depth - 1));
                let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
                let coded = if c.full_range {
                    [y * top, u * top + half, v * top + half]
                } else {
                    [(16.0 + 219.0 * y) * unit, 224.0 * unit * u + half, 224.0 * unit * v + half]
                };
                coded.map(|x| x.round().clamp(0.0, top) as i32)
            }
        };
        Self { value, weight: i32::from(ink.weight) }
    }

    #[inline(always)]
    fn over(&self, component: usize, old: i32) -> i32 {
        old + (((self.value[component] - old) * self.weight + 128) >> 8)
    }
}

/// Paints rows of one picture with a small palette. Level 0 leaves a pixel alone; level `n` takes ink `n − 1`.
pub(super) struct Painter<const INKS: usize> {
    inks: [Coded; INKS],
    layout: Layout,
    /// Byte of a packed RGB pixel that holds its opacity, where the picture is a key.
    opacity: Option<usize>,
}

impl<const INKS: usize> Painter<INKS> {
    pub(super) fn new(palette: [Ink; INKS], picture: &PictureMut, key: bool) -> Self {
        let layout = picture.info.format.layout();
        let opacity = match layout {
            // The byte that none of the colours has.
            Layout::Rgb { stride: 4, r, g, b } if key => Some(6 - r - g - b),
            _ => None,
        };
        let inks = palette.map(|ink| Coded::new(ink, layout, picture.info.colorimetry));
        Self { inks, layout, opacity }
    }

    /// Paints pixels `x0 .. x0 + levels.len()` of line `y`.
    ///
    /// Vertically subsampled chroma is painted with the upper line of each pair and needs the levels of both lines:
    /// `below` are those of line `y + 1` (of the same field), `None` where there is none.
    pub(super) fn row(
        &self,
        p: &mut PictureMut,
        y: usize,
        x0: usize,
        levels: &[u8],
        chroma: Option<ChromaLine>,
    ) {
        match self.layout {
            Layout::Gray => {
                let line = p.planes[0].row(y);
                self.each(levels, x0, |x, ink| line[x] = ink.over(0, line[x].into()) as u8);
            }
            Layout::Rgb { stride, r, g, b } => {
                let line = p.planes[0].row(y);
                self.each(levels, x0, |x, ink| {
                    for (c, at) in [r, g, b].into_iter().enumerate() {
                        let byte = &mut line[x * stride + at];
                        *byte = ink.over(c, (*byte).into()) as u8;
                    }
                    if let Some(at) = self.opacity {
                        let byte = &mut line[x * stride + at];
                        let old = i32::from(*byte);
                        *byte = (old + (((255 - old) * ink.weight + 128) >> 8)) as u8;
                    }
                });
            }
            Layout::Yuv { depth, shift, sub_x, chroma: place, .. } => match place {
                Chroma::Packed422 { y: luma, u, v } => {
                    let line = p.planes[0].row(y);
                    self.each(levels, x0, |x, ink| {
                        let byte = &mut line[(x >> 1) * 4 + luma + (x & 1) * 2];
                        *byte = ink.over(0, (*byte).into()) as u8;
                    });
                    self.shared(levels, &[], x0, sub_x, p.info.width as usize, |c, ink| {
                        for (component, at) in [(1, u), (2, v)] {
                            let byte = &mut line[c * 4 + at];
                            *byte = ink.over(component, (*byte).into()) as u8;
                        }
                    });
                }
                Chroma::V210 => {
                    let line = p.planes[0].row(y);
                    self.each(levels, x0, |x, ink| {
                        v210_paint(line, x / 6, x % 6 * 2 + 1, |old| ink.over(0, old));
                    });
                    self.shared(levels, &[], x0, sub_x, p.info.width as usize, |c, ink| {
                        v210_paint(line, c / 3, c % 3 * 4, |old| ink.over(1, old));
                        v210_paint(line, c / 3, c % 3 * 4 + 2, |old| ink.over(2, old));
                    });
                }
                Chroma::Planar { u, v } => {
                    let line = p.planes[0].row(y);
                    self.each(levels, x0, |x, ink| sample(line, x, depth, shift, |old| ink.over(0, old)));
                    let Some(chroma) = chroma else { return };
                    for (component, plane) in [(1, u), (2, v)] {
                        let line = p.planes[plane].row(chroma.line);
                        if line.is_empty() {
                            // An interlaced picture whose height is no multiple of four: the last line of one field has
                            // no chroma of its own where planes are not rounded up for it.
                            continue;
                        }
                        self.shared(levels, chroma.other, x0, sub_x, p.info.width as usize, |c, ink| {
                            sample(line, c, depth, shift, |old| ink.over(component, old));
                        });
                    }
                }
                Chroma::Pairs { u, v } => {
                    let line = p.planes[0].row(y);
                    self.each(levels, x0, |x, ink| sample(line, x, depth, shift, |old| ink.over(0, old)));
                    let Some(chroma) = chroma else { return };
                    let line = p.planes[1].row(chroma.line);
                    if line.is_empty() {
                        // As above.
                        return;
                    }
                    self.shared(levels, chroma.other, x0, sub_x, p.info.width as usize, |c, ink| {
                        sample(line, 2 * c + u, depth, shift, |old| ink.over(1, old));
                        sample(line, 2 * c + v, depth, shift, |old| ink.over(2, old));
                    });
                }
            },
        }
    }

    /// Every painted pixel.
    #[inline(always)]
    fn each(&self, levels: &[u8], x0: usize, mut paint: impl FnMut(usize, &Coded)) {
        for (i, &level) in levels.iter().enumerate() {
            if level > 0 {
                paint(x0 + i, &self.inks[level as usize - 1]);
            }
        }
    }

    /// Every chroma sample all of whose pixels are painted, on this line and on the `other` that shares it (empty: none
    /// does). Where pixels differ, the weaker level counts.
    #[inline(always)]
    fn shared(
        &self,
        levels: &[u8],
        other: &[u8],
        x0: usize,
        sub_x: u32,
        width: usize,
        mut paint: impl FnMut(usize, &Coded),
    ) {
        let end = x0 + levels.len();
        let at = |row: &[u8], x: usize| if x >= x0 && x < end { row[x - x0] } else { 0 };
        let step = 1usize << sub_x;
        let mut x = x0 & !(step - 1);
        while x < end {
            let mut level = u8::MAX;
            for xx in x..(x + step).min(width) {
                level = level.min(at(levels, xx));
                if !other.is_empty() {
                    level = level.min(at(other, xx));
                }
            }
            if level > 0 && level != u8::MAX {
                paint(x >> sub_x, &self.inks[level as usize - 1]);
            }
            x += step;
        }
    }
}

/// The line of the chroma planes painted along with a line of luma.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChromaLine<'a> {
    pub line: usize,
    /// Levels of the other luma line that shares it; empty if none does.
    pub other: &'a [u8],
}

#[inline(always)]
fn sample(line: &mut [u8], i: usize, depth: u32, shift: u32, paint: impl Fn(i32) -> i32) {
    if depth == 8 {
        line[i] = paint(line[i].into()) as u8;
    } else {
        let word = u16::from_le_bytes([line[2 * i], line[2 * i + 1]]);
        let new = (paint(i32::from(word >> shift)) as u16) << shift;
        line[2 * i..2 * i + 2].copy_from_slice(&new.to_le_bytes());
    }
}

#[inline(always)]
fn v210_paint(line: &mut [u8], group: usize, index: usize, paint: impl Fn(i32) -> i32) {
    let group = &mut line[group * 16..group * 16 + 16];
    let new = paint(v210_component(group, index) as i32) as u32;
    let at = index / 3 * 4;
    let bits = 10 * (index % 3);
    let word = u32::from_le_bytes([group[at], group[at + 1], group[at + 2], group[at + 3]]);
    let word = word & !(0x3ff << bits) | new << bits;
    group[at..at + 4].copy_from_slice(&word.to_le_bytes());
}
