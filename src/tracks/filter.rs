//! The tracks themselves: one map after the other flows in, the part of it that is to be drawn flows out.
//!
//! A frame's steps: the last frame's regions are moved to where they must lie now, the new regions are given to those
//! they overlap, evidence is counted in time, new tracks begin, and each track's outline is mixed with its moved former
//! one. Buffers are made for a size once; after that a frame allocates nothing.

use super::layer::{Cutout, LIMIT, Layer, NOTHING, UNKNOWN};
use super::place::{Place, moved};
use super::regions::{Box2, Region, Regions};
use super::scene::{Break, Glance, Scene};
use super::settings::Numbers;
use crate::frame::{Rect, TrackMark, TrackState};
use crate::motion::Affine;
use crate::postprocess::logit;

/// Things followed at the same time; of more than these the largest are.
pub const MOST_TRACKS: usize = 48;
/// Polyps remembered after their track ended.
const MOST_PAST: usize = 12;
/// Time between two frames counts as evidence up to this.
const LONGEST_PROOF_MS: f32 = 250.0;
/// Region and moved track are the same thing from this intersection over union, or where one covers so much of the
/// other.
const LEAST_IOU: f32 = 0.1;
const LEAST_COVER: f32 = 0.5;
/// Where nothing overlaps: centres so many mean diagonals apart, areas so many times each other; further where the
/// motion is not known.
const NEAR: f32 = 0.5;
const NEAR_BLIND: f32 = 1.0;
const ALIKE: f32 = 4.0;
/// Outlines are mixed only where they are the same thing beyond doubt.
const MIX_IOU: f32 = 0.3;
/// Two tracks are one polyp if their centres lie within so many mean diagonals.
const SAME_POLYP: f64 = 1.0;
/// So are a track and one whose box is so many times larger, if no more than this share of the smaller one's diagonal
/// is between them: networks mark a stalk, a base or a shadow apart from its polyp.
const PART: u64 = 2;
const PART_NEAR: f32 = 0.5;

#[derive(Clone, Copy, Debug)]
struct Track {
    id: u64,
    polyp: Option<u64>,
    state: TrackState,
    /// Milliseconds for it: up to what confirms a tentative track, then up to what ends a confirmed one.
    evidence: f32,
    unseen_ms: f32,
    first_frame: u64,
    first_pts: u64,
    born_ns: u64,
    confirmed_after_ms: Option<f64>,
    best_frame: u64,
    best: f32,
    /// What the layer holds of it.
    spread: Box2,
    /// What was seen of it last, or where that lies now.
    bounds: Box2,
    drawn: bool,
}

/// A track's place on the new frame, and what was found there.
#[derive(Clone, Copy, Debug, Default)]
struct Forecast {
    spread: Box2,
    area: u32,
    /// Region's place in the list.
    region: Option<u16>,
    iou: f32,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    slot: u8,
    region: u16,
    common: u32,
    closeness: f32,
}

/// A polyp whose track has ended, where it would lie by now.
#[derive(Clone, Copy, Debug)]
struct Past {
    polyp: u64,
    /// In source pixels.
    centre: (f64, f64),
    diagonal: f64,
    gone_ms: f32,
}

/// Puts one track's values into a row of a layer where nobody has a larger one, and takes nothing of the owners whose
/// bits are in `safe`. `marked` counts what each track has at or above the marking level, in the end.
fn write(
    row: &[f32],
    owner: u8,
    safe: u64,
    values: &mut [f32],
    held: &mut [u8],
    marked: &mut [u32; MOST_TRACKS],
) {
    let mut new = 0;
    if held.iter().fold(0, |any, h| any | h) == 0 {
        // The usual case, without a branch a pixel; a value that nobody has is never read.
        for ((&v, value), held) in row.iter().zip(values).zip(held) {
            *value = v;
            *held = if v > NOTHING { owner } else { 0 };
            new += u32::from(v >= 0.0);
        }
    } else {
        for ((&v, value), held) in row.iter().zip(values).zip(held) {
            if v > NOTHING && (*held == 0 || safe >> *held & 1 == 0 && v > *value) {
                if *held > 0 && *value >= 0.0 {
                    marked[usize::from(*held) - 1] -= 1;
                }
                (*held, *value) = (owner, v);
                new += u32::from(v >= 0.0);
            }
        }
    }
    marked[usize::from(owner) - 1] += new;
}

/// See the module.
#[derive(Debug)]
pub struct Tracks {
    numbers: Numbers,
    level: f32,
    regions: Regions,
    before: Layer,
    now: Layer,
    forecast_layer: Layer,
    cutout: Cutout,
    /// One row of values.
    row: Vec<f32>,
    slots: [Option<Track>; MOST_TRACKS],
    forecasts: [Forecast; MOST_TRACKS],
    past: Vec<Past>,
    pairs: Vec<Pair>,
    /// Per region: pixels in common with the track being moved.
    hits: Vec<u32>,
    touched: Vec<u16>,
    /// Per region: the slot plus 1 it was given to.
    given: Vec<u8>,
    births: Vec<u16>,
    marks: Vec<TrackMark>,
    drawn: Vec<f32>,
    picture: (u32, u32),
    now_ns: u64,
    next_track: u64,
    next_polyp: u64,
}

impl Tracks {
    /// Follows nothing yet; tracks and polyps are numbered from 1.
    pub fn new(numbers: Numbers) -> Self {
        Self {
            numbers,
            level: 0.0,
            regions: Regions::default(),
            before: Layer::default(),
            now: Layer::default(),
            forecast_layer: Layer::default(),
            cutout: Cutout::default(),
            row: Vec::new(),
            slots: [None; MOST_TRACKS],
            forecasts: [Forecast::default(); MOST_TRACKS],
            past: Vec::with_capacity(MOST_PAST),
            pairs: Vec::new(),
            hits: Vec::new(),
            touched: Vec::new(),
            given: Vec::new(),
            births: Vec::new(),
            marks: Vec::with_capacity(2 * MOST_TRACKS),
            drawn: Vec::new(),
            picture: (0, 0),
            now_ns: 0,
            next_track: 1,
            next_polyp: 1,
        }
    }

    /// The numbers it follows with now.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Other numbers from the next frame on; tracks go on.
    pub fn set_numbers(&mut self, numbers: Numbers) {
        self.numbers = numbers;
    }

    /// Another video begins: everything is forgotten, numbers begin with 1 again.
    pub fn restart(&mut self) {
        self.forget();
        (self.now_ns, self.next_track, self.next_polyp) = (0, 1, 1);
    }

    /// Forgets what is followed; numbers that were given are not given again.
    pub fn forget(&mut self) {
        for slot in 0..MOST_TRACKS {
            if let Some(t) = self.slots[slot].take() {
                self.before.wipe(&t.spread);
            }
        }
        self.past.clear();
        self.marks.clear();
    }

    /// Takes the next frame's map, `h` rows of `w` logits over `view` of a picture of the size given; `level` is the
    /// logit from which on a pixel is marked. `glance` is what `scene` said of that frame.
    pub fn observe(
        &mut self,
        scene: &mut Scene,
        glance: &Glance,
        map: &[f32],
        (h, w): (usize, usize),
        view: Rect,
        picture: (u32, u32),
        level: f32,
    ) {
        self.marks.clear();
        let place = Place { view, w, h };
        if self.picture != picture {
            self.picture = picture;
            self.end_all(false);
        }
        if self.now.place.w != w || self.now.place.h != h {
            self.make(place);
        }
        self.now.place = place;
        self.forecast_layer.place = place;
        self.level = level;
        let heeded = glance.gate.filter(|g| self.numbers.gates & (1 << *g as u8) != 0);
        let glance = &Glance { gate: heeded, ..*glance };
        if glance.late || map.len() < w * h || w < 2 || h < 2 {
            self.drawn.fill(level - LIMIT);
            return;
        }
        self.now_ns += glance.step_ns;
        match glance.broken {
            Some(Break::Freeze) => self.end_tentative(),
            Some(_) => self.end_all(false),
            None => {}
        }
        let low = level + logit(f64::from(self.numbers.go_on));
        self.regions.find(&map[..w * h], low, level, LIMIT);
        self.given.clear();
        self.given.resize(self.regions.list.len(), 0);
        self.move_past(scene, glance);
        self.forecast(scene, low - level);
        self.associate(glance);
        self.judge(glance);
        self.begin(glance);
        self.mix(map, glance);
        self.draw();
        for slot in 0..MOST_TRACKS {
            if let Some(t) = &self.slots[slot] {
                let mark = self.mark(t, t.state);
                self.marks.push(mark);
            }
        }
        std::mem::swap(&mut self.before, &mut self.now);
        self.forecast_layer.owner.fill(0);
        self.now.owner.fill(0);
    }

    fn make(&mut self, place: Place) {
        // `before` keeps its own size: things are moved from it to the new one.
        self.now.make(place);
        self.forecast_layer.make(place);
        self.regions.reserve(place.w, place.h);
        // What is cut out is of the former layer, which may be the larger one.
        let former = self.before.place;
        self.cutout.reserve(place.w.max(former.w), place.h.max(former.h));
        self.row.clear();
        self.row.resize(place.w, 0.0);
        let most = place.w.div_ceil(2) * place.h.div_ceil(2) + 1;
        self.hits.reserve(most);
        self.touched.reserve(most);
        self.given.reserve(most);
        self.births.reserve(most);
        self.pairs.reserve(2 * most);
        self.drawn.clear();
        self.drawn.resize(place.w * place.h, 0.0);
        for f in &mut self.forecasts {
            *f = Forecast::default();
        }
    }

    fn end_tentative(&mut self) {
        for slot in 0..MOST_TRACKS {
            if let Some(t) = self.slots[slot]
                && t.state == TrackState::Tentative
            {
                self.before.wipe(&t.spread);
                self.slots[slot] = None;
            }
        }
    }

    /// Ends every track. `remember`: whether what comes back at the same place is the same polyp.
    fn end_all(&mut self, remember: bool) {
        for slot in 0..MOST_TRACKS {
            self.end(slot, remember);
        }
        if !remember {
            self.past.clear();
        }
    }

    fn end(&mut self, slot: usize, remember: bool) {
        let Some(t) = self.slots[slot].take() else { return };
        if self.before.place.w > 0 {
            self.before.wipe(&t.spread);
        }
        let Some(polyp) = t.polyp else { return };
        let mark = self.mark(&t, TrackState::Ended);
        self.marks.push(TrackMark { drawn: false, ..mark });
        if remember {
            let r = mark.bbox;
            if self.past.len() == MOST_PAST {
                self.past.remove(0);
            }
            self.past.push(Past {
                polyp,
                centre: (f64::from(r.x) + f64::from(r.w) / 2.0, f64::from(r.y) + f64::from(r.h) / 2.0),
                diagonal: f64::from(r.w).hypot(f64::from(r.h)),
                gone_ms: t.unseen_ms,
            });
        }
    }

    fn mark(&self, t: &Track, state: TrackState) -> TrackMark {
        TrackMark {
            track_id: t.id,
            polyp_id: t.polyp,
            state,
            age_ms: (self.now_ns - t.born_ns) as f64 / 1e6,
            confirmed_after_ms: t.confirmed_after_ms,
            first_frame: t.first_frame,
            first_pts_ns: t.first_pts,
            best_frame: t.best_frame,
            bbox: self.now.place.rect(&t.bounds),
            drawn: t.drawn,
        }
    }

    /// Polyps whose tracks ended go along with the picture.
    fn move_past(&mut self, scene: &mut Scene, glance: &Glance) {
        let step = glance.step_ns as f32 / 1e6;
        let gap = self.numbers.gap_ms;
        self.past.retain_mut(|p| {
            p.gone_ms += step;
            p.gone_ms <= gap
        });
        for p in &mut self.past {
            let half = p.diagonal / 2.0;
            let low = |v: f64| (v - half).max(0.0) as u32;
            let side = p.diagonal.ceil().max(1.0) as u32;
            if let Some(way) = scene.motion(Rect::new(low(p.centre.0), low(p.centre.1), side, side)) {
                p.centre = way.apply(p.centre.0, p.centre.1);
            }
        }
    }

    /// Moves every track to the new frame and counts what it has in common with the regions there.
    fn forecast(&mut self, scene: &mut Scene, low: f32) {
        self.pairs.clear();
        self.hits.clear();
        self.hits.resize(self.regions.list.len(), 0);
        let (old, new) = (self.before.place, self.now.place);
        let w = new.w;
        let mut marked = [0; MOST_TRACKS];
        for slot in 0..MOST_TRACKS {
            self.forecasts[slot] = Forecast::default();
            let Some(t) = &mut self.slots[slot] else { continue };
            // Where the surroundings say nothing, it stays.
            let motion = scene.motion(old.rect(&t.bounds)).unwrap_or(Affine::IDENTITY);
            let way = old.way(&motion, new);
            let Some(back) = way.inverse() else { continue };
            let spread = moved(&t.spread, &way, new.w, new.h);
            t.bounds = moved(&t.bounds, &way, new.w, new.h);
            let owner = slot as u8 + 1;
            let mut area = 0;
            self.touched.clear();
            let [step_x, _, _, step_y, _, _] = back.0;
            if !spread.is_empty() {
                self.cutout.cut(&self.before, &t.spread, owner);
            }
            for y in spread.y0..spread.y1 {
                let at = back.apply(f64::from(spread.x0), f64::from(y));
                let row = &mut self.row[..(spread.x1 - spread.x0) as usize];
                self.cutout.row(at, (step_x, step_y), row);
                let span = y as usize * w + spread.x0 as usize..y as usize * w + spread.x1 as usize;
                let layer = &mut self.forecast_layer;
                let (values, held) = (&mut layer.values[span.clone()], &mut layer.owner[span.clone()]);
                write(row, owner, 0, values, held, &mut marked);
                for (&v, &label) in row.iter().zip(&self.regions.labels[span]) {
                    if v < low || v == UNKNOWN {
                        continue;
                    }
                    area += 1;
                    if label > 0 {
                        let hit = &mut self.hits[usize::from(label) - 1];
                        if *hit == 0 {
                            self.touched.push(label - 1);
                        }
                        *hit += 1;
                    }
                }
            }
            self.forecasts[slot] = Forecast { spread, area, region: None, iou: 0.0 };
            for &region in &self.touched {
                let common = std::mem::take(&mut self.hits[usize::from(region)]);
                let size = self.regions.list[usize::from(region)].area;
                let iou = common as f32 / (area + size - common).max(1) as f32;
                self.pairs.push(Pair { slot: slot as u8, region, common, closeness: iou });
            }
        }
    }

    /// Gives regions to tracks: the best pair first, then by nearness, then parts of what has fallen apart.
    fn associate(&mut self, glance: &Glance) {
        let order = |a: &Pair, b: &Pair| {
            b.closeness.total_cmp(&a.closeness).then(a.slot.cmp(&b.slot)).then(a.region.cmp(&b.region))
        };
        self.pairs.sort_unstable_by(order);
        for p in &self.pairs {
            let forecast = &mut self.forecasts[usize::from(p.slot)];
            let size = self.regions.list[usize::from(p.region)].area;
            let covered = p.common as f32 >= LEAST_COVER * forecast.area.min(size) as f32;
            let free = forecast.region.is_none() && self.given[usize::from(p.region)] == 0;
            // What is suddenly many times larger is not what was confirmed.
            let free = free && size as f32 <= ALIKE * forecast.area.max(1) as f32;
            if free && (p.closeness >= LEAST_IOU || covered) {
                forecast.region = Some(p.region);
                forecast.iou = p.closeness;
                self.given[usize::from(p.region)] = p.slot + 1;
            }
        }
        // A region that lies mostly on a track is a part of it.
        for p in &self.pairs {
            let size = self.regions.list[usize::from(p.region)].area;
            if self.given[usize::from(p.region)] == 0
                && self.forecasts[usize::from(p.slot)].region.is_some()
                && p.common as f32 >= LEAST_COVER * size as f32
            {
                self.given[usize::from(p.region)] = p.slot + 1;
            }
        }
        self.pairs.clear();
        let near = if glance.moved { NEAR } else { NEAR_BLIND };
        let least = self.least() / 4;
        for slot in 0..MOST_TRACKS {
            let Some(t) = &self.slots[slot] else { continue };
            let forecast = &self.forecasts[slot];
            if forecast.region.is_some() || t.bounds.is_empty() {
                continue;
            }
            let (cx, cy) = t.bounds.centre();
            for (i, r) in self.regions.list.iter().enumerate() {
                if self.given[i] != 0 || r.area < least {
                    continue;
                }
                let (rx, ry) = r.bounds.centre();
                let mean = (t.bounds.diagonal() + r.bounds.diagonal()) / 2.0;
                let apart = (cx - rx).hypot(cy - ry) / mean.max(1.0);
                let (a, b) = (forecast.area.max(1) as f32, r.area as f32);
                if apart <= near
                    && a <= ALIKE * b
                    && b <= ALIKE * a
                    && self.pairs.len() < self.pairs.capacity()
                {
                    let (slot, region) = (slot as u8, i as u16);
                    self.pairs.push(Pair { slot, region, common: 0, closeness: -apart });
                }
            }
        }
        self.pairs.sort_unstable_by(order);
        for p in &self.pairs {
            let forecast = &mut self.forecasts[usize::from(p.slot)];
            if forecast.region.is_none() && self.given[usize::from(p.region)] == 0 {
                forecast.region = Some(p.region);
                self.given[usize::from(p.region)] = p.slot + 1;
            }
        }
    }

    /// Pixels of the map that a region must have.
    fn least(&self) -> u32 {
        let n = (self.now.place.w * self.now.place.h) as f32;
        ((self.numbers.least_share * n).ceil() as u32).max(1)
    }

    /// Evidence and states.
    fn judge(&mut self, glance: &Glance) {
        let step = glance.step_ns as f32 / 1e6;
        let proof = step.min(LONGEST_PROOF_MS);
        let n = self.numbers;
        let start = self.level + logit(f64::from(n.start));
        let gated = glance.gate.is_some();
        let pixels = (self.now.place.w * self.now.place.h).max(1) as f32;
        for slot in 0..MOST_TRACKS {
            let Some(t) = &mut self.slots[slot] else { continue };
            let region = self.forecasts[slot].region.map(|r| self.regions.list[usize::from(r)]);
            let tentative = t.state == TrackState::Tentative;
            match region {
                Some(r) => {
                    t.unseen_ms = 0.0;
                    t.bounds = r.bounds;
                    // What looks unlike a polyp, is only just there, or is on a frame that proves nothing, keeps a
                    // track and proves less.
                    t.evidence += match (gated, tentative) {
                        (true, _) => 0.0,
                        (false, true) => {
                            proof * n.weight(r.roundness(), r.sureness(), r.area as f32 / pixels)
                        }
                        (false, false) if r.peak >= start => proof,
                        (false, false) => proof / 2.0,
                    };
                    if !gated && r.mass > t.best {
                        t.best = r.mass;
                        t.best_frame = glance.frame.0;
                    }
                }
                None => {
                    t.unseen_ms += step;
                    let fade = if tentative { n.fade } else { 1.0 };
                    t.evidence -= step * fade;
                }
            }
            if region.is_none() && (t.evidence <= 0.0 || t.unseen_ms >= n.coast_ms) {
                self.end(slot, true);
                continue;
            }
            if tentative {
                // A millisecond less: frame periods are no whole numbers of them.
                if region.is_some() && !gated && t.evidence >= n.confirm_ms - 1.0 {
                    self.confirm(slot);
                }
            } else {
                t.evidence = t.evidence.min(n.coast_ms);
                t.state =
                    if region.is_some() && !gated { TrackState::Confirmed } else { TrackState::Coasting };
            }
        }
    }

    /// The polyp that was shown where a rectangle of the map lies: one whose track has ended, or is not seen any more,
    /// and would lie here by now. With its place among the ended ones, or beyond them, and how many times as long its
    /// diagonal was.
    fn shown_before(&self, b: &Box2) -> Option<(usize, u64, f64)> {
        let place = self.now.place;
        let measure = |b: &Box2| {
            let r = place.rect(b);
            let centre = (f64::from(r.x) + f64::from(r.w) / 2.0, f64::from(r.y) + f64::from(r.h) / 2.0);
            (centre, f64::from(r.w).hypot(f64::from(r.h)))
        };
        let (centre, diagonal) = measure(b);
        let apart = |at: (f64, f64), size: f64| {
            (at.0 - centre.0).hypot(at.1 - centre.1) / ((size + diagonal) / 2.0).max(1.0)
        };
        // Ended ones first in the count, then those that coast unseen.
        let mut nearest: Option<(f64, usize, u64, f64)> = None;
        let ended = self.past.iter().map(|p| (apart(p.centre, p.diagonal), p.polyp, p.diagonal));
        let unseen = self.slots.iter().flatten().filter(|t| t.unseen_ms > 0.0).filter_map(|t| {
            let (at, size) = measure(&t.bounds);
            Some((apart(at, size), t.polyp?, size))
        });
        for (k, (distance, polyp, size)) in ended.chain(unseen).enumerate() {
            if distance <= SAME_POLYP && nearest.is_none_or(|(least, ..)| distance < least) {
                nearest = Some((distance, k, polyp, size / diagonal.max(1.0)));
            }
        }
        nearest.map(|(_, k, polyp, times)| (k, polyp, times))
    }

    /// The polyp in view that a rectangle of the map lies beside, as a part of it does.
    fn part_of(&self, b: &Box2) -> Option<u64> {
        let area = |b: &Box2| u64::from(b.x1 - b.x0) * u64::from(b.y1 - b.y0);
        let (x, y) = b.centre();
        let mut nearest: Option<(f32, u64)> = None;
        for t in self.slots.iter().flatten().filter(|t| t.unseen_ms <= 0.0) {
            let (Some(polyp), o) = (t.polyp, &t.bounds) else { continue };
            // What lies within the box of a wide arc is something else.
            let within = o.x0 as f32 <= x && x <= o.x1 as f32 && o.y0 as f32 <= y && y <= o.y1 as f32;
            let apart = |a0: u32, a1: u32, b0: u32, b1: u32| a0.max(b0).saturating_sub(a1.min(b1)) as f32;
            let gap = apart(b.x0, b.x1, o.x0, o.x1).hypot(apart(b.y0, b.y1, o.y0, o.y1));
            let is_part = !within && area(o) >= PART * area(b) && gap <= PART_NEAR * b.diagonal();
            if is_part && nearest.is_none_or(|(least, _)| gap < least) {
                nearest = Some((gap, polyp));
            }
        }
        nearest.map(|(_, polyp)| polyp)
    }

    /// Confirms a track and says which polyp it is.
    fn confirm(&mut self, slot: usize) {
        let Some(t) = &self.slots[slot] else { return };
        let bounds = t.bounds;
        let polyp = if let Some((k, polyp, _)) = self.shown_before(&bounds) {
            if k < self.past.len() {
                self.past.swap_remove(k);
            }
            polyp
        } else if let Some(polyp) = self.part_of(&bounds) {
            polyp
        } else {
            self.next_polyp += 1;
            self.next_polyp - 1
        };
        let now = self.now_ns;
        if let Some(t) = &mut self.slots[slot] {
            t.state = TrackState::Confirmed;
            t.evidence = self.numbers.coast_ms;
            t.confirmed_after_ms = Some((now - t.born_ns) as f64 / 1e6);
            t.polyp = Some(polyp);
        }
    }

    /// New tracks where something sure and large enough belongs to none.
    fn begin(&mut self, glance: &Glance) {
        if glance.gate.is_some() {
            return;
        }
        let start = self.level + logit(f64::from(self.numbers.start));
        let least = self.least();
        self.births.clear();
        for (i, r) in self.regions.list.iter().enumerate() {
            if self.given[i] == 0 && r.peak >= start && r.solid >= least {
                self.births.push(i as u16);
            }
        }
        let list = &self.regions.list;
        self.births.sort_unstable_by(|&a, &b| {
            list[usize::from(b)].solid.cmp(&list[usize::from(a)].solid).then(a.cmp(&b))
        });
        let mut slot = 0;
        for k in 0..self.births.len() {
            let region = self.births[k];
            while slot < MOST_TRACKS && self.slots[slot].is_some() {
                slot += 1;
            }
            if slot == MOST_TRACKS {
                return;
            }
            let r: Region = self.regions.list[usize::from(region)];
            // What was shown here a moment ago, of about that size, and looks like a polyp needs less proof.
            let pixels = (self.now.place.w * self.now.place.h).max(1) as f32;
            let n = &self.numbers;
            let again = 1.0 / f64::from(ALIKE.sqrt())..=f64::from(ALIKE.sqrt());
            let evidence = if n.again > 0.0
                && self.shown_before(&r.bounds).is_some_and(|(_, _, times)| again.contains(&times))
            {
                n.again * n.confirm_ms * n.weight(r.roundness(), r.sureness(), r.area as f32 / pixels)
            } else {
                0.0
            };
            self.slots[slot] = Some(Track {
                id: self.next_track,
                polyp: None,
                state: TrackState::Tentative,
                evidence,
                unseen_ms: 0.0,
                first_frame: glance.frame.0,
                first_pts: glance.pts.0,
                born_ns: self.now_ns,
                confirmed_after_ms: None,
                best_frame: glance.frame.0,
                best: r.mass,
                spread: Box2::default(),
                bounds: r.bounds,
                drawn: false,
            });
            self.next_track += 1;
            self.given[usize::from(region)] = slot as u8 + 1;
            self.forecasts[slot] = Forecast { region: Some(region), ..Forecast::default() };
            if evidence >= self.numbers.confirm_ms - 1.0 {
                self.confirm(slot);
            }
        }
    }

    /// Fills the new layer: what was found, mixed with what was there before.
    fn mix(&mut self, map: &[f32], glance: &Glance) {
        let w = self.now.place.w;
        let h = self.now.place.h;
        let step = glance.step_ns as f32 / 1e6;
        let n = self.numbers;
        let usual = if n.smooth_ms > 0.0 { 1.0 - (-step / n.smooth_ms).exp() } else { 1.0 };
        // Extent of everything given to each track.
        let mut extents = [Box2::default(); MOST_TRACKS];
        for (r, given) in self.regions.list.iter().zip(&self.given) {
            if *given > 0 {
                let e = &mut extents[usize::from(*given) - 1];
                *e = e.union(&r.bounds);
            }
        }
        // What is shown comes first: nothing that is not shown takes a pixel of it.
        let shown = |t: &Track| t.state != TrackState::Tentative && t.unseen_ms <= n.keep_ms;
        let bit = |(slot, t): (usize, &Option<Track>)| u64::from(t.as_ref().is_some_and(shown)) << (slot + 1);
        let shown_bits = self.slots.iter().enumerate().map(bit).fold(0, |all, bit| all | bit);
        let mut marked = [0; MOST_TRACKS];
        for (first, slot) in (0..2 * MOST_TRACKS).map(|k| (k < MOST_TRACKS, k % MOST_TRACKS)) {
            let Some(t) = self.slots[slot].as_mut().filter(|t| shown(t) == first) else { continue };
            let f = self.forecasts[slot];
            let owner = slot as u8 + 1;
            let safe = if first { 0 } else { shown_bits };
            let found = f.region.is_some();
            let share = if found && (f.iou < MIX_IOU || !glance.moved) { 1.0 } else { usual };
            let area = match (found, share < 1.0) {
                (true, true) => extents[slot].union(&f.spread).grown(1, w, h),
                (true, false) => extents[slot].grown(1, w, h),
                (false, _) => f.spread,
            };
            let mut spread = Box2::default();
            let alone = self.given.iter().all(|g| *g == owner);
            for y in area.y0..area.y1 {
                let span = y as usize * w + area.x0 as usize..y as usize * w + area.x1 as usize;
                let row = &mut self.row[..span.len()];
                let former = &self.forecast_layer;
                let held = former.values[span.clone()].iter().zip(&former.owner[span.clone()]);
                for (out, (v, o)) in row.iter_mut().zip(held) {
                    *out = if *o == owner { *v } else { -LIMIT };
                }
                let mixed = |was: f32, seen: f32| {
                    if share >= 1.0 || was == UNKNOWN { seen } else { was + share * (seen - was) }
                };
                let height = |v: f32| (v - self.level).clamp(-LIMIT, LIMIT);
                if !found {
                    for out in row.iter_mut().filter(|v| **v == UNKNOWN) {
                        *out = -LIMIT;
                    }
                } else if alone {
                    for (out, v) in row.iter_mut().zip(&map[span.clone()]) {
                        *out = mixed(*out, height(*v));
                    }
                } else {
                    let seen = map[span.clone()].iter().zip(&self.regions.labels[span.clone()]);
                    for (out, (v, &label)) in row.iter_mut().zip(seen) {
                        let ours = label == 0 || self.given[usize::from(label) - 1] == owner;
                        *out = mixed(*out, if ours { height(*v) } else { -LIMIT });
                    }
                }
                let values = &mut self.now.values[span.clone()];
                write(row, owner, safe, values, &mut self.now.owner[span], &mut marked);
                let there = |v: &f32| *v > NOTHING;
                if let Some(first) = row.iter().position(there) {
                    let last = row.iter().rposition(there).unwrap_or(first);
                    let (x0, x1) = (area.x0 + first as u32, area.x0 + last as u32 + 1);
                    spread = spread.union(&Box2 { x0, y0: y, x1, y1: y + 1 });
                }
            }
            t.spread = spread;
        }
        let least = ((n.least_share * (w * h) as f32 / 2.0).ceil() as u32).max(1);
        for (t, &marked) in self.slots.iter_mut().zip(&marked) {
            if let Some(t) = t {
                t.drawn = shown(t) && marked >= least;
            }
        }
    }

    fn draw(&mut self) {
        self.drawn.fill(self.level - LIMIT);
        let w = self.now.place.w;
        for slot in 0..MOST_TRACKS {
            let Some(t) = &self.slots[slot] else { continue };
            if !t.drawn {
                continue;
            }
            let owner = slot as u8 + 1;
            for y in t.spread.y0..t.spread.y1 {
                let row = y as usize * w;
                for i in row + t.spread.x0 as usize..row + t.spread.x1 as usize {
                    if self.now.owner[i] == owner {
                        self.drawn[i] = self.level + self.now.values[i];
                    }
                }
            }
        }
    }

    /// What is to be drawn: logits of the size of the map given last, below the level where nothing is.
    pub fn map(&self) -> &[f32] {
        &self.drawn
    }

    /// All tracks of the last frame, and those it ended.
    pub fn marks(&self) -> &[TrackMark] {
        &self.marks
    }

    /// How many tracks have a pixel of what is drawn, at or above the marking level.
    #[cfg(test)]
    pub(super) fn tracks_with_pixels(&self) -> usize {
        let pixels = self.drawn.iter().zip(&self.before.owner);
        let mut owners: Vec<u8> = pixels.filter(|(v, _)| **v >= self.level).map(|(_, o)| *o).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.len()
    }

    /// The drawn track that has most pixels in a rectangle of the picture.
    pub fn track_in(&self, rect: &Rect) -> Option<u64> {
        // The last frame's layer.
        let layer = &self.before;
        let b = layer.place.box_of(rect);
        let mut counts = [0u32; MOST_TRACKS];
        for y in b.y0..b.y1 {
            let row = y as usize * layer.place.w;
            for i in row + b.x0 as usize..row + b.x1 as usize {
                if layer.owner[i] > 0 && layer.values[i] >= 0.0 {
                    counts[usize::from(layer.owner[i]) - 1] += 1;
                }
            }
        }
        let drawn = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|t| t.drawn);
        let best =
            (0..MOST_TRACKS).filter(drawn).max_by_key(|&slot| (counts[slot], std::cmp::Reverse(slot)))?;
        self.slots[best].as_ref().map(|t| t.id)
    }
}
