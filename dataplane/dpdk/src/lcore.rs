//! A worker thread's registration with DPDK: an lcore number, and with it a private cache in front of every buffer pool.
//! The thread itself is an ordinary one, started and pinned by whoever runs the workers.

use core::marker::PhantomData;
use std::sync::Arc;

use crate::eal::Runtime;
use crate::{Eal, Errno, Error, said};

/// The calling thread's lcore, given back when dropped. Bound to its thread: neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
    _runtime: Arc<Runtime>,
    // A raw pointer is neither Send nor Sync, and unregistering must happen on the thread that registered.
    _thread: PhantomData<*const ()>,
}

impl Lcore {
    /// Registers the calling thread (`rte_thread_register`). Its affinity stays as it is.
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`], also on the thread that called [`Eal::init`]; [`Error::LcoresUsedUp`] when DPDK's
    /// places (128 in Debian's build) are taken; [`Error::Start`] for anything else.
    pub fn register(eal: &Eal) -> Result<Self, Error> {
        if let Some(lcore) = current() {
            return Err(Error::AlreadyRegistered { lcore });
        }
        said::forget();
        // SAFETY: the runtime is up, as `eal` proves, and this thread has no lcore yet.
        let result = unsafe { dpdk_sys::rte_thread_register() };
        match current() {
            Some(id) if result == 0 => Ok(Self { id, _runtime: eal.runtime(), _thread: PhantomData }),
            _ if Errno::last().get() == libc::ENOMEM => Err(Error::LcoresUsedUp { most: dpdk_sys::RTE_MAX_LCORE }),
            _ => Err(Error::Start {
                errno: Errno::last(),
                advice: "a thread cannot be registered",
                said: said::since_forget(),
            }),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: `register` succeeded on this very thread (`Lcore` is not `Send`) and this is the only unregistration.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The calling thread's lcore number, if it has one.
fn current() -> Option<u32> {
    // SAFETY: reads a thread-local integer; no arguments.
    let lcore = unsafe { dpdk_sys::millrace_lcore_id() };
    if lcore == dpdk_sys::MILLRACE_LCORE_ID_ANY { None } else { Some(lcore) }
}
