//! Locks whose holder may have panicked: a mutex flows in, its guard flows out. What a panic elsewhere left behind is
//! still a valid value for those who use this.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
