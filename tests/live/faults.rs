//! The failure table: what the viewer sees when the worker is slow, stuck or broken, and how it comes back.

use std::time::Duration;

use polypscope::frame::FrameId;
use polypscope::live::OverlayGraphSettings;
use polypscope::safety::Reason;
use polypscope::safety::State;
use polypscope::telemetry::event::StreamEvent;
use polypscope::worker::SupervisorSettings;

use crate::stand_in::{Mood, Moods, SOURCE, Seen, Session, patient};

const USUAL: Duration = Duration::from_millis(30);
/// From one frame of [`SOURCE`] to the next.
const PERIOD_NS: u64 = 20_000_000;

fn is_active(seen: &Seen) -> bool {
    seen.states.last().is_some_and(|c| c.to == State::Active)
}

/// No frame is missing: their numbers follow one another, and each arrived at the sink.
fn assert_whole(seen: &Seen) {
    for (n, f) in seen.frames.iter().enumerate() {
        assert_eq!(f.frame, FrameId(n as u64));
    }
    let missing = seen.frames.len() - seen.left.len();
    assert!(missing <= 1, "{missing} frames never arrived");
    // By the stream's own time: how far apart frames come says what else the machine does. That the picture waits for
    // no worker is seen where frames are counted while the worker answers nothing, or late.
    for pair in seen.frames.windows(2) {
        let step = pair[1].pts.0.saturating_sub(pair[0].pts.0);
        assert!(step.abs_diff(PERIOD_NS) <= 1, "{} comes {step} ns after the one before", pair[1].frame);
    }
}

/// From `after` frames past the fault until the state changes again, every frame is the source's.
fn assert_clean(seen: &Seen, untouched: &[bool], from_ns: u64, to_ns: u64, after: usize) {
    let inside: Vec<_> =
        seen.frames.iter().filter(|f| f.entered.0 > from_ns && f.entered.0 < to_ns).collect();
    assert!(inside.len() > after, "too few frames to judge");
    for f in &inside[after..] {
        assert!(f.shown.is_none() && untouched[f.frame.0 as usize], "{} has marks", f.frame);
    }
}

/// Runs until active, lets the worker fail, looks at more than a second of frames (at the source's rate) under the
/// failure, and runs until it is over. The failure lasts until those frames were seen: a picture that waited for the
/// worker would give none.
fn fault(mood: Mood, reason: Reason) -> Seen {
    let mut s = Session::start(SOURCE, Mood::Well, USUAL);
    s.until("active", is_active);
    s.moods.set(mood);
    // The last change: a machine that is busy may stall the worker for a moment before the failure comes to it.
    let failed =
        |seen: &Seen| seen.states.last().copied().filter(|c| (c.to, c.reason) == (State::Bypass, reason));
    s.until("sixty frames under the failure", |seen| {
        failed(seen).is_some_and(|c| seen.frames.iter().filter(|f| f.entered > c.at).count() >= 60)
    });
    let bypass = failed(&s.seen).expect("it was so a moment ago");
    let until = s.seen.frames.last().expect("there are sixty").entered.0 + 1;
    s.moods.set(Mood::Well);
    s.until("active again", is_active);
    s.until("marks on successive frames", |seen| {
        seen.frames.len() > 3 && seen.frames.iter().rev().take(3).all(|f| f.shown.is_some())
    });
    let (seen, untouched) = s.stop();
    assert_whole(&seen);
    assert_clean(&seen, &untouched, bypass.at.0, until, 0);
    seen
}

#[test]
fn a_worker_that_panics_leaves_a_clean_picture_and_comes_back() {
    let seen = fault(Mood::Panics, Reason::Panicked);
    assert!(seen.stream.iter().any(|e| matches!(e, StreamEvent::WorkerRestart { worker: 0, .. })));
}

#[test]
fn a_network_that_returns_nan_leaves_a_clean_picture_and_comes_back() {
    fault(Mood::NotANumber, Reason::NotANumber);
}

/// How soon a stall is noticed is tested with `safety::Watch`, whose clock a test sets.
#[test]
fn a_worker_that_stalls_leaves_a_clean_picture_and_comes_back() {
    fault(Mood::Stuck, Reason::Stalled);
}

/// At ten frames a second, so that a busy machine has the time of two frames to end the worker.
#[test]
fn a_fault_cleans_the_picture_within_two_frames() {
    let mut s = Session::start(&SOURCE.replace("50/1", "10/1"), Mood::Well, USUAL);
    s.until("active", is_active);
    s.moods.set(Mood::Panics);
    s.until("bypass", |seen| seen.states.last().is_some_and(|c| c.reason == Reason::Panicked));
    let epoch = s.core.epoch();
    let panicked = s.moods.panicked_at().expect("it panicked").duration_since(epoch).as_nanos() as u64;
    let (seen, untouched) = s.stop();
    let marked =
        seen.frames.iter().filter(|f| f.entered.0 > panicked && !untouched[f.frame.0 as usize]).count();
    assert!(marked <= 2, "{marked} frames were marked after the fault");
}

#[test]
fn a_slow_worker_lets_old_masks_vanish_and_the_picture_go_on() {
    let mut s = Session::start_with(SOURCE, Mood::Slow(260), USUAL, OverlayGraphSettings::default());
    s.until("degraded", |seen| seen.states.iter().any(|c| c.to == State::Degraded));
    // A picture that waited for the worker would have a mask for every frame.
    let (frames, masks) = (s.look().frames.len(), s.look().masks.len());
    s.until("forty frames more, and more than two for each mask", |seen| {
        seen.frames.len() - frames >= 40 + 2 * (seen.masks.len() - masks)
    });
    let (seen, untouched) = s.stop();
    assert_whole(&seen);
    let degraded = seen.states.iter().find(|c| c.to == State::Degraded).expect("it was");
    assert_eq!(degraded.reason, Reason::TooSlow);
    for f in seen.frames.iter().filter(|f| f.entered > degraded.at) {
        match f.shown {
            Some(m) => assert!(m.age.0 <= 200_000_000),
            None => assert!(untouched[f.frame.0 as usize]),
        }
    }
    // A machine that starves the worker beside that may let it stall; being slow is no other reason to do without it.
    assert!(
        seen.states.iter().all(|c| c.to != State::Bypass || c.reason == Reason::Stalled),
        "{:?}",
        seen.states
    );
}

#[test]
fn a_worker_that_cannot_be_built_leaves_the_picture_alone() {
    let (pause, longest_pause) = (Duration::from_millis(40), Duration::from_millis(100));
    let settings = OverlayGraphSettings {
        workers: 2,
        supervisor: SupervisorSettings { pause, longest_pause, ..SupervisorSettings::default() },
        ..OverlayGraphSettings::default()
    };
    let never = Box::new(|_| Err(polypscope::Error::machine("no device for this test")));
    let mut s = Session::start_from(SOURCE, never, Moods::new(Mood::Well), settings);
    let restarts = |seen: &Seen, k: u32| -> Vec<(u64, u32)> {
        let of_it = |e: &StreamEvent| match *e {
            StreamEvent::WorkerRestart { at, worker, attempt } if worker == k => Some((at.0, attempt)),
            _ => None,
        };
        seen.stream.iter().filter_map(of_it).collect()
    };
    s.until("four restarts of each and forty frames", |seen| {
        (0..2).all(|k| restarts(seen, k).len() >= 4) && seen.left.len() >= 40
    });
    let (seen, untouched) = s.stop();
    assert_whole(&seen);
    assert!(untouched.iter().all(|same| *same) && seen.frames.iter().all(|f| f.shown.is_none()));
    let last = seen.states.last().expect("it changed");
    assert_eq!((last.to, last.reason), (State::Bypass, Reason::Failed));
    // The pause grows up to the longest one: never shorter, whatever the machine does beside it.
    for k in 0..2 {
        let of_it = restarts(&seen, k);
        assert!(of_it.iter().zip(1..).all(|((_, attempt), n)| *attempt == n), "worker {k}: {of_it:?}");
        for (pair, least_ms) in of_it.windows(2).zip([80, 100, 100]) {
            assert!(pair[1].0 - pair[0].0 >= least_ms * 1_000_000, "worker {k}: {of_it:?}");
        }
    }
}

#[test]
fn a_worker_that_is_replaced_again_and_again_still_comes_back() {
    let supervisor =
        SupervisorSettings { patience: Duration::from_millis(700), ..SupervisorSettings::default() };
    let mut s =
        Session::start_with(SOURCE, Mood::Well, USUAL, OverlayGraphSettings { supervisor, ..patient() });
    s.until("active", is_active);
    for _ in 0..5 {
        s.moods.set(Mood::Stuck);
        let before = s.look().stream.len();
        s.until("a replacement", |seen| seen.stream.len() > before);
        s.moods.set(Mood::Well);
        s.until("active again", is_active);
    }
    let masks = s.look().masks.len();
    s.until("more masks", |seen| seen.masks.len() > masks + 5);
    let (seen, _) = s.stop();
    assert_whole(&seen);
}
