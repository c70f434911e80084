//! `polypscope bench engine --device cuda:N`: the fused engine on a GPU, beside what the card can do and a straight
//! candle port of the same network.
//!
//! In: a checkpoint (the pictures are made up: speed does not depend on what they show, as long as they are no
//! constant). Out: a frame's time as fast as possible and paced, with and without a graph; event times by part and the
//! slowest launches, each with its share of the card's arithmetic and bandwidth as measured in the same run.

use std::fmt::Write;
use std::time::{Duration, Instant};

#[cfg(feature = "candle-cuda")]
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::Args;
use crate::distribution::{Distribution, Histogram};
use crate::engine::cuda::{Cuda, LaunchReport};
#[cfg(feature = "candle-cuda")]
use crate::engine::open_candle;
use crate::engine::{Network, Pictures};
use crate::frame::{Picture, PictureInfo, PixelFormat, Rect, packed_len};
use crate::model::Checkpoint;
use crate::telemetry::Machine;
use crate::{Error, Result};

/// A full-HD frame, as a capture card gives it.
const FRAME: (u32, u32) = (1920, 1080);
/// Frames a second of the paced runs.
const PACE: f64 = 60.0;
const WARM_UP: usize = 50;
/// Frames profiled by events.
const PROFILED: usize = 50;
/// Side of the matrices whose product tells what the card's library reaches.
#[cfg(feature = "candle-cuda")]
const PEAK_SIDE: usize = 8192;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    card: String,
    multiprocessors: usize,
    most_mhz: Option<f64>,
    size: u32,
    source: String,
    build_ms: f64,
    activation_bytes: usize,
    parameter_bytes: usize,
    launches: usize,
    graph_nodes: Option<usize>,
    gflop: f64,
    /// Of an f16 product of 8192x8192 matrices by the card's own library.
    peak_tflops: Option<f64>,
    /// Of a copy within the card's memory, reads and writes counted.
    copy_gb_s: f64,
    runs: Vec<Run>,
    parts: Vec<Part>,
    slowest: Vec<Part>,
    candle: Vec<Other>,
}

#[derive(Debug, Serialize)]
struct Run {
    name: &'static str,
    frame_ms: Distribution,
    /// The multiprocessors' clock right after the last frame.
    mhz: f64,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    launches: usize,
    /// Median, by events.
    microseconds: f64,
    tflops: f64,
    share_of_peak: Option<f64>,
    gb_s: f64,
    share_of_bandwidth: f64,
}

#[derive(Debug, Serialize)]
struct Other {
    name: String,
    /// Median; `None` where it does not run, and why.
    frame_ms: Option<f64>,
    remark: Option<String>,
}

/// Measures one card.
pub(super) fn measure(args: &Args, checkpoint: &Checkpoint, ordinal: usize) -> Result<Report> {
    let size = Some((args.size as usize, args.size as usize));
    let start = Instant::now();
    let mut engine = match &args.kernels {
        None => Cuda::new(checkpoint, ordinal, size)?,
        Some(file) => {
            let kernels = std::fs::read(file)
                .map_err(|e| Error::input(format!("{}: cannot be read ({e})", file.display())).because(e))?;
            Cuda::with_kernels(checkpoint, ordinal, size, &kernels)?
        }
    };
    let build_ms = start.elapsed().as_secs_f64() * 1e3;
    let shape = engine.shape();
    let info = PictureInfo::new(PixelFormat::Nv12, FRAME.0, FRAME.1);
    let bytes: Vec<u8> =
        (0..packed_len(&info)).map(|i| ((i * 7919) >> 5 & 63) as u8 + (i / 9000 % 128) as u8 + 20).collect();
    let picture =
        Picture::packed(info, &bytes).ok_or_else(|| Error::internal("a frame is as long as it is"))?;
    let view = Rect::full(FRAME.0, FRAME.1);
    let mut logits = vec![0.0; shape.logits_len()];
    let mut inside = vec![0; view.area() as usize];
    engine.run_picture(&picture, view, 0.0, &mut logits, &mut inside)?;
    let planes: Vec<f32> =
        (0..shape.input_len()).map(|i| ((i * 7919) % 4093) as f32 / 1023.0 - 2.0).collect();

    let launches = engine.launches();
    let copy_gb_s = engine.copy_rate()? / 1e9;
    #[cfg(feature = "candle-cuda")]
    let peak_tflops = peak(ordinal).ok();
    #[cfg(not(feature = "candle-cuda"))]
    let peak_tflops = None;
    let frames = args.frames as usize;
    let mut runs = Vec::new();
    let mut run =
        |engine: &mut Cuda, name, pace, each: &mut dyn FnMut(&mut Cuda) -> Result<()>| -> Result<()> {
            let (frame_ms, mhz) = timed(engine, frames, pace, each)?;
            runs.push(Run { name, frame_ms, mhz });
            Ok(())
        };
    let period = Some(Duration::from_secs_f64(1.0 / PACE));
    run(&mut engine, "pinned frame to pinned mask, one graph", None, &mut Cuda::replay)?;
    run(&mut engine, "the same at 60 frames/s", period, &mut Cuda::replay)?;
    engine.keep_warm(true)?;
    run(&mut engine, "the same at 60 frames/s, kept warm", period, &mut Cuda::replay)?;
    engine.keep_warm(false)?;
    run(&mut engine, "picture in, mask out, copies by the host included", None, &mut |e| {
        e.run_picture(&picture, view, 0.0, &mut logits, &mut inside).map(drop)
    })?;
    let mut planes_out = vec![0.0; shape.logits_len()];
    run(&mut engine, "planes to logits, one graph", None, &mut |e| e.run(&planes, &mut planes_out))?;
    run(&mut engine, "planes to logits, launch by launch", None, &mut |e| {
        e.run_without_graph(&planes, &mut planes_out)
    })?;
    let times = profile(&mut engine, launches.len())?;
    engine.show_to_profiler()?;
    let graph_nodes = engine.nodes();
    if engine.can_overlap() {
        engine.overlap(true);
        run(&mut engine, "planes to logits, one graph, launches that overlap", None, &mut |e| {
            e.run(&planes, &mut planes_out)
        })?;
        engine.overlap(false);
    }
    let (parts, slowest) = tables(&launches, &times, peak_tflops, copy_gb_s);
    let (activation_bytes, parameter_bytes) = engine.bytes();
    let macs: u64 = launches.iter().map(|l| l.macs).sum();
    let mut report = Report {
        machine: Machine::detect(),
        card: engine.card().to_owned(),
        multiprocessors: engine.processors(),
        most_mhz: engine.clock_mhz(),
        size: args.size,
        source: format!("{}x{} NV12", FRAME.0, FRAME.1),
        build_ms,
        activation_bytes,
        parameter_bytes,
        launches: launches.len(),
        graph_nodes,
        gflop: 2.0 * macs as f64 / 1e9,
        peak_tflops,
        copy_gb_s,
        runs,
        parts,
        slowest,
        candle: Vec::new(),
    };
    drop(engine);
    report.candle = candle_rows(checkpoint, ordinal, size, &planes);
    Ok(report)
}

/// The same network by candle in each number format; nothing where this build has none of it on a GPU.
#[cfg(feature = "candle-cuda")]
fn candle_rows(
    checkpoint: &Checkpoint,
    ordinal: usize,
    size: Option<(usize, usize)>,
    planes: &[f32],
) -> Vec<Other> {
    let library = if cfg!(feature = "cudnn") { "cuDNN" } else { "without cuDNN" };
    [DType::F16, DType::BF16, DType::F32]
        .into_iter()
        .map(|dtype| {
            let name = format!("candle, {} ({library})", dtype.as_str());
            match candle(checkpoint, ordinal, dtype, size, planes) {
                Ok(ms) => Other { name, frame_ms: Some(ms), remark: None },
                Err(e) => Other { name, frame_ms: None, remark: Some(e.to_string()) },
            }
        })
        .collect()
}

#[cfg(not(feature = "candle-cuda"))]
fn candle_rows(_: &Checkpoint, _: usize, _: Option<(usize, usize)>, _: &[f32]) -> Vec<Other> {
    Vec::new()
}

/// Frames as fast as possible, or one each period; their times and the clock behind the last.
fn timed(
    engine: &mut Cuda,
    frames: usize,
    period: Option<Duration>,
    each: &mut dyn FnMut(&mut Cuda) -> Result<()>,
) -> Result<(Distribution, f64)> {
    for _ in 0..WARM_UP {
        each(engine)?;
    }
    let mut histogram = Histogram::new();
    let begin = Instant::now();
    for n in 0..frames {
        if let Some(period) = period {
            let due = begin + period * n as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let start = Instant::now();
        each(engine)?;
        histogram.record(start.elapsed().into());
    }
    Ok((histogram.distribution(1e-6), engine.ticking_mhz()?))
}

/// Median microseconds of each launch, by an event behind each.
fn profile(engine: &mut Cuda, launches: usize) -> Result<Vec<f64>> {
    let mut spans = vec![Vec::with_capacity(PROFILED); launches];
    for _ in 0..PROFILED {
        let mut before = 0.0;
        for (spans, end) in spans.iter_mut().zip(engine.profile()?) {
            spans.push(f64::from(end - before));
            before = end;
        }
    }
    Ok(spans
        .iter_mut()
        .map(|s| {
            s.sort_by(f64::total_cmp);
            s.get(s.len() / 2).copied().unwrap_or(0.0)
        })
        .collect())
}

fn tables(
    launches: &[LaunchReport],
    times: &[f64],
    peak_tflops: Option<f64>,
    copy_gb_s: f64,
) -> (Vec<Part>, Vec<Part>) {
    let part = |name: String, count: usize, us: f64, macs: u64, bytes: u64| {
        let us = us.max(1e-3);
        let (tflops, gb_s) = (2.0 * macs as f64 / us / 1e6, bytes as f64 / us / 1e3);
        let share_of_peak = peak_tflops.map(|p| tflops / p);
        Part {
            name,
            launches: count,
            microseconds: us,
            tflops,
            share_of_peak,
            gb_s,
            share_of_bandwidth: gb_s / copy_gb_s,
        }
    };
    let mut parts: Vec<(&str, usize, f64, u64, u64)> = Vec::new();
    for (l, us) in launches.iter().zip(times) {
        match parts.last_mut().filter(|p| p.0 == l.group) {
            Some(p) => {
                (p.1, p.2, p.3, p.4) = (p.1 + 1, p.2 + us, p.3 + l.macs, p.4 + l.bytes);
            }
            None => parts.push((l.group, 1, *us, l.macs, l.bytes)),
        }
    }
    let mut order: Vec<usize> = (0..launches.len()).collect();
    order.sort_by(|a, b| times[*b].total_cmp(&times[*a]));
    let slowest = order.iter().take(12).map(|&i| {
        let l = &launches[i];
        part(l.label.clone(), 1, times[i], l.macs, l.bytes)
    });
    let slowest = slowest.collect();
    (parts.into_iter().map(|(n, c, us, m, b)| part(n.to_owned(), c, us, m, b)).collect(), slowest)
}

/// TFLOP/s of the card's own library over large matrices in f16.
#[cfg(feature = "candle-cuda")]
fn peak(ordinal: usize) -> Result<f64> {
    let device = Device::new_cuda(ordinal)?;
    let matrix = || Tensor::randn(0f32, 1.0, (PEAK_SIDE, PEAK_SIDE), &device)?.to_dtype(DType::F16);
    let (a, b) = (matrix()?, matrix()?);
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        device.synchronize()?;
        let start = Instant::now();
        let _product = a.matmul(&b)?;
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (PEAK_SIDE as f64).powi(3) / best / 1e12)
}

/// Median milliseconds of a frame of candle's own network, planes to logits.
#[cfg(feature = "candle-cuda")]
fn candle(
    checkpoint: &Checkpoint,
    ordinal: usize,
    dtype: DType,
    size: Option<(usize, usize)>,
    planes: &[f32],
) -> Result<f64> {
    let mut network = open_candle(checkpoint, ordinal, dtype, size)?;
    let mut logits = vec![0.0; network.shape().logits_len()];
    let mut spans = Vec::new();
    for n in 0..25 {
        let start = Instant::now();
        network.run(planes, &mut logits)?;
        if n >= 5 {
            spans.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    spans.sort_by(f64::total_cmp);
    Ok(spans[spans.len() / 2])
}

/// The report for people.
pub(super) fn table(r: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    let most = r.most_mhz.map_or(String::new(), |m| format!(", up to {m:.0} MHz"));
    line(format!("{}, {} multiprocessors{most}; {}", r.card, r.multiprocessors, r.machine.cpu));
    line(format!(
        "{0}x{0}, {1:.1} GFLOP a frame, {2} launches, {3} nodes in the picture's graph; built in {4:.0} ms, {5} + {6} MiB",
        r.size,
        r.gflop,
        r.launches,
        r.graph_nodes.unwrap_or(0),
        r.build_ms,
        r.activation_bytes >> 20,
        r.parameter_bytes >> 20
    ));
    let peak = r.peak_tflops.map_or("not measured".into(), |p| format!("{p:.0} TFLOP/s"));
    line(format!(
        "f16 product of the card's library: {peak}; copy within its memory: {:.0} GB/s",
        r.copy_gb_s
    ));
    line(format!(
        "\n{} frames each, milliseconds; source {}",
        r.runs.first().map_or(0, |x| x.frame_ms.count),
        r.source
    ));
    line(format!(
        "  {:<52} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6}",
        "", "p50", "p90", "p99", "p99.9", "max", "MHz"
    ));
    for x in &r.runs {
        let d = &x.frame_ms;
        line(format!(
            "  {:<52} {:>7.3} {:>7.3} {:>7.3} {:>7.3} {:>7.3} {:>6.0}",
            x.name, d.p50, d.p90, d.p99, d.p999, d.max, x.mhz
        ));
    }
    for (title, parts) in [("part (an event behind each launch)", &r.parts), ("slowest launches", &r.slowest)]
    {
        line(format!(
            "\n  {title:<58} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "µs", "TFLOP/s", "of peak", "GB/s", "of copy"
        ));
        for p in parts {
            let share = p.share_of_peak.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s));
            line(format!(
                "  {:<58} {:>8.1} {:>8.1} {share:>8} {:>8.0} {:>6.0} %",
                p.name,
                p.microseconds,
                p.tflops,
                p.gb_s,
                100.0 * p.share_of_bandwidth
            ));
        }
    }
    let ours = r.runs.iter().find(|x| x.name.starts_with("planes to logits, one"));
    line(match r.candle.is_empty() {
        true => "\n  candle's own network: not in this build (--features candle-cuda)".into(),
        false => "\n  the same network by candle, planes to logits".into(),
    });
    for o in &r.candle {
        match (o.frame_ms, ours) {
            (Some(ms), Some(ours)) => {
                line(format!("  {:<58} {ms:>8.2} ms, {:.1} times ours", o.name, ms / ours.frame_ms.p50));
            }
            _ => line(format!("  {:<58} {}", o.name, o.remark.as_deref().unwrap_or("not measured"))),
        }
    }
    text
}
