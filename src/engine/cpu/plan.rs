//! A plan: the network as waves of fused steps over preallocated memory.
//!
//! In: steps, as [`super::lower`] lays them out. Out: something a thread pool can work through, frame after frame.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

use super::conv::{Conv, Plane};
use super::input::{self, Input};
use super::kernel_set::Isa;
use super::maps::{Block, Maps, Store, View};
use super::output_conv::OutputConv;
use super::pool::Pool;
use super::resize::Join;
use super::storage::Storage;
use super::subtract::Subtract;
use super::thread_pool::Work;
use super::upsample::{self, Upsample};
use super::winograd::Winograd;
use super::winograd_i16::WinogradI16;
use crate::program::Value;

/// One fused operation.
pub(crate) enum Step {
    Input(Input),
    Conv(Conv),
    Winograd(Winograd),
    WinogradI16(WinogradI16),
    Pool(Pool),
    Subtract(Subtract),
    Join(Join),
    OutputConv(OutputConv),
    Upsample(Upsample),
}

impl Step {
    fn tasks(&self) -> usize {
        match self {
            Step::Input(s) => s.tasks(),
            Step::Conv(s) => s.tasks(),
            Step::Winograd(s) => s.tasks(),
            Step::WinogradI16(s) => s.tasks(),
            Step::Pool(s) => s.tasks(),
            Step::Subtract(s) => s.tasks(),
            Step::Join(s) => s.tasks(),
            Step::OutputConv(s) => s.tasks(),
            Step::Upsample(s) => s.tasks(),
        }
    }

    fn scratch(&self, isa: &Isa) -> usize {
        match self {
            Step::Conv(s) => s.scratch(isa.lanes),
            Step::Winograd(s) => s.scratch(isa.lanes),
            Step::WinogradI16(s) => s.scratch(isa.lanes),
            Step::Subtract(s) => s.scratch(),
            Step::Upsample(s) => s.scratch(),
            _ => 0,
        }
    }
}

/// Steps that do not depend on one another.
pub(crate) struct Wave {
    /// Part of the network, for reports.
    pub(crate) group: &'static str,
    pub(crate) steps: Vec<Step>,
    /// Useful multiply-accumulates.
    pub(crate) macs: u64,
}

/// Where a value lies while it lives.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    Map(View),
    /// f32, plane behind plane.
    Planes(Plane),
}

/// A value of the program, to be seen right after the wave that writes it and not later: its memory is used again.
pub(crate) struct Probe {
    pub(crate) wave: usize,
    pub(crate) value: Value,
    pub(crate) site: Site,
    /// What one step of what is stored there is worth.
    pub(crate) scale: f32,
}

/// Everything a frame needs; never moves while the thread pool works on it.
pub(crate) struct Plan {
    pub(crate) isa: &'static Isa,
    pub(crate) waves: Vec<Wave>,
    /// Steps hold pointers into these.
    pub(crate) maps: Maps,
    pub(crate) store: Store,
    pub(crate) probes: Vec<Probe>,
    scratch: Vec<Block>,
    /// Whether the frame's input has something that is no finite number, which integers cannot carry on.
    broken: AtomicBool,
    /// The caller's buffers while a frame runs.
    input: AtomicPtr<f32>,
    logits: AtomicPtr<f32>,
}

impl Plan {
    pub(crate) fn new(
        isa: &'static Isa,
        waves: Vec<Wave>,
        maps: Maps,
        store: Store,
        probes: Vec<Probe>,
        threads: usize,
    ) -> Self {
        let most = waves.iter().flat_map(|w| &w.steps).map(|s| s.scratch(isa)).max().unwrap_or(0);
        let scratch = (0..threads).map(|_| Block::new((most + 64) * size_of::<f32>())).collect();
        Self {
            isa,
            waves,
            maps,
            store,
            probes,
            scratch,
            broken: AtomicBool::new(false),
            input: AtomicPtr::default(),
            logits: AtomicPtr::default(),
        }
    }

    /// Names the buffers of the frame about to begin.
    ///
    /// # Safety
    /// They are as long as the plan's shape says and stay valid until the frame is done.
    pub(crate) unsafe fn set_buffers(&self, input: *const f32, logits: *mut f32) {
        self.broken.store(false, Relaxed);
        self.input.store(input.cast_mut(), Relaxed);
        self.logits.store(logits, Relaxed);
    }

    /// Bytes of activations, weights and scratch.
    pub(crate) fn bytes(&self) -> usize {
        let rest: usize = self.scratch.iter().map(Block::bytes).sum();
        self.maps.bytes() + self.store.bytes() + rest
    }
}

impl Work for Plan {
    fn waves(&self) -> Vec<usize> {
        self.waves.iter().map(|w| w.steps.iter().map(Step::tasks).sum()).collect()
    }

    unsafe fn task(&self, wave: usize, mut task: usize, thread: usize) {
        let scratch = self.scratch[thread].start().cast::<f32>();
        for step in &self.waves[wave].steps {
            let tasks = step.tasks();
            if task >= tasks {
                task -= tasks;
                continue;
            }
            // SAFETY: the pool's promise is the kernels': each task once, earlier waves done, scratch ours. Pointers
            // lead into `maps` and `store`; the processor was asked when `isa` was chosen.
            unsafe {
                match step {
                    Step::Input(s) => {
                        let input = self.input.load(Relaxed);
                        input::enter(s, task, input);
                        if self.isa.storage == Storage::U8 && !input::is_finite(s, task, input) {
                            self.broken.store(true, Relaxed);
                        }
                    }
                    Step::Conv(s) => (self.isa.conv)(s, task, scratch),
                    Step::Winograd(s) => (self.isa.winograd)(s, task, scratch),
                    Step::WinogradI16(s) => {
                        if let Some(winograd) = self.isa.winograd_i16 {
                            winograd(s, task, scratch);
                        }
                    }
                    Step::Pool(s) => (self.isa.pool)(s, task),
                    Step::Subtract(s) => (self.isa.subtract)(s, task, scratch),
                    Step::Join(s) => (self.isa.join)(s, task),
                    Step::OutputConv(s) => (self.isa.output_conv)(s, task),
                    Step::Upsample(s) => {
                        let logits = self.logits.load(Relaxed);
                        if self.broken.load(Relaxed) {
                            upsample::fill(s, task, logits, f32::NAN);
                        } else {
                            upsample::upsample(s, task, logits, scratch);
                        }
                    }
                }
            }
            return;
        }
    }
}
