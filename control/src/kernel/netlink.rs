//! Netlink (RFC 3549) as far as interfaces need it: requests, their acknowledgements and answers, and the rtnetlink(7)
//! requests for link flags, MAC address, MTU, addresses and routes.
//!
//! Called while interfaces are made and changed, on management threads, in the network namespace of the calling thread.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use wire::MacAddr;

const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const NETLINK_GENERIC: i32 = 16;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const IFF_UP: u32 = 1;
/// No duplicate address detection: the data plane owns the address on the wire, and DAD would keep it unusable for a second.
const IFA_F_NODAD: u32 = 0x02;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// `EEXIST` of errno(3).
const EXISTS: i32 = 17;

/// The metric of routes through a kernel interface: one that nobody else gives, since the kernel takes a route of the same
/// prefix and metric for the same route, wherever it leads; and behind all that the host has by itself, whose metrics are 0, a
/// few hundred, or 1024, as of any IPv6 route without one (`IP6_RT_PRIO_USER`).
const fn route_metric(index: u32) -> u32 {
    0x6d72_0000 | (index & 0xffff)
}

const HEADER_LEN: usize = 16;
const ATTRIBUTE_LEN: usize = 4;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_FLAGS: u16 = 0xc000;
/// Bytes of the longest answer that is asked for: the names of all features of an interface.
const ANSWER_MAX: usize = 32 * 1024;
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// A conversation with the kernel.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Whether something is added or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

impl Netlink {
    /// A conversation about links, addresses and routes, in the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        Self::with(NETLINK_ROUTE)
    }

    /// A conversation with a family of generic netlink.
    pub(super) fn open_generic() -> io::Result<Self> {
        Self::with(NETLINK_GENERIC)
    }

    fn with(protocol: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))?;
        socket.set_read_timeout(Some(ACKNOWLEDGED_WITHIN))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The index of the interface with this name; `None` when there is none.
    pub(super) fn index(&self, name: &str) -> io::Result<Option<u32>> {
        match rustix::net::netdevice::name_to_index(&self.socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sets an interface's MAC address and MTU.
    pub(super) fn set_link(&mut self, index: u32, mac: MacAddr, mtu: u16) -> io::Result<()> {
        let mtu = u32::from(mtu).to_ne_bytes();
        self.call(RTM_NEWLINK, 0, &link(index, 0, 0), &[(IFLA_ADDRESS, &mac.octets()), (IFLA_MTU, &mtu)])
    }

    /// Sets an interface up.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.call(RTM_NEWLINK, 0, &link(index, IFF_UP, IFF_UP), &[])
    }

    /// Gives an interface an address, or takes it away. Adding one it has is no error.
    pub(super) fn address(&mut self, change: Change, index: u32, address: IpNet) -> io::Result<()> {
        let octets = octets(address.addr());
        let flags = IFA_F_NODAD.to_ne_bytes();
        let mut body = vec![family(address.addr()), address.prefix_len(), 0, RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        let attributes: &[(u16, &[u8])] = &[(IFA_LOCAL, &octets), (IFA_ADDRESS, &octets), (IFA_FLAGS, &flags)];
        match change {
            Change::Add => self.call(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body, attributes),
            Change::Remove => self.call(RTM_DELADDR, 0, &body, attributes),
        }
    }

    /// Adds a route through an interface, or takes it away. Adding one that is there is no error.
    pub(super) fn route(&mut self, change: Change, index: u32, to: IpNet, via: IpAddr) -> io::Result<()> {
        let (network, gateway) = (octets(to.network()), octets(via));
        let (metric, index) = (route_metric(index).to_ne_bytes(), index.to_ne_bytes());
        let mut body = vec![family(via), to.prefix_len(), 0, 0];
        body.extend([RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0]);
        let attributes: &[(u16, &[u8])] =
            &[(RTA_DST, &network), (RTA_GATEWAY, &gateway), (RTA_OIF, &index), (RTA_PRIORITY, &metric)];
        match change {
            Change::Add => match self.call(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, attributes) {
                Err(error) if error.raw_os_error() == Some(EXISTS) => Ok(()),
                done => done,
            },
            Change::Remove => self.call(RTM_DELROUTE, 0, &body, attributes),
        }
    }

    /// Sends one request and waits until the kernel has done it.
    fn call(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> io::Result<()> {
        self.ask(kind, flags, body, attributes).map(drop)
    }

    /// Sends one request, waits until the kernel has done it, and returns the body of what it answered besides: empty when
    /// it only acknowledged.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        attributes: &[(u16, &[u8])],
    ) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = encode(kind, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence, body, attributes)?;
        self.socket.send(&request)?;
        let mut answer = Vec::new();
        let mut bytes = vec![0; ANSWER_MAX];
        loop {
            let len = (&self.socket).read(&mut bytes)?;
            for message in messages(bytes.get(..len).unwrap_or_default()) {
                match message {
                    Message { sequence, .. } if sequence != self.sequence => {}
                    Message { kind: NLMSG_ERROR, body, .. } => return acknowledged(body).map(|()| answer),
                    Message { body, .. } => body.clone_into(&mut answer),
                }
            }
        }
    }
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct nlmsghdr`, the body, and the attributes.
fn encode(kind: u16, flags: u16, sequence: u32, body: &[u8], attributes: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
    let attributes = encode_attributes(attributes)?;
    let len = u32::try_from(HEADER_LEN + body.len() + attributes.len()).map_err(too_long)?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message.extend(attributes);
    Ok(message)
}

/// `struct nlattr` for each, padded to four bytes: what a nested attribute holds, too.
pub(super) fn encode_attributes(attributes: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (kind, value) in attributes {
        let len = u16::try_from(value.len() + ATTRIBUTE_LEN).map_err(too_long)?;
        bytes.extend(len.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Ok(bytes)
}

fn too_long(_: std::num::TryFromIntError) -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// The attributes in these bytes: kind, without its flags, and value. Ends at the first that is cut.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(ATTRIBUTE_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NLA_FLAGS, value))
    })
}

/// One message of the kernel's.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages in what was read at once. Ends at the first that is cut.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let body = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    })
}

/// What an acknowledgement (`struct nlmsgerr`) says.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    let errno = body.get(..4).and_then(|errno| errno.try_into().ok()).map(i32::from_ne_bytes);
    match errno {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_netlink_wants_them() {
        let message = encode(RTM_NEWLINK, 5, 7, &link(3, 1, 1), &[(IFLA_ADDRESS, &[1, 2, 3, 4, 5, 6])]).unwrap();
        assert_eq!(message.len(), 16 + 16 + 12);
        assert_eq!(message[..4], 44u32.to_ne_bytes());
        assert_eq!(message[4..6], RTM_NEWLINK.to_ne_bytes());
        assert_eq!(message[8..12], 7u32.to_ne_bytes());
        assert_eq!(message[20..24], 3u32.to_ne_bytes());
        assert_eq!(message[32..34], 10u16.to_ne_bytes());
        assert_eq!(message[36..44], [1, 2, 3, 4, 5, 6, 0, 0]);
    }

    #[test]
    fn messages_and_attributes_end_where_they_are_cut() {
        let bytes = [
            encode(NLMSG_ERROR, 0, 8, &(-17_i32).to_ne_bytes(), &[]).unwrap(),
            encode(20, 0, 9, &[], &[(1, b"abc"), (2 | 0x8000, b"defg")]).unwrap(),
        ]
        .concat();
        let read: Vec<_> = messages(&bytes).map(|message| (message.kind, message.sequence)).collect();
        assert_eq!(read, [(NLMSG_ERROR, 8), (20, 9)]);
        let errno = acknowledged(messages(&bytes).next().unwrap().body).unwrap_err();
        assert_eq!(errno.raw_os_error(), Some(17));
        let last = messages(&bytes).last().unwrap().body;
        assert_eq!(attributes(last).collect::<Vec<_>>(), [(1, &b"abc"[..]), (2, &b"defg"[..])]);
        for len in 0..bytes.len() {
            assert!(messages(&bytes[..len]).count() < 2);
        }
        for len in 0..last.len() {
            assert!(attributes(&last[..len]).count() < 2);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            for message in messages(&bytes) {
                let _ = (acknowledged(message.body), attributes(message.body).count());
            }
        }
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_index() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.index("mr-nobody-has").unwrap(), None);
        assert_eq!(netlink.index("lo").unwrap(), Some(1));
    }
}
