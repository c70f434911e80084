//! Levels of a mask: grey values flow in, inside or outside flows out, with the rule that decided.
//!
//! Masks of one class come with two levels, with grey edges (scaled, blurred, through JPEG), or with a level for each
//! polyp (1, 2, 3 … or 85, 170, 255). A level that fills an area of its own is a polyp's; one that only lies between
//! two others is an edge. What could be both is refused: the user says which with [`MaskLevels`].

use super::note::NoteKind;

/// Which levels of a mask belong to polyps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskLevels {
    /// Decided for each mask; refused where it cannot be.
    #[default]
    Auto,
    /// Every level above black.
    Nonzero,
    /// What is brighter than half of the brightest.
    Half,
}

/// A lossy mask whose brightest pixel is darker than this is noise around nothing.
const FAINT: u16 = 64;

/// Masks up to this level hold numbers, not greys.
const LARGEST_NUMBER: u16 = 63;

/// A lossless mask of so few levels above black says each of them exactly.
const FEW: usize = 8;

/// Grey specks below this many pixels are what lossy formats and scaling leave.
const SPECK: usize = 25;

/// Between two areas of a row or column lie at most so many edge pixels.
const WIDEST_EDGE: usize = 16;

/// Cuts a mask, row-major: 1 inside, 0 outside.
///
/// # Errors
/// Levels that could mean two things, in words that follow the file's name.
pub(super) fn cut(
    values: &[u16],
    width: usize,
    lossy: bool,
    rule: MaskLevels,
) -> Result<(Vec<u8>, Option<NoteKind>), String> {
    let most = values.iter().copied().max().unwrap_or(0);
    let above = |limit: u32| values.iter().map(|v| u8::from(u32::from(*v) > limit)).collect::<Vec<u8>>();
    let half = || above(u32::from(most) / 2);
    if most == 0 {
        return Ok((vec![0; values.len()], None));
    }
    match rule {
        MaskLevels::Half => return Ok((half(), None)),
        // The darkest eighth of a lossy mask is noise.
        MaskLevels::Nonzero => return Ok((above(if lossy { u32::from(most) / 8 } else { 0 }), None)),
        MaskLevels::Auto => {}
    }
    if lossy && most < FAINT {
        return Ok((vec![0; values.len()], Some(NoteKind::FaintMask)));
    }
    let levels = distinct(values);
    if !lossy && levels.len() <= 2 {
        return Ok(match levels.as_slice() {
            // Neither is black, and half of the brighter is darker than both: the darker one is the ground.
            [dark, bright] if 2 * u32::from(*dark) > u32::from(*bright) => {
                (above(u32::from(*dark)), Some(NoteKind::NoBlackMask))
            }
            _ => (half(), None),
        });
    }

    let exact = !lossy && (most <= LARGEST_NUMBER || levels.iter().filter(|l| **l > 0).count() <= FEW);
    let picture = Levels { values, width, most, exact, lossy };
    let areas = if exact { picture.exact_areas(&levels)? } else { picture.grey_areas() };
    let dimmest = picture.dimmest_object(areas.ground);
    if areas.polyps.len() < 2 && dimmest.is_none() {
        return Ok((half(), (!lossy).then_some(NoteKind::GreyMask)));
    }
    if picture.layered(&areas) {
        return Err(format!(
            "has levels within one another (up to {most}), which may be several polyps or how sure somebody was; \
             say --mask-levels nonzero or --mask-levels half, or --classes if they are classes"
        ));
    }
    // Half of the dimmest polyp: its edges are cut where an ordinary mask's are.
    let lowest = areas.polyps.first().copied().into_iter().chain(dimmest).min().unwrap_or(most);
    let limit = (u32::from(lowest) / 2).max(u32::from(areas.ground));
    Ok((above(limit), Some(NoteKind::InstanceMask)))
}

/// The levels that occur, the darkest first.
fn distinct(values: &[u16]) -> Vec<u16> {
    let mut seen = vec![false; 1 << 16];
    values.iter().for_each(|v| seen[usize::from(*v)] = true);
    (0..=u16::MAX).filter(|v| seen[usize::from(*v)]).collect()
}

/// Levels that fill areas.
struct Areas {
    /// Up to here it is ground.
    ground: u16,
    /// Levels of polyps, the darkest first.
    polyps: Vec<u16>,
    /// How far a pixel may be from a level and belong to it.
    tolerance: u16,
}

struct Levels<'a> {
    values: &'a [u16],
    width: usize,
    most: u16,
    exact: bool,
    lossy: bool,
}

impl Levels<'_> {
    /// `share` of 255 on this mask's scale.
    fn scaled(&self, share: u32) -> u16 {
        (u32::from(self.most) * share / 255) as u16
    }

    /// Largest less smallest of a pixel's surroundings of 3x3 pixels.
    fn spread(&self, x: usize, y: usize) -> u16 {
        let height = self.values.len() / self.width;
        let (mut low, mut high) = (u16::MAX, 0);
        for v in y.saturating_sub(1)..(y + 2).min(height) {
            let row = &self.values[v * self.width..][..self.width];
            for value in &row[x.saturating_sub(1)..(x + 2).min(self.width)] {
                low = low.min(*value);
                high = high.max(*value);
            }
        }
        high - low
    }

    /// How often each level occurs with surroundings that spread no further than `within`.
    fn flat(&self, within: u16) -> Vec<u32> {
        let mut counts = vec![0u32; usize::from(self.most) + 1];
        for y in 0..self.values.len() / self.width {
            for x in 0..self.width {
                if self.spread(x, y) <= within {
                    counts[usize::from(self.values[y * self.width + x])] += 1;
                }
            }
        }
        counts
    }

    /// Each level as it is.
    fn exact_areas(&self, levels: &[u16]) -> Result<Areas, String> {
        let mut counts = vec![0u32; usize::from(self.most) + 1];
        self.values.iter().for_each(|v| counts[usize::from(*v)] += 1);
        let flat = self.flat(0);
        // An edge is hardly ever three pixels wide of one level.
        let fills = |l: u16| {
            let l = usize::from(l);
            flat[l] > 0 && 8 * flat[l] >= counts[l]
        };
        let ground = match levels.first() {
            Some(&dark) if 8 * u32::from(dark) <= u32::from(self.most) => dark,
            _ => 0,
        };
        let polyps: Vec<u16> = levels.iter().copied().filter(|&l| l > ground && fills(l)).collect();
        if self.most > LARGEST_NUMBER
            && let Some(near) = polyps.iter().find(|&&l| l <= self.scaled(16))
        {
            return Err(format!(
                "holds areas of level {near} beside {}, which may be numbers or noise; say --mask-levels nonzero or \
                 --mask-levels half, or --classes polyp={near}",
                self.most
            ));
        }
        Ok(Areas { ground, polyps, tolerance: 0 })
    }

    /// Levels that are alike taken together.
    fn grey_areas(&self) -> Areas {
        let flat = self.flat(self.scaled(if self.lossy { 12 } else { 4 }));
        let gap = usize::from(self.scaled(6)).max(1);
        let enough = (self.values.len() / 5000).max(SPECK) as u32;
        // Runs of levels with no wide gap between: their bounds, and the level in the middle of their pixels.
        let mut runs: Vec<(usize, usize, u32)> = Vec::new();
        for (level, &count) in flat.iter().enumerate().filter(|(_, c)| **c > 0) {
            match runs.last_mut() {
                Some((_, end, all)) if level - *end <= gap => {
                    *end = level;
                    *all += count;
                }
                _ => runs.push((level, level, count)),
            }
        }
        let ground = self.scaled(if self.lossy { 32 } else { 16 });
        let polyps = runs
            .into_iter()
            .filter(|&(begin, _, all)| all >= enough && begin > usize::from(ground))
            .map(|(begin, end, all)| {
                let mut below = 0;
                (begin..=end)
                    .find(|&l| {
                        below += flat[l];
                        2 * below >= all
                    })
                    .unwrap_or(begin) as u16
            })
            .collect();
        Areas { ground, polyps, tolerance: self.scaled(12) }
    }

    /// The brightest level of the dimmest connected region that a cut at half of the brightest would remove.
    fn dimmest_object(&self, ground: u16) -> Option<u16> {
        let (width, height) = (self.width, self.values.len() / self.width);
        let mut seen: Vec<bool> = self.values.iter().map(|v| *v <= ground).collect();
        let least = if self.exact { 1 } else { SPECK };
        let bright = self.scaled(64);
        let mut dimmest: Option<u16> = None;
        let mut open = Vec::new();
        for start in 0..self.values.len() {
            if seen[start] {
                continue;
            }
            seen[start] = true;
            open.push(start);
            let (mut area, mut most) = (0usize, 0);
            while let Some(at) = open.pop() {
                area += 1;
                most = most.max(self.values[at]);
                let (x, y) = (at % width, at / width);
                for v in y.saturating_sub(1)..(y + 2).min(height) {
                    for u in x.saturating_sub(1)..(x + 2).min(width) {
                        if !seen[v * width + u] {
                            seen[v * width + u] = true;
                            open.push(v * width + u);
                        }
                    }
                }
            }
            let lost = 2 * u32::from(most) <= u32::from(self.most);
            if lost && area >= least && (self.exact || most >= bright) {
                dimmest = Some(dimmest.map_or(most, |d| d.min(most)));
            }
        }
        dimmest
    }

    /// Whether a polyp's area borders on other polyps more than on the ground, so that it is a layer of another.
    fn layered(&self, areas: &Areas) -> bool {
        let (width, height) = (self.width, self.values.len() / self.width);
        let within = if self.exact { 0 } else { self.scaled(if self.lossy { 12 } else { 4 }) };
        // 0 for ground, else the polyp's number from 1; none for edges.
        let area = |x: usize, y: usize| {
            let value = self.values[y * width + x];
            // A region too small for flat pixels is all edge where levels are exact, and still an area.
            if self.spread(x, y) > within && !self.exact {
                return None;
            }
            if value <= areas.ground {
                return Some(0);
            }
            areas.polyps.iter().position(|p| p.abs_diff(value) <= areas.tolerance).map(|i| i + 1)
        };
        let mut borders = vec![(0u64, 0u64); areas.polyps.len() + 1];
        let mut count = |line: &mut dyn Iterator<Item = Option<usize>>| {
            let mut last: Option<(usize, usize)> = None;
            for (at, area) in line.enumerate().filter_map(|(i, a)| Some((i, a?))) {
                if let Some((before, from)) = last
                    && from != area
                    && at - before <= WIDEST_EDGE
                {
                    for (one, other) in [(from, area), (area, from)] {
                        if other == 0 {
                            borders[one].0 += 1;
                        } else {
                            borders[one].1 += 1;
                        }
                    }
                }
                last = Some((at, area));
            }
        };
        for y in 0..height {
            count(&mut (0..width).map(|x| area(x, y)));
        }
        for x in 0..width {
            count(&mut (0..height).map(|y| area(x, y)));
        }
        borders[1..].iter().any(|(ground, others)| others > ground)
    }
}

#[cfg(test)]
mod tests;
