//! How the engine stores an activation or a weight.
//!
//! In: f32. Out: words of 32 bits along the reduction, and back. One description for maps, packed weights and whoever
//! reads or writes a map from outside; kernels themselves know their storage by [`super::lanes::Lanes`].

/// The number format of a map or of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    F32,
    /// The upper half of an f32.
    Bf16,
    /// Activations that are not negative in steps of their map's scale, weights as signed integers.
    U8,
}

impl Storage {
    /// Bytes of a value.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
            Storage::U8 => 1,
        }
    }

    /// Values in a word.
    pub(crate) const fn per_word(self) -> usize {
        4 / self.bytes()
    }

    /// Whether rounding to it is so coarse that an operation's own rounding must be kept small.
    pub(crate) const fn is_coarse(self) -> bool {
        match self {
            Storage::F32 => false,
            Storage::Bf16 => true,
            // Winograd's algorithm is exact on integers.
            Storage::U8 => false,
        }
    }

    /// One word from its values, `value(i)` being the i-th.
    pub(crate) fn word(self, value: impl Fn(usize) -> f32) -> u32 {
        match self {
            Storage::F32 => value(0).to_bits(),
            Storage::Bf16 => u32::from(bf16_bits(value(0))) | u32::from(bf16_bits(value(1))) << 16,
            // Weights: whole numbers from -127 to 127.
            Storage::U8 => u32::from_le_bytes([0, 1, 2, 3].map(|i| value(i) as i8 as u8)),
        }
    }

    /// # Safety
    /// `at` points at a value stored this way.
    pub(crate) unsafe fn read(self, at: *const u8) -> f32 {
        // SAFETY: the caller's promise; maps are aligned to their values.
        unsafe {
            match self {
                Storage::F32 => *at.cast::<f32>(),
                Storage::Bf16 => bf16_value(*at.cast::<u16>()),
                Storage::U8 => f32::from(*at),
            }
        }
    }

    /// # Safety
    /// `at` points at the place of a value stored this way, which nobody else reads or writes now.
    pub(crate) unsafe fn write(self, at: *mut u8, value: f32) {
        // SAFETY: the caller's promise; maps are aligned to their values.
        unsafe {
            match self {
                Storage::F32 => *at.cast::<f32>() = value,
                Storage::Bf16 => *at.cast::<u16>() = bf16_bits(value),
                Storage::U8 => *at = quantised(value) as u8,
            }
        }
    }
}

/// The nearest whole number from 0 to 255, ties to even; 0 for NaN, which is looked for where frames come in.
#[inline(always)]
pub(crate) fn quantised(x: f32) -> f32 {
    if x > 0.0 { x.min(255.0).round_ties_even() } else { 0.0 }
}

/// f32 to bf16, to nearest even, as the processors' own instruction does (NaN stays NaN, denormals aside).
pub(crate) fn bf16_bits(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

#[inline(always)]
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}
