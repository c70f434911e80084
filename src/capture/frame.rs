//! A decoded frame: GStreamer's buffer behind our picture types.
//!
//! In: a buffer and its caps. Out: pictures to read and to draw on, without copying what nobody else holds.

use std::time::Instant;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::mapping::{draw_on, picture_info, picture_of};
use crate::frame::{FrameId, Nanos, Picture, PictureInfo, PictureMut, Pts};
use crate::{Error, Result};

/// One frame on its way through the system.
/// A clone shares the same bytes; drawing on one of the two copies them first.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number; lost frames keep theirs, so numbers may be left out.
    pub id: FrameId,
    /// Position in the recording.
    pub pts: Pts,
    /// How long it is shown, if the source says.
    pub duration: Option<Nanos>,
    /// What the reader waited for it.
    pub decode: Nanos,
    /// What the reader took to pass it on, without the time it waited for room.
    pub hand_over: Nanos,
    /// When it was put into the mailbox.
    pub offered: Instant,
    pub(super) info: gst_video::VideoInfo,
    pub(super) buffer: gst::Buffer,
}

impl Frame {
    /// Packs RGB pixels without padding into a frame of a stream of `rate` frames a second, number and times unset.
    ///
    /// # Errors
    /// A size or rate GStreamer cannot describe, too few pixels.
    pub fn from_rgb(rgb: &[u8], (width, height): (u32, u32), rate: (u32, u32)) -> Result<Self> {
        let refused = || Error::input(format!("a {width}x{height} picture cannot become a frame"));
        let fps = |v: u32| i32::try_from(v).map_err(|_| refused());
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .fps(gst::Fraction::new(fps(rate.0)?, fps(rate.1)?))
            .build()
            .map_err(|e| refused().because(e))?;
        let (stride, row) = (info.stride()[0] as usize, width as usize * 3);
        if rgb.len() != row * height as usize || row == 0 {
            return Err(refused());
        }
        let mut bytes = vec![0u8; info.size()];
        for (line, out) in rgb.chunks_exact(row).zip(bytes.chunks_mut(stride)) {
            out[..row].copy_from_slice(line);
        }
        Ok(Self {
            id: FrameId(0),
            pts: Pts(0),
            duration: None,
            decode: Nanos(0),
            hand_over: Nanos(0),
            offered: Instant::now(),
            info,
            buffer: gst::Buffer::from_mut_slice(bytes),
        })
    }

    /// Layout, size, colorimetry and interlacing of this frame.
    ///
    /// # Errors
    /// A layout we do not read (the source's caps filter lets none through).
    pub fn picture_info(&self) -> Result<PictureInfo> {
        picture_info(&self.info, Some(&self.buffer))
    }

    /// Caps of the stream it belongs to.
    pub fn caps(&self) -> Result<gst::Caps> {
        self.info
            .to_caps()
            .map_err(|e| Error::internal(format!("{}: caps cannot be made", self.id)).because(e))
    }

    /// Views the picture.
    pub fn read<R>(&self, see: impl FnOnce(&Picture) -> Result<R>) -> Result<R> {
        // The caller's own errors already say where they come from.
        let mut see = Some(see);
        let mut seen = None;
        picture_of(&self.buffer, &self.info, |picture| {
            seen = see.take().map(|see| see(picture));
            Ok(())
        })
        .map_err(|e| e.at(self.id))?;
        seen.unwrap_or_else(|| Err(Error::internal(format!("{}: was not looked at", self.id))))
    }

    /// Draws on the picture. The buffer is copied first if the decoder still holds it as a reference frame.
    pub fn draw<R>(&mut self, change: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        let id = self.id;
        if !self.buffer.is_writable() || !self.buffer.is_all_memory_writable() {
            self.buffer = self
                .buffer
                .copy_deep()
                .map_err(|e| Error::internal(format!("{id}: the picture cannot be written")).because(e))?;
        }
        let drawn = draw_on(self.buffer.make_mut(), &self.info, |mut picture| Ok(change(&mut picture)));
        drawn.map_err(|e| e.at(id))
    }
}
