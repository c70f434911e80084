//! Codecs, containers and pixel layouts: what goes in comes out, frame by frame.

use gstreamer_video::{VideoFormat, VideoInterlaceMode};
use polypscope::capture::Span;

use crate::common::recordings::{Decoded, MS, Moving, decode, grey, write};
use crate::{folder, replay_file, settings};

/// One tick of an MP4 track at 90 kHz, rounded up.
const MP4_TICK: u64 = 11_112;
/// Matroska counts milliseconds.
const MKV_TICK: u64 = MS;

/// Replays a clip and compares the two files as GStreamer alone reads them.
fn same(name: &str, muxer: &str, input: &str, output: &str, moving: &Moving) -> (Decoded, Decoded) {
    let (_keep, dir) = folder();
    let input = write(&dir.join(input), muxer, Some(moving), None);
    let output = dir.join(output);
    let summary = replay_file(&input, Span::default(), settings(Some(&output), None))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let (a, b) = (decode(&input), decode(&output));
    let n = moving.times.len();
    let times: Vec<_> = a.frames.iter().map(|f| f.pts).collect();
    assert_eq!(times.len(), n, "{name}: the fixture's frames: {times:?}");
    assert_eq!(summary.partial_reason, None, "{name}");
    assert_eq!((a.frames.len(), b.frames.len()), (n, n), "{name}: frames");
    assert_eq!((summary.frames.read, summary.frames.written), (n as u64, n as u64), "{name}");
    let tick = if output.extension().unwrap() == "mkv" { MKV_TICK } else { MP4_TICK };
    // A transport stream's clock has no zero, and an MP4 begins at its first sample: what counts is the time since the
    // first frame. Matroska keeps the clock itself.
    let rebased = input.extension().unwrap() == "ts" || output.extension().unwrap() != "mkv";
    let (zero_a, zero_b) = if rebased { (a.frames[0].pts, b.frames[0].pts) } else { (0, 0) };
    for (i, (x, y)) in a.frames.iter().zip(&b.frames).enumerate() {
        let (from, to) = (x.pts - zero_a, y.pts - zero_b);
        assert!(from.abs_diff(to) <= tick, "{name}: frame {i} moved from {from} to {to} ns");
        let full = a.info.colorimetry().range() == gstreamer_video::VideoColorRange::Range0_255;
        let expected = f64::from(grey(i));
        // An encoder that scales to full range shows another grey: then only the two files are compared.
        if !full {
            assert!((x.grey - expected).abs() < 8.0, "{name}: frame {i} of the fixture is {}", x.grey);
        }
        assert!((x.grey - y.grey).abs() < 6.0, "{name}: frame {i} went from {} to {}", x.grey, y.grey);
    }
    // Chroma of half the size needs even sides: an odd picture gains a column or a line.
    let even = |side: u32| side.next_multiple_of(2);
    assert_eq!(
        (even(a.info.width()), even(a.info.height())),
        (b.info.width(), b.info.height()),
        "{name}: size"
    );
    assert_eq!(a.info.par(), b.info.par(), "{name}: pixel shape");
    let depth = |d: &Decoded| {
        (d.info.comp_depth(0), d.info.format_info().w_sub()[1], d.info.format_info().h_sub()[1])
    };
    assert_eq!(
        depth(&a),
        depth(&b),
        "{name}: bit depth and chroma ({} to {})",
        a.info.format(),
        b.info.format()
    );
    assert_eq!(a.info.colorimetry().matrix(), b.info.colorimetry().matrix(), "{name}: colour matrix");
    if output.extension().unwrap() == "mp4" {
        // GStreamer 1.22 writes the range into an MP4 and does not read it back.
        let full = a.info.colorimetry().range() == gstreamer_video::VideoColorRange::Range0_255;
        let bytes = std::fs::read(&output).unwrap();
        let at = bytes.windows(8).position(|w| w == b"colrnclx").expect("MP4 says its colours");
        assert_eq!(bytes[at + 14] >> 7 == 1, full, "{name}: range");
    } else if output.extension().unwrap() == "mkv" {
        assert_eq!(a.info.colorimetry().range(), b.info.colorimetry().range(), "{name}: range");
    }
    (a, b)
}

macro_rules! formats {
    ($($test:ident: $encoder:expr, $format:expr, $muxer:expr, $input:expr => $output:expr;)*) => {$(
        #[test]
        fn $test() {
            let moving = Moving::new($encoder, $format, 12);
            let (a, _) = same(stringify!($test), $muxer, $input, $output, &moving);
            assert_eq!(a.info.format(), VideoFormat::from_string($format), "the fixture's own layout");
        }
    )*};
}

formats! {
    h264_mp4: "x264enc speed-preset=ultrafast ! h264parse", "I420", "mp4mux", "a.mp4" => "out.mp4";
    // B-frames: what is decoded first is not shown first.
    h264_with_b_frames: "x264enc bframes=3 b-adapt=false key-int-max=8 ! h264parse", "I420", "mp4mux", "a.mp4" => "out.mp4";
    h264_faststart_mov: "x264enc speed-preset=ultrafast ! h264parse", "I420", "qtmux faststart=true", "a.mov" => "out.mov";
    h264_mkv: "x264enc speed-preset=ultrafast ! h264parse", "I420", "matroskamux", "a.mkv" => "out.mkv";
    h264_ts: "x264enc speed-preset=ultrafast ! h264parse", "I420", "mpegtsmux", "a.ts" => "out.mp4";
    h264_avi: "x264enc speed-preset=ultrafast bframes=0 ! h264parse", "I420", "avimux", "a.avi" => "out.mp4";
    h264_422: "x264enc speed-preset=ultrafast ! h264parse", "Y42B", "mp4mux", "a.mp4" => "out.mp4";
    h264_444: "x264enc speed-preset=ultrafast ! h264parse", "Y444", "matroskamux", "a.mkv" => "out.mp4";
    h264_10_bit: "x264enc speed-preset=ultrafast ! h264parse", "I420_10LE", "mp4mux", "a.mp4" => "out.mp4";
    h264_10_bit_422: "x264enc speed-preset=ultrafast ! h264parse", "I422_10LE", "matroskamux", "a.mkv" => "out.mkv";
    h265_mp4: "x265enc speed-preset=ultrafast log-level=none ! h265parse", "I420", "mp4mux", "a.mp4" => "out.mp4";
    h265_10_bit: "x265enc speed-preset=ultrafast log-level=none ! h265parse", "I420_10LE", "matroskamux", "a.mkv" => "out.mp4";
    h265_ts: "x265enc speed-preset=ultrafast log-level=none ! h265parse", "I420", "mpegtsmux", "a.ts" => "out.mp4";
    vp9_webm: "vp9enc deadline=1 cpu-used=8", "I420", "webmmux", "a.webm" => "out.mp4";
    vp9_10_bit: "vp9enc deadline=1 cpu-used=8", "I420_10LE", "matroskamux", "a.mkv" => "out.mkv";
    mpeg2_ts: "mpeg2enc format=3 bitrate=4000 ! mpegvideoparse", "I420", "mpegtsmux", "a.ts" => "out.mp4";
    mpeg2_mkv: "mpeg2enc format=3 bitrate=4000 ! mpegvideoparse", "I420", "matroskamux", "a.mkv" => "out.mkv";
    mpeg4_avi: "avenc_mpeg4 bitrate=4000000 ! mpeg4videoparse", "I420", "avimux", "a.avi" => "out.mp4";
    mjpeg_avi: "jpegenc quality=95", "I420", "avimux", "a.avi" => "out.mp4";
    mjpeg_mkv: "jpegenc quality=95", "I420", "matroskamux", "a.mkv" => "out.mkv";
    mjpeg_mov: "jpegenc quality=95", "I420", "qtmux", "a.mov" => "out.mov";
}

const H264: &str = "x264enc speed-preset=ultrafast ! h264parse";

#[test]
fn variable_frame_rates_are_kept() {
    let mut moving = Moving::h264(0);
    // 25 a second, then a hole, then 50, then one frame nearly on the next.
    moving.times = [0, 40, 80, 600, 620, 640, 660, 663, 700, 1700].map(|ms| ms * MS).to_vec();
    moving.encoder = "x264enc speed-preset=ultrafast bframes=0 ! h264parse".into();
    // No nominal rate says how long the last frame is shown.
    for (muxer, input, output) in [
        ("matroskamux", "a.mkv", "out.mkv"),
        ("matroskamux", "a.mkv", "out.mp4"),
        ("qtmux", "a.mov", "out.mp4"),
    ] {
        // What a fixture without a rate does to its last frame is what we must not do.
        moving.fps = if muxer == "qtmux" { (25, 1) } else { (0, 1) };
        let (a, _) = same("variable", muxer, input, output, &moving);
        let times: Vec<u64> = a.frames.iter().map(|f| (f.pts + MS / 2) / MS).collect();
        assert_eq!(times, [0, 40, 80, 600, 620, 640, 660, 663, 700, 1700], "the fixture itself");
    }
}

#[test]
fn ntsc_rates_do_not_drift() {
    let mut moving = Moving::h264(20);
    moving.fps = (30_000, 1001);
    moving.times = (0..20).map(|n| n * 1_001_000_000 / 30).collect();
    same("29.97", "mp4mux", "a.mp4", "out.mp4", &moving);
}

#[test]
fn colorimetry_and_range_are_kept() {
    for (colorimetry, muxer, input, output) in [
        ("bt601", "mp4mux", "a.mp4", "out.mp4"),
        ("bt709", "mp4mux", "a.mp4", "out.mp4"),
        ("bt709", "matroskamux", "a.mkv", "out.mkv"),
        // Full range, 709; and 601.
        ("1:3:5:1", "matroskamux", "a.mkv", "out.mp4"),
        ("1:3:5:1", "matroskamux", "a.mkv", "out.mkv"),
        ("1:4:16:4", "matroskamux", "a.mkv", "out.mp4"),
    ] {
        let mut moving = Moving::new(H264, "I420", 6);
        moving.colorimetry = Some(colorimetry);
        let (a, _) = same(colorimetry, muxer, input, output, &moving);
        let wanted: gstreamer_video::VideoColorimetry = colorimetry.parse().unwrap();
        let got = a.info.colorimetry();
        assert_eq!((got.matrix(), got.range()), (wanted.matrix(), wanted.range()), "the fixture itself");
    }
}

#[test]
fn pixels_that_are_not_square_stay_so() {
    for (muxer, input, output) in [("mp4mux", "a.mp4", "out.mp4"), ("matroskamux", "a.mkv", "out.mkv")] {
        // An MP4's width in square pixels must be whole.
        let mut moving = Moving::new(H264, "I420", 6).sized(120, 64);
        moving.par = (16, 15);
        let (a, _) = same("16:15", muxer, input, output, &moving);
        assert_eq!((a.info.par().numer(), a.info.par().denom()), (16, 15), "the fixture itself");
    }
}

#[test]
fn interlaced_recordings_stay_interlaced_with_their_field_order() {
    for (top, encoder, format, muxer, input, output) in [
        (
            true,
            "x264enc speed-preset=ultrafast interlaced=true ! h264parse",
            "I420",
            "mp4mux",
            "a.mp4",
            "out.mp4",
        ),
        (
            false,
            "x264enc speed-preset=ultrafast interlaced=true option-string=bff=1 ! h264parse",
            "I420",
            "mp4mux",
            "a.mp4",
            "out.mp4",
        ),
        (
            true,
            "x264enc speed-preset=ultrafast interlaced=true ! h264parse",
            "Y42B",
            "mpegtsmux",
            "a.ts",
            "out.mkv",
        ),
        (
            true,
            "mpeg2enc format=3 bitrate=4000 interlace-mode=1 ! mpegvideoparse",
            "I420",
            "mpegtsmux",
            "a.ts",
            "out.mp4",
        ),
    ] {
        let name = format!("interlaced, top first {top}, {encoder}");
        let mut moving = Moving::new(encoder, format, 8);
        moving.top_first = Some(top);
        let (a, b) = same(&name, muxer, input, output, &moving);
        for (which, d) in [("input", &a), ("output", &b)] {
            assert_ne!(d.info.interlace_mode(), VideoInterlaceMode::Progressive, "{name}: {which}");
            let fields =
                |d: &Decoded| -> Vec<_> { d.frames.iter().map(|f| (f.interlaced, f.top_first)).collect() };
            let all: Vec<_> = d.frames.iter().map(|_| (true, top)).collect();
            assert_eq!(fields(d), all, "{name}: {which}");
        }
    }
}

/// Writes a rotation into an MP4 as a telephone does: the matrix of its track header (ISO 14496-12, 8.3.2).
fn turn(path: &std::path::Path, how: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let matrix = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 44;
    let one = 0x0001_0000i32;
    let [a, b, c, d] = match how {
        "rotate-90" => [0, one, -one, 0],
        "rotate-180" => [-one, 0, 0, -one],
        _ => [0, -one, one, 0],
    };
    for (i, v) in [a, b, 0, c, d, 0, 0, 0, 0x4000_0000].into_iter().enumerate() {
        bytes[matrix + 4 * i..matrix + 4 * i + 4].copy_from_slice(&v.to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn turned_recordings_come_out_upright() {
    for (tag, format, turned) in [
        ("rotate-90", "I420", true),
        ("rotate-180", "I420", false),
        ("rotate-270", "Y42B", true),
        ("rotate-90", "I420_10LE", true),
    ] {
        let (_keep, dir) = folder();
        let moving = Moving::new(H264, format, 6);
        let input = write(&dir.join("a.mp4"), "mp4mux", Some(&moving), None);
        turn(&input, tag);
        let output = dir.join("out.mp4");
        replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        let out = decode(&output);
        let size = if turned { (64, 96) } else { (96, 64) };
        assert_eq!((out.info.width(), out.info.height()), size, "{tag} {format}");
        assert_eq!(out.frames.len(), 6);
        assert_eq!(out.info.comp_depth(0), moving.format_depth(), "{tag} {format}: bit depth");
        let facts = polypscope::capture::Facts::discover(&output).unwrap();
        assert!(!facts.turned, "{tag}: the output must not be turned again");
    }
}

#[test]
fn odd_sizes_gain_a_column_or_a_line() {
    for (w, h) in [(97, 64), (96, 65), (97, 65)] {
        let moving = Moving::new("jpegenc quality=95", "I420", 4).sized(w, h);
        let (a, b) = same(&format!("{w}x{h}"), "matroskamux", "a.mkv", "out.mp4", &moving);
        assert_eq!((a.info.width(), a.info.height()), (w, h));
        assert_eq!((b.info.width() % 2, b.info.height() % 2), (0, 0));
    }
}

#[test]
fn a_bare_stream_without_timestamps_is_played_at_its_rate() {
    let (_keep, dir) = folder();
    for (encoder, name) in [
        ("x264enc speed-preset=ultrafast bframes=0 ! video/x-h264,stream-format=byte-stream", "a.h264"),
        ("x264enc bframes=2 b-adapt=false ! video/x-h264,stream-format=byte-stream", "b.h264"),
        ("mpeg2enc format=3 bitrate=4000", "a.m2v"),
    ] {
        let input = write(&dir.join(name), "identity", Some(&Moving::new(encoder, "I420", 12)), None);
        let output = dir.join(format!("{name}.mp4"));
        let summary = replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        assert!(!summary.partial, "{name}: {:?}", summary.partial_reason);
        let out = decode(&output);
        assert_eq!(out.frames.len(), 12, "{name}");
        for (i, f) in out.frames.iter().enumerate() {
            let expected = out.frames[0].pts + i as u64 * 40 * MS;
            assert!(f.pts.abs_diff(expected) <= 2 * MP4_TICK, "{name}: frame {i} at {}", f.pts);
            assert!((f.grey - f64::from(grey(i))).abs() < 8.0, "{name}: frame {i} is {}", f.grey);
        }
    }
}
