//! `polypscope bench`: how fast this machine is, and how near to what it could be.

use super::{Context, Outcome, bench_compare, bench_train};
#[cfg(feature = "video")]
use super::{bench_motion, bench_pipeline};
use crate::Result;
use crate::bench::engine;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The network alone: time of a frame and of its parts beside the processor's peak.
    Engine(engine::Args),
    /// How well masks follow the picture while they are some frames old.
    #[cfg(feature = "video")]
    Motion(bench_motion::Args),
    /// The whole pipeline: every stage, queue and delay.
    #[cfg(feature = "video")]
    Pipeline(bench_pipeline::Args),
    /// A training step: time, memory and parts.
    Train(bench_train::Args),
    /// What changed between two results of `bench pipeline --json` beyond the spread between runs.
    Compare(bench_compare::Args),
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    match &args.command {
        Command::Engine(args) => engine::run(args, context.json, context.out).map(|()| Outcome::Done),
        #[cfg(feature = "video")]
        Command::Motion(args) => bench_motion::run(args, context),
        #[cfg(feature = "video")]
        Command::Pipeline(args) => bench_pipeline::run(args, context),
        Command::Train(args) => bench_train::run(args, context),
        Command::Compare(args) => bench_compare::run(args, context),
    }
}
