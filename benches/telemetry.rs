//! What telemetry costs a frame: the video path's part (posting), and the collector's (fetching, histograms, snapshot).
//! A frame of 30 a second lasts 33 ms; the target is 1 % of it. `cargo bench --bench telemetry`

// The macro that collects the benches makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use polypscope::frame::{FrameId, Nanos, Pts};
use polypscope::mailbox::Traffic;
use polypscope::telemetry::event::{Event, FrameEvent, LeftEvent, MaskEvent, ShownMask};
use polypscope::telemetry::{Collector, CollectorSettings, feed};

/// What one frame posts: itself, its arrival at the sink and a mask (in truth not every frame has one of its own).
fn events(n: u64) -> [Event; 3] {
    let at = Nanos(n * 33_333_333);
    let spread = Nanos(1_000_000 + (n * 7_919) % 400_000);
    let frame = FrameId(n);
    let shown = Some(ShownMask { of: frame, age: spread, first: true, ..ShownMask::default() });
    [
        Event::Frame(FrameEvent {
            frame,
            pts: Pts(at.0),
            captured: at,
            entered: at,
            hand_over: spread,
            motion: spread,
            composite: spread,
            shown,
            element: spread,
            ..FrameEvent::default()
        }),
        Event::Left(LeftEvent { frame, at, video_delay: spread, sink: spread, ..LeftEvent::default() }),
        Event::Mask(MaskEvent { frame, captured: at, network: spread, finished: at, ..MaskEvent::default() }),
    ]
}

fn video_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("video path");
    let (feed, waiting) = feed();
    group.bench_function("post a frame's event", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for n in 0..rounds {
                let [event, ..] = events(n);
                let start = Instant::now();
                feed.post(black_box(event));
                spent += start.elapsed();
                // Room for the next one: a full feed would be cheaper to post to.
                let _ = waiting.receiver.try_recv();
            }
            spent
        });
    });
    group.finish();
}

/// Posting, fetching and histograms of 2000 frames, as fast as the collector takes them, without its sleeps.
fn collector(c: &mut Criterion) {
    const FRAMES: u64 = 2000;
    let mut group = c.benchmark_group("collector");
    group.sample_size(20).throughput(Throughput::Elements(FRAMES));
    group.bench_function("2000 frames", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let (feed, waiting) = feed();
                for n in 0..FRAMES {
                    for event in events(n) {
                        feed.post(event);
                    }
                }
                let settings = CollectorSettings {
                    warm_up: Duration::ZERO,
                    lines: None,
                    trace: None,
                    traffic: Box::new(Traffic::default),
                    epoch: Instant::now(),
                };
                let before = cpu();
                let collector = Collector::start(waiting, settings).expect("a collector");
                let summary = collector.finish();
                spent += cpu().saturating_sub(before);
                assert_eq!((summary.frames.entered, summary.events_lost), (FRAMES, 0));
            }
            spent
        });
    });
    group.finish();
}

/// Processor time of this process.
fn cpu() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to plain data that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

criterion_group!(benches, video_path, collector);
criterion_main!(benches);
