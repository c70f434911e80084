//! What a launch is told, field by field as in `kernels/params.h`, where the fields are described.
//!
//! In: device addresses and sizes. Out: plain bytes, copied into the launch.

/// An address in the device's memory; 0 is none.
pub(crate) type Address = u64;

/// Plain old data of 8-byte alignment without padding bytes that matter.
///
/// # Safety
/// `repr(C)`, made of integers and floats only, a multiple of 8 bytes long.
pub(crate) unsafe trait Params: Copy {}

macro_rules! params {
    ($($name:ident),*) => { $(
        // SAFETY: integers and floats only; sizes are checked against the kernels' own in `tests`.
        unsafe impl Params for $name {}
        const _: () = assert!(size_of::<$name>() % 8 == 0);
    )* };
}

params!(ConvGroup, SubtractGroup, Join, Pool, Enter, Last, Exit, Rows, Columns, Mark);
params!(
    TrainEach,
    TrainBias,
    TrainChannels,
    TrainSums,
    TrainNorm,
    TrainApply,
    TrainPool,
    TrainResize,
    TrainPlanes,
    TrainBox,
    TrainUnit,
    TrainConv
);
#[cfg(feature = "cuda")]
params!(Spin);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) source: Address,
    pub(crate) pitch: i32,
    pub(crate) channels: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) kernel: i32,
    pub(crate) stride: i32,
    pub(crate) length: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conv {
    pub(crate) parts: [Part; 2],
    pub(crate) weights: Address,
    pub(crate) scale: Address,
    pub(crate) shift: Address,
    pub(crate) residual: Address,
    pub(crate) out: Address,
    pub(crate) rest: Address,
    pub(crate) add: Address,
    pub(crate) also: Address,
    pub(crate) sum: Address,
    pub(crate) partial: Address,
    pub(crate) arrived: Address,
    pub(crate) residual_pitch: i32,
    pub(crate) out_pitch: i32,
    pub(crate) rest_pitch: i32,
    pub(crate) add_pitch: i32,
    pub(crate) also_pitch: i32,
    pub(crate) split_at: i32,
    pub(crate) part_count: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) channels: i32,
    pub(crate) unused: i32,
    pub(crate) splits: i32,
    pub(crate) tiles_across: i32,
    pub(crate) first_block: i32,
}

/// Convolutions of one launch.
pub(crate) const CONVS: usize = 5;
/// Subtraction units of one launch.
pub(crate) const UNITS: usize = 4;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConvGroup {
    pub(crate) convs: [Conv; CONVS],
    pub(crate) count: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subtract {
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) out: Address,
    pub(crate) a_sum: Address,
    pub(crate) b_sum: Address,
    pub(crate) terms: Address,
    pub(crate) a_height: i32,
    pub(crate) a_width: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) tiles_across: i32,
    pub(crate) first_block: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SubtractGroup {
    pub(crate) units: [Subtract; UNITS],
    pub(crate) count: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Join {
    pub(crate) coarse: Address,
    pub(crate) fine: Address,
    pub(crate) out: Address,
    pub(crate) coarse_height: i32,
    pub(crate) coarse_width: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) source: Address,
    pub(crate) out: Address,
    pub(crate) sum: Address,
    pub(crate) source_pitch: i32,
    pub(crate) out_pitch: i32,
    pub(crate) channels: i32,
    pub(crate) source_height: i32,
    pub(crate) source_width: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) kind: i32,
    pub(crate) stride: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Enter {
    pub(crate) planes: Address,
    pub(crate) out: Address,
    pub(crate) statistics: Address,
    pub(crate) height: i32,
    pub(crate) width: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Last {
    pub(crate) source: Address,
    pub(crate) weights: Address,
    pub(crate) scale: Address,
    pub(crate) shift: Address,
    pub(crate) out: Address,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) classes: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exit {
    pub(crate) source: Address,
    pub(crate) out: Address,
    pub(crate) statistics: Address,
    pub(crate) source_height: i32,
    pub(crate) source_width: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) classes: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) planes: [Address; 3],
    pub(crate) narrow: Address,
    pub(crate) spans: Address,
    pub(crate) weights: Address,
    pub(crate) strides: [i32; 3],
    pub(crate) taps: i32,
    pub(crate) width: i32,
    pub(crate) rows: i32,
    pub(crate) top: i32,
    pub(crate) x0: i32,
    pub(crate) line_step: i32,
    pub(crate) line_first: i32,
    pub(crate) chroma_rows: i32,
    pub(crate) layout: i32,
    pub(crate) places: [i32; 4],
    pub(crate) depth: i32,
    pub(crate) shift: i32,
    pub(crate) sub_x: i32,
    pub(crate) sub_y: i32,
    pub(crate) matrix: [i32; 7],
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) narrow: Address,
    pub(crate) spans: Address,
    pub(crate) weights: Address,
    pub(crate) out: Address,
    pub(crate) statistics: Address,
    pub(crate) taps: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) unused: i32,
    pub(crate) mean: [f32; 3],
    pub(crate) deviation: [f32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) logits: Address,
    pub(crate) inside: Address,
    pub(crate) statistics: Address,
    pub(crate) source_height: i32,
    pub(crate) source_width: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) classes: i32,
    pub(crate) level: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) broken: u32,
    pub(crate) area: u32,
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) right: u32,
    pub(crate) bottom: u32,
    pub(crate) highest: u32,
    pub(crate) unused: u32,
}

/// `kernels/clock.h`
#[cfg(feature = "cuda")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spin {
    pub(crate) out: Address,
    pub(crate) nanoseconds: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainEach {
    pub(crate) to: Address,
    pub(crate) from: Address,
    pub(crate) count: u32,
    pub(crate) scale: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainBias {
    pub(crate) map: Address,
    pub(crate) bias: Address,
    pub(crate) count: u32,
    pub(crate) channels: i32,
    pub(crate) pixels: i32,
    pub(crate) relu: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainChannels {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) count: u32,
    pub(crate) pixels: i32,
    pub(crate) channels: i32,
    pub(crate) from_channels: i32,
    pub(crate) from_first: i32,
    pub(crate) to_channels: i32,
    pub(crate) to_first: i32,
    pub(crate) accumulate: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainSums {
    pub(crate) x: Address,
    pub(crate) grad: Address,
    pub(crate) output: Address,
    pub(crate) form: Address,
    pub(crate) partial: Address,
    pub(crate) channels: i32,
    pub(crate) pixels: i32,
    pub(crate) batch: i32,
    pub(crate) splits: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainNorm {
    pub(crate) partial: Address,
    pub(crate) statistics: Address,
    pub(crate) gamma: Address,
    pub(crate) beta: Address,
    pub(crate) running_mean: Address,
    pub(crate) running_variance: Address,
    pub(crate) gamma_gradient: Address,
    pub(crate) beta_gradient: Address,
    pub(crate) form: Address,
    pub(crate) count: f64,
    pub(crate) epsilon: f64,
    pub(crate) channels: i32,
    pub(crate) splits: i32,
    pub(crate) fixed: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainApply {
    pub(crate) x: Address,
    pub(crate) other: Address,
    pub(crate) form: Address,
    pub(crate) out: Address,
    pub(crate) count: u32,
    pub(crate) channels: i32,
    pub(crate) pixels: i32,
    pub(crate) relu: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainPool {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) places: Address,
    pub(crate) count: u32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) out_height: i32,
    pub(crate) out_width: i32,
    pub(crate) side: i32,
    pub(crate) stride: i32,
    pub(crate) pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainResize {
    pub(crate) from: Address,
    pub(crate) added: Address,
    pub(crate) to: Address,
    pub(crate) count: u32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) out_height: i32,
    pub(crate) out_width: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainPlanes {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) count: u32,
    pub(crate) channels: i32,
    pub(crate) pixels: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainBox {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) count: u32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) side: i32,
    pub(crate) accumulate: i32,
    pub(crate) unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainUnit {
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) out: Address,
    pub(crate) a_gradient: Address,
    pub(crate) b_gradient: Address,
    pub(crate) planes: [[Address; 2]; 2],
    pub(crate) plane_gradients: [[Address; 2]; 2],
    pub(crate) forms: [Address; 2],
    pub(crate) partial: Address,
    pub(crate) count: u32,
    pub(crate) channels: i32,
    pub(crate) pixels: i32,
    pub(crate) batch: i32,
    pub(crate) scales: i32,
    pub(crate) splits: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrainConv {
    pub(crate) input: Address,
    pub(crate) weights: Address,
    pub(crate) output: Address,
    pub(crate) count: u32,
    pub(crate) batch: i32,
    pub(crate) inputs: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) outputs: i32,
    pub(crate) out_height: i32,
    pub(crate) out_width: i32,
    pub(crate) kernel: i32,
    pub(crate) stride: i32,
}

/// Sizes in the order of the emulator's `params_size`.
#[cfg(test)]
pub(crate) const SIZES: [usize; 23] = [
    size_of::<ConvGroup>(),
    size_of::<SubtractGroup>(),
    size_of::<Join>(),
    size_of::<Pool>(),
    size_of::<Enter>(),
    size_of::<Last>(),
    size_of::<Exit>(),
    size_of::<Rows>(),
    size_of::<Columns>(),
    size_of::<Mark>(),
    size_of::<Statistics>(),
    size_of::<TrainEach>(),
    size_of::<TrainBias>(),
    size_of::<TrainChannels>(),
    size_of::<TrainSums>(),
    size_of::<TrainNorm>(),
    size_of::<TrainApply>(),
    size_of::<TrainPool>(),
    size_of::<TrainResize>(),
    size_of::<TrainPlanes>(),
    size_of::<TrainBox>(),
    size_of::<TrainUnit>(),
    size_of::<TrainConv>(),
];
