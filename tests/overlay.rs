//! The overlay changes what it marks and nothing else, in every layout we accept.

use polypscope::frame::{
    Chroma, FieldOrder, Layout, Mask, Picture, PictureInfo, PictureMut, PixelFormat, Polyp, Rect, packed_len,
};
use polypscope::overlay::{Overlay, Style};
use polypscope::safety::State;
use proptest::prelude::*;

fn noise(n: usize, mut seed: u64) -> Vec<u8> {
    (0..n)
        .map(|_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        })
        .collect()
}

/// A mask of random rectangles.
fn random_mask(w: u32, h: u32, view: Rect, seed: u64) -> Mask {
    let n = noise(64, seed);
    let mut inside = vec![0u8; view.area() as usize];
    for k in n.chunks_exact(4).take(3) {
        let (x, y) = (u32::from(k[0]) % view.w, u32::from(k[1]) % view.h);
        let (bw, bh) = (u32::from(k[2]) % view.w + 1, u32::from(k[3]) % view.h + 1);
        for yy in y..(y + bh).min(view.h) {
            for xx in x..(x + bw).min(view.w) {
                inside[(yy * view.w + xx) as usize] = 1;
            }
        }
    }
    let area = inside.iter().map(|v| u64::from(*v)).sum();
    let polyps = vec![Polyp { bbox: view, area_px: area, ..Default::default() }];
    Mask { width: w, height: h, field_of_view: view, inside, area_px: area, polyps, ..Default::default() }
}

/// For every byte of a packed picture, the pixels it belongs to (`None` for padding).
fn pixels_of(info: &PictureInfo) -> Vec<Vec<(u32, u32)>> {
    let (w, h) = (info.width, info.height);
    let mut owners = Vec::with_capacity(packed_len(info));
    let block = |cx: u32, cline: u32, sub_x: u32, sub_y: u32| -> Vec<(u32, u32)> {
        let ys: Vec<u32> = if sub_y == 0 {
            vec![cline]
        } else if info.fields == FieldOrder::Progressive {
            vec![cline * 2, cline * 2 + 1]
        } else {
            let first = cline / 2 * 4 + cline % 2;
            vec![first, first + 2]
        };
        let xs = (cx << sub_x)..((cx + 1) << sub_x);
        ys.into_iter()
            .flat_map(|y| xs.clone().map(move |x| (x, y)))
            .filter(|(x, y)| *x < w && *y < h)
            .collect()
    };
    for plane in 0..info.format.planes() {
        let (stride, rows) = info.format.plane_size(plane, w, h);
        for y in 0..rows as u32 {
            for i in 0..stride as u32 {
                owners.push(match info.format.layout() {
                    Layout::Gray => vec![(i, y)],
                    Layout::Rgb { stride, .. } => vec![(i / stride as u32, y)],
                    Layout::Yuv { depth, sub_x, sub_y, chroma, .. } => {
                        let word = if depth > 8 { 2 } else { 1 };
                        match chroma {
                            Chroma::Packed422 { y: luma, .. } => {
                                if (i as usize % 2) == luma % 2 {
                                    vec![(i / 4 * 2 + (i % 4) / 2, y)]
                                        .into_iter()
                                        .filter(|p| p.0 < w)
                                        .collect()
                                } else {
                                    block(i / 4, y, 1, 0)
                                }
                            }
                            // Three components in each 4-byte word: all pixels any of them serves.
                            Chroma::V210 => (0..3)
                                .flat_map(|k| {
                                    let index = (i % 16) / 4 * 3 + k;
                                    let group = i / 16 * 6;
                                    if index % 2 == 1 {
                                        vec![(group + index / 2, y)]
                                    } else {
                                        block((group + index / 4 * 2) / 2, y, 1, 0)
                                    }
                                })
                                .filter(|p| p.0 < w)
                                .collect(),
                            _ if plane == 0 => vec![(i / word, y)],
                            Chroma::Planar { .. } => block(i / word, y, sub_x, sub_y),
                            Chroma::Pairs { .. } => block(i / word / 2, y, sub_x, sub_y),
                        }
                    }
                });
            }
        }
    }
    owners
}

fn check(format: PixelFormat, w: u32, h: u32, fields: FieldOrder, seed: u64) {
    let mut info = PictureInfo::new(format, w, h);
    info.fields = fields;
    let view = Rect::new(w / 5, h / 6, w - w / 4, h - h / 4);
    let full = Rect::full(w, h);
    let mut mask = random_mask(w, h, if seed.is_multiple_of(3) { full } else { view.intersect(&full) }, seed);
    if seed.is_multiple_of(6) {
        // To the last line and column of whatever size.
        mask.inside.fill(1);
        mask.area_px = u64::from(w * h);
    }
    let mut bytes = noise(packed_len(&info), seed ^ 1);
    if format == PixelFormat::V210 {
        // The top two bits of a word are no samples.
        bytes.iter_mut().skip(3).step_by(4).for_each(|b| *b &= 0x3f);
    }
    let before = bytes.clone();
    let mut overlay = Overlay::new(Style { alpha: 0.5, ..Default::default() });
    let status = overlay.status_rect(&info);
    overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
    let marked = |&(x, y): &(u32, u32)| mask.is_inside(x, y) || status.is_some_and(|r| r.contains(x, y));
    let mut changed = 0;
    for (i, owners) in pixels_of(&info).iter().enumerate() {
        if before[i] != bytes[i] {
            changed += 1;
            let ok = if format == PixelFormat::V210 {
                owners.iter().any(marked)
            } else {
                !owners.is_empty() && owners.iter().all(marked)
            };
            assert!(ok, "{format:?} {w}x{h} {fields:?}: byte {i}, of pixels {owners:?}, was changed");
        }
    }
    if mask.area_px > 0 {
        assert!(
            changed as u64 > mask.area_px / 3,
            "{format:?} {w}x{h}: only {changed} bytes for {} px",
            mask.area_px
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_byte_outside_the_marks_is_the_sources(w in 12u32..90, h in 12u32..90, seed in any::<u64>(), interlaced in any::<bool>()) {
        for format in PixelFormat::ALL {
            check(format, w, h, if interlaced { FieldOrder::TopFirst } else { FieldOrder::Progressive }, seed);
        }
    }
}

/// Every rest of a height by four, the mask to the last line.
#[test]
fn masks_reach_the_last_line_of_any_height() {
    for h in 32..40 {
        for format in PixelFormat::ALL {
            for fields in [FieldOrder::Progressive, FieldOrder::TopFirst, FieldOrder::BottomFirst] {
                check(format, 13, h, fields, 6);
            }
        }
    }
}

/// v210 packs three samples in a word, so bytes cannot tell: its samples are compared one by one.
#[test]
fn v210_samples_outside_the_marks_are_the_sources() {
    let (w, h) = (50, 40);
    let info = PictureInfo::new(PixelFormat::V210, w, h);
    let mask = random_mask(w, h, Rect::new(7, 5, 31, 30), 5);
    let mut bytes = noise(packed_len(&info), 9);
    let before = bytes.clone();
    let mut overlay = Overlay::new(Style { status: false, ..Default::default() });
    overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
    let (stride, _) = info.format.plane_size(0, w, h);
    let sample = |b: &[u8], y: u32, g: u32, i: u32| {
        let at = y as usize * stride + g as usize * 16 + i as usize / 3 * 4;
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) >> (10 * (i % 3)) & 0x3ff
    };
    for y in 0..h {
        for g in 0..w.div_ceil(6) {
            for i in 0..12 {
                let pixels: Vec<u32> = if i % 2 == 1 {
                    vec![g * 6 + i / 2]
                } else {
                    vec![g * 6 + i / 4 * 2, g * 6 + i / 4 * 2 + 1]
                };
                let pixels: Vec<u32> = pixels.into_iter().filter(|x| *x < w).collect();
                let may = !pixels.is_empty() && pixels.iter().all(|x| mask.is_inside(*x, y));
                if !may {
                    assert_eq!(
                        sample(&before, y, g, i),
                        sample(&bytes, y, g, i),
                        "line {y}, group {g}, sample {i}"
                    );
                }
            }
        }
    }
    assert_ne!(before, bytes);
}

/// What is marked looks alike in every layout: the contour has the style's colour. A sample is painted if all pixels
/// that it serves are marked, and by an opaque ink wholly: what was beneath leaves no trace.
#[test]
fn every_sample_of_marked_pixels_alone_is_painted() {
    for (w, h, seed) in [(48, 32, 1), (47, 33, 2), (46, 34, 3), (33, 47, 4), (64, 30, 5), (30, 31, 6)] {
        for fields in [FieldOrder::Progressive, FieldOrder::TopFirst] {
            for format in PixelFormat::ALL {
                let mut info = PictureInfo::new(format, w, h);
                info.fields = fields;
                let mask = random_mask(w, h, Rect::new(3, 1, w - 5, h - 1), seed);
                let draw = |mut bytes: Vec<u8>| {
                    let mut overlay = Overlay::new(Style { alpha: 1.0, status: false, ..Style::default() });
                    overlay.draw(
                        &mut PictureMut::packed(info, &mut bytes).unwrap(),
                        Some(&mask),
                        State::Active,
                    );
                    bytes
                };
                let before = noise(packed_len(&info), seed);
                let (one, other) = (draw(before.clone()), draw(before.iter().map(|b| !b).collect()));
                let mut painted = 0;
                for (i, owners) in pixels_of(&info).iter().enumerate() {
                    // A fourth byte beside the colours is none of them.
                    let spare = matches!(format.layout(), Layout::Rgb { stride: 4, r, g, b } if i % 4 == 6 - r - g - b);
                    if spare || owners.is_empty() || !owners.iter().all(|&(x, y)| mask.is_inside(x, y)) {
                        continue;
                    }
                    painted += 1;
                    // The top two bits of a word of v210 are no samples.
                    let bits = if format == PixelFormat::V210 && i % 4 == 3 { 0x3f } else { 0xff };
                    assert_eq!(
                        one[i] & bits,
                        other[i] & bits,
                        "{format:?} {w}x{h} {fields:?}: byte {i}, of {owners:?}"
                    );
                }
                assert!(painted > 0 || mask.area_px == 0);
            }
        }
    }
}

/// Half of the ink and half of what was beneath, at the depth of the samples.
#[test]
fn a_fill_mixes_samples_of_every_depth() {
    let (w, h) = (32, 16);
    let mut mask = random_mask(w, h, Rect::full(w, h), 1);
    mask.inside.fill(1);
    mask.area_px = u64::from(w * h);
    for format in PixelFormat::ALL {
        let Layout::Yuv { depth: 9.., shift, chroma: Chroma::Planar { .. } | Chroma::Pairs { .. }, .. } =
            format.layout()
        else {
            continue;
        };
        let info = PictureInfo::new(format, w, h);
        // Only bits that belong to a sample.
        let before: Vec<u8> = noise(packed_len(&info), 9)
            .chunks_exact(2)
            .flat_map(|b| ((u16::from_le_bytes([b[0], b[1]]) & 0x3ff) << shift).to_le_bytes())
            .collect();
        let draw = |alpha: f32| {
            let mut bytes = before.clone();
            let mut overlay =
                Overlay::new(Style { alpha, outline: false, status: false, ..Style::default() });
            overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
            bytes
        };
        let (ink, mixed) = (draw(1.0), draw(0.5));
        let sample =
            |bytes: &[u8], i: usize| i32::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]) >> shift);
        for i in 0..before.len() / 2 {
            let (old, ink) = (sample(&before, i), sample(&ink, i));
            assert_eq!(sample(&mixed, i), old + (((ink - old) * 128 + 128) >> 8), "{format:?}, sample {i}");
        }
    }
}

#[test]
fn a_style_that_is_set_later_holds() {
    let info = PictureInfo::new(PixelFormat::Rgb, 40, 40);
    let mut mask = random_mask(40, 40, Rect::full(40, 40), 1);
    mask.inside.fill(1);
    mask.area_px = 1600;
    let mut overlay = Overlay::new(Style { status: false, ..Style::default() });
    // A share of 256 is rounded to the nearest: 25.6 and 76.8.
    for (alpha, weight) in [(0.1, 26), (0.3, 77), (0.0, 0), (1.0, 256)] {
        overlay.set_style(Style { alpha, rgb: [255, 1, 129], outline: false, status: false });
        let before = noise(packed_len(&info), 5);
        let mut bytes = before.clone();
        overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
        for (i, (&old, &new)) in before.iter().zip(&bytes).enumerate() {
            assert_eq!(new, over(old, [255, 1, 129][i % 3], weight), "alpha {alpha}, byte {i}");
        }
    }
}

/// The status on a mask is as opaque as on nothing.
#[test]
fn a_key_is_opaque_where_marks_lie_on_each_other() {
    let (w, h) = (80, 60);
    let info = PictureInfo::new(PixelFormat::Rgbx, w, h);
    let mut mask = random_mask(w, h, Rect::full(w, h), 2);
    mask.inside.fill(1);
    mask.area_px = u64::from(w * h);
    let mut overlay = Overlay::new(Style::default());
    let status = overlay.status_rect(&info).unwrap();
    let mut bytes = noise(packed_len(&info), 3);
    overlay.draw_key(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
    for (i, pixel) in bytes.chunks(4).enumerate() {
        if status.contains(i as u32 % w, i as u32 / w) {
            assert_eq!(pixel[3], 255, "pixel {i}");
        }
    }
}

#[test]
fn the_contour_has_its_colour_in_every_layout() {
    // The last line and column of an odd size have chroma of their own.
    for (w, h) in [(48, 48), (47, 45), (48, 33)] {
        for rgb in [[0, 255, 190], [200, 80, 40]] {
            the_contour_has(rgb, w, h);
        }
    }
}

fn the_contour_has(rgb: [u8; 3], w: u32, h: u32) {
    use polypscope::frame::colour::RowReader;
    let mut mask = random_mask(w, h, Rect::full(w, h), 3);
    mask.inside.fill(1);
    mask.area_px = u64::from(w * h);
    let style = Style { rgb, alpha: 1.0, status: false, ..Style::default() };
    for format in PixelFormat::ALL {
        if format == PixelFormat::Gray8 {
            continue;
        }
        let info = PictureInfo::new(format, w, h);
        let mut bytes = noise(packed_len(&info), 4);
        Overlay::new(style).draw(
            &mut PictureMut::packed(info, &mut bytes).unwrap(),
            Some(&mask),
            State::Active,
        );
        let reader = RowReader::new(Picture::packed(info, &bytes).unwrap());
        let mut rgb = vec![0; 3 * w as usize];
        for y in 0..h as usize {
            reader.rgb(y, 0, &mut rgb);
            for p in rgb.chunks(3) {
                for (got, want) in p.iter().zip(style.rgb) {
                    assert!(got.abs_diff(want) <= 3, "{format:?} line {y}: {p:?}");
                }
            }
        }
    }
}

/// A mask of another size, or none, leaves only the status rectangle.
#[test]
fn no_fitting_mask_no_marks() {
    let info = PictureInfo::new(PixelFormat::I420, 64, 64);
    let before = noise(packed_len(&info), 1);
    let mut overlay = Overlay::new(Style { status: false, ..Default::default() });
    assert_eq!(overlay.status_rect(&info), None);
    for mask in [None, Some(random_mask(32, 32, Rect::full(32, 32), 1))] {
        let mut bytes = before.clone();
        overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), mask.as_ref(), State::Bypass);
        assert_eq!(bytes, before);
    }
}

/// A pixel of the plain definition: nothing, fill, or contour, which is whatever has a pixel that is not inside within
/// the line's width in one of eight directions.
fn level_of(mask: &Mask, x: u32, y: u32, width: i64) -> u8 {
    let inside = |dx: i64, dy: i64| {
        let (x, y) = (i64::from(x) + dx, i64::from(y) + dy);
        x >= 0 && y >= 0 && mask.is_inside(x as u32, y as u32)
    };
    if !inside(0, 0) {
        return 0;
    }
    let d = (width * 7 / 10).max(1);
    let around = [(-width, 0), (width, 0), (0, -width), (0, width), (-d, -d), (d, -d), (-d, d), (d, d)];
    if around.iter().all(|&(dx, dy)| inside(dx, dy)) { 1 } else { 2 }
}

/// What `draw` makes of a pixel, in whole numbers.
fn over(old: u8, ink: u8, weight: i32) -> u8 {
    (i32::from(old) + (((i32::from(ink) - i32::from(old)) * weight + 128) >> 8)) as u8
}

#[test]
fn fill_and_contour_are_where_the_plain_definition_has_them() {
    for (w, h, width) in [(90, 70, 1), (120, 260, 1), (120, 261, 2), (160, 600, 3)] {
        for seed in 0..6 {
            let info = PictureInfo::new(PixelFormat::Rgb, w, h);
            let view = Rect::new(5, 3, w - 9, h - 11);
            let mut mask = random_mask(w, h, if seed < 3 { view } else { Rect::full(w, h) }, seed);
            if seed == 2 || seed == 5 {
                mask.inside.fill(1);
                mask.area_px = mask.field_of_view.area();
            }
            if seed == 4 {
                // Whoever made the mask has not listed its polyps.
                mask.polyps.clear();
            }
            let before = noise(packed_len(&info), seed);
            let mut bytes = before.clone();
            let mut overlay = Overlay::new(Style { alpha: 0.25, status: false, ..Default::default() });
            // What is set later holds.
            overlay.set_alpha(0.5);
            overlay.draw(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
            let rgb = Style::default().rgb;
            for y in 0..h {
                for x in 0..w {
                    let at = (y * info.format.plane_size(0, w, h).0 as u32 + 3 * x) as usize;
                    let weight = [0, 128, 256][usize::from(level_of(&mask, x, y, width))];
                    for c in 0..3 {
                        let want = over(before[at + c], rgb[c], weight);
                        assert_eq!(bytes[at + c], want, "{w}x{h}, seed {seed}: {x}, {y}, {c}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_is_the_marks_alone_with_their_opacity() {
    let (w, h) = (80, 60);
    for (format, [r, g, b, a]) in [(PixelFormat::Rgbx, [0, 1, 2, 3]), (PixelFormat::Bgrx, [2, 1, 0, 3])] {
        let info = PictureInfo::new(format, w, h);
        let mask = random_mask(w, h, Rect::new(4, 4, 70, 50), 2);
        let mut bytes = noise(packed_len(&info), 3);
        let mut overlay = Overlay::new(Style { alpha: 0.5, status: false, ..Default::default() });
        overlay.draw_key(&mut PictureMut::packed(info, &mut bytes).unwrap(), Some(&mask), State::Active);
        let rgb = Style::default().rgb;
        for (i, pixel) in bytes.chunks(4).enumerate() {
            let weight = [0, 128, 256][usize::from(level_of(&mask, i as u32 % w, i as u32 / w, 1))];
            let got = [pixel[r], pixel[g], pixel[b], pixel[a]];
            let want = [rgb[0], rgb[1], rgb[2], 255].map(|v| over(0, v, weight));
            assert_eq!(got, want, "{format:?}, pixel {i}");
        }
    }
}

#[test]
fn the_status_is_a_framed_square_at_the_bottom_left() {
    for (w, h, side, border) in [(200, 160, 8, 1), (640, 480, 12, 1), (900, 800, 20, 2)] {
        for state in [State::WarmUp, State::Active, State::Degraded, State::Bypass] {
            let colour = match state {
                State::WarmUp => [60, 120, 240],
                State::Active => [40, 200, 90],
                State::Degraded => [240, 170, 20],
                State::Bypass => [220, 40, 40],
            };
            let info = PictureInfo::new(PixelFormat::Rgb, w, h);
            let before = noise(packed_len(&info), 8);
            let mut bytes = before.clone();
            Overlay::new(Style::default()).draw(
                &mut PictureMut::packed(info, &mut bytes).unwrap(),
                None,
                state,
            );
            let (left, top) = (side, (h - 2 * side) / 4 * 4);
            let stride = info.format.plane_size(0, w, h).0;
            for y in 0..h {
                for x in 0..w {
                    let at = y as usize * stride + 3 * x as usize;
                    let within = |margin: u32| {
                        (left + margin..left + side - margin).contains(&x)
                            && (top + margin..top + side - margin).contains(&y)
                    };
                    let want = match (within(0), within(border)) {
                        (_, true) => colour,
                        (true, _) => [16, 16, 16],
                        _ => [before[at], before[at + 1], before[at + 2]],
                    };
                    assert_eq!(bytes[at..at + 3], want, "{state:?} {w}x{h}: {x}, {y}");
                }
            }
        }
    }
    // No room to spare: none.
    let overlay = Overlay::new(Style::default());
    let has = |w, h| overlay.status_rect(&PictureInfo::new(PixelFormat::Rgb, w, h)).is_some();
    assert_eq!([has(32, 32), has(31, 32), has(32, 31)], [true, false, false]);
}

/// The style's colour in code values, reckoned by hand from BT.601 and BT.709 (ITU-R), in 8 and 10 bits.
#[test]
fn inks_have_the_code_values_of_the_standards() {
    use polypscope::frame::{Colorimetry, Matrix};
    let (w, h) = (16, 16);
    let style = [0, 255, 190];
    for (format, matrix, full_range, rgb, want) in [
        (PixelFormat::Y444, Matrix::Bt601, false, style, [163u16, 137, 21]),
        (PixelFormat::Y444, Matrix::Bt601, true, style, [171, 139, 6]),
        (PixelFormat::Y444, Matrix::Bt709, false, style, [184, 125, 19]),
        (PixelFormat::Y444_10le, Matrix::Bt601, false, style, [653, 549, 83]),
        (PixelFormat::Gray8, Matrix::Bt601, false, style, [163, 0, 0]),
        (PixelFormat::Gray8, Matrix::Bt601, true, style, [171, 0, 0]),
        // 111.60 and 111.91.
        (PixelFormat::Gray8, Matrix::Bt601, false, [200, 80, 40], [112, 0, 0]),
        (PixelFormat::Gray8, Matrix::Bt601, true, [200, 81, 40], [112, 0, 0]),
    ] {
        let mut info = PictureInfo::new(format, w, h);
        info.colorimetry = Colorimetry { matrix, full_range };
        let mut mask = random_mask(w, h, Rect::full(w, h), 3);
        mask.inside.fill(1);
        mask.area_px = u64::from(w * h);
        let mut bytes = noise(packed_len(&info), 4);
        let style = Style { rgb, alpha: 1.0, status: false, ..Style::default() };
        Overlay::new(style).draw(
            &mut PictureMut::packed(info, &mut bytes).unwrap(),
            Some(&mask),
            State::Active,
        );
        let mut start = 0;
        for (plane, want) in want.into_iter().enumerate().take(info.format.planes()) {
            let (stride, rows) = info.format.plane_size(plane, w, h);
            let here = &bytes[start..start + stride * rows];
            let got = if format == PixelFormat::Y444_10le {
                u16::from_le_bytes([here[0], here[1]])
            } else {
                u16::from(here[0])
            };
            assert_eq!(got, want, "{format:?} {matrix:?} full {full_range}, plane {plane}");
            start += stride * rows;
        }
    }
}
