//! What scoring a data set says: rows, figures, notes and problems flow in; a table, CSV lines and JSON flow out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::note::{Note, NoteKind, Problem};
use super::pairing::Files;
use super::scale::Scales;
use crate::evaluation::metrics::{Figures, Protocol, SetFigures};
use crate::shown::OneLine;

/// The figures of one class of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Stem of its files.
    pub name: String,
    /// Name of the class; `polyp` unless classes were listed.
    pub class: String,
    /// Pixels in a row of the mask, to whose size the prediction was brought.
    pub width_px: usize,
    /// Rows of the mask.
    pub height_px: usize,
    /// The prediction against the mask, under the set's protocol.
    pub figures: Figures,
    /// Rules that decided something about the picture, ascending.
    pub notes: Vec<NoteKind>,
}

/// One of the worst pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Stem of its files.
    pub name: String,
    /// Name of the class that the figure is of.
    pub class: String,
    /// Its figure of the [`Rank`](super::Rank) asked for.
    pub value: f64,
    pub(super) class_number: usize,
    pub(super) files: Files,
}

/// A data set's figures and everything that was decided on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSetReport {
    /// The set's name, as in [`DataSet`](super::DataSet).
    pub name: String,
    /// What turned maps into figures.
    pub protocol: Protocol,
    /// Over the pictures; with several classes the mean over the classes.
    pub figures: SetFigures,
    /// Per class; one entry, `polyp`, unless classes were listed.
    pub classes: Vec<(String, SetFigures)>,
    /// Rules that decided something, with the files they were applied to.
    pub notes: BTreeMap<NoteKind, Note>,
    /// Pictures without figures, with the reasons.
    pub problems: Vec<Problem>,
    /// Worst first.
    pub worst: Vec<Worst>,
    /// Whether the scale of all predictions is probably another than the one they were read on.
    pub doubtful: bool,
    pub(super) scales: Scales,
}

impl DataSetReport {
    /// Whether a picture with a mask has no figures, or none that can be trusted.
    pub fn is_partial(&self) -> bool {
        !self.problems.is_empty() || self.doubtful
    }

    /// Notes and problems in sentences, one a line, at most `names` names each.
    pub fn remarks(&self, names: usize) -> Vec<String> {
        let list = |all: &mut dyn Iterator<Item = &str>, count: usize| {
            let shown: Vec<&str> = all.take(names).collect();
            let more = count - shown.len();
            match (shown.is_empty(), more) {
                (true, _) => String::new(),
                (false, 0) => format!(" ({})", shown.join(", ")),
                (false, _) => format!(" ({}, and {more} more)", shown.join(", ")),
            }
        };
        let mut lines = Vec::new();
        for problem in self.problems.iter().take(names.max(1)) {
            lines.push(format!("{}: left out: {}", self.name, problem.what));
        }
        if self.problems.len() > names.max(1) {
            lines.push(format!("{}: {} left out in all", self.name, self.problems.len()));
        }
        for note in self.notes.values() {
            let named = list(&mut note.names.iter().map(String::as_str), note.names.len());
            lines.push(format!("{}: {} x {}{named}", self.name, note.count, note.rule));
        }
        lines
    }
}

/// Columns in the order of the field's papers, then the rest.
const COLUMNS: [(&str, fn(&SetFigures) -> Option<f64>); 11] = [
    ("mDice", |f| f.m_dice),
    ("mIoU", |f| f.m_iou),
    ("wFm", |f| f.wfm),
    ("Sm", |f| f.sm),
    ("Em", |f| f.em),
    ("MAE", |f| f.mae),
    ("maxF", |f| f.max_f),
    ("avgF", |f| f.avg_f),
    ("BER", |f| f.ber),
    ("Acc", |f| f.acc),
    ("pooled", |f| f.pooled_iou),
];

/// A table over data sets, a row each and a row per class where there are several.
pub fn table(reports: &[DataSetReport]) -> String {
    let mut rows: Vec<(String, &SetFigures)> = Vec::new();
    for report in reports {
        rows.push((OneLine(&report.name).to_string(), &report.figures));
        if report.classes.len() > 1 {
            rows.extend(report.classes.iter().map(|(class, figures)| (format!("  {class}"), figures)));
        }
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("data set".len());
    let mut out = format!("{:width$}  {:>6}", "data set", "count");
    for (title, _) in COLUMNS {
        out.push_str(&format!("  {title:>6}"));
    }
    out.push('\n');
    for (name, figures) in rows {
        out.push_str(&format!("{name:width$}  {:>6}", figures.count));
        for (_, value) in COLUMNS {
            match value(figures) {
                Some(v) => out.push_str(&format!("  {v:>6.4}")),
                None => out.push_str(&format!("  {:>6}", "–")),
            }
        }
        out.push('\n');
    }
    out
}

/// What the table's figures mean, in a sentence.
pub fn protocol_line(protocol: Protocol) -> String {
    match protocol {
        Protocol::Published => {
            "protocol published: each map stretched to its own range; Dice soft, IoU, BER and Acc at \
             0.5, avgF and Em at twice the map's mean; means over pictures, pooled = pooled IoU"
                .into()
        }
        Protocol::Thresholded { threshold } => format!(
            "protocol thresholded: binary at probability >= {threshold} (Dice, IoU, BER, Acc, avgF, Em), the rest on the \
             map; empty against empty is 1; means over pictures, pooled = pooled IoU"
        ),
    }
}

/// The machine's form of the reports.
pub fn json(reports: &[DataSetReport]) -> Value {
    let protocol = reports.first().map(|r| r.protocol);
    let datasets: Vec<Value> = reports
        .iter()
        .map(|r| {
            let mut set = figures_json(&r.figures);
            set["name"] = json!(r.name);
            if r.classes.len() > 1 {
                set["classes"] = r
                    .classes
                    .iter()
                    .map(|(name, figures)| {
                        let mut class = figures_json(figures);
                        class["name"] = json!(name);
                        class
                    })
                    .collect();
            }
            set["left_out"] = json!(r.problems);
            set["notes"] = json!(r.notes);
            set["worst"] =
                r.worst.iter().map(|w| json!({"name": w.name, "class": w.class, "value": w.value})).collect();
            set
        })
        .collect();
    let mut out = json!({ "protocol": protocol.map(Protocol::name), "datasets": datasets });
    if let Some(Protocol::Thresholded { threshold }) = protocol {
        out["threshold"] = json!(threshold);
    }
    out
}

fn figures_json(figures: &SetFigures) -> Value {
    // Plain numbers and options of them cannot fail to serialise.
    serde_json::to_value(figures).unwrap_or(Value::Null)
}

/// First line of the CSV file.
pub const CSV_HEADER: &str = "data_set,protocol,name,class,dice,iou,wfm,sm,em,mae,max_f,avg_f,ber,acc,truth_px,predicted_px,\
     intersection_px,union_px,width_px,height_px,notes";

/// One row of the CSV file, without its line break. An undefined figure is an empty field.
pub fn csv_line(data_set: &str, protocol: Protocol, row: &Row) -> String {
    let f = &row.figures;
    let number = |v: f64| if v.is_finite() { format!("{v:.6}") } else { String::new() };
    let notes: Vec<String> = row.notes.iter().map(|n| label(*n)).collect();
    let mut fields = vec![quoted(data_set), protocol.name().into(), quoted(&row.name), quoted(&row.class)];
    fields.extend(
        [f.dice, f.iou, f.wfm, f.sm, f.em, f.mae, f.curve.max_f(), f.avg_f, f.ber, f.acc].map(number),
    );
    fields.extend([f.truth_px, f.predicted_px, f.intersection_px, f.union_px].map(|v| v.to_string()));
    fields.extend([row.width_px.to_string(), row.height_px.to_string(), quoted(&notes.join(" "))]);
    fields.join(",")
}

/// A note's name in JSON and CSV.
fn label(kind: NoteKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A CSV field (RFC 4180): quoted where it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
