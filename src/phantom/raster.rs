//! From triangles to pixels: projected vertices and triangles go in, for a band of rows the nearest surface of every
//! pixel comes out, with its normal, texture position and material.

use super::simd_dispatch::by_cpu;
use super::space::{Lens, Pose, Vec3};
use crate::phantom::colon::Vertex;

/// What is interpolated across a triangle and kept for a pixel, in this order: distance from the tip in mm, texel u, v,
/// normal in camera coordinates x, y, z, openness, and material + share of the object's own surface in [0, 1).
pub(crate) type Surface = [f32; 8];
pub(crate) const DISTANCE: usize = 0;
pub(crate) const TEXEL: usize = 1;
pub(crate) const NORMAL: usize = 3;
pub(crate) const OPENNESS: usize = 6;
pub(crate) const MATERIAL: usize = 7;

pub(crate) const NOTHING: Surface = [f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];

/// A vertex on the picture.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Projected {
    pub x: f32,
    pub y: f32,
    pub surface: Surface,
}

/// Marks a vertex the lens cannot see.
const UNSEEN: f32 = f32::INFINITY;

impl Projected {
    #[inline(always)]
    pub fn new(v: &Vertex, pose: &Pose, lens: &Lens) -> Self {
        let p: Vec3 = pose.camera_point(v.at);
        let n = pose.turn_in(v.normal);
        match lens.project(p) {
            Some(([x, y], r)) => Self {
                x,
                y,
                surface: [r, v.texel[0], v.texel[1], n[0], n[1], n[2], v.openness, v.own * 0.999],
            },
            None => Self { x: UNSEEN, y: UNSEEN, surface: NOTHING },
        }
    }

    #[inline(always)]
    pub fn seen(&self) -> bool {
        self.x < UNSEEN
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Triangle {
    pub corners: [u32; 3],
    pub material: f32,
}

/// Pixels of a row that show the picture: from the first to one past the last.
pub(crate) type Span = (u32, u32);

/// Triangles sorted by the bands of rows they touch.
pub(crate) struct Bands {
    pub rows: u32,
    lists: Vec<Vec<Triangle>>,
    height: f32,
    left: f32,
    right: f32,
}

impl Bands {
    /// Bands of `rows` rows over a picture of `height` rows whose visible columns lie between `left` and `right`.
    pub fn new(height: u32, rows: u32, left: u32, right: u32) -> Self {
        let count = height.div_ceil(rows) as usize;
        Self {
            rows,
            lists: (0..count).map(|_| Vec::with_capacity(8192)).collect(),
            height: height as f32,
            left: left as f32,
            right: right as f32,
        }
    }

    pub fn clear(&mut self) {
        self.lists.iter_mut().for_each(Vec::clear);
    }

    pub fn count(&self) -> usize {
        self.lists.len()
    }

    pub fn list(&self, band: usize) -> &[Triangle] {
        &self.lists[band]
    }

    /// Takes a triangle if it faces the lens, lies within the picture and covers the middle of some pixel's row.
    #[inline(always)]
    pub fn offer(&mut self, vertices: &[Projected], corners: [u32; 3], material: f32) {
        let [a, b, c] = corners.map(|k| &vertices[k as usize]);
        if !(a.seen() && b.seen() && c.seen()) {
            return;
        }
        let area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
        if area <= 0.0 {
            return;
        }
        let top = a.y.min(b.y).min(c.y);
        let bottom = a.y.max(b.y).max(c.y);
        if a.x.min(b.x).min(c.x) > self.right
            || a.x.max(b.x).max(c.x) < self.left
            || bottom < 0.5
            || top > self.height
        {
            return;
        }
        let first = (top - 0.5).ceil().max(0.0);
        let last = ((bottom - 0.5).ceil() - 1.0).min(self.height - 1.0);
        if first > last {
            return;
        }
        let (b0, b1) = (first as u32 / self.rows, last as u32 / self.rows);
        for band in b0..=b1 {
            self.lists[band as usize].push(Triangle { corners, material });
        }
    }
}

by_cpu! {
    /// Draws a band's triangles into `pixels` (`spans.len()` rows of `width`), of which only `spans` are touched.
    /// `first_row` is the band's first row. A pixel belongs to the triangle its middle lies in; shared edges leave
    /// neither gap nor overlap, for an edge is always followed from its upper end.
    pub(crate) fn fill(
        vertices: &[Projected],
        triangles: &[Triangle],
        pixels: &mut [Surface],
        width: usize,
        first_row: u32,
        spans: &[Span],
    ) {
        for t in triangles {
            let mut v = t.corners.map(|k| &vertices[k as usize]);
            if v[1].y < v[0].y {
                v.swap(0, 1);
            }
            if v[2].y < v[1].y {
                v.swap(1, 2);
                if v[1].y < v[0].y {
                    v.swap(0, 1);
                }
            }
            let [a, b, c] = v;
            let row0 = (a.y - 0.5).ceil().max(first_row as f32) as u32;
            let row1 = (c.y - 0.5).ceil().min((first_row as usize + spans.len()) as f32).max(0.0) as u32;
            if row0 >= row1 {
                continue;
            }
            let (x1, y1, x2, y2) = (b.x - a.x, b.y - a.y, c.x - a.x, c.y - a.y);
            let area = x1 * y2 - x2 * y1;
            if area == 0.0 {
                continue;
            }
            let inverse = 1.0 / area;
            let (fx1, fy1, fx2, fy2) = (x1 * inverse, y1 * inverse, x2 * inverse, y2 * inverse);
            let mut dx: Surface = [0.0; 8];
            let mut dy: Surface = [0.0; 8];
            for k in 0..8 {
                let d1 = b.surface[k] - a.surface[k];
                let d2 = c.surface[k] - a.surface[k];
                dx[k] = d1 * fy2 - d2 * fy1;
                dy[k] = d2 * fx1 - d1 * fx2;
            }
            let long = (c.x - a.x) / (c.y - a.y);
            let upper = (b.x - a.x) / (b.y - a.y);
            let lower = (c.x - b.x) / (c.y - b.y);
            for row in row0..row1 {
                let y = row as f32 + 0.5;
                let p = a.x + (y - a.y) * long;
                let q = if y < b.y { a.x + (y - a.y) * upper } else { b.x + (y - b.y) * lower };
                let line = (row - first_row) as usize;
                let (lo, hi) = spans[line];
                let x0 = (p.min(q) - 0.5).ceil().max(lo as f32) as usize;
                let x1 = (p.max(q) - 0.5).ceil().min(hi as f32).max(0.0) as usize;
                if x0 >= x1 {
                    continue;
                }
                let oy = y - a.y;
                let ox = x0 as f32 + 0.5 - a.x;
                let mut s: Surface = [0.0; 8];
                for k in 0..8 {
                    s[k] = a.surface[k] + dx[k] * ox + dy[k] * oy;
                }
                s[MATERIAL] += t.material;
                for pixel in &mut pixels[line * width + x0..line * width + x1] {
                    if s[DISTANCE] < pixel[DISTANCE] {
                        *pixel = s;
                    }
                    for k in 0..8 {
                        s[k] += dx[k];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corner(x: f32, y: f32, distance: f32) -> Projected {
        let mut surface = [0.0; 8];
        surface[DISTANCE] = distance;
        surface[TEXEL] = x;
        surface[TEXEL + 1] = y;
        Projected { x, y, surface }
    }

    /// A jittered grid of triangles covers every pixel exactly once and interpolates what is linear exactly.
    #[test]
    fn neighbours_leave_neither_gaps_nor_double_cover() {
        let s = crate::phantom::noise::Stream::new(4, "grid");
        let (n, w, h) = (12usize, 96usize, 64usize);
        let mut vertices = Vec::new();
        for i in 0..=n {
            for j in 0..=n {
                let k = (i * (n + 1) + j) as u64;
                let inner = |at: usize| if at == 0 || at == n { 0.0 } else { 3.0 };
                let x = j as f32 * w as f32 / n as f32 + inner(j) * (s.unit(2 * k) - 0.5);
                let y = i as f32 * h as f32 / n as f32 + inner(i) * (s.unit(2 * k + 1) - 0.5);
                vertices.push(corner(x, y, 5.0));
            }
        }
        let spans = vec![(0u32, w as u32); h];
        let mut counts = vec![0u32; w * h];
        for i in 0..n {
            for j in 0..n {
                let k = (i * (n + 1) + j) as u32;
                let m = n as u32 + 1;
                for corners in [[k, k + 1, k + m], [k + 1, k + m + 1, k + m]] {
                    let mut pixels = vec![NOTHING; w * h];
                    fill(&vertices, &[Triangle { corners, material: 3.0 }], &mut pixels, w, 0, &spans);
                    for (p, (count, s)) in counts.iter_mut().zip(&pixels).enumerate() {
                        if s[DISTANCE].is_finite() {
                            *count += 1;
                            let (x, y) = ((p % w) as f32 + 0.5, (p / w) as f32 + 0.5);
                            assert!((s[TEXEL] - x).abs() < 1e-2 && (s[TEXEL + 1] - y).abs() < 1e-2);
                            assert_eq!(s[MATERIAL], 3.0);
                        }
                    }
                }
            }
        }
        assert!(counts.iter().all(|c| *c == 1), "a pixel covered {:?} times", counts.iter().max());
    }

    #[test]
    fn the_nearest_surface_wins_and_bands_agree_with_the_whole() {
        let vertices = [
            corner(2.0, 1.0, 9.0),
            corner(60.0, 3.0, 9.0),
            corner(5.0, 40.0, 9.0),
            corner(1.0, 2.0, 4.0),
            corner(30.0, 20.0, 14.0),
            corner(3.0, 39.0, 14.0),
        ];
        let triangles =
            [Triangle { corners: [0, 1, 2], material: 1.0 }, Triangle { corners: [3, 4, 5], material: 2.0 }];
        let spans = vec![(0u32, 64u32); 48];
        let mut whole = vec![NOTHING; 64 * 48];
        fill(&vertices, &triangles, &mut whole, 64, 0, &spans);
        let mut bands = Bands::new(48, 16, 0, 64);
        for t in &triangles {
            bands.offer(&vertices, t.corners, t.material);
        }
        let mut pieces = Vec::new();
        for k in 0..bands.count() {
            let mut piece = vec![NOTHING; 64 * 16];
            fill(&vertices, bands.list(k), &mut piece, 64, k as u32 * 16, &spans[k * 16..][..16]);
            pieces.extend(piece);
        }
        assert_eq!(whole, pieces);
        // Each triangle alone, and of the two the nearer one at every pixel; in the other order, too.
        let alone = |t: &Triangle| {
            let mut pixels = vec![NOTHING; 64 * 48];
            fill(&vertices, std::slice::from_ref(t), &mut pixels, 64, 0, &spans);
            pixels
        };
        let (a, b) = (alone(&triangles[0]), alone(&triangles[1]));
        let nearer: Vec<_> =
            a.iter().zip(&b).map(|(a, b)| if a[DISTANCE] <= b[DISTANCE] { *a } else { *b }).collect();
        let both = |p: &(&Surface, &Surface)| p.0[DISTANCE].is_finite() && p.1[DISTANCE].is_finite();
        let (first, second) =
            a.iter().zip(&b).filter(both).fold((0, 0), |(f, s), (a, b)| {
                if a[DISTANCE] < b[DISTANCE] { (f + 1, s) } else { (f, s + 1) }
            });
        assert!(first > 20 && second > 20, "they cross: {first} and {second} pixels");
        assert_eq!(whole, nearer);
        let mut reversed = vec![NOTHING; 64 * 48];
        fill(&vertices, &[triangles[1], triangles[0]], &mut reversed, 64, 0, &spans);
        assert_eq!(reversed, nearer);
    }
}
