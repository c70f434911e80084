//! The fused engine on the CPU.
//!
//! In: a checkpoint, a precision, an input size. Out: a [`Plan`](crate::engine::Network) that runs a frame as a fixed list of
//! fused steps over memory taken once, on its own threads.
//!
//! Maps are `[height][width][channels]`; a register tile holds a few pixels times up to 64 output channels, and the
//! reduction runs over channels and taps without padding (26 channels times 9 taps are 234 words), so that narrow layers
//! waste only what 26 lacks to 32. Plain buffers instead of candle tensors: the kernels write into slices of
//! concatenations, into two maps at once and behind borders of zeros, which tensor operations with one destination cannot
//! say; and nothing here needs what a tensor adds. [`FusedConv`]
//! offers the convolution to candle graphs.

mod assemble;
mod conv;
mod crew;
mod ends;
mod fused;
mod isa;
mod lanes;
mod maps;
mod network;
mod pack;
mod peak;
mod plan;
mod pool;
mod resize;
mod subtract;
mod tile;
mod winograd;

#[cfg(test)]
mod kernel_tests;

pub use fused::{Algorithm, FusedConv, FusedConvSettings};
pub use isa::Path;
pub use peak::peak_gflops;

use self::conv::Plane;
use self::crew::Crew;
use crate::engine::{Network, Shape};
use crate::model::Checkpoint;
use crate::{Error, Result};

/// How a [`Cpu`] engine is built.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub path: Path,
    /// Threads in all, the caller's included; `None` takes all the machine has.
    pub threads: Option<usize>,
    /// (height, width) of the input; `None` takes the checkpoint's.
    pub size: Option<(usize, usize)>,
    /// Niceness of the engine's own threads: 0 leaves it, higher yields to the video path.
    pub nice: i32,
}

/// The network compiled for this processor.
pub struct Cpu {
    crew: Crew<plan::Plan>,
    shape: Shape,
    path: Path,
    threads: usize,
    /// `output1`, before the last resize.
    low: Plane,
    low_size: (usize, usize),
}

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
        let isa = settings.path.isa().ok_or_else(|| {
            Error::machine(format!("this processor cannot run the engine's {} kernels", settings.path))
                .remedy("use --precision auto")
        })?;
        let shape = Shape::of(checkpoint, settings.size)?;
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = settings.threads.unwrap_or_else(available).max(1);
        let (plan, low) = network::build(checkpoint, isa, (shape.height, shape.width), threads)?;
        let crew = Crew::new(plan, threads, settings.nice)?;
        Ok(Self {
            crew,
            shape,
            path: settings.path,
            threads,
            low,
            low_size: (shape.height / 4, shape.width / 4),
        })
    }

    pub fn path(&self) -> Path {
        self.path
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of weights, activations and scratch.
    pub fn bytes(&self) -> usize {
        self.crew.work().bytes()
    }

    /// The plan's waves, in order.
    pub fn waves(&self) -> Vec<WaveReport> {
        self.crew.work().waves.iter().map(|w| WaveReport { group: w.group, macs: w.macs }).collect()
    }

    /// Multiply-accumulates of a frame.
    pub fn macs(&self) -> u64 {
        self.crew.work().waves.iter().map(|w| w.macs).sum()
    }

    /// `output1` of the last frame, `[classes, height / 4, width / 4]`: the logits before the last resize.
    pub fn low_resolution(&self) -> &[f32] {
        let len = self.shape.classes * self.low_size.0 * self.low_size.1;
        // SAFETY: the plane is that long; no frame runs while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.low.start, len) }
    }

    /// As [`Network::run`]; `after` is told the number of each wave (see [`Cpu::waves`]) as it ends.
    pub fn run_observed(
        &mut self,
        input: &[f32],
        logits: &mut [f32],
        after: impl FnMut(usize),
    ) -> Result<()> {
        if input.len() != self.shape.input_len() || logits.len() != self.shape.logits_len() {
            return Err(Error::internal("network: a buffer of the wrong length was handed over"));
        }
        // SAFETY: lengths were checked; both outlive the frame, which ends before this function does.
        unsafe { self.crew.work().set_buffers(input.as_ptr(), logits.as_mut_ptr()) };
        self.crew.frame(after)
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
}
