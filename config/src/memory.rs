//! How much packet memory a policy needs: the size of a buffer, and how many there have to be.
//!
//! Used by `load` for the default of `[dpdk] buffers` and to say whether they fit, and by the launch for the pool itself.

use units::limits::{BURST, BURST_MAX, HANDOVER_RING, HANDOVERS, HELD_MAX, KERNEL_RING};

use crate::policy::Policy;

/// Bytes a buffer takes besides the frame: `RTE_PKTMBUF_HEADROOM` of DPDK as distributions build it, `struct rte_mbuf`,
/// the object's header, its place in the pool's ring.
const OVERHEAD: u64 = 128 + 128 + 128 + 8;

/// Ethernet header and three VLAN tags, before the packet that `mtu` counts; and the frame check sequence some NICs keep.
const LINK_BYTES: u16 = 14 + 3 * 4 + 4;

/// Descriptors of one receive or transmit queue.
const DESCRIPTORS: u32 = 1_024;

/// Buffers each worker and the pool's other users keep at hand: the cache of a pool at its largest.
const CACHE: u32 = 512;

/// What DPDK's own rings, tables and devices take of `[dpdk] memory`.
const RESERVE: u64 = 64 << 20;

impl Policy {
    /// Bytes of the largest frame of the port with the largest MTU, with all its tags: a buffer holds no less.
    #[must_use]
    pub fn frame_bytes_needed(&self) -> u16 {
        let largest = self.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
        largest.saturating_add(LINK_BYTES)
    }

    /// Bytes of a frame that fit in one packet buffer where `[dpdk] buffer_size` does not say, the headroom left out: any
    /// frame of any port fits one buffer, and 2,048 bytes always do.
    #[must_use]
    pub fn frame_bytes_wanted(&self) -> u16 {
        self.frame_bytes_needed().clamp(2_048, u16::MAX - 63).next_multiple_of(64)
    }

    /// Buffers that all queues, rings and waiting places hold together when they are full: the default of
    /// `[dpdk] buffers`, rounded up to whole thousands (1,024).
    #[must_use]
    pub fn buffers_wanted(&self) -> u32 {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let workers = count(self.cores.workers.len()).max(1);
        let queues: u32 = self.ports.iter().map(|port| port.queues.map_or(workers, u32::from)).sum();
        let interfaces = count(self.ports.iter().filter(|port| port.kernel_interface.is_some()).count());
        let at_ports = queues * 2 * DESCRIPTORS;
        let at_workers = workers * (count(HELD_MAX) + CACHE + 4 * count(BURST_MAX));
        let handed_over = if workers > 1 { workers * count(HANDOVER_RING.max(HANDOVERS * BURST)) } else { 0 };
        let at_kernel = interfaces * (2 * count(KERNEL_RING) + CACHE);
        let in_pieces = count(self.fragments.capacity);
        (at_ports + at_workers + handed_over + at_kernel + in_pieces).next_multiple_of(1_024)
    }

    /// Bytes of `[dpdk] memory` that this policy cannot do without.
    #[must_use]
    pub fn memory_needed(&self) -> u64 {
        u64::from(self.dpdk.buffers) * (u64::from(self.dpdk.buffer_size) + OVERHEAD) + RESERVE
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Policy, load};

    fn policy(more: &str) -> Policy {
        let text = include_str!("../examples/edge.toml").replacen("zone = \"wan\"", more, 1);
        load(&text, Path::new("edge.toml")).unwrap_or_else(|faults| panic!("{faults}")).policy
    }

    #[test]
    fn a_jumbo_frame_fits_one_buffer() {
        assert_eq!(policy("zone = \"wan\"").dpdk.buffer_size, 2_048);
        let jumbo = policy("zone = \"wan\"\nmtu = 9000").dpdk.buffer_size;
        assert!(jumbo >= 9_000 + 14 + 12 && jumbo.is_multiple_of(64), "{jumbo}");
        assert!(policy("zone = \"wan\"\nmtu = 9600").dpdk.buffer_size >= 9_630);
    }

    #[test]
    fn more_queues_and_kernel_interfaces_want_more_buffers() {
        let one = policy("zone = \"wan\"").buffers_wanted();
        assert!(one >= 2 * 2_048 && one.is_multiple_of(1_024), "{one}");
        assert!(policy("zone = \"wan\"\nqueues = 4").buffers_wanted() >= one + 3 * 2_048);
        assert!(policy("zone = \"wan\"\nkernel = false").buffers_wanted() < one);
    }
}
