//! The engine's kernels compiled once for each instruction set, and the choice among them at run time.
//!
//! In: a precision, the processor's features. Out: [`Isa`], a table of compiled functions.

use std::fmt;

use super::conv::{self, Conv, TileKernels};
use super::lanes::Lanes;
use super::multiply_accumulate;
use super::output_conv::{self, OutputConv};
use super::pool::{self, Pool};
use super::resize::{self, Join};
use super::storage::Storage;
use super::subtract::{self, Subtract};
use super::tile;
use super::winograd::{self, Winograd};
use super::winograd_i16::{self, WinogradI16};

/// An instruction set and precision the engine has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// f32, plain Rust, any processor.
    PortableF32,
    /// bf16 storage with plain arithmetic: slow, for tests only.
    PortableBf16,
    /// f32, AVX2 and FMA.
    Avx2F32,
    /// f32, AVX-512 F, BW, VL.
    Avx512F32,
    /// bf16, AVX-512 with BF16.
    Avx512Bf16,
    /// 8-bit integers with plain arithmetic: slow, for tests only.
    PortableI8,
    /// 8-bit integers, AVX2 and FMA.
    Avx2I8,
    /// 8-bit integers, AVX-VNNI (256 bits).
    AvxVnniI8,
    /// 8-bit integers, AVX-512 with VNNI.
    Avx512VnniI8,
}

impl KernelSet {
    /// Those that compute in floating-point numbers.
    pub const FLOAT: [KernelSet; 5] = [
        KernelSet::PortableF32,
        KernelSet::PortableBf16,
        KernelSet::Avx2F32,
        KernelSet::Avx512F32,
        KernelSet::Avx512Bf16,
    ];

    /// Those that compute in integers; all give the same bits.
    pub const INTEGER: [KernelSet; 4] =
        [KernelSet::PortableI8, KernelSet::Avx2I8, KernelSet::AvxVnniI8, KernelSet::Avx512VnniI8];

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            KernelSet::PortableF32 | KernelSet::PortableBf16 | KernelSet::PortableI8 => true,
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2F32 | KernelSet::Avx2I8 => avx2(),
            #[cfg(target_arch = "x86_64")]
            KernelSet::AvxVnniI8 => avx2() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512VnniI8 => avx512() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512F32 => avx512(),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest f32 path of this processor.
    pub fn best_f32() -> KernelSet {
        [KernelSet::Avx512F32, KernelSet::Avx2F32]
            .into_iter()
            .find(|p| p.is_available())
            .unwrap_or(KernelSet::PortableF32)
    }

    /// The bf16 path, where this processor has one worth using.
    pub fn best_bf16() -> Option<KernelSet> {
        Some(KernelSet::Avx512Bf16).filter(|p| p.is_available())
    }

    /// The fastest integer path, where this processor has one worth using.
    pub fn best_i8() -> Option<KernelSet> {
        [KernelSet::Avx512VnniI8, KernelSet::AvxVnniI8, KernelSet::Avx2I8]
            .into_iter()
            .find(|p| p.is_available())
    }

    /// Whether bf16 is faster here than f32. Intel's processors with AVX512_BF16 multiply and add in it at half of
    /// f32's rate (177 against 352 GFLOP/s on a fifth-generation Xeon; their fast way is AMX, for which there are no
    /// kernels).
    pub fn bf16_is_faster() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let name = std::arch::x86_64::__cpuid(0);
            let intel = [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel";
            Self::best_bf16().is_some() && !intel
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether 8-bit integers are faster here than floating point: everywhere but where floating point has registers of
    /// 512 bits and integers have no multiply-accumulate of their own (Skylake-X).
    pub fn i8_is_fastest() -> bool {
        match Self::best_i8() {
            Some(KernelSet::Avx2I8) => Self::best_f32() != KernelSet::Avx512F32,
            Some(_) => true,
            None => false,
        }
    }

    /// Whether it multiplies 8-bit integers, as all of [`KernelSet::INTEGER`] do.
    pub fn is_i8(self) -> bool {
        KernelSet::INTEGER.contains(&self)
    }

    /// Whether it stores maps in bf16.
    pub fn is_bf16(self) -> bool {
        matches!(self, KernelSet::PortableBf16 | KernelSet::Avx512Bf16)
    }

    /// Precision and instruction set, as reports and errors name them: `f32, avx2`.
    pub const fn name(self) -> &'static str {
        match self {
            KernelSet::PortableF32 => "f32, portable",
            KernelSet::PortableBf16 => "bf16, portable",
            KernelSet::Avx2F32 => "f32, avx2",
            KernelSet::Avx512F32 => "f32, avx512",
            KernelSet::Avx512Bf16 => "bf16, avx512_bf16",
            KernelSet::PortableI8 => "i8, portable",
            KernelSet::Avx2I8 => "i8, avx2",
            KernelSet::AvxVnniI8 => "i8, avx_vnni",
            KernelSet::Avx512VnniI8 => "i8, avx512_vnni",
        }
    }

    /// The compiled kernels; `None` where the processor cannot run them.
    pub(crate) fn isa(self) -> Option<&'static Isa> {
        if !self.is_available() {
            return None;
        }
        match self {
            KernelSet::PortableF32 => Some(&portable_f32::ISA),
            KernelSet::PortableBf16 => Some(&portable_bf16::ISA),
            KernelSet::PortableI8 => Some(&portable_i8::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2I8 => Some(&avx2_i8::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::AvxVnniI8 => Some(&avx_vnni_i8::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512VnniI8 => Some(&avx512_vnni_i8::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2F32 => Some(&avx2_f32::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512F32 => Some(&avx512_f32::ISA),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512Bf16 => Some(&avx512_bf16::ISA),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }
}

impl fmt::Display for KernelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
}

/// Kernels compiled for one path. Each function's contract is that of the generic one it instantiates.
pub(crate) struct Isa {
    pub(crate) lanes: usize,
    pub(crate) vectors: usize,
    /// Of maps and packed weights.
    pub(crate) storage: Storage,
    pub(crate) tiles: TileKernels,
    /// f32 tiles with this path's vectors: the first convolution reads f32 at any precision.
    pub(crate) f32_tiles: &'static TileKernels,
    /// Of integer paths: two i16 in a word, for Winograd's transformed domain.
    pub(crate) i16_tiles: &'static TileKernels,
    pub(crate) conv: unsafe fn(&Conv, usize, *mut f32),
    pub(crate) winograd: unsafe fn(&Winograd, usize, *mut f32),
    /// Of integer paths.
    pub(crate) winograd_i16: Option<unsafe fn(&WinogradI16, usize, *mut f32)>,
    pub(crate) subtract: unsafe fn(&Subtract, usize, *mut f32),
    pub(crate) pool: unsafe fn(&Pool, usize),
    pub(crate) join: unsafe fn(&Join, usize),
    pub(crate) output_conv: unsafe fn(&OutputConv, usize),
    pub(crate) peak: unsafe fn(usize) -> f32,
}

impl Isa {
    /// The tiles that multiply maps of this storage: the path's own, or f32's.
    pub(crate) fn tiles_of(&'static self, storage: Storage) -> &'static TileKernels {
        if storage == self.storage { &self.tiles } else { self.f32_tiles }
    }
}

// More than a register file holds is never asked for (`Lanes::pixels`): those entries repeat a tile that exists.
macro_rules! tiles {
    ($tile:ident, wide) => {
        [
            tiles!(@list $tile, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!(@list $tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!(@list $tile, 3, 1 2 3 4 5 6 7 8 8 8 8 8),
            tiles!(@list $tile, 4, 1 2 3 4 5 6 6 6 6 6 6 6),
        ]
    };
    ($tile:ident, narrow) => {
        [
            tiles!(@list $tile, 1, 1 2 3 4 5 6 6 6 6 6 6 6),
            tiles!(@list $tile, 2, 1 2 3 4 5 6 6 6 6 6 6 6),
            tiles!(@list $tile, 2, 1 2 3 4 5 6 6 6 6 6 6 6),
            tiles!(@list $tile, 2, 1 2 3 4 5 6 6 6 6 6 6 6),
        ]
    };
    (@list $tile:ident, $v:literal, $($p:literal)*) => { [$($tile::<$p, $v> as tile::TileKernel),*] };
}

/// The kernels that every path has, generic over its lanes.
macro_rules! kernels {
    ($lanes:ty $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn tile<const PIXELS: usize, const VECTORS: usize>(t: &tile::Tile) {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { tile::accumulate::<$lanes, PIXELS, VECTORS>(t) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn conv(c: &Conv, task: usize, scratch: *mut f32) {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { conv::task::<$lanes>(c, task, scratch) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn subtract(s: &Subtract, task: usize, scratch: *mut f32) {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { subtract::task::<$lanes>(s, task, scratch) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn pool(p: &Pool, task: usize) {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { pool::task::<$lanes>(p, task) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn join(j: &Join, task: usize) {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { resize::join::<$lanes>(j, task) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn peak(turns: usize) -> f32 {
            // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`) and
            // keeps the contract of the function that is called.
            unsafe { multiply_accumulate::multiply_accumulate::<$lanes>(turns) }
        }
    };
}

macro_rules! compile {
    ($name:ident, $lanes:ty, $width:ident, $f32:ident $(, $features:literal)?) => {
        mod $name {
            use super::*;

            kernels!($lanes $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn winograd(w: &Winograd, task: usize, scratch: *mut f32) {
                // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`)
                // and keeps the contract of the function that is called.
                unsafe { winograd::task::<$lanes, $lanes>(w, task, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn output_conv(c: &OutputConv, task: usize) {
                // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`)
                // and keeps the contract of the function that is called.
                unsafe { output_conv::output_conv::<$lanes>(c, task) }
            }

            pub(super) static ISA: Isa = Isa {
                lanes: <$lanes>::COUNT,
                vectors: <$lanes>::VECTORS,
                storage: <$lanes>::STORAGE,
                tiles: tiles!(tile, $width),
                f32_tiles: &super::$f32::ISA.tiles,
                i16_tiles: &super::$f32::ISA.tiles,
                conv,
                winograd,
                winograd_i16: None,
                subtract,
                pool,
                join,
                output_conv,
                peak,
            };
        }
    };
}

// Integer paths: maps of f32 stand beside those of u8 in them; what reads only those is the f32 path's.
macro_rules! compile_integer {
    ($name:ident, $lanes:ty, $i16:ty, $f32_lanes:ty, $width:ident, $f32:ident $(, $features:literal)?) => {
        mod $name {
            use super::*;

            kernels!($lanes $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn i16_tile<const PIXELS: usize, const VECTORS: usize>(t: &tile::Tile) {
                // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`)
                // and keeps the contract of the function that is called.
                unsafe { tile::accumulate::<$i16, PIXELS, VECTORS>(t) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd(w: &Winograd, task: usize, scratch: *mut f32) {
                // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`)
                // and keeps the contract of the function that is called.
                unsafe { winograd::task::<$f32_lanes, $lanes>(w, task, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_i16(w: &WinogradI16, task: usize, scratch: *mut f32) {
                // SAFETY: the caller found this path's instructions on the processor (`KernelSet::isa`)
                // and keeps the contract of the function that is called.
                unsafe { winograd_i16::task::<$lanes>(w, task, scratch) }
            }

            static I16_TILES: TileKernels = tiles!(i16_tile, $width);

            pub(super) static ISA: Isa = Isa {
                lanes: <$lanes>::COUNT,
                vectors: <$lanes>::VECTORS,
                storage: <$lanes>::STORAGE,
                tiles: tiles!(tile, $width),
                f32_tiles: &super::$f32::ISA.tiles,
                i16_tiles: &I16_TILES,
                conv,
                winograd,
                winograd_i16: Some(winograd_i16),
                subtract,
                pool,
                join,
                output_conv: super::$f32::ISA.output_conv,
                peak,
            };
        }
    };
}

compile_integer!(
    portable_i8,
    super::super::lanes::PortableI8,
    super::super::lanes::PortableI16,
    super::super::lanes::PortableF32,
    narrow,
    portable_f32
);
#[cfg(target_arch = "x86_64")]
compile_integer!(
    avx2_i8,
    super::super::lanes::Avx2I8,
    super::super::lanes::Avx2I16,
    super::super::lanes::Avx2F32,
    narrow,
    avx2_f32,
    "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
compile_integer!(
    avx_vnni_i8,
    super::super::lanes::AvxVnniI8,
    super::super::lanes::Avx2I16,
    super::super::lanes::Avx2F32,
    narrow,
    avx2_f32,
    "avx2,fma,avxvnni"
);
#[cfg(target_arch = "x86_64")]
compile_integer!(
    avx512_vnni_i8,
    super::super::lanes::Avx512VnniI8,
    super::super::lanes::Avx512VnniI16,
    super::super::lanes::Avx512F32,
    wide,
    avx512_f32,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma"
);

compile!(portable_f32, super::super::lanes::PortableF32, narrow, portable_f32);
compile!(portable_bf16, super::super::lanes::PortableBf16, narrow, portable_f32);
#[cfg(target_arch = "x86_64")]
compile!(avx2_f32, super::super::lanes::Avx2F32, narrow, avx2_f32, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(avx512_f32, super::super::lanes::Avx512F32, wide, avx512_f32, "avx512f,avx512bw,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(
    avx512_bf16,
    super::super::lanes::Avx512Bf16,
    wide,
    avx512_f32,
    "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma"
);
