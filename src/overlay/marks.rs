//! What is drawn: fill, contour and status rectangle.
//!
//! In: a mask and a [`Style`]. Out: levels for the painter, row by row. Nothing is allocated once the picture's size
//! has been seen.

use super::paint::{ChromaLine, Ink, Painter};
use crate::frame::{FieldOrder, Layout, Mask, PictureInfo, PictureMut, Rect};
use crate::safety::State;

/// The status rectangle's colour: blue, green, amber, red, none of them a colour of mucosa.
const fn colour_of(state: State) -> [u8; 3] {
    match state {
        State::WarmUp => [60, 120, 240],
        State::Active => [40, 200, 90],
        State::Degraded => [240, 170, 20],
        State::Bypass => [220, 40, 40],
    }
}

/// How marks look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Opacity of the fill, 0–1. The contour is always opaque.
    pub alpha: f32,
    /// R'G'B' of fill and contour, 0–255 each.
    pub rgb: [u8; 3],
    /// Whether the contour is drawn; without it the fill reaches the mask's edge.
    pub outline: bool,
    /// Whether the status rectangle is drawn.
    pub status: bool,
}

impl Default for Style {
    /// A light green-cyan, far from every colour of the bowel, barely filled.
    fn default() -> Self {
        Self { alpha: 0.1, rgb: [0, 255, 190], outline: true, status: true }
    }
}

/// Level of a filled pixel and of one on the contour (see [`Painter`]).
const FILL: u8 = 1;
const CONTOUR: u8 = 2;

/// Draws masks on pictures.
#[derive(Debug)]
pub struct Overlay {
    style: Style,
    levels: [Vec<u8>; 2],
}

impl Overlay {
    /// Draws with this style; buffers are made with the first marks.
    pub fn new(style: Style) -> Self {
        Self { style, levels: [Vec::new(), Vec::new()] }
    }

    /// Changes the opacity of the fill, 0–1.
    pub fn set_alpha(&mut self, alpha: f32) {
        self.style.alpha = alpha;
    }

    /// Draws otherwise from now on.
    pub fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// Where the status rectangle lies in a picture of this kind; `None` if there is none (switched off, or the picture
    /// is too small to spare the room).
    ///
    /// Bottom left, a fortieth of the picture's height, on coordinates that chroma samples do not straddle.
    pub fn status_rect(&self, info: &PictureInfo) -> Option<Rect> {
        let side = (info.height / 40).next_multiple_of(4).max(8);
        if !self.style.status || info.width < side * 4 || info.height < side * 4 {
            return None;
        }
        let y = (info.height - 2 * side) & !3;
        Some(Rect::new(side, y, side, side))
    }

    /// Draws the status rectangle and, if there is one, the mask.
    ///
    /// A mask of another size than the picture is not drawn.
    pub fn draw(&mut self, picture: &mut PictureMut, mask: Option<&Mask>, state: State) {
        self.draw_on(picture, mask, state, false);
    }

    /// The same as a key: on transparent black, in packed RGB of four bytes whose fourth becomes the opacity. Colours
    /// are multiplied by it already.
    pub fn draw_key(&mut self, canvas: &mut PictureMut, mask: Option<&Mask>, state: State) {
        for y in 0..canvas.info.height as usize {
            canvas.planes[0].row(y).fill(0);
        }
        self.draw_on(canvas, mask, state, true);
    }

    fn draw_on(&mut self, picture: &mut PictureMut, mask: Option<&Mask>, state: State, key: bool) {
        let size = (picture.info.width, picture.info.height);
        if let Some(mask) = mask.filter(|m| m.area_px > 0 && (m.width, m.height) == size) {
            self.draw_mask(picture, mask, key);
        }
        if let Some(r) = self.status_rect(&picture.info) {
            self.draw_status(picture, r, state, key);
        }
    }

    fn draw_mask(&mut self, picture: &mut PictureMut, mask: &Mask, key: bool) {
        let fill = (self.style.alpha.clamp(0.0, 1.0) * 256.0).round() as u16;
        let rgb = self.style.rgb;
        let contour = if self.style.outline { 256 } else { fill };
        let painter = Painter::new([Ink { rgb, weight: fill }, Ink { rgb, weight: contour }], picture, key);
        // Only the lines and columns that hold polyps.
        let view = mask.field_of_view;
        let Some(bounds) = mask
            .polyps
            .iter()
            .map(|p| p.bbox)
            .reduce(|a, b| a.around(&b))
            .or((mask.area_px > 0).then_some(view))
        else {
            return;
        };
        let thickness = (picture.info.height as usize).div_ceil(260).max(1);
        for levels in &mut self.levels {
            levels.clear();
            levels.resize(bounds.w as usize, 0);
        }
        let [even, odd] = &mut self.levels;
        each_pair(picture.info, bounds, |upper, lower| {
            let lit = |y: Option<u32>, levels: &mut [u8]| match y {
                Some(y) if y >= bounds.y && y < bounds.bottom() => {
                    levels_of(mask, y, bounds, thickness, levels)
                }
                _ => levels.fill(0),
            };
            lit(Some(upper), even);
            lit(lower, odd);
            paint_pair(&painter, picture, bounds.x as usize, upper, lower, even, odd);
        });
    }

    fn draw_status(&mut self, picture: &mut PictureMut, r: Rect, state: State, key: bool) {
        let painter = Painter::new(
            [Ink { rgb: colour_of(state), weight: 256 }, Ink { rgb: [16, 16, 16], weight: 256 }],
            picture,
            key,
        );
        let border = r.w / 8;
        for levels in &mut self.levels {
            levels.clear();
            levels.resize(r.w as usize, 0);
        }
        let [even, odd] = &mut self.levels;
        each_pair(picture.info, r, |upper, lower| {
            let lit = |y: Option<u32>, levels: &mut [u8]| {
                for (i, level) in levels.iter_mut().enumerate() {
                    let x = i as u32;
                    *level = match y {
                        Some(y) if y >= r.y && y < r.bottom() => {
                            let (dx, dy) = (x.min(r.w - 1 - x), (y - r.y).min(r.bottom() - 1 - y));
                            if dx.min(dy) < border { CONTOUR } else { FILL }
                        }
                        _ => 0,
                    };
                }
            };
            lit(Some(upper), even);
            lit(lower, odd);
            paint_pair(&painter, picture, r.x as usize, upper, lower, even, odd);
        });
    }
}

/// Calls `pair(upper, lower)` for the lines around `bounds`, in the pairs that share a line of chroma: neighbours in a
/// progressive frame, neighbours of the same field in an interlaced one, single lines where chroma is not subsampled
/// vertically. `lower` is `None` where the picture ends.
fn each_pair(info: PictureInfo, bounds: Rect, mut pair: impl FnMut(u32, Option<u32>)) {
    let sub_y = matches!(info.format.layout(), Layout::Yuv { sub_y: 1, .. });
    if !sub_y {
        for y in bounds.y..bounds.bottom() {
            pair(y, None);
        }
        return;
    }
    let inside = |y: u32| (y < info.height).then_some(y);
    if info.fields == FieldOrder::Progressive {
        for y in (bounds.y & !1..bounds.bottom()).step_by(2) {
            pair(y, inside(y + 1));
        }
    } else {
        for y in (bounds.y & !3..bounds.bottom()).step_by(4) {
            for first in [y, y + 1] {
                if let Some(upper) = inside(first) {
                    pair(upper, inside(first + 2));
                }
            }
        }
    }
}

/// Paints two lines that share a line of chroma.
fn paint_pair(
    painter: &Painter<2>,
    picture: &mut PictureMut,
    x: usize,
    upper: u32,
    lower: Option<u32>,
    even: &[u8],
    odd: &[u8],
) {
    let interlaced = picture.info.fields != FieldOrder::Progressive;
    let sub_y = matches!(picture.info.format.layout(), Layout::Yuv { sub_y: 1, .. });
    let line = match (sub_y, interlaced) {
        (false, _) => upper as usize,
        (true, false) => upper as usize / 2,
        // Each field's chroma lines follow its luma lines: lines 0 and 2 share chroma line 0, 1 and 3 line 1.
        (true, true) => (upper as usize / 4) * 2 + upper as usize % 2,
    };
    let other = if sub_y && lower.is_some() { odd } else { &[] };
    painter.row(picture, upper as usize, x, even, Some(ChromaLine { line, other }));
    if let Some(lower) = lower {
        painter.row(picture, lower as usize, x, odd, None);
    }
}

/// Levels of one line: contour where a pixel within `thickness` in any of eight directions is not inside, else fill.
fn levels_of(mask: &Mask, y: u32, bounds: Rect, thickness: usize, levels: &mut [u8]) {
    let view = mask.field_of_view;
    let row = mask.row(y - view.y);
    let t = thickness as i64;
    let diagonal = (t * 7 / 10).max(1);
    let neighbour = |dy: i64| -> Option<&[u8]> {
        let line = i64::from(y - view.y) + dy;
        (line >= 0 && line < i64::from(view.h)).then(|| mask.row(line as u32))
    };
    let (up, down) = (neighbour(-t), neighbour(t));
    let (up_d, down_d) = (neighbour(-diagonal), neighbour(diagonal));
    let inside = |line: Option<&[u8]>, x: i64| {
        line.is_some_and(|l| x >= 0 && (x as usize) < l.len() && l[x as usize] != 0)
    };
    let x0 = i64::from(bounds.x - view.x);
    for (i, level) in levels.iter_mut().enumerate() {
        let x = x0 + i as i64;
        *level = if row[x as usize] == 0 {
            0
        } else if inside(Some(row), x - t)
            && inside(Some(row), x + t)
            && inside(up, x)
            && inside(down, x)
            && inside(up_d, x - diagonal)
            && inside(up_d, x + diagonal)
            && inside(down_d, x - diagonal)
            && inside(down_d, x + diagonal)
        {
            FILL
        } else {
            CONTOUR
        };
    }
}
