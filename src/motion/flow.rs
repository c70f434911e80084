//! Dense optical flow between successive small grey images.
//!
//! In: grey images in order, all of the size this object was made for. Out: for every pixel of the image before, how
//! far it moved, in small pixels.
//!
//! The method is dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016): from
//! the coarsest image of a pyramid to the finest, square patches of the older image are searched in the newer one by
//! gradient descent (Baker and Matthews, "Lucas-Kanade 20 Years On", 2004: the inverse compositional form), beginning
//! where the coarser image or a neighbouring patch says; a pixel's flow is the mean over its patches, weighted by how
//! well each fits.
//!
//! It is our own and safe Rust, because it runs on the thread of the picture: OpenCV's implementation reads memory of a
//! former size when it is given images of another size (opencv#20185), which ends the process. An object here is made
//! for one size and refuses every other.

/// Side of a patch, in pixels of its level.
const PATCH: usize = 8;
/// From one patch to the next, both ways.
const STRIDE: usize = 4;
/// Gradient steps of a patch at most.
const DESCENT: usize = 12;
/// Pixels by which an image is continued beyond its edge: so far a patch may leave it.
const BORDER: usize = 16;
/// The coarsest level keeps at least so many pixels the shorter way: fewer hold no pattern.
const SHORTEST: usize = 18;
/// Pixels of a patch.
const AREA: f32 = (PATCH * PATCH) as f32;
/// Determinant of a patch's structure tensor, for gradients in grey levels a pixel, below which the patch shows no
/// pattern that could be found again.
const FLAT: f32 = 1.0;
/// Squared difference a pixel, in grey levels, up to which a patch counts as found exactly.
const NOISE: f32 = 1.0;
/// A step shorter than this many pixels ends the descent.
const SETTLED: f32 = 0.02;

/// An image with its edge pixels repeated beyond it.
#[derive(Clone, Debug)]
struct Plane {
    width: usize,
    height: usize,
    pitch: usize,
    pixels: Vec<f32>,
}

impl Plane {
    fn new(width: usize, height: usize) -> Self {
        let pitch = width + 2 * BORDER;
        Self { width, height, pitch, pixels: vec![0.0; pitch * (height + 2 * BORDER)] }
    }

    fn start(&self, y: usize) -> usize {
        (y + BORDER) * self.pitch + BORDER
    }

    fn row(&self, y: usize) -> &[f32] {
        &self.pixels[self.start(y)..][..self.width]
    }

    fn row_mut(&mut self, y: usize) -> &mut [f32] {
        let start = self.start(y);
        &mut self.pixels[start..][..self.width]
    }

    /// Repeats the edges.
    fn extend(&mut self) {
        let (width, height, pitch) = (self.width, self.height, self.pitch);
        for y in 0..height {
            let row = &mut self.pixels[(y + BORDER) * pitch..][..pitch];
            let (first, last) = (row[BORDER], row[BORDER + width - 1]);
            row[..BORDER].fill(first);
            row[BORDER + width..].fill(last);
        }
        for y in 0..BORDER {
            self.pixels.copy_within(BORDER * pitch..(BORDER + 1) * pitch, y * pitch);
            let last = (BORDER + height - 1) * pitch;
            self.pixels.copy_within(last..last + pitch, (BORDER + height + y) * pitch);
        }
    }

    /// The patch at a place between pixels; beyond the border that at the border.
    fn patch(&self, x: f32, y: f32) -> Patch {
        let limit = |v: f32, length: usize| {
            v.clamp(-(BORDER as f32) + 1.0, (length + BORDER - PATCH - 2) as f32) + BORDER as f32
        };
        let (x, y) = (limit(x, self.width), limit(y, self.height));
        let (xi, yi) = (x as usize, y as usize);
        let (fx, fy) = (x - xi as f32, y - yi as f32);
        let [a, b, c, d] = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        let mut out = [[0.0; PATCH]; PATCH];
        for (r, out) in out.iter_mut().enumerate() {
            let start = (yi + r) * self.pitch + xi;
            let above = &self.pixels[start..start + PATCH + 1];
            let below = &self.pixels[start + self.pitch..][..PATCH + 1];
            for k in 0..PATCH {
                out[k] = a * above[k] + b * above[k + 1] + c * below[k] + d * below[k + 1];
            }
        }
        out
    }
}

type Patch = [[f32; PATCH]; PATCH];

/// What a patch of the older image is, for as long as it is searched.
struct Template {
    pixels: Patch,
    dx: Patch,
    dy: Patch,
    /// Sums of the gradients.
    sum: [f32; 2],
    /// Inverse of the structure tensor, means taken out: xx, xy, yy. `None` for a patch without a pattern.
    inverse: Option<[f32; 3]>,
}

/// Sums over a patch of a difference `d` to its template.
#[derive(Clone, Copy)]
struct Fit {
    d: f32,
    dd: f32,
    ddx: f32,
    ddy: f32,
}

impl Template {
    fn new(from: &Plane, x: usize, y: usize) -> Self {
        let mut pixels = [[0.0; PATCH]; PATCH];
        let (mut dx, mut dy) = (pixels, pixels);
        let [mut xs, mut ys, mut xx, mut xy, mut yy] = [[0.0f32; PATCH]; 5];
        for r in 0..PATCH {
            let start = from.start(y + r) + x;
            let row = &from.pixels[start - 1..start + PATCH + 1];
            let above = &from.pixels[start - from.pitch..][..PATCH];
            let below = &from.pixels[start + from.pitch..][..PATCH];
            for k in 0..PATCH {
                pixels[r][k] = row[k + 1];
                dx[r][k] = (row[k + 2] - row[k]) * 0.5;
                dy[r][k] = (below[k] - above[k]) * 0.5;
                xs[k] += dx[r][k];
                ys[k] += dy[r][k];
                xx[k] += dx[r][k] * dx[r][k];
                xy[k] += dx[r][k] * dy[r][k];
                yy[k] += dy[r][k] * dy[r][k];
            }
        }
        let total = |v: [f32; PATCH]| v.iter().sum::<f32>();
        let sum = [total(xs), total(ys)];
        let xx = total(xx) - sum[0] * sum[0] / AREA;
        let xy = total(xy) - sum[0] * sum[1] / AREA;
        let yy = total(yy) - sum[1] * sum[1] / AREA;
        let det = xx * yy - xy * xy;
        let inverse = (det > FLAT).then(|| [yy / det, -xy / det, xx / det]);
        Self { pixels, dx, dy, sum, inverse }
    }

    fn fit(&self, found: &Patch) -> Fit {
        let [mut d, mut dd, mut ddx, mut ddy] = [[0.0f32; PATCH]; 4];
        for r in 0..PATCH {
            for k in 0..PATCH {
                let v = found[r][k] - self.pixels[r][k];
                d[k] += v;
                dd[k] += v * v;
                ddx[k] += v * self.dx[r][k];
                ddy[k] += v * self.dy[r][k];
            }
        }
        let total = |v: [f32; PATCH]| v.iter().sum::<f32>();
        Fit { d: total(d), dd: total(dd), ddx: total(ddx), ddy: total(ddy) }
    }

    /// Squared differences at a place, the mean difference taken out: the light may change.
    fn cost(fit: &Fit) -> f32 {
        fit.dd - fit.d * fit.d / AREA
    }

    /// The step towards a better place.
    fn step(&self, fit: &Fit) -> [f32; 2] {
        let Some([xx, xy, yy]) = self.inverse else { return [0.0; 2] };
        let bx = fit.ddx - fit.d * self.sum[0] / AREA;
        let by = fit.ddy - fit.d * self.sum[1] / AREA;
        [-(xx * bx + xy * by), -(xy * bx + yy * by)]
    }
}

/// One size of the pyramid.
#[derive(Debug)]
struct Level {
    from: Plane,
    to: Plane,
    columns: usize,
    rows: usize,
    /// Flow of each patch, and its cost.
    patches: Vec<([f32; 2], f32)>,
    /// Flow of each pixel, in pixels of this level.
    dense: Vec<[f32; 2]>,
    weights: Vec<f32>,
}

impl Level {
    fn new(width: usize, height: usize) -> Self {
        let count = |length: usize| (length - PATCH).div_ceil(STRIDE) + 1;
        let (columns, rows) = (count(width), count(height));
        Self {
            from: Plane::new(width, height),
            to: Plane::new(width, height),
            columns,
            rows,
            patches: vec![([0.0; 2], 0.0); columns * rows],
            dense: vec![[0.0; 2]; width * height],
            weights: vec![0.0; width * height],
        }
    }

    /// Upper left pixel of a patch; the last ones lie at the edge, so that every pixel has a patch.
    fn origin(&self, column: usize, row: usize) -> (usize, usize) {
        ((column * STRIDE).min(self.from.width - PATCH), (row * STRIDE).min(self.from.height - PATCH))
    }

    /// Finds every patch again, beginning at the coarser level's flow.
    fn search(&mut self, coarser: Option<&Level>) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let (x, y) = self.origin(column, row);
                let flow = coarser.map_or([0.0; 2], |c| c.around(x + PATCH / 2, y + PATCH / 2));
                self.patches[row * self.columns + column] = (flow, f32::INFINITY);
            }
        }
        // There and back: what one patch has found helps those after it.
        let (columns, rows) = (self.columns, self.rows);
        for row in 0..rows {
            for column in 0..columns {
                let neighbours =
                    [column.checked_sub(1).map(|c| (c, row)), row.checked_sub(1).map(|r| (column, r))];
                self.refine(column, row, neighbours);
            }
        }
        for row in (0..rows).rev() {
            for column in (0..columns).rev() {
                let neighbours = [
                    (column + 1 < columns).then_some((column + 1, row)),
                    (row + 1 < rows).then_some((column, row + 1)),
                ];
                self.refine(column, row, neighbours);
            }
        }
    }

    /// Searches one patch, from where it or a neighbour is, whichever fits better. One that has been searched before is
    /// searched again only from a neighbour's place.
    fn refine(&mut self, column: usize, row: usize, neighbours: [Option<(usize, usize)>; 2]) {
        let (x, y) = self.origin(column, row);
        let template = Template::new(&self.from, x, y);
        let (x, y) = (x as f32, y as f32);
        let fit_at = |flow: [f32; 2]| template.fit(&self.to.patch(x + flow[0], y + flow[1]));
        let index = row * self.columns + column;
        let (mut flow, mut cost) = self.patches[index];
        let mut fit = None;
        if cost == f32::INFINITY {
            let here = fit_at(flow);
            cost = Template::cost(&here);
            fit = Some(here);
        }
        for (c, r) in neighbours.into_iter().flatten() {
            let other = self.patches[r * self.columns + c].0;
            if (other[0] - flow[0]).abs().max((other[1] - flow[1]).abs()) < SETTLED {
                continue;
            }
            let candidate = fit_at(other);
            let theirs = Template::cost(&candidate);
            if theirs < cost {
                (flow, cost, fit) = (other, theirs, Some(candidate));
            }
        }
        let Some(mut fit) = fit else { return };
        let begin = flow;
        for _ in 0..DESCENT {
            let [sx, sy] = template.step(&fit);
            let next = [flow[0] + sx, flow[1] + sy];
            // A patch that leaves its neighbourhood has found something else.
            let far = (next[0] - begin[0]).hypot(next[1] - begin[1]);
            if far.is_nan() || far > PATCH as f32 {
                break;
            }
            let there = fit_at(next);
            let after = Template::cost(&there);
            if after.is_nan() || after >= cost {
                break;
            }
            (flow, fit, cost) = (next, there, after);
            if sx.abs().max(sy.abs()) < SETTLED {
                break;
            }
        }
        self.patches[index] = (flow, cost);
    }

    /// Every pixel's flow from those of its patches.
    fn densify(&mut self) {
        self.dense.fill([0.0; 2]);
        self.weights.fill(0.0);
        let width = self.from.width;
        for row in 0..self.rows {
            for column in 0..self.columns {
                let (x, y) = self.origin(column, row);
                let (flow, cost) = self.patches[row * self.columns + column];
                // A patch that fits badly as a whole says little about any of its pixels. Measured on phantoms that
                // move fast, this is worth 0.01 to 0.016 of the moved masks' IoU.
                let trust = 1.0 / (cost / (AREA * NOISE)).max(1.0).sqrt();
                let found = self.to.patch(x as f32 + flow[0], y as f32 + flow[1]);
                let mut difference = [[0.0f32; PATCH]; PATCH];
                let mut sums = [0.0f32; PATCH];
                for r in 0..PATCH {
                    let from = &self.from.row(y + r)[x..x + PATCH];
                    for k in 0..PATCH {
                        difference[r][k] = found[r][k] - from[k];
                        sums[k] += difference[r][k];
                    }
                }
                let mean = sums.iter().sum::<f32>() / AREA;
                for r in 0..PATCH {
                    let at = (y + r) * width + x;
                    let weights = &mut self.weights[at..at + PATCH];
                    let dense = &mut self.dense[at..at + PATCH];
                    for k in 0..PATCH {
                        let w = trust / (difference[r][k] - mean).abs().max(1.0);
                        weights[k] += w;
                        dense[k][0] += w * flow[0];
                        dense[k][1] += w * flow[1];
                    }
                }
            }
        }
        for (v, w) in self.dense.iter_mut().zip(&self.weights) {
            v[0] /= w;
            v[1] /= w;
        }
    }

    /// This level's flow around a pixel of the next finer one, in that one's pixels.
    fn around(&self, x: usize, y: usize) -> [f32; 2] {
        let (x, y) = ((x / 2).min(self.from.width - 1), (y / 2).min(self.from.height - 1));
        self.dense[y * self.from.width + x].map(|v| 2.0 * v)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    width: usize,
    height: usize,
    /// Finest first.
    levels: Vec<Level>,
    /// Images seen.
    seen: u64,
}

impl Flow {
    /// For images of this size; `None` where they are too small to hold a patch at all.
    pub(super) fn new(width: usize, height: usize) -> Option<Self> {
        if width < PATCH || height < PATCH {
            return None;
        }
        let mut levels = vec![Level::new(width, height)];
        let (mut w, mut h) = (width / 2, height / 2);
        while w.min(h) >= SHORTEST {
            levels.push(Level::new(w, h));
            (w, h) = (w / 2, h / 2);
        }
        Some(Self { width, height, levels, seen: 0 })
    }

    /// Takes the next image (`width` · `height` bytes). The flow from the one before, `[dx, dy]` for each of its pixels
    /// in row order; `None` for the first image and for one of another size.
    pub(super) fn next(&mut self, image: &[u8]) -> Option<&[[f32; 2]]> {
        if image.len() != self.width * self.height {
            self.seen = 0;
            return None;
        }
        for level in &mut self.levels {
            std::mem::swap(&mut level.from, &mut level.to);
        }
        let finest = &mut self.levels.first_mut()?.to;
        for (y, line) in image.chunks_exact(self.width).enumerate() {
            for (out, v) in finest.row_mut(y).iter_mut().zip(line) {
                *out = f32::from(*v);
            }
        }
        finest.extend();
        for k in 1..self.levels.len() {
            let (finer, coarser) = self.levels.split_at_mut(k);
            let (Some(finer), Some(coarser)) = (finer.last(), coarser.first_mut()) else { return None };
            halve(&finer.to, &mut coarser.to);
        }
        self.seen += 1;
        if self.seen < 2 {
            return None;
        }
        for k in (0..self.levels.len()).rev() {
            let (these, coarser) = self.levels.split_at_mut(k + 1);
            let level = these.last_mut()?;
            level.search(coarser.first());
            level.densify();
        }
        Some(&self.levels.first()?.dense)
    }
}

/// Means of two by two pixels.
fn halve(finer: &Plane, coarser: &mut Plane) {
    for y in 0..coarser.height {
        let start = finer.start(2 * y);
        let pitch = finer.pitch;
        let (above, below) = (start, start + pitch);
        let width = coarser.width;
        let out = coarser.row_mut(y);
        let above = &finer.pixels[above..above + 2 * width];
        let below = &finer.pixels[below..below + 2 * width];
        for (o, (a, b)) in out.iter_mut().zip(above.chunks_exact(2).zip(below.chunks_exact(2))) {
            *o = 0.25 * (a[0] + a[1] + b[0] + b[1]);
        }
    }
    coarser.extend();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motion::Affine;

    /// A smooth random pattern at a place: a sum of waves.
    fn pattern(x: f64, y: f64) -> f64 {
        let waves = [
            (0.31, 0.12, 0.3),
            (-0.17, 0.26, 1.1),
            (0.08, -0.41, 2.0),
            (0.52, 0.33, 0.7),
            (-0.39, 0.47, 2.9),
        ];
        128.0 + waves.iter().map(|(u, v, p)| 22.0 * (u * x + v * y + p).sin()).sum::<f64>()
    }

    fn image(width: usize, height: usize, back: &Affine, light: f64) -> Vec<u8> {
        let mut out = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let (sx, sy) = back.apply(x as f64, y as f64);
                out.push((pattern(sx, sy) + light).clamp(0.0, 255.0) as u8);
            }
        }
        out
    }

    /// Mean distance between the flow found and the true one, in small pixels, away from the edge.
    fn error(width: usize, height: usize, way: &Affine, light: f64) -> f64 {
        let mut flow = Flow::new(width, height).unwrap();
        assert!(flow.next(&image(width, height, &Affine::IDENTITY, 0.0)).is_none());
        let found = flow.next(&image(width, height, &way.inverse().unwrap(), light)).unwrap();
        let (mut sum, mut n) = (0.0, 0.0);
        for y in 8..height - 8 {
            for x in 8..width - 8 {
                let (tx, ty) = way.apply(x as f64, y as f64);
                let v = found[y * width + x];
                sum += (f64::from(v[0]) - (tx - x as f64)).hypot(f64::from(v[1]) - (ty - y as f64));
                n += 1.0;
            }
        }
        sum / n
    }

    #[test]
    fn finds_shifts_turns_and_zooms_whatever_the_light() {
        let (c, s) = (0.04f64.cos(), 0.04f64.sin());
        let about = |a: [f64; 4], x: f64, y: f64| {
            Affine([a[0], a[1], x - a[0] * x - a[1] * y, a[2], a[3], y - a[2] * x - a[3] * y])
        };
        for (name, way) in [
            ("nothing", Affine::IDENTITY),
            ("part of a pixel", Affine([1.0, 0.0, 0.4, 0.0, 1.0, -0.7])),
            ("some pixels", Affine([1.0, 0.0, 5.0, 0.0, 1.0, -3.0])),
            ("a turn", about([c, -s, s, c], 60.0, 45.0)),
            ("a zoom", about([1.06, 0.0, 0.0, 1.06], 50.0, 40.0)),
        ] {
            for light in [0.0, 12.0] {
                let e = error(120, 90, &way, light);
                assert!(e < 0.15, "{name}, light {light}: off by {e:.3} pixels");
            }
        }
    }

    #[test]
    fn every_size_is_searched_and_any_other_refused() {
        let way = Affine([1.0, 0.0, 1.5, 0.0, 1.0, 1.0]);
        for (w, h) in [(32, 32), (32, 120), (33, 47), (64, 33), (80, 75), (119, 121), (120, 90), (320, 240)] {
            let e = error(w, h, &way, 0.0);
            assert!(e < 0.2, "{w}x{h}: off by {e:.3} pixels");
        }
        for (w, h) in [(8, 8), (9, 8), (17, 200)] {
            let mut flow = Flow::new(w, h).unwrap();
            let still = image(w, h, &Affine::IDENTITY, 0.0);
            flow.next(&still);
            assert!(flow.next(&still).unwrap().iter().flatten().all(|v| v.abs() < 1e-3));
        }
        assert!(Flow::new(7, 90).is_none() && Flow::new(90, 0).is_none());
        let mut flow = Flow::new(32, 32).unwrap();
        let small = vec![0; 32 * 32];
        flow.next(&small);
        assert!(flow.next(&[0; 31 * 32]).is_none() && flow.next(&[]).is_none());
        // The size before and after has no flow between it.
        assert!(flow.next(&small).is_none());
        assert!(flow.next(&small).is_some());
    }

    #[test]
    fn noise_and_flat_images_have_a_finite_flow() {
        let mut state = 7u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        let mut flow = Flow::new(61, 40).unwrap();
        for k in 0..12 {
            let image: Vec<u8> = match k % 4 {
                0 => vec![0; 61 * 40],
                1 => vec![255; 61 * 40],
                _ => (0..61 * 40).map(|_| noise()).collect(),
            };
            if let Some(found) = flow.next(&image) {
                assert!(found.iter().flatten().all(|v| v.is_finite() && v.abs() < 100.0));
            }
        }
    }
}
