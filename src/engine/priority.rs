//! How much a thread yields to others.
//!
//! In: a niceness. Out: the calling thread's scheduling, as far as the system lets us.

/// Makes the calling thread yield to others by so many steps, 0 (not at all) to 19; best effort. At 19 it runs only where
/// a processor would idle (`SCHED_IDLE`), and gives way in an instant: a thread that is merely nicer may finish its time
/// slice first, which is most of what the live picture has.
pub(crate) fn lower(nice: i32) {
    #[cfg(target_os = "linux")]
    if nice != 0 {
        // SAFETY: plain system calls about the calling thread (Linux keeps both per thread).
        unsafe {
            let me = libc::syscall(libc::SYS_gettid) as libc::pid_t;
            libc::setpriority(libc::PRIO_PROCESS, me as libc::id_t, nice);
            if nice >= 19 {
                let parameters: libc::sched_param = std::mem::zeroed();
                libc::sched_setscheduler(me, libc::SCHED_IDLE, &parameters);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}
