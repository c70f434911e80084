//! Several recordings as one: results that `eval-video --json` printed flow in, one table flows out.
//!
//! Counts are added, so that a long recording weighs more than a short one; polyps are never merged across recordings.

use serde::{Deserialize, Serialize};

use super::alarms::AlarmCounts;
use super::report::{PooledFigures, PooledSetting, table};
use crate::{Error, Result};

/// What is read of one recording's result.
#[derive(Debug, Deserialize)]
struct Recording {
    polyps: u64,
    judged_ms: f64,
    frames: Frames,
    confirm: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Frames {
    with_polyp: u64,
    without_polyp: u64,
}

#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    per_frame_sensitivity: Option<f64>,
    per_frame_specificity: Option<f64>,
    first_detection_ms: Option<f64>,
    flicker: Option<f64>,
    flicker_pairs: u64,
    polyps_found: u64,
    false_alarms: AlarmCounts,
}

#[derive(Clone, Debug, Default)]
struct Sum {
    name: String,
    hit_frames: f64,
    clean_frames: f64,
    delay_ms: f64,
    flicker: f64,
    flicker_pairs: u64,
    found: u64,
    alarms: AlarmCounts,
}

/// Adds recordings up.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    recordings: u64,
    polyps: u64,
    minutes: f64,
    with_polyp: u64,
    without_polyp: u64,
    rows: Vec<Sum>,
}

/// What several recordings came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooled {
    /// Recordings that were added.
    pub recordings: u64,
    /// Polyps in the truth of all recordings.
    pub polyps: u64,
    /// Judged video in minutes.
    pub minutes: f64,
    /// Judged frames with a polyp in view.
    pub frames_with_polyp: u64,
    /// Judged frames without one.
    pub frames_without_polyp: u64,
    /// A row for each setting of the filter.
    pub confirm: Vec<PooledSetting>,
}

impl Pool {
    /// Adds one recording's result, as JSON; `place` names it.
    ///
    /// # Errors
    /// Text that is no such result, or other settings than the results before had.
    pub fn add(&mut self, place: &str, json: &[u8]) -> Result<()> {
        let r: Recording = serde_json::from_slice(json).map_err(|e| {
            Error::input(format!("{place}: is no result of a video ({e})"))
                .remedy("give what `eval-video --json` printed")
                .because(e)
        })?;
        if r.confirm.is_empty() {
            return Err(Error::input(format!("{place}: holds no settings side by side"))
                .remedy("measure it with --video or --predictions"));
        }
        if self.rows.is_empty() {
            self.rows =
                r.confirm.iter().map(|row| Sum { name: row.name.clone(), ..Sum::default() }).collect();
        }
        let same = self.rows.len() == r.confirm.len()
            && self.rows.iter().zip(&r.confirm).all(|(a, b)| a.name == b.name);
        if !same {
            return Err(Error::input(format!(
                "{place}: was measured with other settings than the files before"
            ))
            .remedy("measure all with the same --confirm"));
        }
        self.recordings += 1;
        self.polyps += r.polyps;
        self.minutes += r.judged_ms / 60_000.0;
        self.with_polyp += r.frames.with_polyp;
        self.without_polyp += r.frames.without_polyp;
        for (sum, row) in self.rows.iter_mut().zip(r.confirm) {
            sum.hit_frames += (row.per_frame_sensitivity.unwrap_or(0.0) * r.frames.with_polyp as f64).round();
            sum.clean_frames +=
                (row.per_frame_specificity.unwrap_or(0.0) * r.frames.without_polyp as f64).round();
            sum.delay_ms += row.first_detection_ms.unwrap_or(0.0) * row.polyps_found as f64;
            sum.found += row.polyps_found;
            sum.flicker += row.flicker.unwrap_or(0.0) * row.flicker_pairs as f64;
            sum.flicker_pairs += row.flicker_pairs;
            sum.alarms += row.false_alarms;
        }
        Ok(())
    }

    /// The figures of all recordings added so far.
    pub fn report(&self) -> Pooled {
        let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
        let confirm = (self.rows.iter())
            .map(|s| PooledSetting {
                name: s.name.clone(),
                numbers: s.name.parse::<crate::tracks::Variant>().ok().and_then(|v| v.numbers),
                figures: PooledFigures {
                    per_polyp_sensitivity: share(s.found as f64, self.polyps),
                    per_frame_sensitivity: share(s.hit_frames, self.with_polyp),
                    per_frame_specificity: share(s.clean_frames, self.without_polyp),
                    first_detection_ms: share(s.delay_ms, s.found),
                    false_alarms: s.alarms,
                    flicker: share(s.flicker, s.flicker_pairs),
                    flicker_pairs: s.flicker_pairs,
                    polyps_found: s.found,
                },
            })
            .collect();
        Pooled {
            recordings: self.recordings,
            polyps: self.polyps,
            minutes: self.minutes,
            frames_with_polyp: self.with_polyp,
            frames_without_polyp: self.without_polyp,
            confirm,
        }
    }
}

impl Pooled {
    /// For people.
    pub fn text(&self) -> String {
        format!(
            "{} recordings, {:.1} min, {} polyps; {} frames with a polyp, {} without\n{}",
            self.recordings,
            self.minutes,
            self.polyps,
            self.frames_with_polyp,
            self.frames_without_polyp,
            table(&self.confirm, self.minutes, self.recordings)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(found: u64, frames: (u64, u64), name: &str) -> String {
        format!(
            r#"{{"polyps":2,"judged_ms":60000.0,"frames":{{"with_polyp":{},"without_polyp":{}}},"confirm":[{{
            "name":"{name}","per_frame_sensitivity":0.5,"per_frame_specificity":null,"first_detection_ms":100.0,
            "flicker":0.2,"flicker_pairs":10,"polyps_found":{found},"false_alarms":{{"marked_frames":8,"runs":4,
            "more_than_6_frames":1,"at_least_500_ms":2,"at_least_1000_ms":1,"at_least_2000_ms":0}}}}]}}"#,
            frames.0, frames.1
        )
    }

    #[test]
    fn recordings_add_up_by_their_counts() {
        let mut pool = Pool::default();
        pool.add("a", result(2, (100, 0), "balanced").as_bytes()).unwrap();
        pool.add("b", result(1, (300, 50), "balanced").as_bytes()).unwrap();
        let r = pool.report();
        assert_eq!((r.recordings, r.polyps, r.minutes), (2, 4, 2.0));
        let f = &r.confirm[0].figures;
        assert_eq!((f.per_polyp_sensitivity, f.per_frame_sensitivity), (Some(0.75), Some(0.5)));
        assert_eq!((f.false_alarms.runs, f.false_alarms.at_least_500_ms), (8, 4));
        assert!((f.first_detection_ms.unwrap() - 100.0).abs() < 1e-9);
        assert!(r.text().contains("2 recordings, 2.0 min, 4 polyps"), "{}", r.text());
        let json = serde_json::to_value(&r).unwrap();
        assert_eq!(json["confirm"][0]["polyps_found"], 3);
        for not_pooled in ["per_polyp", "first_detection", "false_positives", "switches_per_minute"] {
            assert!(
                json["confirm"][0].get(not_pooled).is_none(),
                "{not_pooled} is said, and nobody measured it"
            );
        }
        assert!(r.text().contains("4.00 |   4.0"), "alarms a minute and a recording: {}", r.text());
        let e = pool.add("c", result(1, (1, 1), "quiet").as_bytes()).unwrap_err();
        assert!(e.to_string().contains("other settings"), "{e}");
        assert!(pool.add("d", b"{}").is_err());
    }

    /// A result of one row a name, whose shares are those of whole frames.
    fn counted(
        hit: u64,
        with_polyp: u64,
        clean: u64,
        without_polyp: u64,
        flicker: (f64, u64),
        names: &[&str],
    ) -> String {
        let share = |part: u64, whole: u64| if whole == 0 { None } else { Some(part as f64 / whole as f64) };
        let rows: Vec<_> = names
            .iter()
            .map(|name| {
                serde_json::json!({
                    "name": name, "per_frame_sensitivity": share(hit, with_polyp),
                    "per_frame_specificity": share(clean, without_polyp), "first_detection_ms": null,
                    "flicker": flicker.0, "flicker_pairs": flicker.1, "polyps_found": 0,
                    "false_alarms": AlarmCounts::default(),
                })
            })
            .collect();
        serde_json::json!({
            "polyps": 0, "judged_ms": 0.0, "confirm": rows,
            "frames": {"with_polyp": with_polyp, "without_polyp": without_polyp},
        })
        .to_string()
    }

    #[test]
    fn shares_of_the_pool_are_those_of_all_its_frames() {
        // Of shares such as 0.29 the frames of a hundred come back only nearly.
        let whole = 100;
        for part in 0..=whole {
            let mut pool = Pool::default();
            pool.add("a", counted(part, whole, whole - part, whole, (0.25, 3), &["quiet"]).as_bytes())
                .unwrap();
            pool.add("b", counted(1, 2, 0, 5, (0.5, 1), &["quiet"]).as_bytes()).unwrap();
            let report = pool.report();
            let f = &report.confirm[0].figures;
            assert_eq!(f.per_frame_sensitivity, Some((part + 1) as f64 / (whole + 2) as f64));
            assert_eq!(f.per_frame_specificity, Some((whole - part) as f64 / (whole + 5) as f64));
            assert_eq!((f.flicker, f.flicker_pairs), (Some(1.25 / 4.0), 4));
        }
    }

    #[test]
    fn a_pool_without_frames_or_polyps_defines_no_share() {
        let mut pool = Pool::default();
        pool.add("a", counted(0, 0, 0, 0, (0.0, 0), &["quiet"]).as_bytes()).unwrap();
        let report = pool.report();
        let f = &report.confirm[0].figures;
        assert_eq!(
            (f.per_polyp_sensitivity, f.per_frame_sensitivity, f.per_frame_specificity),
            (None, None, None)
        );
        assert_eq!((f.first_detection_ms, f.flicker), (None, None));
    }

    #[test]
    fn one_setting_that_differs_is_enough_to_refuse() {
        let mut pool = Pool::default();
        pool.add("a", counted(1, 2, 1, 2, (0.0, 0), &["off", "quiet"]).as_bytes()).unwrap();
        for names in [&["off", "balanced"][..], &["off"], &["off", "quiet", "balanced"]] {
            let refused = pool.add("b", counted(1, 2, 1, 2, (0.0, 0), names).as_bytes());
            assert!(refused.unwrap_err().to_string().contains("other settings"), "{names:?}");
        }
    }
}
