//! Ctrl-C and its kin: signals flow in, a flag that long work looks at flows out.
//!
//! SIGINT, SIGTERM and SIGHUP (the terminal is closed) ask the work to finish what it has. A second one, or the first
//! where no work looks at the flag, ends the process at once; what lies aside is removed first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::result_file::abandon_all;
use crate::{Error, Result};

/// Exit code of a process that its user ended, as shells give it for Ctrl-C.
const INTERRUPTED: i32 = 130;

#[derive(Default)]
struct Interrupt {
    stop: Arc<AtomicBool>,
    /// Somebody looks at `stop`.
    heeded: AtomicBool,
}

fn listen() -> Result<&'static Interrupt> {
    // A process has one handler, however often a command runs in it.
    static LISTENING: OnceLock<Result<Interrupt, String>> = OnceLock::new();
    LISTENING
        .get_or_init(|| {
            let hang_up = HangUp::look();
            ctrlc::set_handler(signalled).map_err(|e| e.to_string())?;
            hang_up.keep();
            Ok(Interrupt::default())
        })
        .as_ref()
        .map_err(|e| Error::machine(format!("Ctrl-C cannot be listened to ({e})")))
}

/// Runs in a thread of its own.
fn signalled() {
    let heeded =
        listen().is_ok_and(|i| i.heeded.load(Ordering::Acquire) && !i.stop.swap(true, Ordering::AcqRel));
    if !heeded {
        abandon_all();
        // SAFETY: ends the process without running what other threads still use.
        unsafe { libc::_exit(INTERRUPTED) };
    }
}

/// From now on a signal ends the process without leaving anything aside.
pub(super) fn clean_up_on_signals() {
    // Without it a signal ends the process as it always does.
    let _ = listen();
    ignore_file_size_signal();
}

/// Ctrl-C (and a polite kill) asks the work to finish what it has; a second one ends the process at once.
pub(super) fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let interrupt = listen()?;
    interrupt.heeded.store(true, Ordering::Release);
    Ok(interrupt.stop.clone())
}

/// A file that reaches the limit on its size is an error of the write that reached it, not the end of the process: as
/// Rust's start-up does with the signal of a closed pipe.
fn ignore_file_size_signal() {
    // SAFETY: changes the disposition of a signal that nobody else handles.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// `nohup` starts a process that ignores the end of its terminal; it goes on ignoring it.
struct HangUp {
    ignored: bool,
}

impl HangUp {
    fn look() -> Self {
        // SAFETY: plain data that the call fills; nothing is changed.
        let ignored = unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut now) == 0
                && now.sa_sigaction == libc::SIG_IGN
        };
        Self { ignored }
    }

    fn keep(self) {
        if self.ignored {
            // SAFETY: puts back what was there.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        }
    }
}
