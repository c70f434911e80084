//! Pictures and masks in every format that is read, 16 pixels a side, in the kinds that their readers part: grey and
//! colours of every depth, palettes, alpha, numbers, compressions, orientations.

use std::io::Cursor;

use base64::Engine;
use image::{DynamicImage, GenericImage, ImageFormat, Rgba};
use tiff::encoder::colortype::{
    ColorType, Gray16, Gray32, Gray32Float, Gray64Float, GrayI16, GrayI32, RGB8, RGB32Float,
};
use tiff::encoder::{Compression, TiffEncoder, TiffValue, compression::DeflateLevel};
use tiff::tags::Tag;

use super::{Seed, seed};

const SIDE: u32 = 16;

/// As no encoder here writes them: progressive scans (JPEG), a lossy picture of one pixel (WebP).
const PROGRESSIVE: &str = include_str!("../../src/still/progressive.base64");
const LOSSY_WEBP: &str = "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA";

fn decoded(base64: &str) -> Vec<u8> {
    let text: String = base64.lines().collect();
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

/// A square of a mask, of one level or of two halves.
fn square(x: u32, y: u32) -> usize {
    let inside = (4..12).contains(&x) && (4..12).contains(&y);
    usize::from(inside) * (1 + usize::from(x >= 8))
}

/// Pixels row by row, by what [`square`] says of each.
fn of_square<T: Copy>(levels: [T; 3]) -> Vec<T> {
    (0..SIDE * SIDE).map(|i| levels[square(i % SIDE, i / SIDE)]).collect()
}

fn picture() -> DynamicImage {
    let mut picture = DynamicImage::new_rgba8(SIDE, SIDE);
    for (x, y) in (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE)) {
        picture.put_pixel(x, y, Rgba([x as u8 * 17, y as u8 * 17, (x * y) as u8, 255 - x as u8]));
    }
    picture
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("it can be encoded");
    bytes.into_inner()
}

/// The EXIF block of a picture that lies on its side.
fn on_its_side() -> Vec<u8> {
    [&b"II*\0\x08\0\0\0\x01\0"[..], &[0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0], &[0; 4]].concat()
}

fn png_of(
    colour: png::ColorType,
    depth: png::BitDepth,
    set: impl Fn(&mut png::Info),
    data: &[u8],
) -> Vec<u8> {
    let mut info = png::Info::with_size(SIDE, SIDE);
    (info.color_type, info.bit_depth) = (colour, depth);
    set(&mut info);
    let mut bytes = Vec::new();
    let encoder = png::Encoder::with_info(&mut bytes, info).expect("an encoder");
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(data).expect("the pixels");
    writer.finish().expect("an end");
    bytes
}

fn pngs() -> Vec<Seed> {
    use png::{BitDepth, ColorType};
    let all = picture();
    let deep = |p: DynamicImage| encoded(&p, ImageFormat::Png);
    let palette = |i: &mut png::Info| {
        i.palette = Some(vec![0, 0, 0, 255, 0, 0, 0, 255, 0].into());
        i.trns = Some(vec![255, 128].into());
    };
    // Pixels in parts of a byte.
    let packed = |bits: u32, levels: [u8; 3]| -> Vec<u8> {
        let pixels = of_square(levels);
        let bytes = pixels.chunks(8 / bits as usize);
        bytes.map(|b| b.iter().fold(0u8, |all, v| (u32::from(all) << bits) as u8 | v)).collect()
    };
    let exif = |i: &mut png::Info| i.exif_metadata = Some(on_its_side().into());
    vec![
        seed("grey.png", deep(all.to_luma8().into())),
        seed("grey-alpha.png", deep(all.to_luma_alpha8().into())),
        seed("rgb.png", deep(all.to_rgb8().into())),
        seed("rgba.png", deep(all.clone())),
        seed("grey-16.png", deep(all.to_luma16().into())),
        seed("grey-alpha-16.png", deep(all.to_luma_alpha16().into())),
        seed("rgb-16.png", deep(all.to_rgb16().into())),
        seed("rgba-16.png", deep(all.to_rgba16().into())),
        seed("grey-1.png", png_of(ColorType::Grayscale, BitDepth::One, |_| {}, &packed(1, [0, 1, 1]))),
        seed("grey-4.png", png_of(ColorType::Grayscale, BitDepth::Four, |_| {}, &packed(4, [0, 9, 15]))),
        seed("palette.png", png_of(ColorType::Indexed, BitDepth::Eight, palette, &of_square([0, 1, 2]))),
        seed("palette-2.png", png_of(ColorType::Indexed, BitDepth::Two, palette, &packed(2, [0, 1, 2]))),
        seed("turned.png", png_of(ColorType::Grayscale, BitDepth::Eight, exif, &of_square([0, 255, 255]))),
    ]
}

fn masks() -> Vec<Seed> {
    use png::{BitDepth, ColorType};
    let grey = |levels| png_of(ColorType::Grayscale, BitDepth::Eight, |_| {}, &of_square(levels));
    let colours = of_square([[0, 0, 0], [255, 0, 0], [0, 255, 0]]).concat();
    let wide = of_square([[0, 0], [255, 255], [255, 255]]).concat();
    vec![
        seed("mask.png", grey([0, 255, 255])),
        seed("mask-empty.png", grey([0; 3])),
        seed("mask-classes.png", grey([0, 1, 2])),
        seed("mask-edges.png", grey([3, 130, 250])),
        seed("mask-colours.png", png_of(ColorType::Rgb, BitDepth::Eight, |_| {}, &colours)),
        seed("mask-16.png", png_of(ColorType::Grayscale, BitDepth::Sixteen, |_| {}, &wide)),
    ]
}

fn jpegs() -> Vec<Seed> {
    let rgb = encoded(&picture().to_rgb8().into(), ImageFormat::Jpeg);
    let mut turned = rgb[..2].to_vec();
    let exif = on_its_side();
    turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 8]);
    turned.extend(b"Exif\0\0");
    turned.extend(exif);
    turned.extend(&rgb[2..]);
    vec![
        seed("rgb.jpg", rgb),
        seed("grey.jpg", encoded(&picture().to_luma8().into(), ImageFormat::Jpeg)),
        seed("turned.jpg", turned),
        seed("progressive.jpg", decoded(PROGRESSIVE)),
    ]
}

fn webps() -> Vec<Seed> {
    let plain = encoded(&picture(), ImageFormat::WebP);
    let mut turned = plain.clone();
    let exif = on_its_side();
    turned.extend(b"EXIF");
    turned.extend((exif.len() as u32).to_le_bytes());
    turned.extend(exif);
    let length = (turned.len() - 8) as u32;
    turned[4..8].copy_from_slice(&length.to_le_bytes());
    vec![seed("rgba.webp", plain), seed("exif.webp", turned), seed("lossy.webp", decoded(LOSSY_WEBP))]
}

fn tiff_of<C: ColorType>(values: &[C::Inner], compression: Compression, orientation: Option<u16>) -> Vec<u8>
where
    [C::Inner]: TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).expect("an encoder").with_compression(compression);
    let mut image = encoder.new_image::<C>(SIDE, SIDE).expect("a picture");
    if let Some(orientation) = orientation {
        image.encoder().write_tag(Tag::Orientation, orientation).expect("a tag");
    }
    image.write_data(values).expect("the pixels");
    bytes.into_inner()
}

/// A TIFF of one strip of grey in parts of a byte, as its specification has it: no encoder here writes one.
fn packed_tiff(bits: u16, strip: &[u8]) -> Vec<u8> {
    const DATA: u32 = 8;
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((DATA + strip.len() as u32).to_le_bytes());
    bytes.extend(strip);
    let entries: [(u16, u16, u32); 9] = [
        (256, 4, SIDE),
        (257, 4, SIDE),
        (258, 3, bits.into()),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, DATA),
        (277, 3, 1),
        (278, 4, SIDE),
        (279, 4, strip.len() as u32),
    ];
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    bytes
}

fn tiffs() -> Vec<Seed> {
    use tiff::encoder::colortype::Gray8;
    const PLAIN: Compression = Compression::Uncompressed;
    let deflate = Compression::Deflate(DeflateLevel::Balanced);
    let grey = of_square([0u8, 255, 255]);
    let rgb = picture().to_rgb8().into_raw();
    let unit = of_square([0f32, 0.5, 1.0]);
    let floats: Vec<f32> = rgb.iter().map(|v| f32::from(*v) / 255.0).collect();
    let nibbles: Vec<u8> = of_square([0u8, 9, 15]).chunks(2).map(|p| p[0] << 4 | p[1]).collect();
    vec![
        seed("grey.tif", tiff_of::<Gray8>(&grey, PLAIN, None)),
        seed("grey-lzw.tif", tiff_of::<Gray8>(&grey, Compression::Lzw, None)),
        seed("grey-packbits.tif", tiff_of::<Gray8>(&grey, Compression::Packbits, None)),
        seed("grey-deflate.tif", tiff_of::<Gray8>(&grey, deflate, None)),
        seed("grey-turned.tif", tiff_of::<Gray8>(&grey, PLAIN, Some(6))),
        seed("rgb.tif", tiff_of::<RGB8>(&rgb, PLAIN, None)),
        seed("rgb-float.tif", tiff_of::<RGB32Float>(&floats, deflate, None)),
        seed("grey-16.tif", tiff_of::<Gray16>(&of_square([0, 30_000, 65_535]), PLAIN, None)),
        seed("grey-32.tif", tiff_of::<Gray32>(&of_square([0, 1, 60_000]), PLAIN, None)),
        seed("grey-signed.tif", tiff_of::<GrayI16>(&of_square([0, 1, 30_000]), PLAIN, None)),
        seed("grey-signed-32.tif", tiff_of::<GrayI32>(&of_square([0, 70_000, 70_000]), PLAIN, None)),
        seed("grey-float.tif", tiff_of::<Gray32Float>(&unit, PLAIN, None)),
        seed("grey-double.tif", tiff_of::<Gray64Float>(&of_square([0.0, 0.25, 1.0]), PLAIN, None)),
        seed("grey-4.tif", packed_tiff(4, &nibbles)),
    ]
}

pub fn mask() -> Seed {
    masks().swap_remove(0)
}

pub fn identities() -> Seed {
    masks().swap_remove(2)
}

pub fn stills() -> Vec<Seed> {
    let all = picture();
    let others = vec![
        seed("rgb.bmp", encoded(&all.to_rgb8().into(), ImageFormat::Bmp)),
        seed("rgba.bmp", encoded(&all, ImageFormat::Bmp)),
        seed("grey.bmp", encoded(&all.to_luma8().into(), ImageFormat::Bmp)),
        seed("rgba.gif", encoded(&all, ImageFormat::Gif)),
    ];
    [pngs(), masks(), jpegs(), webps(), tiffs(), others].concat()
}
