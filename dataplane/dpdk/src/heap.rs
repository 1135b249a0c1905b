//! How much of DPDK's memory is in use, to tell what a table took.

/// Bytes allocated from DPDK's heaps, all memory nodes together.
pub(crate) fn in_use() -> usize {
    let mut sum = 0_usize;
    for socket in 0..SOCKETS_MAX {
        let mut stats = dpdk_sys::rte_malloc_socket_stats::default();
        // SAFETY: `stats` is a place for the answer; a node that does not exist is refused.
        let result = unsafe { dpdk_sys::rte_malloc_get_socket_stats(socket, &raw mut stats) };
        if result == 0 {
            sum = sum.saturating_add(stats.heap_allocsz_bytes);
        }
    }
    sum
}

/// Memory nodes DPDK knows (`RTE_MAX_NUMA_NODES`).
const SOCKETS_MAX: i32 = 32;
