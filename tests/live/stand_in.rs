//! A network that answers with a disc, and a session around it whose every frame is compared before and after.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use polypscope::engine::{Network, Route, Shape};
use polypscope::frame::Nanos;
use polypscope::live::{OverlayGraph, OverlayGraphSettings, Shown, Tap};
use polypscope::model::checkpoint::Description;
use polypscope::overlay::Style;
use polypscope::preprocess::FieldOfView;
use polypscope::segment::Segmenter;
use polypscope::telemetry::event::{
    Event, Events, FrameEvent, LeftEvent, MaskEvent, StateChange, StreamEvent,
};
use polypscope::worker::{Factory, FrameAnalyzer};

const SIDE: usize = 64;

/// What the stand-in does with the next frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Takes this many milliseconds.
    Slow(u64),
    /// Does not come back while it lasts.
    Stuck,
    Panics,
    NotANumber,
}

/// The mood, set by the test and read by every network of the session, and when the first one panicked.
#[derive(Debug)]
pub struct Moods(Mutex<Mood>, Mutex<Option<Instant>>);

impl Moods {
    pub fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self(Mutex::new(mood), Mutex::default()))
    }

    pub fn set(&self, mood: Mood) {
        *self.0.lock().expect("no holder panics") = mood;
    }

    pub fn panicked_at(&self) -> Option<Instant> {
        *self.1.lock().expect("no holder panics")
    }

    fn get(&self) -> Mood {
        *self.0.lock().expect("no holder panics")
    }
}

struct Disc {
    moods: Arc<Moods>,
    usual: Duration,
}

impl Network for Disc {
    fn shape(&self) -> Shape {
        Shape { height: SIDE, width: SIDE, classes: 1 }
    }

    fn run(&mut self, _input: &[f32], logits: &mut [f32]) -> polypscope::Result<()> {
        let mood = self.moods.get();
        match mood {
            Mood::Slow(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Mood::Stuck => {
                let until = Instant::now() + Duration::from_secs(60);
                while self.moods.get() == Mood::Stuck && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Mood::Panics => {
                self.moods.1.lock().expect("no holder panics").get_or_insert_with(Instant::now);
                panic!("told to")
            }
            _ => std::thread::sleep(self.usual),
        }
        for (i, l) in logits.iter_mut().enumerate() {
            let (x, y) = ((i % SIDE) as f32 - 32.0, (i / SIDE) as f32 - 32.0);
            *l = if x.hypot(y) < 12.0 { 5.0 } else { -5.0 };
        }
        if mood == Mood::NotANumber {
            logits[7] = f32::NAN;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "stand-in".into()
    }

    fn route(&mut self) -> Route<'_> {
        Route::Planes
    }
}

fn description() -> Description {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/m2snet-polyp.safetensors");
    polypscope::model::Checkpoint::open(weights.as_ref())
        .expect("the shipped checkpoint opens")
        .description()
        .clone()
}

/// Builds segmenters around [`Disc`].
pub fn factory(moods: Arc<Moods>, usual: Duration) -> Box<Factory> {
    let description = description();
    Box::new(move |_| {
        let network = Box::new(Disc { moods: moods.clone(), usual });
        let analyzer: Box<dyn FrameAnalyzer> =
            Box::new(Segmenter::new(network, &description, FieldOfView::Full, None));
        Ok(analyzer)
    })
}

/// Compares each frame before and after the overlay.
#[derive(Default)]
pub struct Compare {
    before: AtomicU64,
    /// Per frame: whether it went on as it came.
    pub untouched: Mutex<Vec<bool>>,
}

fn hash(buffer: &gst::BufferRef) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let map = buffer.map_readable().expect("frames can be read");
    let mut h = DefaultHasher::new();
    h.write(&map);
    h.finish()
}

impl Tap for Compare {
    fn clean(&self, buffer: &gst::BufferRef, _: &gst_video::VideoInfo) {
        self.before.store(hash(buffer), Ordering::Relaxed);
    }

    fn marked(&self, buffer: &gst::BufferRef, _: &gst_video::VideoInfo, _: &Shown) {
        let same = hash(buffer) == self.before.load(Ordering::Relaxed);
        self.untouched.lock().expect("no holder panics").push(same);
    }
}

/// Settings under which a network that is starved by other programs is still shown. Which mask is too old is judged by
/// `safety::Watch`, whose tests set the clock; a test of a session that is about it takes the usual settings.
pub fn patient() -> OverlayGraphSettings {
    OverlayGraphSettings { max_mask_age: Duration::from_secs(30).into(), ..OverlayGraphSettings::default() }
}

/// A running session.
pub struct Session {
    pub core: OverlayGraph,
    pub pipeline: gst::Pipeline,
    pub compare: Arc<Compare>,
    pub moods: Arc<Moods>,
    events: Events,
    pub seen: Seen,
}

/// Everything that was told so far.
#[derive(Default)]
pub struct Seen {
    pub frames: Vec<FrameEvent>,
    pub left: Vec<LeftEvent>,
    pub masks: Vec<MaskEvent>,
    pub states: Vec<StateChange>,
    pub stream: Vec<StreamEvent>,
}

pub const SOURCE: &str = "videotestsrc is-live=true pattern=ball name=source ! \
     video/x-raw,format=NV12,width=320,height=240,framerate=50/1";

impl Session {
    /// `source` must hold an element called `source`. Without the status rectangle, so that a frame without a mask is
    /// byte for byte the source's. Masks do not grow too old, see [`patient`].
    pub fn start(source: &str, mood: Mood, usual: Duration) -> Self {
        Self::start_with(source, mood, usual, patient())
    }

    pub fn start_with(source: &str, mood: Mood, usual: Duration, settings: OverlayGraphSettings) -> Self {
        let moods = Moods::new(mood);
        Self::start_from(source, factory(moods.clone(), usual), moods, settings)
    }

    /// With workers that are built in a way of the test's own.
    pub fn start_from(
        source: &str,
        factory: Box<Factory>,
        moods: Arc<Moods>,
        settings: OverlayGraphSettings,
    ) -> Self {
        polypscope::worker::log_panics();
        let compare = Arc::new(Compare::default());
        let settings = OverlayGraphSettings {
            style: Style { status: false, ..settings.style },
            tap: Some(compare.clone()),
            ..settings
        };
        let (core, events) = OverlayGraph::new(settings, factory).expect("the session starts");
        let pipeline = gst::parse::launch(&format!("{source} ! identity name=entry silent=true"))
            .expect("the source parses")
            .downcast::<gst::Pipeline>()
            .expect("several elements make a pipeline");
        let entry = pipeline.by_name("entry").expect("it is there");
        let sink = gst::ElementFactory::make("fakesink").property("sync", true).build().expect("fakesink");
        let overlay = core.overlay().clone();
        pipeline.add_many([overlay.upcast_ref::<gst::Element>(), &sink]).expect("elements can be added");
        gst::Element::link_many([&entry, overlay.upcast_ref(), &sink]).expect("they fit");
        core.watch_pads(&entry.static_pad("src").expect("a pad"), &sink.static_pad("sink").expect("a pad"));
        pipeline.set_state(gst::State::Playing).expect("it plays");
        Self { core, pipeline, compare, moods, events, seen: Seen::default() }
    }

    pub fn look(&mut self) -> &Seen {
        for event in self.events.receiver.try_iter() {
            match event {
                Event::Frame(e) => self.seen.frames.push(e),
                Event::Left(e) => self.seen.left.push(e),
                Event::Mask(e) => self.seen.masks.push(e),
                Event::State(e) => self.seen.states.push(e),
                Event::Stream(e) => self.seen.stream.push(e),
            }
        }
        &self.seen
    }

    /// Waits until what was told fulfils a condition; fails the test after a time that only a hang takes, whatever else
    /// the machine is doing.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self.look()) {
            assert!(Instant::now() < deadline, "in vain: {what}; states {:?}", self.seen.states);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn now(&self) -> Nanos {
        self.core.epoch().elapsed().into()
    }

    /// Ends the session and hands over all that was told.
    pub fn stop(mut self) -> (Seen, Vec<bool>) {
        self.pipeline.set_state(gst::State::Null).expect("it stops");
        self.look();
        let untouched = self.compare.untouched.lock().expect("no holder panics").clone();
        (std::mem::take(&mut self.seen), untouched)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.moods.set(Mood::Well);
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
