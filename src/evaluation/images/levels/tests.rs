use super::*;

const W: usize = 96;
const H: usize = 72;

/// Discs of (x, y, radius, level) on a ground.
fn discs(ground: u16, discs: &[(f32, f32, f32, u16)]) -> Vec<u16> {
    let mut out = vec![ground; W * H];
    for (i, v) in out.iter_mut().enumerate() {
        let (x, y) = ((i % W) as f32, (i / W) as f32);
        for (cx, cy, r, level) in discs {
            if (x - cx).powi(2) + (y - cy).powi(2) < r * r {
                *v = *level;
            }
        }
    }
    out
}

/// Mean over (2n + 1)² pixels, the edges that scaling and blurring leave.
fn blurred(values: &[u16], n: usize) -> Vec<u16> {
    (0..values.len())
        .map(|i| {
            let (x, y) = (i % W, i / W);
            let (mut sum, mut count) = (0u32, 0);
            for v in y.saturating_sub(n)..(y + n + 1).min(H) {
                for u in x.saturating_sub(n)..(x + n + 1).min(W) {
                    sum += u32::from(values[v * W + u]);
                    count += 1;
                }
            }
            ((sum + count / 2) / count) as u16
        })
        .collect()
}

/// Through JPEG and back.
fn jpeg(values: &[u16], quality: u8) -> Vec<u16> {
    let pixels: Vec<u8> = values.iter().map(|v| *v as u8).collect();
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&pixels, W as u32, H as u32, image::ExtendedColorType::L8)
        .unwrap();
    let back = image::load_from_memory(&bytes).unwrap().into_luma8();
    back.as_raw().iter().map(|v| u16::from(*v)).collect()
}

fn auto(values: &[u16], lossy: bool) -> (Vec<u8>, Option<NoteKind>) {
    cut(values, W, lossy, MaskLevels::Auto).unwrap()
}

fn inside(values: &[u16], level: u16) -> Vec<u8> {
    values.iter().map(|v| u8::from(*v >= level)).collect()
}

/// Pixels that differ.
fn difference(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

const TWO: [(f32, f32); 2] = [(24.0, 36.0), (70.0, 36.0)];
const THREE: [(f32, f32); 3] = [(16.0, 20.0), (50.0, 50.0), (80.0, 20.0)];

fn three(levels: [u16; 3]) -> Vec<u16> {
    let all: Vec<_> = THREE.iter().zip(levels).map(|((x, y), l)| (*x, *y, 10.0, l)).collect();
    discs(0, &all)
}

#[test]
fn two_levels_need_no_rule() {
    for level in [1, 2, 128, 255, 40_000] {
        let mask = discs(0, &[(40.0, 30.0, 12.0, level)]);
        assert_eq!(auto(&mask, false), (inside(&mask, 1), None), "{level}");
    }
    assert_eq!(auto(&vec![0; W * H], false), (vec![0; W * H], None));
    assert_eq!(auto(&vec![255; W * H], false), (vec![1; W * H], None));
    // 1 for ground and 2 for polyp, as programs that count from 1 do; grey for ground.
    for (ground, polyp) in [(1, 2), (200, 255), (100, 255)] {
        let mask = discs(ground, &[(40.0, 30.0, 12.0, polyp)]);
        assert_eq!(auto(&mask, false).0, inside(&mask, polyp), "{ground} {polyp}");
    }
}

#[test]
fn numbered_polyps_are_all_polyps() {
    for levels in
        [[1, 2, 3], [85, 170, 255], [50, 100, 150], [1, 5, 60], [100, 20, 255], [10_000, 65_535, 30_000]]
    {
        let mask = three(levels);
        let (found, note) = auto(&mask, false);
        assert_eq!(difference(&found, &inside(&mask, 1)), 0, "{levels:?}");
        assert_eq!(note, Some(NoteKind::InstanceMask), "{levels:?}");
    }
    // Many of them, one of a few pixels.
    let many: Vec<_> = (0..12)
        .map(|i| (8.0 + 15.0 * (i % 6) as f32, 15.0 + 30.0 * (i / 6) as f32, 1.5 + 0.4 * i as f32, i + 1))
        .collect();
    let mask = discs(0, &many);
    assert_eq!(auto(&mask, false), (inside(&mask, 1), Some(NoteKind::InstanceMask)));
    // Two that touch.
    let touching = discs(0, &[(30.0, 36.0, 14.0, 1), (54.0, 36.0, 14.0, 2)]);
    assert_eq!(auto(&touching, false), (inside(&touching, 1), Some(NoteKind::InstanceMask)));
}

#[test]
fn numbered_polyps_survive_blur_and_jpeg() {
    for levels in [[85, 170, 255], [60, 120, 240], [90, 255, 255]] {
        let exact = three(levels);
        let truth = inside(&exact, 1);
        for (name, values, lossy) in [
            ("blur", blurred(&exact, 1), false),
            ("JPEG 90", jpeg(&exact, 90), true),
            ("JPEG 60", jpeg(&exact, 60), true),
            ("JPEG saved as PNG", jpeg(&exact, 90), false),
        ] {
            let (found, note) = auto(&values, lossy);
            assert_eq!(note, Some(NoteKind::InstanceMask), "{levels:?} {name}");
            // Only edges may differ.
            assert!(difference(&found, &truth) < 200, "{levels:?} {name}: {}", difference(&found, &truth));
        }
    }
}

#[test]
fn grey_levels_above_half_of_the_brightest_are_polyps_too() {
    for levels in [[140, 200, 255], [150, 150, 255], [180, 255, 140]] {
        let exact = three(levels);
        for (name, values, lossy) in
            [("blur", blurred(&exact, 1), false), ("JPEG 90", jpeg(&exact, 90), true)]
        {
            let (found, note) = auto(&values, lossy);
            assert_eq!(note, Some(NoteKind::InstanceMask), "{levels:?} {name}");
            // Cut at half of the dimmest, not of the brightest.
            let limit = levels.iter().min().unwrap() / 2;
            let wanted = inside(&values, limit + 1);
            assert!(difference(&found, &wanted) < 30, "{levels:?} {name}: {}", difference(&found, &wanted));
        }
    }
    // Specks of a level are no polyp: an ordinary mask with its edges.
    let mut mask = blurred(&discs(0, &[(40.0, 30.0, 15.0, 255)]), 1);
    mask[5 * W + 80] = 180;
    assert_eq!(auto(&mask, false).1, Some(NoteKind::GreyMask));
}

#[test]
fn ordinary_masks_with_grey_edges_are_cut_at_half() {
    let exact = discs(0, &TWO.map(|(x, y)| (x, y, 15.0, 255)));
    let sharp = inside(&exact, 1);
    for (name, values, lossy) in [
        ("blur 1", blurred(&exact, 1), false),
        ("blur 3", blurred(&exact, 3), false),
        ("blur twice", blurred(&blurred(&exact, 2), 2), false),
        ("JPEG 95", jpeg(&exact, 95), true),
        ("JPEG 50", jpeg(&exact, 50), true),
        ("JPEG 20", jpeg(&exact, 20), true),
        ("JPEG saved as PNG", jpeg(&exact, 75), false),
        ("JPEG 30 saved as PNG", jpeg(&exact, 30), false),
        ("noise", exact.iter().enumerate().map(|(i, v)| v.abs_diff((i * 7919 % 9) as u16)).collect(), false),
    ] {
        let most = *values.iter().max().unwrap();
        let (found, note) = auto(&values, lossy);
        assert_eq!(found, inside(&values, most / 2 + 1), "{name}");
        assert_eq!(note, (!lossy).then_some(NoteKind::GreyMask), "{name}");
        assert!(difference(&found, &sharp) < 120, "{name}: {}", difference(&found, &sharp));
    }
    // Four shades at the edges, as twofold supersampling leaves.
    let fine: Vec<u16> =
        blurred(&exact, 1).iter().map(|v| (v + 32) / 64 * 64).map(|v: u16| v.min(255)).collect();
    assert_eq!(auto(&fine, false).1, Some(NoteKind::GreyMask));
    // A slope without any area of its own.
    let slope: Vec<u16> = (0..W * H).map(|i| (i % W * 255 / (W - 1)) as u16).collect();
    assert_eq!(auto(&slope, false), (inside(&slope, 128), Some(NoteKind::GreyMask)));
}

#[test]
fn what_lossy_formats_leave_of_nothing_is_nothing() {
    let mask = discs(0, &[(40.0, 30.0, 12.0, 9)]);
    assert_eq!(auto(&mask, true), (vec![0; W * H], Some(NoteKind::FaintMask)));
}

#[test]
fn levels_that_could_mean_two_things_are_refused() {
    let refused = |values: &[u16]| {
        let said = cut(values, W, false, MaskLevels::Auto).unwrap_err();
        assert!(said.contains("--mask-levels nonzero") && said.contains("--mask-levels half"), "{said}");
        // Both options decide.
        for rule in [MaskLevels::Nonzero, MaskLevels::Half] {
            assert!(cut(values, W, false, rule).is_ok());
        }
    };
    // How many of three readers marked it.
    refused(&discs(0, &[(48.0, 36.0, 30.0, 85), (48.0, 36.0, 20.0, 170), (48.0, 36.0, 10.0, 255)]));
    refused(&discs(0, &[(48.0, 36.0, 30.0, 1), (48.0, 36.0, 20.0, 2), (48.0, 36.0, 10.0, 3)]));
    let readers = discs(0, &[(48.0, 36.0, 34.0, 85), (48.0, 36.0, 22.0, 170), (48.0, 36.0, 10.0, 255)]);
    refused(&blurred(&readers, 1));
    // A border of its own level.
    refused(&discs(0, &[(48.0, 36.0, 30.0, 255), (48.0, 36.0, 25.0, 128)]));
    // Number 1 beside white.
    refused(&discs(0, &[(20.0, 36.0, 12.0, 1), (60.0, 36.0, 12.0, 255)]));
}

#[test]
fn the_user_decides_where_asked() {
    let mask = three([50, 100, 255]);
    assert_eq!(cut(&mask, W, false, MaskLevels::Half).unwrap().0, inside(&mask, 128));
    assert_eq!(cut(&mask, W, false, MaskLevels::Nonzero).unwrap().0, inside(&mask, 1));
}

#[test]
fn masks_that_do_not_reach_from_black_to_white_have_their_rules_at_the_limits() {
    let disc = |ground: u16, level: u16| discs(ground, &[(40.0, 30.0, 12.0, level)]);
    // In lossy masks a level below 64 is noise.
    assert_eq!(auto(&disc(0, 63), true), (vec![0; W * H], Some(NoteKind::FaintMask)));
    assert_eq!(auto(&disc(0, 64), true), (inside(&disc(0, 64), 33), None));
    // Of two greys the darker one is the ground, unless a cut at half of the brighter parts them.
    assert_eq!(auto(&disc(100, 200), false), (inside(&disc(100, 200), 200), None));
    assert_eq!(auto(&disc(101, 200), false), (inside(&disc(101, 200), 200), Some(NoteKind::NoBlackMask)));
    // Up to an eighth of the brightest, the darkest of many levels is the ground too.
    for (dark, most) in [(10, 255), (30, 240)] {
        let mask = discs(dark, &[(24.0, 36.0, 15.0, 100), (70.0, 36.0, 15.0, most)]);
        assert_eq!(auto(&mask, false), (inside(&mask, 100), Some(NoteKind::InstanceMask)), "{dark}");
    }
}

#[test]
fn every_level_above_black_means_above_the_noise_in_lossy_masks() {
    let mask = discs(0, &[(20.0, 36.0, 12.0, 31), (50.0, 36.0, 12.0, 32), (80.0, 36.0, 12.0, 255)]);
    assert_eq!(cut(&mask, W, true, MaskLevels::Nonzero).unwrap().0, inside(&mask, 32));
    assert_eq!(cut(&mask, W, false, MaskLevels::Nonzero).unwrap().0, inside(&mask, 1));
}

/// Numbers are exact: the smallest polyp counts, however many there are up to 63, and whatever they are up to eight.
#[test]
fn few_or_small_levels_are_numbers() {
    let row = |levels: &[u16]| {
        let all: Vec<_> = levels
            .iter()
            .enumerate()
            .map(|(i, l)| {
                (
                    8.0 + 15.0 * (i % 6) as f32,
                    15.0 + 30.0 * (i / 6) as f32,
                    if i == 0 { 1.2 } else { 5.0 },
                    *l,
                )
            })
            .collect();
        discs(0, &all)
    };
    for levels in
        [&[1, 7, 12, 20, 25, 33, 40, 45, 50, 63][..], &[30, 100, 120, 140, 160, 180, 200, 255], &[2, 63]]
    {
        let mask = row(levels);
        assert_eq!(auto(&mask, false), (inside(&mask, 1), Some(NoteKind::InstanceMask)), "{levels:?}");
    }
    // Beside white, an area as dark as a sixteenth may be a number or noise.
    assert!(cut(&three([16, 255, 255]), W, false, MaskLevels::Auto).unwrap_err().contains("polyp=16"));
    assert_eq!(
        auto(&three([17, 255, 255]), false),
        (inside(&three([17, 255, 255]), 1), Some(NoteKind::InstanceMask))
    );
    // Up to 63 it is a number.
    assert_eq!(
        auto(&three([2, 63, 30]), false),
        (inside(&three([2, 63, 30]), 1), Some(NoteKind::InstanceMask))
    );
    // Half of the brightest is what an ordinary cut loses: four pixels of it are a polyp nevertheless.
    let mut mask = discs(0, &[(40.0, 30.0, 12.0, 200)]);
    for at in [0, 1, W, W + 1] {
        mask[60 * W + 80 + at] = 100;
    }
    assert_eq!(auto(&mask, false), (inside(&mask, 1), Some(NoteKind::InstanceMask)));
}

#[test]
fn an_edge_that_is_thick_in_one_place_is_an_edge() {
    let mut mask = discs(0, &[(48.0, 36.0, 21.0, 128), (48.0, 36.0, 20.0, 255)]);
    for at in [0, 1, 2, W, W + 1, W + 2, 2 * W, 2 * W + 1, 2 * W + 2] {
        mask[35 * W + 68 + at] = 128;
    }
    assert_eq!(auto(&mask, false), (inside(&mask, 128), Some(NoteKind::GreyMask)));
}

/// A rectangle painted over.
fn with_rectangle(
    mut values: Vec<u16>,
    (w, h): (usize, usize),
    level: impl Fn(usize, usize) -> u16,
) -> Vec<u16> {
    for (x, y) in (10..10 + w).flat_map(|x| (10..10 + h).map(move |y| (x, y))) {
        values[y * W + x] = level(x, y);
    }
    values
}

#[test]
fn a_level_whose_eighth_is_flat_fills_an_area() {
    let mask = |specks: usize| {
        let disc = discs(0, &[(60.0, 40.0, 15.0, 255)]);
        let mut values = with_rectangle(disc, (4, 3), |_, _| 150);
        (0..specks).for_each(|i| values[(30 + 4 * i) * W + 5] = 150);
        values
    };
    // Two of sixteen pixels have no other level beside them, and two of seventeen.
    assert_eq!(auto(&mask(4), false), (inside(&mask(4), 1), Some(NoteKind::InstanceMask)));
    assert_eq!(auto(&mask(5), false), (inside(&mask(5), 1), Some(NoteKind::GreyMask)));
}

/// Discs whose levels waver by up to `by`, as noise leaves them; none of it on the ground.
fn wavering(by: u16, all: &[(f32, f32, f32, u16)]) -> Vec<u16> {
    let at = |i: usize| ((i % W + 2 * (i / W)) % (usize::from(by) + 1)) as u16;
    discs(0, all).into_iter().enumerate().map(|(i, v)| if v == 0 { 0 } else { v - at(i) }).collect()
}

#[test]
fn lossy_levels_may_waver_more_and_begin_higher() {
    let two = |by: u16, dim: u16| wavering(by, &[(24.0, 36.0, 15.0, dim), (70.0, 36.0, 15.0, 255)]);
    // Cut at half of the dimmer one's middle.
    for (values, lossy, middle) in [(two(6, 206), true, 203), (two(4, 204), false, 202)] {
        let mut values = values;
        values[5 * W + 5] = middle / 2;
        values[5 * W + 9] = middle / 2 + 1;
        let note = Some(NoteKind::InstanceMask);
        assert_eq!(auto(&values, lossy), (inside(&values, middle / 2 + 1), note), "{middle}");
    }
    let ordinary = |values: &[u16], lossy: bool| {
        let note = (!lossy).then_some(NoteKind::GreyMask);
        assert_eq!(auto(values, lossy), (inside(values, 128), note));
    };
    // A lossless mask does not waver so: this is an edge.
    ordinary(&wavering(6, &[(40.0, 36.0, 22.0, 206), (40.0, 36.0, 18.0, 255)]), false);
    // What is near black is ground, and more of it in lossy masks.
    ordinary(&two(4, 28), true);
    ordinary(&two(4, 20), false);
    for dim in [21, 28] {
        assert_eq!(auto(&two(4, dim), false).1, Some(NoteKind::InstanceMask), "{dim}");
    }
}

#[test]
fn specks_of_a_grey_mask_are_no_polyps() {
    let white = wavering(8, &[(60.0, 40.0, 15.0, 255)]);
    let note = |size, level: &dyn Fn(usize, usize) -> u16, lossy| {
        auto(&with_rectangle(white.clone(), size, level), lossy).1
    };
    // Bright levels that alternate: 25 pixels with nothing else around are an area, 24 are none.
    let alternating = |x: usize, y: usize| if (x + y).is_multiple_of(2) { 200 } else { 206 };
    assert_eq!(note((7, 7), &alternating, true), Some(NoteKind::InstanceMask));
    assert_eq!(note((8, 6), &alternating, true), None);
    // Of an even number, the darker one is in the middle: 206 would be cut above 103.
    let mut even = with_rectangle(white.clone(), (8, 8), alternating);
    even[W + 1] = 101;
    assert_eq!(auto(&even, true), (inside(&even, 101), Some(NoteKind::InstanceMask)));
    // Dim ones that a cut at half would lose: kept from 25 pixels and a quarter of the brightest on.
    assert_eq!(note((5, 5), &|_, _| 64, false), Some(NoteKind::InstanceMask));
    assert_eq!(note((6, 4), &|_, _| 64, false), Some(NoteKind::GreyMask));
    assert_eq!(note((5, 5), &|_, _| 63, false), Some(NoteKind::GreyMask));
}

#[test]
fn layers_that_waver_are_refused_too() {
    for (by, lossy) in [(4, false), (6, true)] {
        let layers = [(48.0, 36.0, 34.0, 85), (48.0, 36.0, 22.0, 170), (48.0, 36.0, 10.0, 255)];
        assert!(cut(&wavering(by, &layers), W, lossy, MaskLevels::Auto).is_err(), "{by}");
    }
}

#[test]
fn a_polyp_between_ground_and_polyp_is_no_layer() {
    let columns = |level: &dyn Fn(usize) -> u16| (0..W * H).map(|i| level(i % W)).collect::<Vec<u16>>();
    // As much ground on one side as polyp on the other.
    let side_by_side = columns(&|x| [0, 1, 2, 0][x / 24]);
    assert_eq!(auto(&side_by_side, false), (inside(&side_by_side, 1), Some(NoteKind::InstanceMask)));
    // Without ground beside it, it is one if the other is at most sixteen pixels away.
    for (edge, refused) in [(15, true), (16, false)] {
        let slope = columns(&|x| match x {
            0..20 => 20,
            _ if x < 20 + edge => (x + 1) as u16,
            _ if x < 60 => 40,
            _ => 0,
        });
        assert_eq!(cut(&slope, W, false, MaskLevels::Auto).is_err(), refused, "{edge}");
    }
}
