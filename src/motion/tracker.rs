//! How the picture moved from each frame to the next.
//!
//! In: frames in order. Out: for a place on an earlier frame, where it lies on the newest.

use super::Affine;
use super::flow::Flow;
use super::small::{Grid, Reducer, WIDTH};
use crate::frame::{FrameId, Picture, Rect};

/// Steps remembered: half a second at 60 frames a second.
const STEPS: usize = 32;

/// Points of a polyp's neighbourhood whose ways are followed, each way.
const POINTS: usize = 9;

/// A step whose flow leaves this share of the grey levels' spread unexplained is a cut, or blur beyond use.
const UNEXPLAINED: f64 = 0.6;

/// The flow from one frame to the next.
struct Step {
    to: FrameId,
    /// Small pixels, x and y, in row order.
    flow: Vec<[f32; 2]>,
    sure: bool,
}

/// See the module. One thread, the video path's, uses it.
pub struct Tracker {
    /// Pixels of the small image, either way.
    widest: u32,
    reducer: Reducer,
    grid: Option<Grid>,
    previous: Vec<u8>,
    newest: Vec<u8>,
    last: Option<FrameId>,
    steps: Vec<Step>,
    next: usize,
    /// Made for the grid's size; another grid gets another.
    search: Option<Flow>,
    points: Vec<[f64; 4]>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

impl Tracker {
    /// With small images of the usual size, 120 pixels either way at most.
    pub fn new() -> Self {
        Self::with_width(WIDTH)
    }

    /// With small images of at most so many pixels either way: half as many cost a quarter and see less.
    pub fn with_width(widest: u32) -> Self {
        Self {
            widest,
            reducer: Reducer::default(),
            grid: None,
            previous: Vec::new(),
            newest: Vec::new(),
            last: None,
            steps: Vec::with_capacity(STEPS),
            next: 0,
            search: None,
            points: Vec::with_capacity(POINTS * POINTS),
        }
    }

    /// Forgets everything: another stream begins.
    pub fn restart(&mut self) {
        self.grid = None;
        self.last = None;
        self.search = None;
        for step in &mut self.steps {
            step.sure = false;
        }
    }

    /// Looks at the next frame; `view` is the part of it that moves.
    pub fn observe(&mut self, id: FrameId, picture: &Picture, view: Rect) {
        let view = view.intersect(&Rect::full(picture.info.width, picture.info.height));
        let grid = Grid::of(view, self.widest);
        if grid != self.grid {
            self.restart();
            self.grid = grid;
        }
        let Some(grid) = grid else { return };
        if self.search.is_none() {
            self.search = Flow::new(grid.width, grid.height);
        }
        std::mem::swap(&mut self.previous, &mut self.newest);
        self.reducer.run(picture, &grid, &mut self.newest);
        self.last = Some(id);
        let slot = self.slot();
        let Some(flow) = self.search.as_mut().and_then(|s| s.next(&self.newest)) else { return };
        let step = &mut self.steps[slot];
        step.to = id;
        step.sure = explains(&self.previous, &self.newest, flow, &grid);
        step.flow.clear();
        step.flow.extend_from_slice(flow);
    }

    /// The place of the oldest step, made where there is none yet.
    fn slot(&mut self) -> usize {
        if self.steps.len() < STEPS {
            self.steps.push(Step { to: FrameId(0), flow: Vec::new(), sure: false });
            return self.steps.len() - 1;
        }
        self.next = (self.next + 1) % STEPS;
        self.next
    }

    fn step(&self, to: FrameId) -> Option<&Step> {
        self.steps.iter().find(|s| s.sure && s.to == to)
    }

    /// Where a rectangle of frame `from` lies on the newest frame; `None` if the way there is not known: too long ago,
    /// a cut, a stream that changed.
    pub fn motion(&mut self, from: FrameId, around: Rect) -> Option<Affine> {
        let grid = self.grid?;
        let newest = self.last?;
        if from > newest || newest.0 - from.0 >= STEPS as u64 {
            return None;
        }
        if from == newest {
            return Some(Affine::IDENTITY);
        }
        let block = f64::from(grid.block);
        let small = |v: f64, origin: u32| (v - f64::from(origin)) / block - 0.5;
        let large = |v: f64, origin: u32| (v + 0.5) * block + f64::from(origin);
        // The rectangle and a little more, since its edge is what is seen.
        let margin = 0.15;
        let (x0, y0) = (f64::from(around.x), f64::from(around.y));
        let (w, h) = (f64::from(around.w), f64::from(around.h));
        self.points.clear();
        for i in 0..POINTS {
            for j in 0..POINTS {
                let at = |k: usize| -margin + (1.0 + 2.0 * margin) * k as f64 / (POINTS - 1) as f64;
                let (x, y) = (small(x0 + w * at(i), grid.view.x), small(y0 + h * at(j), grid.view.y));
                let inside =
                    x >= 0.0 && y >= 0.0 && x <= (grid.width - 1) as f64 && y <= (grid.height - 1) as f64;
                if inside {
                    self.points.push([x, y, x, y]);
                }
            }
        }
        for to in from.0 + 1..=newest.0 {
            let step = self.steps.iter().find(|s| s.sure && s.to == FrameId(to))?;
            for p in &mut self.points {
                let (dx, dy) = sample(&step.flow, &grid, p[2], p[3]);
                p[2] += dx;
                p[3] += dy;
            }
        }
        let (vx, vy) = (grid.view.x, grid.view.y);
        for p in &mut self.points {
            *p = [large(p[0], vx), large(p[1], vy), large(p[2], vx), large(p[3], vy)];
        }
        fit(&mut self.points)
    }

    /// The newest frame as a small grey picture: pixels in row order, width and height.
    pub fn newest(&self) -> Option<(&[u8], usize, usize)> {
        let grid = self.grid?;
        self.last.map(|_| (self.newest.as_slice(), grid.width, grid.height))
    }

    /// Whether the way from this frame to the newest is known.
    pub fn knows(&self, from: FrameId) -> bool {
        self.last.is_some_and(|newest| {
            from <= newest
                && newest.0 - from.0 < STEPS as u64
                && (from.0 + 1..=newest.0).all(|to| self.step(FrameId(to)).is_some())
        })
    }
}

/// Flow at a place between pixels; beyond the edge that of the edge.
fn sample(flow: &[[f32; 2]], grid: &Grid, x: f64, y: f64) -> (f64, f64) {
    let x = x.clamp(0.0, (grid.width - 1) as f64);
    let y = y.clamp(0.0, (grid.height - 1) as f64);
    let (xi, yi) = ((x as usize).min(grid.width - 2), (y as usize).min(grid.height - 2));
    let (fx, fy) = (x - xi as f64, y - yi as f64);
    let at = |x: usize, y: usize, k: usize| f64::from(flow.get(y * grid.width + x).map_or(0.0, |v| v[k]));
    let mix = |k: usize| {
        let top = at(xi, yi, k) * (1.0 - fx) + at(xi + 1, yi, k) * fx;
        let bottom = at(xi, yi + 1, k) * (1.0 - fx) + at(xi + 1, yi + 1, k) * fx;
        top * (1.0 - fy) + bottom * fy
    };
    (mix(0), mix(1))
}

/// Whether moving the old image along the flow makes it like the new one. The light changes from frame to frame, so
/// means are taken out; an image with nothing in it is explained by anything.
fn explains(from: &[u8], to: &[u8], flow: &[[f32; 2]], grid: &Grid) -> bool {
    let (mut n, mut sum, mut square) = (0.0, 0.0, 0.0);
    let (mut values, mut value_squares) = (0.0, 0.0);
    for y in (2..grid.height - 2).step_by(3) {
        for x in (2..grid.width - 2).step_by(3) {
            let i = y * grid.width + x;
            let Some(v) = flow.get(i) else { return false };
            let (tx, ty) = (x as f32 + v[0], y as f32 + v[1]);
            if !(tx >= 0.0 && ty >= 0.0 && tx < grid.width as f32 - 1.0 && ty < grid.height as f32 - 1.0) {
                continue;
            }
            let j = (ty + 0.5) as usize * grid.width + (tx + 0.5) as usize;
            let (Some(a), Some(b)) = (from.get(i), to.get(j)) else { continue };
            let (a, d) = (f64::from(*a), f64::from(*b) - f64::from(*a));
            n += 1.0;
            sum += d;
            square += d * d;
            values += a;
            value_squares += a * a;
        }
    }

    if n < 50.0 {
        return false;
    }
    let spread = |s: f64, q: f64| (q / n - (s / n) * (s / n)).max(0.0).sqrt();
    spread(sum, square) <= UNEXPLAINED * spread(values, value_squares) + 4.0
}

/// Least squares over pairs of points, those that fit badly left out in a second round.
fn fit(points: &mut Vec<[f64; 4]>) -> Option<Affine> {
    let first = solve(points)?;
    let residual = |a: &Affine, p: &[f64; 4]| {
        let (x, y) = a.apply(p[0], p[1]);
        (x - p[2]).hypot(y - p[3])
    };
    let mut sizes = [0.0f64; POINTS * POINTS];
    let n = points.len().min(sizes.len());
    for (s, p) in sizes.iter_mut().zip(points.iter()) {
        *s = residual(&first, p);
    }
    let sizes = &mut sizes[..n];
    sizes.sort_unstable_by(f64::total_cmp);
    let limit = (2.5 * sizes[n / 2]).max(0.5);
    points.retain(|p| residual(&first, p) <= limit);
    let a = solve(points)?;
    // A polyp does not double its size or turn over between two masks: such a map is a mistake.
    let [sx, bx, _, by, sy, _] = a.0;
    let area = sx * sy - bx * by;
    (0.4..2.5).contains(&area).then_some(a)
}

/// Plain least squares for an affine map.
fn solve(points: &[[f64; 4]]) -> Option<Affine> {
    let n = points.len() as f64;
    if points.len() < 6 {
        return None;
    }
    let mean = |k: usize| points.iter().map(|p| p[k]).sum::<f64>() / n;
    let (mx, my, mu, mv) = (mean(0), mean(1), mean(2), mean(3));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    let (mut xu, mut yu, mut xv, mut yv) = (0.0, 0.0, 0.0, 0.0);
    for p in points {
        let (x, y, u, v) = (p[0] - mx, p[1] - my, p[2] - mu, p[3] - mv);
        xx += x * x;
        xy += x * y;
        yy += y * y;
        xu += x * u;
        yu += y * u;
        xv += x * v;
        yv += y * v;
    }
    let det = xx * yy - xy * xy;
    if det <= 1e-9 * (xx + yy) * (xx + yy) {
        return None;
    }
    let (a, b) = ((xu * yy - yu * xy) / det, (yu * xx - xu * xy) / det);
    let (d, e) = ((xv * yy - yv * xy) / det, (yv * xx - xv * xy) / det);
    Some(Affine([a, b, mu - a * mx - b * my, d, e, mv - d * mx - e * my]))
}
