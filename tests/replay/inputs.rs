//! Spans, folders of pictures, several inputs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::RgbImage;
use polypscope::capture::{Input, SkipReason, Span, Stills, discover, discover_inputs};
use polypscope::frame::Nanos;
use polypscope::replay::record::FrameRecord;
use polypscope::replay::replay;

use crate::common::recordings::{MS, Moving, decode, grey, write};
use crate::common::schema::assert_is;
use crate::{folder, listing, replay_file, run, segmenter, settings};

fn span(from: Option<u64>, to: Option<u64>) -> Span {
    Span { from: from.map(|ms| Nanos(ms * MS)), to: to.map(|ms| Nanos(ms * MS)) }
}

#[test]
fn a_span_takes_exactly_its_frames_and_begins_at_zero() {
    let (_keep, dir) = folder();
    for (muxer, name) in [("mp4mux", "a.mp4"), ("matroskamux", "a.mkv"), ("avimux", "a.avi")] {
        let mut moving = Moving::h264(40);
        moving.encoder = "x264enc speed-preset=ultrafast key-int-max=12 bframes=0 ! h264parse".into();
        let input = write(&dir.join(name), muxer, Some(&moving), None);
        let times: Vec<u64> = decode(&input).frames.iter().map(|f| f.pts).collect();
        assert_eq!(times.len(), 40, "{name}");
        for (from, to) in [
            (Some(600), Some(1000)),
            (Some(610), None),
            (None, Some(320)),
            (Some(0), Some(100_000)),
            (Some(1560), None),
        ] {
            let inside = |t: u64| from.is_none_or(|f| t >= f * MS) && to.is_none_or(|to| t < to * MS);
            let wanted: Vec<usize> = (0..40).filter(|&n| inside(times[n])).collect();
            assert!(!wanted.is_empty());
            let what = format!("{name} {from:?} {to:?}");
            let output = dir.join("out.mp4");
            let mut settings = settings(Some(&output), Some(&dir.join("report")));
            settings.force = true;
            settings.encoder.as_mut().unwrap().force = true;
            let summary = replay_file(&input, span(from, to), settings).unwrap();
            assert_eq!(summary.partial_reason, None, "{what}");
            let out = decode(&output);
            let first = times[wanted[0]];
            let greys: Vec<f64> = out.frames.iter().map(|f| f.grey).collect();
            assert_eq!(greys.len(), wanted.len(), "{what}");
            for (f, n) in out.frames.iter().zip(wanted) {
                assert!((f.grey - f64::from(grey(n))).abs() < 8.0, "{what}: {greys:?}");
                // An MP4 begins at its first sample.
                let at = times[n] - first;
                assert!(f.pts.abs_diff(at) < MS, "{what}: frame {n} at {}", f.pts);
            }
        }
        let e = replay_file(&input, span(Some(60_000), None), settings(Some(&dir.join("none.mp4")), None))
            .unwrap_err();
        assert!(e.to_string().contains("no frames between --from and --to"), "{name}: {e}");
        assert_eq!(e.exit_code(), 2);
        assert!(!dir.join("none.mp4").exists());
    }
}

/// GStreamer places a transport stream's frames by its clock references, which a seek meets elsewhere than a start
/// does: its spans are whole and in order, but a few frames early or late.
#[test]
fn a_span_of_a_transport_stream_is_whole() {
    let (_keep, dir) = folder();
    let input = write(&dir.join("a.ts"), "mpegtsmux", Some(&Moving::h264(19)), None);
    let output = dir.join("out.mp4");
    replay_file(&input, span(Some(320), Some(600)), settings(Some(&output), None)).unwrap();
    let out = decode(&output);
    assert_eq!(out.frames.len(), 7);
    let first = (0..19).find(|&n| (out.frames[0].grey - f64::from(grey(n))).abs() < 4.0).unwrap();
    assert!(first.abs_diff(8) <= 4, "{first}");
    for (i, f) in out.frames.iter().enumerate() {
        assert!((f.grey - f64::from(grey(first + i))).abs() < 4.0, "frame {i}");
        assert!(f.pts.abs_diff(out.frames[0].pts + i as u64 * 40 * MS) < MS, "frame {i} at {}", f.pts);
    }
}

fn picture(path: &Path, n: usize, w: u32, h: u32) {
    RgbImage::from_fn(w, h, |x, y| {
        if x < w / 3 && y < h / 3 { image::Rgb([230, 10, 10]) } else { image::Rgb([grey(n); 3]) }
    })
    .save(path)
    .unwrap();
}

fn stills(dir: &Path) -> Box<Stills> {
    let inputs = discover_inputs(&[dir.to_owned()]).unwrap();
    let [Input::Stills { folder, files }] = inputs.as_slice() else { panic!("{inputs:?}") };
    Box::new(Stills::open(folder, files.clone(), (10, 1), Span::default()).unwrap())
}

fn records(report: &Path) -> Vec<FrameRecord> {
    std::fs::read_to_string(report.join("frames.jsonl"))
        .unwrap()
        .lines()
        .inspect(|l| assert_is("replay-frames", &serde_json::from_str(l).unwrap()))
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn a_folder_of_pictures_is_played_as_people_count() {
    let (_keep, dir) = folder();
    let pictures = dir.join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    // Natural order is not the alphabet's.
    for n in (0..12).rev() {
        picture(&pictures.join(format!("f{n}.png")), n, 96, 64);
    }
    let (output, report) = (dir.join("out.mp4"), dir.join("report"));
    let summary = run(stills(&pictures), settings(Some(&output), Some(&report))).unwrap();
    assert_eq!((summary.frames.written, summary.partial_reason), (12, None));
    let out = decode(&output);
    assert_eq!(out.frames.len(), 12);
    for (i, f) in out.frames.iter().enumerate() {
        assert!(f.pts.abs_diff(i as u64 * 100 * MS) < MS, "frame {i} at {}", f.pts);
        // Grey in code values of limited range.
        let y = 16.0 + f64::from(grey(i)) * 219.0 / 255.0;
        assert!((f.grey - y).abs() < 6.0, "frame {i} is {}, not {y}", f.grey);
    }
    // What browsers and hardware decoders play.
    assert_eq!(out.info.format(), gstreamer_video::VideoFormat::I420);
    assert!(records(&report).iter().all(|r| r.polyps.len() == 1), "the red corner is found on every frame");
}

#[test]
fn pictures_of_odd_or_other_sizes_and_unreadable_ones() {
    let (_keep, dir) = folder();
    let pictures = dir.join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    picture(&pictures.join("1.png"), 0, 97, 65);
    std::fs::write(pictures.join("2.png"), b"not a picture").unwrap();
    picture(&pictures.join("3.bmp"), 1, 200, 40);
    picture(&pictures.join("4.jpg"), 2, 20, 90);
    let output = dir.join("out.mp4");
    let summary = run(stills(&pictures), settings(Some(&output), None)).unwrap();
    assert_eq!((summary.frames.written, summary.partial), (3, true));
    let why = summary.partial_reason.unwrap();
    assert!(why.contains("1 of 4 pictures could not be read") && why.contains("2.png"), "{why}");
    assert!(why.contains("97x65 to 200x40"), "{why}");
    let out = decode(&output);
    assert_eq!((out.info.width(), out.info.height(), out.frames.len()), (98, 66, 3));
}

#[test]
fn a_folder_with_nothing_readable_says_so() {
    let (_keep, dir) = folder();
    let pictures = dir.join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    std::fs::write(pictures.join("1.png"), b"").unwrap();
    let e = run(stills(&pictures), settings(Some(&dir.join("out.mp4")), None)).unwrap_err().to_string();
    assert!(e.contains("1.png: is empty; copy it again"), "{e}");
    assert_eq!(listing(&dir), ["pictures"]);
}

#[test]
fn masks_are_pictures_of_the_sources_size() {
    let (_keep, dir) = folder();
    let input = write(&dir.join("a.mp4"), "mp4mux", Some(&Moving::h264(5)), None);
    let report = dir.join("report");
    let mut settings = settings(None, Some(&report));
    settings.masks = true;
    let summary = replay_file(&input, Span::default(), settings).unwrap();
    assert_eq!(summary.frames.written, 5);
    let masks = report.join("masks");
    assert_eq!(listing(&masks), ["000000.png", "000001.png", "000002.png", "000003.png", "000004.png"]);
    for (n, record) in records(&report).iter().enumerate() {
        let mask = image::open(masks.join(format!("{n:06}.png"))).unwrap().to_luma8();
        assert_eq!(mask.dimensions(), (96, 64));
        assert!(mask.pixels().all(|p| p.0[0] == 0 || p.0[0] == 255));
        let area = mask.pixels().filter(|p| p.0[0] == 255).count() as u64;
        assert!(area > 50 && area == record.area_px, "frame {n}: {area} and {}", record.area_px);
    }
}

#[test]
fn replaying_twice_gives_the_same_bytes() {
    let (_keep, dir) = folder();
    let input = write(&dir.join("a.mp4"), "mp4mux", Some(&Moving::h264(12)), None);
    let stop = Arc::new(AtomicBool::new(false));
    let mut kept = Some(segmenter());
    let mut results = Vec::new();
    for n in 0..2 {
        let output = dir.join(format!("{n}.mkv"));
        let facts = polypscope::capture::Facts::discover(&input).unwrap();
        let source = polypscope::capture::Recording::open(facts, Span::default(), None).unwrap();
        let report = dir.join(format!("r{n}"));
        let (_, back) = replay(
            Box::new(source),
            kept.take().unwrap(),
            settings(Some(&output), Some(&report)),
            &stop,
            &mut |_| {},
        )
        .unwrap();
        kept = back;
        let frames: Vec<_> = decode(&output).frames;
        let records: Vec<_> = records(&report)
            .into_iter()
            .map(|r| FrameRecord { timings_us: Default::default(), ..r })
            .collect();
        results.push((frames, records));
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn stopping_leaves_a_valid_file_that_says_it_is_partial() {
    let (_keep, dir) = folder();
    let input = write(&dir.join("a.mp4"), "mp4mux", Some(&Moving::h264(200)), None);
    let facts = polypscope::capture::Facts::discover(&input).unwrap();
    let source = polypscope::capture::Recording::open(facts, Span::default(), None).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let (output, report) = (dir.join("out.mp4"), dir.join("report"));
    let (summary, segmenter) =
        replay(Box::new(source), segmenter(), settings(Some(&output), Some(&report)), &stop, &mut |p| {
            if p.frames == 10 {
                flag.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        })
        .unwrap();
    assert!(segmenter.is_some());
    assert_eq!((summary.partial, summary.partial_reason.as_deref()), (true, Some("interrupted")));
    let n = summary.frames.written;
    assert!((10..150).contains(&n), "{n}");
    assert_eq!(summary.frames.read, n);
    assert_eq!(decode(&output).frames.len() as u64, n);
    assert_eq!(records(&report).len() as u64, n);
}

/// Recorders' endings: what is a video by its content is replayed, what is none is named once with its reason, and what
/// could make a reader wait is not read.
#[test]
fn a_folders_videos_are_told_by_their_content() {
    let (_keep, dir) = folder();
    let videos = dir.join("videos");
    std::fs::create_dir(&videos).unwrap();
    let at = |n: &str| videos.join(n);
    let recorded = [
        ("a.mp4", "mp4mux"),
        ("c.trp", "mpegtsmux"),
        ("d.f4v", "mp4mux"),
        ("e.MOD", "mpegtsmux"),
        ("f.qt", "qtmux"),
        ("g.mk3d", "matroskamux"),
        ("no ending", "avimux"),
    ];
    for (name, muxer) in recorded {
        write(&at(name), muxer, Some(&Moving::h264(3)), None);
    }
    write(
        &at("sound.m4b"),
        "mp4mux",
        None,
        Some(&crate::common::recordings::Sound::new("voaacenc ! aacparse", 400)),
    );
    for beside in ["a.jsonl", "a.srt", "Thumbs.db", "DICOMDIR", "notes.txt", ".hidden.trp"] {
        std::fs::write(at(beside), "words").unwrap();
    }
    std::fs::write(at("archive.zip"), b"PK\x03\x04\x14\0\0\0\x08\0").unwrap();
    std::fs::write(at("empty.trp"), b"").unwrap();
    std::fs::create_dir(at("folder.mp4")).unwrap();
    std::fs::create_dir(at("more")).unwrap();
    std::os::unix::fs::symlink("circle.mp4", at("circle.mp4")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zeros.mp4")).unwrap();
    std::os::unix::fs::symlink("a.mp4", at("h.mp4")).unwrap();
    let pipe = std::ffi::CString::new(at("pipe.mp4").to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);

    let found = discover(std::slice::from_ref(&videos)).unwrap();
    let named = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
    let mut played: Vec<_> = found.inputs.iter().map(|i| named(i.path())).collect();
    played.sort();
    assert_eq!(played, ["a.mp4", "c.trp", "d.f4v", "e.MOD", "f.qt", "g.mk3d", "h.mp4", "no ending"]);
    let skipped: Vec<_> = found.skipped.iter().map(|s| (named(&s.path), &s.reason)).collect();
    for (name, reason) in [
        ("circle.mp4", &SkipReason::BrokenLink),
        ("empty.trp", &SkipReason::Empty),
        ("folder.mp4", &SkipReason::Folder),
        ("pipe.mp4", &SkipReason::NoFile),
        ("zeros.mp4", &SkipReason::NoFile),
    ] {
        assert!(skipped.contains(&(name.to_owned(), reason)), "{name}: {skipped:?}");
    }
    let others: Vec<_> = skipped
        .iter()
        .filter(|(_, r)| matches!(r, SkipReason::NoVideo(Some(_))))
        .map(|(n, _)| n.as_str())
        .collect();
    assert_eq!((others, skipped.len()), (vec!["archive.zip", "sound.m4b"], 7), "{skipped:?}");
    assert!(found.is_partial(), "a link that leads nowhere may have been a recording");
    for (name, words) in [("pipe.mp4", "is a pipe or a device"), ("zeros.mp4", "is a pipe or a device")] {
        let e = discover_inputs(&[at(name)]).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
}
