//! The features of a Linux interface that merge packets on receive (GRO, LRO): read and switched through the kernel's
//! ethtool netlink family (Documentation/networking/ethtool-netlink.rst).
//!
//! A port over such an interface would be given packets larger than its MTU, which it cannot treat. Used by
//! [`isolate`](super::isolate) and by the doctor.

use std::io;

use super::netlink::{Netlink, attributes, encode_attributes};

/// The features that merge packets, by the kernel's names.
const MERGING: [&str; 4] = ["rx-gro", "rx-gro-hw", "rx-lro", "rx-gro-list"];

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1 | NLA_F_NESTED;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3 | NLA_F_NESTED;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

const NLA_F_NESTED: u16 = 0x8000;
const VERSION: u8 = 1;
const GENERIC_HEADER_LEN: usize = 4;

/// The features of `interface` that merge packets and are on now.
///
/// # Errors
/// What the kernel said: no such interface, or a kernel without this family.
pub(crate) fn merging(interface: &str) -> io::Result<Vec<String>> {
    let (mut netlink, family) = open()?;
    let header = header(interface)?;
    let answer =
        netlink.ask(family, 0, &[ETHTOOL_MSG_FEATURES_GET, VERSION, 0, 0], &[(ETHTOOL_A_FEATURES_HEADER, &header)])?;
    let active = active(answer.get(GENERIC_HEADER_LEN..).unwrap_or_default());
    Ok(active.into_iter().filter(|name| MERGING.contains(&name.as_str())).collect())
}

/// Switches features of `interface` on or off.
///
/// # Errors
/// What the kernel said.
pub(crate) fn switch(interface: &str, features: &[String], on: bool) -> io::Result<()> {
    let (mut netlink, family) = open()?;
    let mut bits = Vec::new();
    for feature in features {
        let name = terminated(feature);
        let mut bit: Vec<(u16, &[u8])> = vec![(ETHTOOL_A_BITSET_BIT_NAME, &name)];
        if on {
            bit.push((ETHTOOL_A_BITSET_BIT_VALUE, &[]));
        }
        let bit = encode_attributes(&bit)?;
        bits.extend(encode_attributes(&[(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, &bit)])?);
    }
    let wanted = encode_attributes(&[(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, &bits)])?;
    let header = header(interface)?;
    let attributes: &[(u16, &[u8])] = &[(ETHTOOL_A_FEATURES_HEADER, &header), (ETHTOOL_A_FEATURES_WANTED, &wanted)];
    netlink.ask(family, 0, &[ETHTOOL_MSG_FEATURES_SET, VERSION, 0, 0], attributes).map(drop)
}

/// A conversation, and the number the kernel gave the ethtool family at boot.
fn open() -> io::Result<(Netlink, u16)> {
    let mut netlink = Netlink::open_generic()?;
    let name = terminated("ethtool");
    let answer =
        netlink.ask(GENL_ID_CTRL, 0, &[CTRL_CMD_GETFAMILY, VERSION, 0, 0], &[(CTRL_ATTR_FAMILY_NAME, &name)])?;
    let family = attributes(answer.get(GENERIC_HEADER_LEN..).unwrap_or_default())
        .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
        .and_then(|(_, value)| Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?)))
        .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
    Ok((netlink, family))
}

/// Which interface a request is about, as the nested attribute that comes first.
fn header(interface: &str) -> io::Result<Vec<u8>> {
    encode_attributes(&[(ETHTOOL_A_HEADER_DEV_NAME, &terminated(interface))])
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// The names in the list of active features of an answer.
fn active(answer: &[u8]) -> Vec<String> {
    let within =
        |bytes, wanted: u16| attributes(bytes).filter(move |(kind, _)| *kind == wanted).map(|(_, value)| value);
    within(answer, ETHTOOL_A_FEATURES_ACTIVE)
        .flat_map(|list| within(list, ETHTOOL_A_BITSET_BITS))
        .flat_map(|bits| within(bits, ETHTOOL_A_BITSET_BITS_BIT))
        .flat_map(|bit| within(bit, ETHTOOL_A_BITSET_BIT_NAME))
        .filter_map(|name| Some(std::str::from_utf8(name.strip_suffix(&[0])?).ok()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(merging("mr-nobody-has").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = active(&bytes);
        }
    }
}
