//! What stands in the tables.
//!
//! In: outcomes and frames. Out: their rows. Column names are relied on by others: they are not renamed.

use super::table::Holds::{Real, Text, Whole};
use super::table::{Cell, Holds, Table};
use super::{Folder, Standing};
use crate::Result;
use crate::fleet::manifest::Unit;
use crate::fleet::outcome::{Found, Outcome};
use crate::replay::record::{Episode, FrameRecord, PolypRecord, first_alarm_after_ms};

const FRAMES: &[(&str, Holds)] = &[
    ("recording", Text),
    ("key", Text),
    ("frame", Whole),
    ("pts_ns", Whole),
    ("area_px", Whole),
    ("max_probability", Real),
    ("regions", Whole),
    ("tracks", Whole),
    ("polyp_ids", Text),
    ("gate", Text),
];

/// `kind`: `polyp`, `brief` (drawn for less than half a second) or `episode` (where nothing is followed).
const POLYPS: &[(&str, Holds)] = &[
    ("recording", Text),
    ("key", Text),
    ("kind", Text),
    ("polyp_id", Whole),
    ("track_ids", Text),
    ("first_frame", Whole),
    ("first_ns", Whole),
    ("confirmed_frame", Whole),
    ("confirmed_ns", Whole),
    ("confirmed_after_ms", Real),
    ("end_ns", Whole),
    ("last_frame", Whole),
    ("frames", Whole),
    ("best_frame", Whole),
    ("best_pts_ns", Whole),
    ("best_area_px", Whole),
    ("best_mean_probability", Real),
];

/// `state`: `whole`, `partial`, `unreadable`, `failed` or `open`.
const RECORDINGS: &[(&str, Holds)] = &[
    ("recording", Text),
    ("key", Text),
    ("content", Text),
    ("bytes", Whole),
    ("state", Text),
    ("reason", Text),
    ("frames", Whole),
    ("lost_frames", Whole),
    ("duration_ms", Real),
    ("width_px", Whole),
    ("height_px", Whole),
    ("view_x", Whole),
    ("view_y", Whole),
    ("view_w", Whole),
    ("view_h", Whole),
    ("positive_frames", Whole),
    ("tracks", Whole),
    ("polyps", Whole),
    ("brief_alarms", Whole),
    ("episodes", Whole),
    ("first_alarm_after_ms", Real),
    ("irregular_timestamps", Whole),
];

const RUNS: &[(&str, Holds)] = &[
    ("recording", Text),
    ("key", Text),
    ("tries", Whole),
    ("resumes", Whole),
    ("elapsed_ms", Real),
    ("resume_ms", Real),
    ("engine", Text),
    ("cpu", Text),
    ("decode_ms", Real),
    ("preprocess_ms", Real),
    ("network_ms", Real),
    ("tracks_ms", Real),
    ("postprocess_ms", Real),
    ("slowest_frame", Whole),
    ("slowest_ms", Real),
];

/// See the module.
pub(super) struct Tables {
    frames: Table,
    polyps: Table,
    recordings: Table,
    runs: Table,
}

impl Tables {
    pub fn create(folder: &Folder) -> Result<Self> {
        let table = |name: &'static str, columns| Table::create(name, folder.file(name)?, columns);
        Ok(Self {
            frames: table("frames.parquet", FRAMES)?,
            polyps: table("polyps.parquet", POLYPS)?,
            recordings: table("recordings.parquet", RECORDINGS)?,
            runs: table("runs.parquet", RUNS)?,
        })
    }

    pub fn frame(&mut self, unit: &Unit, r: &FrameRecord) -> Result<()> {
        let ids = joined(r.tracks.iter().filter(|t| t.drawn).filter_map(|t| t.polyp_id));
        self.frames.row(&[
            unit.name.as_str().into(),
            unit.key.as_str().into(),
            r.frame.into(),
            r.pts_ns.into(),
            r.area_px.into(),
            f64::from(r.max_probability).into(),
            (r.polyps.len() as u64).into(),
            (r.tracks.len() as u64).into(),
            ids.as_deref().into(),
            r.gate.map(|g| g.name()).into(),
        ])
    }

    pub fn recording(&mut self, unit: &Unit, standing: Standing) -> Result<()> {
        let outcome = match standing {
            Standing::Result(outcome) => Some(outcome),
            _ => None,
        };
        let f = outcome.map(|o| &o.found);
        let whole = |value: fn(&Found) -> u64| f.map(value).into();
        self.recordings.row(&[
            unit.name.as_str().into(),
            unit.key.as_str().into(),
            unit.content.as_str().into(),
            unit.bytes.into(),
            standing.name().into(),
            standing.reason().into(),
            whole(|f| f.frames),
            whole(|f| f.lost_frames),
            f.map(|f| f.length_ns as f64 / 1e6).into(),
            whole(|f| f.width.into()),
            whole(|f| f.height.into()),
            whole(|f| f.view.x.into()),
            whole(|f| f.view.y.into()),
            whole(|f| f.view.w.into()),
            whole(|f| f.view.h.into()),
            whole(|f| f.positive_frames),
            whole(|f| f.tracks),
            whole(|f| f.polyps.len() as u64),
            whole(|f| f.brief.len() as u64),
            whole(|f| f.episodes.len() as u64),
            f.and_then(|f| first_alarm_after_ms(&f.polyps)).into(),
            whole(|f| f.irregular_timestamps),
        ])?;
        let Some(outcome) = outcome else { return Ok(()) };
        self.run(unit, outcome)?;
        let found = &outcome.found;
        for p in &found.polyps {
            self.polyp(unit, "polyp", p)?;
        }
        for p in &found.brief {
            self.polyp(unit, "brief", p)?;
        }
        // With polyps, episodes say the same once more.
        let episodes = if found.tracks > 0 { &[][..] } else { &found.episodes };
        episodes.iter().try_for_each(|e| self.episode(unit, e))
    }

    fn polyp(&mut self, unit: &Unit, kind: &str, p: &PolypRecord) -> Result<()> {
        let tracks = joined(p.track_ids.iter().copied());
        self.polyps.row(&[
            unit.name.as_str().into(),
            unit.key.as_str().into(),
            kind.into(),
            p.polyp_id.into(),
            tracks.as_deref().into(),
            p.first_frame.into(),
            p.first_ns.into(),
            p.confirmed_frame.into(),
            p.confirmed_ns.into(),
            p.confirmed_after_ms.into(),
            p.end_ns.into(),
            p.last_frame.into(),
            p.frames.into(),
            p.best_frame.into(),
            p.best_pts_ns.into(),
            p.best_area_px.into(),
            f64::from(p.best_mean_probability).into(),
        ])
    }

    fn episode(&mut self, unit: &Unit, e: &Episode) -> Result<()> {
        self.polyps.row(&[
            unit.name.as_str().into(),
            unit.key.as_str().into(),
            "episode".into(),
            Cell::None,
            Cell::None,
            e.first_frame.into(),
            e.start_ns.into(),
            e.first_frame.into(),
            e.start_ns.into(),
            0.0.into(),
            e.end_ns.into(),
            e.last_frame.into(),
            e.frames.into(),
            e.best_frame.into(),
            e.best_pts_ns.into(),
            e.best_area_px.into(),
            f64::from(e.best_mean_probability).into(),
        ])
    }

    fn run(&mut self, unit: &Unit, outcome: &Outcome) -> Result<()> {
        let r = &outcome.run;
        let stage = |name: &str| r.stages_ms.iter().find(|(s, _)| s == name).map(|(_, ms)| *ms).into();
        self.runs.row(&[
            unit.name.as_str().into(),
            unit.key.as_str().into(),
            u64::from(r.tries).into(),
            u64::from(r.resumes).into(),
            r.elapsed_ms.into(),
            r.resume_ms.into(),
            r.engine.as_str().into(),
            r.cpu.as_str().into(),
            stage("decode"),
            stage("preprocess"),
            stage("network"),
            stage("tracks"),
            stage("postprocess"),
            r.slowest.first().map(|s| s.0).into(),
            r.slowest.first().map(|s| s.1).into(),
        ])
    }

    pub fn finish(self) -> Result<()> {
        self.frames.finish()?;
        self.polyps.finish()?;
        self.recordings.finish()?;
        self.runs.finish()
    }
}

/// Numbers with spaces between them; none where there is none.
fn joined(numbers: impl Iterator<Item = u64>) -> Option<String> {
    let mut text = String::new();
    for n in numbers {
        if !text.is_empty() {
            text.push(' ');
        }
        text += &n.to_string();
    }
    (!text.is_empty()).then_some(text)
}
