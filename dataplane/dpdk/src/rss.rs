//! Receive-side scaling: how a NIC spreads packets over a port's queues. The key below makes Toeplitz hashes symmetric, so
//! that both directions of a conversation arrive at the same queue (Woo and Park, "Scalable TCP Session Monitoring with
//! Symmetric Receive-side Scaling", 2012): its period of 16 bits makes source and destination interchangeable.

use core::sync::atomic::AtomicU8;

use dpdk_sys::{rte_eth_dev_info, rte_eth_rss_reta_entry64};

/// How packets find their queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rss {
    /// One queue, or a virtual device whose spreading nobody can tell.
    None,
    /// Both directions of a conversation arrive at the same queue, as long as neither end is rewritten.
    Symmetric,
    /// The directions of a conversation may arrive at different queues.
    Asymmetric,
}

/// Bytes of the longest key a NIC takes.
const KEY_MAX: usize = 64;

/// The symmetric key. Static, because drivers keep the pointer and read it again when they start; of atomics, because C
/// takes the pointer as one it might write through.
static KEY: [[AtomicU8; 2]; KEY_MAX / 2] = [const { [AtomicU8::new(0x6d), AtomicU8::new(0x5a)] }; KEY_MAX / 2];

/// The key's length unless the NIC names another.
const KEY_USUAL: u8 = 40;
/// Entries of the largest redirection table that is written.
const TABLE_MAX: usize = 4_096;
/// Entries of one group of the redirection table, as DPDK takes them.
const GROUP: usize = 64;

/// The symmetric key and how much of it this NIC wants; `None` when it wants more than there is.
pub(crate) fn symmetric_key(info: &rte_eth_dev_info) -> Option<(*mut u8, u8)> {
    let length = if info.hash_key_size == 0 { KEY_USUAL } else { info.hash_key_size };
    (usize::from(length) <= KEY_MAX).then(|| (KEY.as_ptr().cast::<u8>().cast_mut(), length))
}

/// The hash functions we want of those this NIC has: addresses and, for TCP and UDP, ports.
pub(crate) const fn functions(info: &rte_eth_dev_info) -> u64 {
    info.flow_type_rss_offloads & dpdk_sys::MILLRACE_RSS_IP_TCP_UDP
}

/// The NIC's redirection table with all `queues` in turn; `None` when it has no table of a size we write.
pub(crate) fn even_table(info: &rte_eth_dev_info, queues: u16) -> Option<Vec<rte_eth_rss_reta_entry64>> {
    let size = usize::from(info.reta_size);
    if size == 0 || size > TABLE_MAX || !size.is_multiple_of(GROUP) || queues == 0 {
        return None;
    }
    let mut queue = (0..queues).cycle();
    let group = |_| {
        let mut entry = rte_eth_rss_reta_entry64 { mask: u64::MAX, ..rte_eth_rss_reta_entry64::default() };
        for place in &mut entry.reta {
            *place = queue.next().unwrap_or(0);
        }
        entry
    };
    Some((0..size / GROUP).map(group).collect())
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// Toeplitz as Microsoft's RSS specification has it, bit by bit.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
        let window = |at: usize| (0..32).fold(0_u32, |word, i| word << 1 | u32::from(bit(key, at + i)));
        (0..input.len() * 8).filter(|&at| bit(input, at)).fold(0, |hash, at| hash ^ window(at))
    }

    fn key() -> Vec<u8> {
        KEY.iter().flatten().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    fn info(key: u8, table: u16) -> rte_eth_dev_info {
        rte_eth_dev_info { hash_key_size: key, reta_size: table, ..rte_eth_dev_info::default() }
    }

    #[test]
    fn our_toeplitz_agrees_with_the_published_answer() {
        // Microsoft's verification suite: 66.9.149.187:2794 -> 161.142.100.80:1766 hashes to 0x51ccc178.
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&key, &input), 0x51cc_c178);
    }

    proptest! {
        #[test]
        fn both_directions_hash_alike(a: [u8; 16], b: [u8; 16], p: [u8; 2], q: [u8; 2]) {
            let key = key();
            let there: Vec<u8> = [&a[..], &b, &p, &q].concat();
            let back: Vec<u8> = [&b[..], &a, &q, &p].concat();
            prop_assert_eq!(toeplitz(&key, &there), toeplitz(&key, &back));
            let (there, back) = ([&a[..4], &b[..4], &p, &q].concat(), [&b[..4], &a[..4], &q, &p].concat());
            prop_assert_eq!(toeplitz(&key, &there), toeplitz(&key, &back));
        }
    }

    #[test]
    fn keys_have_the_length_the_nic_wants() {
        assert_eq!(symmetric_key(&info(0, 0)).unwrap().1, 40);
        assert_eq!(symmetric_key(&info(52, 0)).unwrap().1, 52);
        assert_eq!(symmetric_key(&info(200, 0)), None);
    }

    #[test]
    fn the_redirection_table_names_every_queue_as_often() {
        let table = even_table(&info(0, 128), 4).unwrap();
        assert_eq!(table.len(), 2);
        assert!(table.iter().all(|group| group.mask == u64::MAX));
        let places: Vec<u16> = table.iter().flat_map(|group| group.reta).collect();
        assert!((0..4).all(|queue| places.iter().filter(|&&place| place == queue).count() == 32));
        assert!(even_table(&info(0, 0), 4).is_none() && even_table(&info(0, 100), 4).is_none());
    }
}
