//! `polypscope bench compare`: what changed between two sets of runs.

use std::path::PathBuf;

use super::{Context, Outcome};
use crate::Result;
use crate::bench::{Comparison, PipelineReport, Verdict, compare};

/// A figure counts as changed when its medians lie further apart than runs of the same build would, once in twenty
/// such comparisons. That takes three runs a side; alternate the two builds (`bench pipeline --append`).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Result of `bench pipeline --json`: before
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// And after
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// End with 1 if a figure became worse by more than so many percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<f64>,
}

fn percent(text: &str) -> Result<f64> {
    text.parse::<f64>().ok().filter(|p| (0.0..1e6).contains(p)).ok_or_else(|| {
        crate::Error::usage(format!("{text:?} is not a percentage")).remedy("give a number such as 5")
    })
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let comparison = compare(&PipelineReport::read(&args.a)?, &PipelineReport::read(&args.b)?)?;
    if args.fail_above.is_some() && comparison.of(Verdict::TooFewRuns).next().is_some() {
        return Err(crate::Error::input("--fail-above cannot judge fewer than three runs a side")
            .remedy("measure again with --runs 3"));
    }
    if context.json {
        context.json(&comparison)?;
    } else {
        table(&comparison, context)?;
    }
    match args.fail_above {
        Some(limit) if comparison.worse_by(limit).next().is_some() => Ok(Outcome::Negative),
        _ => Ok(Outcome::Done),
    }
}

fn table(c: &Comparison, context: &mut Context) -> Result<()> {
    for remark in &c.remarks {
        context.say(format!("note: {remark}"))?;
    }
    context.say(format!(
        "{:<26}{:>14}{:>14}{:>12}{:>10}{:>12}  {} and {} runs",
        "median over runs", "A", "B", "difference", "percent", "range", c.runs_a, c.runs_b
    ))?;
    for change in &c.changes {
        let percent = change.percent.map_or("–".to_owned(), |p| format!("{p:+.1}"));
        let verdict = match change.verdict {
            Verdict::Same => "",
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::TooFewRuns => "?",
        };
        context.say(format!(
            "{:<26}{:>14.2}{:>14.2}{:>+12.2}{:>10}{:>12.2}  {verdict}",
            change.figure,
            change.a,
            change.b,
            change.difference,
            percent,
            change.range_a.max(change.range_b),
        ))?;
    }
    let (worse, better) = (c.of(Verdict::Worse).count(), c.of(Verdict::Better).count());
    if c.of(Verdict::TooFewRuns).next().is_none() {
        context.say(match (worse, better) {
            (0, 0) => "nothing changed beyond the spread between runs".to_owned(),
            _ => format!(
                "{worse} worse and {better} better of {} figures (medians more than {:.1} ranges apart)",
                c.changes.len(),
                c.threshold_ranges
            ),
        })?;
    }
    Ok(())
}
