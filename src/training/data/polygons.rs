//! Polygons to pixels: a pixel belongs to a polygon if its middle does, by the even-odd rule over all rings of a
//! region.

/// Sets the pixels inside to `class`. Rings are `x0, y0, x1, y1, …` in pixels, whole numbers lying between pixels.
pub fn paint(rings: &[Vec<f64>], (width, height): (usize, usize), labels: &mut [u8], class: u8) {
    let mut crossings = Vec::new();
    for y in 0..height {
        let middle = y as f64 + 0.5;
        crossings.clear();
        for ring in rings {
            let points: Vec<[f64; 2]> = ring.as_chunks::<2>().0.to_vec();
            for (i, &[ax, ay]) in points.iter().enumerate() {
                let [bx, by] = points[(i + 1) % points.len()];
                if (ay <= middle) != (by <= middle) {
                    crossings.push(ax + (middle - ay) / (by - ay) * (bx - ax));
                }
            }
        }
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.as_chunks::<2>().0 {
            let edge = |x: f64| (x - 0.5).ceil().clamp(0.0, width as f64) as usize;
            let (from, to) = (edge(pair[0]), edge(pair[1]));
            labels[y * width + from..y * width + to.max(from)].fill(class);
        }
    }
}
