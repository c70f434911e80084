//! `polypscope bench engine`: the network alone, beside what the processor can do at most.
//!
//! In: a checkpoint (or random parameters, which run as fast). Out: for every precision the time of a frame, GFLOP/s
//! and share of the peak measured in the same run, whole and by part of the network; as a table or JSON. GPUs: see
//! `cuda`.

#[cfg(feature = "cuda")]
mod cuda;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::distribution::{Distribution, Histogram};
use crate::engine::cpu::{Cpu, peak_gflops};
use crate::engine::{DeviceChoice, Network, Options, Precision, Shape, open_cpu};
use crate::model::{self, Checkpoint};
use crate::program;
use crate::telemetry::Machine;
use crate::{Error, Result};

/// Measure the network on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint (default: the shipped one)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// cpu (auto is the same here) or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// f32, bf16 or f16; auto: every one the device has
    #[arg(long, default_value_t = Precision::Auto)]
    precision: Precision,
    /// Threads (default: all cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Side of the square input, a multiple of 32
    #[arg(long, value_name = "PIXELS", default_value_t = 352, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
    /// Frames measured at each precision
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=1_000_000))]
    frames: u32,
    /// Print the network's operations as published, after each fusion, and wave by wave, instead of measuring
    #[arg(long)]
    plan: bool,
    /// On a GPU: kernels compiled apart (a cubin or fat binary) instead of those in the program
    #[arg(long, value_name = "FILE", hide = true)]
    kernels: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    device: String,
    precision: &'static str,
    size: u32,
    threads: usize,
    /// The compiled kernels in use.
    kernels: &'static str,
    build_ms: f64,
    memory_bytes: usize,
    frame_ms: Distribution,
    /// Of one frame, two for each multiply-accumulate the mathematics asks for (Winograd does fewer).
    gflop: f64,
    /// At the median.
    gflops: f64,
    /// Registers only, all threads, measured between the frames.
    peak_gflops: f64,
    share_of_peak: f64,
    layers: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    /// Median.
    ms: f64,
    gflops: f64,
    share_of_peak: f64,
}

/// Frames of one precision measured before the next one has its turn, so that all see the same moods of the machine.
const TURN: u32 = 10;
const WARM_UP: usize = 3;

/// An engine under measurement.
struct Subject {
    engine: Cpu,
    precision: Precision,
    build: Duration,
    input: Vec<f32>,
    logits: Vec<f32>,
    ends: Vec<Instant>,
    frames: Histogram,
    /// Names of the parts in order, multiply-accumulates, and nanoseconds in each frame.
    parts: Vec<(&'static str, u64, Vec<u64>)>,
    peak: f64,
}

impl Subject {
    fn new(checkpoint: &Checkpoint, precision: Precision, args: &Args) -> Result<Self> {
        let options = Options {
            device: args.device,
            precision,
            threads: args.threads.map(usize::from),
            size: Some((args.size as usize, args.size as usize)),
            keep_warm: false,
            nice: 0,
        };
        let start = Instant::now();
        let engine = open_cpu(checkpoint, options)?;
        let build = start.elapsed();
        let mut parts: Vec<(&'static str, u64, Vec<u64>)> = Vec::new();
        for wave in engine.waves() {
            match parts.last_mut() {
                Some(part) if part.0 == wave.group => part.1 += wave.macs,
                _ => parts.push((wave.group, wave.macs, Vec::new())),
            }
        }
        let shape = engine.shape();
        // Speed does not depend on values, as long as none are denormal.
        let input = (0..shape.input_len()).map(|i| ((i * 7919) % 4093) as f32 / 1023.0 - 2.0).collect();
        Ok(Self {
            precision,
            build,
            input,
            logits: vec![0.0; shape.logits_len()],
            ends: vec![Instant::now(); engine.waves().len()],
            frames: Histogram::new(),
            parts,
            peak: 0.0,
            engine,
        })
    }

    fn frame(&mut self) -> Result<Instant> {
        let start = Instant::now();
        let ends = &mut self.ends;
        self.engine.run_observed(&self.input, &mut self.logits, |wave| ends[wave] = Instant::now())?;
        Ok(start)
    }

    /// Measures the peak, then some frames.
    fn turn(&mut self, frames: u32) -> Result<()> {
        let (path, threads) = (self.engine.path(), self.engine.threads());
        let peak = peak_gflops(path, threads, Duration::from_millis(100))
            .ok_or_else(|| Error::internal("an engine runs that this processor cannot run"))?;
        self.peak = self.peak.max(peak);
        let groups: Vec<&'static str> = self.engine.waves().iter().map(|w| w.group).collect();
        for _ in 0..frames {
            let start = self.frame()?;
            self.frames.record(start.elapsed().into());
            let mut before = start;
            let mut part = 0;
            let mut spent = vec![0u64; self.parts.len()];
            for (wave, end) in self.ends.iter().enumerate() {
                if self.parts[part].0 != groups[wave] {
                    part += 1;
                }
                spent[part] += end.duration_since(before).as_nanos() as u64;
                before = *end;
            }
            for (part, ns) in self.parts.iter_mut().zip(spent) {
                part.2.push(ns);
            }
        }
        Ok(())
    }

    fn report(mut self, args: &Args) -> Run {
        let frame_ms = self.frames.distribution(1e-6);
        let gflop = 2.0 * self.engine.macs() as f64 / 1e9;
        let gflops = gflop / frame_ms.p50 * 1e3;
        let layers = self
            .parts
            .iter_mut()
            .map(|(name, macs, spent)| {
                spent.sort_unstable();
                let ms = spent.get(spent.len() / 2).map_or(0.0, |&ns| ns as f64 / 1e6);
                let gflops = if ms > 0.0 { 2.0 * *macs as f64 / ms / 1e6 } else { 0.0 };
                Part { name, ms, gflops, share_of_peak: gflops / self.peak }
            })
            .collect();
        Run {
            device: "cpu".to_owned(),
            precision: self.precision.name(),
            size: args.size,
            threads: self.engine.threads(),
            kernels: self.engine.path().name(),
            build_ms: self.build.as_secs_f64() * 1e3,
            memory_bytes: self.engine.bytes(),
            frame_ms,
            gflop,
            gflops,
            peak_gflops: self.peak,
            share_of_peak: gflops / self.peak,
            layers,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A checkpoint that cannot be opened, a precision or size the engine does not have.
pub fn run(args: &Args, json: bool, out: &mut dyn Write) -> Result<()> {
    let checkpoint = Checkpoint::open(&Checkpoint::locate(args.weights.as_deref())?)?;
    if args.plan {
        let size = (args.size as usize, args.size as usize);
        Shape::of(&checkpoint, Some(size))?;
        let text = program::stages(model::program(checkpoint.architecture(), size))?;
        return print(&text, String::clone, json, out);
    }
    if let DeviceChoice::Cuda(ordinal) = args.device {
        return on_gpu(args, &checkpoint, ordinal, json, out);
    }
    let precisions = match args.precision {
        Precision::Auto => Precision::of_this_cpu(&checkpoint),
        one => vec![one],
    };
    let mut subjects = Vec::new();
    for precision in precisions {
        subjects.push(Subject::new(&checkpoint, precision, args)?);
    }
    for subject in &mut subjects {
        for _ in 0..WARM_UP {
            subject.frame()?;
        }
    }
    let mut left = args.frames;
    while left > 0 {
        let frames = left.min(TURN);
        for subject in &mut subjects {
            subject.turn(frames)?;
        }
        left -= frames;
    }
    let report =
        Report { machine: Machine::detect(), runs: subjects.into_iter().map(|s| s.report(args)).collect() };
    print(&report, table, json, out)
}

#[cfg(feature = "cuda")]
fn on_gpu(
    args: &Args,
    checkpoint: &Checkpoint,
    ordinal: usize,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    if !matches!(args.precision, Precision::Auto | Precision::F16) {
        return Err(Error::usage("the fused engine computes in f16 on GPUs").remedy("use --precision auto"));
    }
    print(&cuda::measure(args, checkpoint, ordinal)?, cuda::table, json, out)
}

#[cfg(not(feature = "cuda"))]
fn on_gpu(_: &Args, _: &Checkpoint, ordinal: usize, _: bool, _: &mut dyn Write) -> Result<()> {
    Err(Error::machine(format!("cuda:{ordinal}: this build has no CUDA"))
        .remedy("build with `--features cuda`, or use --device cpu"))
}

fn print<R: Serialize>(
    report: &R,
    table: impl Fn(&R) -> String,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let text = if json {
        serde_json::to_string_pretty(report)
            .map_err(|e| Error::internal("the result cannot be put into JSON").because(e))?
            + "\n"
    } else {
        table(report)
    };
    match out.write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::output("standard output cannot be written").because(e))
        }
        _ => Ok(()),
    }
}

fn table(report: &Report) -> String {
    use std::fmt::Write;
    let m = &report.machine;
    let mut text = format!("{}, {} cores, {}\n", m.cpu, m.cores, m.features.join(" "));
    for r in &report.runs {
        let threads = if r.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", r.threads) };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n{} ({}), {}x{}, {threads}: median {:.1} ms, p99 {:.1} ms, {:.1} frames/s",
            r.precision,
            r.kernels,
            r.size,
            r.size,
            r.frame_ms.p50,
            r.frame_ms.p99,
            1e3 / r.frame_ms.p50
        );
        let _ = writeln!(
            text,
            "{:.1} GFLOP a frame, {:.0} GFLOP/s, {:.0} % of the peak of {:.0} GFLOP/s; built in {:.0} ms, {} MiB",
            r.gflop,
            r.gflops,
            100.0 * r.share_of_peak,
            r.peak_gflops,
            r.build_ms,
            r.memory_bytes >> 20
        );
        let _ = writeln!(text, "  {:<12} {:>9} {:>9} {:>8}", "part", "ms", "GFLOP/s", "of peak");
        for l in &r.layers {
            let share = 100.0 * l.share_of_peak;
            let _ = writeln!(text, "  {:<12} {:>9.2} {:>9.0} {share:>6.0} %", l.name, l.ms, l.gflops);
        }
    }
    text
}
