//! Histograms and counters of a session.

use std::collections::{BTreeMap, VecDeque};

use super::snapshot::{BOUNDS, Counted, Point, Snapshot};
use crate::distribution::{Distribution, Histogram};
use crate::frame::Nanos;
use crate::mailbox::Traffic;
use crate::safety::{Reason, State};
use crate::telemetry::event::{Event, Followed, FrameEvent, StreamEvent};
use crate::telemetry::{LiveCounts, LiveSummary, Machine, Memory, StateChangeRecord};

/// Points of the charts: five minutes of seconds.
const POINTS: usize = 300;
/// State changes kept; a session that flickers for hours must not eat the memory.
const CHANGES: usize = 10_000;

/// Names of the stages, in the order frames pass them.
const STAGES: [&str; 10] = [
    "decode",
    "hand_over",
    "motion",
    "preprocess",
    "network",
    "tracks",
    "postprocess",
    "composite",
    "element",
    "sink",
];
const QUEUES: [&str; 2] = ["mailbox", "mask_slot"];
const STATES: [State; 4] = [State::WarmUp, State::Active, State::Degraded, State::Bypass];

pub(super) struct Figures {
    pub warm_up: Nanos,
    pub until: Nanos,
    pub traffic: Traffic,
    pub lost: u64,
    pub now: Nanos,
    entered: u64,
    out: u64,
    /// Frames past the overlay after the last one that arrived: on their way, not dropped.
    in_flight: u64,
    inferred: u64,
    late: u64,
    jumps: u64,
    format_changes: u64,
    restarts: u64,
    video_delay: Histogram,
    annotation_delay: Histogram,
    mask_age: Histogram,
    /// From a frame's capture to its own mask being finished.
    mask_ready: Histogram,
    stages: [Histogram; STAGES.len()],
    queues: [Histogram; QUEUES.len()],
    in_state: [u64; STATES.len()],
    changes: VecDeque<StateChangeRecord>,
    /// All of them, those that are no longer kept too.
    all_changes: u64,
    state: (State, Reason),
    memory: Memory,
    cpu_start: f64,
    machine: Machine,
    /// Figures of the second that runs.
    second: Second,
    points: VecDeque<Point>,
    source_lost: bool,
    last_entered: u64,
    /// Of the last mask.
    followed: Followed,
    tracks: u64,
    confirmed_tracks: u64,
    gated: BTreeMap<&'static str, u64>,
    /// From a track's first sight to its confirmation.
    first_alarm: Histogram,
}

/// What is gathered for one point of the charts.
#[derive(Default)]
struct Second {
    from: Nanos,
    frames: u64,
    video: Vec<u64>,
    annotation: Vec<u64>,
    age: Vec<u64>,
}

/// Processor seconds of this process so far.
fn cpu_seconds() -> f64 {
    // SAFETY: the structure is plain data that the call fills.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to it.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn p99(values: &mut [u64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable();
    Some(values[(values.len() * 99).div_ceil(100) - 1] as f64 / 1e6)
}

impl Figures {
    pub(super) fn new(warm_up: Nanos) -> Self {
        let histograms = || std::array::from_fn(|_| Histogram::new());
        Self {
            warm_up,
            until: Nanos(u64::MAX),
            traffic: Traffic::default(),
            lost: 0,
            now: Nanos(0),
            entered: 0,
            out: 0,
            in_flight: 0,
            inferred: 0,
            late: 0,
            jumps: 0,
            format_changes: 0,
            restarts: 0,
            video_delay: Histogram::new(),
            annotation_delay: Histogram::new(),
            mask_age: Histogram::new(),
            mask_ready: Histogram::new(),
            stages: histograms(),
            queues: std::array::from_fn(|_| Histogram::new()),
            in_state: [0; STATES.len()],
            changes: VecDeque::new(),
            all_changes: 0,
            state: (State::WarmUp, Reason::Starting),
            memory: Memory::default(),
            cpu_start: cpu_seconds(),
            machine: Machine::detect(),
            second: Second::default(),
            points: VecDeque::new(),
            source_lost: false,
            last_entered: 0,
            followed: Followed::default(),
            tracks: 0,
            confirmed_tracks: 0,
            gated: BTreeMap::new(),
            first_alarm: Histogram::new(),
        }
    }

    /// Whether a frame captured then leaves figures.
    fn counts_from(&self, captured: Nanos) -> bool {
        captured >= self.warm_up && captured < self.until
    }

    fn stage(&mut self, name: &str, span: Nanos) {
        if let Some(i) = STAGES.iter().position(|s| *s == name) {
            self.stages[i].record(span);
        }
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Frame(e) => self.frame(e),
            Event::Left(e) => {
                self.out += 1;
                self.in_flight = self.last_entered.saturating_sub(e.frame.0);
                self.second.video.push(e.video_delay.0);
                if let Some(delay) = e.annotation_delay {
                    self.second.annotation.push(delay.0);
                }
                if !self.counts_from(Nanos(e.at.0.saturating_sub(e.video_delay.0))) {
                    return;
                }
                self.late += u64::from(e.late);
                self.video_delay.record(e.video_delay);
                self.stage("sink", e.sink);
                if let Some(delay) = e.annotation_delay {
                    self.annotation_delay.record(delay);
                }
            }
            Event::Mask(e) => {
                self.inferred += 1;
                self.follow(&e.followed);
                if !self.counts_from(e.captured) {
                    return;
                }
                self.stage("preprocess", e.preprocess);
                self.stage("network", e.network);
                if e.tracks.0 > 0 {
                    self.stage("tracks", e.tracks);
                }
                self.stage("postprocess", e.postprocess);
                self.queues[0].record(e.waited);
                self.mask_ready.record(Nanos(e.finished.0.saturating_sub(e.captured.0)));
            }
            Event::State(e) => {
                self.state = (e.to, e.reason);
                self.all_changes += 1;
                if self.changes.len() == CHANGES {
                    self.changes.pop_front();
                }
                self.changes.push_back(StateChangeRecord {
                    at_ns: e.at.0,
                    from: e.from.name().into(),
                    to: e.to.name().into(),
                    reason: e.reason.name().into(),
                });
            }
            Event::Stream(e) => match e {
                StreamEvent::TimestampJump { .. } => self.jumps += 1,
                StreamEvent::FormatChange { .. } => self.format_changes += 1,
                StreamEvent::SourceLost { .. } => self.source_lost = true,
                StreamEvent::SourceBack { .. } => self.source_lost = false,
                StreamEvent::WorkerRestart { .. } => self.restarts += 1,
            },
        }
    }

    fn follow(&mut self, followed: &Followed) {
        self.followed = *followed;
        self.confirmed_tracks += u64::from(followed.newly_confirmed);
        if let Some(gate) = followed.gate {
            *self.gated.entry(gate.name()).or_default() += 1;
        }
        // Numbers ascend, so a larger one than any before is a new track.
        self.tracks = self.tracks.max(followed.newest);
        for t in followed.marks() {
            if let Some(ms) = t.confirmed_after_ms.filter(|_| t.is_newly_confirmed()) {
                self.first_alarm.record(Nanos((ms * 1e6) as u64));
            }
        }
    }

    fn frame(&mut self, e: &FrameEvent) {
        self.entered += 1;
        self.in_flight += 1;
        self.last_entered = e.frame.0;
        if let Some(i) = STATES.iter().position(|s| *s == e.state) {
            self.in_state[i] += 1;
        }
        if e.entered.0 >= self.second.from.0 + 1_000_000_000 {
            self.close_second(e.entered);
        }
        self.second.frames += 1;
        if let Some(shown) = e.shown {
            self.second.age.push(shown.age.0);
        }
        if !self.counts_from(e.captured) {
            return;
        }
        if let Some(decode) = e.decode {
            self.stage("decode", decode);
        }
        self.stage("hand_over", e.hand_over);
        self.stage("motion", e.motion);
        self.stage("composite", e.composite);
        self.stage("element", e.element);
        if let Some(shown) = e.shown {
            self.mask_age.record(shown.age);
            if shown.first {
                self.queues[1].record(shown.in_slot);
            }
        }
    }

    fn close_second(&mut self, now: Nanos) {
        let second = std::mem::replace(&mut self.second, Second { from: now, ..Second::default() });
        if self.entered == 0 {
            return;
        }
        let Second { from, frames, mut video, mut annotation, mut age } = second;
        let span = (now.0 - from.0) as f64 * 1e-9;
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at_s: from.0 as f64 * 1e-9,
            fps: frames as f64 / span,
            video_delay_p99_ms: p99(&mut video),
            annotation_delay_p99_ms: p99(&mut annotation),
            mask_age_p99_ms: p99(&mut age),
        });
    }

    /// Closes the second that runs, although no frame came to do so.
    pub(super) fn tick(&mut self) {
        if self.now.0 >= self.second.from.0 + 2_000_000_000 {
            let now = self.now;
            self.close_second(now);
        }
    }

    pub(super) fn memory(&mut self, rss: u64) {
        if self.memory.start == 0 {
            self.memory.start = rss;
        }
        self.memory.max = self.memory.max.max(rss);
        self.memory.end = rss;
    }

    fn counts(&self) -> LiveCounts {
        LiveCounts {
            entered: self.entered,
            out: self.out,
            inferred: self.inferred,
            superseded: self.traffic.superseded,
            dropped: self.entered.saturating_sub(self.out + self.in_flight),
            late: self.late,
        }
    }

    fn distributions<const N: usize>(
        names: &[&str; N],
        of: &[Histogram; N],
    ) -> BTreeMap<String, Distribution> {
        names
            .iter()
            .zip(of)
            .filter(|(_, h)| h.count() > 0)
            .map(|(n, h)| ((*n).to_owned(), h.distribution(1e-3)))
            .collect()
    }

    fn frames_in_state(&self) -> BTreeMap<String, u64> {
        STATES.iter().zip(self.in_state).map(|(s, n)| (s.name().to_owned(), n)).collect()
    }

    pub(super) fn histograms(&self) -> Vec<(String, Histogram)> {
        let ends = [
            ("video_delay", &self.video_delay),
            ("annotation_delay", &self.annotation_delay),
            ("mask_age", &self.mask_age),
            ("mask_ready", &self.mask_ready),
        ];
        ends.into_iter()
            .chain(STAGES.into_iter().zip(&self.stages))
            .chain(QUEUES.into_iter().zip(&self.queues))
            .filter(|(_, h)| h.count() > 0)
            .map(|(n, h)| (n.to_owned(), h.clone()))
            .collect()
    }

    fn counted(&self) -> Vec<Counted> {
        let delays = [
            ("video_delay", "", &self.video_delay),
            ("annotation_delay", "", &self.annotation_delay),
            ("mask_age", "", &self.mask_age),
        ];
        let stages = STAGES.iter().zip(&self.stages).map(|(n, h)| ("stage", *n, h));
        let queues = QUEUES.iter().zip(&self.queues).map(|(n, h)| ("queue", *n, h));
        delays
            .into_iter()
            .chain(stages)
            .chain(queues)
            // Without a sample there is nothing to say: 0 would read as perfect.
            .filter(|(_, _, h)| h.count() > 0)
            .map(|(metric, of, h)| Counted { metric, of, counts: h.buckets(&BOUNDS), sum_s: h.sum_seconds() })
            .collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            counted: self.counted(),
            at_s: self.now.0 as f64 * 1e-9,
            state: self.state.0.name().into(),
            reason: self.state.1.name().into(),
            reason_words: self.state.1.words().into(),
            source_lost: self.source_lost,
            frames: self.counts(),
            video_delay_us: self.video_delay.distribution(1e-3),
            annotation_delay_us: self.annotation_delay.distribution(1e-3),
            mask_age_us: self.mask_age.distribution(1e-3),
            stages_us: Self::distributions(&STAGES, &self.stages),
            queues_us: Self::distributions(&QUEUES, &self.queues),
            frames_in_state: self.frames_in_state(),
            state_changes: self.all_changes,
            last_changes: self.changes.iter().rev().take(8).cloned().collect(),
            worker_restarts: self.restarts,
            timestamp_jumps: self.jumps,
            events_lost: self.lost,
            rss_bytes: self.memory,
            points: self.points.iter().cloned().collect(),
            tracks: self.followed.marks().to_vec(),
            tentative_tracks: u64::from(self.followed.tentative),
            confirmed_tracks: self.confirmed_tracks,
            gate: self.followed.gate,
            gate_words: self.followed.gate.map(|g| g.words().to_owned()),
            gated_masks: self.gated_masks(),
            first_alarm_us: self.first_alarm.distribution(1e-3),
        }
    }

    fn gated_masks(&self) -> BTreeMap<String, u64> {
        self.gated.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    pub(super) fn summary(&self) -> LiveSummary {
        let elapsed = self.now.0 as f64 * 1e-9;
        LiveSummary {
            machine: self.machine.clone(),
            frames: self.counts(),
            video_delay_us: self.video_delay.distribution(1e-3),
            annotation_delay_us: self.annotation_delay.distribution(1e-3),
            mask_age_us: self.mask_age.distribution(1e-3),
            stages_us: Self::distributions(&STAGES, &self.stages),
            queues_us: Self::distributions(&QUEUES, &self.queues),
            state_changes: self.changes.iter().cloned().collect(),
            frames_in_state: self.frames_in_state(),
            rss_bytes: self.memory,
            cpu_cores: (cpu_seconds() - self.cpu_start) / elapsed.max(1e-9),
            elapsed_ms: elapsed * 1e3,
            timestamp_jumps: self.jumps,
            format_changes: self.format_changes,
            worker_restarts: self.restarts,
            events_lost: self.lost,
            tracks: self.tracks,
            confirmed_tracks: self.confirmed_tracks,
            gated_masks: self.gated_masks(),
            first_alarm_us: self.first_alarm.distribution(1e-3),
            ..LiveSummary::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameId;
    use crate::telemetry::event::{LeftEvent, MaskEvent, ShownMask, StateChange};

    fn ms(n: u64) -> Nanos {
        Nanos(n * 1_000_000)
    }

    #[test]
    fn a_session_adds_up() {
        let mut f = Figures::new(ms(100));
        for n in 0..100u64 {
            let at = ms(33 * n);
            let shown = (n >= 10).then(|| ShownMask {
                of: FrameId(n - 3),
                age: ms(99),
                first: n % 3 == 0,
                ..Default::default()
            });
            f.take(&Event::Frame(FrameEvent {
                frame: FrameId(n),
                captured: at,
                entered: at,
                shown,
                ..Default::default()
            }));
            if n != 50 {
                let frame = FrameId(n);
                let annotation_delay = shown.filter(|s| s.first).map(|_| ms(101));
                f.take(&Event::Left(LeftEvent {
                    at: Nanos(at.0 + 2_000_000),
                    video_delay: ms(2),
                    annotation_delay,
                    late: n == 60,
                    frame,
                    ..Default::default()
                }));
            }
        }
        f.take(&Event::Mask(MaskEvent { captured: ms(500), network: ms(70), ..Default::default() }));
        f.take(&Event::State(StateChange {
            at: ms(330),
            from: State::WarmUp,
            to: State::Active,
            reason: Reason::Normal,
        }));
        f.memory(7);
        f.memory(9);
        f.memory(8);
        let s = f.summary();
        assert_eq!((s.frames.entered, s.frames.out, s.frames.dropped, s.frames.late), (100, 99, 1, 1));
        assert_eq!(s.mask_age_us.count, 90);
        assert!((s.annotation_delay_us.p99 - 101_000.0).abs() < 200.0);
        assert!((s.stages_us["network"].p50 - 70_000.0).abs() < 100.0);
        assert_eq!(s.state_changes[0].to, "active");
        assert_eq!((s.rss_bytes.start, s.rss_bytes.max, s.rss_bytes.end), (7, 9, 8));
        // The warm-up's frames are counted but leave no figures: 4 lie before 100 ms.
        assert_eq!(s.video_delay_us.count, 95);
        assert_eq!(f.snapshot().points.len(), 3);
    }
}
