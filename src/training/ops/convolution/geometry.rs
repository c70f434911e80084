//! Sizes of a convolution with "same" padding.

/// Channels, sizes, kernel and stride; the padding is half of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Pictures.
    pub batch: usize,
    /// Input channels, rows and columns.
    pub cin: usize,
    /// Rows of an input plane.
    pub h: usize,
    /// Columns of an input plane.
    pub w: usize,
    /// Output channels.
    pub cout: usize,
    /// Side of the kernel, odd.
    pub kernel: usize,
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
}

impl Geometry {
    /// Rows of an output plane.
    pub fn out_h(&self) -> usize {
        (self.h - 1) / self.stride + 1
    }

    /// Columns of an output plane.
    pub fn out_w(&self) -> usize {
        (self.w - 1) / self.stride + 1
    }

    /// Pixels of an output plane.
    pub fn out_px(&self) -> usize {
        self.out_h() * self.out_w()
    }

    /// Pixels of an input plane.
    pub fn px(&self) -> usize {
        self.h * self.w
    }

    /// Taps of a kernel's plane.
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Products that make one output value.
    pub fn depth(&self) -> usize {
        self.cin * self.taps()
    }

    /// Values of the input `[batch, cin, h, w]`.
    pub fn input_len(&self) -> usize {
        self.batch * self.cin * self.px()
    }

    /// Values of the output `[batch, cout, out_h, out_w]`.
    pub fn output_len(&self) -> usize {
        self.batch * self.cout * self.out_px()
    }

    /// Values of the weights `[cout, cin, kernel, kernel]`.
    pub fn weight_len(&self) -> usize {
        self.cout * self.depth()
    }

    /// The convolution that carries a gradient back to the input: outputs become inputs, at the input's size.
    pub fn backwards(&self) -> Self {
        Self { cin: self.cout, cout: self.cin, stride: 1, ..*self }
    }
}
