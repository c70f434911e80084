//! Recordings that are damaged or only look so: every lost frame keeps its number and is said, and nothing else is.

use std::path::{Path, PathBuf};

use polypscope::capture::{LossReason, Span};
use polypscope::frame::Nanos;
use polypscope::replay::record::{FrameRecord, Summary};

use crate::common::field_coded::field_coded;
use crate::common::recordings::{MS, Moving, Sound, decode, write};
use crate::common::schema::assert_is;
use crate::{folder, replay_file, settings};

const INTRA: &str = "x264enc speed-preset=ultrafast key-int-max=1 bframes=0 bitrate=4000 ! h264parse";
const GROUPS: &str =
    "x264enc speed-preset=ultrafast key-int-max=5 bframes=2 b-adapt=false bitrate=4000 ! h264parse";
const JPEG: &str = "jpegenc quality=95";

fn report_of(input: &Path) -> PathBuf {
    input.with_file_name(format!("{} report", input.file_name().unwrap().to_str().unwrap()))
}

fn replayed(input: &Path, span: Span) -> (Summary, Vec<FrameRecord>) {
    let report = report_of(input);
    let summary = replay_file(input, span, settings(None, Some(&report)))
        .unwrap_or_else(|e| panic!("{}: {e}", input.display()));
    let said = std::fs::read_to_string(report.join("summary.json")).unwrap();
    assert_is("replay-summary", &serde_json::from_str(&said).unwrap());
    let lines = std::fs::read_to_string(report.join("frames.jsonl")).unwrap();
    for line in lines.lines() {
        assert_is("replay-frames", &serde_json::from_str(line).unwrap());
    }
    let records = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (summary, records)
}

/// Nothing is said to be lost.
fn whole(input: &Path, frames: u64) {
    let (summary, records) = replayed(input, Span::default());
    let name = input.display();
    assert_eq!(summary.partial_reason, None, "{name}");
    assert_eq!((summary.losses.len(), summary.lost_frames), (0, 0), "{name}");
    assert_eq!(summary.frames.written, frames, "{name}");
    let numbers: Vec<u64> = records.iter().map(|r| r.frame).collect();
    assert_eq!(numbers, (0..frames).collect::<Vec<_>>(), "{name}");
}

/// Something is lost, all of it is counted, and every frame that came has the number that its time gives it.
fn damaged(input: &Path, frames: u64) -> Summary {
    let (summary, records) = replayed(input, Span::default());
    let name = input.display();
    let why = summary
        .partial_reason
        .clone()
        .unwrap_or_else(|| panic!("{name}: {} frames of {frames} and no word of it", summary.frames.written));
    assert!(summary.partial && why.contains(input.file_name().unwrap().to_str().unwrap()), "{name}: {why}");
    assert!(!summary.losses.is_empty(), "{name}: {why}");
    let zero = records[0].pts_ns - records[0].frame * 40 * MS;
    for r in &records {
        let number = (r.pts_ns - zero + 20 * MS) / (40 * MS);
        assert_eq!(r.frame, number, "{name}: a frame at {} ms has number {}; {why}", r.pts_ns / MS, r.frame);
    }
    // Numbers that no record has are all among the losses.
    let last = records.last().unwrap().frame;
    let skipped = last + 1 - records.len() as u64;
    let before_last: u64 = summary
        .losses
        .iter()
        .filter(|l| l.reason.takes_numbers() && l.frame.is_some_and(|f| f < last))
        .filter_map(|l| l.frames)
        .sum();
    assert_eq!(skipped, before_last, "{name}: {:?}", summary.losses);
    let page = std::fs::read_to_string(report_of(input).join("report.html")).unwrap();
    assert!(page.contains("class=\"lost\""), "{name}: the timeline shows it");
    summary
}

fn zero(path: &Path, from: f64, to: f64) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = |share: f64| (bytes.len() as f64 * share) as usize;
    let (from, to) = (place(from), place(to));
    bytes[from..to].fill(0);
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, share: f64) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
}

fn clip(dir: &Path, name: &str, muxer: &str, encoder: &str, frames: usize) -> PathBuf {
    write(&dir.join(name), muxer, Some(&Moving::new(encoder, "I420", frames)), None)
}

#[test]
fn zeroed_frames_are_counted_and_keep_their_numbers() {
    for (name, muxer, encoder) in [
        ("a.mp4", "mp4mux", INTRA),
        ("b.mp4", "mp4mux", GROUPS),
        ("c.avi", "avimux", "avenc_mpeg4 bitrate=4000000 ! mpeg4videoparse"),
        ("a.mov", "qtmux", JPEG),
        ("a.avi", "avimux", JPEG),
        ("b.avi", "avimux", INTRA),
        ("a.mkv", "matroskamux", JPEG),
        ("b.mkv", "matroskamux", INTRA),
        ("a.ts", "mpegtsmux", INTRA),
        ("a.flv", "flvmux", INTRA),
    ] {
        let (_keep, dir) = folder();
        let input = clip(&dir, name, muxer, encoder, 60);
        zero(&input, 0.4, 0.6);
        let summary = damaged(&input, 60);
        let n = summary.frames.written;
        assert!((18..58).contains(&n), "{name}: {n}");
        // Where the rest of the file could be read, nothing is left uncounted.
        if matches!(name, "a.mp4" | "b.mp4" | "c.avi" | "a.mov" | "a.avi" | "b.avi") {
            assert_eq!(n + summary.lost_frames, 60, "{name}: {:?}", summary.losses);
        }
    }
}

#[test]
fn a_lost_first_frame_keeps_its_number_too() {
    let (_keep, dir) = folder();
    let input = clip(&dir, "a.mov", "qtmux", JPEG, 12);
    let mut bytes = std::fs::read(&input).unwrap();
    let at = bytes.windows(3).position(|w| w == [0xff, 0xd8, 0xff]).unwrap();
    bytes[at..at + 400].fill(0);
    std::fs::write(&input, bytes).unwrap();
    let (summary, records) = replayed(&input, Span::default());
    assert_eq!((records[0].frame, records[0].pts_ns, records.len()), (1, 40 * MS, 11));
    assert_eq!((summary.lost_frames, summary.losses[0].frame), (1, Some(0)));
}

#[test]
fn every_frame_at_the_end_that_does_not_come_is_counted() {
    let (_keep, dir) = folder();
    let input = clip(&dir, "a.mov", "qtmux faststart=true", JPEG, 40);
    cut(&input, 0.7);
    let summary = damaged(&input, 40);
    assert_eq!(summary.frames.written + summary.lost_frames, 40, "{:?}", summary.losses);
    assert!(summary.losses.iter().any(|l| l.reason == LossReason::CutOff), "{:?}", summary.losses);

    // Fragments have no index of all that was to come.
    let input = clip(&dir, "b.mp4", "mp4mux fragment-duration=400 streamable=true", INTRA, 60);
    for share in [0.5, 0.62, 0.83, 0.97] {
        let part = dir.join(format!("{share}.mp4"));
        std::fs::copy(&input, &part).unwrap();
        cut(&part, share);
        let why = damaged(&part, 60).partial_reason.unwrap();
        assert!(why.contains("cut off at 0:00:0"), "{share}: {why}");
    }
    for (name, muxer) in
        [("a.flv", "flvmux"), ("a.ts", "mpegtsmux"), ("a.avi", "avimux"), ("a.mkv", "matroskamux")]
    {
        let input = clip(&dir, name, muxer, INTRA, 60);
        cut(&input, 0.613);
        damaged(&input, 60);
    }
}

#[test]
fn packets_that_a_transport_stream_lost_are_missed() {
    let (_keep, dir) = folder();
    let input = clip(&dir, "a.ts", "mpegtsmux", INTRA, 60);
    let mut bytes = std::fs::read(&input).unwrap();
    let from = bytes.len() / 188 / 2 * 188;
    bytes.drain(from..from + 188 * (bytes.len() / 188 / 8));
    std::fs::write(&input, bytes).unwrap();
    let summary = damaged(&input, 60);
    assert!((4..12).contains(&summary.lost_frames), "{:?}", summary.losses);
}

#[test]
fn a_hole_in_a_steady_rate_is_missed_and_a_variable_rate_has_none() {
    let (_keep, dir) = folder();
    let mut moving = Moving::new(JPEG, "I420", 0);
    moving.times = (0..40).chain(47..60).map(|n| n * 40 * MS).collect();
    let input = write(&dir.join("hole.mkv"), "matroskamux", Some(&moving), None);
    let summary = damaged(&input, 60);
    assert_eq!((summary.lost_frames, summary.losses[0].reason), (7, LossReason::Missing));
    assert_eq!((summary.losses[0].frame, summary.losses[0].at_ns), (Some(40), 1600 * MS));
    // The same times in a container that says how long each frame is shown: one is shown for long.
    whole(&write(&dir.join("hole.mov"), "qtmux", Some(&moving), None), 53);
    // No steady rate, no hole.
    moving.times = (0..50).map(|n| n * 40 * MS + (n / 6) * 110 * MS).collect();
    whole(&write(&dir.join("variable.mkv"), "matroskamux", Some(&moving), None), 50);
}

#[test]
fn the_picture_is_judged_by_its_own_track() {
    let (_keep, dir) = folder();
    for (name, muxer, codec) in [
        ("a.mp4", "mp4mux", "voaacenc ! aacparse"),
        ("a.mkv", "matroskamux", "voaacenc ! aacparse"),
        ("a.avi", "avimux", "identity"),
    ] {
        let moving = Moving::new(INTRA, "I420", 20);
        whole(&write(&dir.join(name), muxer, Some(&moving), Some(&Sound::new(codec, 2000))), 20);
    }
}

#[test]
fn whole_recordings_of_all_kinds_are_whole() {
    let (_keep, dir) = folder();
    for (i, (muxer, ending, encoder)) in [
        ("mp4mux", "mp4", GROUPS),
        ("matroskamux", "mkv", GROUPS),
        ("matroskamux streamable=true", "mkv", GROUPS),
        ("mpegtsmux", "ts", GROUPS),
        ("flvmux", "flv", INTRA),
        ("avimux", "avi", "avenc_mpeg4 bitrate=4000000 max-bframes=2 ! mpeg4videoparse"),
        ("mp4mux fragment-duration=300 streamable=true", "mp4", GROUPS),
        ("matroskamux", "mkv", "x265enc speed-preset=ultrafast log-level=none ! h265parse"),
        ("webmmux", "webm", "vp9enc deadline=1 cpu-used=8 lag-in-frames=12 auto-alt-ref=true"),
        ("webmmux", "webm", "vp8enc deadline=100000 cpu-used=2 lag-in-frames=12 auto-alt-ref=true"),
        ("mpegpsmux", "mpg", "mpeg2enc format=3 bitrate=4000 ! mpegvideoparse"),
        ("oggmux", "ogv", "theoraenc"),
        ("asfmux", "wmv", "avenc_wmv2"),
    ]
    .into_iter()
    .enumerate()
    {
        whole(&clip(&dir, &format!("{i}.{ending}"), muxer, encoder, 40), 40);
    }
    let mut interlaced =
        Moving::new("x264enc speed-preset=ultrafast interlaced=true ! h264parse", "I420", 20);
    interlaced.top_first = Some(true);
    whole(&write(&dir.join("interlaced.mkv"), "matroskamux", Some(&interlaced), None), 20);
}

#[test]
fn pictures_stored_as_two_fields_are_one_each() {
    let (_keep, dir) = folder();
    std::fs::write(dir.join("fields.h264"), field_coded(20)).unwrap();
    let input = dir.join("fields.ts");
    let words = format!(
        "filesrc location={} ! h264parse ! mpegtsmux ! filesink location={}",
        dir.join("fields.h264").display(),
        input.display()
    );
    crate::common::recordings::play(&words);
    whole(&input, 20);
}

#[test]
fn a_recording_that_begins_in_the_middle_of_a_group_is_whole() {
    let (_keep, dir) = folder();
    for (name, encoder) in [
        ("a.ts", GROUPS),
        (
            "b.ts",
            "x264enc speed-preset=ultrafast key-int-max=12 bframes=2 b-adapt=false option-string=open-gop=1 ! h264parse",
        ),
        ("c.ts", "mpeg2enc format=3 bitrate=4000 ! mpegvideoparse"),
    ] {
        let input = clip(&dir, name, "mpegtsmux", encoder, 60);
        let bytes = std::fs::read(&input).unwrap();
        let from = bytes.len() / 188 / 3 * 188;
        // The tables come first, then the stream from its middle on.
        std::fs::write(&input, [&bytes[..3 * 188], &bytes[from..]].concat()).unwrap();
        let (summary, _) = replayed(&input, Span::default());
        assert!(summary.frames.written > 20, "{name}");
        assert_eq!(summary.lost_frames, 0, "{name}: {:?}", summary.losses);
    }
}

/// Writes another beginning into the edit list of an MP4 (ISO 14496-12, 8.6.6).
fn trim(path: &Path, by_ms: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    let list = bytes.windows(4).position(|w| w == b"elst").unwrap();
    let media = bytes.windows(4).position(|w| w == b"mdhd").unwrap();
    let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let scale = field(media + 16);
    let begin = field(list + 16) + scale * by_ms / 1000;
    bytes[list + 16..list + 20].copy_from_slice(&begin.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn frames_before_the_presentation_are_not_counted() {
    for (by, left) in [(20, 39), (40, 39), (100, 37)] {
        let (_keep, dir) = folder();
        let input = clip(&dir, "a.mp4", "mp4mux", GROUPS, 40);
        trim(&input, by);
        whole(&input, left);
    }
}

/// Writes how long the last frame is shown into the table of times of an MP4 (ISO 14496-12, 8.6.1.2).
fn last_lasts(path: &Path, ms: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    let table = bytes.windows(4).position(|w| w == b"stts").unwrap();
    let media = bytes.windows(4).position(|w| w == b"mdhd").unwrap();
    let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let last = table + 12 + 8 * (field(table + 8) as usize - 1);
    assert_eq!(field(last), 1, "the last frame has an entry of its own");
    let duration = field(media + 16) * ms / 1000;
    let mut changes = vec![(last + 4, duration)];
    // The lengths of the medium, the film, the track and its edit, which counted it as nothing.
    let film = bytes.windows(4).position(|w| w == b"mvhd").unwrap();
    let longer = field(film + 16) * ms / 1000;
    for (name, at, by) in
        [(b"mdhd", 20, duration), (b"mvhd", 20, longer), (b"tkhd", 24, longer), (b"elst", 12, longer)]
    {
        if let Some(place) = bytes.windows(4).position(|w| w == name) {
            changes.push((place + at, field(place + at) + by));
        }
    }
    for (at, value) in changes {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_last_frame_lasts_as_long_as_its_container_says() {
    let (_keep, dir) = folder();
    let mut moving = Moving::h264(0);
    moving.times = [0, 40, 80, 600, 620, 640, 700].map(|ms| ms * MS).to_vec();
    moving.encoder = "x264enc speed-preset=ultrafast bframes=0 ! h264parse".into();
    moving.fps = (0, 1);
    let input = write(&dir.join("a.mp4"), "mp4mux", Some(&moving), None);
    last_lasts(&input, 40);
    let output = dir.join("out.mp4");
    let summary =
        replay_file(&input, Span::default(), settings(Some(&output), Some(&dir.join("report")))).unwrap();
    assert!((summary.duration_ms - 740.0).abs() < 1.0, "{}", summary.duration_ms);
    assert_eq!(decode(&output).frames.len(), 7);
}

#[test]
fn a_span_counts_only_its_own_losses() {
    let (_keep, dir) = folder();
    let input = clip(&dir, "a.avi", "avimux", JPEG, 60);
    zero(&input, 0.5, 0.6);
    let span = |from: u64, to: u64| Span { from: Some(Nanos(from * MS)), to: Some(Nanos(to * MS)) };
    let (before, _) = replayed(&input, span(200, 800));
    assert_eq!((before.partial, before.frames.written, before.lost_frames), (false, 15, 0));
    std::fs::remove_dir_all(report_of(&input)).unwrap();
    let (across, records) = replayed(&input, span(1000, 1800));
    assert!(across.partial && across.lost_frames > 3, "{:?}", across.losses);
    assert_eq!(across.frames.written + across.lost_frames, 20);
    assert!(records.iter().all(|r| r.frame == (r.pts_ns - 1000 * MS) / (40 * MS)));
}
