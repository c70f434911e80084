//! Started and stopped many times, and twice at once, in one process.
//!
//! The process is this test's own program, started anew with an empty registry, so that nothing else runs in it.

use std::process::Command;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::{Machine, text};

/// How the threads of a worker and its network are named.
const OURS: [&str; 3] = ["worker", "supervisor", "engine"];

/// Bytes that are allocated, threads and open files of this process. Not what is resident: of that the allocator keeps
/// up to 100 MB more or less from one cycle to the next.
fn used() -> (u64, usize, usize) {
    // SAFETY: It has no conditions.
    let heap = unsafe { libc::mallinfo2() };
    let count = |folder: &str| std::fs::read_dir(folder).expect("a folder").count();
    ((heap.uordblks + heap.hblkhd) as u64, count("/proc/self/task"), count("/proc/self/fd"))
}

/// Returns when no worker is left: an element that does not wait may be stopped while its network is built; its worker
/// ends when that is done, and until then a network is in memory that is there by right. GLib's pool keeps none of the
/// threads that worked for a pad and have its name, but each takes a moment to end.
fn settle() {
    let working = || {
        let threads = std::fs::read_dir("/proc/self/task").expect("a folder");
        let mut names =
            threads.filter_map(|t| std::fs::read_to_string(t.expect("a thread").path().join("comm")).ok());
        let of_a_pad = |name: &str| name.contains(':') && !name.contains("::");
        names.any(|name| of_a_pad(&name) || OURS.iter().any(|ours| name.starts_with(ours)))
    };
    // A worker runs only when nothing else wants to, so a loaded machine makes this long: the deadline is one for a
    // hang.
    let end = Instant::now() + Duration::from_secs(900);
    while working() {
        assert!(Instant::now() < end, "a worker never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the process does; started by the test below.
#[test]
#[ignore = "runs in a process of its own"]
fn cycle() {
    let cycles: usize = std::env::var("POLYPSCOPE_CYCLES").expect("a number").parse().expect("a number");
    gst::init().expect("GStreamer starts");
    // As many as eight idle threads would come and go.
    gst::glib::ThreadPool::set_max_unused_threads(Some(0));
    // Two elements in one process, from the plugin's file.
    let line = "videotestsrc name=source ! video/x-raw,format=I420,width=64,height=64 ! tee name=t \
         t. ! queue ! polypsegment name=a sync=true input-size=32 threads=1 precision=f32 ! polypoverlay ! fakesink sync=false \
         t. ! queue ! polypsegment name=b input-size=32 threads=1 precision=f32 ! fakesink sync=false";
    let pipeline =
        gst::parse::launch(line).expect("the line").downcast::<gst::Pipeline>().expect("a pipeline");
    let mut after: Vec<(u64, usize, usize)> = Vec::with_capacity(cycles);
    for _ in 0..cycles {
        pipeline.set_state(gst::State::Playing).expect("it plays");
        let (reached, _, _) = pipeline.state(gst::ClockTime::from_seconds(120));
        reached.expect("it plays");
        pipeline.set_state(gst::State::Null).expect("it stops");
        settle();
        after.push(used());
    }
    // What a cycle leaves behind is there after every later one, while GStreamer's own share comes and goes: so the
    // least of a stretch of cycles is compared with the least of a later one.
    let least = |part: &[(u64, usize, usize)]| {
        part.iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.min(b.2))).expect("some cycles")
    };
    let (early, late) = after[cycles / 9..].split_at((cycles - cycles / 9) / 2);
    let (before, after) = (least(early), least(late));
    let grown = after.0.saturating_sub(before.0);
    assert!(grown < 1 << 20, "{grown} bytes more after {cycles} cycles: {before:?}, {after:?}");
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
