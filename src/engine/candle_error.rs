//! What candle reports, as an error of this crate.
//!
//! In: an error of candle's, from the model or an engine. Out: one sentence, with the cause that the safety state acts
//! on. It stands here and not beside [`Error`], so that rooms which only need errors are not linked to candle.

use crate::error::{Error, Fault, Kind};

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        #[cfg(feature = "candle-cuda")]
        let fault = super::cuda::fault_of_candle(&e);
        #[cfg(not(feature = "candle-cuda"))]
        let fault: Option<Fault> = None;
        let kind = if fault == Some(Fault::OutOfMemory) { Kind::Machine } else { Kind::Inference };
        Self::new(kind, format!("network: {e}")).caused_by(fault).because(e)
    }
}
