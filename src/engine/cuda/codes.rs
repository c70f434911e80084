//! What a CUDA driver's error number means for those who act on it.
//!
//! In: the number. Out: a [`Fault`], or none where the device is well and only the call was refused.
//!
//! Numbers instead of the driver's own enum, so that this is tested in every build. They are part of the driver's ABI
//! (`CUresult` in cuda.h) and do not change.

use crate::Fault;

/// The cause behind a driver's error number.
///
/// Faults of a kernel (a wrong address, an instruction, an assertion) are no loss of the device: it answers, and says
/// what our program did wrong. Their context is unusable all the same; the next engine begins with a new one.
pub(crate) fn fault(code: u32) -> Option<Fault> {
    Some(match code {
        // CUDA_ERROR_OUT_OF_MEMORY
        2 => Fault::OutOfMemory,
        // DEINITIALIZED, DEVICE_UNAVAILABLE, NO_DEVICE, INVALID_DEVICE
        4 | 46 | 100 | 101 => Fault::DeviceLost,
        // ECC_UNCORRECTABLE, NVLINK_UNCORRECTABLE
        214 | 220 => Fault::DeviceLost,
        // LAUNCH_TIMEOUT, CONTEXT_IS_DESTROYED, HARDWARE_STACK_ERROR, LAUNCH_FAILED (how a card that fell off the bus
        // ends)
        702 | 709 | 714 | 719 => Fault::DeviceLost,
        // SYSTEM_NOT_READY, UNKNOWN
        802 | 999 => Fault::DeviceLost,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lost_is_called_lost() {
        assert_eq!(fault(2), Some(Fault::OutOfMemory));
        for lost in [46, 100, 214, 719, 999] {
            assert_eq!(fault(lost), Some(Fault::DeviceLost), "{lost}");
        }
        // INVALID_VALUE, NO_BINARY_FOR_GPU, UNSUPPORTED_PTX_VERSION, NOT_FOUND, ILLEGAL_ADDRESS,
        // LAUNCH_OUT_OF_RESOURCES, MISALIGNED_ADDRESS, SYSTEM_DRIVER_MISMATCH
        for refused in [1, 209, 222, 500, 700, 701, 716, 803] {
            assert_eq!(fault(refused), None, "{refused}");
        }
    }
}
