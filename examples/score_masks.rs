//! Scores a predicted map against a mask: `cargo run --release --example score_masks -- prediction.png mask.png`.
//!
//! In: two grey pictures of any size. Out: the figures of the field, as `polypscope eval` computes them for folders.
//! Needs neither GStreamer nor OpenCV (`--no-default-features`).

use std::io::Write;

use polypscope::evaluation::metrics::{Mask, Prediction, Protocol, Scorer, SetAccumulator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(prediction), Some(mask)) = (arguments.next(), arguments.next()) else {
        return Err("usage: score_masks PREDICTION MASK".into());
    };
    let grey = |path: std::ffi::OsString| image::open(path).map(|p| p.to_luma8());
    let (prediction, mask) = (grey(prediction)?, grey(mask)?);

    let size = |p: &image::GrayImage| (p.width() as usize, p.height() as usize);
    let (width, height) = size(&mask);
    // What is brighter than half of the brightest level is polyp, which forgives the noise of a lossy file.
    let truth = Mask::from_levels(width, height, mask.as_raw())?;
    let (width, height) = size(&prediction);
    let prediction = Prediction::from_levels(width, height, prediction.into_raw())?;

    // One threshold for all; `Protocol::Published` follows the published code, with its soft Dice.
    let mut scorer = Scorer::new(Protocol::Thresholded { threshold: 0.5 })?;
    let figures = scorer.score(&prediction, &truth)?;
    // Of many pairs, `SetAccumulator` takes the figures that are defined over the set, such as max F.
    let mut set = SetAccumulator::default();
    set.add(&figures);

    let mut out = std::io::stdout();
    writeln!(
        out,
        "Dice {:.3}  IoU {:.3}  S {:.3}  E {:.3}",
        figures.dice, figures.iou, figures.sm, figures.em
    )?;
    writeln!(out, "MAE {:.3}  max F {:.3}", figures.mae, set.figures().max_f.unwrap_or(f64::NAN))?;
    Ok(())
}
