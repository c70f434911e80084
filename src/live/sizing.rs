//! Which input size the network gets, so that a slow machine still meets the annotation delay.
//!
//! In: a checkpoint, the engine's options, the source's period and the delay aimed at. Out: the size, and why, in words.
//! The network is trained at one size but convolutional throughout: smaller inputs cost accuracy on small polyps and save
//! time in proportion to their pixels.

use std::time::Instant;

use crate::engine::{self, Options};
use crate::frame::Nanos;
use crate::model::Checkpoint;
use crate::{Error, Result};

/// Square sizes in order of preference. Training saw 264 to 440 pixels; below 224 small polyps are lost, which is said.
const SIDES: [usize; 7] = [352, 320, 288, 256, 224, 192, 160];

/// Frames measured; the first is not counted, it touches the memory.
const FRAMES: usize = 4;

/// The live picture, its decoding and the motion estimate take part of the processor from the network; so much longer a
/// frame takes beside them than alone.
const BESIDE: f64 = 1.2;

/// A choice and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    /// (height, width) of the network's input.
    pub size: (usize, usize),
    /// Median of a frame of the network at that size, alone on the machine.
    pub alone: Nanos,
    pub words: String,
}

/// The longest a frame of the network may take alone, so that its mask is on screen within `budget`: a frame waits up to a
/// period for the worker only where the worker does not choose; its mask waits up to a period for the next frame.
fn longest(budget: Nanos, period: Nanos) -> f64 {
    (budget.0 as f64 - 1.5 * period.0 as f64).max(0.0) / BESIDE
}

/// The longest a frame of the network may take beside the live picture.
pub fn beside(budget: Nanos, period: Nanos) -> Nanos {
    Nanos((longest(budget, period) * BESIDE) as u64)
}

/// The next smaller side; `None` for the smallest.
pub fn smaller(side: usize) -> Option<usize> {
    SIDES.into_iter().find(|s| *s < side)
}

/// Chooses the largest size that meets the budget, measured on this machine. A size the user gave is only measured.
///
/// # Errors
/// As [`engine::open`].
pub fn choose(checkpoint: &Checkpoint, options: Options, budget: Nanos, period: Nanos) -> Result<Sizing> {
    let limit = longest(budget, period);
    let ms = |ns: f64| ns / 1e6;
    if let Some(size) = options.size {
        let alone = measure(checkpoint, options)?;
        let words = format!("{}x{} as asked, {:.1} ms alone", size.1, size.0, ms(alone.0 as f64));
        return Ok(Sizing { size, alone, words });
    }
    let mut last = None;
    let mut skip_above = f64::INFINITY;
    for side in SIDES {
        if (side * side) as f64 > skip_above && side != SIDES[SIDES.len() - 1] {
            continue;
        }
        let alone = measure(checkpoint, Options { size: Some((side, side)), ..options })?;
        let spent = alone.0 as f64;
        let words = format!(
            "{side}x{side}: {:.1} ms alone, up to {:.1} ms meets the annotation delay of {:.0} ms{}",
            ms(spent),
            ms(limit),
            ms(budget.0 as f64),
            if side < 224 { "; this machine is slow, small polyps are likely missed" } else { "" }
        );
        let fits = spent <= limit;
        last = Some(Sizing { size: (side, side), alone, words });
        if fits {
            break;
        }
        // Time goes with the pixels: sizes that cannot fit are not built. A tenth of doubt is given.
        skip_above = (side * side) as f64 * limit / spent * 1.1;
    }
    last.ok_or_else(|| Error::internal("there is no input size to choose from"))
}

/// Median time of a frame.
fn measure(checkpoint: &Checkpoint, options: Options) -> Result<Nanos> {
    let mut network = engine::open(checkpoint, options)?;
    let shape = network.shape();
    let input: Vec<f32> = (0..shape.input_len()).map(|i| ((i * 7919) % 255) as f32 / 128.0 - 1.0).collect();
    let mut logits = vec![0.0; shape.logits_len()];
    let mut spans = Vec::with_capacity(FRAMES);
    for _ in 0..FRAMES {
        let start = Instant::now();
        network.run(&input, &mut logits)?;
        spans.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let spans = &mut spans[1..];
    spans.sort_unstable();
    Ok(Nanos(spans[spans.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_budget_shrinks_with_the_period() {
        let budget = Nanos(120_000_000);
        let at = |fps: f64| longest(budget, Nanos((1e9 / fps) as u64)) / 1e6;
        assert!((at(30.0) - 58.3).abs() < 0.1);
        assert!((at(60.0) - 79.2).abs() < 0.1);
        assert_eq!(longest(Nanos(1), Nanos(2)), 0.0);
    }
}
