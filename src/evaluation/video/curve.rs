//! The settings as a picture: figures flow in, an SVG flows out that needs nothing else.
//!
//! Left, what is found against false alarms; right, how late the first alarm comes against false alarms. A point a
//! setting, joined in their order.

use std::fmt::Write;

use super::report::PooledSetting;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 400.0;
const PANEL: (f64, f64) = (340.0, 260.0);
const TOP: f64 = 60.0;

struct Series<'a> {
    words: &'a str,
    class: &'a str,
    /// With the name of the setting.
    points: Vec<(f64, f64, &'a str)>,
}

/// The picture, of so many minutes of judged video; `title` is its first line.
pub fn curve(rows: &[PooledSetting], minutes: f64, title: &str) -> String {
    let mut h = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<style>text{{fill:#222}}.axis{{stroke:#999;fill:none}}.grid{{stroke:#e5e5e5;fill:none}}\
         .a{{stroke:#0a6c74;fill:#0a6c74}}.b{{stroke:#b3541e;fill:#fff}}polyline{{fill:none!important;stroke-width:1.5}}\
         </style>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n<text x=\"60\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    let minutes = minutes.max(1e-9);
    let all = |r: &PooledSetting| r.figures.false_alarms.runs as f64 / minutes;
    let half = |r: &PooledSetting| r.figures.false_alarms.at_least_500_ms as f64 / minutes;
    let points = |x: &dyn Fn(&PooledSetting) -> f64, y: &dyn Fn(&PooledSetting) -> Option<f64>| {
        rows.iter().filter_map(|r| Some((x(r), y(r)?, r.name.as_str()))).collect::<Vec<_>>()
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
    panel(&mut h, 60.0, ("false alarms of 0.5 s and more, a minute", "sensitivity"), &sensitivity, Some(1.0));
    panel(&mut h, 540.0, ("false alarms a minute", "first alarm after, ms (mean)"), &delay, None);
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

fn panel(h: &mut String, left: f64, axes: (&str, &str), series: &[Series], top: Option<f64>) {
    let (w, t) = PANEL;
    let most = |k: fn(&(f64, f64, &str)) -> f64| {
        series.iter().flat_map(|s| s.points.iter()).map(k).fold(0.0, f64::max)
    };
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
        let places: Vec<(f64, f64)> = s.points.iter().map(|&(x, y, _)| at((x, y))).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(h, "<polyline class=\"{}\" points=\"{}\"/>", s.class, line.join(" "));
        // Names run away from the other series, slanted, so that close points can be told apart.
        let slant = if k == 0 { -40 } else { 40 };
        for ((x, y), (_, _, name)) in places.iter().zip(&s.points) {
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
    // A quarter of a round figure has up to three digits, wherever they begin.
    let text = format!("{v:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::report::PooledFigures;
    use super::*;

    #[test]
    fn every_setting_is_a_point_and_names_cannot_break_out() {
        let row = |name: &str, alarms: u64, found: Option<f64>| {
            let mut figures = PooledFigures { per_polyp_sensitivity: found, ..PooledFigures::default() };
            figures.false_alarms.at_least_500_ms = alarms;
            PooledSetting { name: name.into(), numbers: None, figures }
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
        // A figure that is round already is its own end.
        assert_eq!([1.0, 2.0, 2.5, 5.0, 40.0, 200.0].map(round_up), [1.0, 2.0, 2.5, 5.0, 50.0, 200.0]);
    }

    /// The numbers of an attribute such as ` cx="` in the order they are written.
    fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
        let rest = svg.split(attribute).skip(1);
        rest.map(|t| t.split('"').next().unwrap().parse().unwrap()).collect()
    }

    /// Texts with their places, where a place is not a translation.
    fn texts(svg: &str) -> Vec<(f64, f64, String)> {
        let place = |t: &str| {
            let (tag, rest) = t.split_once('>')?;
            let of = |name: &str| tag.split_once(name)?.1.split('"').next()?.parse::<f64>().ok();
            Some((of(" x=\"")?, of(" y=\"")?, rest.split('<').next()?.to_owned()))
        };
        svg.split("<text").skip(1).filter_map(place).collect()
    }

    #[test]
    fn a_point_lies_where_its_figures_are_on_the_axes() {
        let mut figures = PooledFigures {
            per_polyp_sensitivity: Some(0.75),
            per_frame_sensitivity: Some(0.5),
            first_detection_ms: Some(150.0),
            ..PooledFigures::default()
        };
        (figures.false_alarms.runs, figures.false_alarms.at_least_500_ms) = (16, 4);
        let row = PooledSetting { name: "quiet".into(), numbers: None, figures };
        let svg = curve(&[row], 2.0, "");
        // Two long alarms a minute of at most 2, and eight of all of at most 10; 150 ms of at most 200.
        let across = |share: f64, left: f64| left + share * PANEL.0;
        let up = |share: f64| TOP + PANEL.1 - share * PANEL.1;
        let points: Vec<_> = numbers(&svg, " cx=\"").into_iter().zip(numbers(&svg, " cy=\"")).collect();
        // A point of each series, and behind it the one of its legend.
        let drawn: Vec<_> = points.iter().step_by(2).copied().collect();
        let wanted = [
            (across(1.0, 60.0), up(0.75)),
            (across(1.0, 60.0), up(0.5)),
            (across(0.8, 540.0), up(0.75)),
            (across(0.2, 540.0), up(0.75)),
        ];
        assert_eq!(drawn, wanted, "{svg}");
        // Names begin right of their point: the first series' above it and away upwards, the second's below.
        let names: Vec<_> = svg.split("translate(").skip(1).map(|t| t.split('"').next().unwrap()).collect();
        let name = |(x, y): (f64, f64), first: bool| {
            let (y, slant) = if first { (y - 5.0, -40) } else { (y + 9.0, 40) };
            format!("{:.1} {y:.1}) rotate({slant})", x + 5.0)
        };
        let beside: Vec<_> = wanted.iter().enumerate().map(|(i, p)| name(*p, i % 2 == 0)).collect();
        assert_eq!(names, beside);
    }

    #[test]
    fn axes_are_labelled_at_their_quarters_and_nothing_is_written_over_another() {
        let figures = PooledFigures {
            per_polyp_sensitivity: Some(1.0),
            first_detection_ms: Some(30.0),
            false_alarms: crate::evaluation::video::AlarmCounts { at_least_500_ms: 8, ..Default::default() },
            ..PooledFigures::default()
        };
        let row = PooledSetting { name: "off".into(), numbers: None, figures };
        let svg = curve(&[row], 1.0, "title");
        let texts = texts(&svg);
        let at = |words: &str| {
            let found = texts.iter().find(|t| t.2 == words).unwrap_or_else(|| panic!("{words} in {texts:?}"));
            (found.0, found.1)
        };
        let bottom = TOP + PANEL.1;
        for (left, x_top, y_top) in [(60.0, 10.0, 1.0), (540.0, 10.0, 50.0)] {
            let here = |x: f64, y: f64, words: &str| {
                let close = |t: &&(f64, f64, String)| (t.0 - x).abs() < 10.0 && (t.1 - y).abs() < 10.0;
                let found = texts.iter().find(|t| close(t) && t.2 == words);
                found.unwrap_or_else(|| panic!("{words} at {x}, {y} in {texts:?}")).clone()
            };
            for k in 0..=4 {
                let share = f64::from(k) / 4.0;
                let words = |v: f64| v.to_string();
                // Left of the axis, its middle at the height of the line; below the panel under its line.
                let label = here(left - 6.0, bottom - share * PANEL.1 + 4.0, &words(share * y_top));
                assert!(label.0 < left && label.1 > bottom - share * PANEL.1);
                let below = here(left + share * PANEL.0, bottom + 18.0, &words(share * x_top));
                assert!(below.1 > bottom + 10.0);
            }
        }
        for (left, axes, words) in [
            (60.0, ("false alarms of 0.5 s and more, a minute", "sensitivity"), ["per polyp", "per frame"]),
            (540.0, ("false alarms a minute", "first alarm after, ms (mean)"), ["all alarms", "&gt;= 0.5 s"]),
        ] {
            assert_eq!(at(axes.0).0, left + PANEL.0 / 2.0);
            assert!((10.0..TOP).contains(&(TOP - at(axes.1).1)), "above the panel, beneath the title");
            assert!(at(axes.1).1 > 24.0 + 12.0);
            let [first, second] = words.map(at);
            // One line under the other, each of twelve points, the last within the picture.
            let lines = [bottom + 18.0, at(axes.0).1, first.1, HEIGHT];
            assert!(lines.windows(2).all(|w| w[1] - w[0] >= 12.0), "{lines:?}");
            assert_eq!(first.1, second.1);
            assert!(first.0 > left && second.0 - first.0 > 100.0 && second.0 < left + PANEL.0);
        }
        // The signs of the legend stand before its words.
        let signs: Vec<_> = numbers(&svg, " cx=\"").into_iter().zip(numbers(&svg, " cy=\"")).collect();
        for words in ["per polyp", "per frame", "all alarms", "&gt;= 0.5 s"] {
            let (x, y) = at(words);
            assert!(signs.contains(&(x - 10.0, y - 4.0)), "{words}: {signs:?}");
        }
    }

    #[test]
    fn no_minutes_at_all_still_make_a_picture_of_numbers() {
        let figures = PooledFigures { per_polyp_sensitivity: Some(1.0), ..PooledFigures::default() };
        let row = PooledSetting { name: "off".into(), numbers: None, figures };
        let svg = curve(&[row], 0.0, "");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
