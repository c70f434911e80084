//! A progress bar on a terminal, and silence elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use crate::shown::OneLine;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts frames on standard error: how many, how fast, and how long it will take.
pub struct Progress(ProgressBar);

impl Progress {
    /// `total`: frames to come, if known. Nothing is shown with `quiet` or where standard error is no terminal.
    pub fn new(total: Option<u64>, quiet: bool, what: &str) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() {
            "{msg} {bar:30.cyan/dim} {pos}/{len} frames  {per_sec}  {eta} left"
        } else {
            "{msg} {spinner} {pos} frames  {per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key(
                "per_sec",
                |s: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                    let _ = write!(w, "{:.1} fps", s.per_sec());
                },
            ));
        }
        bar.set_message(OneLine(what).to_string());
        if !hidden {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self(bar)
    }

    pub fn at(&self, frames: u64) {
        self.0.set_position(frames);
    }

    /// What is being done now.
    pub fn say(&self, what: &str) {
        self.0.set_message(OneLine(what).to_string());
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
