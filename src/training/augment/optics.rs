//! What a moving, badly focused, noisy camera does.

use super::super::random::Random;
use super::canvas::Canvas;

/// Out of focus, or moved while the shutter was open.
pub fn blur(canvas: &mut Canvas, random: &mut Random) {
    if random.chance(0.2) {
        let radius = random.between(0.4, 1.8) * canvas.side() / 352.0;
        gaussian(canvas, radius.max(0.2) as f32);
    } else if random.chance(0.15) {
        let length = random.between(3.0, 14.0) * canvas.side() / 352.0;
        let angle = random.between(0.0, std::f64::consts::PI);
        smear(canvas, length, angle);
    }
}

fn gaussian(canvas: &mut Canvas, sigma: f32) {
    let reach = (3.0 * sigma).ceil() as isize;
    let mut weights: Vec<f32> = (-reach..=reach).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);
    let (w, h) = (canvas.w as isize, canvas.h as isize);
    for (dx, dy) in [(1, 0), (0, 1)] {
        let before = canvas.rgb.clone();
        for y in 0..h {
            for x in 0..w {
                let mut sum = [0f32; 3];
                for (weight, i) in weights.iter().zip(-reach..=reach) {
                    let at = (y + i * dy).clamp(0, h - 1) * w + (x + i * dx).clamp(0, w - 1);
                    sum.iter_mut().zip(before[at as usize]).for_each(|(s, v)| *s += weight * v);
                }
                canvas.rgb[(y * w + x) as usize] = sum;
            }
        }
    }
}

fn smear(canvas: &mut Canvas, length: f64, angle: f64) {
    let steps = (length.ceil() as usize).max(2);
    let before = canvas.rgb.clone();
    let (w, h) = (canvas.w as f64, canvas.h as f64);
    let share = 1.0 / steps as f32;
    for y in 0..canvas.h {
        for x in 0..canvas.w {
            let mut sum = [0f32; 3];
            for i in 0..steps {
                let t = (i as f64 / (steps - 1) as f64 - 0.5) * length;
                let sx = (x as f64 + t * angle.cos()).round().clamp(0.0, w - 1.0) as usize;
                let sy = (y as f64 + t * angle.sin()).round().clamp(0.0, h - 1.0) as usize;
                sum.iter_mut().zip(before[sy * canvas.w + sx]).for_each(|(s, v)| *s += share * v);
            }
            canvas.rgb[y * canvas.w + x] = sum;
        }
    }
}

/// Grain, stronger where it is dark.
pub fn noise(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.5) {
        return;
    }
    let strength = random.between(0.0, 0.03) as f32;
    for pixel in &mut canvas.rgb {
        for v in pixel {
            *v += strength * (1.2 - *v) * random.normal() as f32;
        }
    }
}
