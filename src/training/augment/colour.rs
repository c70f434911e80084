//! Colours of other processors and lamps: white balance, gamma, contrast, saturation.

use super::super::random::Random;
use super::canvas::Canvas;

pub fn processor(canvas: &mut Canvas, random: &mut Random) {
    if !random.chance(0.9) {
        return;
    }
    let light = random.between(0.7, 1.3) as f32;
    let contrast = random.between(0.7, 1.3) as f32;
    let saturation = random.between(0.6, 1.4) as f32;
    let balance: [f32; 3] = std::array::from_fn(|_| random.between(0.9, 1.1) as f32);
    let gamma = random.between(0.8, 1.25) as f32;
    // A dark place shows the lamp's fall-off more.
    let vignette = if random.chance(0.2) { random.between(0.0, 0.5) as f32 } else { 0.0 };
    let mean = canvas.rgb.iter().flatten().sum::<f32>() / (3 * canvas.rgb.len()).max(1) as f32;
    let (w, h) = (canvas.w as f32, canvas.h as f32);
    for (i, pixel) in canvas.rgb.iter_mut().enumerate() {
        let (x, y) = ((i % canvas.w) as f32 / w - 0.5, (i / canvas.w) as f32 / h - 0.5);
        let shade = 1.0 - vignette * 2.0 * (x * x + y * y);
        let grey = (pixel[0] + pixel[1] + pixel[2]) / 3.0;
        for (v, gain) in pixel.iter_mut().zip(balance) {
            let coloured = grey + (*v - grey) * saturation;
            let contrasted = mean + (coloured - mean) * contrast;
            *v = (contrasted * light * gain * shade).clamp(0.0, 1.0).powf(gamma);
        }
    }
}
