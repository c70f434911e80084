//! Pillow's bicubic resize of one-channel pictures, bit for bit: a map flows in, the same at another size flows out.
//!
//! Published predictions are brought to the ground truth's size with `Image.resize` of a grey picture: a separable
//! cubic convolution (a = −0.5) whose support widens when shrinking, in 22-bit fixed point, rounded to 8 bits after
//! each of its two passes, rows first: Pillow's order when the published figures were made. (Pillow 13 takes the
//! columns first for some strong reductions of the height, which moves single pixels by a few levels.)

/// Fixed-point fraction of the 8-bit filter.
const FRACTION: u32 = 22;

/// Keys' cubic convolution with a = −0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Per output pixel: the first input pixel and the weights from there on.
fn filters(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    (0..to)
        .map(|out| {
            let centre = (out as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).min(from as i64) as usize;
            let mut taps: Vec<f64> =
                (first..end).map(|i| cubic((i as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = taps.iter().sum();
            if sum != 0.0 {
                taps.iter_mut().for_each(|t| *t /= sum);
            }
            (first, taps)
        })
        .collect()
}

/// An 8-bit map at another size, exactly as Pillow makes it.
pub fn bicubic_levels(
    pixels: &[u8],
    width: usize,
    height: usize,
    to_width: usize,
    to_height: usize,
) -> Vec<u8> {
    let fixed = |filters: Vec<(usize, Vec<f64>)>| -> Vec<(usize, Vec<i32>)> {
        let one = f64::from(1u32 << FRACTION);
        let round = |t: f64| if t < 0.0 { (t * one - 0.5) as i32 } else { (t * one + 0.5) as i32 };
        filters.into_iter().map(|(first, taps)| (first, taps.into_iter().map(round).collect())).collect()
    };
    separable(
        pixels,
        (width, height),
        (to_width, to_height),
        |from, to| fixed(filters(from, to)),
        |taps: &[i32], values| {
            let sum: i32 = taps.iter().zip(values).map(|(&t, v)| t * i32::from(v)).sum();
            ((sum + (1 << (FRACTION - 1))) >> FRACTION).clamp(0, 255) as u8
        },
    )
}

/// A map of probabilities at another size; the filter's overshoot is cut at 0 and 1.
pub fn bicubic_probability(
    pixels: &[f32],
    width: usize,
    height: usize,
    to_width: usize,
    to_height: usize,
) -> Vec<f32> {
    separable(pixels, (width, height), (to_width, to_height), filters, |taps: &[f64], values| {
        let sum: f64 = taps.iter().zip(values).map(|(&t, v)| t * f64::from(v)).sum();
        (sum as f32).clamp(0.0, 1.0)
    })
}

/// Rows, then columns; an axis that keeps its length is left as it is.
fn separable<V: Copy + Default, T>(
    pixels: &[V],
    (width, height): (usize, usize),
    (to_width, to_height): (usize, usize),
    filters: impl Fn(usize, usize) -> Vec<(usize, Vec<T>)>,
    combine: impl Fn(&[T], &mut dyn Iterator<Item = V>) -> V,
) -> Vec<V> {
    let mut current = pixels.to_vec();
    if to_width != width {
        let filters = filters(width, to_width);
        let mut out = Vec::with_capacity(to_width * height);
        for row in current.chunks_exact(width) {
            out.extend(filters.iter().map(|(first, taps)| combine(taps, &mut row[*first..].iter().copied())));
        }
        current = out;
    }
    if to_height != height {
        let mut out = Vec::with_capacity(to_width * to_height);
        for (first, taps) in filters(height, to_height) {
            for x in 0..to_width {
                let column = current[first * to_width + x..].iter().step_by(to_width).copied();
                out.push(combine(&taps, &mut { column }));
            }
        }
        current = out;
    }
    current
}
