//! Thumbnails of episodes.
//!
//! In: small RGB pictures of the field of view. Out: JPEG files.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb};

use crate::frame::Rect;

/// Thumbnails are at most this wide and high, in pixels.
pub const LONGEST_SIDE: u32 = 480;

const QUALITY: u8 = 84;

/// A small picture of a frame's field of view: of nothing outside it, where processors write patient data, and without
/// our marks, which the report draws itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thumbnail {
    /// Pixels of the thumbnail.
    pub width: u32,
    /// Rows of the thumbnail.
    pub height: u32,
    /// Row-major R'G'B', 3 bytes a pixel without padding.
    pub rgb: Vec<u8>,
    /// The part of the source picture it shows, in source pixels: places the outlines on it.
    pub view: Rect,
}

impl Thumbnail {
    /// The size a thumbnail of `view` should have: its shape, no larger than [`LONGEST_SIDE`] and never enlarged.
    pub fn size(view: Rect) -> (u32, u32) {
        fit(view.w, view.h)
    }

    /// As JPEG, shrunk if it is too large; `None`, with a word in the log, if it is not a picture.
    pub(crate) fn encode(self) -> Option<Jpeg> {
        let (width, height) = (self.width, self.height);
        if width == 0 || height == 0 {
            return None;
        }
        let Some(mut picture) = ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, self.rgb) else {
            tracing::warn!(width, height, "a thumbnail has fewer bytes than its size asks for: left out");
            return None;
        };
        let (w, h) = fit(width, height);
        if (w, h) != (width, height) {
            picture = imageops::resize(&picture, w, h, FilterType::Triangle);
        }
        let mut bytes = Vec::new();
        match JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&picture) {
            Ok(()) => Some(Jpeg { width: w, height: h, bytes }),
            Err(error) => {
                tracing::warn!(%error, "a thumbnail could not be encoded: left out");
                None
            }
        }
    }
}

fn fit(w: u32, h: u32) -> (u32, u32) {
    let longest = w.max(h);
    if longest <= LONGEST_SIDE {
        return (w, h);
    }
    let side = |v: u32| {
        let scaled = (u64::from(v) * u64::from(LONGEST_SIDE) + u64::from(longest) / 2) / u64::from(longest);
        (scaled as u32).max(1)
    };
    (side(w), side(h))
}

/// An encoded thumbnail.
#[derive(Clone, Debug)]
pub(crate) struct Jpeg {
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_the_shape_and_never_grow() {
        assert_eq!(Thumbnail::size(Rect::new(100, 20, 1350, 1080)), (480, 384));
        assert_eq!(Thumbnail::size(Rect::full(300, 200)), (300, 200));
        assert_eq!(Thumbnail::size(Rect::full(1, 100_000)), (1, 480));
    }

    #[test]
    fn encodes_a_decodable_picture_of_the_right_size() {
        let t = Thumbnail {
            width: 960,
            height: 480,
            rgb: [200, 80, 60].repeat(960 * 480),
            view: Rect::default(),
        };
        let jpeg = t.encode().unwrap();
        assert_eq!((jpeg.width, jpeg.height), (480, 240));
        let back = image::load_from_memory(&jpeg.bytes).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (480, 240));
        let p = back.get_pixel(240, 120).0;
        assert!(p.iter().zip([200, 80, 60]).all(|(a, b)| a.abs_diff(b) < 6), "{p:?}");
    }

    #[test]
    fn what_is_not_a_picture_is_left_out() {
        assert!(Thumbnail::default().encode().is_none());
        assert!(
            Thumbnail { width: 2, height: 2, rgb: vec![0; 11], view: Rect::default() }.encode().is_none()
        );
    }
}
