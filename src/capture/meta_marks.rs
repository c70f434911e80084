//! Marks drawn from what a buffer carries, whoever attached it.
//!
//! In: a buffer with masks as metadata. Out: the same picture with them drawn by [`Overlay`], or a key of them. A
//! picture without such metadata, or whose mask is too old, stays byte for byte as it came.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::analytics;
use super::mapping::{draw_as, draw_on};
use super::mask_entry::MaskPixels;
use super::mask_meta;
use crate::Result;
use crate::frame::{Mask, Nanos, PictureInfo, PixelFormat, Polyp, Rect};
use crate::overlay::{Overlay, Style};
use crate::safety::State;

/// What to draw, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    pub style: Style,
    /// Whether the inside is tinted.
    pub fill: bool,
    /// An older mask is not drawn.
    pub max_mask_age: Nanos,
    /// Name of the custom meta that is looked for.
    pub metadata: Arc<str>,
}

/// Draws; keeps its buffers from frame to frame.
pub struct MetaMarks {
    overlay: Overlay,
    canvas: Canvas,
}

impl Default for MetaMarks {
    fn default() -> Self {
        Self { overlay: Overlay::new(Style::default()), canvas: Canvas::default() }
    }
}

/// What a buffer was found to carry that is to be drawn.
struct Carried {
    masks: bool,
    state: Option<State>,
}

impl MetaMarks {
    /// Draws on the picture itself.
    ///
    /// # Errors
    /// A buffer that cannot be written.
    pub fn in_place(
        &mut self,
        buffer: &mut gst::BufferRef,
        info: &gst_video::VideoInfo,
        look: &Look,
    ) -> Result<()> {
        let Some(carried) = self.gather(buffer, (info.width(), info.height()), look) else { return Ok(()) };
        let state = self.prepare(&carried, look);
        let mask = carried.masks.then_some(&self.canvas.mask);
        draw_on(buffer, info, |mut picture| {
            self.overlay.draw(&mut picture, mask, state);
            Ok(())
        })
    }

    /// Draws on `key`, a BGRA buffer of the same size as the picture in `buffer`.
    ///
    /// # Errors
    /// A buffer that cannot be written.
    pub fn key(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        key: &mut gst::BufferRef,
        key_info: &gst_video::VideoInfo,
        look: &Look,
    ) -> Result<()> {
        let carried = self
            .gather(buffer, (info.width(), info.height()), look)
            .unwrap_or(Carried { masks: false, state: None });
        let state = self.prepare(&carried, look);
        let mask = carried.masks.then_some(&self.canvas.mask);
        let canvas = PictureInfo::new(PixelFormat::Bgrx, key_info.width(), key_info.height());
        draw_as(key, key_info, canvas, |mut picture| {
            self.overlay.draw_key(&mut picture, mask, state);
            Ok(())
        })
    }

    /// A state that nobody said is not drawn.
    fn prepare(&mut self, carried: &Carried, look: &Look) -> State {
        let alpha = if look.fill { look.style.alpha } else { 0.0 };
        let status = look.style.status && carried.state.is_some();
        self.overlay.set_style(Style { alpha, status, ..look.style });
        carried.state.unwrap_or_default()
    }

    /// Collects all masks of a buffer on the canvas; `None` where nothing is to be drawn.
    fn gather(&mut self, buffer: &gst::BufferRef, picture: (u32, u32), look: &Look) -> Option<Carried> {
        self.canvas.begin(picture);
        let canvas = &mut self.canvas;
        let state = match mask_meta::read(buffer, &look.metadata) {
            Some(own) => {
                if let Some(pixels) = own.pixels.as_ref().filter(|_| own.age <= look.max_mask_age) {
                    canvas.add_buffer(own.picture, pixels);
                }
                own.state
            }
            None => {
                mask_meta::each_region_mask(buffer, &look.metadata, |pixels, age| {
                    if age <= look.max_mask_age {
                        canvas.add_buffer(picture, &pixels);
                    }
                });
                analytics::each_mask(buffer, |pixels| canvas.add_buffer(picture, &pixels));
                None
            }
        };
        let masks = self.canvas.mask.area_px > 0;
        (masks || state.is_some() && look.style.status).then_some(Carried { masks, state })
    }
}

/// A mask over the whole picture that masks of any size are put on.
#[derive(Default)]
pub struct Canvas {
    mask: Mask,
}

/// One picture of mask values, rows `stride` bytes apart.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
    pub width: u32,
    pub height: u32,
}

/// No picture is larger, so products of two coordinates stay within 64 bits.
const LARGEST: u32 = 1 << 20;

impl Canvas {
    /// Nothing is marked; only what was marked before is wiped.
    pub fn begin(&mut self, (width, height): (u32, u32)) {
        let mask = &mut self.mask;
        if (mask.width, mask.height) == (width, height) {
            for polyp in &mask.polyps {
                let r = polyp.bbox;
                for y in r.y..r.bottom() {
                    let at = y as usize * width as usize + r.x as usize;
                    if let Some(row) = mask.inside.get_mut(at..at + r.w as usize) {
                        row.fill(0);
                    }
                }
            }
        } else {
            (mask.width, mask.height) = (width, height);
            mask.field_of_view = Rect::full(width, height);
            mask.inside.clear();
            mask.inside.resize(width as usize * height as usize, 0);
        }
        mask.polyps.clear();
        mask.area_px = 0;
    }

    /// Puts on what a buffer holds: a GRAY8 picture, described by its video meta, or packed at its place's size.
    fn add_buffer(&mut self, of: (u32, u32), pixels: &MaskPixels) {
        let (mut width, mut height) = pixels.packed();
        let mut stride = width as usize;
        let mut offset = 0;
        if let Some(meta) = pixels.buffer.meta::<gst_video::VideoMeta>() {
            let known = [gst_video::VideoFormat::Gray8, gst_video::VideoFormat::Unknown];
            let Some(s) = meta.stride().first().and_then(|s| usize::try_from(*s).ok()) else { return };
            if !known.contains(&meta.format()) {
                return;
            }
            (width, height, stride) = (meta.width(), meta.height(), s);
            offset = meta.offset().first().copied().unwrap_or(0);
        }
        let Ok(map) = pixels.buffer.map_readable() else { return };
        let Some(bytes) = map.as_slice().get(offset..) else { return };
        self.add(of, pixels.place, Values { bytes, stride, width, height });
    }

    /// Marks where `values`, which cover `place` of a picture of size `of`, are not 0. What does not fit together is
    /// left out.
    pub fn add(&mut self, of: (u32, u32), place: Rect, values: Values) {
        let whole = (self.mask.width, self.mask.height);
        let sizes = [of.0, of.1, place.w, place.h, values.width, values.height];
        let fits = sizes.iter().all(|s| (1..=LARGEST).contains(s))
            && place.x < of.0
            && place.y < of.1
            && values.stride >= values.width as usize
            && values.bytes.len() >= values.stride * (values.height as usize - 1) + values.width as usize;
        if !fits {
            return;
        }
        // Where the rectangle lies on a picture of our size; its end is rounded up, so that no thin mask is lost.
        let scale = |v: u32, from: u32, to: u32| u64::from(v) * u64::from(to) / u64::from(from);
        let scale_up = |v: u32, from: u32, to: u32| (u64::from(v) * u64::from(to)).div_ceil(u64::from(from));
        let (x0, y0) = (scale(place.x, of.0, whole.0) as u32, scale(place.y, of.1, whole.1) as u32);
        let x1 = scale_up(place.x.saturating_add(place.w), of.0, whole.0);
        let y1 = scale_up(place.y.saturating_add(place.h), of.1, whole.1);
        let (w, h) = ((x1 - u64::from(x0)).max(1), (y1 - u64::from(y0)).max(1));
        let drawn = Rect::new(x0, y0, w.min(u64::from(LARGEST)) as u32, h.min(u64::from(LARGEST)) as u32)
            .intersect(&Rect::full(whole.0, whole.1));
        let same = (w, h) == (u64::from(values.width), u64::from(values.height));
        let mut area = 0;
        for y in drawn.y..drawn.bottom() {
            let from = (u64::from(y - y0) * u64::from(values.height) / h) as usize;
            let at = y as usize * whole.0 as usize + drawn.x as usize;
            let Some(out) = self.mask.inside.get_mut(at..at + drawn.w as usize) else { return };
            let row = &values.bytes[from * values.stride..][..values.width as usize];
            for (i, out) in out.iter_mut().enumerate() {
                let value = if same { row[i] } else { row[i * values.width as usize / w as usize] };
                if value != 0 {
                    area += u64::from(*out == 0);
                    *out = 1;
                }
            }
        }
        if area > 0 {
            self.mask.area_px += area;
            self.mask.polyps.push(Polyp { bbox: drawn, area_px: area, ..Polyp::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(c: &Canvas) -> Vec<(u32, u32)> {
        let (w, h) = (c.mask.width, c.mask.height);
        (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).filter(|(x, y)| c.mask.is_inside(*x, *y)).collect()
    }

    #[test]
    fn masks_of_any_size_land_where_they_belong() {
        let mut c = Canvas::default();
        c.begin((8, 6));
        let bytes = [0, 7, 0, 255, 0, 9];
        let values = Values { bytes: &bytes, stride: 3, width: 2, height: 2 };
        c.add((8, 6), Rect::new(3, 2, 2, 2), values);
        assert_eq!(marked(&c), [(4, 2), (3, 3)]);
        // Twice the picture: the same place.
        c.begin((8, 6));
        c.add((16, 12), Rect::new(6, 4, 4, 4), values);
        assert_eq!(marked(&c), [(4, 2), (3, 3)]);
        // A network's small map over the whole picture.
        c.begin((8, 6));
        let bytes = [0, 1, 0, 0];
        c.add((8, 6), Rect::full(8, 6), Values { bytes: &bytes, stride: 2, width: 2, height: 2 });
        assert_eq!(marked(&c).len(), 12);
        assert!(marked(&c).iter().all(|(x, y)| *x >= 4 && *y < 3));
        c.begin((8, 6));
        assert!(marked(&c).is_empty() && c.mask.inside.iter().all(|v| *v == 0));
    }

    proptest::proptest! {
        /// Whatever is said of a mask: nothing panics, nothing is marked outside, areas are right, and the next begin
        /// wipes all.
        #[test]
        fn nothing_that_is_said_of_a_mask_breaks_anything(
            size in (1u32..40, 1u32..40), of in (0u32..3000, 0u32..3000), place in (0u32..3000, 0u32..3000, 0u32..4000, 0u32..4000),
            values in (0u32..50, 0u32..50, 0usize..60), len in 0usize..3000,
        ) {
            let mut c = Canvas::default();
            c.begin(size);
            let bytes = vec![1; len];
            let place = Rect::new(place.0, place.1, place.2, place.3);
            c.add(of, place, Values { bytes: &bytes, stride: values.2, width: values.0, height: values.1 });
            let n = c.mask.inside.iter().filter(|v| **v != 0).count() as u64;
            assert_eq!(n, c.mask.area_px);
            c.begin(size);
            assert!(c.mask.inside.iter().all(|v| *v == 0));
        }
    }
}
