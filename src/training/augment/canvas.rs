//! A picture under way: R, G and B from 0 to 1, and its labels.

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// Pixels in a row.
    pub w: usize,
    /// Rows.
    pub h: usize,
    /// Row-major; noise may lead beyond 0 to 1.
    pub rgb: Vec<[f32; 3]>,
    /// Row-major: 0 for background, else the class plus one.
    pub labels: Vec<u8>,
}

impl Canvas {
    /// From packed RGB of 8 bits, `3 · w · h` bytes, and `w · h` labels.
    pub fn from_bytes(rgb: &[u8], labels: Vec<u8>, w: usize, h: usize) -> Self {
        let rgb = rgb.as_chunks::<3>().0.iter().map(|p| p.map(|v| f32::from(v) / 255.0)).collect();
        Self { w, h, rgb, labels }
    }

    /// Packed RGB of 8 bits, rounded; what lies beyond 0 to 1 is cut off.
    pub fn to_rgb8(&self) -> Vec<u8> {
        self.rgb.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect()
    }

    /// As [`Canvas::to_rgb8`], and the labels.
    pub fn into_bytes(self) -> (Vec<u8>, Vec<u8>) {
        (self.to_rgb8(), self.labels)
    }

    /// Whether nothing is to be found.
    pub fn is_healthy(&self) -> bool {
        self.labels.iter().all(|l| *l == 0)
    }

    /// Pixels of which a polyp's edge is told at a glance scale with this.
    pub fn side(&self) -> f64 {
        self.w.min(self.h) as f64
    }
}
