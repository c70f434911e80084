//! The state machine warm-up / active / degraded / bypass.
//!
//! In: once a frame, the time, the workers' health, the newest mask's age and the user's switch. Out: the state, its
//! reason, and whether a mask may be drawn. Pure: time is given, not read.

use super::{Reason, State, WorkerHealth};
use crate::frame::Nanos;

/// A mask older than this is not drawn, unless the user says otherwise.
pub const MAX_MASK_AGE: Nanos = Nanos(200_000_000);

/// One frame of a source that does not say its rate.
pub const USUAL_PERIOD: Nanos = Nanos(33_333_333);

/// What the state depends on, besides the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A mask older than this is not drawn.
    pub max_mask_age: Nanos,
    /// One frame of the source.
    pub period: Nanos,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_mask_age: MAX_MASK_AGE, period: USUAL_PERIOD }
    }
}

/// A worker that has never finished a frame may take this long for its first: kernels are loaded, memory is touched.
const FIRST_FRAME: Nanos = Nanos(5_000_000_000);

/// A state that was bad stays bad for this long after its cause is gone, so that it does not flicker with every mask.
const DWELL: Nanos = Nanos(1_000_000_000);

/// What holds for one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state on this frame.
    pub state: State,
    /// Why it is that one.
    pub reason: Reason,
    /// Whether a mask may be drawn on this frame.
    pub draw: bool,
    /// The state before, if the state or its reason has just changed: with the reason alone it is the same state.
    pub changed_from: Option<State>,
}

/// Judges every frame.
///
/// ```
/// use polypscope::frame::Nanos;
/// use polypscope::safety::{Limits, State, Watch, WorkerHealth};
///
/// let ms = |n: u64| Nanos(n * 1_000_000);
/// let (mut watch, worker) = (Watch::new(Limits::default()), [std::sync::Arc::new(WorkerHealth::default())]);
/// assert_eq!(watch.step(ms(0), &worker, None, true).state, State::WarmUp);
/// // A mask that is 90 ms old may be drawn, one of 300 ms may not.
/// let verdict = watch.step(ms(100), &worker, Some(ms(90)), true);
/// assert!(verdict.state == State::Active && verdict.draw);
/// let verdict = watch.step(ms(133), &worker, Some(ms(300)), true);
/// assert!(verdict.state == State::Degraded && !verdict.draw);
/// ```
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    state: State,
    reason: Reason,
    /// When a mask was last too old to be drawn.
    late_at: Option<Nanos>,
}

impl Watch {
    /// In warm-up, before any frame.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::WarmUp, reason: Reason::Starting, late_at: None }
    }

    /// The limits as they are now.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The source's frame period, once its caps are known.
    pub fn set_period(&mut self, period: Nanos) {
        self.limits.period = period;
    }

    /// From which age on a mask is not drawn.
    pub fn set_max_mask_age(&mut self, age: Nanos) {
        self.limits.max_mask_age = age;
    }

    /// Judges the frame at `now`. `mask_age`: of the newest mask there is, from its frame's capture to `now`.
    pub fn step<P: AsRef<WorkerHealth>>(
        &mut self,
        now: Nanos,
        health: &[P],
        mask_age: Option<Nanos>,
        switched_on: bool,
    ) -> Verdict {
        let young = mask_age.is_some_and(|age| age <= self.limits.max_mask_age);
        if mask_age.is_some() && !young {
            self.late_at = Some(now);
        }
        let recently_late = self.late_at.is_some_and(|at| now.0.saturating_sub(at.0) < DWELL.0);
        let (state, reason) = if !switched_on {
            (State::Bypass, Reason::SwitchedOff)
        } else if let Some(fault) = self.fault(now, health, mask_age.is_some() && !young) {
            (State::Bypass, fault)
        } else if mask_age.is_none() {
            (State::WarmUp, Reason::Starting)
        } else if !young || recently_late && self.state != State::WarmUp {
            (State::Degraded, Reason::TooSlow)
        } else {
            (State::Active, Reason::Normal)
        };
        let changed = (state, reason) != (self.state, self.reason);
        let before = self.state;
        self.state = state;
        self.reason = reason;
        let draw = young && matches!(state, State::Active | State::Degraded);
        Verdict { state, reason, draw, changed_from: changed.then_some(before) }
    }

    /// Why no worker can be relied on; `None` while one can.
    fn fault<P: AsRef<WorkerHealth>>(&self, now: Nanos, health: &[P], mask_late: bool) -> Option<Reason> {
        let mut first = None;
        for health in health {
            let health = health.as_ref();
            let fault =
                health.fault().or_else(|| self.is_stalled(now, health, mask_late).then_some(Reason::Stalled));
            match fault {
                None => return None,
                Some(reason) => first = first.or(Some(reason)),
            }
        }
        first
    }

    /// Stalled: three times as long as usual over one frame; or twice, once its last mask is too old. A frame that
    /// takes a GPU one millisecond may take four for all we know: the measure is never less than two frames of video.
    fn is_stalled(&self, now: Nanos, health: &WorkerHealth, mask_late: bool) -> bool {
        let Some(busy) = health.busy(now) else { return false };
        let floor = 2 * self.limits.period.0;
        match health.usual() {
            None => busy > FIRST_FRAME,
            Some(usual) => busy.0 > (usual.0 * if mask_late { 2 } else { 3 }).max(floor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MS: u64 = 1_000_000;
    const PERIOD: u64 = 33 * MS;

    fn ms(n: u64) -> Nanos {
        Nanos(n * MS)
    }

    fn watch() -> (Watch, [Arc<WorkerHealth>; 1]) {
        (
            Watch::new(Limits { max_mask_age: ms(200), period: Nanos(PERIOD) }),
            [Arc::new(WorkerHealth::default())],
        )
    }

    #[test]
    fn warm_up_ends_with_the_first_mask() {
        let (mut w, p) = watch();
        let v = w.step(ms(10), &p, None, true);
        assert_eq!(
            (v.state, v.reason, v.draw, v.changed_from),
            (State::WarmUp, Reason::Starting, false, None)
        );
        let v = w.step(ms(200), &p, Some(ms(90)), true);
        assert_eq!((v.state, v.draw, v.changed_from), (State::Active, true, Some(State::WarmUp)));
        assert_eq!(w.step(ms(233), &p, Some(ms(90)), true).changed_from, None);
    }

    #[test]
    fn a_slow_worker_degrades_and_its_old_masks_vanish() {
        let (mut w, p) = watch();
        p[0].done(ms(250));
        w.step(ms(0), &p, Some(ms(90)), true);
        p[0].begin(ms(0));
        let v = w.step(ms(150), &p, Some(ms(201)), true);
        assert_eq!((v.state, v.reason, v.draw), (State::Degraded, Reason::TooSlow, false));
        p[0].done(ms(250));
        // A young mask is drawn at once; the state waits until none has been late for a second.
        let v = w.step(ms(300), &p, Some(ms(100)), true);
        assert_eq!((v.state, v.draw), (State::Degraded, true));
        assert_eq!(w.step(ms(1151), &p, Some(ms(100)), true).state, State::Active);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let (mut w, p) = watch();
        w.step(ms(5000), &p, Some(ms(90)), true);
        let v = w.step(ms(5100), &p, Some(ms(200)), true);
        assert_eq!((v.state, v.draw), (State::Active, true));
        let v = w.step(ms(5150), &p, Some(ms(201)), true);
        assert_eq!((v.state, v.draw), (State::Degraded, false));
        // Late in a session as well as at its begin: degraded for a second after the last mask that was too old.
        assert_eq!(w.step(ms(6149), &p, Some(ms(90)), true).state, State::Degraded);
        assert_eq!(w.step(ms(6150), &p, Some(ms(90)), true).state, State::Active);
    }

    #[test]
    fn a_stall_bypasses_at_three_times_the_usual_or_when_its_mask_is_too_old() {
        let (mut w, p) = watch();
        p[0].done(ms(40));
        w.step(ms(1), &p, Some(ms(60)), true);
        p[0].begin(ms(10));
        assert_eq!(w.step(ms(125), &p, Some(ms(170)), true).state, State::Active);
        let v = w.step(ms(131), &p, Some(ms(176)), true);
        assert_eq!((v.state, v.reason, v.draw), (State::Bypass, Reason::Stalled, false));
        let (mut w, p) = watch();
        p[0].done(ms(100));
        w.step(ms(1), &p, Some(ms(60)), true);
        p[0].begin(ms(10));
        let v = w.step(ms(211), &p, Some(ms(201)), true);
        assert_eq!(v.reason, Reason::Stalled);
        // It wakes.
        p[0].done(ms(100));
        assert_eq!(w.step(ms(1300), &p, Some(ms(90)), true).state, State::Active);
    }

    #[test]
    fn a_quick_worker_may_take_two_frames_of_video() {
        let (mut w, p) = watch();
        p[0].done(ms(1));
        p[0].begin(ms(10));
        assert_eq!(w.step(ms(76), &p, Some(ms(80)), true).state, State::Active);
        assert_eq!(w.step(ms(77), &p, Some(ms(81)), true).reason, Reason::Stalled);
    }

    #[test]
    fn a_fault_bypasses_with_its_reason_until_a_mask_comes() {
        let (mut w, p) = watch();
        w.step(ms(1), &p, Some(ms(60)), true);
        p[0].fail(Reason::Panicked);
        let v = w.step(ms(34), &p, Some(ms(93)), true);
        assert_eq!((v.state, v.reason, v.draw), (State::Bypass, Reason::Panicked, false));
        p[0].done(ms(40));
        assert_eq!(w.step(ms(67), &p, Some(ms(50)), true).state, State::Active);
    }

    #[test]
    fn one_good_worker_is_enough() {
        let mut w = Watch::new(Limits::default());
        let p = [Arc::new(WorkerHealth::default()), Arc::new(WorkerHealth::default())];
        p[0].fail(Reason::DeviceLost);
        assert_eq!(w.step(ms(1), &p, Some(ms(60)), true).state, State::Active);
        p[1].fail(Reason::NotANumber);
        assert_eq!(w.step(ms(2), &p, Some(ms(60)), true).reason, Reason::DeviceLost);
    }

    #[test]
    fn switched_off_is_bypass_and_says_so() {
        let (mut w, p) = watch();
        w.step(ms(1), &p, Some(ms(60)), true);
        let v = w.step(ms(2), &p, Some(ms(61)), false);
        assert_eq!((v.state, v.reason, v.draw), (State::Bypass, Reason::SwitchedOff, false));
        assert_eq!(w.step(ms(3), &p, Some(ms(62)), true).state, State::Active);
    }

    #[test]
    fn a_first_frame_may_take_seconds() {
        let (mut w, p) = watch();
        p[0].begin(ms(1));
        assert_eq!(w.step(ms(5001), &p, None, true).state, State::WarmUp);
        assert_eq!(w.step(ms(5002), &p, None, true).reason, Reason::Stalled);
    }

    #[test]
    fn limits_that_are_set_later_hold() {
        let (mut w, p) = watch();
        w.set_max_mask_age(ms(90));
        w.set_period(ms(100));
        assert_eq!(w.limits(), Limits { max_mask_age: ms(90), period: ms(100) });
        p[0].done(ms(1));
        p[0].begin(ms(10));
        // Two frames of the slower video.
        assert_eq!(w.step(ms(210), &p, Some(ms(90)), true).state, State::Active);
        assert_eq!(w.step(ms(211), &p, Some(ms(90)), true).reason, Reason::Stalled);
        p[0].done(ms(1));
        assert!(!w.step(ms(212), &p, Some(ms(91)), true).draw);
    }

    #[test]
    fn a_worker_without_work_is_never_stalled() {
        let (mut w, p) = watch();
        p[0].done(ms(1));
        p[0].begin(ms(10));
        p[0].idle();
        assert_eq!((p[0].busy(ms(900)), p[0].usual()), (None, Some(ms(1))));
        assert_eq!(w.step(ms(900), &p, Some(ms(90)), true).state, State::Active);
    }

    #[test]
    fn states_and_reasons_are_written_in_their_words() {
        for state in State::ALL {
            assert_eq!(state.to_string(), state.name());
        }
        for reason in Reason::ALL {
            assert_eq!(reason.to_string(), reason.words());
            assert!(!reason.words().is_empty());
        }
    }

    proptest::proptest! {
        /// Whatever happens, nothing is drawn that is too old, switched off or judged bypass.
        #[test]
        fn nothing_old_is_ever_drawn(steps in proptest::collection::vec((0u64..500, proptest::option::of(0u64..400), 0u8..6), 1..60)) {
            let (mut w, p) = watch();
            let mut now = 0;
            for (dt, age, what) in steps {
                now += dt;
                match what {
                    0 => p[0].begin(ms(now)),
                    1 => p[0].done(ms(50)),
                    2 => p[0].fail(Reason::Failed),
                    3 => p[0].idle(),
                    _ => {}
                }
                let v = w.step(ms(now), &p, age.map(ms), what != 5);
                if v.draw {
                    assert!(age.is_some_and(|a| a <= 200) && what != 5);
                    assert!(matches!(v.state, State::Active | State::Degraded));
                }
            }
        }
    }
}
