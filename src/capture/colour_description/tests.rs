//! The table of what is said and what comes of it, and the headers of streams made on the spot.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::bitstream::Codec;
use super::*;

fn resolved(said: &str, format: &str, height: u32) -> String {
    crate::capture::init().unwrap();
    let said =
        if said.is_empty() { Said::default() } else { said.parse::<VideoColorimetry>().unwrap().into() };
    let format = gst_video::VideoFormat::from_string(format);
    let c = complete(said, gst_video::VideoFormatInfo::from_format(format), height).unwrap();
    format!(
        "{}:{}",
        if c.range() == Range::Range0_255 { "full" } else { "limited" },
        match c.matrix() {
            Matrix::Rgb => "rgb",
            Matrix::Bt601 => "601",
            Matrix::Bt709 => "709",
            Matrix::Bt2020 => "2020",
            Matrix::Smpte240m => "240m",
            Matrix::Fcc => "fcc",
            m => panic!("{m:?} is not complete"),
        }
    )
}

#[test]
fn what_is_unsaid_is_filled_in_and_what_is_said_is_kept() {
    for (said, format, height, want) in [
        // Nobody says anything.
        ("", "I420", 480, "limited:601"),
        ("", "I420", 576, "limited:601"),
        ("", "NV12", 720, "limited:709"),
        ("", "I420_10LE", 2160, "limited:709"),
        ("", "GRAY8", 240, "full:601"),
        ("", "GRAY16_LE", 1080, "full:709"),
        ("", "RGB", 1080, "full:rgb"),
        // A part is said.
        ("1:0:0:0", "I420", 240, "full:601"),
        ("1:0:0:0", "I420", 1080, "full:709"),
        ("2:0:0:0", "Y42B", 240, "limited:601"),
        ("2:0:0:0", "GRAY8", 240, "limited:601"),
        ("1:0:0:0", "GRAY8", 240, "full:601"),
        ("0:3:0:0", "I420", 240, "limited:709"),
        ("0:4:0:0", "I420", 1080, "limited:601"),
        ("0:0:5:1", "I420", 1080, "limited:709"),
        // All is said, whatever the size.
        ("1:3:5:1", "I420_10LE", 240, "full:709"),
        ("bt601", "I420", 1080, "limited:601"),
        ("bt2020", "P010_10LE", 2160, "limited:2020"),
        ("smpte240m", "I420", 1035, "limited:240m"),
        ("2:2:0:0", "I420", 480, "limited:fcc"),
        // What does not fit the layout.
        ("1:1:0:0", "I420", 240, "full:601"),
        ("sRGB", "Y444", 1080, "full:709"),
        ("bt709", "BGRx", 1080, "full:rgb"),
        ("2:0:0:0", "GBR", 240, "full:rgb"),
    ] {
        assert_eq!(resolved(said, format, height), want, "{said} {format} {height}");
    }
}

#[test]
fn coefficients_nobody_converts_are_named_and_grey_does_not_mind_them() {
    crate::capture::init().unwrap();
    let format = |name| gst_video::VideoFormatInfo::from_format(gst_video::VideoFormat::from_string(name));
    assert_eq!(complete(Said::h273(1, 1, 8), format("Y444"), 100), Err("YCgCo"));
    assert_eq!(complete(Said::h273(9, 16, 14), format("I420_10LE"), 100), Err("ICtCp"));
    assert!(complete(Said::h273(1, 1, 8), format("GRAY8"), 100).is_ok());
}

#[test]
fn the_first_voice_that_speaks_is_heard() {
    let stream = Said::range(true);
    let container = Said { full_range: Some(false), ..Said::h273(1, 1, 1) };
    let both = stream.or(container);
    assert_eq!(both.full_range, Some(true));
    assert_eq!(both.matrix, Some(Coefficients::Known(Matrix::Bt709)));
    assert_eq!(Said::default().or(container), container);
}

#[test]
fn caps_whose_colorimetry_gstreamer_throws_away_keep_their_range() {
    crate::capture::init().unwrap();
    let caps: gst::Caps =
        "video/x-raw,format=I420,width=96,height=64,framerate=25/1,colorimetry=1:0:0:0".parse().unwrap();
    let theirs = gst_video::VideoInfo::from_caps(&caps).unwrap();
    assert_eq!(theirs.colorimetry().range(), Range::Range16_235, "a newer GStreamer: this can go");
    let ours = video_info(&caps).unwrap();
    assert_eq!((ours.colorimetry().range(), ours.colorimetry().matrix()), (Range::Range0_255, Matrix::Bt601));
    assert_eq!((ours.width(), ours.fps()), (96, gst::Fraction::new(25, 1)));
}

/// Encodes a frame of this colorimetry and says what its stream says: in its caps, and in its first buffer.
fn encoded_says(encoder: &str, raw: &str, colorimetry: &str) -> (Option<Said>, Option<Said>) {
    crate::capture::init().unwrap();
    let line = format!(
        "videotestsrc num-buffers=2 ! capsfilter caps=\"video/x-raw,{raw},width=96,height=64,framerate=25/1\" \
         ! capssetter caps=\"video/x-raw,colorimetry=(string){colorimetry}\" ! {encoder} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = out.pull_sample().unwrap_or_else(|e| panic!("{line}: {e}"));
    pipeline.set_state(gst::State::Null).unwrap();
    let (codec, said) = Codec::of(sample.caps().unwrap()).unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    (said, codec.said_in(&map))
}

#[test]
fn streams_say_what_they_were_encoded_as() {
    const AVC: &str = "x264enc speed-preset=ultrafast ! h264parse ! video/x-h264,stream-format=avc";
    const ANNEX_B: &str = "x264enc speed-preset=medium aud=true ! video/x-h264,stream-format=byte-stream";
    const HVC: &str = "x265enc log-level=none ! h265parse ! video/x-h265,stream-format=hvc1";
    const HEVC: &str = "x265enc log-level=none ! h265parse ! video/x-h265,stream-format=byte-stream";
    for encoder in [AVC, ANNEX_B, HVC, HEVC] {
        for raw in ["format=I420", "format=I420_10LE", "format=Y444"] {
            for (colorimetry, full, matrix) in [
                ("1:3:5:1", true, Matrix::Bt709),
                ("1:4:16:4", true, Matrix::Bt601),
                ("bt709", false, Matrix::Bt709),
                ("smpte240m", false, Matrix::Smpte240m),
                ("2:6:13:7", false, Matrix::Bt2020),
            ] {
                let (in_caps, in_stream) = encoded_says(encoder, raw, colorimetry);
                let said = if encoder == AVC || encoder == HVC { in_caps } else { in_stream };
                let said = said.unwrap_or_else(|| panic!("{encoder} {raw} {colorimetry}: nothing"));
                assert_eq!(said.matrix, Some(Coefficients::Known(matrix)), "{encoder} {raw} {colorimetry}");
                // An encoder writes no range where it is the usual one.
                assert_eq!(said.full_range.unwrap_or(false), full, "{encoder} {raw} {colorimetry}");
            }
        }
    }
}

#[test]
fn the_box_of_an_mp4_is_read_with_its_range() {
    crate::capture::init().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (muxer, colorimetry, full) in [
        ("mp4mux", "1:3:5:1", Some(true)),
        ("mp4mux faststart=true", "bt709", Some(false)),
        // QuickTime's form of the box has no range.
        ("qtmux", "1:3:5:1", None),
    ] {
        let path = dir.path().join("a.mp4");
        let line = format!(
            "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=96,height=64,framerate=25/1 \
             ! capssetter caps=\"video/x-raw,colorimetry=(string){colorimetry}\" ! x264enc ! {muxer} ! filesink location={}",
            path.display()
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &ends);
        assert!(end.is_some_and(|m| m.type_() == gst::MessageType::Eos), "{line}");
        pipeline.set_state(gst::State::Null).unwrap();
        let said = colr::of_track(&path, 0).expect("a box");
        assert_eq!(
            (said.full_range, said.matrix),
            (full, Some(Coefficients::Known(Matrix::Bt709))),
            "{line}"
        );
        assert_eq!(colr::of_track(&path, 1), None);
    }
}

/// Writes bits as a stream has them.
#[derive(Default)]
struct Written(Vec<bool>);

impl Written {
    fn u(mut self, bits: u32, value: u64) -> Self {
        self.0.extend((0..bits).rev().map(|b| value >> b & 1 == 1));
        self
    }

    fn ue(self, value: u64) -> Self {
        let bits = 64 - (value + 1).leading_zeros();
        self.u(2 * bits - 1, value + 1)
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.push(true);
        self.0.resize(self.0.len().next_multiple_of(8), false);
        self.0.chunks(8).map(|b| b.iter().fold(0, |n, b| n << 1 | u8::from(*b))).collect()
    }
}

fn said(full: bool, matrix: Matrix) -> (Option<bool>, Option<Coefficients>) {
    (Some(full), Some(Coefficients::Known(matrix)))
}

fn heard(codec: Codec, bytes: &[u8]) -> (Option<bool>, Option<Coefficients>) {
    let said = codec.said_in(bytes).expect("a header");
    (said.full_range, said.matrix)
}

#[test]
fn rarer_headers_are_read_too() {
    crate::capture::init().unwrap();
    // MPEG-2: a sequence header, its extension, its display extension.
    let display = Written::default().u(4, 2).u(3, 5).u(1, 1).u(8, 1).u(8, 1).u(8, 1).bytes();
    let mpeg2 = [&[0, 0, 1, 0xb3, 9, 9, 0, 0, 1, 0xb5, 0x14, 8, 0, 0, 1, 0xb5][..], &display].concat();
    assert_eq!(heard(Codec::Mpeg2, &mpeg2), said(false, Matrix::Bt709));
    assert_eq!(Codec::Mpeg2.said_in(&[0, 0, 1, 0, 0, 0, 1, 0xb5, 0x2b]), None, "behind the picture");

    // MPEG-4: a visual object of a video type.
    let object = Written::default().u(1, 1).u(7, 9).u(4, 1).u(1, 1).u(3, 5).u(1, 1).u(1, 1);
    let object = object.u(8, 6).u(8, 6).u(8, 6).bytes();
    let mpeg4 = [&[0, 0, 1, 0xb0, 0xf5, 0, 0, 1, 0xb5][..], &object].concat();
    assert_eq!(heard(Codec::Mpeg4, &mpeg4), said(true, Matrix::Bt601));

    // VP9: key frames of profiles 0 and 2.
    let vp9 = Written::default().u(2, 2).u(2, 0).u(4, 2).u(24, 0x49_8342).u(3, 2).u(1, 1).bytes();
    assert_eq!(heard(Codec::Vp9, &vp9), said(true, Matrix::Bt709));
    let deep = Written::default().u(2, 2).u(2, 1).u(4, 2).u(24, 0x49_8342).u(1, 0).u(3, 5).u(1, 0).bytes();
    assert_eq!(heard(Codec::Vp9, &deep), said(false, Matrix::Bt2020));
    let between = Written::default().u(2, 2).u(2, 0).u(4, 6).u(24, 0x49_8342).u(3, 2).u(1, 1).bytes();
    assert_eq!(Codec::Vp9.said_in(&between), None, "no key frame");

    // AV1: a temporal delimiter, then a sequence header with timing and a decoder model.
    let head = Written::default().u(5, 0).u(1, 1).u(64, 7).u(1, 1).ue(5).u(1, 1).u(5, 3).u(32, 0).u(10, 0);
    let points = head.u(1, 1).u(5, 0).u(12, 0).u(5, 9).u(1, 0).u(1, 1).u(9, 0).u(1, 1).u(4, 0);
    let size = points.u(4, 6).u(4, 5).u(7, 95).u(6, 63).u(1, 0).u(3, 0);
    let tools = size.u(4, 0).u(1, 1).u(2, 0).u(1, 1).u(1, 1).u(3, 6).u(3, 0);
    let colour = tools.u(1, 0).u(1, 0).u(1, 1).u(8, 1).u(8, 1).u(8, 1).u(1, 1).bytes();
    let av1 = [&[0x12, 0, 0x0a, colour.len() as u8][..], &colour, &[0x32, 0]].concat();
    assert_eq!(heard(Codec::Av1, &av1), said(true, Matrix::Bt709));

    // JPEG: full range, unless a comment says otherwise.
    let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xda, 0, 2];
    assert_eq!(heard(Codec::Jpeg, &jpeg), said(true, Matrix::Bt601));
    let limited = [&[0xff, 0xd8, 0xff, 0xfe, 0, 12][..], b"CS=ITU601\0", &[0xff, 0xda]].concat();
    assert_eq!(heard(Codec::Jpeg, &limited), said(false, Matrix::Bt601));
}

proptest::proptest! {
    /// Whatever the bytes are, they are read or not, but never beyond their end.
    #[test]
    fn no_header_is_read_beyond_its_end(bytes in proptest::collection::vec(0u8.., 0..80)) {
        crate::capture::init().unwrap();
        let kinds = [0, 1, 2, 4].into_iter().flat_map(|length| [Codec::H264 { length }, Codec::H265 { length }]);
        for codec in kinds.chain([Codec::Mpeg2, Codec::Mpeg4, Codec::Vp9, Codec::Av1, Codec::Jpeg]) {
            for head in [&[][..], &[0, 0, 1, 0x67], &[0, 0, 1, 0x42, 1], &[0, 0, 1, 0xb5], &[0x0a, 60], &[0xff, 0xd8]] {
                let _ = codec.said_in(&[head, &bytes].concat());
            }
        }
        let config = gst::Buffer::from_slice(bytes);
        for name in ["video/x-h264", "video/x-h265", "video/x-av1"] {
            let caps = gst::Caps::builder(name).field("stream-format", "avc").field("codec_data", &config).build();
            let _ = Codec::of(&caps);
        }
    }
}
