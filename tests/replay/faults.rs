//! Recordings that are damaged, change midway, or meet a network that fails: what can be processed is, and it is said.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use polypscope::Result;
use polypscope::capture::{Ended, Facts, Next, Recording, Source, Span};
use polypscope::engine::{Network, Route, Shape};
use polypscope::replay::replay;

use crate::common::recordings::{MS, Moving, decode, grey, write};
use crate::common::red_finder::RedFinder;
use crate::{folder, listing, replay_file, run, settings, with};

/// The first part of a file.
fn cut(path: &Path, share: f64) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    let out = path.with_file_name(format!("cut-{}", path.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&out, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
    out
}

#[test]
fn a_file_cut_off_in_the_middle_gives_what_it_has_and_says_where() {
    for (muxer, name) in [
        ("matroskamux", "a.mkv"),
        ("mp4mux faststart=true", "a.mp4"),
        ("avimux", "a.avi"),
        ("matroskamux offset-to-zero=true streamable=false", "b.mkv"),
    ] {
        let (_keep, dir) = folder();
        let mut moving = Moving::h264(60);
        moving.encoder =
            "x264enc speed-preset=ultrafast key-int-max=1 bframes=0 bitrate=4000 ! h264parse".into();
        let whole = write(&dir.join(name), muxer, Some(&moving), None);
        let input = cut(&whole, 0.5);
        let output = dir.join("out.mp4");
        let summary =
            replay_file(&input, Span::default(), settings(Some(&output), Some(&dir.join("report"))))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        let n = summary.frames.written;
        assert!((15..50).contains(&n), "{name}: {n} frames of half a file");
        let why = summary.partial_reason.unwrap_or_else(|| panic!("{name}: {n} frames and no word of it"));
        assert!(why.contains(name) && why.contains("cut off"), "{name}: {why}");
        let out = decode(&output);
        assert_eq!(out.frames.len() as u64, n, "{name}");
        for (i, f) in out.frames.iter().enumerate().take(n as usize - 1) {
            assert!((f.grey - f64::from(grey(i))).abs() < 8.0, "{name}: frame {i} is {}", f.grey);
        }
    }
}

#[test]
fn a_transport_stream_cut_off_gives_what_it_has() {
    let (_keep, dir) = folder();
    let whole = write(&dir.join("a.ts"), "mpegtsmux", Some(&Moving::h264(40)), None);
    let output = dir.join("out.mp4");
    let summary = replay_file(&cut(&whole, 0.6), Span::default(), settings(Some(&output), None)).unwrap();
    assert!((10..40).contains(&summary.frames.written), "{}", summary.frames.written);
    assert_eq!(decode(&output).frames.len() as u64, summary.frames.written);
}

#[test]
fn noise_in_the_middle_does_not_stop_the_rest() {
    for (muxer, name) in [("matroskamux", "a.mkv"), ("mpegtsmux", "a.ts"), ("mp4mux faststart=true", "a.mp4")]
    {
        let (_keep, dir) = folder();
        let mut moving = Moving::h264(60);
        moving.encoder =
            "x264enc speed-preset=ultrafast key-int-max=1 bframes=0 bitrate=4000 ! h264parse".into();
        let input = write(&dir.join(name), muxer, Some(&moving), None);
        let mut bytes = std::fs::read(&input).unwrap();
        let (start, mut state) = (bytes.len() / 2, 1u32);
        for b in &mut bytes[start..start + 3000] {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *b = (state >> 24) as u8;
        }
        std::fs::write(&input, bytes).unwrap();
        let output = dir.join("out.mp4");
        let summary = replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        let n = summary.frames.written;
        assert!(n >= 20, "{name}: {n}");
        assert_eq!(decode(&output).frames.len() as u64, n, "{name}");
        // What was lost at the end is said; decoders may conceal what lies between.
        assert!(n >= 50 || summary.partial, "{name}: {n} frames and no word of it");
    }
}

#[test]
fn a_size_that_changes_midway_is_fitted_and_said() {
    let encoder = "x264enc speed-preset=ultrafast key-int-max=5 bframes=0 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream";
    for (muxer, name, frames) in [
        ("mpegtsmux", "a.ts", 10),
        ("identity", "a.h264", 10),
        ("identity", "b.h264", 1),
        ("mpegtsmux", "b.ts", 2),
    ] {
        let (_keep, dir) = folder();
        let first = write(&dir.join("first"), muxer, Some(&Moving::new(encoder, "I420", frames)), None);
        let mut second = Moving::new(encoder, "I420", 10).sized(64, 80);
        second.times.iter_mut().for_each(|t| *t += 40 * MS * frames as u64);
        let second = write(&dir.join("second"), muxer, Some(&second), None);
        let input = dir.join(name);
        std::fs::write(&input, [std::fs::read(first).unwrap(), std::fs::read(second).unwrap()].concat())
            .unwrap();
        let output = dir.join("out.mp4");
        let summary = replay_file(&input, Span::default(), settings(Some(&output), None)).unwrap();
        let n = summary.frames.written;
        let out = decode(&output);
        assert_eq!(out.frames.len() as u64, n, "{name}");
        assert!(n as usize >= frames + 9, "{name}: {n}");
        assert_eq!((out.info.width(), out.info.height()), (96, 64), "{name}");
        let why = summary.partial_reason.unwrap_or_else(|| panic!("{name}: not said"));
        assert!(
            why.contains("from 96x64 to 64x80") && why.contains("fitted into the first size"),
            "{name}: {why}"
        );
    }
}

/// Gives so many frames of another source, then an end or an error of its own.
struct Breaks {
    inner: Recording,
    after: u64,
}

impl Source for Breaks {
    fn next(&mut self) -> Result<Next> {
        match self.inner.next()? {
            Next::Frame(f) if f.id.0 >= self.after => {
                Err(polypscope::Error::input("the cable was pulled").remedy("plug it in"))
            }
            other => Ok(other),
        }
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn expected_frames(&self) -> Option<u64> {
        None
    }

    fn fps(&self) -> Option<f64> {
        None
    }
}

fn open(dir: &Path, frames: usize) -> Recording {
    let input = write(&dir.join("a.mp4"), "mp4mux", Some(&Moving::h264(frames)), None);
    Recording::open(Facts::discover(&input).unwrap(), Span::default(), None).unwrap()
}

#[test]
fn a_source_that_breaks_keeps_what_came_before() {
    let (_keep, dir) = folder();
    let output = dir.join("out.mp4");
    let source = Box::new(Breaks { inner: open(&dir, 20), after: 7 });
    let summary = run(source, settings(Some(&output), None)).unwrap();
    assert_eq!((summary.frames.written, summary.partial), (7, true));
    assert_eq!(summary.partial_reason.as_deref(), Some("the cable was pulled; plug it in"));
    assert_eq!(decode(&output).frames.len(), 7);

    let (_keep, dir) = folder();
    let source = Box::new(Breaks { inner: open(&dir, 20), after: 0 });
    let e = run(source, settings(Some(&dir.join("out.mp4")), Some(&dir.join("report")))).unwrap_err();
    assert_eq!(e.to_string(), "the cable was pulled; plug it in");
    assert_eq!(listing(&dir), ["a.mp4"], "nothing is left behind");
}

/// A network that goes wrong at a given frame.
struct Failing {
    inner: RedFinder,
    frame: u64,
    at: u64,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Panic,
    NotANumber,
    Error,
}

impl Network for Failing {
    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        self.inner.run(input, logits)?;
        self.frame += 1;
        if self.frame > self.at {
            match self.how {
                How::Panic => std::panic::resume_unwind(Box::new("a kernel fell over")),
                How::NotANumber => logits[5] = f32::NAN,
                How::Error => return Err(polypscope::Error::inference("the device is gone")),
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "fails".into()
    }

    fn route(&mut self) -> Route<'_> {
        Route::Planes
    }
}

#[test]
fn a_network_that_fails_keeps_what_came_before() {
    for (how, words) in [
        (How::Panic, "a kernel fell over"),
        (How::NotANumber, "not a number"),
        (How::Error, "the device is gone"),
    ] {
        for at in [0, 6] {
            let (_keep, dir) = folder();
            let output = dir.join("out.mp4");
            let segmenter = with(Box::new(Failing { inner: RedFinder, frame: 0, at, how }));
            let stop = Arc::new(AtomicBool::new(false));
            let source = Box::new(open(&dir, 20));
            let result = replay(
                source,
                segmenter,
                settings(Some(&output), Some(&dir.join("report"))),
                &stop,
                &mut |_| {},
            );
            if at == 0 {
                let e = result.err().expect("nothing was done").to_string();
                assert!(e.contains("frame 0") && e.contains(words), "{how:?}: {e}");
                assert_eq!(listing(&dir), ["a.mp4"], "{how:?}: nothing is left behind");
                continue;
            }
            let (summary, _) = result.unwrap();
            assert_eq!((summary.frames.written, summary.partial), (6, true), "{how:?}");
            let why = summary.partial_reason.unwrap();
            assert!(why.contains("frame 6") && why.contains(words), "{how:?}: {why}");
            assert_eq!(decode(&output).frames.len(), 6, "{how:?}");
        }
    }
}

/// Frames whose timestamps repeat, run backwards and jump.
struct Jumpy {
    inner: Recording,
}

impl Source for Jumpy {
    fn next(&mut self) -> Result<Next> {
        Ok(match self.inner.next()? {
            Next::Frame(mut f) => {
                let ms = [0, 40, 40, 20, 160, 3_600_000, 3_600_040, 100, 200, 240][f.id.0 as usize];
                f.pts = polypscope::frame::Pts(ms * MS);
                Next::Frame(f)
            }
            Next::Ended(_) => Next::Ended(Ended::default()),
            Next::Wait => Next::Wait,
        })
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn expected_frames(&self) -> Option<u64> {
        None
    }

    fn fps(&self) -> Option<f64> {
        None
    }
}

#[test]
fn timestamps_that_jump_lose_no_frame() {
    let (_keep, dir) = folder();
    for name in ["out.mp4", "out.mkv"] {
        let output = dir.join(name);
        let source = Box::new(Jumpy { inner: open(&dir, 10) });
        let summary =
            run(source, settings(Some(&output), Some(&dir.join(format!("report {name}"))))).unwrap();
        assert_eq!((summary.frames.written, summary.partial), (10, false));
        assert!(summary.irregular_timestamps >= 3, "{}", summary.irregular_timestamps);
        let out = decode(&output);
        assert_eq!(out.frames.len(), 10, "{name}");
        assert!(out.frames.windows(2).all(|w| w[0].pts <= w[1].pts), "{name}");
        for (i, f) in out.frames.iter().enumerate() {
            assert!((f.grey - f64::from(grey(i))).abs() < 8.0, "{name}: frame {i} is {}", f.grey);
        }
    }
}
