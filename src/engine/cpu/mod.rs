//! The fused engine on the CPU.
//!
//! In: a checkpoint, a precision, an input size. Out: a [`Plan`](crate::engine::Network) that runs a frame as a fixed
//! list of fused steps over memory taken once, on its own threads.
//!
//! Maps are `[height][width][channels]`; a register tile holds a few pixels times up to 64 output channels, and the
//! reduction runs over channels and taps without padding (26 channels times 9 taps are 234 words), so that narrow
//! layers waste only what 26 lacks to 32. Plain buffers instead of candle tensors: the kernels write into slices of
//! concatenations, into two maps at once and behind borders of zeros, which tensor operations with one destination
//! cannot say; and nothing here needs what a tensor adds. [`FusedConv`] offers the convolution to candle graphs.

mod access;
mod assemble;
mod candle_op;
mod conv;
mod input;
mod kernel_set;
mod lanes;
mod lower;
mod maps;
mod multiply_accumulate;
mod observe;
mod output_conv;
mod pack;
mod peak;
mod plan;
mod pool;
mod quantise;
mod resize;
mod storage;
mod subtract;
mod thread_pool;
mod tile;
mod upsample;
mod winograd;
mod winograd_i16;

#[cfg(test)]
mod kernel_tests;

pub use candle_op::{Algorithm, FusedConv, FusedConvSettings};
pub use kernel_set::KernelSet;
pub use peak::peak_gflops;

use self::conv::Plane;
use self::plan::Site;
use self::storage::Storage;
use self::thread_pool::ThreadPool;
use crate::engine::{Network, Route, Shape};
use crate::model::{self, Checkpoint};
use crate::program::{self, Program, Value};
use crate::{Error, Result, memory};

/// How a [`Cpu`] engine is built.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Instruction set and precision of the kernels; the processor must have it.
    pub path: KernelSet,
    /// Threads in all, the caller's included; `None` takes all the machine has.
    pub threads: Option<usize>,
    /// (height, width) of the input; `None` takes the checkpoint's.
    pub size: Option<(usize, usize)>,
    /// Niceness of the engine's own threads: 0 leaves it, higher yields to the video path.
    pub nice: i32,
}

/// The network compiled for this processor.
pub struct Cpu {
    pool: ThreadPool<plan::Plan>,
    program: Program,
    shape: Shape,
    path: KernelSet,
    threads: usize,
    /// `output1`, before the last resize.
    low: Plane,
    low_len: usize,
}

/// Bytes a plan will take, asked before it is built, with what its caller holds for it (input and logits).
///
/// A sum of parts that were measured at many sizes and rounded up; a test compares it with what plans really take.
fn needed(shape: Shape, storage: Storage, threads: u64) -> u64 {
    let bytes = storage.bytes() as u64;
    let Shape { height, width, classes } = shape;
    let (width, pixels, classes) = (width as u64, (height * width) as u64, classes as u64);
    let packed = WEIGHTS * bytes;
    let maps = pixels * VALUES_PER_PIXEL * bytes;
    let scratch = threads * (SCRATCH + width * SCRATCH_PER_COLUMN);
    // Planes and logits in f32, the last map at a quarter of the size.
    let ends = pixels * (3 + classes + classes.div_ceil(16)) * size_of::<f32>() as u64;
    packed + maps + scratch + ends
}

/// Values of the packed weights; of the maps for each pixel of the input; bytes of scratch of a thread.
const WEIGHTS: u64 = 58_000_000;
const VALUES_PER_PIXEL: u64 = 212;
const SCRATCH: u64 = 1 << 20;
const SCRATCH_PER_COLUMN: u64 = 4096;

/// One wave of a plan, for reports.
#[derive(Clone, Copy, Debug)]
pub struct WaveReport {
    /// Part of the network.
    pub group: &'static str,
    /// Multiply-accumulates the mathematics asks for.
    pub macs: u64,
}

impl Cpu {
    /// Builds the plan: folds, packs, allocates, starts threads.
    ///
    /// # Errors
    /// A path this processor does not have, an input size that is not a multiple of 32, a broken checkpoint.
    pub fn new(checkpoint: &Checkpoint, settings: Settings) -> Result<Self> {
        let shape = Shape::of(checkpoint, settings.size)?;
        let published = model::program(checkpoint.architecture(), (shape.height, shape.width));
        Self::of_program(published, checkpoint, settings)
    }

    /// The engine for any network whose operations it has kernels for, written down with [`program::Builder`]; its size
    /// is the program's, and its parameters are found in the checkpoint by their keys.
    ///
    /// # Errors
    /// A path this processor does not have, an operation that has no kernel, a parameter the checkpoint does not have.
    pub fn of_program(published: Program, checkpoint: &Checkpoint, settings: Settings) -> Result<Self> {
        let isa = settings.path.isa().ok_or_else(|| {
            Error::machine(format!("this processor cannot run the engine's {} kernels", settings.path))
                .remedy("use --precision auto")
        })?;
        if settings.path.is_i8() && checkpoint.description().activations.is_empty() {
            return Err(Error::input(format!(
                "{}: does not say how large its activations are, which 8-bit integers need",
                checkpoint.description().name
            ))
            .remedy("add it with `polypscope weights quantise`, or use --precision f32"));
        }
        let logits = published.fact(published.output());
        let shape = Shape { height: logits.height, width: logits.width, classes: logits.channels };
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = settings.threads.unwrap_or_else(available).max(1);
        memory::afford(
            &format!("the network at an input of {}x{} pixels", shape.width, shape.height),
            needed(shape, isa.storage, threads as u64),
            |_| "choose a smaller input size".to_owned(),
        )?;
        let program = program::fuse(published);
        let plan = lower::lower(&program, checkpoint, isa, threads)?;
        let low = program.nodes().iter().find_map(|n| match n.op {
            program::Op::Logits { to, .. } => Some(to),
            _ => None,
        });
        let low = low.and_then(|low| plan.probes.iter().find(|p| p.value == low).map(|p| (low, p.site)));
        let Some((value, Site::Planes(low))) = low else {
            return Err(Error::internal("the engine's program has no convolution that writes logits"));
        };
        let low_len = program.fact(value).len();
        let pool = ThreadPool::new(plan, threads, settings.nice)?;
        Ok(Self { pool, program, shape, path: settings.path, threads, low, low_len })
    }

    /// The fused program this engine runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The instruction set and precision that the kernels run in.
    pub fn path(&self) -> KernelSet {
        self.path
    }

    /// Threads in all, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of weights, activations and scratch.
    pub fn bytes(&self) -> usize {
        self.pool.work().bytes()
    }

    /// The plan's waves, in order.
    pub fn waves(&self) -> Vec<WaveReport> {
        self.pool.work().waves.iter().map(|w| WaveReport { group: w.group, macs: w.macs }).collect()
    }

    /// Multiply-accumulates of a frame.
    pub fn macs(&self) -> u64 {
        self.pool.work().waves.iter().map(|w| w.macs).sum()
    }

    /// `output1` of the last frame, `[classes, height / 4, width / 4]`: the logits before the last resize.
    pub fn low_resolution(&self) -> &[f32] {
        // SAFETY: the plane is that long; no frame runs while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.low.start, self.low_len) }
    }

    /// As [`Network::run`]; `after` is told the number of each wave (see [`Cpu::waves`]) as it ends.
    pub fn run_observed(
        &mut self,
        input: &[f32],
        logits: &mut [f32],
        after: impl FnMut(usize),
    ) -> Result<()> {
        self.lend(input, logits)?;
        self.pool.frame(after)
    }

    /// Names the buffers of the frame about to begin; both must outlive it.
    fn lend(&self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        if input.len() != self.shape.input_len() || logits.len() != self.shape.logits_len() {
            return Err(Error::internal("network: a buffer of the wrong length was handed over"));
        }
        // SAFETY: lengths were checked; callers are borrowing both until the frame has ended.
        unsafe { self.pool.work().set_buffers(input.as_ptr(), logits.as_mut_ptr()) };
        Ok(())
    }

    /// As [`Network::run`], showing every value of the program as `[channels, height, width]` right after it was
    /// written, on one thread: for comparison with another engine or the published network, node by node. Slow.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_values(
        &mut self,
        input: &[f32],
        logits: &mut [f32],
        see: &mut dyn FnMut(Value, &[f32]),
    ) -> Result<()> {
        self.lend(input, logits)?;
        let plan = self.pool.work();
        let seen: Vec<observe::Copy> =
            plan.probes.iter().map(|p| observe::Copy::new(p, self.program.fact(p.value))).collect();
        let mut buffer = Vec::new();
        self.pool.frame_alone(|wave| {
            for copy in seen.iter().filter(|c| c.wave == wave) {
                // SAFETY: the plan lives as long as the pool, this wave has ended, and nobody runs the next one yet.
                unsafe { copy.read(&mut buffer) };
                see(copy.value, &buffer);
            }
        })
    }
}

impl Network for Cpu {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        self.run_observed(input, logits, |_| ())
    }

    fn describe(&self) -> String {
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!("cpu, {}, {threads}", self.path)
    }

    fn route(&mut self) -> Route<'_> {
        Route::Planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::Description;
    use crate::model::{Architecture, parameters};

    fn checkpoint(classes: usize) -> Checkpoint {
        use candle_core::{DType, Device, Tensor};
        let architecture = Architecture { classes, ..Architecture::default() };
        let ones = |p: &crate::model::Parameter| {
            Tensor::ones(p.shape.as_slice(), DType::F32, &Device::Cpu).expect("a tensor")
        };
        let tensors = parameters(architecture).iter().map(|p| (p.key.clone(), ones(p))).collect();
        Checkpoint::from_tensors(Description::published("ones", architecture), tensors).expect("a checkpoint")
    }

    /// What is asked of the machine is enough for what a plan takes, and no more than twice that where it is much; the
    /// maps are only reserved here, nothing touches them.
    #[test]
    fn a_plans_memory_is_known_before_it_is_built() {
        let checkpoint = checkpoint(1);
        let mut rows = Vec::new();
        for path in [KernelSet::best_f32()].into_iter().chain(KernelSet::best_bf16()) {
            for (size, threads) in [
                ((32, 32), 1),
                ((352, 352), 2),
                ((96, 4096), 1),
                ((512, 512), 1),
                ((1024, 1024), 3),
                ((2048, 2048), 8),
            ] {
                let settings = Settings { path, threads: Some(threads), size: Some(size), nice: 0 };
                let engine = Cpu::new(&checkpoint, settings).expect("it is built");
                let shape = engine.shape;
                let held = engine.bytes() + 4 * (shape.input_len() + shape.logits_len());
                let storage = path.isa().expect("it is this machine's").storage;
                let asked = needed(shape, storage, threads as u64) as usize;
                let fits = held <= asked && asked <= 2 * held + (64 << 20);
                rows.push((
                    fits,
                    format!("{path} {size:?}: {} MB held, {} asked for", held >> 20, asked >> 20),
                ));
            }
        }
        assert!(rows.iter().all(|(fits, _)| *fits), "{rows:#?}");
    }

    #[test]
    fn sizes_beyond_any_picture_are_refused_in_a_sentence() {
        let checkpoint = checkpoint(1);
        for side in [4128, 100_000, 1 << 31, usize::MAX - 31] {
            let settings =
                Settings { path: KernelSet::best_f32(), threads: Some(1), size: Some((side, side)), nice: 0 };
            let e = Cpu::new(&checkpoint, settings).err().expect("it is refused");
            assert_eq!(e.exit_code(), 2, "{e}");
            assert!(
                e.to_string().contains(if side % 32 == 0 { "is too large" } else { "multiple of 32" }),
                "{e}"
            );
        }
    }
}
