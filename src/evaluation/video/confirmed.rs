//! What withholding detections costs and saves: maps and truth of one frame after the other flow in, the measures of
//! each setting side by side flow out.
//!
//! The filter is the one of `live` and `replay`; motion and gates are found once a frame, for all settings.

use std::collections::BTreeMap;

use super::detections::FrameDetections;
use super::frame_map::FrameMap;
use super::object::TruthObject;
use super::region::components;
use super::report::{ConfirmFigures, GateCounts};
use super::rules::VideoRules;
use super::score::VideoScorer;
use crate::frame::Gate;
use crate::postprocess::Thresholder;
use crate::tracks::{Scene, Tracks, Variant, joined};
use crate::{Error, Result};

/// Measures several settings on one video.
pub struct Comparison {
    scene: Scene,
    rows: Vec<Row>,
    thresholder: Thresholder,
    joined: Vec<f32>,
    inside: Vec<u8>,
    values: Vec<f32>,
    gates: BTreeMap<&'static str, GateCounts>,
}

struct Row {
    variant: Variant,
    tracks: Option<Tracks>,
    scorer: VideoScorer,
}

impl Comparison {
    /// # Errors
    /// Rules or numbers that mean nothing.
    pub fn new(variants: &[Variant], rules: &VideoRules) -> Result<Self> {
        let rules = VideoRules { persistence: vec![1], ..rules.clone() };
        let mut rows = Vec::new();
        for variant in variants {
            let tracks = variant.numbers.map(Tracks::new);
            rows.push(Row { variant: variant.clone(), tracks, scorer: VideoScorer::new(rules.clone())? });
        }
        Ok(Self {
            scene: Scene::default(),
            rows,
            thresholder: Thresholder::default(),
            joined: Vec::new(),
            inside: Vec::new(),
            values: Vec::new(),
            gates: BTreeMap::new(),
        })
    }

    /// Takes the next frame; `truth` as for [`VideoScorer::frame`].
    ///
    /// # Errors
    /// A map that is smaller than its size says, truth that contradicts itself.
    pub fn frame(&mut self, map: &FrameMap, truth: Option<&[TruthObject]>) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (h, w) = map.size;
        if map.logits.len() < map.classes * h * w || map.classes == 0 {
            return Err(Error::internal(format!("{}: its map is not of {w}x{h}", map.frame)));
        }
        let glance = self.scene.look(map.frame, map.pts, map.picture, map.scenery);
        if let (Some(gate), Some(truth)) = (glance.gate, truth) {
            let counts = self.gates.entry(gate.name()).or_default();
            counts.frames += 1;
            counts.with_polyp += u64::from(!truth.is_empty());
        }
        let one = joined(map.logits, map.classes, h * w, &mut self.joined);
        let target = (map.view.h as usize, map.view.w as usize);
        self.inside.resize(target.0 * target.1, 0);
        self.values.resize(target.0 * target.1, 0.0);
        for row in &mut self.rows {
            let drawn = match &mut row.tracks {
                None => one,
                Some(tracks) => {
                    tracks.observe(
                        &mut self.scene,
                        &glance,
                        one,
                        (h, w),
                        map.view,
                        map.picture_size,
                        map.level,
                    );
                    tracks.map()
                }
            };
            let found =
                self.thresholder.run(drawn, 1, (h, w), target, map.level, &mut self.inside, &mut self.values);
            let regions = if found.area == 0 {
                Vec::new()
            } else {
                components(target.1, &self.inside, (map.view.x as i32, map.view.y as i32))?
            };
            let detected = FrameDetections { frame: map.frame.0, pts_ns: map.pts.0, regions };
            row.scorer.frame(detected, truth)?;
        }
        Ok(())
    }

    /// The measures so far, a row a setting.
    pub fn report(&self) -> Vec<ConfirmFigures> {
        self.rows
            .iter()
            .map(|row| {
                let report = row.scorer.report();
                ConfirmFigures {
                    name: row.variant.name.clone(),
                    numbers: row.variant.numbers,
                    figures: report.figures,
                    per_polyp: report.per_polyp,
                }
            })
            .collect()
    }

    /// How many judged frames each gate closed on.
    pub fn gates(&self) -> BTreeMap<&'static str, GateCounts> {
        let mut all: BTreeMap<_, _> = Gate::ALL.iter().map(|g| (g.name(), GateCounts::default())).collect();
        all.extend(self.gates.iter().map(|(name, counts)| (*name, *counts)));
        all
    }
}
