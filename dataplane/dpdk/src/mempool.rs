//! Pools of packet buffers (`rte_mempool` of mbufs): made at start, shared by every thread, taken from without locks and,
//! on registered threads, through a private cache.
//!
//! Behind the caches is DPDK's lock-free stack, so that no thread ever waits for another. The usual ring would let a worker
//! spin until a thread that the kernel took the processor from in the middle of an operation runs again (the kernel pump
//! shares its core); its variant that does not (`ring_mt_rts`) may refuse a buffer that comes home meanwhile, and the
//! buffer is lost. Where there is no such stack (a processor without a 16-byte compare-and-exchange, a DPDK without the
//! driver) the ring has to do.
//!
//! The memory of a pool is given back only when every buffer has come home. Buffers still out (held by a driver that
//! forgot them, or by a thread that outlives the pool) keep the pool, and with it the runtime, until the process ends.

use core::ptr::NonNull;
use std::ffi::{CStr, CString};
use std::sync::Arc;

use dpdk_sys::rte_mempool;
use frame::BufferPool;

use crate::eal::Runtime;
use crate::{Eal, Errno, Error, Mbuf, said};

/// Bytes kept free in front of every frame for headers that are added (`RTE_PKTMBUF_HEADROOM`).
pub(crate) const HEADROOM: u16 = 128;
const _: () = assert!(dpdk_sys::MILLRACE_HEADROOM == HEADROOM as u32);

/// Buffers in a thread's private cache.
const CACHE: u32 = 256;

/// What a buffer costs besides its bytes: the mbuf itself, the pool's object header, rounded up.
const OVERHEAD: u64 = dpdk_sys::MILLRACE_MBUF_SIZE as u64 + 128;

/// DPDK's name of what keeps the buffers: the stack, and what DPDK itself would choose.
const KEEPERS: [Option<&CStr>; 2] = [Some(c"lf_stack"), None];

/// How a pool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Its name, unique among pools; at most 20 characters.
    pub name: String,
    /// How many buffers it has. A power of two less one wastes no memory.
    pub buffers: u32,
    /// Bytes of the largest frame that fits in one buffer, without the headroom; 2048 holds an MTU of 1500 and its tags.
    pub frame_bytes: u16,
    /// The memory node to take it from, `None` for the calling thread's.
    pub socket: Option<u16>,
}

/// A pool. Clones are the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: NonNull<rte_mempool>,
    buffers: u32,
    frame_bytes: u16,
    runtime: Arc<Runtime>,
}

// SAFETY: an rte_mempool may be used from any thread, and from several at once; its stack or ring is multi-producer and
// multi-consumer, and its caches are indexed by the thread's own lcore number.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Pool {
    /// Makes a pool (`rte_pktmbuf_pool_create_by_ops`). Every buffer has 128 bytes of headroom besides `frame_bytes`.
    ///
    /// # Errors
    /// [`Error::Option`] for a name or size that cannot be; [`Error::Pool`] when memory does not suffice.
    pub fn new(eal: &Eal, options: &PoolOptions) -> Result<Self, Error> {
        let wrong = |option, value: String, problem: &str| Error::Option { option, value, problem: problem.to_owned() };
        let name = CString::new(options.name.as_str())
            .ok()
            .filter(|name| (1..=20).contains(&name.as_bytes().len()))
            .ok_or_else(|| wrong("pool name", options.name.clone(), "it must have 1 to 20 characters"))?;
        if options.buffers == 0 {
            return Err(wrong("buffers", "0".to_owned(), "a pool needs at least one buffer"));
        }
        let room = options
            .frame_bytes
            .checked_add(HEADROOM)
            .filter(|_| options.frame_bytes >= 64)
            .ok_or_else(|| wrong("frame bytes", options.frame_bytes.to_string(), "it must be 64 to 65407"))?;
        // A cache may hold half as much again before it is flushed, and must never hold more than there is.
        let cache = CACHE.min(options.buffers.saturating_mul(2) / 3);
        let socket = options.socket.map_or(dpdk_sys::MILLRACE_SOCKET_ID_ANY, i32::from);
        let make = |keeper: Option<&CStr>| {
            said::forget();
            let keeper = keeper.map_or(core::ptr::null(), CStr::as_ptr);
            // SAFETY: the runtime is up, as `eal` proves; `name` and `keeper` are strings that DPDK copies or reads only
            // during the call, and a null keeper stands for DPDK's own choice.
            NonNull::new(unsafe {
                dpdk_sys::rte_pktmbuf_pool_create_by_ops(name.as_ptr(), options.buffers, cache, 0, room, socket, keeper)
            })
        };
        // A failure for want of memory comes again the second time, and is told then.
        let pool = KEEPERS.into_iter().find_map(make).ok_or_else(|| Error::Pool {
            buffers: options.buffers,
            mib: memory(options.buffers, options.frame_bytes).div_ceil(1 << 20),
            errno: Errno::last(),
            said: said::since_forget(),
        })?;
        let inner = Inner { pool, buffers: options.buffers, frame_bytes: options.frame_bytes, runtime: eal.runtime() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Bytes of DPDK's memory that a pool of these sizes takes, rounded up.
    #[must_use]
    pub fn memory_needed(buffers: u32, frame_bytes: u16) -> u64 {
        memory(buffers, frame_bytes)
    }

    /// Buffers the pool was made with.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.inner.buffers
    }

    /// Buffers that are out: in workers' hands, rings, and the queues of devices. Exact when nothing moves. Looks at the
    /// cache of every lcore, so it is for control, not for the packet path.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.inner.in_use()
    }

    /// Bytes of the largest frame that fits in one buffer.
    #[must_use]
    pub fn frame_bytes(&self) -> u16 {
        self.inner.frame_bytes
    }

    /// The pool as DPDK calls take it.
    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl BufferPool for Pool {
    type Buffer = Mbuf;

    #[inline]
    fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as `self`; allocation is safe from every thread.
        let mbuf = unsafe { dpdk_sys::rte_pktmbuf_alloc(self.as_ptr()) };
        // SAFETY: a fresh mbuf belongs to the caller alone, is reset, and keeps its pool alive (see `Inner::drop`).
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }
}

impl Inner {
    fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as `self`.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No handle is left, so nothing can be taken any more; buffers can only come home.
        let out = self.in_use();
        if out == 0 {
            // SAFETY: every buffer is in the pool, and no handle, device or queue refers to it.
            unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
        } else {
            log::debug!("{out} packet buffers are still out; their pool stays until the process ends");
            // The runtime must outlive the pool, and so for ever.
            core::mem::forget(Arc::clone(&self.runtime));
        }
    }
}

fn memory(buffers: u32, frame_bytes: u16) -> u64 {
    // The stack behind the pool has 16 bytes for each; a ring has a power of two of places of 8, which is no more.
    let places = u64::from(buffers).saturating_add(1) * 16;
    u64::from(buffers) * (u64::from(frame_bytes) + u64::from(HEADROOM) + OVERHEAD) + places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_estimated_per_buffer() {
        let bytes = Pool::memory_needed(65_535, 2_048);
        assert!((150 << 20..160 << 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn no_thread_waits_for_another_inside_a_pool() {
        let eal = Eal::init(&crate::EalOptions {
            file_prefix: format!("millrace-pool-{}", std::process::id()),
            memory_mib: 64,
            hugepages: false,
            devices: Vec::new(),
            main_core: crate::doctor::cores_allowed()[0],
        })
        .unwrap();
        let options = PoolOptions { name: "stack".to_owned(), buffers: 63, frame_bytes: 2_048, socket: None };
        let pool = Pool::new(&eal, &options).unwrap();
        let inside = pool.clone();
        // A thread without a cache reaches what is behind it: the lock-free stack gives back what it was given last, where
        // a ring would give what it has had for longest.
        let (given, taken) = std::thread::spawn(move || {
            let address = |frame: &Mbuf| frame::Buffer::bytes(frame).as_ptr().addr();
            let (first, last) = (inside.allocate().unwrap(), inside.allocate().unwrap());
            let given = address(&last);
            drop((first, last));
            (given, address(&inside.allocate().unwrap()))
        })
        .join()
        .unwrap();
        assert_eq!(given, taken);
        assert_eq!(pool.in_use(), 0);
    }
}
