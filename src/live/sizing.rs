//! Which input size the network gets, so that a slow machine still meets the annotation delay.
//!
//! In: a checkpoint, the engine's options, the source's period and the delay aimed at. Out: the size, why, in words,
//! and the network itself, which has just been built to be measured. The network is trained at one size but
//! convolutional throughout: smaller inputs cost accuracy on small polyps and save time in proportion to their pixels.

use std::time::Instant;

use crate::engine::{self, Network, Options, Route};
use crate::frame::{Nanos, Picture, PictureInfo, PixelFormat, Rect};
use crate::model::Checkpoint;
use crate::model::checkpoint::Description;
use crate::{Error, Result};

/// Square sizes in order of preference. Training saw 264 to 440 pixels; below 224 small polyps are lost, which is said.
const SIDES: [usize; 7] = [352, 320, 288, 256, 224, 192, 160];

/// Frames measured; the first is not counted, it touches the memory.
const FRAMES: usize = 4;

/// The live picture, its decoding and the motion estimate take part of the processor from the network; so much longer a
/// frame takes beside them than alone.
const BESIDE: f64 = 1.2;

/// The picture that engines which take pictures are measured with.
const MEASURED: (u32, u32) = (1920, 1080);

/// A choice and its reason.
pub struct Sizing {
    /// Built for that size: the first worker may have it.
    pub network: Box<dyn Network>,
    /// (height, width) of the network's input.
    pub size: (usize, usize),
    pub words: String,
}

/// The longest a frame of the network may take alone, so that its mask is on screen within `budget`: a frame waits up
/// to a period for the worker only where the worker does not choose; its mask waits up to a period for the next frame.
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
        let (network, alone) = measure(checkpoint, options)?;
        let words = format!("{}x{} as asked, {:.1} ms alone", size.1, size.0, ms(alone.0 as f64));
        return Ok(Sizing { network, size, words });
    }
    let mut last: Option<Sizing> = None;
    let mut skip_above = f64::INFINITY;
    for side in SIDES {
        if (side * side) as f64 > skip_above && side != SIDES[SIDES.len() - 1] {
            continue;
        }
        // The one that was too slow gives its memory back first.
        drop(last.take());
        let (mut network, alone) = measure(checkpoint, Options { size: Some((side, side)), ..options })?;
        // A GPU's engine computes in f16 whatever the processor would take.
        let format = match network.route() {
            Route::Pictures(_) => "f16",
            Route::Planes => options.precision.on_this_cpu(checkpoint).name(),
        };
        let spent = alone.0 as f64;
        let words = format!(
            "{side}x{side}: {:.1} ms alone, up to {:.1} ms meets the annotation delay of {:.0} ms{}",
            ms(spent),
            ms(limit),
            ms(budget.0 as f64),
            given_up(checkpoint.description(), side, format)
        );
        let fits = spent <= limit;
        last = Some(Sizing { network, size: (side, side), words });
        if fits {
            break;
        }
        // Time goes with the pixels: sizes that cannot fit are not built. A tenth of doubt is given.
        skip_above = (side * side) as f64 * limit / spent * 1.1;
    }
    last.ok_or_else(|| Error::internal("there is no input size to choose from"))
}

/// What a smaller input costs, where the checkpoint says so; a warning where it is too small.
fn given_up(description: &Description, side: usize, precision: &str) -> String {
    let mut words = String::new();
    let own = description.input_size[0];
    if side < own
        && let (Some(here), Some(there)) =
            (description.dice_at(side, precision), description.dice_at(own, precision))
    {
        words = format!("; mean Dice {here:.3} on the checkpoint's test pictures, {there:.3} at {own}x{own}");
    }
    if side < 224 {
        words += "; this machine is slow, small polyps are likely missed";
    }
    words
}

/// The network, and the median time of a frame by the route it will be used by.
fn measure(checkpoint: &Checkpoint, options: Options) -> Result<(Box<dyn Network>, Nanos)> {
    let mut network = engine::open(checkpoint, options)?;
    let alone = time(network.as_mut())?;
    Ok((network, alone))
}

fn time(network: &mut dyn Network) -> Result<Nanos> {
    let shape = network.shape();
    let mut logits = vec![0.0; shape.logits_len()];
    let mut spans = Vec::with_capacity(FRAMES);
    let mut frame = |run: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let start = Instant::now();
        run()?;
        spans.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    };
    let noise = |i: usize| (i * 7919) % 255;
    if matches!(network.route(), Route::Pictures(_)) {
        let (width, height) = MEASURED;
        let info = PictureInfo::new(PixelFormat::Rgb, width, height);
        let bytes: Vec<u8> = (0..3 * width as usize * height as usize).map(|i| noise(i) as u8).collect();
        let picture =
            Picture::packed(info, &bytes).ok_or_else(|| Error::internal("a picture is too short"))?;
        let mut inside = vec![0; width as usize * height as usize];
        for _ in 0..FRAMES {
            if let Route::Pictures(network) = network.route() {
                let view = Rect::full(width, height);
                frame(&mut || network.run_picture(&picture, view, 0.0, &mut logits, &mut inside).map(drop))?;
            }
        }
    } else {
        let input: Vec<f32> = (0..shape.input_len()).map(|i| noise(i) as f32 / 128.0 - 1.0).collect();
        for _ in 0..FRAMES {
            frame(&mut || network.run(&input, &mut logits))?;
        }
    }
    let spans = &mut spans[1..];
    spans.sort_unstable();
    Ok(Nanos(spans[spans.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that takes pictures is measured with pictures, and no planes are made for it.
    #[test]
    fn the_route_that_is_used_is_the_one_measured() {
        struct OfPictures(usize);
        impl Network for OfPictures {
            fn shape(&self) -> engine::Shape {
                engine::Shape { height: 32, width: 32, classes: 1 }
            }
            fn run(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
                Err(Error::internal("planes"))
            }
            fn describe(&self) -> String {
                String::new()
            }
            fn route(&mut self) -> Route<'_> {
                Route::Pictures(self)
            }
        }
        impl engine::Pictures for OfPictures {
            fn run_picture(
                &mut self,
                picture: &Picture,
                view: Rect,
                _: f32,
                logits: &mut [f32],
                inside: &mut [u8],
            ) -> Result<crate::frame::Found> {
                assert_eq!((picture.info.width, logits.len()), (MEASURED.0, 1024));
                assert_eq!(inside.len() as u64, view.area());
                self.0 += 1;
                Ok(crate::frame::Found { area: 0, top: 0.0, extent: Default::default() })
            }
        }
        let mut network = OfPictures(0);
        time(&mut network).unwrap();
        assert_eq!(network.0, FRAMES);
    }

    #[test]
    fn what_a_smaller_input_costs_is_said_where_it_was_measured() {
        use crate::model::checkpoint::Figures;
        use crate::model::{Architecture, Variant};
        let mut d = Description::published("d", Architecture { variant: Variant::M2SNet, classes: 1 });
        assert_eq!(given_up(&d, 256, "f32"), "");
        let figures = |m_dice| Figures { count: 9, m_dice, m_iou: 0.5 };
        for (side, f32, i8) in [(352, 0.8386, 0.8388), (160, 0.7518, 0.7539)] {
            let measured = [("f32", f32), ("i8", i8)].map(|(p, v)| (p.to_owned(), figures(v)));
            d.by_input_size.insert(side, measured.into());
        }
        let said = given_up(&d, 160, "i8");
        assert!(
            said.contains("0.754") && said.contains("0.839 at 352x352") && said.contains("slow"),
            "{said}"
        );
        assert!(given_up(&d, 160, "f16").contains("0.752"), "what was not measured is as f32 is");
        assert_eq!(given_up(&d, 352, "i8"), "");
        // Other scales, other integers: only what they do not touch is still true.
        let other = d.with_activations([("level1".to_owned(), 3.0)].into());
        assert_eq!((other.dice_at(160, "f32"), other.dice_at(160, "i8")), (Some(0.7518), Some(0.7518)));
        assert_eq!(other.activations.len(), 1);
    }

    #[test]
    fn what_is_left_of_the_budget_shrinks_with_the_period() {
        let budget = crate::worker::ANNOTATION_BUDGET;
        let at = |fps: f64| longest(budget, Nanos((1e9 / fps) as u64)) / 1e6;
        assert!((at(30.0) - 58.3).abs() < 0.1);
        assert!((at(60.0) - 79.2).abs() < 0.1);
        assert_eq!(longest(Nanos(1), Nanos(2)), 0.0);
    }
}
