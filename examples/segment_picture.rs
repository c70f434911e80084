//! Segments one picture: `cargo run --release --example segment_picture -- frame.png mask.png`.
//!
//! In: a picture file. Out: a black and white mask of its size. Needs neither GStreamer nor OpenCV
//! (`--no-default-features`).

use std::path::PathBuf;

use polypscope::engine::{self, Options};
use polypscope::frame::{Picture, PictureInfo, PixelFormat};
use polypscope::model::Checkpoint;
use polypscope::preprocess::FieldOfView;
use polypscope::segment::Probabilities;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: segment_picture PICTURE MASK".into());
    };
    // The checkpoint of the repository, or the one that POLYPSCOPE_WEIGHTS names.
    let checkpoint = Checkpoint::open(&Checkpoint::locate(None)?)?;
    let network = engine::open(&checkpoint, Options::default())?;
    // The whole picture; `FieldOfView::Auto` leaves out borders and text around the endoscope's image.
    let mut probabilities = Probabilities::new(network, checkpoint.description(), FieldOfView::Full);

    let picture = polypscope::still::load_rgb(&input)?;
    let (width, height) = picture.dimensions();
    let info = PictureInfo::new(PixelFormat::Rgb, width, height);
    let frame = Picture::packed(info, picture.as_raw()).ok_or("the picture is shorter than its size says")?;
    let map = probabilities.of(&frame)?;

    let threshold = checkpoint.description().threshold as f32;
    let mask: Vec<u8> = map.iter().map(|p| if *p >= threshold { 255 } else { 0 }).collect();
    image::GrayImage::from_raw(width, height, mask).ok_or("a mask of another size")?.save(&output)?;
    Ok(())
}
