//! The live recorder: what it keeps, what it loses, and that it never waits.
#![cfg(feature = "video")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_video as gst_video;
use polypscope::capture::{
    Facts, Next, Recorder, RecorderSettings, RecorderStatus, Recording, Source, Span, Track,
};
use polypscope::frame::Nanos;

const PERIOD: u64 = 40_000_000;

fn info(format: gst_video::VideoFormat, width: u32, height: u32) -> gst_video::VideoInfo {
    polypscope::capture::init().unwrap();
    gst_video::VideoInfo::builder(format, width, height).fps(gst::Fraction::new(25, 1)).build().unwrap()
}

/// A picture that changes from frame to frame.
fn picture(info: &gst_video::VideoInfo, frame: u64) -> gst::Buffer {
    let bytes: Vec<u8> =
        (0..info.size()).map(|i| (((i / 64) as u64 * 3 + frame * 5) % 200 + 16) as u8).collect();
    gst::Buffer::from_mut_slice(bytes)
}

/// Noise, which no encoder makes small.
fn noise(info: &gst_video::VideoInfo, frame: u64) -> gst::Buffer {
    let mut state = frame.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..info.size())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    gst::Buffer::from_mut_slice(bytes)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// Timestamps of a file's frames.
fn timestamps(file: &Path) -> Vec<u64> {
    let mut source = Facts::discover(file)
        .and_then(|f| Recording::open(f, Span::default(), None))
        .unwrap_or_else(|e| panic!("{e}"));
    let mut all = Vec::new();
    loop {
        match source.next() {
            Ok(Next::Frame(frame)) => all.push(frame.pts.0),
            Ok(Next::Wait) => {}
            Ok(Next::Ended(_)) => return all,
            Err(e) => panic!("{}: {e} after {} frames", file.display(), all.len()),
        }
    }
}

/// Waits until a frame pushed is a frame taken.
fn ready(recorder: &Recorder, track: Track, info: &gst_video::VideoInfo) {
    recorder.prepare(track, info);
    let begun = Instant::now();
    while !recorder.is_ready(track, info) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", recorder.status());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn settings(dir: &Path) -> RecorderSettings {
    RecorderSettings {
        segment: Duration::from_secs(2),
        reserve_bytes: 0,
        waiting: 150,
        ..RecorderSettings::new(dir)
    }
}

fn idle(recorder: &Recorder) -> RecorderStatus {
    recorder.status()
}

#[test]
fn both_tracks_are_recorded_in_segments_with_every_frame_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("procedure");
    let recorder = Recorder::start(settings(&dir)).unwrap();
    let (raw, drawn) =
        (info(gst_video::VideoFormat::Nv12, 320, 240), info(gst_video::VideoFormat::Uyvy, 320, 240));
    ready(&recorder, Track::Raw, &raw);
    ready(&recorder, Track::Annotated, &drawn);
    for frame in 0..150 {
        let at = Nanos(7_000_000_000 + frame * PERIOD);
        recorder.push(Track::Raw, &picture(&raw, frame), &raw, at);
        recorder.push(Track::Annotated, &picture(&drawn, frame), &drawn, at);
    }
    let status = recorder.stop();
    assert_eq!((status.frames, status.lost, status.recording), (300, 0, false), "{status:?}");
    assert_eq!(status.stopped_because, None);
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let all = files(&dir);
    for track in ["raw", "annotated"] {
        let of: Vec<_> =
            all.iter().filter(|p| p.to_string_lossy().contains(&format!("-{track}-0000"))).collect();
        assert_eq!(of.len(), 3, "{all:?}");
        let mut times = Vec::new();
        for file in of {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert!(file.to_string_lossy().starts_with(&*status.path.to_string_lossy()));
            let own = timestamps(file);
            assert_eq!(own.len(), 50, "{}", file.display());
            times.extend(own);
        }
        // What a source calls the time of the first frame of a file differs; the steps do not.
        for pair in times.windows(2).filter(|p| p[1] > p[0]) {
            assert!(pair[1].abs_diff(pair[0] + PERIOD) <= 100_000, "{pair:?}");
        }
    }
    assert_eq!(status.segments, 6);
    assert_eq!(status.bytes, all.iter().map(|f| f.metadata().unwrap().len()).sum::<u64>());
}

#[test]
fn a_change_of_format_begins_a_new_file_and_nothing_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(RecorderSettings { annotated: false, ..settings(folder.path()) }).unwrap();
    let second = Recorder::start(RecorderSettings { annotated: false, ..settings(folder.path()) }).unwrap();
    let formats =
        [info(gst_video::VideoFormat::I420, 320, 240), info(gst_video::VideoFormat::Yuy2, 640, 360)];
    let mut frame = 0;
    for format in &formats {
        ready(&recorder, Track::Raw, format);
        for _ in 0..20 {
            recorder.push(Track::Raw, &picture(format, frame), format, Nanos(frame * PERIOD));
            recorder.push(Track::Annotated, &picture(format, frame), format, Nanos(frame * PERIOD));
            frame += 1;
        }
    }
    ready(&second, Track::Raw, &formats[0]);
    second.push(Track::Raw, &picture(&formats[0], 0), &formats[0], Nanos(0));
    let status = recorder.stop();
    assert_eq!((status.frames, status.lost, status.segments), (40, 0, 2), "{status:?}");
    let other = second.stop();
    assert_eq!((other.frames, other.segments), (1, 1), "{other:?}");
    assert_eq!(files(folder.path()).iter().map(|f| timestamps(f).len()).sum::<usize>(), 41);
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn timestamps_that_repeat_or_run_back_lose_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(RecorderSettings { annotated: false, ..settings(folder.path()) }).unwrap();
    let format = info(gst_video::VideoFormat::I420, 320, 240);
    ready(&recorder, Track::Raw, &format);
    for (frame, at) in [5, 6, 6, 7, 2, 3, 8, 9, 10].into_iter().enumerate() {
        recorder.push(Track::Raw, &picture(&format, frame as u64), &format, Nanos(at * PERIOD));
    }
    let status = recorder.stop();
    assert_eq!((status.frames, status.stopped_because), (9, None));
    assert_eq!(files(folder.path()).iter().map(|f| timestamps(f).len()).sum::<usize>(), 9);
}

#[test]
fn an_encoder_that_cannot_follow_loses_frames_and_a_push_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let slow = RecorderSettings {
        annotated: false,
        speed: "veryslow".into(),
        waiting: 6,
        quality: 5,
        ..settings(folder.path())
    };
    let recorder = Recorder::start(slow).unwrap();
    let format = info(gst_video::VideoFormat::I420, 1280, 720);
    ready(&recorder, Track::Raw, &format);
    let pictures: Vec<_> = (0..4).map(|f| noise(&format, f)).collect();
    for frame in 0..120u64 {
        recorder.push(Track::Raw, &pictures[frame as usize % 4], &format, Nanos(frame * PERIOD));
    }
    let status = idle(&recorder);
    assert_eq!(status.frames + status.lost, 120);
    // A push that waited for room would have lost none: the encoder needs some 100 ms a frame, and has room for six.
    assert!(status.lost > 20 && status.lost_because.encoder_busy == status.lost, "{status:?}");
    let status = recorder.stop();
    if status.stopped_because.is_none() {
        let kept: usize = files(folder.path()).iter().map(|f| timestamps(f).len()).sum();
        assert_eq!(kept as u64, status.frames);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_is_made() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("none");
    let good = RecorderSettings::new(&dir);
    for bad in [
        RecorderSettings { raw: false, annotated: false, ..good.clone() },
        RecorderSettings { segment: Duration::from_millis(10), ..good.clone() },
        RecorderSettings { quality: 52, ..good.clone() },
        RecorderSettings { waiting: 1, ..good.clone() },
        RecorderSettings::new(Path::new(std::ffi::OsStr::from_bytes(b"\xff")).join("none")),
    ] {
        assert!(Recorder::start(bad).is_err());
    }
    assert!(!dir.exists());
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(Recorder::start(RecorderSettings::new(file.join("below"))).is_err());
}

#[test]
fn a_disk_that_is_nearly_full_stops_the_recording_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let full = RecorderSettings { reserve_bytes: u64::MAX, ..settings(folder.path()) };
    let recorder = Recorder::start(full).unwrap();
    let start = Instant::now();
    while recorder.status().recording {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", recorder.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let why = recorder.stop().stopped_because.unwrap();
    assert!(why.contains("are free on its disk; free some space"), "{why}");
}

/// This test program again, to record in a process that may be killed or starved.
fn child(dir: &Path, what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_process_that_records", "--nocapture"])
        .env("RECORD_INTO", dir)
        .env("RECORD_WHAT", what)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Only of use as the child of the tests below.
#[test]
fn a_process_that_records() {
    let Some(dir) = std::env::var_os("RECORD_INTO") else { return };
    let starved = std::env::var("RECORD_WHAT").is_ok_and(|w| w == "starved");
    let recorder =
        Recorder::start(RecorderSettings { annotated: false, ..settings(Path::new(&dir)) }).unwrap();
    let format = info(gst_video::VideoFormat::I420, 320, 240);
    ready(&recorder, Track::Raw, &format);
    for frame in 0..2000 {
        let one = if starved { noise(&format, frame) } else { picture(&format, frame) };
        recorder.push(Track::Raw, &one, &format, Nanos(frame * PERIOD));
        std::thread::sleep(Duration::from_nanos(PERIOD / 2));
        if starved && !recorder.status().recording {
            // The picture goes on: pushing is still allowed, and free of charge.
            recorder.push(Track::Raw, &one, &format, Nanos(frame * PERIOD));
            let status = recorder.stop();
            std::fs::write(Path::new(&dir).join("why"), status.stopped_because.unwrap()).unwrap();
            return;
        }
    }
    panic!("nobody killed this process");
}

#[test]
fn what_was_recorded_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child(folder.path(), "killed").spawn().unwrap();
    let begun = Instant::now();
    while files(folder.path()).iter().all(|f| f.metadata().is_ok_and(|m| m.len() == 0)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no file");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Two segments are complete and the third is under way.
    while files(folder.path()).len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no third segment");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A busy machine kills late: there may be more of them by then.
    let all = files(folder.path());
    assert!(all.len() >= 3, "{all:?}");
    // The last file may have been born an instant ago, and hold nothing yet.
    let whole = &all[..all.len() - 1];
    let counts: Vec<usize> = whole.iter().map(|f| timestamps(f).len()).collect();
    assert_eq!(counts, vec![50; whole.len()]);
}

#[test]
fn a_write_that_fails_stops_the_recording_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = child(folder.path(), "starved");
    // SAFETY: both calls are async-signal-safe and touch nothing of ours.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 1 << 18, rlim_max: 1 << 18 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let why = std::fs::read_to_string(folder.path().join("why")).unwrap();
    assert!(why.contains("cannot be written") || why.contains("no space left"), "{why}");
    let kept: usize = files(folder.path())
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "mkv"))
        .map(|f| timestamps(f).len())
        .sum();
    assert!(kept >= 5, "only {kept} frames are readable");
}
