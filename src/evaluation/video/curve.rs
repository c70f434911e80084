//! The settings as a picture: figures flow in, an SVG flows out that needs nothing else.
//!
//! Left, what is found against false alarms; right, how late the first alarm comes against false alarms. A point a setting,
//! joined in their order.

use std::fmt::Write;

use super::report::ConfirmFigures;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 400.0;
const PANEL: (f64, f64) = (340.0, 260.0);
const TOP: f64 = 60.0;

struct Series<'a> {
    words: &'a str,
    class: &'a str,
    points: Vec<(f64, f64)>,
}

/// The picture, of so many minutes of judged video; `title` is its first line.
pub fn curve(rows: &[ConfirmFigures], minutes: f64, title: &str) -> String {
    let mut h = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<style>text{{fill:#222}}.axis{{stroke:#999;fill:none}}.grid{{stroke:#e5e5e5;fill:none}}\
         .a{{stroke:#0a6c74;fill:#0a6c74}}.b{{stroke:#b3541e;fill:#fff}}polyline{{fill:none!important;stroke-width:1.5}}\
         </style>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n<text x=\"60\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    let minutes = minutes.max(1e-9);
    let all = |r: &ConfirmFigures| r.figures.false_alarms.runs as f64 / minutes;
    let half = |r: &ConfirmFigures| r.figures.false_alarms.at_least_500_ms as f64 / minutes;
    let points = |x: &dyn Fn(&ConfirmFigures) -> f64, y: &dyn Fn(&ConfirmFigures) -> Option<f64>| {
        rows.iter().filter_map(|r| Some((x(r), y(r)?))).collect::<Vec<_>>()
    };
    let sensitivity = [
        Series {
            words: "per polyp",
            class: "a",
            points: points(&half, &|r| r.figures.per_polyp_sensitivity),
        },
        Series {
            words: "per frame",
            class: "b",
            points: points(&half, &|r| r.figures.per_frame_sensitivity),
        },
    ];
    let delay = [
        Series { words: "all alarms", class: "a", points: points(&all, &|r| r.figures.first_detection_ms) },
        Series { words: ">= 0.5 s", class: "b", points: points(&half, &|r| r.figures.first_detection_ms) },
    ];
    let names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
    panel(
        &mut h,
        60.0,
        ("false alarms of 0.5 s and more, a minute", "sensitivity"),
        &sensitivity,
        Some(1.0),
        &names,
    );
    panel(&mut h, 540.0, ("false alarms a minute", "first alarm after, ms (mean)"), &delay, None, &names);
    h.push_str("</svg>\n");
    h
}

/// A round figure at or above `most`.
fn round_up(most: f64) -> f64 {
    if !(most > 0.0 && most.is_finite()) {
        return 1.0;
    }
    let scale = 10f64.powf(most.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|k| k * scale).find(|v| *v >= most - 1e-12).unwrap_or(most)
}

fn panel(h: &mut String, left: f64, axes: (&str, &str), series: &[Series], top: Option<f64>, names: &[&str]) {
    let (w, t) = PANEL;
    let most =
        |k: fn(&(f64, f64)) -> f64| series.iter().flat_map(|s| s.points.iter()).map(k).fold(0.0, f64::max);
    let (x_top, y_top) = (round_up(most(|p| p.0)), top.unwrap_or_else(|| round_up(most(|p| p.1))));
    let at = |(x, y): (f64, f64)| (left + x / x_top * w, TOP + t - y / y_top * t);
    // Writing to a string cannot fail.
    for k in 0..=4 {
        let share = f64::from(k) / 4.0;
        let (x, y) = at((share * x_top, share * y_top));
        let _ = write!(h, "<path class=\"grid\" d=\"M{left} {y:.1}h{w}M{x:.1} {TOP}v{t}\"/>");
        let _ = write!(
            h,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            figure(share * y_top)
        );
        let _ = write!(
            h,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP + t + 18.0,
            figure(share * x_top)
        );
    }
    let _ = writeln!(h, "<path class=\"axis\" d=\"M{left} {TOP}v{t}h{w}\"/>");
    let _ = writeln!(h, "<text x=\"{left}\" y=\"{:.1}\">{}</text>", TOP - 12.0, escaped(axes.1));
    let _ = writeln!(
        h,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        left + w / 2.0,
        TOP + t + 38.0,
        escaped(axes.0)
    );
    for (k, s) in series.iter().enumerate() {
        let places: Vec<(f64, f64)> = s.points.iter().map(|p| at(*p)).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(h, "<polyline class=\"{}\" points=\"{}\"/>", s.class, line.join(" "));
        // Names run away from the other series, slanted, so that close points can be told apart.
        let slant = if k == 0 { -40 } else { 40 };
        for ((x, y), name) in places.iter().zip(names) {
            let _ = write!(h, "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>", s.class);
            let _ = write!(
                h,
                "<text transform=\"translate({:.1} {:.1}) rotate({slant})\" font-size=\"10\">{}</text>",
                x + 5.0,
                y + if k == 0 { -5.0 } else { 9.0 },
                escaped(name)
            );
        }
        let y = TOP + t + 56.0;
        let x = left + 130.0 * k as f64;
        let _ = write!(h, "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\"/>", s.class, y - 4.0);
        let _ = writeln!(h, "<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>", x + 10.0, escaped(s.words));
    }
}

/// Text as XML takes it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn figure(v: f64) -> String {
    let text = format!("{v:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::report::VideoFigures;
    use super::*;

    #[test]
    fn every_setting_is_a_point_and_names_cannot_break_out() {
        let row = |name: &str, alarms: u64, found: Option<f64>| {
            let mut figures = VideoFigures { per_polyp_sensitivity: found, ..VideoFigures::default() };
            figures.false_alarms.at_least_500_ms = alarms;
            ConfirmFigures { name: name.into(), numbers: None, figures, per_polyp: Vec::new() }
        };
        let svg =
            curve(&[row("off", 8, Some(1.0)), row("<b>", 2, Some(0.5)), row("none", 0, None)], 2.0, "a & b");
        // A minute has 4 and 1: at the right end, and at a quarter.
        assert!(
            svg.contains("points=\"400.0,60.0 145.0,190.0\"") || svg.contains("points=\"332.0,60.0"),
            "{svg}"
        );
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>") && svg.contains("a &amp; b"));
        assert!(svg.ends_with("</svg>\n"));
        assert!(curve(&[], 0.0, "").contains("</svg>"));
    }

    #[test]
    fn axes_end_at_round_figures() {
        assert_eq!([0.0, 0.3, 4.0, 7.2, 130.0].map(round_up), [1.0, 0.5, 5.0, 10.0, 200.0]);
    }
}
