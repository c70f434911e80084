//! One launch of one kernel, and what a device has to be able to do.
//!
//! In: parameters. Out: something a [`Device`] runs: the GPU (`driver`), or in tests a processor that plays it.

use super::params::{Address, Params};
use super::tile::Tile;
use crate::Result;

/// Threads of a block of every kernel that is no convolution.
const THREADS: u32 = 256;
/// Two planes of 12x12 and four box sums of 64 pixels.
const SUBTRACT_SHARED: u32 = (2 * 144 + 256) * 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    Conv(Tile),
    Subtract,
    Join,
    Pool,
    Enter,
    Last,
    Exit,
    Rows,
    Columns,
    Mark,
    /// A training step's.
    Train(Train),
    /// On the device only.
    #[cfg(feature = "cuda")]
    Spin,
}

/// Kernels and their functions' names in the module.
macro_rules! train_kernels {
    ($($kernel:ident = $name:literal),* $(,)?) => {
        /// The kernels of `kernels/training.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Train {
            $($kernel),*
        }

        impl Train {
            const ALL: &[Train] = &[$(Train::$kernel),*];

            fn name(self) -> &'static str {
                match self {
                    $(Train::$kernel => $name),*
                }
            }
        }
    };
}

train_kernels! {
    Fill = "train_fill",
    Add = "train_add",
    Difference = "train_difference",
    Cut = "train_cut",
    Bias = "train_bias",
    Channels = "train_channels",
    Sums = "train_sums",
    Norm = "train_norm",
    NormBack = "train_norm_back",
    Apply = "train_apply",
    ApplyBack = "train_apply_back",
    Pool = "train_pool",
    PoolBack = "train_pool_back",
    Resize = "train_resize",
    ResizeBack = "train_resize_back",
    ChannelSum = "train_channel_sum",
    ChannelSpread = "train_channel_spread",
    Box = "train_box",
    UnitNorm = "train_unit_norm",
    Unit = "train_unit",
    UnitBack = "train_unit_back",
    UnitSums = "train_unit_sums",
    UnitNormBack = "train_unit_norm_back",
    Conv = "train_conv",
    ConvInput = "train_conv_input",
    ConvWeights = "train_conv_weights",
}

impl Kernel {
    pub(crate) fn all() -> impl Iterator<Item = Kernel> {
        use Kernel::*;
        let others = [Subtract, Join, Pool, Enter, Last, Exit, Rows, Columns, Mark];
        Tile::ALL
            .into_iter()
            .map(Conv)
            .chain(others)
            .chain(self::Train::ALL.iter().copied().map(Kernel::Train))
    }

    /// The function's name in the module.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kernel::Conv(tile) => tile.shape().name,
            Kernel::Subtract => "subtract",
            Kernel::Join => "join",
            Kernel::Pool => "pool",
            Kernel::Enter => "enter",
            Kernel::Last => "last",
            Kernel::Exit => "exit_planes",
            Kernel::Rows => "rows",
            Kernel::Columns => "columns",
            Kernel::Mark => "mark",
            Kernel::Train(kernel) => kernel.name(),
            #[cfg(feature = "cuda")]
            Kernel::Spin => "spin",
        }
    }

    pub(crate) fn threads(self) -> u32 {
        match self {
            Kernel::Conv(tile) => tile.shape().threads,
            #[cfg(feature = "cuda")]
            Kernel::Spin => 32,
            _ => THREADS,
        }
    }

    /// Bytes of dynamic shared memory.
    pub(crate) fn shared(self) -> u32 {
        match self {
            Kernel::Conv(tile) => tile.shape().shared(),
            Kernel::Subtract => SUBTRACT_SHARED,
            // Two sums of each thread.
            Kernel::Train(Train::Sums | Train::UnitSums) => THREADS * 2 * 8,
            _ => 0,
        }
    }
}

/// A kernel with everything it needs.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) kernel: Kernel,
    /// Blocks.
    pub(crate) grid: u32,
    params: Box<[u64]>,
}

impl Launch {
    pub(crate) fn new<P: Params>(kernel: Kernel, grid: usize, params: P) -> Self {
        let mut words = vec![0u64; size_of::<P>() / 8].into_boxed_slice();
        // SAFETY: `P` is plain data as long as the words.
        unsafe { words.as_mut_ptr().cast::<P>().write(params) };
        Self { kernel, grid: grid as u32, params: words }
    }

    /// One thread an item.
    pub(crate) fn each<P: Params>(kernel: Kernel, items: usize, params: P) -> Self {
        Self::new(kernel, items.div_ceil(THREADS as usize), params)
    }

    pub(crate) fn params(&self) -> *const u64 {
        self.params.as_ptr()
    }
}

/// A device: memory and launches, in order.
pub(crate) trait Device {
    /// Memory that stays as long as the device does; what it holds is not said.
    fn allocate(&mut self, bytes: usize) -> Result<Address>;

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Gives memory back; nothing that was launched needs it any more.
    fn release(&mut self, at: Address) -> Result<()>;

    /// Waits for what was launched, then reads.
    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Puts a launch behind what was launched before.
    fn launch(&mut self, launch: &Launch) -> Result<()>;

    /// Microseconds each of the launches takes, median of several; `None` where time means nothing.
    fn time(&mut self, launches: &[Launch]) -> Result<Option<Vec<f32>>>;

    /// Multiprocessors.
    fn processors(&self) -> usize;
}

/// Bytes of plain values.
pub(crate) fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: used with integers and floats only, which have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// As [`bytes_of`], to be written.
pub(crate) fn bytes_of_mut<T: Copy>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: used with integers and floats only, of which any bytes are a value.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
