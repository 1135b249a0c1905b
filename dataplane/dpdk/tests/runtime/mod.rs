//! One runtime for all tests of a binary, without hugepages; shut down when the process ends, so that nothing stays behind.

use std::sync::{Mutex, PoisonError};

use dpdk::{Eal, EalOptions, Pool, PoolOptions};

static RUNTIME: Mutex<Option<Eal>> = Mutex::new(None);

/// The runtime, started by whichever test comes first.
pub(crate) fn eal() -> Eal {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let started = runtime.get_or_insert_with(|| {
        // SAFETY: `stop` takes nothing and does not unwind.
        assert_eq!(unsafe { libc::atexit(stop) }, 0);
        Eal::init(&EalOptions {
            file_prefix: format!("millrace-test-{}", std::process::id()),
            memory_mib: 512,
            hugepages: false,
            devices: Vec::new(),
            main_core: dpdk::doctor::cores_allowed()[0],
        })
        .unwrap()
    });
    started.clone()
}

extern "C" fn stop() {
    drop(RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// A pool of its own for a test.
#[allow(dead_code, reason = "not every binary needs one")]
pub(crate) fn pool(name: &str, buffers: u32) -> Pool {
    Pool::new(&eal(), &PoolOptions { name: name.to_owned(), buffers, frame_bytes: 2_048, socket: None }).unwrap()
}
