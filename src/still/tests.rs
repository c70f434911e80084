use std::io::Cursor;

use base64::Engine;
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;

/// 40x24 pixels of (6x, 10y, xy / 3), saved with progressive scans, which no encoder here can do.
const PROGRESSIVE: &str = include_str!("progressive.base64");

fn progressive() -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(PROGRESSIVE.lines().collect::<String>()).unwrap()
}

/// Every pixel differs from its neighbours, and every quarter from the others.
fn picture() -> RgbImage {
    RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 6) as u8, (y * 10) as u8, (x * y / 3) as u8]))
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn fault(bytes: &[u8]) -> Fault {
    Still::decode(bytes).unwrap_err()
}

fn rgb(bytes: &[u8]) -> RgbImage {
    Still::decode(bytes).unwrap().into_rgb().unwrap()
}

/// An EXIF block with one entry, the orientation.
fn exif_block(orientation: u16, little: bool) -> Vec<u8> {
    let (short, long): (fn(u16) -> [u8; 2], fn(u32) -> [u8; 4]) =
        if little { (u16::to_le_bytes, u32::to_le_bytes) } else { (u16::to_be_bytes, u32::to_be_bytes) };
    let mut block = if little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
    block.extend(long(8));
    block.extend(short(1));
    block.extend([short(0x0112), short(3)].concat());
    block.extend(long(1));
    block.extend([short(orientation), short(0)].concat());
    block.extend(long(0));
    block
}

fn jpeg_with(exif: &[u8], jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend(((exif.len() + 8) as u16).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(exif);
    out.extend(&jpeg[2..]);
    out
}

/// Puts a chunk before IEND, behind the pixels, where some programs put it.
fn png_with(exif: &[u8], png: &[u8]) -> Vec<u8> {
    let end = png.len() - 12;
    let mut named = b"eXIf".to_vec();
    named.extend(exif);
    let mut check = u32::MAX;
    for byte in &named {
        check ^= u32::from(*byte);
        for _ in 0..8 {
            check = if check & 1 == 1 { check >> 1 ^ 0xedb8_8320 } else { check >> 1 };
        }
    }
    let mut out = png[..end].to_vec();
    out.extend((exif.len() as u32).to_be_bytes());
    out.extend(named);
    out.extend((!check).to_be_bytes());
    out.extend(&png[end..]);
    out
}

#[test]
fn every_orientation_is_turned_upright_in_every_format() {
    let png = encoded(picture(), ImageFormat::Png);
    let webp = encoded(picture(), ImageFormat::WebP);
    let jpeg = encoded(picture(), ImageFormat::Jpeg);
    let lossy = rgb(&jpeg);
    for value in 1..=8u16 {
        let turned = |upright: &RgbImage| {
            let mut picture = DynamicImage::ImageRgb8(upright.clone());
            picture.apply_orientation(Orientation::from_exif(value as u8).unwrap());
            picture.into_rgb8()
        };
        for little in [true, false] {
            let block = exif_block(value, little);
            assert_eq!(rgb(&png_with(&block, &png)), turned(&picture()), "PNG {value}");
            assert_eq!(rgb(&jpeg_with(&block, &jpeg)), turned(&lossy), "JPEG {value}");
            let mut with = webp.clone();
            with.extend(b"EXIF");
            with.extend((block.len() as u32).to_le_bytes());
            with.extend(&block);
            let length = (with.len() - 8) as u32;
            with[4..8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(exif::orientation(&block), Some(value as u8));
            assert_eq!(container::look(ImageFormat::WebP, &with).unwrap().orientation, Some(value as u8));
        }
        let real = ImageBuffer::<Luma<f32>, Vec<f32>>::from_fn(5, 3, |x, y| Luma([(x * 7 + y) as f32]));
        let mut pixels = Pixels::Real(real.clone());
        pixels.turn(Orientation::from_exif(value as u8).unwrap());
        let Pixels::Real(upright) = pixels else { panic!("no longer real") };
        let mut same = DynamicImage::ImageLuma8(GrayImage::from_fn(5, 3, |x, y| Luma([(x * 7 + y) as u8])));
        same.apply_orientation(Orientation::from_exif(value as u8).unwrap());
        assert_eq!(upright.dimensions(), (same.width(), same.height()), "{value}");
        for (x, y, p) in same.to_luma8().enumerate_pixels() {
            assert_eq!(upright.get_pixel(x, y).0[0], f32::from(p.0[0]), "{value}");
        }
    }
    assert!(Still::decode(&jpeg_with(&exif_block(6, true), &jpeg)).unwrap().turned);
    assert!(!Still::decode(&jpeg_with(&exif_block(9, true), &jpeg)).unwrap().turned);
}

#[test]
fn a_file_that_was_cut_anywhere_is_cut_off() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
        ImageFormat::Gif,
    ] {
        let whole = encoded(picture(), format);
        assert_eq!(rgb(&whole).dimensions(), (40, 24), "{format:?}");
        // Beneath that there is no signature yet.
        for length in 16..whole.len() - 4 {
            let fault = Still::decode(&whole[..length]).err();
            assert!(matches!(fault, Some(Fault::CutOff { .. })), "{format:?} cut to {length}: {fault:?}");
        }
    }
    let whole = progressive();
    assert_eq!(rgb(&whole).dimensions(), (40, 24));
    for length in 16..whole.len() {
        assert!(matches!(fault(&whole[..length]), Fault::CutOff { .. }), "progressive cut to {length}");
    }
}

#[test]
fn an_end_mark_behind_half_a_jpeg_makes_it_no_whole_one() {
    let noisy = RgbImage::from_fn(160, 120, |x, y| {
        let n = (x * 7919 + y * 104_729 + x * y * 31) as u8;
        Rgb([n, n.wrapping_mul(3), n.wrapping_add(90)])
    });
    let whole = encoded(noisy, ImageFormat::Jpeg);
    let mut half = whole[..whole.len() / 2].to_vec();
    half.extend([0xff, 0xd9]);
    let Fault::CutOff { percent: Some(percent) } = fault(&half) else { panic!("{:?}", fault(&half)) };
    assert!((35..65).contains(&percent), "{percent}");
    // A hole of zeros in the middle.
    let mut hole = whole.clone();
    hole[whole.len() / 3..whole.len() / 2].fill(0);
    assert!(matches!(fault(&hole), Fault::Damaged(_) | Fault::CutOff { .. }), "{:?}", fault(&hole));
    // Progressive: the first scans alone are a coarse picture with an end.
    let whole = progressive();
    let scans: Vec<usize> =
        (0..whole.len() - 1).filter(|&i| whole[i] == 0xff && whole[i + 1] == 0xda).collect();
    assert!(scans.len() > 4);
    for scan in &scans[1..] {
        let mut coarse = whole[..*scan].to_vec();
        coarse.extend([0xff, 0xd9]);
        assert!(matches!(fault(&coarse), Fault::CutOff { .. }), "cut before the scan at {scan}");
    }
}

#[test]
fn what_follows_a_whole_jpeg_does_not_matter() {
    let jpeg = encoded(picture(), ImageFormat::Jpeg);
    let plain = rgb(&jpeg);
    for tail in
        [b"\0\0\0\0".to_vec(), b"camera notes".to_vec(), encoded(GrayImage::new(8, 8), ImageFormat::Jpeg)]
    {
        assert_eq!(rgb(&[jpeg.clone(), tail].concat()), plain);
    }
    // Grey, and a size that fills no blocks.
    for (w, h) in [(1, 1), (7, 9), (17, 16), (33, 8)] {
        let grey = GrayImage::from_fn(w, h, |x, y| Luma([(x * 9 + y * 5) as u8]));
        assert_eq!(rgb(&encoded(grey, ImageFormat::Jpeg)).dimensions(), (w, h));
    }
}

#[test]
fn size_is_refused_by_the_header() {
    let claim = |w: u32, h: u32| {
        let mut png = encoded(GrayImage::new(1, 1), ImageFormat::Png);
        png[16..20].copy_from_slice(&w.to_be_bytes());
        png[20..24].copy_from_slice(&h.to_be_bytes());
        let mut check = u32::MAX;
        for byte in &png[12..29] {
            check ^= u32::from(*byte);
            for _ in 0..8 {
                check = if check & 1 == 1 { check >> 1 ^ 0xedb8_8320 } else { check >> 1 };
            }
        }
        png[29..33].copy_from_slice(&(!check).to_be_bytes());
        fault(&png)
    };
    assert_eq!(claim(22_000, 22_000), Fault::TooLarge { width: 22_000, height: 22_000 });
    assert_eq!(claim(u32::MAX >> 1, 1), Fault::TooLarge { width: u32::MAX >> 1, height: 1 });
    // Within the budget it is only the data that are missing.
    assert!(!matches!(claim(8000, 8000), Fault::TooLarge { .. }));
    let mut jpeg = encoded(picture(), ImageFormat::Jpeg);
    let at = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[at + 5..at + 9].fill(0xfd);
    assert_eq!(fault(&jpeg), Fault::TooLarge { width: 0xfdfd, height: 0xfdfd });
}

#[test]
fn other_formats_are_named_and_files_that_hold_several_pictures_refused() {
    assert_eq!(fault(b""), Fault::Empty);
    assert_eq!(fault(b"no picture at all"), Fault::NoPicture);
    assert_eq!(fault(&[0; 64]), Fault::NoPicture);
    assert_eq!(fault(b"\0\0\0\x18ftypheic\0\0\0\0"), Fault::OtherFormat("HEIC"));
    assert_eq!(fault(b"\x93NUMPY\x01\0"), Fault::OtherFormat("a NumPy array"));
    let mut gif = Cursor::new(Vec::new());
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for _ in 0..3 {
            encoder.encode_frame(image::Frame::new(image::RgbaImage::new(4, 4))).unwrap();
        }
    }
    assert_eq!(fault(gif.get_ref()), Fault::Several(3, "pictures of an animation"));
    let mut two = Cursor::new(Vec::new());
    {
        let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut two).unwrap();
        for _ in 0..2 {
            encoder.write_image::<::tiff::encoder::colortype::Gray8>(2, 2, &[0, 1, 2, 3]).unwrap();
        }
    }
    assert_eq!(fault(two.get_ref()), Fault::Several(2, "pages"));
}

fn tiff_of<C: ::tiff::encoder::colortype::ColorType>(values: &[C::Inner]) -> Vec<u8>
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
    encoder.write_image::<C>(2, 2, values).unwrap();
    bytes.into_inner()
}

/// A TIFF of 2 by 2 numbers of colours, as its specification has it: no encoder here writes one. Three
/// colours of the table are set; `wide`: BigTIFF.
fn palette_tiff(little: bool, wide: bool, numbers: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, value: u64, width: usize| {
        let bytes = value.to_le_bytes();
        let digits = bytes[..width].iter().copied();
        if little { out.extend(digits) } else { out.extend(digits.rev()) }
    };
    out.extend(if little { b"II" } else { b"MM" });
    let offset = if wide { 8 } else { 4 };
    if wide {
        for (value, width) in [(43, 2), (8, 2), (0, 2), (16, 8)] {
            put(&mut out, value, width);
        }
    } else {
        for (value, width) in [(42, 2), (8, 4)] {
            put(&mut out, value, width);
        }
    }
    const SHORT: u64 = 3;
    const LONG: u64 = 4;
    let entries = 8u64;
    let directory = out.len();
    let behind = if wide { directory + 8 + 8 * 20 + 8 } else { directory + 2 + 8 * 12 + 4 } as u64;
    let fields = [
        (256, SHORT, 1, 2),
        (257, SHORT, 1, 2),
        (258, SHORT, 1, 8),
        (262, SHORT, 1, 3),
        (273, LONG, 1, behind + 3 * 256 * 2),
        (278, SHORT, 1, 2),
        (279, LONG, 1, 4),
        (320, SHORT, 3 * 256, behind),
    ];
    put(&mut out, entries, if wide { 8 } else { 2 });
    for (tag, kind, count, value) in fields {
        put(&mut out, tag, 2);
        put(&mut out, kind, 2);
        put(&mut out, count, offset);
        // A value that is shorter than its field stands at the field's begin.
        let width = if count > 1 {
            offset
        } else if kind == SHORT {
            2
        } else {
            4
        };
        put(&mut out, value, width);
        out.extend(vec![0; offset - width]);
    }
    put(&mut out, 0, offset);
    let colours = [[10, 20, 30], [200, 100, 0], [1, 2, 255]];
    for channel in 0..3 {
        for number in 0..256 {
            put(&mut out, colours.get(number).map_or(0, |c| c[channel] * 257), 2);
        }
    }
    out.extend(numbers);
    out
}

#[test]
fn palettes_in_tiff_are_read_in_both_byte_orders_and_widths() {
    for (little, wide) in [(true, false), (false, false), (true, true), (false, true)] {
        let bytes = palette_tiff(little, wide, [0, 1, 2, 1]);
        let picture = Still::decode(&bytes).unwrap().into_rgb().unwrap();
        let want = [[10, 20, 30], [200, 100, 0], [1, 2, 255], [200, 100, 0]].concat();
        assert_eq!(picture.into_raw(), want, "little {little}, wide {wide}");
        for length in 0..bytes.len() {
            assert!(Still::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn numbers_in_tiff_are_read_as_they_are() {
    use ::tiff::encoder::colortype::{Gray32, Gray32Float, Gray64Float, GrayI16, GrayI32};
    let real = |bytes: &[u8]| match Still::decode(bytes).unwrap().pixels {
        Pixels::Real(grey) => grey.into_raw(),
        Pixels::Picture(p) => panic!("{:?}", p.color()),
    };
    let levels = |bytes: &[u8]| match Still::decode(bytes).unwrap().pixels {
        Pixels::Picture(DynamicImage::ImageLuma16(grey)) => grey.into_raw(),
        other => panic!("{other:?}"),
    };
    assert_eq!(real(&tiff_of::<Gray32Float>(&[0.0, 0.25, 0.5, 1.0])), [0.0, 0.25, 0.5, 1.0]);
    assert_eq!(real(&tiff_of::<Gray64Float>(&[0.0, 0.25, 0.5, 1.0])), [0.0, 0.25, 0.5, 1.0]);
    assert_eq!(levels(&tiff_of::<Gray32>(&[0, 1, 2, 60_000])), [0, 1, 2, 60_000]);
    assert_eq!(levels(&tiff_of::<GrayI16>(&[0, 1, 2, 3])), [0, 1, 2, 3]);
    assert_eq!(real(&tiff_of::<GrayI32>(&[0, -1, 2, 3])), [0.0, -1.0, 2.0, 3.0]);
}

#[test]
fn a_picture_on_another_scale_is_no_black_picture() {
    let deep = |brightest: u16| {
        let picture =
            ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(4, 4, |x, _| Luma([brightest / 4 * x as u16]));
        let still = Still::decode(&encoded(DynamicImage::ImageLuma16(picture), ImageFormat::Png)).unwrap();
        still.into_rgb()
    };
    assert!(deep(0).is_ok() && deep(60_000).is_ok());
    assert!(matches!(deep(255), Err(Fault::Scale { .. })));
    assert!(matches!(deep(4095), Err(Fault::Scale { .. })));
}

#[test]
fn a_fault_is_one_sentence_with_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.jpg");
    let jpeg = encoded(picture(), ImageFormat::Jpeg);
    std::fs::write(&path, &jpeg[..jpeg.len() - 40]).unwrap();
    let said = load_rgb(&path).unwrap_err().to_string();
    assert!(said.contains("half.jpg: is cut off (") && said.ends_with("copy it again"), "{said}");
    assert!(load_rgb(folder.path()).unwrap_err().to_string().contains("is no file"));
}

#[test]
fn pictures_across_each_other_are_told() {
    assert!(lie_across((192, 144), (144, 192)) && lie_across((101, 100), (100, 101)));
    assert!(lie_across((384, 288), (72, 96)));
    for (a, b) in
        [((192, 144), (192, 144)), ((192, 144), (96, 72)), ((192, 144), (352, 352)), ((9, 9), (9, 9))]
    {
        assert!(!lie_across(a, b), "{a:?} {b:?}");
    }
}
