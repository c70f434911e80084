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
