//! What stands before the mucosa: specular highlights and bubbles of liquid.

use super::super::random::Random;
use super::canvas::Canvas;

/// White spots of the lamp on wet mucosa, small and long.
pub fn highlights(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.3) {
        return;
    }
    for _ in 0..1 + random.below(8) {
        let (x, y) = place(canvas, random);
        // The lamp is mirrored where it shines.
        let at = (y as usize).min(canvas.h - 1) * canvas.w + (x as usize).min(canvas.w - 1);
        if canvas.rgb[at].iter().sum::<f32>() < 0.3 {
            continue;
        }
        let radius = random.between(0.004, 0.025) * canvas.side();
        let length = random.between(1.0, 4.0);
        let angle = random.between(0.0, std::f64::consts::PI);
        let (sin, cos) = angle.sin_cos();
        around(canvas, (x, y), radius * length, |pixel, dx, dy| {
            let (along, across) = (dx * cos + dy * sin, dy * cos - dx * sin);
            let d = ((along / (radius * length)).powi(2) + (across / radius).powi(2)).sqrt();
            let share = ((1.15 - d) * 4.0).clamp(0.0, 1.0) as f32;
            pixel.iter_mut().for_each(|v| *v += share * (0.97 - *v).max(0.0));
        });
    }
}

/// Rings with a bright spot: bright rim, clear inside.
pub fn bubbles(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.12) {
        return;
    }
    for _ in 0..1 + random.below(10) {
        let centre = place(canvas, random);
        let radius = random.between(0.012, 0.06) * canvas.side();
        let strength = random.between(0.15, 0.45);
        let angle = random.between(0.0, std::f64::consts::TAU);
        around(canvas, centre, radius, |pixel, dx, dy| {
            let d = (dx * dx + dy * dy).sqrt() / radius;
            if d > 1.0 {
                return;
            }
            let rim = (1.0 - ((d - 0.9) / 0.1).powi(2)).max(0.0);
            let (sx, sy) = (dx / radius - 0.5 * angle.cos(), dy / radius - 0.5 * angle.sin());
            let spot = (1.0 - (sx * sx + sy * sy) * 60.0).max(0.0);
            let share = (strength * rim + spot).min(1.0) as f32;
            pixel.iter_mut().for_each(|v| *v += share * (1.0 - *v));
        });
    }
}

fn place(canvas: &Canvas, random: &mut Random) -> (f64, f64) {
    (random.between(0.0, canvas.w as f64), random.between(0.0, canvas.h as f64))
}

/// Calls `paint` for the pixels within `reach` (a square), with their distance from the centre.
fn around(
    canvas: &mut Canvas,
    (cx, cy): (f64, f64),
    reach: f64,
    mut paint: impl FnMut(&mut [f32; 3], f64, f64),
) {
    let range = |c: f64, n: usize| {
        let from = (c - 1.2 * reach - 1.0).clamp(0.0, n as f64) as usize;
        from..((c + 1.2 * reach + 2.0).clamp(0.0, n as f64) as usize).max(from)
    };
    for y in range(cy, canvas.h) {
        for x in range(cx, canvas.w) {
            let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
            paint(&mut canvas.rgb[y * canvas.w + x], dx, dy);
        }
    }
}
