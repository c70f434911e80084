//! A buffer's bytes as a picture, to read and to draw on.
//!
//! In: a buffer and the description of its picture. Out: the planes, each row a stride after the one above. A buffer
//! whose rows run upwards (a negative stride, as some cards and converters store them) is turned in a copy and, if it
//! was drawn on, turned back.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use crate::frame::{
    Colorimetry, FieldOrder, Matrix, Picture, PictureInfo, PictureMut, PixelFormat, Plane, PlaneMut,
    packed_len,
};
use crate::{Error, Result};

/// Shows a buffer's picture.
///
/// # Errors
/// A layout we do not read, a buffer that cannot be mapped or is too small, what `see` returns.
pub fn picture_of<R>(
    buffer: &gst::BufferRef,
    info: &gst_video::VideoInfo,
    see: impl FnOnce(&Picture) -> Result<R>,
) -> Result<R> {
    let picture = picture_info(info, Some(buffer))?;
    if let Some(rows) = Upward::of(buffer, info) {
        let map = buffer.map_readable().map_err(unread)?;
        let bytes = rows.turned(&map, picture)?;
        return see(&Picture::packed(picture, &bytes).ok_or_else(too_small)?);
    }
    let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(unread)?;
    let mut planes = [Plane { data: &[], stride: 0 }; 3];
    for (i, plane) in planes.iter_mut().enumerate().take(picture.format.planes()) {
        let stride = stride(mapped.plane_stride(), i)?;
        *plane = Plane { data: mapped.plane_data(i as u32).map_err(unread)?, stride };
    }
    see(&Picture { info: picture, planes })
}

/// Shows a writable buffer's picture to draw on.
///
/// # Errors
/// As [`picture_of`].
pub(crate) fn draw_on<R>(
    buffer: &mut gst::BufferRef,
    info: &gst_video::VideoInfo,
    change: impl FnOnce(PictureMut) -> Result<R>,
) -> Result<R> {
    let picture = picture_info(info, Some(buffer))?;
    draw_as(buffer, info, picture, change)
}

/// As [`draw_on`], with our own words for the picture: for layouts that only we can tell from their like.
pub(crate) fn draw_as<R>(
    buffer: &mut gst::BufferRef,
    info: &gst_video::VideoInfo,
    picture: PictureInfo,
    change: impl FnOnce(PictureMut) -> Result<R>,
) -> Result<R> {
    if let Some(rows) = Upward::of(buffer, info) {
        let mut map = buffer.map_writable().map_err(unwritten)?;
        let mut bytes = rows.turned(&map, picture)?;
        let done = change(PictureMut::packed(picture, &mut bytes).ok_or_else(too_small)?)?;
        rows.put_back(&bytes, &mut map, picture)?;
        return Ok(done);
    }
    let mut mapped = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info).map_err(unwritten)?;
    let count = picture.format.planes();
    let mut strides = [0usize; 3];
    for (i, s) in strides.iter_mut().enumerate().take(count) {
        *s = stride(mapped.plane_stride(), i)?;
    }
    let mut all = mapped.planes_data_mut().into_iter();
    change(PictureMut {
        info: picture,
        planes: std::array::from_fn(|i| PlaneMut { data: all.next().unwrap_or(&mut []), stride: strides[i] }),
    })
}

/// Our words for GStreamer's description of a picture; `buffer` tells whether a frame of a mixed stream is interlaced.
pub(crate) fn picture_info(
    info: &gst_video::VideoInfo,
    buffer: Option<&gst::BufferRef>,
) -> Result<PictureInfo> {
    let name = info.format().to_str();
    let format = PixelFormat::from_caps_name(name).ok_or_else(|| {
        Error::input(format!("pictures in the layout {name} cannot be read"))
            .remedy("convert the recording to 4:2:0 or 4:2:2 video")
    })?;
    let mut out = PictureInfo::new(format, info.width(), info.height());
    let colorimetry = info.colorimetry();
    out.colorimetry = Colorimetry {
        matrix: match colorimetry.matrix() {
            gst_video::VideoColorMatrix::Bt601 => Matrix::Bt601,
            gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
            gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt2020,
            gst_video::VideoColorMatrix::Smpte240m => Matrix::Smpte240m,
            gst_video::VideoColorMatrix::Fcc => Matrix::Fcc,
            _ => out.colorimetry.matrix,
        },
        full_range: colorimetry.range() == gst_video::VideoColorRange::Range0_255,
    };
    out.pixel_aspect = (info.par().numer().max(1) as u32, info.par().denom().max(1) as u32);
    let flags = buffer.map_or(gst_video::VideoBufferFlags::empty(), |b| b.video_flags());
    let interlaced = match info.interlace_mode() {
        gst_video::VideoInterlaceMode::Progressive => false,
        gst_video::VideoInterlaceMode::Mixed => flags.contains(gst_video::VideoBufferFlags::INTERLACED),
        _ => true,
    };
    let top_first = match info.field_order() {
        gst_video::VideoFieldOrder::TopFieldFirst => true,
        gst_video::VideoFieldOrder::BottomFieldFirst => false,
        // Said by each frame. Where nobody says, HD is top field first.
        _ => {
            flags.contains(gst_video::VideoBufferFlags::TFF)
                || info.interlace_mode() == gst_video::VideoInterlaceMode::Interleaved && buffer.is_none()
        }
    };
    out.fields = match (interlaced, top_first) {
        (false, _) => FieldOrder::Progressive,
        (true, true) => FieldOrder::TopFirst,
        (true, false) => FieldOrder::BottomFirst,
    };
    Ok(out)
}

fn stride(strides: &[i32], plane: usize) -> Result<usize> {
    strides
        .get(plane)
        .and_then(|s| usize::try_from(*s).ok())
        .ok_or_else(|| Error::input(format!("plane {plane} of a frame is stored in a way nobody can read")))
}

fn unread(e: gst::glib::BoolError) -> Error {
    Error::input("a frame's buffer cannot be read").because(e)
}

fn unwritten(e: gst::glib::BoolError) -> Error {
    Error::internal("the picture cannot be written").because(e)
}

fn too_small() -> Error {
    Error::input("a frame's buffer is smaller than its picture")
}

/// Where the rows of a picture lie of which at least one plane is stored from the bottom up.
struct Upward {
    offsets: [usize; 3],
    strides: [i32; 3],
}

impl Upward {
    /// `None` for the usual way down.
    fn of(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> Option<Self> {
        let of = |offset: &[usize], stride: &[i32]| {
            stride.iter().any(|s| *s < 0).then(|| Self {
                offsets: std::array::from_fn(|i| offset.get(i).copied().unwrap_or(0)),
                strides: std::array::from_fn(|i| stride.get(i).copied().unwrap_or(0)),
            })
        };
        match buffer.meta::<gst_video::VideoMeta>() {
            Some(meta) => of(meta.offset(), meta.stride()),
            None => of(info.offset(), info.stride()),
        }
    }

    /// Bytes of row `y` of a plane among those of the buffer.
    fn row(&self, plane: usize, y: usize, bytes: usize) -> Option<std::ops::Range<usize>> {
        let from = isize::try_from(y).ok()?.checked_mul(self.strides[plane] as isize)?;
        let from = self.offsets[plane].checked_add_signed(from)?;
        Some(from..from.checked_add(bytes)?)
    }

    /// The planes without padding, each from the top down.
    fn turned(&self, buffer: &[u8], info: PictureInfo) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(packed_len(&info));
        for plane in 0..info.format.planes() {
            let (bytes, rows) = info.format.plane_size(plane, info.width, info.height);
            for y in 0..rows {
                let row = self.row(plane, y, bytes).and_then(|r| buffer.get(r)).ok_or_else(too_small)?;
                out.extend_from_slice(row);
            }
        }
        Ok(out)
    }

    /// The other way round.
    fn put_back(&self, picture: &[u8], buffer: &mut [u8], info: PictureInfo) -> Result<()> {
        let mut rest = picture;
        for plane in 0..info.format.planes() {
            let (bytes, rows) = info.format.plane_size(plane, info.width, info.height);
            for y in 0..rows {
                let (row, after) = rest.split_at_checked(bytes).ok_or_else(too_small)?;
                let to = self.row(plane, y, bytes).and_then(|r| buffer.get_mut(r)).ok_or_else(too_small)?;
                to.copy_from_slice(row);
                rest = after;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of the format whose planes lie in memory from the bottom up, filled with `byte(plane, row)`.
    fn upward(format: PixelFormat, byte: impl Fn(usize, usize) -> u8) -> (gst::Buffer, gst_video::VideoInfo) {
        crate::capture::init().unwrap();
        let name = gst_video::VideoFormat::from_string(format.caps_name());
        let info = gst_video::VideoInfo::builder(name, 12, 6).build().unwrap();
        let mut bytes = vec![0; info.size()];
        let (mut offsets, mut strides) = (Vec::new(), Vec::new());
        for plane in 0..format.planes() {
            let (start, stride) = (info.offset()[plane], info.stride()[plane] as usize);
            let (_, rows) = format.plane_size(plane, 12, 6);
            for y in 0..rows {
                bytes[start + (rows - 1 - y) * stride..][..stride].fill(byte(plane, y));
            }
            offsets.push(start + (rows - 1) * stride);
            strides.push(-(stride as i32));
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        let meta = gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            name,
            12,
            6,
            &offsets,
            &strides,
        );
        meta.unwrap();
        (buffer, info)
    }

    #[test]
    fn rows_that_run_upwards_are_read_and_drawn_on_downwards() {
        for format in PixelFormat::ALL {
            let (mut buffer, info) = upward(format, |plane, row| (plane * 40 + row) as u8);
            let seen = |buffer: &gst::BufferRef| {
                picture_of(buffer, &info, |p| {
                    Ok((0..format.planes())
                        .map(|i| (0..format.plane_size(i, 12, 6).1).map(|y| p.planes[i].row(y)[0]).collect())
                        .collect::<Vec<Vec<u8>>>())
                })
                .unwrap()
            };
            let mut want: Vec<Vec<u8>> = (0..format.planes())
                .map(|i| (0..format.plane_size(i, 12, 6).1).map(|y| (i * 40 + y) as u8).collect())
                .collect();
            assert_eq!(seen(&buffer), want, "{format:?}");
            draw_on(buffer.get_mut().unwrap(), &info, |mut p| {
                p.planes[0].row(1).fill(200);
                Ok(())
            })
            .unwrap();
            want[0][1] = 200;
            assert_eq!(seen(&buffer), want, "{format:?}");
        }
    }

    #[test]
    fn rows_outside_the_buffer_are_refused() {
        let (mut buffer, info) = upward(PixelFormat::Gray8, |_, row| row as u8);
        let short = buffer.get_mut().unwrap();
        short.set_size(30);
        let e = picture_of(&buffer, &info, |_| Ok(())).unwrap_err().to_string();
        assert!(e.contains("smaller than its picture"), "{e}");
    }
}
