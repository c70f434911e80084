//! The mask of a frame and the polyps it consists of.
//!
//! In: logits and the field of view. Out: a [`Mask`]: its pixels, and each connected region (8-neighbourhood) with
//! rectangle, area, mean probability, and its outline, which OpenCV follows.

use opencv::core::{CV_8U, Mat, Point, Vec4i, Vector};
use opencv::imgproc;
use opencv::prelude::*;

use super::{Thresholder, check_finite, logit, sigmoid};
use crate::frame::components::{Components, Neighbourhood};
use crate::frame::{Extent, Found, Mask, Polyp, Rect, Shape};
use crate::{Error, Result};

/// Thresholds logits into masks. Buffers are kept from frame to frame.
#[derive(Debug)]
pub struct Postprocessor {
    threshold: f64,
    thresholder: Thresholder,
    /// Logits at the field of view's size, where they may reach the threshold.
    large: Vec<f32>,
    /// Size of the field of view that OpenCV's buffers below were made for.
    made_for: (u32, u32),
    contours: Vector<Vector<Point>>,
    hierarchy: Vector<Vec4i>,
    components: Components,
    /// Of each component: its rectangle as left, top, right, bottom, its pixels, and the sum of their probabilities.
    measures: Vec<([i32; 4], u64, f64)>,
}

impl Postprocessor {
    /// `threshold`: probability from which on a pixel belongs to a polyp, 0 < threshold < 1.
    ///
    /// OpenCV is told to use one thread, in the whole process: its pool would wait for cores the network has.
    pub fn new(threshold: f64) -> Self {
        let _ = opencv::core::set_num_threads(1);
        Self {
            threshold,
            thresholder: Thresholder::default(),
            large: Vec::new(),
            made_for: (0, 0),
            contours: Vector::new(),
            hierarchy: Vector::new(),
            components: Components::default(),
            measures: Vec::new(),
        }
    }

    /// Changes the threshold, 0 < threshold < 1.
    pub fn set_threshold(&mut self, threshold: f64) {
        self.threshold = threshold;
    }

    /// Fills `mask` (whose `frame`, `pts`, `width` and `height` the caller sets) from the logits of its field of view.
    ///
    /// # Errors
    /// Logits that are no numbers.
    pub fn run(&mut self, logits: &[f32], shape: Shape, view: Rect, mask: &mut Mask) -> Result<()> {
        check_finite(logits)?;
        let (w, h) = (view.w as usize, view.h as usize);
        let level = self.level();
        mask.field_of_view = view;
        mask.inside.resize(w * h, 0);
        self.large.resize(w * h, 0.0);
        let size = (shape.height, shape.width);
        let (inside, large) = (&mut mask.inside, &mut self.large);
        let found = self.thresholder.run(logits, shape.classes, size, (h, w), level, inside, large);
        self.describe(mask, found)
    }

    /// The same where not everything the network marked is drawn: what is inside comes from `drawn`, one map of the
    /// network's size; probabilities are the network's own.
    ///
    /// # Errors
    /// Logits that are no numbers.
    pub fn run_drawn(
        &mut self,
        logits: &[f32],
        drawn: &[f32],
        shape: Shape,
        view: Rect,
        mask: &mut Mask,
    ) -> Result<()> {
        check_finite(logits)?;
        let (w, h) = (view.w as usize, view.h as usize);
        let level = self.level();
        mask.field_of_view = view;
        mask.inside.resize(w * h, 0);
        self.large.resize(w * h, 0.0);
        let size = (shape.height, shape.width);
        let (inside, large) = (&mut mask.inside, &mut self.large);
        // The largest value of the map, wherever it is: nothing reaches infinity.
        let most = self.thresholder.run(logits, shape.classes, size, (h, w), f32::INFINITY, inside, large);
        let found = self.thresholder.run(drawn, 1, size, (h, w), level, inside, large);
        self.thresholder.values_within(logits, shape.classes, size, (h, w), found.extent, large);
        self.describe(mask, Found { top: most.top, ..found })
    }

    /// The same where an engine has thresholded the map itself: `mask.inside` is filled already, `found` says with
    /// what.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn run_marked(
        &mut self,
        logits: &[f32],
        shape: Shape,
        view: Rect,
        found: Found,
        mask: &mut Mask,
    ) -> Result<()> {
        let (w, h) = (view.w as usize, view.h as usize);
        mask.field_of_view = view;
        self.large.resize(w * h, 0.0);
        let size = (shape.height, shape.width);
        self.thresholder.values_within(logits, shape.classes, size, (h, w), found.extent, &mut self.large);
        self.describe(mask, found)
    }

    /// Area, largest probability and regions of a mask whose pixels and values are there.
    fn describe(&mut self, mask: &mut Mask, found: Found) -> Result<()> {
        mask.area_px = found.area;
        mask.max_probability = sigmoid(found.top);
        mask.polyps.clear();
        if !found.extent.is_empty() {
            self.regions(mask, found.extent)
                .map_err(|e| Error::internal(format!("mask analysis: {e}")).because(e))?;
        }
        Ok(())
    }

    /// The logit from which on a pixel is marked.
    pub fn level(&self) -> f32 {
        logit(self.threshold)
    }

    /// Looks at the rectangle of the mask that has pixels in it.
    fn regions(&mut self, mask: &mut Mask, extent: Extent) -> opencv::Result<()> {
        let view = mask.field_of_view;
        // Nothing that C++ keeps outlives the size it was made for.
        if self.made_for != (view.w, view.h) {
            self.made_for = (view.w, view.h);
            (self.contours, self.hierarchy) = (Vector::new(), Vector::new());
        }
        let (w, h) = (view.w as i32, view.h as i32);
        let whole = Mat::new_rows_cols_with_data(h, w, &mask.inside)?;
        debug_assert_eq!(whole.typ(), CV_8U);
        let (left, top) = (extent.left as i32, extent.top as i32);
        let size = (extent.right as i32 - left, extent.bottom as i32 - top);
        let image = Mat::roi(&whole, opencv::core::Rect::new(left, top, size.0, size.1))?;
        // Results are in the rectangle's pixels; the frame's are these.
        let (frame_x, frame_y) = (view.x + extent.left as u32, view.y + extent.top as u32);
        let (wide, rows) = (view.w as usize, extent.top..extent.bottom);
        let lines = rows.map(|y| &mask.inside[y * wide..][extent.left..extent.right]);
        self.components.label(lines, Neighbourhood::Eight);
        self.measures.clear();
        self.measures.resize(self.components.count(), ([i32::MAX, i32::MAX, 0, 0], 0, 0.0));
        for (run, number) in self.components.runs() {
            let ([x0, y0, x1, y1], area, sum) = &mut self.measures[number];
            (*x0, *y0, *x1, *y1) = ((*x0).min(run.x0), (*y0).min(run.y), (*x1).max(run.x1), run.y + 1);
            *area += run.area();
            let start = (extent.top + run.y as usize) * wide + extent.left;
            let values = &self.large[start + run.x0 as usize..start + run.x1 as usize];
            values.iter().for_each(|&l| *sum += f64::from(sigmoid(l)));
        }
        mask.polyps.extend(self.measures.iter().map(|&([x0, y0, x1, y1], area, sum)| Polyp {
            bbox: Rect::new(frame_x + x0 as u32, frame_y + y0 as u32, (x1 - x0) as u32, (y1 - y0) as u32),
            area_px: area,
            mean_probability: (sum / area.max(1) as f64) as f32,
            contour: Vec::new(),
            track_id: None,
        }));
        // Two levels: outlines of regions (also of one inside another's hole), and of holes.
        imgproc::find_contours_with_hierarchy(
            &image,
            &mut self.contours,
            &mut self.hierarchy,
            imgproc::RETR_CCOMP,
            imgproc::CHAIN_APPROX_SIMPLE,
            Point::new(0, 0),
        )?;
        for (contour, links) in self.contours.iter().zip(self.hierarchy.iter()) {
            let is_hole = links[3] >= 0;
            let Ok(first) = contour.get(0) else { continue };
            if is_hole {
                continue;
            }
            let number = self.components.at(first.x, first.y);
            let Some(polyp) = number.and_then(|n| mask.polyps.get_mut(n)) else { continue };
            polyp.contour = contour.iter().map(|p| [p.x + frame_x as i32, p.y + frame_y as i32]).collect();
            if doubled_area(&polyp.contour) < 0 {
                polyp.contour.reverse();
            }
        }
        mask.polyps.sort_by(|a, b| {
            b.area_px.cmp(&a.area_px).then_with(|| <[u32; 4]>::from(a.bbox).cmp(&b.bbox.into()))
        });
        Ok(())
    }
}

/// Twice the signed area of a polygon; positive if clockwise on screen (y runs down).
fn doubled_area(points: &[[i32; 2]]) -> i64 {
    let next = points.iter().cycle().skip(1);
    points
        .iter()
        .zip(next)
        .map(|(a, b)| i64::from(a[0]) * i64::from(b[1]) - i64::from(b[0]) * i64::from(a[1]))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { height: 32, width: 64, classes: 1 };

    fn blob(logits: &mut [f32], x: usize, y: usize, w: usize, h: usize, value: f32) {
        for j in y..y + h {
            logits[j * 64 + x..j * 64 + x + w].fill(value);
        }
    }

    fn run(logits: &[f32], view: Rect, threshold: f64) -> Mask {
        let mut mask = Mask { width: 200, height: 100, ..Default::default() };
        Postprocessor::new(threshold).run(logits, SHAPE, view, &mut mask).unwrap();
        mask
    }

    #[test]
    fn regions_have_rectangle_area_probability_and_outline_in_source_pixels() {
        let mut logits = vec![-5.0; 32 * 64];
        blob(&mut logits, 4, 4, 6, 5, 3.0);
        blob(&mut logits, 40, 10, 20, 10, 2.0);
        let view = Rect::new(100, 50, 64, 32);
        let m = run(&logits, view, 0.5);
        assert_eq!(m.polyps.len(), 2);
        assert_eq!(m.area_px, 230);
        let big = &m.polyps[0];
        assert_eq!((big.bbox, big.area_px), (Rect::new(140, 60, 20, 10), 200));
        assert!((big.mean_probability - sigmoid(2.0)).abs() < 1e-5);
        assert_eq!(big.contour.len(), 4);
        assert!(doubled_area(&big.contour) > 0, "clockwise on screen");
        assert!(big.contour.contains(&[140, 60]) && big.contour.contains(&[159, 69]));
        assert!((m.max_probability - sigmoid(3.0)).abs() < 1e-5);
        assert!(m.is_inside(140, 60) && !m.is_inside(139, 60) && !m.is_inside(0, 0));
    }

    #[test]
    fn a_region_in_the_hole_of_another_has_its_own_outline() {
        let mut logits = vec![-5.0; 32 * 64];
        blob(&mut logits, 4, 4, 30, 24, 3.0);
        blob(&mut logits, 8, 8, 20, 16, -5.0);
        blob(&mut logits, 14, 12, 6, 6, 3.0);
        let m = run(&logits, Rect::new(10, 10, 64, 32), 0.5);
        assert_eq!(m.polyps.iter().map(|p| p.area_px).collect::<Vec<_>>(), [400, 36]);
        assert!(m.polyps[0].contour.contains(&[14, 14]) && m.polyps[1].contour.contains(&[24, 22]));
    }

    /// Area, rectangle and mean probability are OpenCV's, which labelled the regions before.
    #[test]
    fn regions_are_what_opencv_labels() {
        use opencv::core::CV_32S;
        let mut state = 7u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for round in 0..200 {
            let (w, h) = (1 + random(70) as usize, 1 + random(50) as usize);
            let dense = 1 + random(9);
            let inside: Vec<u8> = (0..w * h).map(|_| u8::from(random(10) < dense)).collect();
            let mut extent = Extent { left: w, top: h, right: 0, bottom: 0 };
            for i in (0..w * h).filter(|i| inside[*i] != 0) {
                let (x, y) = (i % w, i / w);
                (extent.left, extent.right) = (extent.left.min(x), extent.right.max(x + 1));
                (extent.top, extent.bottom) = (extent.top.min(y), extent.bottom.max(y + 1));
            }
            if extent.is_empty() {
                continue;
            }
            let large: Vec<f32> = (0..w * h).map(|_| random(100) as f32 / 20.0).collect();
            let view = Rect::new(3, 5, w as u32, h as u32);
            let mut post = Postprocessor { large: large.clone(), ..Postprocessor::new(0.5) };
            let mut mask = Mask { field_of_view: view, inside: inside.clone(), ..Mask::default() };
            post.regions(&mut mask, extent).unwrap();

            let image = Mat::new_rows_cols_with_data(h as i32, w as i32, &inside).unwrap();
            let (mut labels, mut stats, mut centroids) = (Mat::default(), Mat::default(), Mat::default());
            let count = imgproc::connected_components_with_stats(
                &image,
                &mut labels,
                &mut stats,
                &mut centroids,
                8,
                CV_32S,
            )
            .unwrap();
            let mut want: Vec<_> = (1..count)
                .map(|n| {
                    let at = |column: i32| *stats.at_2d::<i32>(n, column).unwrap() as u32;
                    let of = |i: &usize| *labels.at_2d::<i32>((i / w) as i32, (i % w) as i32).unwrap() == n;
                    let sum: f64 = (0..w * h).filter(of).map(|i| f64::from(sigmoid(large[i]))).sum();
                    let bbox = [
                        3 + at(imgproc::CC_STAT_LEFT),
                        5 + at(imgproc::CC_STAT_TOP),
                        at(imgproc::CC_STAT_WIDTH),
                        at(imgproc::CC_STAT_HEIGHT),
                    ];
                    let area = at(imgproc::CC_STAT_AREA);
                    (u64::from(area), bbox, (sum / f64::from(area)) as f32)
                })
                .collect();
            want.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            let got: Vec<_> = mask
                .polyps
                .iter()
                .map(|p| (p.area_px, <[u32; 4]>::from(p.bbox), p.mean_probability))
                .collect();
            assert_eq!(got, want, "round {round}");
            for p in &mask.polyps {
                let [x, y] = p.contour[0].map(|c| c as u32);
                assert!(mask.is_inside(x, y) && p.bbox.contains(x, y), "round {round}: {p:?}");
                // An outline, and not that of a hole, touches every side of the rectangle.
                let bounds = |axis: usize| {
                    let along = p.contour.iter().map(|c| c[axis]);
                    (along.clone().min().unwrap() as u32, along.max().unwrap() as u32)
                };
                let Rect { x, y, w, h } = p.bbox;
                assert_eq!((bounds(0), bounds(1)), ((x, x + w - 1), (y, y + h - 1)), "round {round}");
                // Clockwise on screen: by trapezoids under its sides.
                let ends = p.contour.iter().zip(p.contour.iter().cycle().skip(1));
                let area: i64 = ends.map(|(a, b)| i64::from(a[0] - b[0]) * i64::from(a[1] + b[1])).sum();
                assert!(area >= 0, "round {round}: {area}");
            }
        }
    }

    #[test]
    fn nothing_above_the_threshold_is_an_empty_mask() {
        let m = run(&vec![-0.1; 32 * 64], Rect::full(200, 100), 0.5);
        assert_eq!((m.area_px, m.polyps.len()), (0, 0));
        assert!((m.max_probability - sigmoid(-0.1)).abs() < 1e-6);
        assert_eq!(run(&vec![-0.1; 32 * 64], Rect::full(200, 100), 0.4).area_px, 20_000);
    }

    #[test]
    fn what_is_not_drawn_is_not_marked_and_still_known() {
        let mut logits = vec![-5.0; 32 * 64];
        blob(&mut logits, 4, 4, 6, 5, 3.0);
        blob(&mut logits, 40, 10, 20, 10, 2.0);
        let mut drawn = vec![-3.0; 32 * 64];
        blob(&mut drawn, 40, 10, 20, 10, 0.5);
        let mut mask = Mask { width: 200, height: 100, ..Default::default() };
        let view = Rect::new(100, 50, 64, 32);
        Postprocessor::new(0.5).run_drawn(&logits, &drawn, SHAPE, view, &mut mask).unwrap();
        assert_eq!((mask.area_px, mask.polyps.len()), (200, 1));
        assert!((mask.polyps[0].mean_probability - sigmoid(2.0)).abs() < 1e-5);
        assert!((mask.max_probability - sigmoid(3.0)).abs() < 1e-5);
        // What is drawn of everything is what is marked without a filter.
        let (mut all, mut plain) = (mask.clone(), mask);
        Postprocessor::new(0.5).run_drawn(&logits, &logits, SHAPE, view, &mut all).unwrap();
        Postprocessor::new(0.5).run(&logits, SHAPE, view, &mut plain).unwrap();
        assert_eq!(all, plain);
    }

    #[test]
    fn another_threshold_marks_more_or_less() {
        let mut logits = vec![-5.0; 32 * 64];
        blob(&mut logits, 4, 4, 6, 5, 3.0);
        blob(&mut logits, 40, 10, 20, 10, 0.5);
        let view = Rect::new(0, 0, 64, 32);
        let mut post = Postprocessor::new(0.5);
        for (threshold, area) in [(0.5, 230), (0.9, 30), (0.6, 230), (0.99, 0)] {
            post.set_threshold(threshold);
            let mut mask = Mask { width: 64, height: 32, ..Default::default() };
            post.run(&logits, SHAPE, view, &mut mask).unwrap();
            assert_eq!(mask.area_px, area, "{threshold}");
        }
    }

    #[test]
    fn a_map_that_an_engine_has_thresholded_gives_the_same_mask() {
        let mut logits = vec![-5.0; 32 * 64];
        blob(&mut logits, 4, 4, 6, 5, 3.0);
        blob(&mut logits, 40, 10, 20, 10, 2.0);
        let view = Rect::new(10, 5, 128, 64);
        let plain = run(&logits, view, 0.5);
        let mut mask = Mask { width: 200, height: 100, ..Default::default() };
        mask.inside.resize(128 * 64, 0);
        let mut large = vec![0.0; 128 * 64];
        let found =
            Thresholder::default().run(&logits, 1, (32, 64), (64, 128), 0.0, &mut mask.inside, &mut large);
        Postprocessor::new(0.5).run_marked(&logits, SHAPE, view, found, &mut mask).unwrap();
        assert_eq!(mask, plain);
    }

    #[test]
    fn a_map_with_nan_is_an_error() {
        let mut logits = vec![0.0; 32 * 64];
        logits[77] = f32::NAN;
        let mut mask = Mask::default();
        let e = Postprocessor::new(0.5).run(&logits, SHAPE, Rect::full(20, 10), &mut mask).unwrap_err();
        assert!(e.to_string().contains("not a number"), "{e}");
    }

    /// A session keeps its mask and its buffers: nothing of the last frame may show in the next, whatever its size, and
    /// whichever way the marks come.
    #[test]
    fn nothing_of_the_last_frame_is_left_in_the_next() {
        let mut two = vec![-5.0; 32 * 64];
        blob(&mut two, 4, 4, 6, 5, 3.0);
        blob(&mut two, 40, 10, 20, 10, 2.0);
        let mut one = vec![-5.0; 32 * 64];
        blob(&mut one, 20, 20, 9, 7, 1.0);
        let none = vec![-4.0; 32 * 64];
        let (large, small) = (Rect::new(10, 5, 128, 64), Rect::new(3, 4, 64, 32));
        let mut post = Postprocessor::new(0.5);
        let empty = || Mask { width: 200, height: 100, ..Default::default() };
        let mut kept = [empty(), empty(), empty()];
        for (frame, (logits, view)) in
            [(&two, large), (&one, small), (&none, small), (&one, large), (&none, large), (&two, small)]
                .into_iter()
                .enumerate()
        {
            let fresh = run(logits, view, 0.5);
            post.run(logits, SHAPE, view, &mut kept[0]).unwrap();
            post.run_drawn(logits, logits, SHAPE, view, &mut kept[1]).unwrap();
            let (size, target) = ((32, 64), (view.h as usize, view.w as usize));
            let mut values = vec![0.0; target.0 * target.1];
            kept[2].inside.resize(values.len(), 0);
            let found =
                Thresholder::default().run(logits, 1, size, target, 0.0, &mut kept[2].inside, &mut values);
            post.run_marked(logits, SHAPE, view, found, &mut kept[2]).unwrap();
            for mask in &kept {
                assert_eq!(*mask, fresh, "frame {frame}");
            }
        }
    }
}
