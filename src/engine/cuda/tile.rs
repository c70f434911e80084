//! How a convolution is cut into blocks: the compiled tiles, and which one with how many shares a launch takes.
//!
//! In: sizes of a launch's convolutions. Out: candidates, best guess first; the engine times them where there is a
//! device.

/// A compiled convolution kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tile {
    Tall,
    TallDeep,
    Square,
    SquareDeep,
    SquareWide,
    Flat,
    FlatWide,
    Narrow,
    NarrowWide,
    Small,
}

/// What a tile is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileShape {
    pub(crate) name: &'static str,
    /// Pixels and channels of a block.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Reduction of one step, in values.
    pub(crate) step: usize,
    pub(crate) stages: usize,
    pub(crate) threads: u32,
}

impl TileShape {
    /// Bytes of shared memory of a block: operands, and later the sums in the same place.
    pub(crate) fn shared(&self) -> u32 {
        let operands = self.stages * (self.rows + self.columns) * (self.step + 8) * 2;
        operands.max(self.rows * (self.columns + 4) * 4) as u32
    }
}

impl Tile {
    pub(crate) const ALL: [Tile; 10] = [
        Tile::Tall,
        Tile::TallDeep,
        Tile::Square,
        Tile::SquareDeep,
        Tile::SquareWide,
        Tile::Flat,
        Tile::FlatWide,
        Tile::Narrow,
        Tile::NarrowWide,
        Tile::Small,
    ];

    pub(crate) fn shape(self) -> TileShape {
        let shape = |name, rows, columns, step, stages, threads| TileShape {
            name,
            rows,
            columns,
            step,
            stages,
            threads,
        };
        match self {
            Tile::Tall => shape("conv_128x64", 128, 64, 32, 3, 256),
            Tile::TallDeep => shape("conv_128x64_deep", 128, 64, 64, 3, 256),
            Tile::Square => shape("conv_64x64", 64, 64, 32, 4, 128),
            Tile::SquareDeep => shape("conv_64x64_deep", 64, 64, 64, 3, 128),
            // Twice the warps for the same tile: less for each to do where there are fewer tiles than multiprocessors.
            Tile::SquareWide => shape("conv_64x64_wide", 64, 64, 64, 4, 256),
            Tile::FlatWide => shape("conv_32x64_wide", 32, 64, 64, 4, 256),
            Tile::NarrowWide => shape("conv_64x32_wide", 64, 32, 64, 4, 256),
            Tile::Flat => shape("conv_32x64", 32, 64, 64, 4, 128),
            Tile::Narrow => shape("conv_64x32", 64, 32, 32, 4, 128),
            Tile::Small => shape("conv_32x32", 32, 32, 64, 4, 128),
        }
    }
}

/// Sizes of one convolution of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
    /// Reduction length, padded.
    pub(crate) length: usize,
    /// All channels in one block: the sum over them is wanted.
    pub(crate) whole: bool,
}

/// How a launch may be cut.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) tile: Tile,
    /// Shares of each convolution's reduction.
    pub(crate) splits: Vec<usize>,
}

/// Memory for unfinished sums.
pub(crate) const PARTIAL_BYTES: usize = 48 << 20;
/// Tiles of a launch whose reduction is split, at most.
pub(crate) const ARRIVALS: usize = 16 << 10;

impl Cut {
    /// (tiles across, tiles) of a convolution.
    pub(crate) fn tiles(&self, size: &Size) -> (usize, usize) {
        let shape = self.tile.shape();
        let across = size.channels.div_ceil(shape.columns);
        (across, across * size.pixels.div_ceil(shape.rows))
    }

    pub(crate) fn blocks(&self, sizes: &[Size]) -> usize {
        sizes.iter().zip(&self.splits).map(|(s, n)| self.tiles(s).1 * n).sum()
    }

    /// Whether unfinished sums have room.
    fn fits(&self, sizes: &[Size]) -> bool {
        let shape = self.tile.shape();
        let split: usize =
            sizes.iter().zip(&self.splits).filter(|(_, n)| **n > 1).map(|(s, n)| self.tiles(s).1 * n).sum();
        split * shape.rows * shape.columns * size_of::<f32>() <= PARTIAL_BYTES && split <= ARRIVALS
    }

    /// A guess at the time, in units of one 64x64x32 step: rounds of blocks, each filling its pipeline and draining it.
    /// Only the order matters, and only until it is measured.
    fn guess(&self, sizes: &[Size], processors: usize) -> f64 {
        let shape = self.tile.shape();
        let resident = (200 << 10) / shape.shared() as usize;
        let rounds = self.blocks(sizes).div_ceil(processors * resident.clamp(1, 4)) as f64;
        let longest = sizes
            .iter()
            .zip(&self.splits)
            .map(|(s, n)| {
                let work = (s.length / n) as f64 * (shape.rows + shape.columns) as f64 / (32.0 * 128.0);
                let work = if shape.threads > 128 { 0.7 * work } else { work };
                work + if *n > 1 {
                    6.0 + *n as f64 * (shape.rows * shape.columns) as f64 / 4096.0
                } else {
                    0.0
                }
            })
            .fold(0.0, f64::max);
        // Several blocks of one multiprocessor share its units.
        let crowd = (self.blocks(sizes) as f64 / (rounds * processors as f64)).max(1.0);
        rounds * (12.0 + longest * crowd.sqrt())
    }
}

/// Every sensible cut of a launch, the most promising first.
pub(crate) fn candidates(sizes: &[Size], processors: usize) -> Vec<Cut> {
    let whole = sizes.iter().any(|s| s.whole);
    let mut cuts: Vec<Cut> = Vec::new();
    for tile in Tile::ALL {
        let shape = tile.shape();
        if whole && shape.columns != 64 {
            continue;
        }
        // A share is at most so many steps long: all convolutions of a launch end at about the same time.
        for most in [usize::MAX, 96, 48, 32, 24, 16, 12, 8, 6, 4] {
            let splits = sizes.iter().map(|s| (s.length / shape.step).div_ceil(most).max(1)).collect();
            let cut = Cut { tile, splits };
            if cut.fits(sizes) && !cuts.contains(&cut) {
                cuts.push(cut);
            }
        }
    }
    cuts.sort_by(|a, b| a.guess(sizes, processors).total_cmp(&b.guess(sizes, processors)));
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_cut_and_it_fits() {
        for pixels in [1, 121, 484, 1936, 7744, 30976, 262_144] {
            for channels in [8, 32, 64, 832, 2048] {
                for length in [64, 576, 18432] {
                    for whole in [false, true] {
                        let size =
                            Size { pixels, channels: if whole { 64 } else { channels }, length, whole };
                        let cuts = candidates(&[size; 5], 132);
                        assert!(!cuts.is_empty());
                        for cut in cuts {
                            assert!(cut.fits(&[size; 5]));
                            assert!(!whole || cut.tile.shape().columns == 64);
                            assert!(cut.splits.iter().all(|n| *n * cut.tile.shape().step <= length.max(64)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_reduction_over_few_pixels_is_split() {
        let size = Size { pixels: 121, channels: 64, length: 18432, whole: true };
        assert!(candidates(&[size], 132)[0].splits[0] > 8);
    }
}
