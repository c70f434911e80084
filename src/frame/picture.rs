//! Raw pictures in the layouts video sources deliver.
//!
//! In: bytes somebody else owns (a mapped GStreamer buffer, a decoded image). Out: views of their planes that
//! pre-processing reads and the overlay draws on, with everything needed to read them right: layout, bit depth,
//! colorimetry, interlacing and pixel shape.

/// Raw pixel layouts, named as in GStreamer's `video/x-raw` caps. Samples of more than 8 bits are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 8 bits, 4:2:0; planes of Y, of U and of V.
    I420,
    /// 8 bits, 4:2:0; planes of Y, of V and of U.
    Yv12,
    /// 8 bits, 4:2:0; a plane of Y and one of U V pairs.
    Nv12,
    /// 8 bits, 4:2:0; a plane of Y and one of V U pairs.
    Nv21,
    /// 8 bits, 4:2:2; planes of Y, of U and of V.
    Y42b,
    /// 8 bits, 4:4:4; planes of Y, of U and of V.
    Y444,
    /// 10 bits, the lowest of 16, 4:2:0; planes of Y, of U and of V.
    I420_10le,
    /// 10 bits, the lowest of 16, 4:2:2; planes of Y, of U and of V.
    I422_10le,
    /// 10 bits, the lowest of 16, 4:4:4; planes of Y, of U and of V.
    Y444_10le,
    /// 10 bits, the highest of 16, 4:2:0; a plane of Y and one of U V pairs.
    P010_10le,
    /// 8 bits, 4:2:2, packed: Y U Y V for 2 pixels.
    Yuy2,
    /// 8 bits, 4:2:2, packed: U Y V Y for 2 pixels.
    Uyvy,
    /// 10 bits, 4:2:2, packed: 16 bytes for 6 pixels.
    V210,
    /// 8 bits, 3 bytes a pixel: R G B.
    Rgb,
    /// 8 bits, 3 bytes a pixel: B G R.
    Bgr,
    /// 8 bits, 4 bytes a pixel: R G B and one that means nothing.
    Rgbx,
    /// 8 bits, 4 bytes a pixel: B G R and one that means nothing.
    Bgrx,
    /// 8 bits of luma, nothing else.
    Gray8,
}

/// How the chroma samples of a YUV layout lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chroma {
    /// Planes of their own; the value says which plane holds U and which V.
    Planar {
        /// Number of U's plane.
        u: usize,
        /// Number of V's plane.
        v: usize,
    },
    /// One plane of interleaved pairs; offsets of U and V within a pair, in samples.
    Pairs {
        /// Samples from a pair's begin to its U.
        u: usize,
        /// Samples from a pair's begin to its V.
        v: usize,
    },
    /// One packed plane of 4 bytes for 2 pixels; byte offsets of the first luma, of U and of V (the second luma is at
    /// the first plus two).
    Packed422 {
        /// Bytes from the 4 bytes' begin to the first luma.
        y: usize,
        /// Bytes from the 4 bytes' begin to U.
        u: usize,
        /// Bytes from the 4 bytes' begin to V.
        v: usize,
    },
    /// v210: 6 pixels in 16 bytes, 10 bits a sample.
    V210,
}

/// What a [`PixelFormat`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Luma and chroma. `depth` bits a sample, stored shifted left by `shift` in 8- or 16-bit words; chroma is reduced
    /// by `1 << sub_x` horizontally and `1 << sub_y` vertically.
    Yuv {
        /// Bits of a sample: 8 or 10.
        depth: u32,
        /// Bits of a word below its sample: 0 or 6.
        shift: u32,
        /// 1 where two columns share their chroma, else 0.
        sub_x: u32,
        /// 1 where two rows share their chroma, else 0.
        sub_y: u32,
        /// Where U and V lie.
        chroma: Chroma,
    },
    /// Packed 8-bit RGB: bytes a pixel, and the byte offsets of red, green and blue.
    Rgb {
        /// Bytes from one pixel to the next: 3 or 4.
        stride: usize,
        /// Bytes from a pixel's begin to its red.
        r: usize,
        /// Bytes from a pixel's begin to its green.
        g: usize,
        /// Bytes from a pixel's begin to its blue.
        b: usize,
    },
    /// One 8-bit plane of luma, of either range.
    Gray,
}

impl PixelFormat {
    /// Every layout this crate reads and draws on.
    pub const ALL: [PixelFormat; 18] = {
        use PixelFormat::*;
        [
            I420, Yv12, Nv12, Nv21, Y42b, Y444, I420_10le, I422_10le, Y444_10le, P010_10le, Yuy2, Uyvy, V210,
            Rgb, Bgr, Rgbx, Bgrx, Gray8,
        ]
    };

    /// The name in `video/x-raw` caps.
    pub const fn caps_name(self) -> &'static str {
        use PixelFormat::*;
        match self {
            I420 => "I420",
            Yv12 => "YV12",
            Nv12 => "NV12",
            Nv21 => "NV21",
            Y42b => "Y42B",
            Y444 => "Y444",
            I420_10le => "I420_10LE",
            I422_10le => "I422_10LE",
            Y444_10le => "Y444_10LE",
            P010_10le => "P010_10LE",
            Yuy2 => "YUY2",
            Uyvy => "UYVY",
            V210 => "v210",
            Rgb => "RGB",
            Bgr => "BGR",
            Rgbx => "RGBx",
            Bgrx => "BGRx",
            Gray8 => "GRAY8",
        }
    }

    /// The layout that `video/x-raw` caps call so; `None` where this crate does not read it.
    pub fn from_caps_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.caps_name() == name)
    }

    /// Where its samples lie and how many bits they have.
    pub const fn layout(self) -> Layout {
        use PixelFormat::*;
        const fn yuv(depth: u32, shift: u32, sub_x: u32, sub_y: u32, chroma: Chroma) -> Layout {
            Layout::Yuv { depth, shift, sub_x, sub_y, chroma }
        }
        const PLANAR: Chroma = Chroma::Planar { u: 1, v: 2 };
        match self {
            I420 => yuv(8, 0, 1, 1, PLANAR),
            Yv12 => yuv(8, 0, 1, 1, Chroma::Planar { u: 2, v: 1 }),
            Nv12 => yuv(8, 0, 1, 1, Chroma::Pairs { u: 0, v: 1 }),
            Nv21 => yuv(8, 0, 1, 1, Chroma::Pairs { u: 1, v: 0 }),
            Y42b => yuv(8, 0, 1, 0, PLANAR),
            Y444 => yuv(8, 0, 0, 0, PLANAR),
            I420_10le => yuv(10, 0, 1, 1, PLANAR),
            I422_10le => yuv(10, 0, 1, 0, PLANAR),
            Y444_10le => yuv(10, 0, 0, 0, PLANAR),
            P010_10le => yuv(10, 6, 1, 1, Chroma::Pairs { u: 0, v: 1 }),
            Yuy2 => yuv(8, 0, 1, 0, Chroma::Packed422 { y: 0, u: 1, v: 3 }),
            Uyvy => yuv(8, 0, 1, 0, Chroma::Packed422 { y: 1, u: 0, v: 2 }),
            V210 => yuv(10, 0, 1, 0, Chroma::V210),
            Rgb => Layout::Rgb { stride: 3, r: 0, g: 1, b: 2 },
            Bgr => Layout::Rgb { stride: 3, r: 2, g: 1, b: 0 },
            Rgbx => Layout::Rgb { stride: 4, r: 0, g: 1, b: 2 },
            Bgrx => Layout::Rgb { stride: 4, r: 2, g: 1, b: 0 },
            Gray8 => Layout::Gray,
        }
    }

    /// Number of planes.
    pub const fn planes(self) -> usize {
        match self.layout() {
            Layout::Yuv { chroma: Chroma::Planar { .. }, .. } => 3,
            Layout::Yuv { chroma: Chroma::Pairs { .. }, .. } => 2,
            _ => 1,
        }
    }

    /// Bytes that hold one row of a plane without padding, and the number of its rows.
    pub const fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let (w, h) = (width as usize, height as usize);
        match self.layout() {
            Layout::Gray => (w, h),
            Layout::Rgb { stride, .. } => (w * stride, h),
            Layout::Yuv { depth, sub_x, sub_y, chroma, .. } => {
                let word = if depth > 8 { 2 } else { 1 };
                let cw = (w + (1 << sub_x) - 1) >> sub_x;
                let ch = (h + (1 << sub_y) - 1) >> sub_y;
                match chroma {
                    Chroma::Packed422 { .. } => (cw * 4, h),
                    Chroma::V210 => (w.div_ceil(6) * 16, h),
                    _ if plane == 0 => (w * word, h),
                    Chroma::Planar { .. } => (cw * word, ch),
                    Chroma::Pairs { .. } => (cw * 2 * word, ch),
                }
            }
        }
    }
}

/// YCbCr matrix coefficients (ITU-T H.273).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601, of standard definition.
    Bt601,
    /// ITU-R BT.709, of HD.
    Bt709,
    /// ITU-R BT.2020 with non-constant luminance, of ultra HD.
    Bt2020,
    /// SMPTE 240M, of early analogue HD.
    Smpte240m,
    /// FCC 73.682, of the first NTSC.
    Fcc,
}

impl Matrix {
    /// Luma weights of red and blue.
    pub const fn kr_kb(self) -> (f64, f64) {
        match self {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
            Matrix::Smpte240m => (0.212, 0.087),
            Matrix::Fcc => (0.30, 0.11),
        }
    }
}

/// How code values become light: matrix and range. (Transfer and primaries do not concern us: the network was trained
/// on gamma-coded R'G'B' of whatever primaries the processor had.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Colorimetry {
    /// How luma and chroma come from red, green and blue.
    pub matrix: Matrix,
    /// 0–255 instead of 16–235 (8 bit; scaled for more). RGB is always of full range here, whatever this says.
    pub full_range: bool,
}

impl Colorimetry {
    /// What is assumed of a source that does not say: BT.601 up to 576 lines, BT.709 above; YUV of limited range, RGB
    /// and grey of full.
    pub const fn guess(format: PixelFormat, height: u32) -> Self {
        Self {
            matrix: if height > 576 { Matrix::Bt709 } else { Matrix::Bt601 },
            full_range: !matches!(format.layout(), Layout::Yuv { .. }),
        }
    }
}

/// Which field of an interlaced frame comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldOrder {
    /// Not interlaced: all rows are of one instant.
    Progressive,
    /// Rows 0, 2, 4, … are the earlier field.
    TopFirst,
    /// Rows 1, 3, 5, … are the earlier field.
    BottomFirst,
}

/// Everything about a picture but its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PictureInfo {
    /// How the samples lie in memory.
    pub format: PixelFormat,
    /// Pixels.
    pub width: u32,
    /// Rows; those of both fields if it is interlaced.
    pub height: u32,
    /// How the samples become R'G'B'.
    pub colorimetry: Colorimetry,
    /// Whether it is interlaced, and how.
    pub fields: FieldOrder,
    /// Pixel aspect ratio, width : height.
    pub pixel_aspect: (u32, u32),
}

impl PictureInfo {
    /// Progressive, square pixels, colorimetry guessed from layout and height.
    pub const fn new(format: PixelFormat, width: u32, height: u32) -> Self {
        Self {
            format,
            width,
            height,
            colorimetry: Colorimetry::guess(format, height),
            fields: FieldOrder::Progressive,
            pixel_aspect: (1, 1),
        }
    }
}

/// One plane: rows of `stride` bytes, the last possibly shorter.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// From the first byte of the first row on.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// Row `y` from its first byte to the end of what the plane holds, at most a stride.
    pub fn row(&self, y: usize) -> &'a [u8] {
        let start = y * self.stride;
        let end = (start + self.stride).min(self.data.len());
        &self.data[start..end]
    }
}

/// One writable plane.
#[derive(Debug)]
pub struct PlaneMut<'a> {
    /// From the first byte of the first row on.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl PlaneMut<'_> {
    /// As [`Plane::row`], writable.
    pub fn row(&mut self, y: usize) -> &mut [u8] {
        let start = y * self.stride;
        let end = (start + self.stride).min(self.data.len());
        &mut self.data[start..end]
    }
}

/// A readable picture. Planes beyond the format's are empty.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// How the planes are to be read.
    pub info: PictureInfo,
    /// In the format's order, [`PixelFormat::planes`] of them.
    pub planes: [Plane<'a>; 3],
}

/// A writable picture.
#[derive(Debug)]
pub struct PictureMut<'a> {
    /// How the planes are to be read.
    pub info: PictureInfo,
    /// In the format's order, [`PixelFormat::planes`] of them.
    pub planes: [PlaneMut<'a>; 3],
}

impl<'a> Picture<'a> {
    /// Views `data` as one packed or several contiguous planes without padding, in the format's order.
    ///
    /// `None` if `data` is too short.
    pub fn packed(info: PictureInfo, data: &'a [u8]) -> Option<Self> {
        let mut rest = data;
        let mut planes = [Plane { data: &[], stride: 0 }; 3];
        for (i, plane) in planes.iter_mut().enumerate().take(info.format.planes()) {
            let (stride, rows) = info.format.plane_size(i, info.width, info.height);
            let (head, tail) = rest.split_at_checked(stride * rows)?;
            *plane = Plane { data: head, stride };
            rest = tail;
        }
        Some(Self { info, planes })
    }

    /// Copies the planes behind one another without padding into `out`, at least [`packed_len`] bytes; what a plane
    /// lacks at its end stays as it was there. `None` if `out` is too short.
    pub fn pack_into(&self, out: &mut [u8]) -> Option<()> {
        let mut rest = out;
        for (i, plane) in self.planes.iter().enumerate().take(self.info.format.planes()) {
            let (row, rows) = self.info.format.plane_size(i, self.info.width, self.info.height);
            let (into, after) = rest.split_at_mut_checked(row * rows)?;
            if plane.stride == row && plane.data.len() >= into.len() {
                into.copy_from_slice(&plane.data[..row * rows]);
            } else {
                for (y, line) in into.chunks_exact_mut(row.max(1)).enumerate() {
                    let from = plane.row(y);
                    let n = row.min(from.len());
                    line[..n].copy_from_slice(&from[..n]);
                }
            }
            rest = after;
        }
        Some(())
    }
}

impl<'a> PictureMut<'a> {
    /// As [`Picture::packed`], writable.
    pub fn packed(info: PictureInfo, data: &'a mut [u8]) -> Option<Self> {
        let mut rest = data;
        let mut planes: [PlaneMut<'a>; 3] = std::array::from_fn(|_| PlaneMut { data: &mut [], stride: 0 });
        for (i, plane) in planes.iter_mut().enumerate().take(info.format.planes()) {
            let (stride, rows) = info.format.plane_size(i, info.width, info.height);
            let (head, tail) = rest.split_at_mut_checked(stride * rows)?;
            *plane = PlaneMut { data: head, stride };
            rest = tail;
        }
        Some(Self { info, planes })
    }
}

/// Bytes of a picture whose planes lie one after the other without padding.
pub fn packed_len(info: &PictureInfo) -> usize {
    (0..info.format.planes())
        .map(|i| {
            let (stride, rows) = info.format.plane_size(i, info.width, info.height);
            stride * rows
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_caps_and_lead_back() {
        for f in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_caps_name(f.caps_name()), Some(f));
        }
        assert_eq!(PixelFormat::from_caps_name("AYUV"), None);
    }

    #[test]
    fn planes_of_odd_sizes_round_chroma_up() {
        let info = PictureInfo::new(PixelFormat::I420, 5, 3);
        assert_eq!(packed_len(&info), 15 + 2 * 3 * 2);
        assert_eq!(PixelFormat::V210.plane_size(0, 7, 1), (32, 1));
        assert_eq!(PixelFormat::P010_10le.plane_size(1, 5, 5), (12, 3));
        let bytes = vec![0; packed_len(&info)];
        assert!(Picture::packed(info, &bytes).is_some());
        assert!(Picture::packed(info, &bytes[1..]).is_none());
    }
}
