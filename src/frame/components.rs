//! The connected components of a binary map: the one labeller of this crate, so that what is drawn, what is scored and
//! what is taken for the endoscope's picture agree on what a region is.
//!
//! In: rows of pixels, 0 outside. Out: the runs of pixels inside, each with the number of its component. Components are
//! numbered in reading order of their first pixels. Buffers are kept from map to map.

/// Pixels `x0..x1` of row `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Row of all its pixels.
    pub y: i32,
    /// First column.
    pub x0: i32,
    /// One past the last column.
    pub x1: i32,
}

impl Run {
    /// Number of its pixels; 0 where it is empty.
    pub fn area(&self) -> u64 {
        (self.x1 - self.x0).max(0) as u64
    }
}

/// Which pixels touch each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbourhood {
    /// Those that share a side.
    Four,
    /// Those that share a corner as well.
    Eight,
}

/// The runs of one row for which `inside` says yes, from left to right.
pub fn runs_of_row<T: Copy>(y: i32, row: &[T], inside: impl Fn(T) -> bool, mut each: impl FnMut(Run)) {
    /// So many pixels at a time are passed over where none is inside.
    const BLOCK: usize = 32;
    let mut x = 0;
    loop {
        while let Some(block) = row.get(x..x + BLOCK)
            && !block.iter().fold(false, |any, &v| any | inside(v))
        {
            x += BLOCK;
        }
        let Some(start) = row[x..].iter().position(|&v| inside(v)).map(|at| x + at) else { break };
        let end = row[start..].iter().position(|&v| !inside(v)).map_or(row.len(), |at| start + at);
        each(Run { y, x0: start as i32, x1: end as i32 });
        x = end;
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Components {
    /// In reading order.
    runs: Vec<Run>,
    /// For each run one of the same component, an earlier one or itself; then the component's number.
    labels: Vec<u32>,
    count: usize,
}

impl Components {
    /// With room for so many runs.
    pub fn with_room(runs: usize) -> Self {
        Self { runs: Vec::with_capacity(runs), labels: Vec::with_capacity(runs), count: 0 }
    }

    /// Labels a map given row by row, from the top down; what was labelled before is forgotten.
    pub fn label<'a>(&mut self, rows: impl IntoIterator<Item = &'a [u8]>, neighbourhood: Neighbourhood) {
        self.runs.clear();
        for (y, row) in rows.into_iter().enumerate() {
            runs_of_row(y as i32, row, |v| v != 0, |run| self.runs.push(run));
        }
        self.labels.clear();
        self.labels.extend(0..self.runs.len() as u32);
        let reach = i32::from(neighbourhood == Neighbourhood::Eight);
        // A run joins those of the row above that touch it.
        let mut above = 0;
        for i in 0..self.runs.len() {
            let run = self.runs[i];
            let ends_before = |r: Run| r.x1 + reach <= run.x0;
            while self.runs[above].y < run.y - 1
                || (self.runs[above].y == run.y - 1 && ends_before(self.runs[above]))
            {
                above += 1;
            }
            let mut j = above;
            while self.runs[j].y == run.y - 1 && self.runs[j].x0 < run.x1 + reach {
                let (a, b) = (self.root(i), self.root(j));
                // The earlier run stays the root, which keeps the reading order.
                self.labels[a.max(b)] = a.min(b) as u32;
                j += 1;
            }
        }
        self.count = 0;
        for i in 0..self.runs.len() {
            let root = self.labels[i] as usize;
            // Earlier runs have their numbers already; every run but a root points to one of those.
            self.labels[i] = if root == i { self.count as u32 } else { self.labels[root] };
            self.count += usize::from(root == i);
        }
    }

    /// The run its component begins with, as far as is known; makes the way there shorter.
    fn root(&mut self, mut i: usize) -> usize {
        while self.labels[i] as usize != i {
            self.labels[i] = self.labels[self.labels[i] as usize];
            i = self.labels[i] as usize;
        }
        i
    }

    /// Number of components.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Every run with the number of its component, 0 for the first, in reading order.
    pub fn runs(&self) -> impl Iterator<Item = (Run, usize)> + '_ {
        self.runs.iter().zip(&self.labels).map(|(run, label)| (*run, *label as usize))
    }

    /// The component of a pixel; `None` where the map is 0.
    pub fn at(&self, x: i32, y: i32) -> Option<usize> {
        let i = self.runs.partition_point(|r| (r.y, r.x0) <= (y, x)).checked_sub(1)?;
        (self.runs[i].y == y && x < self.runs[i].x1).then(|| self.labels[i] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers from 1 in reading order, by flooding.
    fn flooded(width: usize, map: &[u8], neighbourhood: Neighbourhood) -> Vec<usize> {
        let height = map.len() / width;
        let mut out = vec![0; map.len()];
        let mut count = 0;
        for start in 0..map.len() {
            if map[start] == 0 || out[start] != 0 {
                continue;
            }
            count += 1;
            let mut open = vec![start];
            while let Some(i) = open.pop() {
                if map[i] == 0 || out[i] != 0 {
                    continue;
                }
                out[i] = count;
                let (x, y) = ((i % width) as isize, (i / width) as isize);
                for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
                    let (u, v) = (x + dx, y + dy);
                    let touches = neighbourhood == Neighbourhood::Eight || dx == 0 || dy == 0;
                    if touches && u >= 0 && v >= 0 && u < width as isize && v < height as isize {
                        open.push(v as usize * width + u as usize);
                    }
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn components_are_what_flooding_finds(
            width in 1usize..24, bits in proptest::collection::vec(0u8..2, 0..600), four in any::<bool>(),
        ) {
            let map = &bits[..bits.len() / width * width];
            let neighbourhood = if four { Neighbourhood::Four } else { Neighbourhood::Eight };
            let mut components = Components::default();
            // Another map before it must leave nothing behind.
            components.label(bits.chunks(7), Neighbourhood::Eight);
            components.label(map.chunks_exact(width), neighbourhood);
            let mut found = vec![0; map.len()];
            for (run, number) in components.runs() {
                for x in run.x0..run.x1 {
                    found[run.y as usize * width + x as usize] = number + 1;
                }
            }
            let want = flooded(width, map, neighbourhood);
            prop_assert_eq!(components.count(), want.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(&found, &want);
            for (i, number) in want.iter().enumerate() {
                let at = components.at((i % width) as i32, (i / width) as i32);
                prop_assert_eq!(at.map_or(0, |n| n + 1), *number);
            }
            prop_assert_eq!(components.at(-1, 0), None);
        }
    }
}
