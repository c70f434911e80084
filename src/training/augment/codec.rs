//! What a recorder's lossy compression leaves: JPEG at a random quality.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};

use super::super::random::Random;
use super::canvas::Canvas;

pub fn jpeg(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.3) {
        return;
    }
    let quality = random.between(25.0, 90.0) as u8;
    let mut bytes = Vec::new();
    let (w, h) = (canvas.w as u32, canvas.h as u32);
    let encoded = JpegEncoder::new_with_quality(&mut bytes, quality).encode(
        &canvas.to_rgb8(),
        w,
        h,
        ExtendedColorType::Rgb8,
    );
    // In memory neither can fail; a picture that was not compressed is a picture all the same.
    if encoded.is_err() {
        return;
    }
    if let Ok(picture) = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg) {
        let rgb = picture.into_rgb8();
        *canvas = Canvas::from_bytes(rgb.as_raw(), std::mem::take(&mut canvas.labels), canvas.w, canvas.h);
    }
}
