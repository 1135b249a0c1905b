//! The echo probe, ICMP (RFC 792) and `ICMPv6` (RFC 4443 section 4): over the kernel's ping sockets where this process may
//! open them, else over a raw socket.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use wire::checksum;

const ECHO_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

const HEADER_LEN: usize = 8;
const ECHO_LEN: usize = HEADER_LEN + 8;

/// Probes sent by this process; numbers them apart.
static SENT: AtomicU32 = AtomicU32::new(0);

/// One echo, and what tells its reply from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Echo {
    v6: bool,
    identifier: u16,
    sequence: u16,
    token: [u8; 8],
}

/// Asks `address` for an echo and waits for it, without a limit.
///
/// # Errors
/// Why there will be none.
pub(super) async fn echo(address: IpAddr) -> Result<(), String> {
    let socket = open(address).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => "icmp: no permission for raw sockets; CAP_NET_RAW".to_owned(),
        _ => format!("icmp: {error}"),
    })?;
    let said = |error: io::Error| format!("icmp: {error}");
    let echo = Echo::next(address.is_ipv6());
    socket.send(&echo.request()).await.map_err(said)?;
    let mut reply = [0; 256];
    loop {
        let len = socket.recv(&mut reply).await.map_err(said)?;
        if echo.is_answered_by(reply.get(..len).unwrap_or_default()) {
            return Ok(());
        }
    }
}

/// A connected socket that echoes can be sent on and replies of this address come in on. Tokio has no type for it; its
/// datagram socket sends and receives on any datagram-like descriptor just as well.
fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) =
        if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket =
        Socket::new(domain, Type::DGRAM, Some(protocol)).or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::from(std::net::SocketAddr::new(address, 0)))?;
    UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(socket)))
}

impl Echo {
    fn next(v6: bool) -> Self {
        let number = SENT.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [(number >> 16) as u16, (number & 0xffff) as u16];
        Self { v6, identifier: high ^ 0x6d72, sequence: low, token: RandomState::new().hash_one(number).to_be_bytes() }
    }

    /// The message. The kernel fills in the `ICMPv6` checksum (RFC 3542 section 3.1), and a ping socket's identifier.
    fn request(self) -> [u8; ECHO_LEN] {
        let mut message = [0; ECHO_LEN];
        let [identifier, sequence] = [self.identifier.to_be_bytes(), self.sequence.to_be_bytes()];
        let fields = [if self.v6 { ECHO_V6 } else { ECHO_V4 }, 0, 0, 0].into_iter();
        for (byte, field) in message.iter_mut().zip(fields.chain(identifier).chain(sequence).chain(self.token)) {
            *byte = field;
        }
        if !self.v6 {
            let [high, low] = checksum::plain(&message).to_be_bytes();
            if let Some(field) = message.get_mut(2..4) {
                field.copy_from_slice(&[high, low]);
            }
        }
        message
    }

    /// Whether these bytes, as a socket gives them, are the reply. The identifier is left out of it: ping sockets have
    /// their own; the token is as good.
    fn is_answered_by(self, bytes: &[u8]) -> bool {
        let message = match bytes.first() {
            // A raw IPv4 socket gives the IP header too; an echo reply begins with 0.
            Some(first) if !self.v6 && first >> 4 == 4 => {
                bytes.get(usize::from(first & 0x0f) * 4..).unwrap_or_default()
            }
            _ => bytes,
        };
        let wanted = if self.v6 { ECHO_REPLY_V6 } else { ECHO_REPLY_V4 };
        message.first() == Some(&wanted)
            && message.get(1) == Some(&0)
            && message.get(6..8) == Some(self.sequence.to_be_bytes().as_slice())
            && message.get(HEADER_LEN..) == Some(self.token.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn reply(echo: Echo) -> Vec<u8> {
        let mut bytes = echo.request().to_vec();
        bytes[0] = if echo.v6 { ECHO_REPLY_V6 } else { ECHO_REPLY_V4 };
        bytes
    }

    #[test]
    fn a_request_sums_to_nothing() {
        assert_eq!(checksum::plain(&Echo::next(false).request()), 0);
        assert_eq!(Echo::next(true).request()[..4], [ECHO_V6, 0, 0, 0]);
    }

    #[test]
    fn only_its_own_reply_answers_an_echo() {
        for v6 in [false, true] {
            let (echo, other) = (Echo::next(v6), Echo::next(v6));
            assert!(echo.is_answered_by(&reply(echo)));
            assert!(!echo.is_answered_by(&echo.request()));
            assert!(!echo.is_answered_by(&reply(other)));
            for len in 0..ECHO_LEN {
                assert!(!echo.is_answered_by(&reply(echo)[..len]));
            }
        }
    }

    #[test]
    fn a_raw_sockets_ip_header_is_passed_over() {
        let echo = Echo::next(false);
        for words in [5_u8, 15] {
            let mut bytes = vec![0; usize::from(words) * 4];
            bytes[0] = 0x40 | words;
            bytes.extend(reply(echo));
            assert!(echo.is_answered_by(&bytes));
        }
        assert!(!echo.is_answered_by(&[0x4f; 20]));
    }

    #[tokio::test]
    async fn the_loopback_answers_where_icmp_sockets_are_permitted() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            if open(address).is_ok() {
                echo(address).await.unwrap();
            }
        }
    }
}
