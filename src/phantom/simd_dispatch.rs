//! One body of a kernel, compiled for the processors it may meet.

/// Compiles a function twice, plainly and with AVX2, and takes the second where the processor has it. Both do the same
/// arithmetic in the same order (AVX2 without FMA): the results are equal to the bit.
macro_rules! by_cpu {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && $crate::phantom::simd_dispatch::wide_wanted() {
                    // SAFETY: the processor has just been found to have AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

pub(super) use by_cpu;

/// Whether wide kernels may be taken: always, except where a test compares them with the plain ones.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn wide_wanted() -> bool {
    true
}

#[cfg(test)]
thread_local! {
    pub(super) static PLAIN_ONLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
pub(super) fn wide_wanted() -> bool {
    !PLAIN_ONLY.get()
}
