//! `polypscope bench motion`: how well moved masks stay on their polyps, apart from any network.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{Context, Outcome};
use crate::Result;
use crate::bench::motion;
use crate::distribution::Distribution;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Seeds of the phantoms
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [21u64, 22, 23])]
    seeds: Vec<u64>,
    /// Seconds of each phantom
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Frames in time order, instead of phantoms
    #[arg(long, value_name = "DIR", requires = "masks")]
    images: Option<PathBuf>,
    /// Their masks, of the same names
    #[arg(long, value_name = "DIR", requires = "images")]
    masks: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let report = match (&args.images, &args.masks) {
        (Some(images), Some(masks)) => motion::of_stills(images, masks)?,
        _ => motion::of_phantoms(&args.seeds, args.seconds)?,
    };
    if context.json {
        return context.json(&report).map(|()| Outcome::Done);
    }
    context.say("IoU of the shown mask with the truth of the shown frame, where both frames have a polyp")?;
    context
        .say(format!("{:<28} {:>8} {:>7} {:>8} {:>8}", "source", "delay ms", "frames", "still", "moved"))?;
    for r in &report.rows {
        context.say(format!(
            "{:<28} {:>8} {:>7} {:>8.3} {:>8.3}",
            r.source, r.delay_ms, r.count, r.iou_still, r.iou_moved
        ))?;
    }
    let cost = |name: &str, d: &Distribution| format!("{name}: median {:.0} µs, p99 {:.0} µs", d.p50, d.p99);
    context.say(cost("finding the motion of a frame", &report.observe_us))?;
    context.say(cost("moving a mask", &report.move_us))?;
    Ok(Outcome::Done)
}
