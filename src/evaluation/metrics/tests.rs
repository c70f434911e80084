use std::path::Path;

use proptest::prelude::*;

use super::*;

/// The golden generator (FNV-1a and splitmix64): uniform in `[0, 1)`.
pub(crate) fn uniform(name: &str, n: usize) -> Vec<f64> {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in name.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    (1..=n as u64)
        .map(|i| {
            let mut z = h.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f64 / f64::from(1u32 << 24)
        })
        .collect()
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).expect(name)
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&data(name)).unwrap()
}

fn golden_pairs() -> Vec<(Prediction<'static>, Mask)> {
    let bytes = data("metrics.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    (0..10)
        .map(|i| {
            let read = |side: &str| {
                let t = tensors.tensor(&format!("{i:02}.{side}")).unwrap();
                (t.shape()[1], t.shape()[0], t.data().to_vec())
            };
            let (w, h, p) = read("pred");
            let (gw, gh, g) = read("gt");
            (Prediction::from_levels(w, h, p).unwrap(), Mask::from_levels(gw, gh, &g).unwrap())
        })
        .collect()
}

fn scorer(protocol: Protocol) -> Scorer {
    Scorer::new(protocol).unwrap()
}

fn by_name(f: &Figures) -> [(&'static str, f64); 9] {
    [
        ("mae", f.mae),
        ("avg_f", f.avg_f),
        ("sm", f.sm),
        ("em", f.em),
        ("wfm", f.wfm),
        ("m_dice", f.dice),
        ("m_iou", f.iou),
        ("ber", f.ber),
        ("acc", f.acc),
    ]
}

#[test]
fn published_reproduces_every_golden_pair() {
    let golden = json("metrics_pairs.json");
    let mut scorer = scorer(Protocol::Published);
    for (i, (p, g)) in golden_pairs().iter().enumerate() {
        for (key, ours) in by_name(&scorer.score(p, g).unwrap()) {
            let theirs = golden[i][key].as_f64().unwrap();
            assert!((ours - theirs).abs() < 1e-6, "pair {i} {key}: {ours} instead of {theirs}");
        }
    }
}

#[test]
fn published_reproduces_the_golden_set() {
    let golden = json("metrics.json");
    let mut scorer = scorer(Protocol::Published);
    let mut set = SetAccumulator::default();
    for (p, g) in golden_pairs() {
        set.add(&scorer.score(&p, &g).unwrap());
    }
    let ours = serde_json::to_value(set.figures()).unwrap();
    assert_eq!(golden.as_object().unwrap().len(), 10);
    for (key, theirs) in golden.as_object().unwrap() {
        let (ours, theirs) = (ours[key].as_f64().unwrap(), theirs.as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-6, "{key}: {ours} instead of {theirs}");
    }
}

#[test]
fn the_tie_rule_of_the_distance_moves_the_golden_figure() {
    // Guards the guard: were ties broken the other way, the golden test would notice.
    let (p, g) = &golden_pairs()[2];
    let flip = |mask: &Mask| {
        let pixels = mask.pixels().chunks(mask.width()).flat_map(|r| r.iter().rev().copied()).collect();
        Mask::from_binary(mask.width(), mask.height(), pixels).unwrap()
    };
    let Prediction::Levels { width, height, pixels } = p else { unreachable!() };
    let mirrored: Vec<u8> = pixels.chunks(*width).flat_map(|r| r.iter().rev().copied()).collect();
    let mirrored = Prediction::from_levels(*width, *height, mirrored).unwrap();
    let mut scorer = scorer(Protocol::Published);
    let (a, b) = (scorer.score(p, g).unwrap(), scorer.score(&mirrored, &flip(g)).unwrap());
    assert!((a.wfm - b.wfm).abs() > 1e-6, "{} and {}", a.wfm, b.wfm);
    assert!((a.mae - b.mae).abs() < 1e-12);
}

#[test]
fn bicubic_resize_is_pillows() {
    for case in json("pillow_bicubic.json").as_array().unwrap() {
        let size = |key: &str, i: usize| case[key][i].as_u64().unwrap() as usize;
        let (w, h, to_w, to_h) = (size("from", 0), size("from", 1), size("to", 0), size("to", 1));
        let name = case["name"].as_str().unwrap();
        let mut pixels: Vec<u8> = uniform(name, w * h).iter().map(|u| (u * 256.0) as u8).collect();
        if case["binary"].as_bool().unwrap() {
            pixels.iter_mut().for_each(|p| *p = if *p > 127 { 255 } else { 0 });
        }
        let theirs: Vec<u8> =
            case["pixels"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u8).collect();
        assert_eq!(resize::bicubic_levels(&pixels, w, h, to_w, to_h), theirs, "{name}");
        let p: Vec<f32> = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
        for (ours, theirs) in resize::bicubic_probability(&p, w, h, to_w, to_h).iter().zip(theirs) {
            assert!((ours * 255.0 - f32::from(theirs)).abs() < 1.6, "{name}");
        }
    }
}

#[test]
fn distances_of_a_small_mask_by_hand() {
    // Pixels at (x 1, y 0) and (x 3, y 0): x = 2 is as near to both and takes the smaller column.
    let mask = Mask::from_binary(5, 2, vec![0, 1, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    let columns: Vec<_> = distance::transform(&mask).iter().map(|n| (n.column, n.squared)).collect();
    assert_eq!(columns, [(1, 1), (1, 0), (1, 1), (3, 0), (3, 1), (1, 2), (1, 1), (1, 2), (3, 1), (3, 2)]);
    // In one column, above and below as near: the smaller row.
    let mask = Mask::from_binary(1, 3, vec![1, 0, 1]).unwrap();
    assert_eq!(distance::transform(&mask)[1], distance::Nearest { row: 0, column: 0, squared: 1 });
    let empty = Mask::from_binary(3, 3, vec![0; 9]).unwrap();
    assert!(distance::transform(&empty).is_empty());
}

/// A pair with hand-computed figures: 2x2, two pixels inside, probabilities 1, 0.4, 0.6, 0.
fn small() -> (Prediction<'static>, Mask) {
    let truth = Mask::from_binary(2, 2, vec![1, 1, 0, 0]).unwrap();
    (Prediction::from_levels(2, 2, vec![255u8, 102, 153, 0]).unwrap(), truth)
}

#[test]
fn figures_of_a_small_pair_by_hand() {
    let (p, g) = small();
    let close = |a: f64, b: f64, what: &str| assert!((a - b).abs() < 1e-4, "{what}: {a} instead of {b}");
    let f = scorer(Protocol::Thresholded { threshold: 0.5 }).score(&p, &g).unwrap();
    // Binary 1 0 / 1 0: one of each kind.
    assert_eq!((f.intersection_px, f.union_px, f.truth_px, f.predicted_px), (1, 3, 2, 2));
    close(f.dice, 0.5, "dice");
    close(f.iou, 1.0 / 3.0, "iou");
    close(f.mae, (0.6 + 0.6) / 4.0, "mae");
    close(f.ber, 0.5, "ber");
    close(f.acc, 0.5, "acc");
    close(f.avg_f, 0.5, "avg_f");
    // Half the pixels agree (a = 1, term 1), half disagree (a = -1, term 0): 2 over n - 1.
    close(f.em, 2.0 / 3.0, "em");

    let f = scorer(Protocol::Published).score(&p, &g).unwrap();
    close(f.dice, 2.0 * 1.4 / (2.0 + 2.0), "soft dice");
    // Twice the mean is 1: only the first pixel passes; precision 1, recall 1/2.
    close(f.avg_f, 1.3 * 0.5 / (0.3 + 0.5), "avg_f at the adaptive threshold");
}

#[test]
fn empty_and_full_ground_truth_follow_the_definitions() {
    let p = Prediction::from_levels(2, 2, vec![255u8, 0, 0, 0]).unwrap();
    let empty = Mask::from_binary(2, 2, vec![0; 4]).unwrap();
    let full = Mask::from_binary(2, 2, vec![1; 4]).unwrap();
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let e = scorer(protocol).score(&p, &empty).unwrap();
        assert!(e.ber.is_nan());
        assert_eq!((e.wfm, e.avg_f, e.sm), (0.0, 0.0, 0.75));
        assert_eq!(e.curve, Curve::zero());
        assert!((e.em - 1.0).abs() < 1e-6, "three of four agree, over n - 1: {}", e.em);
        let f = scorer(protocol).score(&p, &full).unwrap();
        assert!(f.ber.is_nan());
        assert_eq!(f.sm, 0.25);
        assert!((f.em - 1.0 / 3.0).abs() < 1e-6);
    }
    let t = Protocol::Thresholded { threshold: 0.5 };
    let nothing = Prediction::from_levels(2, 2, vec![0u8; 4]).unwrap();
    let both_empty = scorer(t).score(&nothing, &empty).unwrap();
    assert_eq!((both_empty.dice, both_empty.iou), (1.0, 1.0));
    let one_empty = scorer(t).score(&p, &empty).unwrap();
    assert_eq!((one_empty.dice, one_empty.iou), (0.0, 0.0));
    assert_eq!(scorer(t).score(&nothing, &full).unwrap().dice, 0.0);
}

#[test]
fn undefined_balanced_error_rates_are_counted_and_left_out_of_the_mean() {
    let mut scorer = scorer(Protocol::Thresholded { threshold: 0.5 });
    let mut set = SetAccumulator::default();
    assert_eq!(set.figures().m_dice, None);
    let (p, g) = small();
    set.add(&scorer.score(&p, &g).unwrap());
    set.add(&scorer.score(&p, &Mask::from_binary(2, 2, vec![0; 4]).unwrap()).unwrap());
    let figures = set.figures();
    assert_eq!((figures.count, set.count(), figures.ber_undefined), (2, 2, 1));
    assert!((figures.ber.unwrap() - 0.5).abs() < 1e-12);
    // Pooled: 1 pixel of 3, and none of the 2 predicted on the empty picture.
    assert!((figures.pooled_iou.unwrap() - 1.0 / 5.0).abs() < 1e-12);
}

#[test]
fn masks_are_cut_at_half_of_their_own_largest_level() {
    let cut = |v: &[u8]| Mask::from_levels(v.len(), 1, v).unwrap().pixels().to_vec();
    assert_eq!(cut(&[0, 1]), [0, 1]);
    assert_eq!(cut(&[0, 127, 128, 255]), [0, 0, 1, 1]);
    assert_eq!(cut(&[0, 100, 101, 200]), [0, 0, 1, 1]);
    assert_eq!(cut(&[0, 0]), [0, 0]);
    assert_eq!(Mask::from_levels(2, 1, &[20_000u16, 65_535]).unwrap().pixels(), [0, 1]);
}

#[test]
fn impossible_input_is_refused_in_words() {
    let said = |e: Error| e.to_string();
    assert!(said(Mask::from_binary(2, 2, vec![0; 3]).unwrap_err()).contains("3 pixels"));
    assert!(said(Prediction::from_levels(0, 4, Vec::new()).unwrap_err()).contains("0x4"));
    assert!(Mask::from_binary(32_768, 1, vec![0; 32_768]).is_err());
    for bad in [f32::NAN, -0.1, 1.01, f32::INFINITY] {
        let p = Prediction::from_probability(2, 1, vec![0.5, bad]).unwrap();
        let g = Mask::from_binary(2, 1, vec![1, 0]).unwrap();
        for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
            assert!(said(scorer(protocol).score(&p, &g).unwrap_err()).contains("pixel 1"), "{bad}");
        }
    }
    for bad in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(Scorer::new(Protocol::Thresholded { threshold: bad }).is_err());
    }
}

#[test]
fn another_size_is_scored_at_the_ground_truths() {
    let truth: Vec<u8> = (0..40 * 30).map(|i| u8::from(i % 40 > 15 && i / 40 > 12)).collect();
    let mask = Mask::from_binary(40, 30, truth).unwrap();
    let levels: Vec<u8> = uniform("another size", 20 * 17).iter().map(|u| (u * 256.0) as u8).collect();
    let p = Prediction::from_levels(20, 17, levels.clone()).unwrap();
    let fitted = Prediction::from_levels(40, 30, resize::bicubic_levels(&levels, 20, 17, 40, 30)).unwrap();
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let mut scorer = scorer(protocol);
        assert_eq!(scorer.score(&p, &mask).unwrap(), scorer.score(&fitted, &mask).unwrap());
    }
}

#[test]
fn the_sizes_and_thresholds_at_the_limits_are_taken() {
    for (w, h) in [(32_767, 1), (1, 32_767)] {
        assert_eq!(Mask::from_binary(w, h, vec![1; 32_767]).unwrap().area_px(), 32_767);
        assert!(Prediction::from_levels(w, h, vec![0u8; 32_767]).is_ok());
    }
    for (w, h) in [(32_768, 1), (1, 32_768)] {
        assert!(Prediction::from_levels(w, h, vec![0u8; 32_768]).is_err());
    }
    for (w, h) in [(0, 0), (0, 3), (3, 0)] {
        assert!(Mask::from_binary(w, h, Vec::new()).is_err(), "{w}x{h}");
    }
    assert!(Scorer::new(Protocol::Thresholded { threshold: 1.0 }).is_ok());
}

#[test]
fn a_mask_is_empty_without_a_pixel_inside() {
    for (pixels, empty) in [([0, 0, 0], true), ([0, 255, 0], false), ([1, 7, 255], false)] {
        let mask = Mask::from_binary(3, 1, pixels.to_vec()).unwrap();
        assert_eq!(mask.is_empty(), empty, "{pixels:?}");
        // Whatever says inside, it counts as one pixel.
        assert_eq!(mask.pixels(), pixels.map(|p| p.min(1)));
    }
}

#[test]
fn a_prediction_is_marked_from_the_threshold_on() {
    let levels = Prediction::from_levels(4, 1, vec![0u8, 50, 51, 255]).unwrap();
    // 51 / 255 is 0.2 exactly as the threshold is.
    assert_eq!(levels.binary(0.2), [0, 0, 1, 1]);
    let map = Prediction::from_probability(4, 1, vec![0.0, 0.499, 0.5, 1.0]).unwrap();
    assert_eq!(map.binary(0.5), [0, 0, 1, 1]);
    assert_eq!(map.to_levels().unwrap(), Prediction::from_levels(4, 1, vec![0u8, 127, 128, 255]).unwrap());
}

#[test]
fn logits_undo_the_sigmoid_and_stay_finite() {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
    let mut logits = vec![7.0; 9];
    let levels: Vec<u8> = (0..=255).collect();
    Prediction::from_levels(256, 1, levels.clone()).unwrap().logits(&mut logits);
    assert_eq!(logits.len(), 256);
    for (level, logit) in levels.iter().zip(&logits) {
        let p = (f64::from(*level) / 255.0).clamp(0.5 / 255.0, 254.5 / 255.0);
        assert!((sigmoid(*logit) - p).abs() < 1e-6, "{level}: {logit}");
    }
    let map = vec![0.0, 1e-9, 0.3, 0.5, 0.9, 1.0];
    Prediction::from_probability(6, 1, map.clone()).unwrap().logits(&mut logits);
    assert_eq!(logits.len(), 6);
    for (p, logit) in map.iter().zip(&logits) {
        let p = f64::from(*p).clamp(0.5 / 255.0, 254.5 / 255.0);
        assert!((sigmoid(*logit) - p).abs() < 1e-6, "{p}: {logit}");
    }
}

/// Thresholds are often round, and so are levels: what lies exactly on the threshold belongs to it, on both paths.
#[test]
fn a_level_on_the_threshold_is_marked() {
    let mask = Mask::from_binary(4, 1, vec![1, 1, 0, 0]).unwrap();
    let levels = [50, 51, 51, 0];
    let protocol = Protocol::Thresholded { threshold: 0.2 };
    let fast = scorer(protocol).score(&Prediction::from_levels(4, 1, &levels[..]).unwrap(), &mask).unwrap();
    assert_eq!((fast.predicted_px, fast.intersection_px), (2, 1));
    agree(&fast, &plain::figures_of_levels(protocol, &levels, &mask), false);
}

/// As NumPy rounds, which the published code does: half to even, plus one.
#[test]
fn the_cut_of_the_s_measure_rounds_half_to_even() {
    let cuts: Vec<_> = (1..=4).map(|n| centroid_cut(n, 2 * n + 3, 2)).collect();
    assert_eq!(cuts, [(1, 3), (2, 5), (3, 5), (3, 7)]);
}

#[test]
fn the_e_measure_of_one_pixel_is_large_and_positive() {
    // A sum over n divided by n - 1 + 1e-8.
    let one = Mask::from_binary(1, 1, vec![1]).unwrap();
    let p = Prediction::from_levels(1, 1, vec![255u8]).unwrap();
    let em = scorer(Protocol::Thresholded { threshold: 0.5 }).score(&p, &one).unwrap().em;
    assert!((em - 1e8).abs() < 1.0, "{em}");
}

/// Where the definitions add 1e-8 to what they divide by, a perfect figure stays just below 1.
#[test]
fn the_smallest_terms_keep_figures_below_one() {
    let mut inside = [0; 256];
    inside[255] = 1;
    let curve = Curve::from_levels(&inside, &[0; 256]);
    assert!(curve.precision.iter().all(|p| *p < 1.0 && *p > 1.0 - 1e-7));
    assert!(object_term(1.0, 0.0) < 1.0);
}

#[test]
fn a_set_without_pictures_has_no_figures() {
    let said = serde_json::to_value(SetAccumulator::default().figures()).unwrap();
    let (numbers, figures): (Vec<_>, Vec<_>) =
        said.as_object().unwrap().iter().partition(|(_, v)| v.is_u64());
    assert_eq!((numbers.len(), figures.len()), (2, 11));
    assert!(numbers.iter().all(|(_, v)| v.as_u64() == Some(0)) && figures.iter().all(|(_, v)| v.is_null()));
}

#[test]
fn protocols_have_the_names_that_outputs_carry() {
    let names = [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }].map(Protocol::name);
    assert_eq!(names, ["published", "thresholded"]);
}

/// Weighted F reads the weight of a distance from a table that ends; beyond it stands the last entry.
#[test]
fn errors_farther_away_than_the_table_weigh_as_by_the_formula() {
    let levels: Vec<u8> = uniform("far away", 1200).iter().map(|u| (u * 256.0) as u8).collect();
    for (w, h) in [(1200, 1), (1, 1200), (300, 4)] {
        for inside in [0, 1199] {
            let mut truth = vec![0; 1200];
            truth[inside] = 1;
            let mask = Mask::from_binary(w, h, truth).unwrap();
            let p = Prediction::from_levels(w, h, levels.clone()).unwrap();
            for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
                let wfm = scorer(protocol).score(&p, &mask).unwrap().wfm;
                let plain = plain::weighted_f(&plain::probabilities(protocol, &levels), &mask);
                // Its figures are small here: one pixel against the errors of a thousand.
                assert!((wfm - plain).abs() < 1e-9 * plain, "{w}x{h}, {inside}: {wfm} instead of {plain}");
            }
        }
    }
}

/// A scorer keeps its working memory from pair to pair: nothing of the last may be left in it, whatever its size.
#[test]
fn a_scorer_gives_what_a_new_one_gives() {
    let sizes = [(30, 20), (9, 14), (30, 20), (40, 3), (3, 40), (1, 1), (12, 12)];
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.4 }] {
        let mut kept = scorer(protocol);
        for (round, (w, h)) in sizes.into_iter().enumerate() {
            let u = uniform(&format!("round {round}"), w * h);
            // Not in every column, and once nowhere.
            let inside = |i: usize| round != 2 && i % w > w / 3 && u[i] < 0.4;
            let mask = Mask::from_binary(w, h, (0..w * h).map(|i| u8::from(inside(i))).collect()).unwrap();
            let levels: Vec<u8> = u.iter().rev().map(|u| (u * 256.0) as u8).collect();
            let map: Vec<f32> = u.iter().rev().map(|u| *u as f32).collect();
            let eight = Prediction::from_levels(w, h, levels).unwrap();
            let float = Prediction::from_probability(w, h, map).unwrap();
            for p in [eight, float] {
                let (got, want) =
                    (kept.score(&p, &mask).unwrap(), scorer(protocol).score(&p, &mask).unwrap());
                // As text, where NaN equals NaN.
                assert_eq!(format!("{got:?}"), format!("{want:?}"), "round {round}");
            }
        }
    }
}

/// A pair of random size with the shapes that matter: blobs, noise, constants, empty and full.
fn any_pair() -> impl Strategy<Value = (usize, usize, Vec<u8>, Vec<u8>)> {
    (1usize..28, 1usize..28, 0u8..5, 0u8..4, any::<u64>()).prop_map(|(w, h, shape, tone, seed)| {
        let u = uniform(&seed.to_string(), w * h + 8);
        let (cx, cy, r) = (u[0] * w as f64, u[1] * h as f64, 1.0 + u[2] * (w + h) as f64 / 4.0);
        let truth: Vec<u8> = (0..w * h)
            .map(|i| {
                let (x, y) = ((i % w) as f64, (i / w) as f64);
                u8::from(match shape {
                    0 => u[8 + i] < 0.05,
                    1 => u[8 + i] < 0.5,
                    2 | 3 => (x - cx).powi(2) + (y - cy).powi(2) < r * r,
                    _ => u[3] < 0.5,
                })
            })
            .collect();
        let levels = (0..w * h)
            .map(|i| match tone {
                0 => (u[8 + i] * 256.0) as u8,
                1 => (40.0 + u[8 + i] * 90.0) as u8,
                2 => (200.0 * f64::from(truth[i]) + u[8 + i] * 55.0) as u8,
                _ => (u[4] * 256.0) as u8,
            })
            .collect();
        (w, h, levels, truth)
    })
}

/// Twice the mean falls exactly on a level: which side of the threshold it is on depends on the order of summation.
fn adaptive_tie(levels: &[u8]) -> bool {
    let n = levels.len() as u64;
    let sum: u64 = levels.iter().map(|&v| u64::from(v)).sum();
    (2 * sum).is_multiple_of(n)
}

fn agree(fast: &Figures, plain: &Figures, tie: bool) {
    assert_eq!(
        (fast.intersection_px, fast.union_px, fast.truth_px, fast.predicted_px, fast.total_px),
        (plain.intersection_px, plain.union_px, plain.truth_px, plain.predicted_px, plain.total_px)
    );
    assert_eq!(fast.curve, plain.curve);
    for ((name, a), (_, b)) in by_name(fast).into_iter().zip(by_name(plain)) {
        if tie && matches!(name, "avg_f" | "em") {
            continue;
        }
        assert!((a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()), "{name}: fast {a}, plain {b}");
    }
}

proptest! {
    #[test]
    fn linear_distance_is_the_exhaustive_one((w, h, _, truth) in any_pair()) {
        let mask = Mask::from_binary(w, h, truth).unwrap();
        prop_assert_eq!(distance::transform(&mask), distance::plain(&mask));
    }

    #[test]
    fn the_fast_path_is_the_plain_one((w, h, levels, truth) in any_pair(), threshold in 0.01f64..=1.0) {
        let mask = Mask::from_binary(w, h, truth).unwrap();
        let p = Prediction::from_levels(w, h, levels.clone()).unwrap();
        for protocol in [Protocol::Published, Protocol::Thresholded { threshold }] {
            let fast = scorer(protocol).score(&p, &mask).unwrap();
            agree(&fast, &plain::figures_of_levels(protocol, &levels, &mask), adaptive_tie(&levels));
        }
    }

    #[test]
    fn floating_point_maps_score_as_the_same_levels((w, h, levels, truth) in any_pair(), threshold in 0.01f64..=1.0) {
        let mask = Mask::from_binary(w, h, truth).unwrap();
        let eight = Prediction::from_levels(w, h, levels.clone()).unwrap();
        let float: Vec<f32> = levels.iter().map(|&v| f32::from(v) / 255.0).collect();
        let float = Prediction::from_probability(w, h, float).unwrap();
        let published = (scorer(Protocol::Published).score(&eight, &mask).unwrap(),
                         scorer(Protocol::Published).score(&float, &mask).unwrap());
        prop_assert_eq!(format!("{:?}", published.0), format!("{:?}", published.1));
        // Keep the threshold off the levels, where single precision may fall on either side.
        let threshold = ((threshold * 255.0).floor() + 0.5) / 255.0;
        prop_assume!(threshold <= 1.0);
        let protocol = Protocol::Thresholded { threshold };
        let (a, b) = (scorer(protocol).score(&eight, &mask).unwrap(), scorer(protocol).score(&float, &mask).unwrap());
        for ((name, a), (_, b)) in by_name(&a).into_iter().zip(by_name(&b)) {
            prop_assert!((a - b).abs() < 1e-5 || (a.is_nan() && b.is_nan()), "{}: {} and {}", name, a, b);
        }
    }

    #[test]
    fn figures_stay_within_their_bounds((w, h, levels, truth) in any_pair()) {
        let mask = Mask::from_binary(w, h, truth).unwrap();
        let p = Prediction::from_levels(w, h, levels).unwrap();
        for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
            let f = scorer(protocol).score(&p, &mask).unwrap();
            for (name, v) in by_name(&f) {
                let (lo, hi) = match name {
                    // Covariance over N − 1 against variances over N.
                    "sm" => (-1.0, 2.0),
                    // A sum over n divided by n − 1, and by 1e-8 for a single pixel.
                    "em" => (0.0, if w * h > 1 { (w * h) as f64 / (w * h - 1) as f64 } else { 2e8 }),
                    _ => (0.0, 1.0),
                };
                prop_assert!(v.is_nan() && name == "ber" || v >= lo - 1e-9 && v <= hi + 1e-6, "{}: {}", name, v);
            }
            let max_f = f.curve.max_f();
            prop_assert!((0.0..=1.0).contains(&max_f));
        }
    }

    #[test]
    fn a_perfect_prediction_has_the_ideal_figures((w, h, _, truth) in any_pair()) {
        let mask = Mask::from_binary(w, h, truth.clone()).unwrap();
        prop_assume!(mask.area_px() > 0 && (mask.area_px() as usize) < w * h);
        let p = Prediction::from_levels(w, h, truth.iter().map(|&g| g * 255).collect::<Vec<u8>>()).unwrap();
        let n = (w * h) as f64;
        for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
            let f = scorer(protocol).score(&p, &mask).unwrap();
            prop_assert_eq!((f.mae, f.ber, f.acc), (0.0, 0.0, 1.0));
            for (name, v) in [("dice", f.dice), ("iou", f.iou), ("wfm", f.wfm), ("max_f", f.curve.max_f())] {
                prop_assert!((v - 1.0).abs() < 1e-5, "{}: {}", name, v);
            }
            // The 1e-8 of the region term costs something where a quarter holds a pixel or two.
            let sizeable = mask.area_px() as f64 > n / 4.0;
            prop_assert!(f.sm > if sizeable { 0.98 } else { 0.5 }, "{}", f.sm);
            // Every term is 1, but the adaptive threshold is at most 1, and p reaches it. The 1e-8 of the alignment
            // costs something where one pixel makes the means: deviations are 1/n there.
            prop_assert!((f.em - n / (n - 1.0)).abs() < 1e-6 + 1e-8 * n * n, "{}", f.em);
            prop_assert!((f.avg_f - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn stretching_the_levels_changes_nothing_published((w, h, levels, truth) in any_pair(), offset in 0u8..100) {
        let mask = Mask::from_binary(w, h, truth).unwrap();
        let narrow: Vec<u8> = levels.iter().map(|v| v / 4).collect();
        prop_assume!(narrow.iter().any(|v| *v != narrow[0]));
        let shifted: Vec<u8> = narrow.iter().map(|v| v + offset).collect();
        let doubled: Vec<u8> = narrow.iter().map(|v| v * 2).collect();
        let mut scorer = scorer(Protocol::Published);
        let mut score = |v: Vec<u8>| by_name(&scorer.score(&Prediction::from_levels(w, h, v).unwrap(), &mask).unwrap());
        let first = score(narrow);
        for other in [score(shifted), score(doubled)] {
            for ((name, a), (_, b)) in first.iter().zip(other) {
                prop_assert!((a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()), "{}: {} and {}", name, a, b);
            }
        }
    }

    #[test]
    fn turning_both_upside_down_keeps_what_no_rounding_touches((w, h, levels, truth) in any_pair()) {
        // Not S (the centroid is rounded plus one) and not weighted F (the tie rule has a direction).
        let turn = |v: &[u8]| v.iter().rev().copied().collect::<Vec<u8>>();
        let mut scorer = scorer(Protocol::Thresholded { threshold: 0.5 });
        let mut score = |p: &[u8], g: &[u8]| {
            let mask = Mask::from_binary(w, h, g.to_vec()).unwrap();
            scorer.score(&Prediction::from_levels(w, h, p).unwrap(), &mask).unwrap()
        };
        let (a, b) = (score(&levels, &truth), score(&turn(&levels), &turn(&truth)));
        prop_assert_eq!((a.dice, a.iou, a.acc, a.em, a.avg_f), (b.dice, b.iou, b.acc, b.em, b.avg_f));
        prop_assert_eq!(a.mae, b.mae);
        prop_assert_eq!(a.curve, b.curve);
    }

    #[test]
    fn bicubic_keeps_a_constant_and_its_bounds(w in 1usize..30, h in 1usize..30, tw in 1usize..30, th in 1usize..30, v: u8) {
        prop_assert!(resize::bicubic_levels(&vec![v; w * h], w, h, tw, th).iter().all(|&o| o == v));
        let p = resize::bicubic_probability(&vec![f32::from(v) / 255.0; w * h], w, h, tw, th);
        prop_assert_eq!(p.len(), tw * th);
        prop_assert!(p.iter().all(|o| (o - f32::from(v) / 255.0).abs() < 1e-6));
    }
}
