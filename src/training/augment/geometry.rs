//! Where a picture's pixels come from: flips, turns, scale, shape and shift, picture and labels alike.
//!
//! The picture is first reduced with the filter the network's input is made with in use, a little larger than wanted,
//! and then sampled between four neighbours; what lies beyond its edge is black, without label.

use super::super::data::read::Sample;
use super::super::random::Random;
use super::Strength;
use super::canvas::Canvas;
use crate::frame::resize::{Filter, Resampler};
use crate::frame::{Picture, PictureInfo, PixelFormat, Rect};

/// How much larger the sampled picture is than the input, so that turning and enlarging does not blur.
const LARGER: f64 = 1.25;

/// The picture turned, scaled and shifted by chance, as much as `strength` says, `h` rows by `w` columns.
pub fn view(
    sample: &Sample,
    filter: Filter,
    (h, w): (usize, usize),
    strength: Strength,
    random: &mut Random,
) -> Canvas {
    if strength == Strength::None {
        return reduced(sample, filter, (h, w));
    }
    let full = strength == Strength::Full;
    let mirror = random.chance(0.5);
    let upside_down = random.chance(0.5);
    // A colonoscope has no upright: any turn is as good.
    let angle = if full {
        random.between(-std::f64::consts::PI, std::f64::consts::PI)
    } else {
        random.between(-10.0, 10.0).to_radians()
    };
    let (scale, shape, shift) = if full {
        (
            random.between(0.6f64.ln(), 1.3f64.ln()).exp(),
            random.between(-0.2, 0.2).exp(),
            [random.between(-0.25, 0.25), random.between(-0.25, 0.25)],
        )
    } else {
        (1.0, 1.0, [0.0; 2])
    };
    let base_size = |n: usize| ((n as f64 * if full { LARGER } else { 1.0 }).round() as usize).max(1);
    let base = reduced(sample, filter, (base_size(h), base_size(w)));
    let flip = |yes: bool| if yes { -1.0 } else { 1.0 };
    // From the output's unit square about its middle to the base's.
    let (sin, cos) = angle.sin_cos();
    let map = [
        [cos * scale * shape * flip(mirror), -sin * scale / shape * flip(upside_down)],
        [sin * scale * shape * flip(mirror), cos * scale / shape * flip(upside_down)],
    ];
    // What is enlarged may be looked at elsewhere; what is whole stays in the middle.
    let room = (1.0 - scale).max(0.0) + 0.3;
    sampled(&base, (h, w), map, shift.map(|s| s * room))
}

/// The picture at a size, as the network's input is made (with `filter`), and its labels at the nearest pixel.
pub fn reduced(sample: &Sample, filter: Filter, (h, w): (usize, usize)) -> Canvas {
    let (pw, ph) = sample.picture.dimensions();
    let info = PictureInfo::new(PixelFormat::Rgb, pw, ph);
    let mut rgb = vec![0; 3 * w * h];
    if let Some(picture) = Picture::packed(info, sample.picture.as_raw()) {
        Resampler::new(filter).run(&picture, Rect::full(pw, ph), w, h, &mut rgb);
    }
    let (pw, ph) = (pw as usize, ph as usize);
    let labels = (0..h * w)
        .map(|i| {
            let (x, y) = (i % w, i / w);
            sample.labels[(2 * y + 1) * ph / (2 * h) * pw + (2 * x + 1) * pw / (2 * w)]
        })
        .collect();
    Canvas::from_bytes(&rgb, labels, w, h)
}

fn sampled(base: &Canvas, (h, w): (usize, usize), map: [[f64; 2]; 2], shift: [f64; 2]) -> Canvas {
    let mut rgb = Vec::with_capacity(w * h);
    let mut labels = Vec::with_capacity(w * h);
    for y in 0..h {
        let v = (y as f64 + 0.5) / h as f64 * 2.0 - 1.0;
        for x in 0..w {
            let u = (x as f64 + 0.5) / w as f64 * 2.0 - 1.0;
            let at = |row: [f64; 2], shift: f64, n: usize| {
                ((row[0] * u + row[1] * v + shift + 1.0) * 0.5) * n as f64 - 0.5
            };
            let (bx, by) = (at(map[0], shift[0], base.w), at(map[1], shift[1], base.h));
            let inside = bx > -0.5 && by > -0.5 && bx < base.w as f64 - 0.5 && by < base.h as f64 - 0.5;
            if inside {
                rgb.push(between(base, bx, by));
                labels.push(base.labels[by.round() as usize * base.w + bx.round() as usize]);
            } else {
                rgb.push([0.0; 3]);
                labels.push(0);
            }
        }
    }
    Canvas { w, h, rgb, labels }
}

/// Mixed from four neighbours.
fn between(base: &Canvas, x: f64, y: f64) -> [f32; 3] {
    let (x, y) = (x.clamp(0.0, base.w as f64 - 1.0), y.clamp(0.0, base.h as f64 - 1.0));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(base.w - 1), (y0 + 1).min(base.h - 1));
    let (tx, ty) = ((x - x0 as f64) as f32, (y - y0 as f64) as f32);
    let at = |x: usize, y: usize| base.rgb[y * base.w + x];
    std::array::from_fn(|c| {
        let top = at(x0, y0)[c] + tx * (at(x1, y0)[c] - at(x0, y0)[c]);
        let bottom = at(x0, y1)[c] + tx * (at(x1, y1)[c] - at(x0, y1)[c]);
        top + ty * (bottom - top)
    })
}
