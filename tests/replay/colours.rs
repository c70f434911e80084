//! The colour description: read from the stream, its container or its caps, seen by the network, written to the output.

use std::path::{Path, PathBuf};

use gstreamer_video::{VideoColorMatrix as Matrix, VideoColorRange as Range};
use polypscope::capture::{Facts, Next, Recording, Source, Span};
use polypscope::frame::colour::RowReader;

use crate::common::recordings::{Moving, decode, grey, write};
use crate::{folder, replay_file, settings};

const FRAMES: usize = 4;

/// A recording and how its colours are to be taken.
struct Clip {
    name: &'static str,
    muxer: &'static str,
    file: &'static str,
    encoder: &'static str,
    format: &'static str,
    /// Caps of the raw frames the encoder is given.
    raw: &'static str,
    full: bool,
    matrix: Matrix,
}

const STREAM: &str = "x264enc speed-preset=ultrafast ! video/x-h264,stream-format=byte-stream";

/// An elementary stream of full range in whose parameter sets the code points 6, 6, 6 (all BT.601) become others.
fn stream(path: &Path, format: &str, points: [u8; 3]) -> PathBuf {
    let mut moving = Moving::new(STREAM, format, FRAMES);
    moving.colorimetry = Some("1:4:16:4");
    write(path, "identity", Some(&moving), None);
    let mut bytes = std::fs::read(path).unwrap();
    let sets: Vec<usize> =
        (0..bytes.len() - 40).filter(|&i| bytes[i..].starts_with(&[0, 0, 1, 0x67])).collect();
    assert!(!sets.is_empty());
    for set in sets {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let at = (8 * (set + 4)..8 * (set + 37))
            .find(|at| (0..24).all(|i| bit(&bytes, at + i) == bit(&[6, 6, 6], i)))
            .expect("the stream says its colours");
        for i in 0..24 {
            let mask = 1 << (7 - (at + i) % 8);
            bytes[(at + i) / 8] &= !mask;
            bytes[(at + i) / 8] |= mask * bit(&points, i);
        }
    }
    std::fs::write(path, bytes).unwrap();
    path.to_owned()
}

/// Overwrites what the container is told.
macro_rules! container {
    ($kind:literal, $says:literal) => {
        concat!(" ! capssetter caps=", $kind, ",colorimetry=(string)", $says)
    };
}

fn clips() -> Vec<(Clip, String)> {
    let x264 = "x264enc speed-preset=ultrafast qp-max=20 ";
    let clip = |name, muxer, file, encoder, format, raw, full, matrix| Clip {
        name,
        muxer,
        file,
        encoder,
        format,
        raw,
        full,
        matrix,
    };
    vec![
        clip("full range, matrix unsaid", "identity", "a.h264", "", "I420", "1:4:16:4", true, Matrix::Bt601),
        clip(
            "all said, qtdemux drops the range",
            "mp4mux",
            "a.mp4",
            "",
            "I420",
            "1:4:16:4",
            true,
            Matrix::Bt601,
        ),
        clip("said in a transport stream", "mpegtsmux", "a.ts", "", "I420", "1:3:5:1", true, Matrix::Bt709),
        clip(
            "the container says otherwise",
            "matroskamux",
            "a.mkv",
            container!("video/x-h264", "2:3:5:1"),
            "I420",
            "1:4:16:4",
            true,
            Matrix::Bt601,
        ),
        clip("limited stays limited", "mp4mux", "a.mp4", "", "I420", "bt709", false, Matrix::Bt709),
        clip("10 bit", "matroskamux", "a.mkv", "", "I420_10LE", "1:3:5:1", true, Matrix::Bt709),
        clip("240M", "matroskamux", "a.mkv", "", "I420", "smpte240m", false, Matrix::Smpte240m),
        clip("BT.2020", "matroskamux", "a.mkv", "", "I420_10LE", "bt2020-10", false, Matrix::Bt2020),
    ]
    .into_iter()
    .map(|c| {
        let encoder = format!("{x264} ! h264parse{}", c.encoder);
        (c, encoder)
    })
    .chain([
        (
            clip("H.265", "mp4mux", "a.mp4", "", "I420", "1:4:16:4", true, Matrix::Bt601),
            "x265enc log-level=none ! h265parse".to_owned(),
        ),
        (
            clip("motion JPEG", "avimux", "a.avi", "", "I420", "1:4:0:0", true, Matrix::Bt601),
            "jpegenc quality=95".to_owned(),
        ),
        (
            clip(
                "grey without a matrix",
                "matroskamux",
                "a.mkv",
                "",
                "GRAY8",
                "1:4:0:0",
                true,
                Matrix::Bt601,
            ),
            format!("avenc_ffv1{}", container!("video/x-ffv", "1:0:0:0")),
        ),
        (
            clip(
                "lossless, full range alone",
                "matroskamux",
                "a.mkv",
                "",
                "I420",
                "1:4:0:0",
                true,
                Matrix::Bt601,
            ),
            format!("avenc_ffv1{}", container!("video/x-ffv", "1:0:0:0")),
        ),
    ])
    .collect()
}

/// What the network is shown where no block is: the mean of a part of the last line.
fn shown(source: &mut Recording) -> f64 {
    loop {
        match source.next().unwrap() {
            Next::Frame(f) => {
                return f
                    .read(|p| {
                        let mut rgb = [0; 3 * 24];
                        RowReader::new(*p).rgb(p.info.height as usize - 4, 64, &mut rgb);
                        // Grey is grey, whatever its description.
                        assert!(rgb.chunks(3).all(|c| c.iter().all(|v| v.abs_diff(c[0]) <= 4)), "{rgb:?}");
                        Ok(rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / rgb.len() as f64)
                    })
                    .unwrap();
            }
            Next::Wait => {}
            Next::Ended(e) => panic!("no frame: {e:?}"),
        }
    }
}

#[test]
fn range_and_matrix_are_those_of_the_source_from_end_to_end() {
    for (clip, encoder) in clips() {
        let name = clip.name;
        let (_keep, dir) = folder();
        let mut moving = Moving::new(&encoder, clip.format, FRAMES);
        moving.colorimetry = Some(clip.raw);
        let input = dir.join(clip.file);
        if clip.muxer == "identity" {
            stream(&input, clip.format, [2, 2, 2]);
        } else {
            write(&input, clip.muxer, Some(&moving), None);
        }

        let mut source = Recording::open(Facts::discover(&input).unwrap(), Span::default(), None).unwrap();
        for n in 0..FRAMES {
            let code = f64::from(grey(n));
            let want = if clip.full { code } else { (code - 16.0) * 255.0 / 219.0 };
            let got = shown(&mut source);
            assert!((got - want).abs() < 4.0, "{name}: frame {n} is shown as {got} instead of {want}");
        }

        let output = dir.join("out.mkv");
        let summary = replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        assert_eq!(summary.partial_reason, None, "{name}");
        let (a, b) = (decode(&input), decode(&output));
        assert_eq!(b.frames.len(), FRAMES, "{name}");
        for (n, (x, y)) in a.frames.iter().zip(&b.frames).enumerate() {
            assert!(
                (x.grey - y.grey).abs() < 3.0,
                "{name}: luma of frame {n} went from {} to {}",
                x.grey,
                y.grey
            );
        }
        let written = b.info.colorimetry();
        assert_eq!(written.range() == Range::Range0_255, clip.full, "{name}: {written}");
        assert_eq!(written.matrix(), clip.matrix, "{name}: {written}");
    }
}

#[test]
fn a_description_that_changes_on_the_way_is_said() {
    let (_keep, dir) = folder();
    let mut parts = Vec::new();
    for (name, raw) in [("a.h264", "bt601"), ("b.h264", "1:4:16:4")] {
        let mut moving = Moving::new(STREAM, "I420", 6);
        moving.colorimetry = Some(raw);
        parts.push(std::fs::read(write(&dir.join(name), "identity", Some(&moving), None)).unwrap());
    }
    let input = dir.join("both.h264");
    std::fs::write(&input, parts.concat()).unwrap();
    let summary = replay_file(&input, Span::default(), settings(Some(&dir.join("out.mkv")), None)).unwrap();
    let reason = summary.partial_reason.expect("it is partial");
    assert!(reason.contains("codes its colours in another way"), "{reason}");
    assert_eq!(summary.frames.written, 6);
}

#[test]
fn coefficients_nobody_converts_are_refused() {
    let (_keep, dir) = folder();
    let input = stream(&dir.join("a.h264"), "Y444", [1, 1, 8]);
    let e = replay_file(&input, Span::default(), settings(Some(&dir.join("out.mkv")), None)).unwrap_err();
    assert!(e.to_string().contains("YCgCo"), "{e}");
}
