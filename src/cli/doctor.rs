//! `polypscope doctor`: what this machine offers, and the command that mends what is missing.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use gstreamer as gst;
use gstreamer::prelude::*;
use serde::Serialize;

use super::{Context, Outcome};
use crate::Result;
use crate::capture::{self, NEEDED};
use crate::model::Checkpoint;
use crate::telemetry::Machine;

/// Exit code 0 if everything replay needs is here, 1 if something is missing.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Checkpoint to verify (default: the shipped one)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// Not needed for every use.
    Absent,
    Missing,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
    /// The command or step that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    machine: Machine,
    findings: Vec<Finding>,
}

impl Diagnosis {
    fn add(&mut self, what: &str, verdict: Verdict, detail: impl Into<String>, remedy: Option<String>) {
        self.findings.push(Finding { what: what.to_owned(), verdict, detail: detail.into(), remedy });
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let mut d = Diagnosis { machine: Machine::detect(), findings: Vec::new() };
    processor(&mut d);
    cuda(&mut d);
    gstreamer_elements(&mut d);
    checkpoint(&mut d, args.weights.as_deref());
    capture_devices(&mut d);
    let missing = d.findings.iter().filter(|f| f.verdict == Verdict::Missing).count();
    if context.json {
        context.json(&d)?;
    } else {
        tell(&d, missing, context)?;
    }
    Ok(if missing == 0 { Outcome::Done } else { Outcome::Negative })
}

fn tell(d: &Diagnosis, missing: usize, context: &mut Context) -> Result<()> {
    let m = &d.machine;
    context.say(format!("polypscope {} on {}", m.version, m.system))?;
    for f in &d.findings {
        let mark = match f.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Absent => "absent ",
            Verdict::Missing => "MISSING",
        };
        context.say(format!("  {mark}  {:<12} {}", f.what, f.detail))?;
        if let Some(r) = &f.remedy {
            context.say(format!("           {:<12} → {r}", ""))?;
        }
    }
    context.say(match missing {
        0 => "Everything replay needs is here.".to_owned(),
        1 => "One thing is missing.".to_owned(),
        n => format!("{n} things are missing."),
    })
}

fn processor(d: &mut Diagnosis) {
    let m = d.machine.clone();
    let memory = m.memory_bytes as f64 / f64::from(1 << 30);
    let features = if m.features.is_empty() { "no SIMD we know".to_owned() } else { m.features.join(" ") };
    d.add(
        "processor",
        Verdict::Ok,
        format!("{}, {} cores, {memory:.0} GiB; {features}", m.cpu, m.cores),
        None,
    );
    let fast = m.features.iter().any(|f| f == "avx2");
    if !fast {
        d.add(
            "speed",
            Verdict::Absent,
            "without AVX2 the network runs on its portable path, many times slower",
            None,
        );
    }
}

fn cuda(d: &mut Diagnosis) {
    #[cfg(not(feature = "cuda"))]
    {
        let (detail, remedy) = if std::path::Path::new("/proc/driver/nvidia/version").exists() {
            (
                "an NVIDIA driver is here, but this build has no CUDA",
                Some("cargo build --release --features cuda".to_owned()),
            )
        } else {
            ("no NVIDIA driver; the network runs on the processor", None)
        };
        d.add("cuda", Verdict::Absent, detail, remedy);
    }
    #[cfg(feature = "cuda")]
    match crate::engine::cuda::card(0) {
        Ok(card) => d.add("cuda", Verdict::Ok, format!("device cuda:0 answers: {card}"), None),
        Err(e) => d.add(
            "cuda",
            Verdict::Absent,
            format!("no device answers ({e})"),
            Some("install the NVIDIA driver, then look at `nvidia-smi`".to_owned()),
        ),
    }
}

fn gstreamer_elements(d: &mut Diagnosis) {
    if let Err(e) = capture::init() {
        d.add(
            "gstreamer",
            Verdict::Missing,
            e.to_string(),
            Some("apt-get install libgstreamer1.0-0".to_owned()),
        );
        return;
    }
    let (major, minor, micro, _) = gst::version();
    let version = format!("{major}.{minor}.{micro}");
    if (major, minor) < (1, 22) {
        let remedy = "use Debian 12, Ubuntu 24.04 or newer".to_owned();
        d.add("gstreamer", Verdict::Missing, format!("{version} is older than 1.22"), Some(remedy));
    } else {
        d.add("gstreamer", Verdict::Ok, version, None);
    }
    let mut missing: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for (name, package) in NEEDED {
        if gst::ElementFactory::find(name).is_none() {
            missing.entry(package).or_default().push(name);
        }
    }
    if missing.is_empty() {
        d.add("elements", Verdict::Ok, format!("all {} that replay may need", NEEDED.len()), None);
    }
    for (package, names) in missing {
        d.add("elements", Verdict::Missing, names.join(", "), Some(format!("apt-get install {package}")));
    }
}

fn checkpoint(d: &mut Diagnosis, weights: Option<&std::path::Path>) {
    match Checkpoint::locate(weights).and_then(|path| Checkpoint::open(&path).map(|c| (path, c))) {
        Ok((path, c)) => {
            let x = c.description();
            let sha =
                c.sha256().map_or_else(String::new, |s| format!(", SHA-256 {}…", &s[..s.len().min(12)]));
            let detail = format!(
                "{} ({}, {}x{}{sha}), verified: {}",
                x.name,
                x.network,
                x.input_size[1],
                x.input_size[0],
                path.display()
            );
            d.add("checkpoint", Verdict::Ok, detail, None);
            let sizes: Vec<String> = (x.by_input_size.iter().rev())
                .map(|(side, figures)| {
                    let each: Vec<String> =
                        figures.iter().map(|(p, f)| format!("{p} {:.3}", f.m_dice)).collect();
                    format!("{side}: {}", each.join(" "))
                })
                .collect();
            if !sizes.is_empty() {
                d.add(
                    "accuracy",
                    Verdict::Ok,
                    format!("mean Dice by input size: {}", sizes.join(", ")),
                    None,
                );
            }
        }
        Err(e) => d.add("checkpoint", Verdict::Missing, e.to_string(), None),
    }
}

/// Sources GStreamer's device monitor sees.
fn capture_devices(d: &mut Diagnosis) {
    if capture::init().is_err() {
        return;
    }
    let monitor = gst::DeviceMonitor::new();
    let _ = monitor.add_filter(Some("Video/Source"), None);
    if monitor.start().is_err() {
        d.add("capture", Verdict::Absent, "GStreamer's device monitor does not start", None);
        return;
    }
    let names: Vec<String> = monitor.devices().iter().map(|x| x.display_name().to_string()).collect();
    monitor.stop();
    if names.is_empty() {
        let remedy = "connect one; `ls /dev/video*` shows what the system sees".to_owned();
        d.add("capture", Verdict::Absent, "no capture device (none is needed for replay)", Some(remedy));
    } else {
        d.add("capture", Verdict::Ok, names.join(", "), None);
    }
}
