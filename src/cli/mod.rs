//! The command line: one file per command; parse, check, run.
//!
//! In: arguments. Out: results on standard output, progress and errors on standard error, and an exit code: 0 done, 1
//! failed, 2 wrong usage, 3 finished but partial.

mod arguments;
mod bench;
mod bench_compare;
#[cfg(feature = "video")]
mod bench_motion;
#[cfg(feature = "video")]
mod bench_pipeline;
mod bench_train;
#[cfg(feature = "video")]
mod devices;
#[cfg(feature = "video")]
mod doctor;
mod eval;
mod eval_video;
#[cfg(feature = "video")]
mod fleet;
mod interrupt;
#[cfg(feature = "video")]
mod listening;
#[cfg(feature = "video")]
mod live;
mod log_format;
mod manual;
#[cfg(feature = "video")]
mod phantom;
mod predictor;
mod progress;
#[cfg(feature = "video")]
mod replay;
#[cfg(feature = "video")]
mod segment;
mod train;
mod training_device;
mod weights;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use arguments::{EngineArgs, Verbosity};
use log_format::LogFormat;

use crate::shown::{Lines, OneLine};
use crate::{Error, Result};

/// Polyp segmentation on live and recorded colonoscopy video. Research software, not a medical device.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Outline polyps on live video.
    #[cfg(feature = "video")]
    Live(Box<live::Args>),
    /// List capture devices and their modes.
    #[cfg(feature = "video")]
    Devices(devices::Args),
    /// Segment recorded procedures: annotated video and a report.
    #[cfg(feature = "video")]
    Replay(replay::Args),
    /// Work through an archive of recordings on Slurm, Kubernetes, HyperQueue, GNU parallel or Ray.
    #[cfg(feature = "video")]
    Fleet(fleet::Args),
    /// Segment still pictures: probability map and overlay of each.
    #[cfg(feature = "video")]
    Segment(segment::Args),
    /// Render a procedural colonoscopy with its ground truth.
    #[cfg(feature = "video")]
    Phantom(phantom::Args),
    /// Score predictions or the network against masks: the ten figures of the field.
    Eval(eval::Args),
    /// Measure detection on a video with its truth: sensitivity, specificity, delay, false alarms, flicker.
    EvalVideo(eval_video::Args),
    /// Fine-tune a network on pictures and masks of one's own, or train one from nothing.
    Train(Box<train::Args>),
    /// Look into, convert and verify checkpoints.
    Weights(weights::Args),
    /// Measure this machine.
    Bench(bench::Args),
    /// Tell what this machine offers, and how to get what is missing.
    #[cfg(feature = "video")]
    Doctor(doctor::Args),
    /// Print completions for a shell.
    Completions(manual::CompletionsArgs),
    /// Write the manual pages.
    Man(manual::ManArgs),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Something could not be processed and was said.
    Partial,
    /// The answer is no (a check that did not pass).
    Negative,
}

/// What every command is given.
pub struct Context<'a> {
    /// Standard output, for results.
    pub out: &'a mut dyn Write,
    /// No progress, no remarks.
    pub quiet: bool,
    /// The result as JSON.
    pub json: bool,
    /// 0, 1 or 2.
    pub verbose: u8,
}

impl Context<'_> {
    /// Writes a line of the result. What could steer a terminal is escaped.
    pub fn say(&mut self, line: impl std::fmt::Display) -> Result<()> {
        self.exactly(OneLine(line))
    }

    /// Writes a table of several lines; the names in it are to be in one line each ([`OneLine`]).
    pub fn say_lines(&mut self, lines: impl std::fmt::Display) -> Result<()> {
        self.exactly(Lines(lines))
    }

    /// A reader that has gone away (`| head`) is no failure.
    fn exactly(&mut self, text: impl std::fmt::Display) -> Result<()> {
        match writeln!(self.out, "{text}") {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::output("standard output cannot be written").because(e))
            }
            _ => Ok(()),
        }
    }

    /// Writes a remark for a person: not with `--quiet`, nor among JSON.
    pub fn remark(&mut self, line: impl std::fmt::Display) -> Result<()> {
        if self.quiet || self.json { Ok(()) } else { self.say(line) }
    }

    /// Writes a value as JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::internal("the result cannot be put into JSON").because(e))?;
        self.exactly(text)
    }
}

/// Parses the process's arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| refuse(&e));
    start_log(&cli.verbosity);
    interrupt::clean_up_on_signals();
    let mut out = std::io::stdout().lock();
    let Verbosity { verbose, quiet, json } = cli.verbosity;
    let mut context = Context { out: &mut out, quiet, json, verbose };
    let result = match &cli.command {
        #[cfg(feature = "video")]
        Command::Live(args) => live::run(args, &mut context),
        #[cfg(feature = "video")]
        Command::Devices(args) => devices::run(args, &mut context),
        #[cfg(feature = "video")]
        Command::Replay(args) => replay::run(args, &mut context),
        #[cfg(feature = "video")]
        Command::Fleet(args) => fleet::run(args, &mut context),
        #[cfg(feature = "video")]
        Command::Segment(args) => segment::run(args, &mut context),
        #[cfg(feature = "video")]
        Command::Phantom(args) => phantom::run(args, &mut context),
        Command::Eval(args) => eval::run(args, &mut context),
        Command::EvalVideo(args) => eval_video::run(args, &mut context),
        Command::Train(args) => train::run(args, &mut context),
        Command::Bench(args) => bench::run(args, &mut context),
        Command::Weights(args) => weights::run(args, json, verbose > 0, context.out).map(|()| Outcome::Done),
        #[cfg(feature = "video")]
        Command::Doctor(args) => doctor::run(args, &mut context),
        Command::Completions(args) => manual::completions(args, &mut context),
        Command::Man(args) => manual::man(args, &mut context),
    };
    let _ = context.out.flush();
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::from(1),
        Ok(Outcome::Partial) => ExitCode::from(3),
        Err(e) => {
            tracing::debug!("{e:?}");
            let mut stderr = std::io::stderr().lock();
            let prefix = if stderr.is_terminal() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
            let _ = writeln!(stderr, "{prefix} {}", OneLine(e.to_string()));
            ExitCode::from(e.exit_code())
        }
    }
}

/// As clap does, except where an argument would steer the terminal: files may be called what they like.
fn refuse(e: &clap::Error) -> ! {
    let said = e.to_string();
    if Lines(&said).to_string() == said {
        e.exit();
    }
    let _ = write!(std::io::stderr(), "{}", Lines(said));
    std::process::exit(e.exit_code());
}

/// Logs to standard error: warnings, or with `-v` and `-vv` more; `RUST_LOG` overrides.
fn start_log(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "polypscope=debug,warn",
        _ => "polypscope=trace,debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(LogFormat { target: verbosity.verbose > 0 })
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "video")]
    #[test]
    fn the_systemd_unit_gives_options_there_are() {
        let unit = include_str!("../../pipelines/polypscope-live.service");
        let line = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("a command");
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert!(matches!(parsed.as_ref().map(|c| &c.command), Ok(Command::Live(_))), "{:?}", parsed.err());
    }

    /// The words of a command as a shell reads them, up to where it ends.
    #[cfg(feature = "video")]
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
        for c in command.chars() {
            match quote {
                Some(q) if q == c => quote = None,
                Some(_) => word.push(c),
                None if c == '\'' || c == '"' => (quote, begun) = (Some(c), true),
                None if c.is_whitespace() => {
                    if begun {
                        words.push(std::mem::take(&mut word));
                    }
                    begun = false;
                }
                None => {
                    word.push(c);
                    begun = true;
                }
            }
        }
        if begun {
            words.push(word);
        }
        let end = words.iter().position(|w| w.starts_with(['#', '|', '>', '&', ';']) || w.starts_with("2>"));
        words.truncate(end.unwrap_or(words.len()));
        words
    }

    /// What stands for something else: `FILE`, `N`, `$INPUT`, `…`.
    #[cfg(feature = "video")]
    fn stands_for_something(word: &str) -> bool {
        let word = word.rsplit(['=', ':', ',']).next().unwrap_or(word);
        let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "._-".contains(c);
        word.contains(['$', '…', '{', '<'])
            || (word.contains(|c: char| c.is_ascii_uppercase()) && word.chars().all(name))
    }

    /// Commands of a paper: lines of code that begin with the program's name (one line continues behind a backslash),
    /// and what stands in backquotes within a line of text.
    #[cfg(feature = "video")]
    fn commands(text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if let Some(rest) = line.trim_start().trim_start_matches("$ ").strip_prefix("polypscope ")
                && (line.starts_with("    ") || !line.contains('`'))
            {
                let mut command = rest.to_owned();
                let mut next = number + 1;
                while let Some(open) = command.trim_end().strip_suffix('\\') {
                    command = format!("{open} {}", lines.get(next).copied().unwrap_or_default().trim());
                    next += 1;
                }
                found.push((number + 1, command));
            }
            for code in line.split('`').skip(1).step_by(2) {
                found.extend(code.strip_prefix("polypscope ").map(|c| (number + 1, c.to_owned())));
            }
        }
        found
    }

    #[cfg(feature = "video")]
    #[test]
    fn commands_in_the_papers_are_accepted() {
        use clap::error::{ContextKind, ContextValue, ErrorKind};

        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut open: Vec<_> =
            ["", "src", "benches", "pipelines", "weights", "fuzz"].map(|folder| root.join(folder)).into();
        let (mut tried, mut refused) = (0, Vec::new());
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() && folder != root {
                    open.push(path);
                    continue;
                }
                if path.extension().is_none_or(|e| e != "md") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a paper");
                for (line, command) in commands(&text) {
                    // What may be left out stands in brackets.
                    let words = words(&command.replace(['[', ']'], ""));
                    let given = std::iter::once("polypscope").chain(words.iter().map(String::as_str));
                    tried += 1;
                    let Err(e) = Cli::command().try_get_matches_from(given) else { continue };
                    let fine = match e.kind() {
                        // A command may be named without all that it needs.
                        ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                        | ErrorKind::DisplayHelp
                        | ErrorKind::DisplayVersion => true,
                        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                            matches!(e.get(ContextKind::InvalidValue),
                                Some(ContextValue::String(v)) if v.is_empty() || stands_for_something(v))
                        }
                        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => {
                            words.iter().any(|w| w.contains(['|', '…']))
                        }
                        _ => false,
                    };
                    if !fine {
                        refused.push(format!("{}:{line}: polypscope {command}\n{e}", path.display()));
                    }
                }
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
        assert!(tried > 60, "{tried} commands were found");
    }

    #[cfg(feature = "video")]
    #[test]
    fn the_help_on_confirming_names_the_settings_times() {
        use clap::Args;

        use crate::tracks::Confirm;

        let command = arguments::ConfirmArgs::augment_args(clap::Command::new("test"));
        let help = command.get_arguments().find(|a| a.get_id() == "confirm").and_then(|a| a.get_help());
        let help = help.expect("a help").to_string();
        for setting in [Confirm::Balanced, Confirm::Quiet] {
            let (name, n) = (setting.name(), setting.numbers().expect("it filters"));
            assert!(help.contains(&format!("{name} ({} ms)", n.confirm_ms)), "{name}: {help}");
            let longest = format!("up to {} s", n.confirm_ms / n.least_weight / 1e3);
            assert!(help.contains(&longest), "{name}, {longest}: {help}");
        }
    }
}
