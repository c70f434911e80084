//! How the engine stores an activation or a weight.
//!
//! In: f32. Out: words of 32 bits along the reduction, and back. One description for maps, packed weights and whoever reads
//! or writes a map from outside; kernels themselves know their storage by [`super::lanes::Lanes`].

/// The number format of a map or of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    F32,
    /// The upper half of an f32.
    Bf16,
}

impl Storage {
    /// Bytes of a value.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
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
        }
    }

    /// One word from its values, `value(i)` being the i-th.
    pub(crate) fn word(self, value: impl Fn(usize) -> f32) -> u32 {
        match self {
            Storage::F32 => value(0).to_bits(),
            Storage::Bf16 => u32::from(bf16_bits(value(0))) | u32::from(bf16_bits(value(1))) << 16,
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
            }
        }
    }
}

/// f32 to bf16, to nearest even, as the processors' own instruction does (NaN stays NaN, denormals aside).
pub(crate) fn bf16_bits(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

#[inline(always)]
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}
