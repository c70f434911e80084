//! The programs of `examples/`, which `cargo test` builds beside the tests, run as a reader would run them.

#[path = "common/skipped.rs"]
mod skipped;

use std::path::PathBuf;
use std::process::Command;

use skipped::skip;

/// The example, where it was built.
fn example(name: &str) -> Option<Command> {
    let own = std::env::current_exe().expect("this program's path");
    let path =
        own.parent().and_then(|deps| deps.parent()).expect("target/PROFILE").join("examples").join(name);
    if !path.is_file() {
        skip("examples", "this test was built alone; `cargo test` builds the examples too");
        return None;
    }
    let mut command = Command::new(path);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG");
    Some(command)
}

fn said(command: &mut Command) -> String {
    let out = command.output().expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn score_masks_scores() {
    let Some(mut command) = example("score_masks") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let half =
        |from: u32| image::GrayImage::from_fn(40, 20, |x, _| image::Luma([if x < from { 255 } else { 0 }]));
    half(20).save(at("mask.png")).expect("a picture");
    half(10).save(at("prediction.png")).expect("a picture");
    // Half of what is there: Dice 2·10 / (10 + 20).
    let text = said(command.arg(at("prediction.png")).arg(at("mask.png")));
    assert!(text.contains("Dice 0.667  IoU 0.500") && text.contains("MAE 0.250"), "{text}");
}

#[test]
fn segment_picture_writes_a_mask_of_the_pictures_size() {
    let Some(mut command) = example("segment_picture") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    image::RgbImage::from_pixel(100, 60, image::Rgb([170, 90, 70])).save(at("in.png")).expect("a picture");
    said(command.arg(at("in.png")).arg(at("mask.png")));
    let mask = image::open(at("mask.png")).expect("a mask").to_luma8();
    assert_eq!(mask.dimensions(), (100, 60));
    assert!(mask.pixels().all(|p| p.0[0] == 0 || p.0[0] == 255));
}

/// The source ends by itself, long before the session's length.
#[test]
#[cfg(feature = "video")]
fn drive_session_ends_with_the_summary() {
    let Some(mut command) = example("drive_session") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("short.toml");
    let text = "description = 'd'\ndefault_sink = 'null'\n[source]\nlaunch = 'videotestsrc is-live=true num-buffers=40 ! \
                video/x-raw,format=NV12,width=160,height=120,framerate=25/1'\n";
    std::fs::write(&file, text).expect("a file");
    let text = said(command.arg(&file).args(["null", "600"]));
    let begin = text.find('{').expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&text[begin..]).expect("JSON");
    let frames = summary["frames"]["in"].as_u64().expect("a number of frames");
    assert!((1..=40).contains(&frames), "{text}");
}

#[test]
#[cfg(feature = "video")]
fn follow_frames_has_a_line_for_each_frame() {
    let Some(mut command) = example("follow_frames") else { return };
    let source = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=NV12,width=160,height=120,framerate=25/1";
    let text = said(command.args([source, "20"]));
    let frames = text.lines().filter(|l| l.contains(", no mask") || l.contains(", mask of ")).count();
    assert_eq!(frames, 20, "{text}");
}
