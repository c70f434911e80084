//! What the two elements of ours do with a frame, as seen from GStreamer.
//!
//! In: what an element learns on its streaming thread: a format, a flush, a buffer. Out: whatever the owner of the
//! element makes of it. The elements know nothing else of their owner, so they can be used without a network.

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::Result;

/// Called on the streaming thread, under the element's lock: must not wait, and must not call the element back. A panic
/// is caught by the element; the frame then goes on as it is.
pub trait FrameHook: Send {
    /// The next frames are of this format.
    fn format(&mut self, info: &gst_video::VideoInfo);

    /// The stream was flushed: the next frame need not follow the last one.
    fn flushed(&mut self);

    /// One frame of `polypoverlay`, to be changed where it lies. An error leaves it as it was.
    ///
    /// # Errors
    /// A buffer that cannot be read or written.
    fn in_place(&mut self, buffer: &mut gst::BufferRef, info: &gst_video::VideoInfo) -> Result<()>;

    /// One frame of `polypkey`: only what is drawn goes on, on `key`, a BGRA buffer of the same size. After an error
    /// the element makes the whole key transparent.
    ///
    /// # Errors
    /// As [`FrameHook::in_place`].
    fn key(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        key: &mut gst::BufferRef,
        key_info: &gst_video::VideoInfo,
    ) -> Result<()>;

    /// It panicked in the call before this one.
    fn panicked(&mut self);
}
