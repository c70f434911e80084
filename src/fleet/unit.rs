//! One recording, segment by segment, until its result stands.
//!
//! In: a unit, a network, the store. Out: its outcome in the store, and what became of it. What a worker before us has
//! left in the store is gone on from: the frames of its segments are decoded but not segmented again. Frames keep their
//! numbers and the field of view follows them all, so that what comes out is the same whoever computed it.
//!
//! *A segment ends* with the first frame after its length on which nothing is followed and nothing may be joined any
//! more to what was followed; after twice its length it ends in any case, and what is in view then is joined by its
//! place (see [`super::outcome`]).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::best_frames::BestFrames;
use super::manifest::Unit;
use super::outcome::{Assembly, Ending, Outcome};
use super::segment::{self, Cost, End, Tail, Writer};
use super::settings::Settings;
use super::source::{self, Local, Staging};
use super::store::{Created, Store};
use super::{content, failure};
use crate::capture::{Facts, Frame, Next, Recording, Source, Span, Stills};
use crate::frame::{Mask, Rect, TrackState};
use crate::replay::findings::Findings;
use crate::replay::record::FrameRecord;
use crate::safety::State;
use crate::segment::{Segmenter, Spans};
use crate::telemetry::Machine;
use crate::tracks::Numbers;
use crate::worker::contained;
use crate::{Error, Result};

/// Slowest frames kept of a segment.
const SLOWEST: usize = 3;

/// Segments read at a time when a unit's are put together.
const READ_AHEAD: usize = 8;

/// Frames of video that a brief alarm at a segment's edge may be away from it; three seconds at 60 frames/s.
const EDGE_FRAMES: u64 = 180;

/// What became of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Stands(Ending),
    /// Partial, and to be tried once more.
    Once,
    /// It is another recording than the one that was planned.
    Changed,
    Stopped,
}

/// Everything one unit is worked on with.
pub(super) struct Job<'a> {
    pub unit: &'a Unit,
    pub settings: &'a Settings,
    pub store: &'a Store,
    pub staging: &'a Staging,
    pub stop: &'a AtomicBool,
    /// A partial result stands at once.
    pub accept_partial: bool,
    /// Told after every frame: how many of the unit are done.
    pub progress: &'a mut dyn FnMut(u64),
}

/// Where a worker before us came to.
#[derive(Default)]
struct Chain {
    segments: usize,
    /// The tail of the last one.
    tail: Option<Tail>,
}

enum Attempt {
    Complete,
    /// Somebody else put another segment where ours was to be.
    Overtaken,
    Stopped,
}

pub(super) fn done(key: &str) -> String {
    format!("done/{key}.json")
}

pub(super) fn first(key: &str) -> String {
    format!("first/{key}.json")
}

impl Job<'_> {
    /// Works until the unit's result stands, or as far as it goes.
    ///
    /// # Errors
    /// What another try may mend: a recording that is not there, a device that fails, a store that takes nothing.
    pub fn work(&mut self, segmenter: &mut Segmenter) -> Result<Came> {
        let key = &self.unit.key;
        let round = if self.store.has(&first(key))? { 2 } else { 1 };
        let local = source::fetch(&self.unit.path, self.staging)?;
        if !self.is_as_planned(&local)? {
            return Ok(Came::Changed);
        }
        loop {
            match self.attempt(&local, segmenter, round) {
                Ok(Attempt::Complete) => break,
                Ok(Attempt::Overtaken) => {
                    tracing::info!("another worker is at the same recording; going on from what it has done");
                }
                Ok(Attempt::Stopped) => return Ok(Came::Stopped),
                Err(e) if failure::is_the_recordings(&e) => {
                    // It can still be read, so it is what is in it.
                    if !self.is_as_planned(&local)? {
                        return Ok(Came::Changed);
                    }
                    let reason = failure::without_names(&e.to_string(), &[&local.path]);
                    return self.publish(Outcome::unreadable(key, round, reason), round);
                }
                Err(e) => return Err(e),
            }
        }
        self.store.sweep(&format!("segments/{key}"));
        let outcome = assemble(self.store, self.settings, key, round)?;
        self.publish(outcome, round)
    }

    fn is_as_planned(&self, local: &Local) -> Result<bool> {
        if self.unit.stills || self.unit.ends.is_empty() {
            local.path.metadata().map_err(|e| not_there(&local.path, e))?;
            return Ok(true);
        }
        // A recording that cannot be read now may be on a disk that is not there now.
        let (bytes, ends) =
            content::of_ends(&local.path).map_err(|e| Error::machine(e.to_string()).because(e))?;
        Ok((bytes, &ends) == (self.unit.bytes, &self.unit.ends))
    }

    /// The one write that makes a result stand.
    fn publish(&self, outcome: Outcome, round: u32) -> Result<Came> {
        let (key, ending) = (&self.unit.key, outcome.found.ending);
        let once = ending == Ending::Partial && round == 1 && !self.accept_partial;
        let bytes = serde_json::to_vec(&outcome)
            .map_err(|e| Error::internal("an outcome cannot be put into JSON").because(e))?;
        let name = if once { first(key) } else { done(key) };
        if self.store.create(&name, bytes)? == Created::ThereAlready {
            tracing::info!("another worker has finished the same recording; its result stands");
        }
        Ok(if once { Came::Once } else { Came::Stands(ending) })
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Source>> {
        if self.unit.stills {
            let files = crate::capture::contents(path)?.pictures;
            return Ok(Box::new(Stills::open(path, files, self.settings.stills_fps, Span::default())?));
        }
        Ok(Box::new(Recording::open(Facts::discover(path)?, Span::default(), None)?))
    }

    /// From where the store's segments end to the end of the recording.
    fn attempt(&mut self, local: &Local, segmenter: &mut Segmenter, round: u32) -> Result<Attempt> {
        let chain = chain(self.store, &self.unit.key, round)?;
        if chain.tail.as_ref().is_some_and(|t| t.end.is_some()) {
            return Ok(Attempt::Complete);
        }
        let numbers = self.settings.numbers()?;
        let mut source = self.open(&local.path)?;
        segmenter.restart();
        let mut part = Part::new(segmenter.describe(), numbers, self.settings.thumbnails);
        let mut index = chain.segments;
        let mut behind = chain.tail.as_ref().map(|t| (t.last_frame, Instant::now()));
        if let Some(t) = &chain.tail {
            part.go_on_from(t.last_frame, (t.width, t.height), t.view);
        }
        let mut frames = 0;
        let mut mask = Mask::default();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Attempt::Stopped);
            }
            let frame = match source.next()? {
                Next::Wait => continue,
                Next::Frame(frame) => frame,
                Next::Ended(ended) => {
                    let partial = match (ended.cut_off, ended.changed) {
                        (Some(a), Some(b)) => Some(format!("{a}; {b}")),
                        (a, b) => a.or(b),
                    };
                    let partial = partial.map(|p| failure::without_names(&p, &[&local.path]));
                    if frames == 0 {
                        return Err(Error::input(partial.unwrap_or_else(|| "it has no frame".to_owned())));
                    }
                    let end = End { partial, losses: ended.losses };
                    return Ok(match self.put(&mut part, round, index, false, Some(end))? {
                        true => Attempt::Complete,
                        false => Attempt::Overtaken,
                    });
                }
            };
            frames += 1;
            if let Some((last, since)) = behind {
                if frame.id.0 <= last {
                    frame.read(|picture| segmenter.look(picture))?;
                    (self.progress)(frames);
                    continue;
                }
                part.resumed(since);
                behind = None;
            }
            (mask.frame, mask.pts) = (frame.id, frame.pts);
            let spans = contained(frame.id, || frame.read(|picture| segmenter.segment(picture, &mut mask)))?;
            let over = part.frame(&frame, &mut mask, spans, self.settings.segment().0)?;
            (self.progress)(frames);
            if let Some(forced) = over {
                if !self.put(&mut part, round, index, forced, None)? {
                    return Ok(Attempt::Overtaken);
                }
                index += 1;
                if let Some(filter) = segmenter.filter() {
                    filter.restart();
                }
            }
        }
    }

    /// Puts a segment into the store; false where another one is there that we cannot go on from.
    fn put(&self, part: &mut Part, round: u32, index: usize, forced: bool, end: Option<End>) -> Result<bool> {
        let (tail, bytes) = part.close(forced, end)?;
        let name = segment::name(&self.unit.key, round, index);
        if self.store.create(&name, bytes)? == Created::New {
            return Ok(true);
        }
        let theirs = self.store.read(&name)?.unwrap_or_default();
        let theirs = segment::read(&name, &theirs, &mut |_, _| Ok(()))?.tail;
        // The same frames in the same state: it does not matter whose they are.
        let same = |t: &Tail| (t.last_frame, t.forced, t.end.is_some());
        Ok(same(&theirs) == same(&tail))
    }
}

fn not_there(path: &Path, e: std::io::Error) -> Error {
    Error::machine(Error::read(path, e).to_string())
}

/// What is in the store of a unit.
fn chain(store: &Store, key: &str, round: u32) -> Result<Chain> {
    let mut there: Vec<_> = store
        .list(&format!("segments/{key}"))?
        .iter()
        .filter_map(|l| segment::parse(&l.name))
        .filter(|(r, _)| *r == round)
        .map(|(_, index)| index)
        .collect();
    there.sort_unstable();
    let segments = there.iter().enumerate().take_while(|(i, index)| i == *index).count();
    let Some(last) = segments.checked_sub(1) else { return Ok(Chain::default()) };
    let name = segment::name(key, round, last);
    let bytes = store.read(&name)?.unwrap_or_default();
    let tail = segment::read(&name, &bytes, &mut |_, _| Ok(()))?.tail;
    Ok(Chain { segments, tail: Some(tail) })
}

/// What is met on the way through a unit's segments.
pub(super) enum Step {
    /// A frame, and how long it is shown, in nanoseconds.
    Frame(FrameRecord, u64),
    /// The segment of the frames before is over.
    Over(segment::Segment),
}

/// Goes through a unit's segments in order.
///
/// # Errors
/// A store that does not answer or lacks a segment, one that is not whole; what `see` says.
fn each(
    store: &Store,
    (key, round, segments): (&str, u32, usize),
    see: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<()> {
    let names: Vec<_> = (0..segments).map(|index| segment::name(key, round, index)).collect();
    for names in names.chunks(READ_AHEAD) {
        for (name, bytes) in names.iter().zip(store.read_all(names)?) {
            let bytes = bytes.ok_or_else(|| {
                Error::output(format!("{name}: is missing in the store")).remedy("run its shard again")
            })?;
            let part =
                segment::read(name, &bytes, &mut |record, duration| see(Step::Frame(record, duration)))?;
            see(Step::Over(part))?;
        }
    }
    Ok(())
}

/// As [`each`], with tracks numbered through the recording.
///
/// # Errors
/// As [`each`].
pub(super) fn walk(
    store: &Store,
    numbers: Option<&Numbers>,
    place: (&str, u32, usize),
    see: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<()> {
    let mut joins = super::outcome::Joins::new(numbers);
    each(store, place, &mut |mut step| {
        match &mut step {
            Step::Frame(record, _) => joins.number(record),
            Step::Over(part) => joins.cut(part.tail.forced),
        }
        see(step)
    })
}

fn assemble(store: &Store, settings: &Settings, key: &str, round: u32) -> Result<Outcome> {
    let numbers = settings.numbers()?;
    let segments = chain(store, key, round)?.segments;
    let mut assembly = Assembly::new(numbers.as_ref());
    each(store, (key, round, segments), &mut |step| {
        match step {
            Step::Frame(mut record, duration) => assembly.frame(&mut record, duration),
            Step::Over(part) => assembly.segment(&part),
        }
        Ok(())
    })?;
    Ok(assembly.finish(key, round))
}

/// The segment under way.
struct Part {
    numbers: Option<Numbers>,
    thumbnails: bool,
    engine: String,
    cpu: String,
    writer: Writer,
    findings: Findings,
    best_frames: BestFrames,
    begun: Instant,
    resume: Duration,
    frames: u64,
    first_frame: u64,
    last_frame: u64,
    size: (u32, u32),
    view: Rect,
    /// When something was last drawn that may still be joined to what follows.
    drawn_ns: Option<u64>,
    stages: [(&'static str, f64); 5],
    slowest: Vec<(u64, f64, f64)>,
}

impl Part {
    fn new(engine: String, numbers: Option<Numbers>, thumbnails: bool) -> Self {
        Self {
            writer: Writer::new(),
            findings: Findings::new(numbers.as_ref()),
            best_frames: BestFrames::new(thumbnails, numbers.is_some()),
            numbers,
            thumbnails,
            engine,
            cpu: Machine::detect().cpu,
            begun: Instant::now(),
            resume: Duration::ZERO,
            frames: 0,
            first_frame: 0,
            last_frame: 0,
            size: (0, 0),
            view: Rect::default(),
            drawn_ns: None,
            stages: ["decode", "preprocess", "network", "tracks", "postprocess"].map(|s| (s, 0.0)),
            slowest: Vec::new(),
        }
    }

    /// What is known before the first frame: a segment may have none.
    fn go_on_from(&mut self, last_frame: u64, size: (u32, u32), view: Rect) {
        (self.last_frame, self.size, self.view) = (last_frame, size, view);
    }

    /// The frames before this segment are passed.
    fn resumed(&mut self, since: Instant) {
        self.resume = since.elapsed();
        self.begun = Instant::now();
    }

    /// Takes a frame; says whether the segment is over with it, and whether it had to be.
    fn frame(
        &mut self,
        frame: &Frame,
        mask: &mut Mask,
        spans: Spans,
        length_ns: u64,
    ) -> Result<Option<bool>> {
        let duration = frame.duration.unwrap_or_default().0;
        let record = FrameRecord {
            frame: frame.id.0,
            pts_ns: frame.pts.0,
            state: State::Active.name().to_owned(),
            area_px: mask.area_px,
            max_probability: mask.max_probability,
            polyps: std::mem::take(&mut mask.polyps),
            tracks: std::mem::take(&mut mask.tracks),
            gate: mask.gate,
            timings_us: std::collections::BTreeMap::new(),
        };
        if self.frames == 0 {
            self.first_frame = record.frame;
        }
        self.frames += 1;
        self.last_frame = record.frame;
        self.size = (mask.width, mask.height);
        self.view = mask.field_of_view;
        self.writer.frame(&record, duration)?;
        let seen = self.findings.frame(&record, duration);
        self.best_frames.frame(frame, mask.field_of_view, &record, &seen);
        self.time(frame, spans);

        let live = |t: &crate::frame::TrackMark| t.state != TrackState::Ended;
        let followed = record.tracks.iter().any(live);
        if record.tracks.iter().any(|t| t.polyp_id.is_some()) {
            self.drawn_ns = Some(seen.to_ns);
        }
        let ms = |ms: f32| (f64::from(ms) * 1e6) as u64;
        let joinable = self.numbers.is_some_and(|n| {
            self.drawn_ns.is_some_and(|at| seen.to_ns.saturating_sub(at) <= ms(n.gap_ms) + ms(n.coast_ms))
        });
        let quiet = !followed && !joinable;
        let (long, very_long) = (seen.to_ns >= length_ns, seen.to_ns >= length_ns.saturating_mul(2));
        Ok(if long && quiet {
            Some(false)
        } else if very_long {
            Some(true)
        } else {
            None
        })
    }

    fn time(&mut self, frame: &Frame, spans: Spans) {
        let all = [frame.decode, spans.preprocess, spans.network, spans.tracks, spans.postprocess];
        let mut sum = 0.0;
        for ((_, total), span) in self.stages.iter_mut().zip(all) {
            *total += span.as_micros_f64() / 1e3;
            sum += span.as_micros_f64() / 1e3;
        }
        // The wait for the decoder is no work of this frame.
        sum -= frame.decode.as_micros_f64() / 1e3;
        if self.slowest.len() < SLOWEST || self.slowest.iter().any(|s| s.1 < sum) {
            self.slowest.push((frame.id.0, sum, spans.network.as_micros_f64() / 1e3));
            self.slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
            self.slowest.truncate(SLOWEST);
        }
    }

    /// Ends the segment and begins the next.
    fn close(&mut self, forced: bool, end: Option<End>) -> Result<(Tail, Vec<u8>)> {
        let next = Self::new(self.engine.clone(), self.numbers, self.thumbnails);
        let done = std::mem::replace(self, next);
        self.go_on_from(done.last_frame, done.size, done.view);
        let total = done.findings.finish();
        let mut best_frames = done.best_frames;
        let best_frames = best_frames.finish(&total, done.first_frame, done.last_frame, EDGE_FRAMES);
        let tail = Tail {
            frames: done.frames,
            last_frame: done.last_frame,
            forced,
            width: done.size.0,
            height: done.size.1,
            view: done.view,
            end,
            cost: Cost {
                elapsed_ms: done.begun.elapsed().as_secs_f64() * 1e3,
                resume_ms: done.resume.as_secs_f64() * 1e3,
                engine: done.engine,
                cpu: done.cpu,
                stages_ms: done.stages.iter().map(|(s, ms)| ((*s).to_owned(), *ms)).collect(),
                slowest: done.slowest,
            },
        };
        let bytes = done.writer.finish(best_frames, tail.clone())?;
        Ok((tail, bytes))
    }
}
