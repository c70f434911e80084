//! Automatic exposure: the frame's vertices go in, how far the light must be turned up comes out.
//!
//! Processors keep the mean brightness of the picture; so does this, from a quick drawing of every fourth vertex in a
//! picture of 96 columns, so that it depends on the scene alone and not on the frames before.

use super::processor::Field;
use super::raster::{DISTANCE, NORMAL, NOTHING, OPENNESS, Projected, Span, Surface, Triangle, fill};
use super::shade::irradiance;

/// The low-resolution look at a frame by which the exposure is set.
pub(crate) struct Gauge {
    width: usize,
    spans: Vec<Span>,
    vertices: Vec<Projected>,
    triangles: Vec<Triangle>,
    pixels: Vec<Surface>,
    samples: Vec<f32>,
}

impl Gauge {
    /// Columns of the gauge's own small picture.
    const WIDTH: usize = 96;

    pub fn new(width: usize, height: usize) -> Self {
        let h = (Self::WIDTH * height / width).clamp(4, 4 * Self::WIDTH);
        let spans = vec![(0, Self::WIDTH as u32); h];
        Self {
            width: Self::WIDTH,
            pixels: vec![NOTHING; h * Self::WIDTH],
            samples: Vec::with_capacity(h * Self::WIDTH),
            vertices: Vec::with_capacity(16384),
            triangles: Vec::with_capacity(16384),
            spans,
        }
    }

    pub fn clear(&mut self) {
        self.vertices.clear();
        self.triangles.clear();
    }

    /// Takes every `stride`-th vertex of a grid (its last row and column always).
    pub fn offer_grid(
        &mut self,
        projected: &[Projected],
        base: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) {
        let start = self.vertices.len() as u32;
        let (r, c) = ((rows - 1).div_ceil(stride), (columns - 1).div_ceil(stride));
        for i in 0..=r {
            for j in 0..=c {
                let k = base + (i * stride).min(rows - 1) * columns + (j * stride).min(columns - 1);
                self.vertices.push(projected[k]);
            }
        }
        let step = c as u32 + 1;
        for i in 0..r as u32 {
            for j in 0..c as u32 {
                let k = start + i * step + j;
                self.triangles.push(Triangle { corners: [k, k + 1, k + step], material: 0.0 });
                self.triangles.push(Triangle { corners: [k + 1, k + step + 1, k + step], material: 0.0 });
            }
        }
    }

    /// Exposure at which the field of view is as bright as processors make it.
    pub fn exposure(&mut self, field: &Field) -> f32 {
        let rows = self.spans.len();
        let full = field.spans.len();
        // The gauge's pixels are squares as many frame pixels wide as fit the visible part.
        let pixel = ((field.right - field.left) as f32 / self.width as f32).max(full as f32 / rows as f32);
        let (left, inverse) = (field.left as f32, 1.0 / pixel);
        for v in &mut self.vertices {
            v.x = (v.x - left) * inverse;
            v.y *= inverse;
        }
        let vertices = &self.vertices;
        self.triangles.retain(|t| {
            let [a, b, c] = t.corners.map(|k| &vertices[k as usize]);
            a.seen() && b.seen() && c.seen() && (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x) > 0.0
        });
        self.pixels.fill(NOTHING);
        fill(vertices, &self.triangles, &mut self.pixels, self.width, 0, &self.spans);
        self.samples.clear();
        for (k, s) in self.pixels.iter().enumerate() {
            let x = left + ((k % self.width) as f32 + 0.5) * pixel;
            let y = ((k / self.width) as f32 + 0.5) * pixel;
            if !field.contains(x, y) {
                continue;
            }
            let d = field.lens.ray(x, y);
            let e = if s[DISTANCE].is_finite() {
                let cosine = -(s[NORMAL] * d[0] + s[NORMAL + 1] * d[1] + s[NORMAL + 2] * d[2]);
                irradiance(s[DISTANCE], cosine, s[OPENNESS])
            } else {
                0.0
            };
            self.samples.push(e * (0.3 + 0.7 * d[2].max(0.0)));
        }
        let n = self.samples.len().max(1) as f32;
        // Brightness grows with exposure: halve the interval (a factor of 2^20 wide) until it is known to a hundredth.
        let (mut low, mut high) = (4.0f32, 4.0e6f32);
        for _ in 0..11 {
            let middle = (low * high).sqrt();
            let mean = self.samples.iter().map(|e| (0.55 * e * middle).min(1.0).sqrt()).sum::<f32>() / n;
            if mean < 0.53 { low = middle } else { high = middle }
        }
        (low * high).sqrt()
    }
}
