//! A frame as a small grey image.
//!
//! In: a picture and the part of it to look at. Out: its luma averaged over square blocks (green where there is no
//! luma). Of a block's lines two are read: what is lost is noise, what is saved is most of the frame's bytes.

use crate::frame::colour::RowReader;
use crate::frame::{Chroma, Layout, Picture, Rect};

/// Widest small image. Measured (`bench motion`, brisk, 100 ms): 160 searched down to half its size .893, 120 searched
/// to its full size .912 for a fifth more time, 160 to its full size .921 for twice the time.
pub(super) const WIDTH: u32 = 120;

/// How a small image lies in its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grid {
    pub view: Rect,
    /// Source pixels to a small one, both ways.
    pub block: u32,
    pub width: usize,
    pub height: usize,
}

impl Grid {
    /// At most `widest` small pixels either way; `None` for a view too small to see motion in.
    pub(super) fn of(view: Rect, widest: u32) -> Option<Self> {
        let block = view.w.div_ceil(widest).max(view.h.div_ceil(widest)).max(1);
        let (width, height) = ((view.w / block) as usize, (view.h / block) as usize);
        (width >= 32 && height >= 32).then_some(Self { view, block, width, height })
    }
}

/// Reduces pictures; buffers are kept.
#[derive(Debug, Default)]
pub(super) struct Reducer {
    sums: Vec<u16>,
    rgb: Vec<u8>,
}

impl Reducer {
    /// Fills `small` (`grid.width` · `grid.height` bytes).
    pub(super) fn run(&mut self, picture: &Picture, grid: &Grid, small: &mut Vec<u8>) {
        small.resize(grid.width * grid.height, 0);
        let block = grid.block as usize;
        let columns = grid.width * block;
        self.sums.resize(columns, 0);
        let reader = RowReader::new(*picture);
        let rows = reader.rows();
        let plain = matches!(
            picture.info.format.layout(),
            Layout::Yuv { depth: 8, chroma: Chroma::Planar { .. } | Chroma::Pairs { .. }, .. } | Layout::Gray
        );
        let last = rows.count(picture.info.height as usize).saturating_sub(1);
        for (y, out) in small.chunks_exact_mut(grid.width).enumerate() {
            let top = grid.view.y as usize + y * block;
            let lines = [top + block / 4, top + 3 * block / 4];
            let lines = if block == 1 { &lines[..1] } else { &lines[..] };
            self.sums.fill(0);
            for &line in lines {
                // A field's row at that height.
                let row = (line / rows.step()).min(last);
                let x0 = grid.view.x as usize;
                if plain {
                    let from = picture.planes[0].row(rows.line(row));
                    let from = &from[x0.min(from.len())..];
                    for (s, v) in self.sums.iter_mut().zip(from) {
                        *s += u16::from(*v);
                    }
                } else {
                    self.rgb.resize(columns * 3, 0);
                    reader.rgb(row, x0, &mut self.rgb);
                    for (s, v) in self.sums.iter_mut().zip(self.rgb.chunks_exact(3)) {
                        *s += u16::from(v[1]);
                    }
                }
            }
            let scale = (lines.len() * block) as u32;
            for (o, sums) in out.iter_mut().zip(self.sums.chunks_exact(block)) {
                let sum: u32 = sums.iter().map(|s| u32::from(*s)).sum();
                *o = (sum / scale) as u8;
            }
        }
    }
}
