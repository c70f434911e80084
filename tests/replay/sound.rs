//! Sound goes into the output as it is, or a sentence says why not.

use std::path::{Path, PathBuf};

use polypscope::capture::Span;
use polypscope::frame::Nanos;
use polypscope::replay::record::Summary;

use crate::common::recordings::{MS, Moving, Sound, decode, sound, write};
use crate::{folder, replay_file, settings};

const AAC: &str = "voaacenc ! aacparse";

fn make(dir: &Path, muxer: &str, input: &str, frames: usize, s: &Sound) -> PathBuf {
    write(&dir.join(input), muxer, Some(&Moving::h264(frames)), Some(s))
}

/// Replays, and checks that both streams came through whole and side by side.
fn passed(dir: &Path, muxer: &str, input: &str, output: &str, frames: usize, s: &Sound) -> Summary {
    let name = format!("{} in {input} to {output}", s.encoder);
    let input = make(dir, muxer, input, frames, s);
    let output = dir.join(output);
    let summary = replay_file(&input, Span::default(), settings(Some(&output), None))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(summary.partial_reason, None, "{name}");
    assert!(summary.audio.starts_with("passed through ("), "{name}: {}", summary.audio);
    let (video_in, video_out) = (decode(&input), decode(&output));
    assert_eq!(video_out.frames.len(), frames, "{name}");
    let ((codec_in, in_), (codec_out, out)) = (sound(&input), sound(&output));
    assert_eq!(codec_in, codec_out, "{name}");
    assert!(in_.len() > 5, "{name}: the fixture has {} pieces", in_.len());
    assert_eq!(in_.len(), out.len(), "{name}: pieces of sound");
    for (i, (a, b)) in in_.iter().zip(&out).enumerate() {
        assert!(
            a.bytes == b.bytes,
            "{name}: piece {i} changed: {:02x?} to {:02x?}",
            &a.bytes[..8],
            &b.bytes[..8]
        );
        let lag = |sound: u64, video: u64| sound as i64 - video as i64;
        let (was, is) = (lag(a.pts, video_in.frames[0].pts), lag(b.pts, video_out.frames[0].pts));
        // Matroska counts milliseconds, MP4 whole samples.
        assert!((was - is).abs() <= 2 * MS as i64, "{name}: piece {i} moved from {was} to {is} ns");
    }
    summary
}

#[test]
fn aac_from_mp4() {
    let (_keep, dir) = folder();
    passed(&dir, "mp4mux", "a.mp4", "out.mp4", 20, &Sound::new(AAC, 800));
    passed(&dir, "mp4mux", "b.mp4", "out.mkv", 20, &Sound::new(AAC, 800));
}

#[test]
fn aac_from_a_transport_stream() {
    let (_keep, dir) = folder();
    passed(&dir, "mpegtsmux", "a.ts", "out.mp4", 20, &Sound::new(AAC, 800));
    passed(&dir, "mpegtsmux", "b.ts", "out.mkv", 20, &Sound::new(AAC, 800));
}

#[test]
fn ac3_opus_and_mp3() {
    let (_keep, dir) = folder();
    passed(&dir, "mpegtsmux", "a.ts", "a.mp4", 20, &Sound::new("avenc_ac3 ! ac3parse", 800));
    passed(&dir, "matroskamux", "b.mkv", "b.mp4", 20, &Sound::new("avenc_ac3 ! ac3parse", 800));
    passed(&dir, "matroskamux", "c.mkv", "c.mkv.mkv", 20, &Sound::new("opusenc", 800));
    passed(&dir, "matroskamux", "d.mkv", "d.mp4", 20, &Sound::new("opusenc", 800));
    passed(&dir, "matroskamux", "e.mkv", "e.mp4", 20, &Sound::new("lamemp3enc ! mpegaudioparse", 800));
    passed(&dir, "avimux", "f.avi", "f.mov", 20, &Sound::new("lamemp3enc ! mpegaudioparse", 800));
}

#[test]
fn lossless_sound_goes_into_matroska() {
    let (_keep, dir) = folder();
    passed(&dir, "matroskamux", "a.mkv", "out.mkv", 20, &Sound::new("flacenc ! flacparse", 800));
}

#[test]
fn what_mp4_cannot_hold_is_left_out_with_a_sentence() {
    let (_keep, dir) = folder();
    for (encoder, input) in [("identity", "a.mkv"), ("flacenc ! flacparse", "b.mkv"), ("vorbisenc", "c.mkv")]
    {
        let input = make(&dir, "matroskamux", input, 10, &Sound::new(encoder, 400));
        let output = input.with_extension("out.mp4");
        let summary = replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        assert!(summary.audio.starts_with("left out: MP4 cannot hold "), "{}", summary.audio);
        assert!(summary.audio.ends_with("write .mkv to keep it"), "{}", summary.audio);
        assert_eq!((summary.partial_reason, summary.frames.written), (None, 10));
        assert_eq!(sound(&output).1, []);
    }
}

#[test]
fn sound_longer_or_shorter_than_the_picture_is_no_fault() {
    let (_keep, dir) = folder();
    for (i, ms) in [300u64, 700, 2500].into_iter().enumerate() {
        passed(&dir, "mp4mux", &format!("a{i}.mp4"), &format!("a{i}.out.mp4"), 25, &Sound::new(AAC, ms));
        passed(&dir, "matroskamux", &format!("b{i}.mkv"), &format!("b{i}.out.mp4"), 25, &Sound::new(AAC, ms));
        passed(&dir, "mpegtsmux", &format!("c{i}.ts"), &format!("c{i}.out.mkv"), 25, &Sound::new(AAC, ms));
    }
}

#[test]
fn sound_that_begins_late_does_not_hold_up_the_picture() {
    let (_keep, dir) = folder();
    let mut s = Sound::new(AAC, 1500);
    s.start = 3_000 * MS;
    // More picture before the first sound than any queue of the decoder holds: if one waited for the other, the reader
    // would find its pipeline stuck, and what it gives partial.
    for (muxer, input, output) in
        [("matroskamux", "a.mkv", "a.mp4"), ("mpegtsmux", "b.ts", "b.mp4"), ("mp4mux", "c.mp4", "c.out.mp4")]
    {
        passed(&dir, muxer, input, output, 100, &s);
    }
}

#[test]
fn a_span_takes_its_own_sound_only() {
    let (_keep, dir) = folder();
    let at = |ms: u64| Some(Nanos(ms * MS));
    let input = make(&dir, "mp4mux", "a.mp4", 50, &Sound::new(AAC, 2000));
    let output = dir.join("span.mp4");
    let span = Span { from: at(800), to: at(1200) };
    let summary = replay_file(&input, span, settings(Some(&output), None)).unwrap();
    assert_eq!((summary.frames.written, summary.partial_reason), (10, None));
    let (all, out) = (sound(&input).1, sound(&output).1);
    let wanted: Vec<_> = all.iter().filter(|p| (800 * MS..1200 * MS).contains(&p.pts)).collect();
    assert_eq!(out.len(), wanted.len(), "pieces of sound");
    assert!(out.iter().zip(&wanted).all(|(a, b)| a.bytes == b.bytes));
    assert!(out[0].pts.abs_diff(wanted[0].pts - 800 * MS) <= 2 * MS, "{}", out[0].pts);
}

#[test]
fn a_span_without_any_of_the_sound_still_gives_a_file() {
    let (_keep, dir) = folder();
    let input = make(&dir, "mp4mux", "a.mp4", 50, &Sound::new(AAC, 400));
    for name in ["span.mp4", "span.mkv"] {
        let output = dir.join(name);
        let span = Span { from: Some(Nanos(1_000 * MS)), to: None };
        let summary = replay_file(&input, span, settings(Some(&output), None)).unwrap();
        assert_eq!((summary.frames.written, summary.partial_reason), (25, None));
        assert_eq!(decode(&output).frames.len(), 25, "{name}");
    }
}
