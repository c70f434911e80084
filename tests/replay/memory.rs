//! Memory does not grow with the recording.

use std::io::Write;

use polypscope::capture::PhantomSource;
use polypscope::frame::Rate;
use polypscope::phantom::{Settings, View};

use crate::{folder, run, settings};

/// A figure of /proc/self/status in KiB.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Replays a phantom and gives the largest resident size meanwhile, in KiB.
fn peak(minutes: u64) -> u64 {
    let (_keep, dir) = folder();
    let rate = Rate { numerator: 2, denominator: 1 };
    let frames = minutes * 60 * 2;
    let phantom = Settings {
        width: 96,
        height: 64,
        rate,
        frames,
        view: View::Full,
        polyps_per_minute: Some(20.0),
        ..Settings::default()
    };
    // Writing 5 makes the peak start anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let source = Box::new(PhantomSource::new(phantom).unwrap());
    let mut settings = settings(Some(&dir.join("out.mp4")), Some(&dir.join("report")));
    settings.masks = true;
    let summary = run(source, settings).unwrap();
    assert_eq!((summary.frames.written, summary.partial), (frames, false));
    status("VmHWM:")
}

/// Not a test by itself: what the next one runs in a process of its own, where no other test allocates.
#[test]
#[ignore = "run by its neighbour"]
fn measured() {
    // The first run loads plugins and fills pools.
    let warm = peak(1);
    let (one, ten) = (peak(1), peak(10));
    let _ = writeln!(std::io::stdout(), "peak KiB: first minute {warm}, one minute {one}, ten minutes {ten}");
    assert!(ten < one + 12 * 1024, "ten minutes take {} KiB more than one", ten - one);
}

#[test]
fn ten_minutes_take_no_more_memory_than_one() {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::measured", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let figures = text.lines().find(|l| l.contains("peak KiB")).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{figures}");
    assert!(out.status.success() && !figures.is_empty(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
}
