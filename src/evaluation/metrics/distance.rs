//! Exact Euclidean distance to the ground truth: a mask flows in, per pixel the nearest pixel of it flows out.
//!
//! Linear time (Meijster, Roerdink and Hesselink 2000), all in integers, so ties are exact: among equally near pixels
//! the smallest column wins, then the smallest row, as in scipy's `distance_transform_edt`.

use super::Mask;

/// The nearest pixel of the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its row, from 0 at the top.
    pub row: i32,
    /// Its column, from 0 at the left.
    pub column: i32,
    /// Squared distance, in pixels².
    pub squared: i32,
}

/// Column distances of a mask, and the lower envelope of one row at a time.
#[derive(Debug, Default)]
pub struct DistanceTransform {
    width: usize,
    height: usize,
    /// Row of the nearest pixel of the mask in the same column, per pixel; only in columns that have one.
    nearest_row: Vec<i32>,
    /// Columns that have a pixel of the mask, ascending.
    columns: Vec<i32>,
    /// Per site of the envelope: first column it owns, its own column, its squared vertical distance.
    envelope: Vec<(i32, i32, i32)>,
}

const NONE: i32 = i32::MIN / 2;

impl DistanceTransform {
    /// First pass, along the columns.
    pub fn prepare(&mut self, mask: &Mask) {
        let (w, h, g) = (mask.width(), mask.height(), mask.pixels());
        (self.width, self.height) = (w, h);
        self.nearest_row.resize(w * h, NONE);
        // Downwards: the last row inside at or above.
        for y in 0..h {
            let (done, rest) = self.nearest_row.split_at_mut(y * w);
            let g = &g[y * w..][..w];
            let row = &mut rest[..w];
            if y == 0 {
                for (r, &g) in row.iter_mut().zip(g) {
                    *r = if g == 1 { 0 } else { NONE };
                }
            } else {
                let above = &done[(y - 1) * w..];
                for ((r, &g), &above) in row.iter_mut().zip(g).zip(above) {
                    *r = if g == 1 { y as i32 } else { above };
                }
            }
        }
        // Upwards: the nearer of that and the one below; the upper one where both are as near.
        for y in (0..h - 1).rev() {
            let (upper, lower) = self.nearest_row.split_at_mut((y + 1) * w);
            let row = &mut upper[y * w..];
            let y = y as i32;
            for (r, &below) in row.iter_mut().zip(&lower[..w]) {
                // What the row below holds may also lie above this row: then it is this row's own value.
                *r = if (below - y).abs() < (y - *r).abs() { below } else { *r };
            }
        }
        self.columns.clear();
        self.columns.extend((0..w as i32).filter(|&x| self.nearest_row[x as usize] != NONE));
    }

    /// Second pass, along one row: calls `each(first column, end column, site)` for the stretches of the row from left
    /// to right, each with the column, row and squared vertical distance of the pixel nearest to all of the stretch.
    /// Calls nothing for an empty mask.
    #[inline]
    pub fn row(&mut self, y: usize, mut each: impl FnMut(usize, usize, Site)) {
        let nearest = &self.nearest_row[y * self.width..][..self.width];
        let (envelope, y, end) = (&mut self.envelope, y as i32, self.width as i32);
        envelope.clear();
        for &column in &self.columns {
            let vertical = nearest[column as usize] - y;
            let g2 = vertical * vertical;
            let mut start = 0;
            while let Some(&(from, site, site_g2)) = envelope.last() {
                let at = |site: i32, g2: i32| (from - site) * (from - site) + g2;
                if at(site, site_g2) > at(column, g2) {
                    envelope.pop();
                    continue;
                }
                // The last column up to which the site on the left is as near or nearer.
                let rise = (column - site) * (column + site) + g2 - site_g2;
                start = rise.div_euclid(2 * (column - site)) + 1;
                break;
            }
            if start < end {
                envelope.push((start, column, g2));
            }
        }
        for i in 0..envelope.len() {
            let (from, column, vertical_squared) = envelope[i];
            let to = envelope.get(i + 1).map_or(end, |next| next.0);
            each(
                from as usize,
                to as usize,
                Site { row: nearest[column as usize], column, vertical_squared },
            );
        }
    }
}

/// The pixel of the mask that is nearest to a stretch of a row.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Its row, from 0 at the top.
    pub row: i32,
    /// Its column, from 0 at the left.
    pub column: i32,
    /// Squared distance from its row to the stretch's, in pixels².
    pub vertical_squared: i32,
}

/// The whole transform. Empty for an empty mask.
pub fn transform(mask: &Mask) -> Vec<Nearest> {
    let mut transform = DistanceTransform::default();
    transform.prepare(mask);
    let mut out = Vec::with_capacity(mask.width() * mask.height());
    for y in 0..mask.height() {
        transform.row(y, |from, to, site| {
            out.extend((from as i32..to as i32).map(|x| Nearest {
                row: site.row,
                column: site.column,
                squared: (x - site.column) * (x - site.column) + site.vertical_squared,
            }));
        });
    }
    out
}

/// The same by trying every pixel of the mask, in the order of the tie rule: the reference.
pub fn plain(mask: &Mask) -> Vec<Nearest> {
    let (w, h, g) = (mask.width() as i32, mask.height() as i32, mask.pixels());
    let mut inside = Vec::new();
    for column in 0..w {
        for row in 0..h {
            if g[(row * w + column) as usize] == 1 {
                inside.push((row, column));
            }
        }
    }
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let squared = |&(row, column): &(i32, i32)| (y - row) * (y - row) + (x - column) * (x - column);
            // `min_by_key` keeps the first of equals.
            if let Some(&(row, column)) = inside.iter().min_by_key(|at| squared(at)) {
                out.push(Nearest { row, column, squared: squared(&(row, column)) });
            }
        }
    }
    out
}
