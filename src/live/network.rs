//! The network of a live session: measured, built once, and given to the workers.
//!
//! In: a checkpoint and what is asked of its network. Out: a [`LiveNetwork`], from which any number of sessions, one
//! after the other, have their analyzers. The network that was built to choose the input size by is the first worker's;
//! every other one builds its own in its thread.

use std::sync::{Arc, Mutex};

use super::adaptive_size::{AdaptiveAnalyzer, Build, Built, Sides};
use super::sizing::{self, Sizing};
use crate::engine::{self, DeviceChoice, Network, Options, Precision};
use crate::frame::Nanos;
use crate::lock::lock;
use crate::model::Checkpoint;
use crate::preprocess::FieldOfView;
use crate::priority::ONLY_WHEN_IDLE;
use crate::segment::Segmenter;
use crate::tracks::SharedFilter;
use crate::worker::{Factory, FrameAnalyzer};
use crate::{Error, Result};

/// Workers yield to the video path: they have a whole frame's time, the picture has a few milliseconds.
pub(super) const NICE: i32 = ONLY_WHEN_IDLE;

/// What is asked of a session's network.
pub struct NetworkSettings {
    /// Has the weights, and what is known of the network.
    pub checkpoint: Checkpoint,
    /// One worker each; one that chooses by itself where there are none.
    pub devices: Vec<DeviceChoice>,
    /// What the network computes with.
    pub precision: Precision,
    /// Threads of an engine on the processor; `None`: all cores.
    pub threads: Option<usize>,
    /// Whether a GPU is kept busy between frames, so that its clock does not fall.
    pub keep_warm: bool,
    /// Pixels of a side of the network's input; `None`: the largest that meets the budget.
    pub side: Option<usize>,
    /// Go on with a smaller input when the machine becomes slower. A side that was asked for stays in any case.
    pub adapts: bool,
    /// Which part of the picture is analysed.
    pub view: FieldOfView,
    /// Probability from which on a pixel is marked; the checkpoint's own where `None`.
    pub threshold: Option<f64>,
    /// Aimed at, from a frame's capture to its mask on screen.
    pub annotation_budget: Nanos,
    /// One frame of the source.
    pub period: Nanos,
}

/// Puts something around every network that is built: for runs that slow it down on purpose.
pub type Wrap = dyn Fn(Box<dyn Network>) -> Box<dyn Network> + Send + Sync;

/// See the module.
#[derive(Clone)]
pub struct LiveNetwork {
    chosen: Arc<Chosen>,
    wrap: Option<Arc<Wrap>>,
}

struct Chosen {
    settings: NetworkSettings,
    /// (height, width) of the input.
    size: (usize, usize),
    engine: String,
    words: String,
    /// Until the first worker takes it.
    measured: Mutex<Option<Box<dyn Network>>>,
}

impl LiveNetwork {
    /// Chooses the input size by measuring on this machine, which takes a few seconds.
    ///
    /// # Errors
    /// As [`engine::open`].
    pub fn choose(settings: NetworkSettings) -> Result<Self> {
        let options = Options {
            size: settings.side.map(|side| (side, side)),
            ..settings.options(settings.devices.first().copied().unwrap_or_default())
        };
        let Sizing { network, size, words } =
            sizing::choose(&settings.checkpoint, options, settings.annotation_budget, settings.period)?;
        let (engine, measured) = (network.describe(), Mutex::new(Some(network)));
        Ok(Self { chosen: Arc::new(Chosen { settings, size, engine, words, measured }), wrap: None })
    }

    /// The same, with something put around every network.
    #[must_use]
    pub fn wrapped(self, wrap: Arc<Wrap>) -> Self {
        Self { wrap: Some(wrap), ..self }
    }

    /// The input size and why it was chosen.
    pub fn words(&self) -> &str {
        &self.chosen.words
    }

    /// Device and precision, for reports.
    pub fn engine(&self) -> &str {
        &self.chosen.engine
    }

    /// (height, width) of the input as it was chosen.
    pub fn size(&self) -> (usize, usize) {
        self.chosen.size
    }

    /// How many it is good for: one a device.
    pub fn workers(&self) -> usize {
        self.chosen.settings.devices.len().max(1)
    }

    /// Probability from which on a pixel is marked.
    pub fn threshold(&self) -> f64 {
        let settings = &self.chosen.settings;
        settings.threshold.unwrap_or(settings.checkpoint.description().threshold)
    }

    /// Aimed at, from a frame's capture to its mask on screen.
    pub fn annotation_budget(&self) -> Nanos {
        self.chosen.settings.annotation_budget
    }

    /// For one session: what builds its workers' analyzers, which share a filter, and their input sizes where these may
    /// change.
    pub(super) fn analyzers(&self, filter: &SharedFilter) -> (Box<Factory>, Option<Arc<Sides>>) {
        let settings = &self.chosen.settings;
        let adapts = settings.adapts && settings.side.is_none();
        let sides = adapts.then(|| Arc::new(Sides::new(self.workers(), self.chosen.size.1)));
        let (network, theirs, filter) = (self.clone(), sides.clone(), filter.clone());
        let limit = sizing::beside(settings.annotation_budget, settings.period);
        let factory = move |k: usize| -> Result<Box<dyn FrameAnalyzer>> {
            let Some(sides) = &theirs else { return Ok(network.build(k, network.chosen.size, &filter)?) };
            let (network, filter) = (network.clone(), filter.clone());
            let build: Arc<Build> = Arc::new(move |side| network.build(k, (side, side), &filter));
            Ok(Box::new(AdaptiveAnalyzer::new(build, sides.clone(), k, limit, NICE)?))
        };
        (Box::new(factory), sides)
    }

    /// Worker `k`'s analyzer, of that input size.
    fn build(&self, k: usize, size: (usize, usize), filter: &SharedFilter) -> Result<Built> {
        let Chosen { settings, measured, .. } = &*self.chosen;
        // Kept for the first worker alone: it was built for that one's device.
        let measured = if k == 0 { lock(measured).take() } else { None };
        let network = match measured {
            Some(network) if size == self.chosen.size => network,
            _ => {
                let device = settings.devices.get(k).copied().unwrap_or_default();
                let options = Options { size: Some(size), ..settings.options(device) };
                engine::open(&settings.checkpoint, options)?
            }
        };
        let network = match &self.wrap {
            Some(wrap) => wrap(network),
            None => network,
        };
        let description = settings.checkpoint.description();
        let segmenter = Segmenter::new(network, description, settings.view, settings.threshold);
        Ok(Box::new(segmenter.with_filter(filter.clone())))
    }
}

impl NetworkSettings {
    /// For a device, at the checkpoint's own size.
    fn options(&self, device: DeviceChoice) -> Options {
        Options {
            device,
            precision: self.precision,
            threads: self.threads,
            size: None,
            keep_warm: self.keep_warm,
            nice: NICE,
        }
    }
}

/// A session without a network has no workers.
pub(super) fn no_analyzer(_: usize) -> Result<Box<dyn FrameAnalyzer>> {
    Err(Error::internal("a session without a network has no worker"))
}
