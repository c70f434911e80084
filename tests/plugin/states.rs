//! Started and stopped many times, and twice at once, in one process.
//!
//! The process is this test's own program, started anew with an empty registry, so that nothing else runs in it.

use std::process::Command;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::{Machine, text};

/// Resident bytes, threads and open files of this process.
fn used() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("resident memory");
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    let count = |folder: &str| std::fs::read_dir(folder).expect("a folder").count();
    (kilobytes << 10, count("/proc/self/task"), count("/proc/self/fd"))
}

/// What the process does; started by the test below.
#[test]
#[ignore = "runs in a process of its own"]
fn cycle() {
    let cycles: usize = std::env::var("POLYPSCOPE_CYCLES").expect("a number").parse().expect("a number");
    gst::init().expect("GStreamer starts");
    // Two elements in one process, from the plugin's file.
    let line = "videotestsrc name=source ! video/x-raw,format=I420,width=64,height=64 ! tee name=t \
         t. ! queue ! polypsegment name=a sync=true input-size=32 threads=1 precision=f32 ! polypoverlay ! fakesink sync=false \
         t. ! queue ! polypsegment name=b input-size=32 threads=1 precision=f32 ! fakesink sync=false";
    let pipeline =
        gst::parse::launch(line).expect("the line").downcast::<gst::Pipeline>().expect("a pipeline");
    let mut after_warm_up = None;
    for n in 0..cycles {
        pipeline.set_state(gst::State::Playing).expect("it plays");
        let (reached, _, _) = pipeline.state(gst::ClockTime::from_seconds(120));
        reached.expect("it plays");
        pipeline.set_state(gst::State::Null).expect("it stops");
        if n == cycles / 3 {
            after_warm_up = Some(used());
        }
    }
    let (before, after) = (after_warm_up.expect("some cycles"), used());
    let grown = after.0.saturating_sub(before.0);
    assert!(grown < 24 << 20, "{grown} bytes more after {cycles} cycles: {before:?}, {after:?}");
    assert!(after.1 <= before.1 + 2, "threads are left: {before:?}, {after:?}");
    assert!(after.2 <= before.2 + 2, "files are left open: {before:?}, {after:?}");
}

/// `POLYPSCOPE_CYCLES=1000` is what `make plugin-cycles` asks for.
#[test]
fn starting_and_stopping_leaves_nothing_behind() {
    let machine = Machine::bare();
    let cycles = std::env::var("POLYPSCOPE_CYCLES").unwrap_or_else(|_| "9".into());
    let me = std::env::current_exe().expect("a path");
    let mut command: Command = machine.command(me);
    command.args(["--exact", "states::cycle", "--ignored", "--nocapture"]).env("POLYPSCOPE_CYCLES", cycles);
    let out = command.output().expect("it runs");
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stdout).contains("1 passed"), "{}", text(&out.stdout));
}
