//! Where in the picture the endoscope's image is.
//!
//! In: pictures as processors send them, with dark borders, text and small icons around the image. Out: the rectangle
//! around the image, the same from frame to frame. Only what lies in it is analysed.
//!
//! Each picture is looked at on a coarse grid of luma. A cell counts as lit if it is brighter than the surround, which
//! is taken from the picture's corners; thin things (letters, lines) are removed by an erosion, and the largest
//! connected lit region is the image. Since the image itself has dark parts (the lumen), what was lit at any time in
//! the last few seconds counts, so that the rectangle grows quickly to its true size and then stays.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::frame::colour::RowReader;
use crate::frame::components::{Components, Neighbourhood};
use crate::frame::{Picture, Rect};

/// Which part of the picture to analyse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldOfView {
    /// Found in the picture.
    #[default]
    Auto,
    /// The whole picture.
    Full,
    /// This rectangle of the source.
    Given(Rect),
}

impl FromStr for FieldOfView {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "auto" => return Ok(FieldOfView::Auto),
            "full" => return Ok(FieldOfView::Full),
            _ => {}
        }
        let numbers: Vec<u32> = s.split(',').map_while(|n| n.trim().parse().ok()).collect();
        match (numbers.as_slice(), s.split(',').count()) {
            (&[x, y, w, h], 4)
                if w > 0 && h > 0 && x.checked_add(w).is_some() && y.checked_add(h).is_some() =>
            {
                Ok(FieldOfView::Given(Rect { x, y, w, h }))
            }
            _ => Err(Error::usage(format!("{s:?} is not a field of view"))
                .remedy("use auto, full, or X,Y,W,H in source pixels")),
        }
    }
}

impl fmt::Display for FieldOfView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldOfView::Auto => f.write_str("auto"),
            FieldOfView::Full => f.write_str("full"),
            FieldOfView::Given(r) => r.fmt(f),
        }
    }
}

/// Longest side of the grid in cells.
const GRID: usize = 160;
/// A surround brighter than this (of 255) is no surround: then the image fills the picture.
const DARKEST_IMAGE: u8 = 56;
/// How much brighter than the surround a lit cell is.
const STEP: u8 = 14;
/// Frames a cell stays lit after it last was (about 10 s at 30 frames/s): a change of the processor's layout is
/// followed.
const MEMORY: u16 = 300;
/// Frames a smaller rectangle must persist before it replaces a larger one.
const PATIENCE: u32 = 25;
/// An image smaller than this share of the picture is not believed.
const SMALLEST: f64 = 0.08;
/// Fewer cells than this on a side and letters cannot be told from an image: the whole picture is taken.
const FEWEST: usize = 12;

/// Finds the field of view and holds it steady.
#[derive(Debug, Default)]
pub struct Finder {
    size: (u32, u32),
    cells: (usize, usize),
    /// Frames until a cell is forgotten.
    lit: Vec<u16>,
    scratch: Vec<u8>,
    components: Components,
    /// Of each component: its cells, and its first and last column and row.
    measures: Vec<(u64, [usize; 4])>,
    rgb: Vec<u8>,
    grey: Vec<u8>,
    current: Option<Rect>,
    /// A smaller rectangle seen lately, and for how many frames.
    candidate: (Rect, u32),
}

impl Finder {
    /// The field of view of this frame. Allocates only when the picture's size changes.
    pub fn observe(&mut self, picture: &Picture) -> Rect {
        let (w, h) = (picture.info.width, picture.info.height);
        let whole = Rect::full(w, h);
        if self.size != (w, h) {
            self.restart(w, h);
        }
        let (cw, ch) = self.cells;
        if cw < FEWEST || ch < FEWEST {
            return whole;
        }
        self.sample(picture);
        let surround = self.surround();
        let bright = |v: u8| v > surround.saturating_add(STEP);
        for (lit, &v) in self.lit.iter_mut().zip(&self.grey) {
            *lit = if bright(v) { MEMORY } else { lit.saturating_sub(1) };
        }
        let found = if surround > DARKEST_IMAGE { None } else { self.largest_region() };
        let found = found.map(|cells| self.to_pixels(cells, whole));
        let next = match (found, self.current) {
            // A black or uniformly bright picture says nothing.
            (None, current) => current.unwrap_or(whole),
            (Some(f), None) => f,
            (Some(f), Some(c)) => self.steady(f, c),
        };
        // A dark picture at the start must not fix the view: only what was found is remembered.
        if found.is_some() || self.current.is_some() {
            self.current = Some(next);
        }
        next
    }

    fn restart(&mut self, w: u32, h: u32) {
        let cell = (w.max(h) as usize).div_ceil(GRID).max(1);
        let cells = ((w as usize) / cell, (h as usize) / cell);
        let n = cells.0 * cells.1;
        // Runs of cells, each with a gap behind it.
        let most = cells.0.div_ceil(2) * cells.1;
        *self = Self {
            size: (w, h),
            cells,
            lit: vec![0; n],
            scratch: vec![0; n],
            components: Components::with_room(most),
            measures: Vec::with_capacity(most),
            rgb: vec![0; 3],
            grey: vec![0; n],
            current: None,
            candidate: Default::default(),
        };
    }

    /// Side of a grid cell in pixels.
    fn cell(&self) -> usize {
        (self.size.0.max(self.size.1) as usize).div_ceil(GRID).max(1)
    }

    /// Luma at the middle of each cell: the brightest colour component, so that dark red mucosa is not taken for black.
    fn sample(&mut self, picture: &Picture) {
        let reader = RowReader::new(*picture);
        let rows = reader.rows();
        let last = rows.count(picture.info.height as usize).saturating_sub(1);
        let cell = self.cell();
        let (cw, ch) = self.cells;
        for cy in 0..ch {
            let row = (rows.count(cy * cell + cell / 2)).min(last);
            for cx in 0..cw {
                reader.rgb(row, cx * cell + cell / 2, &mut self.rgb);
                self.grey[cy * cw + cx] = self.rgb[0].max(self.rgb[1]).max(self.rgb[2]);
            }
        }
    }

    /// Brightness of what surrounds the image: the darkest of the four corners, each by the median of its cells.
    fn surround(&self) -> u8 {
        let (cw, ch) = self.cells;
        let n = 3.min(cw).min(ch);
        let mut darkest = u8::MAX;
        for (x0, y0) in [(0, 0), (cw - n, 0), (0, ch - n), (cw - n, ch - n)] {
            let mut values = [0u8; 9];
            let mut count = 0;
            for y in y0..y0 + n {
                for x in x0..x0 + n {
                    values[count] = self.grey[y * cw + x];
                    count += 1;
                }
            }
            let values = &mut values[..count];
            values.sort_unstable();
            darkest = darkest.min(values[count / 2]);
        }
        darkest
    }

    /// Bounding rectangle, in cells, of the largest region that survives an erosion; `None` if it is too small.
    fn largest_region(&mut self) -> Option<Rect> {
        let (cw, ch) = self.cells;
        // Erosion by one cell on each side; outside the picture counts as lit, since images reach its edges.
        for y in 0..ch {
            for x in 0..cw {
                let mut keep = true;
                for yy in y.saturating_sub(1)..(y + 2).min(ch) {
                    for xx in x.saturating_sub(1)..(x + 2).min(cw) {
                        keep &= self.lit[yy * cw + xx] > 0;
                    }
                }
                self.scratch[y * cw + x] = u8::from(keep);
            }
        }
        self.components.label(self.scratch.chunks_exact(cw), Neighbourhood::Four);
        self.measures.clear();
        self.measures.resize(self.components.count(), (0, [cw, ch, 0, 0]));
        for (run, number) in self.components.runs() {
            let (n, [x0, y0, x1, y1]) = &mut self.measures[number];
            let (left, right, y) = (run.x0 as usize, run.x1 as usize - 1, run.y as usize);
            *n += run.area();
            (*x0, *y0, *x1, *y1) = ((*x0).min(left), (*y0).min(y), (*x1).max(right), (*y1).max(y));
        }
        // The first of the largest.
        let best =
            self.measures.iter().copied().reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (_, [x0, y0, x1, y1]) = best?;
        // Give back what the erosion took.
        let (x0, y0) = (x0.saturating_sub(1), y0.saturating_sub(1));
        let (x1, y1) = ((x1 + 1).min(cw - 1), (y1 + 1).min(ch - 1));
        let r = Rect::new(x0 as u32, y0 as u32, (x1 - x0 + 1) as u32, (y1 - y0 + 1) as u32);
        (r.area() as f64 >= SMALLEST * (cw * ch) as f64).then_some(r)
    }

    /// From cells to source pixels, on even coordinates; sides within a cell of the picture's edge go to the edge.
    fn to_pixels(&self, cells: Rect, whole: Rect) -> Rect {
        let cell = self.cell() as u32;
        let snap = |v: u32, end: u32| {
            if v <= cell {
                0
            } else if v + 2 * cell > end {
                end
            } else {
                v & !1
            }
        };
        let x = snap(cells.x * cell, whole.w);
        let y = snap(cells.y * cell, whole.h);
        let right = snap(cells.right() * cell, whole.w).max(x + 2).min(whole.w);
        let bottom = snap(cells.bottom() * cell, whole.h).max(y + 2).min(whole.h);
        Rect {
            x: x.min(right - 1),
            y: y.min(bottom - 1),
            w: right - x.min(right - 1),
            h: bottom - y.min(bottom - 1),
        }
    }

    /// Grows at once; shrinks only after [`PATIENCE`] frames; ignores changes of a cell or so.
    fn steady(&mut self, found: Rect, current: Rect) -> Rect {
        let slack = 2 * self.cell() as u32;
        let near = |a: u32, b: u32| a.abs_diff(b) <= slack;
        if near(found.x, current.x)
            && near(found.y, current.y)
            && near(found.right(), current.right())
            && near(found.bottom(), current.bottom())
        {
            self.candidate.1 = 0;
            return current;
        }
        let x = found.x.min(current.x);
        let y = found.y.min(current.y);
        let union = Rect {
            x,
            y,
            w: found.right().max(current.right()) - x,
            h: found.bottom().max(current.bottom()) - y,
        };
        if union != current {
            self.candidate.1 = 0;
            return union;
        }
        if self.candidate.0 == found {
            self.candidate.1 += 1;
        } else {
            self.candidate = (found, 1);
        }
        if self.candidate.1 >= PATIENCE { found } else { current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PictureInfo, PixelFormat};
    use proptest::prelude::*;

    const W: u32 = 640;
    const H: u32 = 480;

    /// A picture with a surround, an octagonal image, and some lines of "text" beside it.
    fn scene(surround: u8, image: Rect, lumen: bool, text: bool) -> Vec<u8> {
        let mut rgb = vec![surround; (W * H * 3) as usize];
        for y in 0..H {
            for x in 0..W {
                let p = ((y * W + x) * 3) as usize;
                if image.contains(x, y) {
                    let (dx, dy) =
                        ((x - image.x).min(image.right() - 1 - x), (y - image.y).min(image.bottom() - 1 - y));
                    if dx + dy < image.w / 6 {
                        continue;
                    }
                    let (cx, cy) = (image.x + image.w / 2, image.y + image.h / 2);
                    let r = x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2);
                    let dark = lumen && r < (image.h / 4).pow(2);
                    rgb[p..p + 3].copy_from_slice(&if dark { [surround, 4, 4] } else { [170, 90, 70] });
                } else if text && x < 90 && y % 24 < 3 && x % 8 < 5 {
                    rgb[p..p + 3].fill(255);
                }
            }
        }
        rgb
    }

    fn observe(f: &mut Finder, rgb: &[u8]) -> Rect {
        f.observe(&Picture::packed(PictureInfo::new(PixelFormat::Rgb, W, H), rgb).unwrap())
    }

    fn close(a: Rect, b: Rect) -> bool {
        let d = 2 * (W as usize).div_ceil(GRID) as u32;
        a.x.abs_diff(b.x) <= d
            && a.y.abs_diff(b.y) <= d
            && a.right().abs_diff(b.right()) <= d
            && a.bottom().abs_diff(b.bottom()) <= d
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn finds_the_image_beside_text(x in 100u32..250, y in 0u32..100, w in 250u32..390, h in 250u32..380, surround in 0u8..30) {
            let image = Rect::new(x, y, w.min(W - x), h.min(H - y));
            let found = observe(&mut Finder::default(), &scene(surround, image, true, true));
            prop_assert!(close(found, image), "{found} is not {image}");
        }
    }

    #[test]
    fn stays_while_the_image_is_dark_and_follows_a_new_layout_later() {
        let (a, b) = (Rect::new(200, 40, 400, 400), Rect::new(260, 100, 300, 280));
        let mut f = Finder::default();
        assert!(close(observe(&mut f, &scene(8, a, false, true)), a));
        let fixed = observe(&mut f, &scene(8, a, true, true));
        let black = vec![8; (W * H * 3) as usize];
        for _ in 0..50 {
            assert_eq!(observe(&mut f, &black), fixed);
            assert_eq!(observe(&mut f, &scene(8, b, true, false)), fixed);
        }
        for _ in 0..u32::from(MEMORY) + PATIENCE {
            observe(&mut f, &scene(8, b, true, false));
        }
        assert!(close(observe(&mut f, &scene(8, b, true, false)), b));
    }

    #[test]
    fn a_full_black_or_tiny_picture_is_taken_whole() {
        let whole = Rect::full(W, H);
        let mut f = Finder::default();
        assert_eq!(observe(&mut f, &vec![0; (W * H * 3) as usize]), whole);
        assert_eq!(observe(&mut f, &vec![180; (W * H * 3) as usize]), whole);
        let image = Rect::new(200, 40, 400, 400);
        assert!(
            close(observe(&mut f, &scene(8, image, true, true)), image),
            "a dark start must not fix the view"
        );
        let tiny = vec![0; 5 * 5 * 3];
        let info = PictureInfo::new(PixelFormat::Rgb, 5, 5);
        assert_eq!(f.observe(&Picture::packed(info, &tiny).unwrap()), Rect::full(5, 5));
    }

    #[test]
    fn parses_what_the_command_line_offers() {
        assert_eq!("auto".parse::<FieldOfView>().unwrap(), FieldOfView::Auto);
        assert_eq!(
            "10,20,30,40".parse::<FieldOfView>().unwrap(),
            FieldOfView::Given(Rect::new(10, 20, 30, 40))
        );
        for bad in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "a,b,c,d", "-1,0,5,5", "4294967295,0,2,2"] {
            assert!(bad.parse::<FieldOfView>().is_err(), "{bad}");
        }
    }
}
