//! Outside the marks, what reaches the encoder is what the decoder gave, byte for byte.

use polypscope::capture::{Facts, Frame, Next, Recording, Source, Span};
use polypscope::frame::{FieldOrder, Layout, Mask, Picture, Rect};
use polypscope::overlay::{Overlay, Style};
use polypscope::safety::State;

use crate::common::recordings::{Moving, write};
use crate::{folder, segmenter};

/// The next frame of a recording.
fn next(source: &mut Recording) -> Frame {
    loop {
        match source.next().unwrap() {
            Next::Frame(f) => return f,
            Next::Wait => {}
            Next::Ended(e) => panic!("no frame: {e:?}"),
        }
    }
}

/// Bytes of each plane that hold samples, padding left out.
fn rows(p: &Picture) -> Vec<Vec<Vec<u8>>> {
    (0..p.info.format.planes())
        .map(|i| {
            let (bytes, lines) = p.info.format.plane_size(i, p.info.width, p.info.height);
            (0..lines).map(|y| p.planes[i].row(y)[..bytes].to_vec()).collect()
        })
        .collect()
}

/// Whether the sample at (`x`, `y`) of a planar picture's plane shows any pixel that is marked; `line` of chroma in an
/// interlaced 4:2:0 frame belongs to two lines of one field.
fn marked(
    p: &polypscope::frame::PictureInfo,
    plane: usize,
    x: u32,
    y: u32,
    inside: impl Fn(u32, u32) -> bool,
) -> bool {
    let Layout::Yuv { sub_x, sub_y, .. } = p.format.layout() else { return inside(x, y) };
    if plane == 0 {
        return inside(x, y);
    }
    let lines = match (sub_y, p.fields) {
        (0, _) => vec![y],
        (_, FieldOrder::Progressive) => vec![2 * y, 2 * y + 1],
        _ => vec![y / 2 * 4 + y % 2, y / 2 * 4 + y % 2 + 2],
    };
    lines.iter().any(|&l| (x << sub_x..(x + 1) << sub_x).any(|c| inside(c, l)))
}

#[test]
fn decoded_frames_change_under_the_marks_only() {
    for (encoder, format, interlaced) in [
        ("x264enc speed-preset=ultrafast ! h264parse", "I420", false),
        ("x264enc speed-preset=ultrafast ! h264parse", "Y42B", false),
        ("x264enc speed-preset=ultrafast ! h264parse", "Y444", false),
        ("x264enc speed-preset=ultrafast ! h264parse", "I420_10LE", false),
        ("x264enc speed-preset=ultrafast ! h264parse", "I422_10LE", false),
        ("x264enc speed-preset=ultrafast interlaced=true ! h264parse", "I420", true),
        ("mpeg2enc format=3 bitrate=4000 ! mpegvideoparse", "I420", false),
        ("jpegenc", "I420", false),
    ] {
        let (_keep, dir) = folder();
        let mut moving = Moving::new(encoder, format, 4).sized(130, if interlaced { 100 } else { 98 });
        moving.top_first = interlaced.then_some(true);
        let input = write(&dir.join("a.mkv"), "matroskamux", Some(&moving), None);
        let mut source = Recording::open(Facts::discover(&input).unwrap(), Span::default(), None).unwrap();
        let mut segmenter = segmenter();
        let mut overlay = Overlay::new(Style { alpha: 0.5, ..Style::default() });
        for n in 0..4 {
            let mut frame = next(&mut source);
            let clean = frame.clone();
            let mut mask = Mask::default();
            frame.read(|p| segmenter.segment(p, &mut mask)).unwrap();
            assert!(mask.area_px > 100, "{format} frame {n}: {} px", mask.area_px);
            let info = frame.picture_info().unwrap();
            assert_eq!(info.fields != FieldOrder::Progressive, interlaced, "{encoder}");
            let status: Rect = overlay.status_rect(&info).unwrap();
            frame.draw(|p| overlay.draw(p, Some(&mask), State::Active)).unwrap();

            let before = clean.read(|p| Ok(rows(p))).unwrap();
            let after = frame.read(|p| Ok(rows(p))).unwrap();
            let inside = |x: u32, y: u32| mask.is_inside(x, y) || status.contains(x, y);
            let word = if format.ends_with("10LE") { 2 } else { 1 };
            let (mut touched, mut kept) = (0, 0);
            for (plane, (b, a)) in before.iter().zip(&after).enumerate() {
                for (y, (b, a)) in b.iter().zip(a).enumerate() {
                    for (i, (b, a)) in b.iter().zip(a).enumerate() {
                        if b != a {
                            touched += 1;
                            let (x, y) = ((i / word) as u32, y as u32);
                            assert!(
                                marked(&info, plane, x, y, inside),
                                "{format} frame {n}: plane {plane} {x},{y}"
                            );
                        } else {
                            kept += 1;
                        }
                    }
                }
            }
            assert!(touched > 300, "{format} frame {n}: only {touched} bytes were drawn on");
            assert!(kept > touched, "{format}");
        }
    }
}
