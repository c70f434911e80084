//! The engine: a frame as one graph.
//!
//! In: a picture (or normalised planes). Out: marked pixels and logits. The first frame of a kind of picture captures
//! its graph: upload, conversion and reduction, network, threshold, download; every further one replays it.

use super::driver::{Gpu, Graph, Pinned, Warmer};
use super::launch::Device;
use super::lower::{Plan, lower};
use super::params::Statistics;
use super::picture::{PictureStage, marks_len, spread_marks, unsorted};
use crate::engine::{Network, Pictures, Route, Shape};
use crate::frame::{Extent, Found, Picture, Rect, packed_len};
use crate::model::{self, Checkpoint};
use crate::postprocess::not_a_number;
use crate::program;
use crate::{Error, Result};

/// One launch of a frame, for reports.
#[derive(Clone, Debug)]
pub struct LaunchReport {
    /// Part of the network.
    pub group: &'static str,
    /// Kernel, sizes and cut.
    pub label: String,
    /// Multiply-accumulates the mathematics asks for.
    pub macs: u64,
    /// Bytes that must move at least.
    pub bytes: u64,
}

/// The name of device `ordinal`, with everything the engine needs of it tried.
///
/// # Errors
/// No driver, no such device, an architecture before Ampere.
pub fn card(ordinal: usize) -> Result<String> {
    Ok(Gpu::open(ordinal)?.name())
}

/// The network compiled for one GPU.
///
/// A frame that fails leaves the engine unusable where CUDA says so: drop it and build another, which begins with a new
/// context if no other engine of the process holds the old one.
pub struct Cuda {
    // The warmer and the graphs go before what they refer to.
    warmer: Option<Warmer>,
    planes_graph: Option<Graph>,
    picture_graph: Option<Graph>,
    plan: Plan,
    stage: PictureStage,
    shape: Shape,
    ordinal: usize,
    card: String,
    input: Pinned,
    logits: Pinned,
    statistics: Pinned,
    picture: Pinned,
    inside: Pinned,
    gpu: Gpu,
}

impl Cuda {
    /// Builds the plan on device `ordinal`: packs, uploads, measures how to cut each launch.
    ///
    /// # Errors
    /// No such device, no memory, an input size (height, width) that is not a multiple of 32, a broken checkpoint.
    pub fn new(checkpoint: &Checkpoint, ordinal: usize, size: Option<(usize, usize)>) -> Result<Self> {
        Self::on(Gpu::open(ordinal)?, checkpoint, size)
    }

    /// As [`Cuda::new`], with kernels from a file instead of those compiled in: to compare versions of them.
    ///
    /// # Errors
    /// As [`Cuda::new`]; kernels that cannot be loaded.
    pub fn with_kernels(
        checkpoint: &Checkpoint,
        ordinal: usize,
        size: Option<(usize, usize)>,
        kernels: &[u8],
    ) -> Result<Self> {
        Self::on(Gpu::with_kernels(ordinal, kernels)?, checkpoint, size)
    }

    fn on(mut gpu: Gpu, checkpoint: &Checkpoint, size: Option<(usize, usize)>) -> Result<Self> {
        let shape = Shape::of(checkpoint, size)?;
        let ordinal = gpu.ordinal();
        let published = model::program(checkpoint.architecture(), (shape.height, shape.width));
        let plan = lower(&program::fuse(published), checkpoint, &mut gpu)?;
        let input = gpu.pinned(4 * shape.input_len())?;
        let logits = gpu.pinned(4 * shape.logits_len())?;
        let statistics = gpu.pinned(size_of::<Statistics>())?;
        gpu.synchronize()?;
        Ok(Self {
            warmer: None,
            planes_graph: None,
            picture_graph: None,
            plan,
            stage: PictureStage::new(checkpoint.description()),
            shape,
            ordinal,
            card: gpu.name(),
            input,
            logits,
            statistics,
            picture: Pinned::NONE,
            inside: Pinned::NONE,
            gpu,
        })
    }

    /// The card's name.
    pub fn card(&self) -> &str {
        &self.card
    }

    /// Bytes of activations and parameters on the device.
    pub fn bytes(&self) -> (usize, usize) {
        self.plan.bytes
    }

    /// MHz of the card's multiprocessors, at most.
    pub fn clock_mhz(&self) -> Option<f64> {
        self.gpu.clock_mhz()
    }

    /// The card's multiprocessors.
    pub fn processors(&self) -> usize {
        self.gpu.processors()
    }

    /// MHz at which a multiprocessor ticks at this moment.
    ///
    /// # Errors
    /// Whatever CUDA says.
    pub fn ticking_mhz(&mut self) -> Result<f64> {
        self.gpu.ticking_mhz()
    }

    /// Bytes a second of a copy within the card's memory, reads and writes counted.
    ///
    /// # Errors
    /// Whatever CUDA says.
    pub fn copy_rate(&mut self) -> Result<f64> {
        self.gpu.copy_rate(1 << 30)
    }

    /// Whether a launch can begin while the one before it still runs: on Hopper and later.
    pub fn can_overlap(&self) -> bool {
        self.gpu.can_overlap()
    }

    /// Lets each launch begin while the one before it still runs, or no longer: for benchmarks.
    pub fn overlap(&mut self, overlap: bool) {
        self.gpu.overlap(overlap);
        self.planes_graph = None;
        self.picture_graph = None;
    }

    /// Keeps one multiprocessor busy between frames, so that the card's clock does not fall, or stops doing so.
    ///
    /// # Errors
    /// No thread, no memory.
    pub fn keep_warm(&mut self, warm: bool) -> Result<()> {
        self.warmer = None;
        if warm {
            self.warmer = Some(self.gpu.warmer()?);
        }
        Ok(())
    }

    /// The network's launches, in order.
    pub fn launches(&self) -> Vec<LaunchReport> {
        self.plan
            .steps
            .iter()
            .map(|s| LaunchReport { group: s.group, label: s.label.clone(), macs: s.macs, bytes: s.bytes })
            .collect()
    }

    /// Kernels and copies of the picture's graph, once there is one.
    pub fn nodes(&self) -> Option<usize> {
        self.picture_graph.as_ref().map(|g| g.nodes)
    }

    /// Microseconds from the start of the network to the end of each launch, by an event behind each, which itself
    /// takes time.
    ///
    /// # Errors
    /// Whatever CUDA says.
    pub fn profile(&mut self) -> Result<Vec<f32>> {
        let count = self.plan.steps.len();
        let events = self.gpu.events(count + 1)?;
        self.gpu.record(&events, 0)?;
        for (i, step) in self.plan.steps.iter().enumerate() {
            self.gpu.launch(&step.launch)?;
            self.gpu.record(&events, i + 1)?;
        }
        self.gpu.synchronize()?;
        (1..=count).map(|end| self.gpu.between(&events, 0, end)).collect()
    }

    /// One frame's launches, shown to a profiler that was started with the program.
    ///
    /// # Errors
    /// Whatever CUDA says.
    pub fn show_to_profiler(&mut self) -> Result<()> {
        self.gpu.synchronize()?;
        self.gpu.show_to_profiler(true)?;
        launch_network(&mut self.gpu, &self.plan)?;
        self.gpu.synchronize()?;
        self.gpu.show_to_profiler(false)
    }

    /// One frame from planes without a graph: every launch from the host.
    pub fn run_without_graph(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        self.put_planes(input, logits)?;
        launch_planes(&mut self.gpu, &self.plan, self.input, self.logits, self.statistics, self.shape)?;
        self.take_logits(logits)?;
        Ok(())
    }

    fn put_planes(&mut self, input: &[f32], logits: &[f32]) -> Result<()> {
        if input.len() != self.shape.input_len() || logits.len() != self.shape.logits_len() {
            return Err(Error::internal("network: a buffer of the wrong length was handed over"));
        }
        // SAFETY: the last frame was waited for; nobody else has the buffer.
        unsafe { self.input.bytes() }.copy_from_slice(super::launch::bytes_of(input));
        Ok(())
    }

    /// Waits for the frame; its statistics and logits.
    fn take_logits(&mut self, logits: &mut [f32]) -> Result<Statistics> {
        self.gpu.synchronize()?;
        // SAFETY: everything has run; the buffers are page-aligned and as long as what they hold.
        let s = unsafe { self.statistics.bytes().as_ptr().cast::<Statistics>().read() };
        if s.broken != 0 {
            return Err(not_a_number());
        }
        // SAFETY: everything has run; the buffer is page-aligned and was made for as many logits as the caller's.
        let from =
            unsafe { std::slice::from_raw_parts(self.logits.bytes().as_ptr().cast::<f32>(), logits.len()) };
        logits.copy_from_slice(from);
        Ok(s)
    }

    /// Makes graph and buffers fit this picture, and puts its bytes where the graph takes them from.
    fn put_picture(&mut self, picture: &Picture, view: Rect, level: f32) -> Result<()> {
        let (Self { gpu, plan, stage, shape, .. }, whole) = (&mut *self, packed_len(&picture.info));
        let changed = stage.prepare(gpu, plan, *shape, picture, view, level)?;
        let marked = marks_len(view);
        if changed || self.picture_graph.is_none() {
            self.picture_graph = None;
            if self.picture.len() < whole {
                self.picture = self.gpu.pinned(whole)?;
            }
            if self.inside.len() < marked {
                self.inside = self.gpu.pinned(marked)?;
            }
            let Self { gpu, plan, stage, picture, inside, logits, statistics, shape, .. } = self;
            self.picture_graph = Some(gpu.capture(|gpu| {
                gpu.send(*picture, whole, stage.picture())?;
                for launch in stage.before() {
                    gpu.launch(launch)?;
                }
                launch_network(gpu, plan)?;
                for launch in stage.after() {
                    gpu.launch(launch)?;
                }
                gpu.fetch(stage.inside(), *inside, marked)?;
                gpu.fetch(plan.logits, *logits, 4 * shape.logits_len())?;
                gpu.fetch(plan.statistics, *statistics, size_of::<Statistics>())
            })?);
        }
        // SAFETY: the last frame was waited for.
        let room = unsafe { self.picture.bytes() };
        picture
            .pack_into(room)
            .ok_or_else(|| Error::internal("network: a picture has no room in page-locked memory"))
    }

    /// Replays the last picture's graph over the bytes that lie in pinned memory, and waits: what benchmarks time.
    ///
    /// # Errors
    /// No picture was run yet; whatever CUDA says.
    pub fn replay(&mut self) -> Result<()> {
        let graph = self.picture_graph.as_ref().ok_or_else(|| Error::internal("no picture was run yet"))?;
        self.gpu.replay(graph)?;
        self.gpu.synchronize()
    }
}

/// The network alone, from the stem's map to the logits.
fn launch_network(gpu: &mut Gpu, plan: &Plan) -> Result<()> {
    plan.steps.iter().try_for_each(|step| gpu.launch(&step.launch))
}

fn launch_planes(
    gpu: &mut Gpu,
    plan: &Plan,
    input: Pinned,
    logits: Pinned,
    statistics: Pinned,
    shape: Shape,
) -> Result<()> {
    gpu.send(input, 4 * shape.input_len(), plan.planes)?;
    gpu.launch(&plan.enter)?;
    launch_network(gpu, plan)?;
    gpu.fetch(plan.logits, logits, 4 * shape.logits_len())?;
    gpu.fetch(plan.statistics, statistics, size_of::<Statistics>())
}

impl Network for Cuda {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        self.put_planes(input, logits)?;
        if self.planes_graph.is_none() {
            let Self { gpu, plan, input, logits, statistics, shape, .. } = self;
            self.planes_graph =
                Some(gpu.capture(|gpu| launch_planes(gpu, plan, *input, *logits, *statistics, *shape))?);
        }
        if let Some(graph) = &self.planes_graph {
            self.gpu.replay(graph)?;
        }
        self.take_logits(logits)?;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("cuda:{}, f16, {}", self.ordinal, self.card)
    }

    fn route(&mut self) -> Route<'_> {
        Route::Pictures(self)
    }
}

impl Pictures for Cuda {
    fn run_picture(
        &mut self,
        picture: &Picture,
        view: Rect,
        level: f32,
        logits: &mut [f32],
        inside: &mut [u8],
    ) -> Result<Found> {
        if inside.len() != view.area() as usize || logits.len() != self.shape.logits_len() {
            return Err(Error::internal("network: a buffer of the wrong length was handed over"));
        }
        self.put_picture(picture, view, level)?;
        if let Some(graph) = &self.picture_graph {
            self.gpu.replay(graph)?;
        }
        let s = self.take_logits(logits)?;
        // SAFETY: everything has run.
        let marks = unsafe { self.inside.bytes() };
        spread_marks(marks, view.w as usize, inside);
        let extent = match s.area {
            0 => Extent::default(),
            _ => Extent {
                left: s.left as usize,
                top: s.top as usize,
                right: s.right as usize,
                bottom: s.bottom as usize,
            },
        };
        Ok(Found { area: u64::from(s.area), top: unsorted(s.highest), extent })
    }
}
