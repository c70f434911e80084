//! Ctrl-C: a signal flows in, a flag that long work looks at flows out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};

/// Ctrl-C (and a polite kill) asks the work to finish what it has; a second one ends the process at once.
pub(super) fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    // A process has one handler, however often a command runs in it.
    static FLAG: OnceLock<Result<Arc<AtomicBool>, String>> = OnceLock::new();
    FLAG.get_or_init(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
        .map_err(|e| e.to_string())?;
        Ok(stop)
    })
    .clone()
    .map_err(|e| Error::machine(format!("Ctrl-C cannot be listened to ({e})")))
}
