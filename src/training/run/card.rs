//! What a model card says: the run flows in, Markdown flows out.

use std::fmt::Write;

use super::judge::{RULE, Verdict};
use super::settings::{Length, Settings};
use crate::model::checkpoint::Description;

/// Everything a card says that is not in the settings.
pub struct Card<'a> {
    /// Name, network, classes and threshold of the result.
    pub description: &'a Description,
    /// What the run was asked to be.
    pub settings: &'a Settings,
    /// Names, weights and sizes of the sets: training, then validation.
    pub training: Vec<String>,
    /// The same of the validation sets; empty where there are none.
    pub validation: Vec<String>,
    /// Where the first parameters came from, in words.
    pub started_from: String,
    /// Steps done, over all sessions of the run.
    pub steps: u64,
    /// Seconds of training, over all sessions of the run.
    pub seconds: f64,
    /// Processor or card, and threads, in words.
    pub machine: String,
    /// Before the first step, the best, the last.
    pub before: Option<&'a Verdict>,
    /// The best epoch (0 is before the first step) and its verdict; `None` where nothing was validated.
    pub best: Option<(u64, &'a Verdict)>,
    /// Pictures that could not be read.
    pub left_out: usize,
    /// Terms of use, in Markdown.
    pub terms: &'a str,
}

impl Card<'_> {
    /// The whole card, in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.description.name);
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!(
            "{} with {} class(es), trained by polypscope {}. Research software, not a medical device.\n",
            self.description.network,
            self.description.classes,
            env!("CARGO_PKG_VERSION")
        ));
        line("## Data\n".into());
        for set in &self.training {
            line(format!("- trained on {set}"));
        }
        for set in &self.validation {
            line(format!("- validated on {set}"));
        }
        if self.validation.is_empty() {
            line("- not validated: no validation data were given".into());
        }
        if self.left_out > 0 {
            line(format!("- {} picture(s) could not be read and were left out", self.left_out));
        }
        let s = self.settings;
        line("\n## Training\n".into());
        line(format!("- started from {}", self.started_from));
        let asked = match s.length {
            Length::Epochs(n) => format!("{n} epochs asked for"),
            Length::Minutes(m) => format!("{m} minutes asked for"),
        };
        line(format!(
            "- {} steps of {} pictures in {:.0} min ({asked})",
            self.steps,
            s.batch,
            self.seconds / 60.0
        ));
        line(format!("- sizes {:?}, seed {}, {:?}", s.sizes, s.seed, s.rule));
        line(format!(
            "- rate {} (backbone {}), {:?}, warm-up {} steps",
            s.rate,
            if s.freeze_backbone { "frozen".into() } else { format!("x {}", s.backbone) },
            s.schedule.shape,
            s.schedule.warm_up
        ));
        if s.settle > 0.0 {
            line(format!("- the last {:.0} % with the norms' running statistics", 100.0 * s.settle));
        }
        line(match s.lossnet {
            Some(weight) => format!("- structure loss ({:?}) + {weight} · LossNet", s.weighting),
            None => format!("- structure loss ({:?}), without LossNet", s.weighting),
        });
        line(format!("- on {}", self.machine));
        if let Some((epoch, best)) = self.best {
            line(format!(
                "\n## Figures\n\nThresholded at {}; the best epoch, {epoch}, by this rule: {RULE}.\n",
                self.description.threshold
            ));
            line(
                "| set | pictures | mean Dice | mean IoU | healthy, marked | before: Dice | before: marked |"
                    .into(),
            );
            line("|---|---|---|---|---|---|---|".into());
            for (name, f) in best.sets.iter().map(|(n, f)| (n.as_str(), f)).chain([("all", &best.all)]) {
                let before =
                    self.before.and_then(|b| if name == "all" { Some(&b.all) } else { b.sets.get(name) });
                let dice = |f: Option<&super::judge::Figures>| match f {
                    Some(f) if f.count > 0 => format!("{:.4}", f.m_dice),
                    _ => "–".into(),
                };
                let marked = |f: Option<&super::judge::Figures>| match f {
                    Some(f) if f.negatives > 0 => format!("{} of {}", f.false_marks, f.negatives),
                    _ => "–".into(),
                };
                let iou = if f.count > 0 { format!("{:.4}", f.m_iou) } else { "–".into() };
                line(format!(
                    "| {name} | {} | {} | {iou} | {} | {} | {} |",
                    f.count + f.negatives,
                    dice(Some(f)),
                    marked(Some(f)),
                    dice(before),
                    marked(before)
                ));
            }
        }
        let _ = write!(out, "\n## Terms\n\n{}\n", self.terms);
        out
    }
}
