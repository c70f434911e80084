//! From a picture's bytes to the stem's map, and from logits to marked pixels, on the device.
//!
//! In: a picture in any layout, its field of view, a level. Out: the launches that turn one into the other, with their
//! tables, kept while size, layout, view and level stay the same. The arithmetic is that of `preprocess::fused` and
//! `postprocess::threshold`: 8-bit values between the steps, the same fixed-point coefficients.

use super::launch::{Device, Kernel, Launch, bytes_of};
use super::lower::Plan;
use super::params::{Address, Columns, Mark, Rows};
use crate::Result;
use crate::engine::Shape;
use crate::frame::colour::{FieldRows, Matrix};
use crate::frame::resize::{Coefficients, Filter};
use crate::frame::{Chroma, Layout, Picture, PictureInfo, Rect, packed_len};
use crate::model::checkpoint::Description;

/// Memory that grows and is never given back before its device is.
#[derive(Clone, Copy, Default)]
struct Buffer {
    address: Address,
    bytes: usize,
}

impl Buffer {
    fn reserve(&mut self, device: &mut dyn Device, bytes: usize) -> Result<Address> {
        if self.bytes < bytes {
            self.bytes = bytes.max(2 * self.bytes);
            self.address = device.allocate(self.bytes)?;
        }
        Ok(self.address)
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Key {
    info: PictureInfo,
    view: Rect,
    level: f32,
}

/// The launches around the network for one kind of picture.
pub(crate) struct PictureStage {
    filter: Filter,
    mean: [f32; 3],
    deviation: [f32; 3],
    key: Option<Key>,
    picture: Buffer,
    narrow: Buffer,
    /// Spans and weights, across and down.
    tables: [Buffer; 4],
    /// One line of chroma without colour, for grey.
    neutral: Buffer,
    inside: Buffer,
    /// Colour and horizontal reduction; vertical reduction and normalisation.
    before: Vec<Launch>,
    /// Enlargement and threshold.
    after: Option<Launch>,
}

impl PictureStage {
    pub(crate) fn new(description: &Description) -> Self {
        Self {
            filter: Filter::from(description.resize),
            mean: description.mean,
            deviation: description.std,
            key: None,
            picture: Buffer::default(),
            narrow: Buffer::default(),
            tables: [Buffer::default(); 4],
            neutral: Buffer::default(),
            inside: Buffer::default(),
            before: Vec::new(),
            after: None,
        }
    }

    /// Makes the launches fit this picture; says whether they changed. `view` lies in the picture and is not empty.
    pub(crate) fn prepare(
        &mut self,
        device: &mut dyn Device,
        plan: &Plan,
        shape: Shape,
        picture: &Picture,
        view: Rect,
        level: f32,
    ) -> Result<bool> {
        let key = Key { info: picture.info, view, level };
        if self.key == Some(key) {
            return Ok(false);
        }
        // Until everything is in place.
        self.key = None;
        let rows = FieldRows::of(picture);
        let (top, bottom) = rows.of_view(picture, view);
        let (source_w, source_h) = (view.w as usize, bottom - top);
        let across = Coefficients::new(source_w, shape.width, self.filter);
        let down = Coefficients::new(source_h, shape.height, self.filter);
        let mut tables = [0; 4];
        for (i, c) in [&across, &down].into_iter().enumerate() {
            let spans: Vec<i32> = c.spans().iter().flat_map(|&(first, n)| [first as i32, n as i32]).collect();
            for (j, bytes) in [bytes_of(&spans), bytes_of(c.weights())].into_iter().enumerate() {
                tables[2 * i + j] = self.tables[2 * i + j].reserve(device, bytes.len())?;
                device.upload(tables[2 * i + j], bytes)?;
            }
        }
        let info = picture.info;
        let base = self.picture.reserve(device, packed_len(&info))?;
        let narrow = self.narrow.reserve(device, source_h * 3 * shape.width)?;
        let inside = self.inside.reserve(device, marks_len(view))?;
        let (mut planes, mut strides, mut offset) = ([base; 3], [0; 3], 0);
        for i in 0..info.format.planes() {
            let (stride, lines) = info.format.plane_size(i, info.width, info.height);
            (planes[i], strides[i]) = (base + offset as u64, stride as i32);
            offset += stride * lines;
        }
        let (layout, places, depth, shift, sub_x, sub_y) = match info.format.layout() {
            Layout::Gray if info.colorimetry.full_range => (0, [0; 4], 8, 0, 0, 0),
            // As planar YUV whose chroma is the same line everywhere, so that luma is stretched to full range.
            Layout::Gray => {
                let line = vec![128u8; info.width as usize];
                let neutral = self.neutral.reserve(device, line.len())?;
                device.upload(neutral, &line)?;
                planes[1..].fill(neutral);
                strides[1..].fill(0);
                (2, [0, 1, 2, 0], 8, 0, 0, 0)
            }
            Layout::Rgb { stride, r, g, b } => (1, [stride, r, g, b], 8, 0, 0, 0),
            Layout::Yuv { depth, shift, sub_x, sub_y, chroma } => match chroma {
                Chroma::Planar { u, v } => (2, [0, u, v, 0], depth, shift, sub_x, sub_y),
                Chroma::Pairs { u, v } => (3, [0, u, v, 0], depth, shift, sub_x, sub_y),
                Chroma::Packed422 { y, u, v } => (4, [0, y, u, v], depth, shift, sub_x, sub_y),
                Chroma::V210 => (5, [0; 4], depth, shift, sub_x, sub_y),
            },
        };
        let chroma_rows = if sub_y == 1 { info.height.div_ceil(2) } else { info.height };
        let first = Rows {
            planes,
            narrow,
            spans: tables[0],
            weights: tables[1],
            strides,
            taps: across.taps() as i32,
            width: shape.width as i32,
            rows: source_h as i32,
            top: top as i32,
            x0: view.x as i32,
            line_step: rows.step() as i32,
            line_first: rows.line(0) as i32,
            chroma_rows: chroma_rows as i32,
            layout,
            places: places.map(|p| p as i32),
            depth: depth as i32,
            shift: shift as i32,
            sub_x: sub_x as i32,
            sub_y: sub_y as i32,
            matrix: Matrix::of(picture).coefficients(),
            unused: 0,
        };
        let second = Columns {
            narrow,
            spans: tables[2],
            weights: tables[3],
            out: plan.input,
            statistics: plan.statistics,
            taps: down.taps() as i32,
            width: shape.width as i32,
            height: shape.height as i32,
            unused: 0,
            mean: self.mean,
            deviation: self.deviation,
        };
        let mark = Mark {
            logits: plan.logits,
            inside,
            statistics: plan.statistics,
            source_height: shape.height as i32,
            source_width: shape.width as i32,
            height: view.h as i32,
            width: view.w as i32,
            classes: shape.classes as i32,
            level,
        };
        self.before = vec![
            Launch::each(Kernel::Rows, source_h * shape.width, first),
            Launch::each(Kernel::Columns, shape.height * shape.width, second),
        ];
        self.after = Some(Launch::each(Kernel::Mark, marks_len(view), mark));
        self.key = Some(key);
        Ok(true)
    }

    /// Where the picture's bytes belong, its planes behind one another without padding.
    pub(crate) fn picture(&self) -> Address {
        self.picture.address
    }

    /// Where the marked pixels are, as [`spread_marks`] reads them.
    pub(crate) fn inside(&self) -> Address {
        self.inside.address
    }

    pub(crate) fn before(&self) -> &[Launch] {
        &self.before
    }

    pub(crate) fn after(&self) -> &[Launch] {
        self.after.as_slice()
    }
}

/// The float behind the kernels' integers that sort as floats do.
pub(crate) fn unsorted(key: u32) -> f32 {
    f32::from_bits(if key >> 31 != 0 { key & 0x7fff_ffff } else { !key })
}

/// Bytes of a view's marks: a bit a pixel, each row from a byte of its own.
pub(crate) fn marks_len(view: Rect) -> usize {
    view.h as usize * (view.w as usize).div_ceil(8)
}

/// Marks as the device writes them, [height][width / 8 rounded up] with the lowest bit first, to a byte of 0 or 1 a
/// pixel, row-major over the view.
pub(crate) fn spread_marks(marks: &[u8], width: usize, inside: &mut [u8]) {
    // Byte k keeps bit k alone, and becomes 1 where it is set.
    let spread = |marks: u8| {
        let bits = (u64::from(marks) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        ((bits + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101).to_le_bytes()
    };
    for (marks, inside) in marks.chunks(width.div_ceil(8)).zip(inside.chunks_mut(width)) {
        let (whole, rest) = inside.as_chunks_mut::<8>();
        for (inside, marks) in whole.iter_mut().zip(marks) {
            *inside = spread(*marks);
        }
        if let Some(last) = marks.get(whole.len()) {
            rest.copy_from_slice(&spread(*last)[..rest.len()]);
        }
    }
}

#[cfg(test)]
mod marks {
    #[test]
    fn every_byte_of_marks_becomes_its_pixels() {
        for width in [1usize, 7, 8, 9, 21] {
            let across = width.div_ceil(8);
            let marks: Vec<u8> = (0..256 * across).map(|i| (i * 37 % 256) as u8).collect();
            let mut inside = vec![9; 256 * width];
            super::spread_marks(&marks, width, &mut inside);
            for (i, got) in inside.iter().enumerate() {
                let (y, x) = (i / width, i % width);
                assert_eq!(*got, marks[y * across + x / 8] >> (x % 8) & 1);
            }
        }
    }
}
