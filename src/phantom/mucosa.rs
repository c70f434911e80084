//! Colours of this patient and this processor: seed and objects go in, a material for each comes out.

use super::colon::WALL_TEXELS;
use super::lesion::{Object, Shape};
use super::noise::{Stream, lerp};
use super::shade::Material;
use super::texture::POLYP_TEXELS;

/// The materials, 0 the wall, 2k + 1 and 2k + 2 the foot and the body of object k, and the polyp id of each.
pub(crate) fn materials(seed: u64, objects: &[Object]) -> (Vec<Material>, Vec<u8>) {
    let s = Stream::new(seed, "complexion");
    let mix = |a: [f32; 3], b: [f32; 3], f: f32| -> [f32; 3] { std::array::from_fn(|k| lerp(a[k], b[k], f)) };
    // From rose (one maker's white balance) to orange (another's).
    let warm = s.unit(0);
    let pale = mix([0.95, 0.50, 0.40], [0.97, 0.50, 0.25], warm);
    let deep = mix([0.78, 0.24, 0.18], [0.82, 0.27, 0.09], warm);
    let wall = Material {
        pale,
        deep,
        blood: mix([0.70, 0.26, 0.26], [0.66, 0.26, 0.22], s.unit(1)),
        relief: 0.30,
        wet: s.range(2, 0.75, 1.1),
        polyp_tile: false,
        texels_per_mm: WALL_TEXELS,
    };
    let mut all = vec![wall];
    let mut ids = vec![0];
    for object in objects {
        let m = if object.shape == Shape::Residue {
            Material {
                pale: mix([0.90, 0.50, 0.11], [0.62, 0.30, 0.08], object.redness),
                deep: mix([0.66, 0.27, 0.03], [0.38, 0.15, 0.03], object.redness),
                blood: [0.6, 0.5, 0.4],
                relief: 0.9,
                wet: 0.5,
                polyp_tile: true,
                texels_per_mm: POLYP_TEXELS,
            }
        } else {
            let red = object.redness;
            Material {
                pale: mix(pale, mix([0.86, 0.34, 0.27], [0.87, 0.33, 0.17], warm), red),
                deep: mix(deep, mix([0.72, 0.13, 0.11], [0.74, 0.15, 0.07], warm), red),
                blood: [0.72, 0.34, 0.34],
                relief: 0.46,
                wet: 0.9,
                polyp_tile: true,
                texels_per_mm: POLYP_TEXELS,
            }
        };
        all.push(m);
        all.push(m);
        ids.push(0);
        ids.push(object.id);
    }
    (all, ids)
}
