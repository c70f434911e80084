//! The binary itself: what it says, how it exits, and what it leaves behind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::common::recordings::{Moving, Sound, decode, write};
use crate::common::schema::assert_is;
use crate::{folder, listing};

fn command(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_polypscope"));
    c.args(args)
        .env_remove("RUST_LOG")
        .env_remove("GST_DEBUG")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    c
}

fn polypscope(dir: &Path, args: &[&str]) -> Output {
    command(args).current_dir(dir).output().unwrap()
}

fn text(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

/// Failed with this code and one sentence that holds these words; nobody dumped anything.
fn refused(o: &Output, code: i32, words: &[&str]) {
    let said = text(o);
    assert_eq!(o.status.code(), Some(code), "{said}");
    for w in words {
        assert!(said.contains(w), "{w:?} is not in {said:?}");
    }
    quiet(&said);
    assert!(
        said.starts_with("error: ") && said.trim_end().lines().count() == 1,
        "more than one sentence: {said}"
    );
}

/// No panic, no GStreamer, no GLib.
fn quiet(said: &str) {
    for w in ["panicked", "GStreamer-", "GLib", "gst", "0x", "CRITICAL", "Additional debug info"] {
        assert!(!said.contains(w), "{w} in {said}");
    }
}

fn clip(dir: &Path, name: &str, frames: usize) -> PathBuf {
    let muxer = if name.ends_with("mkv") { "matroskamux" } else { "mp4mux faststart=true" };
    write(&dir.join(name), muxer, Some(&Moving::h264(frames)), None)
}

fn half(path: &Path, name: &str) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path.with_file_name(name), &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn what_is_no_recording_gets_its_sentence() {
    let (_keep, dir) = folder();
    let d = dir.as_path();
    std::fs::write(d.join("empty.mp4"), "").unwrap();
    std::fs::write(d.join("notes.txt"), "a text, and no video, however long one reads on\n".repeat(50))
        .unwrap();
    std::fs::write(d.join("noise.mp4"), (0..9000u32).map(|i| (i * i % 251) as u8).collect::<Vec<_>>())
        .unwrap();
    write(&d.join("sound.m4a"), "mp4mux", None, Some(&Sound::new("voaacenc ! aacparse", 400)));
    image::RgbImage::new(64, 64).save(d.join("still.png")).unwrap();
    image::RgbImage::new(64, 64).save(d.join("still.jpg")).unwrap();
    // The index of a plain MP4 is at its end.
    let whole = write(&d.join("whole.mp4"), "mp4mux", Some(&Moving::h264(20)), None);
    half(&whole, "truncated.mp4");
    // A recorder that lost its power after the data: whole boxes, and no index.
    let bytes = std::fs::read(&whole).unwrap();
    let index = bytes.windows(4).position(|w| w == b"moov").unwrap() - 4;
    std::fs::write(d.join("no-index.mp4"), &bytes[..index]).unwrap();
    // Heads alone, at which demuxers and decoders fail each in its own way.
    for (name, muxer) in [("head.mkv", "matroskamux"), ("head.avi", "avimux"), ("head.ts", "mpegtsmux")] {
        let whole = write(&d.join(name), muxer, Some(&Moving::h264(20)), None);
        let bytes = std::fs::read(&whole).unwrap();
        std::fs::write(&whole, &bytes[..900]).unwrap();
    }
    std::fs::create_dir(d.join("nothing")).unwrap();
    let before = listing(d);
    for (input, words) in [
        ("missing.mp4", &["missing.mp4", "cannot be read (no such file or directory)", "check the path"][..]),
        ("empty.mp4", &["empty.mp4: is empty", "copy or export it again"]),
        ("notes.txt", &["notes.txt: is not a video"]),
        ("noise.mp4", &["noise.mp4: is not a video"]),
        ("sound.m4a", &["sound.m4a: has sound but no picture", "give a video file"]),
        ("still.png", &["still.png: is a still picture", "polypscope segment"]),
        ("still.jpg", &["still.jpg: is a still picture", "polypscope segment"]),
        ("truncated.mp4", &["truncated.mp4", "cut off", "copy or export it again"]),
        ("no-index.mp4", &["no-index.mp4: has no index", "cut off", "copy or export it again"]),
        ("head.mkv", &["head.mkv: is damaged or cut off", "copy or export it again"]),
        ("head.avi", &["head.avi: is damaged or cut off", "copy or export it again"]),
        ("head.ts", &["head.ts: is damaged or cut off", "copy or export it again"]),
        ("nothing", &["nothing: holds neither videos nor pictures"]),
        ("/dev/null", &["/dev/null: is a pipe or a device"]),
    ] {
        let o = polypscope(d, &["replay", input, "--output", "out.mp4", "--report", "report"]);
        refused(&o, 1, words);
        assert!(o.stdout.is_empty(), "{input}");
        assert_eq!(listing(d), before, "{input}: nothing is left behind");
    }
}

#[test]
fn wrong_usage_exits_with_two() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 4);
    for args in [
        &["replay"][..],
        &["replay", "a.mp4"],
        &["replay", "a.mp4", "--output", "out.txt"],
        &["replay", "a.mp4", "--output", "out.mp4", "--masks"],
        &["replay", "a.mp4", "--output", "out.mp4", "--threshold", "2"],
        &["replay", "a.mp4", "--output", "out.mp4", "--alpha", "-1"],
        &["replay", "a.mp4", "--output", "out.mp4", "--from", "3", "--to", "2"],
        &["replay", "a.mp4", "--output", "out.mp4", "--from", "soon"],
        &["replay", "a.mp4", "--output", "out.mp4", "--field-of-view", "1,2,3"],
        &["replay", "a.mp4", "--output", "out.mp4", "--fps", "0"],
        &["replay", "a.mp4", "--output", "out.mp4", "--nonsense"],
        &["replay", "a.mp4", "--output", "."],
        &["nonsense"],
    ] {
        let o = polypscope(&dir, args);
        assert_eq!(o.status.code(), Some(2), "{args:?}: {}", text(&o));
        quiet(&text(&o));
        assert_eq!(listing(&dir), ["a.mp4"], "{args:?}");
    }
}

#[test]
fn outputs_that_cannot_be_get_their_sentence_and_cost_nothing() {
    let (_keep, dir) = folder();
    let d = dir.as_path();
    let input = clip(d, "a.mp4", 4);
    let bytes = std::fs::read(&input).unwrap();
    std::fs::write(d.join("there.mp4"), "precious").unwrap();
    std::fs::hard_link(&input, d.join("hard.mp4")).unwrap();
    std::os::unix::fs::symlink("a.mp4", d.join("soft.mp4")).unwrap();
    std::fs::create_dir_all(d.join("old")).unwrap();
    std::fs::write(d.join("old/summary.json"), "precious").unwrap();
    std::fs::create_dir(d.join("folder.mp4")).unwrap();
    let before = listing(d);
    for (args, code, words) in [
        (&["--output", "there.mp4"][..], 1, &["there.mp4: exists already", "--force"][..]),
        (&["--output", "a.mp4"], 2, &["a.mp4: is the input itself", "choose another --output"]),
        (&["--output", "a.mp4", "--force"], 2, &["a.mp4: is the input itself"]),
        (&["--output", "hard.mp4", "--force"], 2, &["hard.mp4: is the input itself"]),
        (&["--output", "soft.mp4", "--force"], 2, &["soft.mp4: is the input itself"]),
        (&["--output", "there.mp4/out.mp4"], 1, &["there.mp4/out.mp4"]),
        (&["--output", "none/out.mp4"], 1, &["none/out.mp4: there is no folder none", "create it"]),
        (&["--output", "folder.mp4", "--force"], 2, &["folder.mp4: is a folder"]),
        (&["--output", "folder.mp4"], 2, &["folder.mp4: is a folder"]),
        (&["--report", "old"], 1, &["old/summary.json", "--force"]),
        (&["--report", "there.mp4/report"], 1, &["there.mp4"]),
        (&["--output", "/proc/out.mp4"], 1, &["/proc/out.mp4: cannot be written"]),
        (&["--report", "/proc/report"], 1, &["/proc/report: cannot be written"]),
    ] {
        let o = polypscope(d, &[&["replay", "a.mp4"], args].concat());
        refused(&o, code, words);
        assert_eq!(listing(d), before, "{args:?}: nothing is left behind");
        assert_eq!(listing(&d.join("old")), ["summary.json"], "{args:?}");
        assert_eq!(std::fs::read(&input).unwrap(), bytes, "{args:?}");
        assert_eq!(std::fs::read_to_string(d.join("there.mp4")).unwrap(), "precious", "{args:?}");
    }
}

#[test]
fn one_inputs_output_never_replaces_another_input() {
    let (_keep, dir) = folder();
    let d = dir.as_path();
    clip(d, "a.mkv", 4);
    let second = clip(d, "a.mp4", 4);
    let bytes = std::fs::read(&second).unwrap();
    let o = polypscope(d, &["replay", "a.mkv", "a.mp4", "--output", ".", "--force"]);
    assert_eq!(std::fs::read(&second).unwrap(), bytes, "an input was overwritten: {}", text(&o));
    refused(&o, 2, &["a.mp4: is the input itself"]);
    assert_eq!(listing(d), ["a.mkv", "a.mp4"]);
}

#[test]
fn a_bad_checkpoint_gets_its_sentence() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 4);
    std::fs::write(dir.join("broken.safetensors"), [9u8; 4000]).unwrap();
    std::fs::write(dir.join("broken.pth"), "no zip at all").unwrap();
    let before = listing(&dir);
    for weights in ["missing.safetensors", "broken.safetensors", "broken.pth", "a.mp4"] {
        let o = polypscope(&dir, &["replay", "a.mp4", "--output", "out.mp4", "--weights", weights]);
        refused(&o, 1, &[weights]);
        assert_eq!(listing(&dir), before, "{weights}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The shipped network on three small recordings: one whole, one cut off, one that is none; results in folders.
#[test]
fn several_inputs_each_get_their_results_and_private_files() {
    let (_keep, dir) = folder();
    let d = dir.as_path();
    std::fs::create_dir(d.join("in")).unwrap();
    clip(&d.join("in"), "a.mp4", 3);
    std::fs::write(d.join("in/b.mp4"), "no video at all, and none to come, whatever one does\n".repeat(9))
        .unwrap();
    clip(&d.join("in"), "c.mkv", 3);
    let o = polypscope(d, &["replay", "in", "--output", "out", "--report", "reports", "--masks"]);
    refused(&o, 1, &["1 of 3 inputs could not be replayed", "b.mp4"]);
    assert_eq!(listing(&d.join("out")), ["a.mp4", "c.mp4"]);
    assert_eq!(listing(&d.join("reports")), ["a", "c"]);
    assert_eq!(listing(&d.join("reports/a")), ["frames.jsonl", "masks", "report.html", "summary.json"]);
    for folder in ["out", "reports", "reports/a", "reports/a/masks"] {
        assert_eq!(mode(&d.join(folder)), 0o700, "{folder}");
    }
    for file in [
        "out/a.mp4",
        "reports/a/report.html",
        "reports/a/summary.json",
        "reports/a/frames.jsonl",
        "reports/a/masks/000000.png",
    ] {
        assert_eq!(mode(&d.join(file)), 0o600, "{file}");
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(d.join("reports/c/summary.json")).unwrap()).unwrap();
    assert_is("replay-summary", &summary);
    assert_eq!(summary["frames"], serde_json::json!({"read": 3, "written": 3}));
    assert_eq!(summary["partial"], false);
    assert_eq!(decode(&d.join("out/c.mp4")).frames.len(), 3);
}

#[test]
fn what_the_decoder_complained_of_is_said() {
    let (_keep, dir) = folder();
    let moving = Moving::new("avenc_mpeg4 bitrate=4000000 ! mpeg4videoparse", "I420", 16);
    let input = write(&dir.join("a.avi"), "avimux", Some(&moving), None);
    // Part of one picture: the decoder conceals it and gives it out as whole.
    let mut bytes = std::fs::read(&input).unwrap();
    let middle = bytes.windows(4).position(|w| w == b"movi").unwrap() + bytes.len() / 2;
    bytes[middle..middle + 60].fill(0);
    std::fs::write(&input, bytes).unwrap();
    let o = polypscope(&dir, &["replay", "a.avi", "--report", "report", "--json"]);
    assert_eq!(o.status.code(), Some(3), "{}", text(&o));
    quiet(&text(&o));
    assert!(text(&o).contains("the result is partial: a.avi: "), "{}", text(&o));
    let summary: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert!(!summary["losses"].as_array().unwrap().is_empty(), "{summary}");
}

#[test]
fn a_recording_cut_off_exits_with_three() {
    let (_keep, dir) = folder();
    let mut moving = Moving::h264(16);
    moving.encoder = "x264enc speed-preset=ultrafast key-int-max=1 bframes=0 bitrate=4000 ! h264parse".into();
    let whole = write(&dir.join("whole.mkv"), "matroskamux", Some(&moving), None);
    half(&whole, "half.mkv");
    let o = polypscope(&dir, &["replay", "half.mkv", "--output", "out.mp4", "--report", "report"]);
    assert_eq!(o.status.code(), Some(3), "{}", text(&o));
    quiet(&text(&o));
    let out = String::from_utf8_lossy(&o.stdout).into_owned();
    assert!(out.contains("partial") && out.contains("half.mkv: is cut off"), "{out}");
    let n = decode(&dir.join("out.mp4")).frames.len();
    assert!((4..14).contains(&n), "{n}");
    // --force replaces both; a run that fails keeps both.
    let (video, page) =
        (std::fs::read(dir.join("out.mp4")).unwrap(), std::fs::read(dir.join("report/report.html")).unwrap());
    let before = listing(&dir);
    let o = polypscope(
        &dir,
        &[
            "replay",
            "half.mkv",
            "--output",
            "out.mp4",
            "--report",
            "report",
            "--force",
            "--field-of-view",
            "0,0,9000,9000",
        ],
    );
    refused(&o, 2, &["the field of view 0,0,9000,9000 does not lie in the 96x64 picture"]);
    assert_eq!(std::fs::read(dir.join("out.mp4")).unwrap(), video);
    assert_eq!(std::fs::read(dir.join("report/report.html")).unwrap(), page);
    assert_eq!((listing(&dir), listing(&dir.join("report")).len()), (before, 3));
}

/// A file that may not grow beyond a few kilobytes stands for a full disk.
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let (_keep, dir) = folder();
    let mut moving = Moving::h264(16).sized(160, 128);
    moving.encoder = "x264enc speed-preset=ultrafast key-int-max=5 ! h264parse".into();
    write(&dir.join("a.mp4"), "mp4mux", Some(&moving), None);
    for (args, what) in [
        (&["--output", "out.mp4", "--encoder-quality", "1"][..], "out.mp4"),
        (&["--report", "report"], "report/"),
    ] {
        let mut c = command(&[&["replay", "a.mp4"], args].concat());
        c.current_dir(&dir);
        // SAFETY: both calls are async-signal-safe and touch nothing of ours.
        unsafe {
            c.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                let limit = libc::rlimit { rlim_cur: 2 << 10, rlim_max: 2 << 10 };
                match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let o = wait(child, Duration::from_secs(60), what);
        refused(&o, 1, &[what, "cannot be written"]);
        assert_eq!(listing(&dir), ["a.mp4"], "{what}");
    }
}

/// Waits, and ends the process if it hangs.
fn wait(mut child: std::process::Child, patience: Duration, what: &str) -> Output {
    let start = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > patience {
            child.kill().unwrap();
            panic!("{what}: hangs; {}", text(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn ctrl_c_finishes_what_is_written() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 3000);
    let mut child = command(&["replay", "a.mp4", "--output", "out.mp4", "--report", "report"])
        .current_dir(&dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The hidden file appears with the first frame. What the encoder and the file's buffer hold back by then has to
    // come out.
    let start = std::time::Instant::now();
    while !listing(&dir).iter().any(|n| n.ends_with(".part")) {
        if start.elapsed() > Duration::from_secs(240) {
            child.kill().unwrap();
            panic!("no first frame; {}", text(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let o = wait(child, Duration::from_secs(60), "Ctrl-C");
    assert_eq!((o.status.code(), o.status.signal()), (Some(3), None), "{}", text(&o));
    quiet(&text(&o));
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("report/summary.json")).unwrap()).unwrap();
    assert_is("replay-summary", &summary);
    assert_eq!((&summary["partial"], &summary["partial_reason"]), (&true.into(), &"interrupted".into()));
    let n = summary["frames"]["written"].as_u64().unwrap();
    assert!((1..3000).contains(&n), "{n}");
    assert_eq!(decode(&dir.join("out.mp4")).frames.len() as u64, n);
    assert_eq!(listing(&dir), ["a.mp4", "out.mp4", "report"]);
    assert!(
        std::fs::read_to_string(dir.join("report/report.html"))
            .unwrap()
            .to_lowercase()
            .contains("interrupted")
    );
}

/// A replay that is writing, and the names it has in its folder.
fn busy(dir: &Path) -> std::process::Child {
    let child = command(&["replay", "a.mp4", "--output", "out.mp4", "--report", "report", "--masks"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while !listing(dir).iter().any(|n| n.ends_with(".part")) {
        assert!(start.elapsed() < Duration::from_secs(60), "no first frame");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_second_signal_leaves_nothing_behind() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 3000);
    let child = busy(&dir);
    for _ in 0..2 {
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        std::thread::sleep(Duration::from_millis(20));
    }
    let o = wait(child, Duration::from_secs(60), "two signals");
    // The first may have been enough where the machine is quick.
    if o.status.code() == Some(130) {
        assert_eq!(listing(&dir), ["a.mp4", "report"]);
        assert_eq!(listing(&dir.join("report")), [""; 0]);
    } else {
        assert_eq!(o.status.code(), Some(3), "{}", text(&o));
    }
}

#[test]
fn what_a_killed_replay_left_is_removed_by_the_next() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 3000);
    clip(&dir, "b.mp4", 2);
    let mut child = busy(&dir);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!listing(&dir.join("report")).is_empty(), "nothing was left, so this shows nothing");
    let o = polypscope(&dir, &["replay", "b.mp4", "--output", "out.mp4", "--report", "report", "--masks"]);
    assert_eq!(o.status.code(), Some(0), "{}", text(&o));
    assert_eq!(listing(&dir), ["a.mp4", "b.mp4", "out.mp4", "report"]);
    assert_eq!(listing(&dir.join("report")), ["frames.jsonl", "masks", "report.html", "summary.json"]);
}

#[test]
fn handing_over_is_work_and_the_mailbox_is_waiting() {
    let (_keep, dir) = folder();
    clip(&dir, "a.mp4", 6);
    let o = polypscope(&dir, &["replay", "a.mp4", "--report", "report", "--json"]);
    assert_eq!(o.status.code(), Some(0), "{}", text(&o));
    let summary: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    let p50 = |of: &str, name: &str| summary[of][name]["p50"].as_f64().unwrap();
    // Frames come much faster than the network takes them.
    assert!(p50("queues_us", "mailbox") > p50("stages_us", "hand_over") * 10.0, "{summary}");
    assert_eq!(summary["queues_us"]["mailbox"]["count"], 6);
    assert!(p50("stages_us", "hand_over") < p50("stages_us", "network") / 10.0, "{summary}");
    let lines = std::fs::read_to_string(dir.join("report/frames.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_is("replay-frames", &line);
    assert!(line["timings_us"]["mailbox"].as_f64() > line["timings_us"]["hand_over"].as_f64(), "{line}");
    assert!(std::fs::read_to_string(dir.join("report/report.html")).unwrap().contains("in the mailbox"));
}

#[test]
fn names_cannot_steer_the_terminal() {
    let (_keep, dir) = folder();
    let evil = "\u{1b}[2Jx\nerror: fake\u{202e}4pm.mp4";
    clip(&dir, "a.mp4", 2);
    for args in
        [&["replay", evil, "--output", "out.mp4"][..], &["replay", "a.mp4", evil, "--report", "reports"]]
    {
        let o = polypscope(&dir, args);
        let said = text(&o);
        assert!(!o.status.success());
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
        assert!(said.contains("\\x1b[2Jx\\nerror: fake\\u{202e}4pm"), "{said:?}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said:?}");
    }
    // What is read by programs stays as it is.
    std::fs::rename(dir.join("a.mp4"), dir.join(evil)).unwrap();
    let o = polypscope(&dir, &["replay", evil, "--report", "report", "--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!(summary["input"], evil);
}
