use image::RgbImage;

use super::*;
use crate::model::checkpoint::Resize;

fn sample() -> Sample {
    let picture = RgbImage::from_fn(90, 70, |x, y| image::Rgb([(2 * x) as u8, (3 * y) as u8, 120]));
    let labels =
        (0..90 * 70).map(|i| u8::from(i % 90 > 30 && i % 90 < 60 && i / 90 > 20 && i / 90 < 50)).collect();
    Sample { picture, labels, notes: vec![] }
}

/// What is not augmented is what the network sees in use.
#[test]
fn an_unchanged_view_is_the_networks_input() {
    use crate::frame::{Picture, PictureInfo, PixelFormat};
    let sample = sample();
    for resize in [Resize::AntialiasedBilinear, Resize::PlainBilinear] {
        let mut description = Description::published("x", crate::model::Architecture::default());
        description.resize = resize;
        let view = Augmentation { strength: Strength::None, phantoms: None, filter: resize.into() };
        let input = view.view(&sample, (64, 96), &mut Random::new(1));
        let mut planes = vec![0f32; 3 * 64 * 96];
        input.planes(&description, &mut planes);
        let policy = crate::preprocess::FieldOfView::Full;
        let mut used = crate::preprocess::Preprocessor::new(&description, 64, 96, policy);
        let picture =
            Picture::packed(PictureInfo::new(PixelFormat::Rgb, 90, 70), sample.picture.as_raw()).unwrap();
        let mut want = vec![0f32; planes.len()];
        used.run(&picture, &mut want).unwrap();
        assert!(planes.iter().chain(&want).all(|v| v.is_finite()));
        let worst = planes.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-5, "{resize:?}: {worst}");
        let inside = input.labels.iter().filter(|l| **l == 1).count() as f64 / input.labels.len() as f64;
        assert!((inside - 29.0 * 29.0 / 6300.0).abs() < 0.01, "{inside}");
    }
}

#[test]
fn views_repeat_differ_and_stay_in_range() {
    let sample = sample();
    let all = Augmentation { strength: Strength::Full, phantoms: None, filter: Filter::Antialiased };
    let view = |n| all.view(&sample, (64, 64), &mut Random::of(3, &[n]));
    let mut lit = 0;
    for n in 0..60 {
        let input = view(n);
        assert_eq!(input, view(n));
        assert_eq!((input.rgb.len(), input.labels.len()), (3 * 64 * 64, 64 * 64));
        lit += usize::from(input.labels.contains(&1));
    }
    assert_ne!(view(0), view(1));
    assert!(lit > 40, "the polyp shows in most views, in {lit} of 60");
}

/// Labels move with the picture: a disc stays where its colour is.
#[test]
fn labels_go_where_their_pixels_go() {
    let disc = |x: u32, y: u32| (f64::from(x) - 60.0).hypot(f64::from(y) - 40.0) < 18.0;
    let picture = RgbImage::from_fn(100, 100, |x, y| image::Rgb([if disc(x, y) { 255 } else { 60 }; 3]));
    let labels = (0..10_000).map(|i| u8::from(disc(i % 100, i / 100))).collect();
    let sample = Sample { picture, labels, notes: vec![] };
    for n in 0..20 {
        for strength in [Strength::Published, Strength::Full] {
            let canvas =
                geometry::view(&sample, Filter::Antialiased, (80, 80), strength, &mut Random::of(n, &[5]));
            let wrong =
                canvas.rgb.iter().zip(&canvas.labels).filter(|(p, l)| (p[0] > 0.62) != (**l == 1)).count();
            assert!(wrong < 130, "{n}: {wrong} pixels of {strength:?}");
        }
    }
}

#[test]
fn phantom_polyps_are_pasted_with_their_labels() {
    let phantoms = Phantoms::render(3, 1).unwrap();
    assert!(!phantoms.is_empty());
    let picture = RgbImage::from_pixel(96, 96, image::Rgb([200, 120, 100]));
    let healthy = Sample { picture, labels: vec![0; 96 * 96], notes: vec![] };
    let mut canvas = geometry::reduced(&healthy, Filter::Antialiased, (96, 96));
    phantoms.paste(&mut canvas, &mut Random::new(4));
    let inside: Vec<usize> = (0..canvas.labels.len()).filter(|i| canvas.labels[*i] == 1).collect();
    assert!(inside.len() > 50, "{}", inside.len());
    assert!(inside.iter().any(|i| canvas.rgb[*i] != [200.0 / 255.0, 120.0 / 255.0, 100.0 / 255.0]));
}
