//! What stands on the wall: polyps of several shapes, and the residue that is easily taken for one. A place on the wall
//! and a random stream go in, a closed little surface that grows smoothly out of the mucosa comes out.

use super::colon::{Colon, Vertex};
use super::noise::{Stream, lerp, sin_cos, smooth_step};
use super::space::{Vec3, add, cross, dot, length, mad, scale, sub, unit};
use super::texture::POLYP_TEXELS;

/// Shapes, after the Paris classification (Gastrointest. Endosc. 58, 2003) as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 0-Is: a dome on a broad base.
    Sessile,
    /// 0-Isp: a head that overhangs a short waist.
    Subpedunculated,
    /// 0-Ip: a head on a stalk.
    Pedunculated,
    /// 0-IIa or a laterally spreading tumour: broad, low, nodular.
    Flat,
    /// Not a polyp: a lump of stool.
    Residue,
}

/// Vertices around a mesh, and rows from the wall to the top.
const ROUND: usize = 64;
pub(crate) const OBJECT_COLUMNS: usize = ROUND + 1;
pub(crate) const OBJECT_ROWS: usize = 40;
const SKIRT_ROWS: usize = 16;

pub(crate) struct Object {
    pub shape: Shape,
    /// 1..=255 for polyps, 0 for residue.
    pub id: u8,
    /// Distance along the colon of its place on the wall, and the angle in turns.
    pub s: f32,
    /// [`OBJECT_ROWS`] rows of [`OBJECT_COLUMNS`], from the wall to the top.
    pub vertices: Vec<Vertex>,
    /// Rows from here on are the polyp, those before are the slope of the wall around it.
    pub body_row: usize,
    /// Middle of the body.
    pub middle: Vec3,
    /// Radius of a ball around it all.
    pub reach: f32,
    /// 0 pale as the wall to 1 deep red; residue: 0 yellow to 1 brown.
    pub redness: f32,
}

/// Proportions of one object in millimetres.
struct Build {
    head: f32,
    head_height: f32,
    waist: f32,
    stalk: f32,
    skirt: f32,
    droop: f32,
    lobes: f32,
    knobs: f32,
    elongation: f32,
    /// Height within which the base follows the curved wall.
    follow: f32,
}

impl Build {
    fn new(shape: Shape, s: Stream) -> Self {
        let size = s.unit(0);
        match shape {
            Shape::Sessile => {
                let head = lerp(3.0, 8.0, size * size);
                Self {
                    head,
                    head_height: head * s.range(1, 0.62, 0.95),
                    waist: head * s.range(2, 0.95, 0.99),
                    stalk: 0.35,
                    skirt: head * s.range(3, 1.3, 1.55),
                    droop: 0.0,
                    lobes: s.range(4, 0.06, 0.2),
                    knobs: s.range(5, 0.01, 0.06),
                    elongation: s.range(6, 0.85, 1.3),
                    follow: 5.0,
                }
            }
            Shape::Subpedunculated => {
                let head = lerp(4.2, 8.0, size);
                Self {
                    head,
                    head_height: head * s.range(1, 0.75, 1.0),
                    waist: head * s.range(2, 0.62, 0.8),
                    stalk: s.range(7, 0.6, 1.6),
                    skirt: head * 1.25,
                    droop: s.range(8, 0.0, 0.03),
                    lobes: s.range(4, 0.1, 0.26),
                    knobs: s.range(5, 0.03, 0.09),
                    elongation: s.range(6, 0.85, 1.25),
                    follow: 4.0,
                }
            }
            Shape::Pedunculated => {
                let head = lerp(4.2, 7.0, size);
                Self {
                    head,
                    head_height: head * s.range(1, 0.75, 1.05),
                    waist: s.range(2, 1.9, 3.0),
                    stalk: s.range(7, 3.5, 9.0),
                    skirt: s.range(3, 4.2, 6.0),
                    droop: s.range(8, 0.008, 0.026),
                    lobes: s.range(4, 0.08, 0.24),
                    knobs: s.range(5, 0.03, 0.09),
                    elongation: s.range(6, 0.9, 1.15),
                    follow: 3.0,
                }
            }
            Shape::Flat => {
                let head = lerp(5.0, 8.5, size);
                Self {
                    head,
                    head_height: s.range(1, 2.2, 3.6),
                    waist: head * 0.985,
                    stalk: 0.25,
                    skirt: head * 1.18,
                    droop: 0.0,
                    lobes: s.range(4, 0.14, 0.24),
                    knobs: s.range(5, 0.10, 0.17),
                    elongation: s.range(6, 0.8, 1.5),
                    follow: 1e6,
                }
            }
            Shape::Residue => {
                let head = lerp(1.0, 5.0, size * size * size);
                Self {
                    head,
                    head_height: head * s.range(1, 0.3, 0.6),
                    waist: head * 0.97,
                    stalk: 0.1,
                    skirt: head * 1.08,
                    droop: 0.0,
                    lobes: s.range(4, 0.2, 0.4),
                    knobs: s.range(5, 0.1, 0.22),
                    elongation: s.range(6, 0.7, 1.6),
                    follow: 6.0,
                }
            }
        }
    }

    /// Rows of the profile: (radius, height, share of the body's own lumps), from the wall up to the top.
    fn profile(&self) -> [(f32, f32, f32); OBJECT_ROWS] {
        // Height of the waist over the middle of the head, where stalk and head meet on the ellipsoid.
        let cos0 = (self.waist / self.head).min(0.999);
        let sin0 = (1.0 - cos0 * cos0).sqrt();
        let middle = self.stalk + self.head_height * sin0;
        let (low, top_rows) = (-0.25, OBJECT_ROWS - SKIRT_ROWS);
        // The angle of the waist below the equator, in turns, by bisection on our own cosine.
        let (mut a, mut b) = (0.0f64, 0.25f64);
        for _ in 0..30 {
            let m = 0.5 * (a + b);
            if sin_cos(m).1 as f32 > cos0 { a = m } else { b = m }
        }
        std::array::from_fn(|k| {
            if k < SKIRT_ROWS {
                let q = k as f32 / SKIRT_ROWS as f32;
                let out = (1.0 - q) * (1.0 - q) * (1.0 - q);
                (lerp(self.waist, self.skirt, out), lerp(low, self.stalk, q), q * q * q)
            } else {
                let q = (k - SKIRT_ROWS) as f64 / (top_rows - 1) as f64;
                let (sin, cos) = sin_cos(-a + (0.25 + a) * q);
                let r = if k == OBJECT_ROWS - 1 { 0.0 } else { self.head * cos as f32 };
                (r, middle + self.head_height * sin as f32, 1.0)
            }
        })
    }
}

impl Object {
    /// Grows an object out of the wall at `s` along and `turns` around.
    pub fn new(colon: &Colon, shape: Shape, id: u8, s: f32, turns: f32, stream: Stream) -> Self {
        let build = Build::new(shape, stream);
        let anchor = colon.wall_at(s, turns);
        // The wall's own direction here, over the width of the base, so that a polyp on a fold leans as the fold does.
        let span = build.waist.max(2.5);
        let r0 = colon.radius_at(s, turns).max(8.0);
        let dt = span / (r0 * std::f32::consts::TAU);
        let along = sub(colon.wall_at(s + span, turns), colon.wall_at(s - span, turns));
        let around = sub(colon.wall_at(s, turns + dt), colon.wall_at(s, turns - dt));
        let mut up = unit(cross(around, along));
        let inward = sub(colon.axis_at(s).centre, anchor);
        if dot(up, inward) < 0.0 {
            up = scale(up, -1.0);
        }
        up = unit(mad(scale(unit(inward), 0.5), up, 1.0));
        let e1 = unit(sub(along, scale(up, dot(along, up))));
        let e2 = cross(e1, up);
        let lean = {
            let (sin, cos) = sin_cos(f64::from(stream.unit(20)));
            add(scale(e1, cos as f32), scale(e2, sin as f32))
        };
        let profile = build.profile();
        let head_middle = profile[SKIRT_ROWS].1.max(0.0) + 0.4 * build.head_height;
        let lumps = stream.child(1);
        let seed_offset =
            [stream.range(21, 0.0, 90.0), stream.range(22, 0.0, 90.0), stream.range(23, 0.0, 90.0)];
        let turn = f64::from(stream.unit(24));
        let circle: Vec<(f32, f32)> = (0..OBJECT_COLUMNS)
            .map(|j| {
                let (sin, cos) = sin_cos((j % ROUND) as f64 / ROUND as f64);
                (cos as f32, sin as f32)
            })
            .collect();
        let (turn_sin, turn_cos) = sin_cos(turn);
        let mut at = Vec::with_capacity(OBJECT_ROWS * OBJECT_COLUMNS);
        for &(r, h, own) in &profile {
            for &(cos, sin) in &circle {
                // Stretched along a random direction across the base.
                let (x, y) = (r * cos * build.elongation, r * sin / build.elongation);
                let (x, y) =
                    (x * turn_cos as f32 - y * turn_sin as f32, x * turn_sin as f32 + y * turn_cos as f32);
                let direction = unit([x, y, h - head_middle]);
                let noise = |f: f32, k: u64| lumps.child(k).space(add(scale(direction, f), seed_offset));
                let (x, y, h) = if shape == Shape::Flat || shape == Shape::Residue {
                    // Low ones: the outline wavers, and knobs stand on the top.
                    let outline = {
                        let d = unit([cos, sin, 0.0]);
                        1.0 + build.lobes
                            * (lumps.child(2).space(add(scale(d, 1.4), seed_offset))
                                + 0.5 * lumps.child(3).space(add(scale(d, 3.2), seed_offset)))
                    };
                    let p = [x / 2.6 + seed_offset[0], y / 2.6 + seed_offset[1], 0.5];
                    let knob = lumps.child(4).space(p) + 0.5 * lumps.child(5).space(scale(p, 2.1));
                    let lift = 1.0 + own * build.knobs * 2.6 * knob;
                    (x * outline, y * outline, if h > 0.0 { h * lift } else { h })
                } else {
                    let bulge = build.lobes * 1.3 * noise(1.25, 2) + build.knobs * noise(3.6, 3);
                    let f = 1.0 + own * bulge;
                    (x * f, y * f, head_middle + (h - head_middle) * (1.0 + own * 0.7 * bulge))
                };
                let flat = add(anchor, add(scale(e1, x), scale(e2, y)));
                let wall = colon.wall_at(
                    s + dot(sub(flat, anchor), unit(along)),
                    turns + dot(sub(flat, anchor), unit(around)) / (r0 * std::f32::consts::TAU),
                );
                let hold = smooth_step(build.follow, 0.0, h.max(0.0));
                let hold = if build.follow > 1e3 { 1.0 } else { hold };
                let base = add(scale(flat, 1.0 - hold), scale(wall, hold));
                let hang = if h > 0.0 { build.droop * h * h } else { 0.0 };
                at.push(mad(mad(base, up, h), lean, hang));
            }
        }
        let reddish = match shape {
            Shape::Flat => stream.range(30, 0.1, 0.6),
            Shape::Residue => stream.unit(30),
            _ => stream.range(30, 0.35, 1.0),
        };
        Self::from_points(shape, id, s, &at, reddish, stream, up)
    }

    fn from_points(
        shape: Shape,
        id: u8,
        s: f32,
        at: &[Vec3],
        redness: f32,
        stream: Stream,
        up: Vec3,
    ) -> Self {
        let point = |row: usize, column: usize| at[row * OBJECT_COLUMNS + column];
        let middle = {
            let top = point(OBJECT_ROWS - 1, 0);
            let low = (0..ROUND).fold([0.0; 3], |m, j| mad(m, point(SKIRT_ROWS, j), 1.0 / ROUND as f32));
            scale(add(top, low), 0.5)
        };
        // Arc length from the top, for a texture that is drawn out nowhere on the head.
        let mut arc = vec![0.0f32; at.len()];
        for row in (0..OBJECT_ROWS - 1).rev() {
            for j in 0..OBJECT_COLUMNS {
                let k = row * OBJECT_COLUMNS + j;
                arc[k] = arc[k + OBJECT_COLUMNS] + length(sub(at[k], at[k + OBJECT_COLUMNS]));
            }
        }
        let offset = [stream.range(31, 0.0, 512.0), stream.range(32, 0.0, 512.0)];
        let mut vertices: Vec<Vertex> = Vec::with_capacity(at.len());
        let mut reach: f32 = 0.0;
        for row in 0..OBJECT_ROWS {
            for j in 0..OBJECT_COLUMNS {
                let p = point(row, j);
                reach = reach.max(length(sub(p, middle)));
                let (below, above) = (row.saturating_sub(1), (row + 1).min(OBJECT_ROWS - 1));
                let (left, right) = ((j + ROUND - 1) % ROUND, (j + 1) % ROUND);
                let rise = sub(point(above, j), point(below, j));
                // At the top all columns meet: the ring below tells the direction.
                let ring_row = row.min(OBJECT_ROWS - 2);
                let mut ring = sub(point(ring_row, right), point(ring_row, left));
                let mut normal = unit(cross(rise, ring));
                if row == OBJECT_ROWS - 1 {
                    ring = sub(point(ring_row, ROUND / 4), point(ring_row, 3 * ROUND / 4));
                    let other = sub(point(ring_row, 0), point(ring_row, ROUND / 2));
                    normal = unit(cross(ring, other));
                    if dot(normal, up) < 0.0 {
                        normal = scale(normal, -1.0);
                    }
                }
                let (sin, cos) = sin_cos(j as f64 / ROUND as f64);
                let a = arc[row * OBJECT_COLUMNS + j] * POLYP_TEXELS;
                let climb = row as f32 / SKIRT_ROWS as f32;
                // Light is lost where the body meets the wall.
                let crease = smooth_step(0.55, 0.95, climb) * smooth_step(1.55, 1.0, climb);
                let crease = crease.max(smooth_step(0.25, 0.9, climb) * smooth_step(1.7, 0.9, climb) * 0.7);
                vertices.push(Vertex {
                    at: p,
                    normal,
                    texel: [offset[0] + 4096.0 + a * cos as f32, offset[1] + 4096.0 + a * sin as f32],
                    openness: 1.0 - if shape == Shape::Pedunculated { 0.15 } else { 0.34 } * crease,
                    own: smooth_step(0.35, 1.0, climb),
                });
            }
        }
        let body_row = match shape {
            // The stalk is part of the lesion, as annotators draw it.
            Shape::Pedunculated => SKIRT_ROWS * 3 / 8,
            Shape::Subpedunculated => SKIRT_ROWS * 5 / 8,
            _ => SKIRT_ROWS * 5 / 8,
        };
        Self { shape, id, s, vertices, body_row, middle, reach, redness }
    }
}

/// Fills the colon: polyps at the given distances along, residue here and there.
pub(crate) fn furnish(colon: &mut Colon, seed: u64, polyps: &[f32]) -> Vec<Object> {
    let mut objects = Vec::new();
    let stream = Stream::new(seed, "polyps");
    let mut last = None;
    for (k, &s) in polyps.iter().enumerate() {
        let st = stream.child(k as u64);
        let mut pick = (st.unit(0) * 4.0) as usize;
        if last == Some(pick) {
            // Never the same shape twice running: a short clip shows several.
            pick = (pick + 1 + (st.unit(1) * 3.0) as usize) % 4;
        }
        last = Some(pick);
        let shape = [Shape::Sessile, Shape::Subpedunculated, Shape::Pedunculated, Shape::Flat][pick];
        let (s, turns) = site(colon, s, st, shape);
        let id = (k % 255 + 1) as u8;
        let object = Object::new(colon, shape, id, s, turns, st.child(2));
        let extent = (0..ROUND)
            .map(|j| {
                length(sub(
                    object.vertices[(SKIRT_ROWS - 4) * OBJECT_COLUMNS + j].at,
                    object.vertices[(SKIRT_ROWS - 4) * OBJECT_COLUMNS + (j + ROUND / 2) % ROUND].at,
                ))
            })
            .fold(0.0f32, |m, d| m + d * 0.5 / ROUND as f32);
        colon.shade_around(s, turns, extent.max(2.0), 0.3);
        objects.push(object);
    }
    let dirt = Stream::new(seed, "residue");
    let end = colon.rings() as f32 * super::colon::STEP - 20.0;
    let mut s = 12.0;
    let mut k = 0;
    while s < end {
        let st = dirt.child(k);
        let crowd = 1 + (st.unit(0) * st.unit(0) * 6.0) as u64;
        let turns = st.unit(1);
        for n in 0..crowd {
            let sn = st.child(n + 10);
            let (at, turn) = (s + sn.range(0, -7.0, 7.0), turns + sn.range(1, -0.07, 0.07));
            if at > 10.0 && polyps.iter().all(|p| (p - at).abs() > 16.0) {
                objects.push(Object::new(colon, Shape::Residue, 0, at, turn, sn.child(2)));
            }
        }
        s += st.range(2, 25.0, 120.0);
        k += 1;
    }
    objects.sort_by(|a, b| a.s.total_cmp(&b.s));
    objects
}

/// The place for a polyp near `s`: of several tries, one where the wall is not about to vanish behind a fold.
fn site(colon: &Colon, s: f32, st: Stream, shape: Shape) -> (f32, f32) {
    let mut best = (s, st.unit(5), f32::MIN);
    for k in 0..16u64 {
        let (at, turns) = (s + st.range(100 + k, -11.0, 11.0), st.unit(200 + k));
        let here = colon.radius_at(at, turns);
        // A fold nearer to the scope hides what lies right behind it; a polyp may sit on its flank or crest.
        let before = (1..9).map(|d| colon.radius_at(at - 2.0 * d as f32, turns)).fold(f32::MAX, f32::min);
        // How far the wall under the base leaves its plane: broad ones need flat ground.
        let base = if shape == Shape::Flat { 7.5 } else { 4.0 };
        let rough = unevenness(colon, at, turns, base) * if shape == Shape::Flat { 1.6 } else { 0.35 };
        let score = (before - here).min(3.0) - rough - 0.05 * (at - s).abs() + st.unit(300 + k);
        if score > best.2 {
            best = (at, turns, score);
        }
    }
    (best.0, best.1)
}

/// Largest distance of a ring of wall points from the plane of the point in the middle, in millimetres.
fn unevenness(colon: &Colon, s: f32, turns: f32, radius: f32) -> f32 {
    let middle = colon.wall_at(s, turns);
    let per_turn = colon.radius_at(s, turns).max(8.0) * std::f32::consts::TAU;
    let ring: [Vec3; 12] = std::array::from_fn(|k| {
        let (sin, cos) = sin_cos(k as f64 / 12.0);
        colon.wall_at(s + radius * cos as f32, turns + radius * sin as f32 / per_turn)
    });
    let normal = unit(cross(sub(ring[3], ring[9]), sub(ring[0], ring[6])));
    ring.iter().map(|p| dot(sub(*p, middle), normal).abs()).fold(0.0, f32::max)
}
