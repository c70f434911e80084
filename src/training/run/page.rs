//! The page of a run: its log, its settings and its worst validation pictures flow in, one HTML file without references
//! to anything outside flows out.

use std::fmt::Write;

use base64::Engine;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use super::judge::{RULE, Verdict};
use super::record::Line;
use crate::shown::OneLine;

/// A picture with its caption.
pub struct Shown {
    /// As it is shown, marks drawn.
    pub picture: RgbImage,
    /// Its name and what is wrong with it, as plain text.
    pub caption: String,
}

/// Everything the page shows.
pub struct Page<'a> {
    /// Heading of the page, as plain text.
    pub title: &'a str,
    /// The run's log so far: its steps make the curves, its epochs the table.
    pub lines: &'a [Line],
    /// Name and value, in order.
    pub facts: &'a [(String, String)],
    /// The worst validation pictures, worst first; empty leaves the part out.
    pub worst: &'a [Shown],
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222;\
background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}td,th{padding:.15em \
.8em .15em 0;text-align:left;vertical-align:top}td.n,th.n{text-align:right}svg{width:100%;height:auto;max-width:720px}\
.pictures{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0;width:250px}figure img{width:100%;display:block}figcaption\
{font-size:13px;overflow-wrap:anywhere}.grid{stroke:#8886;stroke-width:1}.axis{font-size:12px;fill:currentColor}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

fn escaped(text: &str) -> String {
    OneLine(text)
        .to_string()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Page<'_> {
    /// The page, whole.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
            escaped(self.title)
        );
        let steps: Vec<(f64, f64)> = self
            .lines
            .iter()
            .filter_map(|l| match l {
                Line::Step { step, loss, .. } => Some((*step as f64, *loss)),
                Line::Epoch { .. } => None,
            })
            .collect();
        let verdicts: Vec<(u64, u64, &Verdict, bool)> = self
            .lines
            .iter()
            .filter_map(|l| match l {
                Line::Epoch { epoch, step, validation: Some(v), best, .. } => Some((*epoch, *step, v, *best)),
                _ => None,
            })
            .collect();
        curve(&mut out, "Loss", &[("loss", "#0a7", smoothed(&steps))]);
        let of = |f: fn(&Verdict) -> f64| -> Vec<(f64, f64)> {
            verdicts.iter().map(|(_, step, v, _)| (*step as f64, f(v))).collect()
        };
        if !verdicts.is_empty() {
            curve(
                &mut out,
                "Validation",
                &[
                    ("mean Dice", "#06c", of(|v| v.all.m_dice)),
                    ("healthy pictures marked", "#c30", of(|v| v.all.false_mark_share())),
                    ("score", "#888", of(|v| v.score)),
                ],
            );
            let _ = writeln!(out, "<p>Score: {}.</p>", escaped(RULE));
            table(&mut out, &verdicts);
        }
        if !self.worst.is_empty() {
            out.push_str(
                "<h2>Worst validation pictures of the last epoch</h2>\n<p>Green: the truth. Magenta: the \
                          network.</p><div class=\"pictures\">\n",
            );
            for shown in self.worst {
                let caption = escaped(&shown.caption);
                let _ = writeln!(
                    out,
                    "<figure><img alt=\"{caption}\" src=\"data:image/jpeg;base64,{}\"><figcaption>{caption}</figcaption></figure>",
                    jpeg(&shown.picture)
                );
            }
            out.push_str("</div>\n");
        }
        out.push_str("<h2>This run</h2>\n<table>\n");
        for (name, value) in self.facts {
            let _ = writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value));
        }
        out.push_str("</table>\n</body></html>\n");
        out
    }
}

fn table(out: &mut String, verdicts: &[(u64, u64, &Verdict, bool)]) {
    let shown = verdicts.iter().max_by(|a, b| a.2.score.total_cmp(&b.2.score)).into_iter();
    for (title, (epoch, step, v, _)) in [("Last epoch", verdicts.last())]
        .into_iter()
        .filter_map(|(t, v)| v.map(|v| (t, v)))
        .chain(shown.map(|v| ("Best epoch", v)))
    {
        let _ = writeln!(
            out,
            "<h2>{title} ({epoch}, step {step})</h2>\n<table><tr><th>set</th><th class=\"n\">mean Dice</th><th \
             class=\"n\">mean IoU</th><th class=\"n\">pictures</th><th class=\"n\">healthy, marked</th></tr>"
        );
        for (name, f) in v.sets.iter().map(|(n, f)| (n.as_str(), f)).chain([("all", &v.all)]) {
            let of = |v: f64| if f.count == 0 { "–".to_owned() } else { format!("{v:.4}") };
            let marked = if f.negatives == 0 {
                "–".to_owned()
            } else {
                format!("{} of {} ({:.0} %)", f.false_marks, f.negatives, 100.0 * f.false_mark_share())
            };
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td \
                 class=\"n\">{marked}</td></tr>",
                escaped(name),
                of(f.m_dice),
                of(f.m_iou),
                f.count
            );
        }
        out.push_str("</table>\n");
    }
}

/// Means over pieces, so that a long run has a readable line.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let piece = points.len().div_ceil(300).max(1);
    points
        .chunks(piece)
        .map(|c| {
            let n = c.len() as f64;
            (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
        })
        .collect()
}

fn curve(out: &mut String, title: &str, lines: &[(&str, &str, Vec<(f64, f64)>)]) {
    const W: f64 = 720.0;
    const H: f64 = 240.0;
    const LEFT: f64 = 48.0;
    const BOTTOM: f64 = 22.0;
    let all = || lines.iter().flat_map(|(_, _, p)| p.iter()).filter(|p| p.1.is_finite());
    if all().next().is_none() {
        return;
    }
    let range = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
    };
    let (x0, x1) = range(|p| p.0);
    let (y0, y1) = range(|p| p.1);
    let (y0, y1) = if y1 - y0 < 1e-9 { (y0 - 0.5, y1 + 0.5) } else { (y0, y1) };
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0).max(1e-9) * (W - LEFT - 8.0);
    let y = |v: f64| 8.0 + (y1 - v) / (y1 - y0) * (H - BOTTOM - 8.0);
    // Above the lines, where none of them runs through it.
    let names =
        lines.iter().map(|(name, colour, _)| format!("<span style=\"color:{colour}\">■</span> {name}"));
    let legend = names.collect::<Vec<_>>().join(" &#160; ");
    let _ = writeln!(
        out,
        "<h2>{title}</h2>\n<p>{legend}</p>\n<svg viewBox=\"0 0 {W} {H}\" role=\"img\" aria-label=\"{title} over steps\">"
    );
    for i in 0..=4 {
        let v = y0 + (y1 - y0) * f64::from(i) / 4.0;
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{W}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text class=\"axis\" x=\"2\" \
             y=\"{1:.1}\">{v:.3}</text>",
            y(v),
            y(v) + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"axis\" x=\"{LEFT}\" y=\"{0}\">step {x0:.0}</text><text class=\"axis\" x=\"{1}\" y=\"{0}\" \
         text-anchor=\"end\">{x1:.0}</text>",
        H - 4.0,
        W - 8.0
    );
    for (_, colour, points) in lines {
        let path: Vec<String> = points
            .iter()
            .filter(|p| p.1.is_finite())
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
    }
    out.push_str("</svg>\n");
}

fn jpeg(picture: &RgbImage) -> String {
    let mut bytes = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(picture);
    if encoded.is_err() {
        bytes.clear();
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
