//! Points, directions and poses in millimetres, and the lens: a point in front of the scope goes in, its pixel comes
//! out, and back.

pub(crate) type Vec3 = [f32; 3];

#[inline(always)]
pub(crate) fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

#[inline(always)]
pub(crate) fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

#[inline(always)]
pub(crate) fn scale(a: Vec3, f: f32) -> Vec3 {
    [a[0] * f, a[1] * f, a[2] * f]
}

#[inline(always)]
pub(crate) fn mad(a: Vec3, b: Vec3, f: f32) -> Vec3 {
    [a[0] + b[0] * f, a[1] + b[1] * f, a[2] + b[2] * f]
}

#[inline(always)]
pub(crate) fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[inline(always)]
pub(crate) fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[inline(always)]
pub(crate) fn length(a: Vec3) -> f32 {
    dot(a, a).sqrt()
}

/// Unit vector; a vector without length comes back as it is.
#[inline(always)]
pub(crate) fn unit(a: Vec3) -> Vec3 {
    let l = length(a);
    if l > 0.0 { scale(a, 1.0 / l) } else { a }
}

/// Where the tip of the scope is and how it is turned: the camera's right, down and forward in the colon's coordinates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    pub at: Vec3,
    pub right: Vec3,
    pub down: Vec3,
    pub forward: Vec3,
}

impl Pose {
    #[inline(always)]
    pub fn turn_in(&self, v: Vec3) -> Vec3 {
        [dot(v, self.right), dot(v, self.down), dot(v, self.forward)]
    }

    /// From the colon's coordinates to the camera's.
    #[inline(always)]
    pub fn camera_point(&self, p: Vec3) -> Vec3 {
        self.turn_in(sub(p, self.at))
    }

    /// From the camera's coordinates to the colon's.
    #[inline(always)]
    pub fn colon_point(&self, p: Vec3) -> Vec3 {
        mad(mad(mad(self.at, self.right, p[0]), self.down, p[1]), self.forward, p[2])
    }
}

/// Barrel of the lens: 0 would be a pinhole, 1 stereographic; 2 stays within 5 % of an equidistant fisheye up to 90°
/// off the axis, as wide-angle colonoscopes are, and needs no trigonometry.
const BARREL: f32 = 2.0;

/// A wide-angle lens: image radius `focal · 3 sin θ / (cos θ + 2)` pixels at θ off the axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lens {
    /// Optical centre in pixels (0, 0 is the top left corner of the first pixel).
    pub centre: [f32; 2],
    /// Pixels per radian in the middle of the picture.
    pub focal: f32,
}

impl Lens {
    /// Pixel of a point in camera coordinates and its distance; `None` beside or behind the tip, where the lens sees
    /// nothing.
    #[inline(always)]
    pub fn project(&self, p: Vec3) -> Option<([f32; 2], f32)> {
        let r = length(p);
        // 100° off the axis: the widest view ends at 80°, the rest lets triangles reach across the border.
        if r < 0.5 || p[2] < -0.17 * r {
            return None;
        }
        let f = self.focal * (1.0 + BARREL) / (p[2] + BARREL * r);
        Some(([self.centre[0] + f * p[0], self.centre[1] + f * p[1]], r))
    }

    /// Unit direction seen by a pixel position.
    pub fn ray(&self, x: f32, y: f32) -> Vec3 {
        let (dx, dy) = ((x - self.centre[0]) / self.focal, (y - self.centre[1]) / self.focal);
        let rho2 = dx * dx + dy * dy;
        if rho2 < 1e-12 {
            return [0.0, 0.0, 1.0];
        }
        // (1+k) sin θ = ρ (cos θ + k), squared and solved for cos θ.
        let k1 = (1.0 + BARREL) * (1.0 + BARREL);
        let root = (k1 * (k1 + rho2 - rho2 * BARREL * BARREL)).max(0.0).sqrt();
        let c = ((root - rho2 * BARREL) / (k1 + rho2)).clamp(-1.0, 1.0);
        let f = ((1.0 - c * c) / rho2).sqrt();
        [dx * f, dy * f, c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_ray_projects_back_onto_its_pixel(x in 0.0f32..1280.0, y in 0.0f32..720.0, far in 1.0f32..200.0) {
            let lens = Lens { centre: [640.0, 360.0], focal: 572.0 };
            let d = lens.ray(x, y);
            prop_assert!((length(d) - 1.0).abs() < 1e-4);
            let (p, r) = lens.project(scale(d, far)).expect("in view");
            prop_assert!((p[0] - x).abs() < 0.02 && (p[1] - y).abs() < 0.02, "{p:?} {x} {y}");
            prop_assert!((r - far).abs() < 1e-2 * far);
        }
    }

    #[test]
    fn poses_turn_back_and_forth() {
        let pose = Pose {
            at: [1.0, 2.0, 3.0],
            right: [0.0, 1.0, 0.0],
            down: [0.0, 0.0, 1.0],
            forward: [1.0, 0.0, 0.0],
        };
        let p = [4.0, -5.0, 6.0];
        assert_eq!(pose.colon_point(pose.camera_point(p)), p);
    }
}
