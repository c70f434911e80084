//! What reading one foreign file may cost, charged before it is paid.
//!
//! In: the bytes about to be allocated because the file says so. Out: leave to go on, or the file's refusal.
//!
//! A file is a few bytes that ask for many: a digit of a header becomes a number in memory, an instruction of a pickle
//! an object, a key is copied wherever it is mentioned. A limit on any one of these is a limit on the file that was
//! thought of. So every reader draws on one sum, whatever it builds.

use super::source::Fault;

/// What may be allocated beside the file's own bytes. The parameters of the largest network take 120 MB of it in f32; a
/// training checkpoint's optimiser adds some ten.
const ALLOWANCE: u64 = 256 << 20;

/// The longest header or pickle: those of these networks have 60 to 300 KB, an optimiser's state included.
pub(super) const LONGEST_INDEX: usize = 16 << 20;

/// More dimensions than any tensor of PyTorch has in practice; kernels have four.
pub(super) const MOST_DIMENSIONS: usize = 8;

/// The longest key of a tensor that is read; the longest published one has 40 bytes.
pub(super) const LONGEST_KEY: usize = 1024;

/// What is left of one file's allowance.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

/// Nothing is left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent;

impl Budget {
    /// For one file.
    pub fn new() -> Self {
        Self { left: ALLOWANCE }
    }

    /// Takes `count` times `bytes`.
    ///
    /// # Errors
    /// More than is left; then nothing may be allocated for it.
    pub fn charge(&mut self, count: usize, bytes: usize) -> Result<(), Spent> {
        let cost = (count as u64).saturating_mul(bytes as u64);
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Spent)
            }
        }
    }
}

impl From<Spent> for Fault {
    fn from(_: Spent) -> Self {
        Fault::new(
            format!("asks for more than {} MB beside its own size to be read", ALLOWANCE >> 20),
            "give a checkpoint of the network alone, as torch.save writes model.state_dict()",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_beyond_the_allowance() {
        let mut budget = Budget::new();
        assert!(budget.charge(1, (ALLOWANCE / 2) as usize).is_ok());
        assert!(budget.charge(3, (ALLOWANCE / 4) as usize).is_err());
        assert!(budget.charge(1, 1).is_err(), "what was refused once stays refused");
        assert!(Budget::new().charge(usize::MAX, usize::MAX).is_err(), "no overflow");
    }
}
