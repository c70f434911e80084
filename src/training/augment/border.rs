//! What processors draw around their picture: a black border, cut corners, lines of text. Nothing to find lies under
//! it.

use super::super::random::Random;
use super::canvas::Canvas;

pub fn frame(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.25) {
        return;
    }
    let (w, h) = (canvas.w as f64, canvas.h as f64);
    let mut side = |n: f64| if random.chance(0.7) { random.between(0.0, 0.2) * n } else { 0.0 };
    let (left, right, top, bottom) = (side(w), w - side(w), side(h), h - side(h));
    let corner = if random.chance(0.6) { random.between(0.05, 0.3) * canvas.side() } else { 0.0 };
    let round = random.chance(0.3);
    let black = random.between(0.0, 0.05) as f32;
    let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
    let radius = ((right - left).min(bottom - top)) / 2.0;
    let inside = |x: f64, y: f64| {
        if x < left || x > right || y < top || y > bottom {
            return false;
        }
        if round {
            return (x - middle.0).hypot(y - middle.1) < 1.25 * radius;
        }
        let dx = (left + corner - x).max(x - right + corner).max(0.0);
        let dy = (top + corner - y).max(y - bottom + corner).max(0.0);
        dx + dy < corner || corner == 0.0
    };
    let mut outside = vec![false; canvas.rgb.len()];
    for y in 0..canvas.h {
        for x in 0..canvas.w {
            if !inside(x as f64 + 0.5, y as f64 + 0.5) {
                let at = y * canvas.w + x;
                canvas.rgb[at] = [black; 3];
                canvas.labels[at] = 0;
                outside[at] = true;
            }
        }
    }
    if random.chance(0.7) {
        text(canvas, &outside, random);
    }
}

/// Lines of something like letters, only where it is black.
fn text(canvas: &mut Canvas, outside: &[bool], random: &mut Random) {
    let glyph = ((canvas.side() * random.between(0.02, 0.04)) as usize).max(3);
    let colour: [f32; 3] = std::array::from_fn(|_| random.between(0.5, 1.0) as f32);
    for _ in 0..1 + random.below(6) {
        let (x0, y0) = (random.below(canvas.w), random.below(canvas.h));
        let letters = 3 + random.below(9);
        for letter in 0..letters {
            let strokes = random.next();
            for dy in 0..glyph {
                for dx in 0..glyph * 2 / 3 {
                    // A letter is a grid of three by four cells, filled by chance.
                    let cell = (dy * 4 / glyph) * 3 + dx * 3 / (glyph * 2 / 3).max(1);
                    let (x, y) = (x0 + letter * glyph + dx, y0 + dy);
                    if x >= canvas.w || y >= canvas.h || strokes >> cell & 1 == 0 {
                        continue;
                    }
                    let at = y * canvas.w + x;
                    if outside[at] {
                        canvas.rgb[at] = colour;
                    }
                }
            }
        }
    }
}
