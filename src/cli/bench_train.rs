//! `polypscope bench train`: how long a training step takes, and what it holds in memory.
//!
//! In: sizes and batches. Out: for each the median time of a whole step (forward, loss, backward, optimiser) in f32 on
//! random pictures and random parameters, and the process's largest memory; as a table or JSON. On a card also how far
//! its first pass is from the processor's: TF32 on parameters that have learnt nothing turns the gradient visibly. The
//! yardstick beside it is PyTorch with the published network, measured in the same run by its own script.

use std::time::Instant;

use serde::Serialize;

use super::training_device::card;
use super::{Context, Outcome};
use crate::engine::DeviceChoice;
use crate::model::{Architecture, Variant, is_side};
use crate::telemetry::{Machine, peak_rss_bytes};
use crate::training::loader::Batch;
use crate::training::loss::Vgg;
use crate::training::network::fresh;
use crate::training::passes::Passed;
use crate::training::random::Random;
use crate::training::run::settings::Settings;
use crate::training::run::trainer::Trainer;
use crate::training::tape::Mode;
use crate::{Error, Result};

/// Measure training steps on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SIDE:BATCH of the steps
    #[arg(value_name = "SIDE:BATCH", default_values = ["256:8", "352:8"])]
    jobs: Vec<Job>,
    /// Threads (default: all cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Steps measured; two before them are not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    steps: u32,
    /// With LossNet, its VGG-16 random
    #[arg(long)]
    lossnet: bool,
    /// m2snet or msnet
    #[arg(long, default_value_t = Variant::M2SNet)]
    network: Variant,
    /// auto, cpu or cuda:N; on a card the first pass is compared with the processor's
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Job {
    side: usize,
    batch: usize,
}

impl std::str::FromStr for Job {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once(':')
            .and_then(|(side, batch)| Some((side.parse().ok()?, batch.parse().ok()?)))
            .filter(|&(side, batch)| is_side(side) && (1..=1024).contains(&batch))
            .map(|(side, batch)| Self { side, batch })
            .ok_or_else(|| {
                Error::usage(format!("{text:?} is no size of a step"))
                    .remedy("give SIDE:BATCH with a side that is a multiple of 32, such as 352:8")
            })
    }
}

#[derive(Serialize)]
struct Run {
    #[serde(flatten)]
    job: Job,
    lossnet: bool,
    threads: usize,
    /// Median.
    step_s: f64,
    fastest_s: f64,
    /// Of the whole process so far.
    peak_memory_bytes: u64,
    /// On a card.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_processor: Option<Beside>,
}

/// How far a card's first pass is from the processor's, as shares.
#[derive(Serialize)]
struct Beside {
    loss: f64,
    /// Of the whole gradient's length.
    gradient: f64,
    /// The cosine of the angle between the two gradients.
    cosine: f64,
}

impl Beside {
    fn of(here: &Passed<f32>, there: &Passed<f32>) -> Self {
        let (mut apart, mut product) = (0.0, 0.0);
        for (id, h) in here.gradients.iter() {
            let zeros = vec![0.0; h.len()];
            let t = there.gradients.get(id).unwrap_or(&zeros);
            for (&h, &t) in h.iter().zip(t) {
                apart += f64::from(h - t).powi(2);
                product += f64::from(h) * f64::from(t);
            }
        }
        let (length, other) = (here.gradients.norm(), there.gradients.norm());
        Self {
            loss: (here.losses.total - there.losses.total).abs() / here.losses.total.abs(),
            gradient: apart.sqrt() / length,
            cosine: product / (length * other),
        }
    }
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    network: Variant,
    runs: Vec<Run>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let threads =
        args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::machine("the threads cannot be started").because(e))?;
    let mut runs = Vec::new();
    for job in &args.jobs {
        runs.push(pool.install(|| measure(*job, args, threads))?);
    }
    let report = Report { machine: Machine::detect(), network: args.network, runs };
    if context.json {
        context.json(&report)?;
        return Ok(Outcome::Done);
    }
    context.say(format!("{} in f32 on {}, --device {}", args.network, report.machine.cpu, args.device))?;
    context.say("  input     batch  LossNet  threads  s a step  fastest  peak memory")?;
    for r in &report.runs {
        context.say(format!(
            "  {:<9} {:>5}  {:<7}  {:>7}  {:>8.2}  {:>7.2}  {:>8} MB",
            format!("{0}x{0}", r.job.side),
            r.job.batch,
            if r.lossnet { "yes" } else { "no" },
            r.threads,
            r.step_s,
            r.fastest_s,
            r.peak_memory_bytes >> 20
        ))?;
        if let Some(b) = &r.beside_processor {
            context.say(format!(
                "            beside the processor: loss {:.1e} apart, gradient {:.1e}, cosine {:.6}",
                b.loss, b.gradient, b.cosine
            ))?;
        }
    }
    Ok(Outcome::Done)
}

fn measure(job: Job, args: &Args, threads: usize) -> Result<Run> {
    let architecture = Architecture { variant: args.network, classes: 1 };
    let mut random = Random::new(1);
    let vgg = if args.lossnet {
        Some(Vgg::new(|_, shape| {
            let n: usize = shape.iter().product();
            let scale = 1.0 / (shape[1..].iter().product::<usize>() as f64).sqrt();
            Ok((0..n).map(|_| (random.normal() * scale) as f32).collect())
        })?)
    } else {
        None
    };
    let settings = Settings {
        batch: job.batch,
        sizes: vec![job.side],
        average: None,
        rate: 1e-3,
        lossnet: args.lossnet.then_some(0.1),
        ..Settings::published()
    };
    let mut trainer = Trainer::new(settings, architecture, fresh(architecture, 1), vgg)?;
    let px = job.side * job.side;
    let mut random = Random::new(2);
    let batch = Batch {
        step: 0,
        size: (job.side, job.side),
        planes: (0..3 * px * job.batch).map(|_| random.normal() as f32).collect(),
        labels: (0..px * job.batch).map(|_| u8::from(random.chance(0.1))).collect(),
        names: (0..job.batch).map(|i| i.to_string()).collect(),
    };
    let mut beside = None;
    if let Some((passes, _)) = card(args.device)? {
        let here = trainer.pass(&batch, Mode::Training)?;
        trainer.pass_by(passes);
        let there = trainer.pass(&batch, Mode::Training)?;
        beside = Some(Beside::of(&here, &there));
    }
    let mut times = Vec::new();
    for k in 0..args.steps + 2 {
        let began = Instant::now();
        trainer.step(&batch, 0.5)?;
        if k >= 2 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Run {
        job,
        lossnet: args.lossnet,
        threads,
        step_s: times[times.len() / 2],
        fastest_s: times[0],
        peak_memory_bytes: peak_rss_bytes(),
        beside_processor: beside,
    })
}
