//! A bound for the memory that one call into DPDK takes while it works, for calls that have none of their own. Management
//! threads use it when tables are built. `dpdk-sys` has the other half: a `calloc` that looks at the allowance of its thread.

use core::ptr;

/// What a call took of its allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes; what it gave back meanwhile counts too.
    pub(crate) bytes: usize,
    /// Whether it asked for more than it was allowed, and did not get it.
    pub(crate) refused: bool,
}

/// Calls `work`, which gets at most `bytes` from `calloc` on this thread: beyond, it is refused.
pub(crate) fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> (T, Taken) {
    let mut allowance = dpdk_sys::millrace_allowance { left: bytes, refused: 0 };
    // SAFETY: the allowance is on this thread's stack, and is taken back by `Ended` before it goes, also when `work` panics.
    unsafe { dpdk_sys::millrace_allow(&raw mut allowance) };
    let done = {
        let _ended = Ended;
        work()
    };
    (done, Taken { bytes: bytes.saturating_sub(allowance.left), refused: allowance.refused != 0 })
}

/// Ends this thread's allowance.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        // SAFETY: without an allowance there is nothing to outlive.
        unsafe { dpdk_sys::millrace_allow(ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// Whether the C library gives so many bytes.
    fn is_given(bytes: usize) -> bool {
        // SAFETY: asks for memory; a compiler that saw it given back at once would leave both out.
        let memory = black_box(unsafe { libc::calloc(bytes, 1) });
        // SAFETY: what was given, once; null is none.
        unsafe { libc::free(memory) };
        !memory.is_null()
    }

    #[test]
    fn beyond_its_allowance_a_call_gets_nothing_and_other_threads_get_all() {
        // Where both threads are: nothing here may ask for memory but what is asked on purpose.
        let place = Barrier::new(2);
        thread::scope(|scope| {
            let another = scope.spawn(|| {
                place.wait();
                let given = is_given(1 << 20);
                place.wait();
                given
            });
            let (given, taken) = within(10_000, || {
                let given = [6_000, 6_000, 4_000, 1].map(is_given);
                place.wait();
                place.wait();
                given
            });
            // What was refused is not taken.
            assert_eq!(given, [true, false, true, false]);
            assert_eq!(taken, Taken { bytes: 10_000, refused: true });
            assert!(another.join().unwrap());
        });
        assert!(is_given(1 << 20));
    }

    #[test]
    fn what_stays_within_is_told() {
        assert_eq!(within(1_000, || is_given(600)), (true, Taken { bytes: 600, refused: false }));
        // Without the hook of panics, which asks for memory itself.
        let panicked =
            std::panic::catch_unwind(|| within(1 << 20, || std::panic::resume_unwind(Box::new("on purpose"))));
        assert!(panicked.is_err() && is_given(1 << 21));
    }
}
