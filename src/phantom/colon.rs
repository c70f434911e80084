//! The colon itself: in goes the seed and a length, out comes a curved tube of mucosa with haustra and folds, as rings
//! of vertices in millimetres.

use super::noise::{Stream, lerp, sin_cos, smooth_step};
use super::space::{Vec3, add, cross, dot, mad, scale, sub, unit};
use super::texture::WALL_SIDE;

/// Distance of two rings, in millimetres along the axis.
pub(crate) const STEP: f32 = 0.8;
/// Vertices around a ring (the first is repeated at the end, where the texture closes).
pub(crate) const AROUND: usize = 224;
pub(crate) const COLUMNS: usize = AROUND + 1;
/// Mean radius of the distended lumen.
pub(crate) const RADIUS: f32 = 25.0;
/// Texels of the wall's tile per millimetre.
pub(crate) const WALL_TEXELS: f32 = WALL_SIDE as f32 / (RADIUS * std::f32::consts::TAU);

/// Axis of the tube at one ring: centre, direction towards the caecum, and two directions across.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub centre: Vec3,
    pub along: Vec3,
    pub across: Vec3,
    pub up: Vec3,
}

/// A vertex of any surface: where, which way it faces (into the lumen), texture position and how open it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vertex {
    pub at: Vec3,
    pub normal: Vec3,
    pub texel: [f32; 2],
    /// Light that reaches it from around, 1 in the open.
    pub openness: f32,
    /// 0 mucosa of the wall, 1 the object's own.
    pub own: f32,
}

pub(crate) struct Fold {
    at: f32,
    height: f32,
    width: f32,
    /// 1: three sides and three corners, 0: one crescent.
    triangular: f32,
    turn: f32,
    tilt: f32,
    tilt_turn: f32,
    wave: Stream,
}

pub(crate) struct Colon {
    pub axis: Vec<Axis>,
    /// `axis.len()` rings of [`COLUMNS`].
    pub vertices: Vec<Vertex>,
    radius: Vec<f32>,
}

/// Cosines of the columns' angles and of three times them would be asked for too often: a table.
struct Circle {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Circle {
    fn new() -> Self {
        let both = |i: usize| sin_cos(i as f64 / AROUND as f64);
        Self {
            cos: (0..COLUMNS).map(|i| both(i % AROUND).1 as f32).collect(),
            sin: (0..COLUMNS).map(|i| both(i % AROUND).0 as f32).collect(),
        }
    }

    /// Cosine of (`times` × the angle of column `j`) − `turn` turns.
    fn cos(&self, j: usize, times: usize, turn: (f32, f32)) -> f32 {
        let k = (j * times) % AROUND;
        self.cos[k] * turn.1 + self.sin[k] * turn.0
    }
}

fn turned(turns: f32) -> (f32, f32) {
    let (s, c) = sin_cos(f64::from(turns));
    (s as f32, c as f32)
}

impl Colon {
    pub fn new(seed: u64, millimetres: f32) -> Self {
        let rings = (millimetres / STEP) as usize + 2;
        let axis = bend(seed, rings);
        let folds = folds(seed, rings as f32 * STEP);
        let circle = Circle::new();
        let radius = radii(seed, rings, &folds, &circle);
        let vertices = surface(&axis, &radius, &circle);
        Self { axis, vertices, radius }
    }

    pub fn rings(&self) -> usize {
        self.axis.len()
    }

    /// Axis at a distance along the colon, between two rings.
    pub fn axis_at(&self, s: f32) -> Axis {
        let x = (s / STEP).clamp(0.0, (self.rings() - 2) as f32);
        let i = x as usize;
        let f = x - i as f32;
        let (a, b) = (&self.axis[i], &self.axis[i + 1]);
        let mix = |p: Vec3, q: Vec3| add(scale(p, 1.0 - f), scale(q, f));
        Axis {
            centre: mix(a.centre, b.centre),
            along: unit(mix(a.along, b.along)),
            across: unit(mix(a.across, b.across)),
            up: unit(mix(a.up, b.up)),
        }
    }

    /// Point of the wall at a distance along the colon and an angle in turns, on the very surface that is drawn.
    pub fn wall_at(&self, s: f32, turns: f32) -> Vec3 {
        let (i, j, fx, fy) = self.cell(s, turns);
        let at = |di: usize, dj: usize| self.vertices[(i + di) * COLUMNS + j + dj].at;
        let mix = |p: Vec3, q: Vec3, f: f32| add(scale(p, 1.0 - f), scale(q, f));
        mix(mix(at(0, 0), at(0, 1), fx), mix(at(1, 0), at(1, 1), fx), fy)
    }

    /// Distance of the wall from the axis.
    pub fn radius_at(&self, s: f32, turns: f32) -> f32 {
        let (i, j, fx, fy) = self.cell(s, turns);
        let at = |di: usize, dj: usize| self.radius[(i + di) * COLUMNS + j + dj];
        lerp(lerp(at(0, 0), at(0, 1), fx), lerp(at(1, 0), at(1, 1), fx), fy)
    }

    fn cell(&self, s: f32, turns: f32) -> (usize, usize, f32, f32) {
        let y = (s / STEP).clamp(0.0, (self.rings() - 2) as f32 - 0.01);
        let x = ((turns - turns.floor()) * AROUND as f32).min(AROUND as f32 - 0.01);
        let (i, j) = (y as usize, x as usize);
        (i, j, x - j as f32, y - i as f32)
    }

    /// Darkens the wall around something that stands on it: `extent` is its half size in millimetres along and around.
    pub fn shade_around(&mut self, s: f32, turns: f32, extent: f32, depth: f32) {
        let (reach, r) = (extent * 2.2, self.radius_at(s, turns).max(8.0));
        let i0 = ((s - reach) / STEP).max(0.0) as usize;
        let i1 = (((s + reach) / STEP) as usize).min(self.rings() - 1);
        for i in i0..=i1 {
            for j in 0..COLUMNS {
                let mut dt = j as f32 / AROUND as f32 - turns;
                dt -= (dt + 0.5).floor();
                let ds = i as f32 * STEP - s;
                let da = dt * std::f32::consts::TAU * r;
                let d = (ds * ds + da * da).sqrt() / extent;
                let v = &mut self.vertices[i * COLUMNS + j];
                v.openness *= 1.0 - depth * smooth_step(2.1, 0.9, d);
            }
        }
    }
}

/// Texture position along the colon. Folds stand across it: on the flank that faces the scope the surface runs
/// inwards, so the way in is counted as way along and the texture is not drawn out.
fn along_texel(s: f32, radius: f32) -> f32 {
    (s + 0.85 * (RADIUS - radius) + 64.0) * WALL_TEXELS
}

/// The axis: a curve whose curvature wanders, with a few sharp flexures, carried along without twist.
fn bend(seed: u64, rings: usize) -> Vec<Axis> {
    let (kx, ky) = (Stream::new(seed, "bend across"), Stream::new(seed, "bend up"));
    let sharp = Stream::new(seed, "flexures");
    let mut axis = Vec::with_capacity(rings);
    let mut a =
        Axis { centre: [0.0; 3], along: [0.0, 0.0, 1.0], across: [1.0, 0.0, 0.0], up: [0.0, 1.0, 0.0] };
    for i in 0..rings {
        axis.push(a);
        let s = f64::from(i as f32 * STEP);
        // A radius of 48 mm is the tightest the wall bears without running into itself.
        let amount = 0.014 + 0.007 * (sharp.wander(s / 110.0, None) as f32).max(0.0);
        let cx = (kx.wander(s / 75.0, None) as f32 * amount * 1.7).clamp(-0.0145, 0.0145);
        let cy = (ky.wander(s / 75.0, None) as f32 * amount * 1.7).clamp(-0.0145, 0.0145);
        a.centre = mad(a.centre, a.along, STEP);
        a.along = unit(mad(mad(a.along, a.across, cx * STEP), a.up, cy * STEP));
        a.across = unit(sub(a.across, scale(a.along, dot(a.across, a.along))));
        a.up = cross(a.along, a.across);
    }
    axis
}

fn folds(seed: u64, end: f32) -> Vec<Fold> {
    let stream = Stream::new(seed, "folds");
    let kind = Stream::new(seed, "kind of folds");
    let mut folds = Vec::new();
    let mut at = 4.0;
    let mut k = 0;
    let mut turn = stream.unit(u64::MAX);
    while at < end {
        let s = stream.child(k);
        // Stretches of triangular folds (transverse colon) and of crescents (left and right colon).
        let triangular = smooth_step(-0.25, 0.25, kind.wander(f64::from(at) / 170.0, None) as f32 + 0.12);
        let single = s.unit(0);
        turn += lerp(s.range(1, 0.28, 0.62), s.range(1, -0.05, 0.05), triangular);
        let height = lerp(s.range(2, 5.0, 13.0), s.range(2, 7.0, 12.0), triangular);
        folds.push(Fold {
            at,
            height: if single < 0.12 { height * 0.45 } else { height },
            width: s.range(3, 2.1, 3.6),
            triangular,
            turn,
            tilt: s.range(4, 0.0, 3.2),
            tilt_turn: s.unit(5),
            wave: s.child(99),
        });
        at += lerp(s.range(6, 13.0, 30.0), s.range(6, 15.0, 27.0), triangular);
        k += 1;
    }
    folds
}

/// Distance of the wall from the axis for every vertex.
fn radii(seed: u64, rings: usize, folds: &[Fold], circle: &Circle) -> Vec<f32> {
    let (wide, lumps) = (Stream::new(seed, "calibre"), Stream::new(seed, "lumps"));
    let wrinkles = Stream::new(seed, "wrinkles");
    let mut radius = Vec::with_capacity(rings * COLUMNS);
    let mut first = 0;
    for i in 0..rings {
        let s = i as f32 * STEP;
        while first + 1 < folds.len() && folds[first + 1].at < s - 24.0 {
            first += 1;
        }
        let calibre = RADIUS * (1.0 + 0.12 * wide.wander(f64::from(s) / 60.0, None) as f32);
        let start = radius.len();
        radius.resize(start + COLUMNS, calibre);
        let row = &mut radius[start..];
        let creased = (wrinkles.wander(f64::from(s) / 40.0, None) as f32).max(0.0);
        for (j, r) in row.iter_mut().enumerate().take(AROUND) {
            let x = j as f32 * 16.0 / AROUND as f32;
            let coarse = lumps.plane(x, s / 11.0, 16, 1 << 20);
            let fine = lumps.plane(x * 4.0, s / 3.1 + 77.0, 64, 1 << 20);
            let ring = wrinkles.plane(x * 0.5, s / 1.9, 8, 1 << 20);
            *r += 1.1 * coarse + 0.16 * fine + 0.55 * creased * ring;
        }
        for fold in folds[first..].iter().take_while(|f| f.at < s + 14.0) {
            let third = turned(3.0 * fold.turn);
            let (single, tilt) = (turned(fold.turn), turned(fold.tilt_turn));
            for (j, r) in row.iter_mut().enumerate().take(AROUND) {
                let wave = fold.wave.plane(j as f32 * 8.0 / AROUND as f32, 0.5, 8, 8);
                let x = (s - fold.at - fold.tilt * circle.cos(j, 1, tilt) - 1.1 * wave) / fold.width;
                let profile = 1.0 / (1.0 + x * x);
                if profile < 0.02 {
                    continue;
                }
                let sides = 0.3 + 0.7 * (0.5 - 0.5 * circle.cos(j, 3, third));
                let crescent = 0.08 + 0.92 * smooth_step(-0.55, 0.75, circle.cos(j, 1, single));
                let share = lerp(crescent, sides, fold.triangular) * (1.0 + 0.16 * wave);
                // Between the folds the wall bulges out a little: the haustra.
                *r -= fold.height * share * (profile * profile * 1.16 - 0.16 * profile);
            }
        }
        for r in row.iter_mut() {
            // However folds and calibre add up, a scope must pass.
            *r = if *r < 14.0 { 14.0 - 14.0 * (14.0 - *r) / (28.0 + (14.0 - *r)) } else { *r };
        }
        row[AROUND] = row[0];
    }
    radius
}

fn surface(axis: &[Axis], radius: &[f32], circle: &Circle) -> Vec<Vertex> {
    let rings = axis.len();
    let at: Vec<Vec3> = (0..rings * COLUMNS)
        .map(|k| {
            let (a, j) = (&axis[k / COLUMNS], k % COLUMNS);
            mad(mad(a.centre, a.across, radius[k] * circle.cos[j]), a.up, radius[k] * circle.sin[j])
        })
        .collect();
    let mut vertices = Vec::with_capacity(at.len());
    for i in 0..rings {
        for j in 0..COLUMNS {
            let k = i * COLUMNS + j;
            let (before, after) = (i.saturating_sub(1) * COLUMNS + j, (i + 1).min(rings - 1) * COLUMNS + j);
            let left = i * COLUMNS + (j + AROUND - 1) % AROUND;
            let right = i * COLUMNS + (j + 1) % AROUND;
            let mut normal = unit(cross(sub(at[right], at[left]), sub(at[after], at[before])));
            if dot(normal, sub(axis[i].centre, at[k])) < 0.0 {
                normal = scale(normal, -1.0);
            }
            // How much further out than its neighbourhood along the colon: valleys between folds get less light.
            let mut around = 0.0;
            let mut weight = 0.0;
            for d in (-12i32..=12).step_by(3) {
                let n = (i as i32 + d).clamp(0, rings as i32 - 1) as usize;
                around += radius[n * COLUMNS + j];
                weight += 1.0;
            }
            let sunk = radius[k] - around / weight;
            vertices.push(Vertex {
                at: at[k],
                normal,
                texel: [
                    along_texel(i as f32 * STEP, radius[k]),
                    j as f32 * (WALL_SIDE as f32 / AROUND as f32),
                ],
                openness: (1.0 - 0.085 * sunk).clamp(0.5, 1.18),
                own: 0.0,
            });
        }
    }
    vertices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::space::length;

    #[test]
    fn a_scope_passes_everywhere_and_folds_narrow_the_lumen() {
        let colon = Colon::new(11, 400.0);
        let (mut narrow, mut wide) = (f32::MAX, 0.0f32);
        for r in &colon.radius {
            narrow = narrow.min(*r);
            wide = wide.max(*r);
        }
        assert!(narrow > 7.0, "{narrow}");
        assert!(narrow < 17.0 && wide > 24.0, "no folds: {narrow} to {wide}");
        for v in &colon.vertices {
            assert!((length(v.normal) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn wall_points_lie_on_the_drawn_surface() {
        let colon = Colon::new(2, 120.0);
        let p = colon.wall_at(10.0 * STEP, 56.0 / AROUND as f32);
        let v = colon.vertices[10 * COLUMNS + 56].at;
        assert!(length(sub(p, v)) < 1e-2, "{p:?} {v:?}");
    }
}
