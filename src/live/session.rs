//! A live session from its first frame to its summary.
//!
//! In: a pipeline that is ready, a network, limits. Out: a [`LiveSummary`]; while it runs, controls and
//! snapshots for whoever wants them. The caller's thread only looks after the source and the bus.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adaptive_size::Sides;
use super::controls::Controls;
use super::frame_taps::Taps;
use super::network::{LiveNetwork, NICE, no_analyzer};
use super::overlay_graph::{OverlayGraph, OverlayGraphSettings};
use super::session_control::LiveSessionControl;
use crate::capture::{LivePipeline, Notice, Ready, RecorderSettings, SourceEnd};
use crate::frame::{Nanos, PictureInfo};
use crate::overlay::{Overlay, Style};
use crate::safety::MAX_MASK_AGE;
use crate::telemetry::event::{Event, StreamEvent};
use crate::telemetry::{Collector, CollectorSettings, LiveMarks, LiveSummary, Snapshot};
use crate::tracks::{Confirm, SharedFilter};
use crate::worker::{Factory, SupervisorSettings};
use crate::{Error, Result};

/// What a session is made of.
pub struct Settings {
    /// Source and sink with their values.
    pub ready: Ready,
    /// `None`: a picture without masks.
    pub network: Option<LiveNetwork>,
    /// How marks look.
    pub style: Style,
    /// Probability from which on a pixel is marked, as the controls begin with.
    pub threshold: f64,
    /// A mask older than this is not drawn.
    pub max_mask_age: Nanos,
    /// Follow the picture's motion with masks that are some frames old.
    pub motion: bool,
    /// What the analysts withhold; changed while the session runs.
    pub filter: SharedFilter,
    /// Figures of frames captured before this are left out.
    pub warm_up: Duration,
    /// How long it runs; `None` until it is stopped.
    pub length: Option<Duration>,
    /// JSON lines of all events go into this file; `None`: none are written.
    pub lines: Option<PathBuf>,
    /// A Chrome trace goes into this file; `None`: none is written.
    pub trace: Option<PathBuf>,
}

impl Settings {
    /// A session as `polypscope live` runs it where nothing else is asked for; `threshold` as the checkpoint has it.
    pub fn new(ready: Ready, network: Option<LiveNetwork>, threshold: f64) -> Self {
        Self {
            ready,
            network,
            style: Style::default(),
            threshold,
            max_mask_age: MAX_MASK_AGE,
            motion: true,
            filter: SharedFilter::new(Confirm::default()),
            warm_up: Duration::from_secs(2),
            length: None,
            lines: None,
            trace: None,
        }
    }
}

/// Why a session goes on or not.
#[derive(Debug)]
pub enum Step {
    /// It goes on, and there is nothing to tell.
    On,
    /// A key pressed in the picture's window.
    Key(String),
    /// Something to tell the user.
    Remark(String),
    /// The time is up or the source has ended.
    Done,
    /// It cannot go on, and why.
    Failed(Error),
}

/// A running session.
pub struct Session {
    pipeline: LivePipeline,
    graph: OverlayGraph,
    collector: Collector,
    taps: Arc<Taps>,
    style: Style,
    ready: Ready,
    engine: String,
    network_size: (usize, usize),
    side_now: Option<Arc<Sides>>,
    filter: SharedFilter,
    /// The end of the warm-up, since the session began.
    warm: Nanos,
    end: Option<Instant>,
}

impl Session {
    /// Builds everything and starts the picture; the workers come as soon as they are built.
    ///
    /// # Errors
    /// Whatever keeps the picture from starting. A network that cannot be built does not: the picture runs in bypass.
    pub fn start(settings: Settings) -> Result<Self> {
        let taps = Arc::new(Taps::default());
        let without = settings.network.is_none();
        let (factory, side_now, workers, supervisor) = match &settings.network {
            Some(network) => {
                let (factory, sides) = network.analyzers(&settings.filter);
                let annotation_budget = network.annotation_budget();
                (
                    factory,
                    sides,
                    network.workers(),
                    SupervisorSettings { annotation_budget, nice: NICE, ..SupervisorSettings::default() },
                )
            }
            None => (Box::new(no_analyzer) as Box<Factory>, None, 0, SupervisorSettings::default()),
        };
        let (graph, events) = OverlayGraph::new(
            OverlayGraphSettings {
                style: settings.style,
                threshold: settings.threshold,
                max_mask_age: settings.max_mask_age,
                workers,
                supervisor,
                motion: settings.motion,
                keyed: settings.ready.keyed,
                tap: Some(taps.clone()),
            },
            factory,
        )?;
        graph.controls().switch(!without);
        let mut pipeline = LivePipeline::new(settings.ready.clone(), graph.overlay())?;
        graph.watch_exit(pipeline.exit_pad());
        pipeline.on_entry(graph.entry_watcher());
        let collector = Collector::start(
            events,
            CollectorSettings {
                warm_up: Duration::ZERO,
                lines: settings.lines,
                trace: settings.trace,
                traffic: Box::new(graph.traffic()),
                epoch: graph.epoch(),
            },
        )?;
        taps.write_beside(collector.beside());
        pipeline.start()?;
        // The warm-up counts from the first frame's time, not from the phantom's rendering.
        let warm = Nanos::from(graph.epoch().elapsed() + settings.warm_up);
        collector.measure(warm, Nanos(u64::MAX));
        Ok(Self {
            warm,
            pipeline,
            graph,
            collector,
            taps,
            style: settings.style,
            ready: settings.ready,
            engine: settings.network.as_ref().map_or("none", |n| n.engine()).to_owned(),
            network_size: settings.network.as_ref().map_or((0, 0), |n| n.size()),
            side_now,
            filter: settings.filter,
            end: settings.length.map(|l| Instant::now() + l),
        })
    }

    /// What a user may change while it runs.
    pub fn controls(&self) -> &Arc<Controls> {
        self.graph.controls()
    }

    /// What the analysts withhold.
    pub fn filter(&self) -> &SharedFilter {
        &self.filter
    }

    /// Who looks at the buffers: the recorder, and whoever wants a still picture.
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// The figures, at most about a second old.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.collector.snapshot()
    }

    /// Leaves out figures of frames captured later than this after the warm-up.
    pub fn measure_for(&self, length: Duration) {
        self.collector.measure(self.warm, Nanos(self.warm.0 + Nanos::from(length).0));
    }

    /// The picture that goes through, once its caps are known.
    pub fn picture_info(&self) -> Option<PictureInfo> {
        self.graph.picture_info()
    }

    /// For others who want snapshots.
    pub fn reader(&self) -> impl Fn() -> Arc<Snapshot> + Send + Sync + Clone + 'static {
        self.collector.reader()
    }

    /// What the HTTP control may do with this session; recordings go where `recorder` says.
    pub fn session_control(&self, recorder: Option<RecorderSettings>) -> LiveSessionControl {
        LiveSessionControl {
            controls: self.controls().clone(),
            taps: self.taps.clone(),
            reader: Box::new(self.reader()),
            input: self.ready.name.clone(),
            engine: self.engine.clone(),
            network_size: [self.network_size.0, self.network_size.1],
            side_now: self.side_now.clone(),
            filter: self.filter.clone(),
            epoch: self.graph.epoch(),
            recorder,
        }
    }

    /// Looks after the source and the bus for up to `patience`. To be called in a loop.
    pub fn step(&mut self, patience: Duration) -> Step {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Step::Done;
        }
        if let Some(side) = self.side_now.as_ref().map(|s| s.smallest())
            && side != self.network_size.1
        {
            self.network_size = (side, side);
            return Step::Remark(format!(
                "this machine has become slower: the network's input is {side}x{side} from now on, which meets the annotation \
                 delay; small polyps are missed more often"
            ));
        }
        let ended: Vec<String> =
            self.taps.newly_ended().into_iter().filter_map(|status| status.stopped_because).collect();
        if !ended.is_empty() {
            return Step::Remark(format!("recording stopped: {}", ended.join("; recording stopped: ")));
        }
        let now = || Nanos::from(self.graph.epoch().elapsed());
        match self.pipeline.next(patience) {
            None => Step::On,
            Some(Notice::Ended) => Step::Done,
            Some(Notice::Failed(e)) => Step::Failed(e),
            Some(Notice::Key(key)) => Step::Key(key),
            Some(Notice::Latency(latency)) => {
                self.graph.set_latency(latency);
                Step::On
            }
            Some(Notice::SourceLost(fault)) => {
                self.graph.feed().post(Event::Stream(StreamEvent::SourceLost { at: now() }));
                Step::Remark(format!("the source is lost ({fault}); it is started anew"))
            }
            Some(Notice::SourceBack) => {
                self.graph.feed().post(Event::Stream(StreamEvent::SourceBack { at: now() }));
                Step::Remark("the source is back".into())
            }
        }
    }

    /// How many frames came, and why none comes now.
    pub fn source_end(&mut self) -> SourceEnd {
        self.pipeline.source_end()
    }

    /// Stops, and says what it all came to.
    pub fn finish(self) -> LiveSummary {
        self.finish_with(|_| ()).0
    }

    /// As [`Session::finish`]; `look` sees the collector before it goes.
    pub fn finish_with<R>(self, look: impl FnOnce(&Collector) -> R) -> (LiveSummary, R) {
        let Self { mut pipeline, graph, collector, taps, style, ready, engine, network_size, filter, .. } =
            self;
        let info = graph.picture_info();
        let source_fault = pipeline.source_end().fault;
        drop(pipeline);
        let recordings = taps.close();
        drop(graph);
        // What was posted last is fetched before anybody looks.
        collector.settle();
        let seen = look(&collector);
        let mut summary = collector.finish();
        summary.input = ready.name;
        summary.confirm = filter.setting().name().to_owned();
        summary.confirm_words = filter.words();
        summary.source_fault = source_fault.map(|f| f.to_string());
        summary.recordings = recordings;
        summary.engine = engine;
        summary.network_size = [network_size.0, network_size.1];
        summary.marks = LiveMarks { status_rect: info.and_then(|i| Overlay::new(style).status_rect(&i)) };
        (summary, seen)
    }
}
