//! Receive-side scaling: how a NIC spreads packets over a port's queues. Its key and its table are those by which workers
//! share sessions ([`wire::toeplitz`]), so that what is spread by the end that decides arrives at its owner.

use core::sync::atomic::AtomicU8;

use dpdk_sys::{rte_eth_dev_info, rte_eth_rss_reta_entry64};
use wire::toeplitz;

/// What of a packet a NIC is to spread by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// Both ends.
    #[default]
    Both,
    /// Its source alone: the port clients send to.
    Source,
    /// Its destination alone: the port that servers answer by.
    Destination,
}

/// How packets find their queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rss {
    /// One queue, or a virtual device whose spreading nobody can tell.
    None,
    /// Both directions of a conversation arrive at the same queue, as long as neither end is rewritten.
    Symmetric,
    /// What has the same source, or the same destination, arrives at the same queue.
    OneSided,
    /// The directions of a conversation may arrive at different queues.
    Asymmetric,
}

/// The hash functions that leave out the destination, and the source.
const SOURCE_ONLY: u64 = (dpdk_sys::MILLRACE_RSS_SOURCE_ONLY_UPPER as u64) << 32;
const DESTINATION_ONLY: u64 = (dpdk_sys::MILLRACE_RSS_DESTINATION_ONLY_UPPER as u64) << 32;

/// Bytes of the longest key a NIC takes.
const KEY_MAX: usize = 64;

/// The symmetric key. Static, because drivers keep the pointer and read it again when they start; of atomics, because C
/// takes the pointer as one it might write through.
static KEY: [[AtomicU8; 2]; KEY_MAX / 2] =
    [const { [AtomicU8::new(toeplitz::KEY[0]), AtomicU8::new(toeplitz::KEY[1])] }; KEY_MAX / 2];

/// The key's length unless the NIC names another.
const KEY_USUAL: u8 = 40;
/// Entries of the largest redirection table that is written.
const TABLE_MAX: usize = 4_096;
/// Entries of one group of the redirection table, as DPDK takes them.
const GROUP: usize = 64;
const _: () = assert!(GROUP == toeplitz::TABLE);

/// The symmetric key and how much of it this NIC wants; `None` when it wants more than there is.
pub(crate) fn symmetric_key(info: &rte_eth_dev_info) -> Option<(*mut u8, u8)> {
    let length = if info.hash_key_size == 0 { KEY_USUAL } else { info.hash_key_size };
    (usize::from(length) <= KEY_MAX).then(|| (KEY.as_ptr().cast::<u8>().cast_mut(), length))
}

/// The hash functions we want of those this NIC has: addresses and, for TCP and UDP, ports; of one side, where it can leave
/// the other out.
pub(crate) const fn functions(info: &rte_eth_dev_info, side: Side) -> u64 {
    let both = info.flow_type_rss_offloads & dpdk_sys::MILLRACE_RSS_IP_TCP_UDP;
    let only = match side {
        Side::Both => 0,
        Side::Source => SOURCE_ONLY,
        Side::Destination => DESTINATION_ONLY,
    };
    if both != 0 && info.flow_type_rss_offloads & only == only { both | only } else { both }
}

/// How packets spread by these functions, under the key of ours.
pub(crate) const fn spread(functions: u64) -> Rss {
    if functions & (SOURCE_ONLY | DESTINATION_ONLY) == 0 { Rss::Symmetric } else { Rss::OneSided }
}

/// The NIC's redirection table as workers share sessions; `None` when it has no table of a size we write.
pub(crate) fn even_table(info: &rte_eth_dev_info, queues: u16) -> Option<Vec<rte_eth_rss_reta_entry64>> {
    let size = usize::from(info.reta_size);
    if size == 0 || size > TABLE_MAX || !size.is_multiple_of(GROUP) || queues == 0 {
        return None;
    }
    let mut group = rte_eth_rss_reta_entry64 { mask: u64::MAX, ..rte_eth_rss_reta_entry64::default() };
    for (place, hash) in group.reta.iter_mut().zip(0..) {
        *place = u16::try_from(toeplitz::part(hash, usize::from(queues))).unwrap_or(0);
    }
    Some(vec![group; size / GROUP])
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
    fn one_side_is_asked_of_nics_that_can_leave_the_other_out() {
        let able = |more| rte_eth_dev_info {
            flow_type_rss_offloads: dpdk_sys::MILLRACE_RSS_IP_TCP_UDP | more,
            ..rte_eth_dev_info::default()
        };
        let (source, destination) = (SOURCE_ONLY, DESTINATION_ONLY);
        let nic = able(source | destination);
        assert_eq!(functions(&nic, Side::Source), dpdk_sys::MILLRACE_RSS_IP_TCP_UDP | source);
        assert_eq!(functions(&nic, Side::Destination), dpdk_sys::MILLRACE_RSS_IP_TCP_UDP | destination);
        assert_eq!(spread(functions(&nic, Side::Source)), Rss::OneSided);
        for plain in [functions(&nic, Side::Both), functions(&able(0), Side::Source)] {
            assert_eq!((plain, spread(plain)), (dpdk_sys::MILLRACE_RSS_IP_TCP_UDP, Rss::Symmetric));
        }
        assert_eq!(functions(&rte_eth_dev_info::default(), Side::Source), 0);
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
        assert_eq!(usize::from(places[64 + 37]), toeplitz::part(37, 4), "larger tables repeat the smallest");
        assert!(even_table(&info(0, 0), 4).is_none() && even_table(&info(0, 100), 4).is_none());
    }
}
