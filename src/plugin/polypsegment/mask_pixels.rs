//! A mask's pixels in a buffer of its own.
//!
//! In: masks. Out: buffers, cut to the rectangle around all polyps, 255 inside. Buffers come from a pool, to which they
//! return when the last frame that carries them is gone; a mask that lies still is written once.

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::capture::{MaskPixels, describe_pixels};
use crate::frame::{FrameId, Mask, Rect};
use crate::{Error, Result};

/// See the module.
#[derive(Default)]
pub struct PixelWriter {
    pool: Option<(gst::BufferPool, u32)>,
    /// The mask that was written last, where it was not moved.
    last: Option<(FrameId, MaskPixels)>,
}

impl PixelWriter {
    /// `still`: the mask lies as it was made, so that every frame with it can have the same buffer. `None` for an empty
    /// mask.
    ///
    /// # Errors
    /// No memory for a buffer.
    pub fn write(&mut self, mask: &Mask, still: bool) -> Result<Option<MaskPixels>> {
        if still
            && let Some((frame, pixels)) = &self.last
            && *frame == mask.frame
        {
            return Ok(Some(pixels.clone()));
        }
        self.last = None;
        let around = mask.polyps.iter().map(|p| p.bbox).reduce(|a, b| a.around(&b));
        let Some(place) = around.map(|r| r.intersect(&mask.field_of_view)).filter(|r| !r.is_empty()) else {
            return Ok(None);
        };
        let mut buffer = self.buffer(place)?;
        let refused = || Error::internal("a mask's buffer cannot be written");
        {
            let buffer = buffer.get_mut().ok_or_else(refused)?;
            buffer.set_size(place.area() as usize);
            describe_pixels(buffer, place.w, place.h)?;
            let mut map = buffer.map_writable().map_err(|e| refused().because(e))?;
            let left = (place.x - mask.field_of_view.x) as usize;
            let rows = place.y - mask.field_of_view.y..place.bottom() - mask.field_of_view.y;
            for (out, y) in map.chunks_exact_mut(place.w as usize).zip(rows) {
                for (out, inside) in out.iter_mut().zip(&mask.row(y)[left..]) {
                    *out = if *inside != 0 { 255 } else { 0 };
                }
            }
        }
        let pixels = MaskPixels::described(place, buffer);
        if still {
            self.last = Some((mask.frame, pixels.clone()));
        }
        Ok(Some(pixels))
    }

    /// Room for a rectangle, from a pool whose buffers only grow.
    fn buffer(&mut self, place: Rect) -> Result<gst::Buffer> {
        let refused = |e| Error::machine("there is no memory for a mask").because(e);
        let size = u32::try_from(place.area()).map_err(|_| Error::internal("a mask is too large"))?;
        if self.pool.as_ref().is_none_or(|(_, room)| *room < size) {
            self.close();
            let room = size.next_power_of_two();
            let pool = gst::BufferPool::new();
            let mut config = pool.config();
            config.set_params(None, room, 0, 0);
            pool.set_config(config).map_err(refused)?;
            pool.set_active(true).map_err(refused)?;
            self.pool = Some((pool, room));
        }
        match &self.pool {
            Some((pool, _)) => {
                pool.acquire_buffer(None).map_err(|_| Error::machine("there is no memory for a mask"))
            }
            None => Err(Error::internal("there is no pool")),
        }
    }

    fn close(&mut self) {
        if let Some((pool, _)) = self.pool.take() {
            let _ = pool.set_active(false);
        }
    }
}

impl Drop for PixelWriter {
    fn drop(&mut self) {
        self.last = None;
        self.close();
    }
}
