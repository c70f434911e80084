//! Why the state is what it is, as a value that crosses threads and as words.

use std::fmt;

/// Why the overlay shows what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No mask has come yet.
    Starting,
    /// Masks come, and in time.
    Normal,
    /// Masks are older than the limit.
    TooSlow,
    /// The worker has not answered for too long.
    Stalled,
    /// The worker panicked.
    Panicked,
    /// The network's output was not a number.
    NotANumber,
    /// The device is lost.
    DeviceLost,
    /// The device or the machine has no memory left.
    OutOfMemory,
    /// Another failure of the worker.
    Failed,
    /// The user switched the overlay off.
    SwitchedOff,
}

impl Reason {
    /// Every reason once.
    pub const ALL: [Reason; 10] = [
        Reason::Starting,
        Reason::Normal,
        Reason::TooSlow,
        Reason::Stalled,
        Reason::Panicked,
        Reason::NotANumber,
        Reason::DeviceLost,
        Reason::OutOfMemory,
        Reason::Failed,
        Reason::SwitchedOff,
    ];

    /// The word programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Starting => "starting",
            Reason::Normal => "normal",
            Reason::TooSlow => "too_slow",
            Reason::Stalled => "stalled",
            Reason::Panicked => "panicked",
            Reason::NotANumber => "not_a_number",
            Reason::DeviceLost => "device_lost",
            Reason::OutOfMemory => "out_of_memory",
            Reason::Failed => "failed",
            Reason::SwitchedOff => "switched_off",
        }
    }

    /// The words people read.
    pub const fn words(self) -> &'static str {
        match self {
            Reason::Starting => "waiting for the first mask",
            Reason::Normal => "masks come in time",
            Reason::TooSlow => "masks come later than --max-mask-age allows",
            Reason::Stalled => "the worker does not answer",
            Reason::Panicked => "the worker panicked",
            Reason::NotANumber => "the network's output is not a number",
            Reason::DeviceLost => "the device is lost",
            Reason::OutOfMemory => "the device or the machine has no memory left",
            Reason::Failed => "the worker failed",
            Reason::SwitchedOff => "switched off by the user",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
