//! How much a thread yields to others.
//!
//! In: a niceness, or a wish to come first. Out: the calling thread's scheduling, as far as the system lets us.

/// The niceness at which a thread runs only where a processor would idle.
pub(crate) const ONLY_WHEN_IDLE: i32 = 19;

/// Makes the calling thread yield to others by so many steps, 0 (not at all) to 19; best effort. At [`ONLY_WHEN_IDLE`]
/// it gets `SCHED_IDLE`, and gives way in an instant: a thread that is merely nicer may finish its time
/// slice first, which is most of what the live picture has.
pub(crate) fn lower(nice: i32) {
    #[cfg(target_os = "linux")]
    if nice != 0 {
        // SAFETY: plain system calls about the calling thread (Linux keeps both per thread).
        unsafe {
            let me = libc::syscall(libc::SYS_gettid) as libc::pid_t;
            libc::setpriority(libc::PRIO_PROCESS, me as libc::id_t, nice);
            if nice >= ONLY_WHEN_IDLE {
                let parameters: libc::sched_param = std::mem::zeroed();
                libc::sched_setscheduler(me, libc::SCHED_IDLE, &parameters);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Puts the calling thread before all ordinary ones (`SCHED_RR`, lowest priority), once; where that is not allowed
/// (`LimitRTPRIO=` of the unit, or CAP_SYS_NICE) it stays as it is. For the video path: even a thread that runs only
/// where a processor would idle gets a time slice now and then, which is 4 ms on many systems. Threads that it starts
/// are ordinary again.
#[cfg(feature = "video")]
pub(crate) fn come_first() {
    thread_local! {
        static DONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    if DONE.replace(true) {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: plain system calls about the calling thread.
    unsafe {
        let me = libc::syscall(libc::SYS_gettid) as libc::pid_t;
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 1;
        let refused =
            libc::sched_setscheduler(me, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameters) != 0;
        if refused {
            tracing::debug!(
                "the video path runs as an ordinary thread: real-time scheduling is not allowed here"
            );
        }
    }
}
