//! QUIC connection ids that name their server in the clear (draft-ietf-quic-load-balancers, section 5.2, without
//! encryption): whoever gave out the id wrote its own number into it, so a client that changes its address still finds it.
//!
//! ```text
//!  0            1                     2                                 2 + length
//! +------------+---------------------+---------------------------------+-------+------------------
//! |0 short hdr | rotation (3) | any  | server id (length)              | nonce | protected payload
//! +------------+---------------------+---------------------------------+-------+------------------
//! ```
//!
//! Read at the first packet of a session only. Long headers are left to the algorithm: their ids may be the client's own
//! choice (RFC 9000 section 7.2), and nobody is to choose a backend.

use units::Nanos;

use super::Admin;
use super::backend::Health;
use super::services::Service;

/// The connection ids a service's backends give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuicIds {
    /// The first three bits of every id, 0 to 6; 7 says that an id names nobody.
    pub rotation: u8,
    /// Bytes of the server id, 1 to 15.
    pub length: u8,
}

/// Bytes that have to follow the server id at least (draft, section 5.1).
const NONCE_MIN: usize = 4;

impl QuicIds {
    /// The server id in the connection id of a datagram with a short header; `None` for all others.
    #[must_use]
    pub fn server_id(self, datagram: &[u8]) -> Option<u128> {
        let [header, first, rest @ ..] = datagram else { return None };
        if header & 0x80 != 0 || first >> 5 != self.rotation {
            return None;
        }
        let length = usize::from(self.length);
        let id = rest.get(..length).filter(|_| rest.len() >= length + NONCE_MIN)?;
        Some(id.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }
}

impl Service {
    /// The position of the backend that a datagram's connection id names, as long as that takes part: its connections go on
    /// while it drains, but not when it has failed or is out.
    #[must_use]
    pub fn named_by(&self, datagram: &[u8], now: Nanos) -> Option<usize> {
        let id = self.spec().quic?.server_id(datagram)?;
        let position = *self.named().get(&id)?;
        let member = self.members().get(position)?;
        let alive = !member.probed || member.backend.health() == Health::Up;
        (alive && member.backend.admin(now) != Admin::Disabled).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: QuicIds = QuicIds { rotation: 2, length: 3 };

    #[test]
    fn a_short_header_names_its_server() {
        let datagram = [0x43, 0x5f, 0xaa, 0xbb, 0xcc, 1, 2, 3, 4, 5];
        assert_eq!(IDS.server_id(&datagram), Some(0x00aa_bbcc));
        assert_eq!(IDS.server_id(&datagram[..9]), Some(0x00aa_bbcc), "with the shortest nonce");
        assert_eq!(IDS.server_id(&datagram[..8]), None, "shorter than any");
        assert_eq!(IDS.server_id(&[&[0xc3], &datagram[1..]].concat()), None, "a long header");
        assert_eq!(IDS.server_id(&[&[0x43, 0x7f], &datagram[2..]].concat()), None, "another rotation");
        assert_eq!(IDS.server_id(&[&[0x43, 0xff], &datagram[2..]].concat()), None, "unroutable");
        assert_eq!(IDS.server_id(&[]), None);
        let longest = QuicIds { rotation: 0, length: 15 };
        assert_eq!(longest.server_id(&[0x40; 40]), None);
        let datagram = [&[0x40, 0x1f][..], &[0xff; 15], &[0; 4]].concat();
        assert_eq!(longest.server_id(&datagram), Some((1 << 120) - 1));
    }
}
