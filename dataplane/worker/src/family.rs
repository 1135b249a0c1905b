//! The two address families behind one interface, so that the way of a packet is written once and compiled twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use session::{Address, InsertError, NewSession, Sessions, Slot, Table, Tuple, WireTuple};
use stage::translate::{
    Deltas, Hop, Leaving, NewEndpoints, Pool, pass_v4, pass_v6, rewrite_v4, rewrite_v6, turn_v4, turn_v6,
};
use units::Tick;
use wire::plain::{ADDRESSES_V4, ADDRESSES_V6, LEAST_V4, LEAST_V6, TRANSPORT_V4, TRANSPORT_V6, plain_v4, plain_v6};
use wire::{Endpoints, Facts};

use crate::lane::{Front, Head};
use crate::snapshot::Snapshot;

/// A family: its session table, its addresses, its headers.
pub(crate) trait Family: Address {
    /// Where the transport header of a plain packet begins.
    const TRANSPORT: usize;

    /// The table of this family.
    fn table(sessions: &Sessions) -> &Table<Self>;

    /// The table of this family, to change.
    fn table_mut(sessions: &mut Sessions) -> &mut Table<Self>;

    /// The address as one of either family.
    fn into_ip(self) -> IpAddr;

    /// The address, if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// Both ends of a tuple.
    fn endpoints(tuple: &Tuple<Self>) -> Endpoints;

    /// Whether an address means the same behind every port, unlike those of one link (RFC 3927, RFC 4291 section 2.5.6).
    fn is_everywhere(address: Self) -> bool;

    /// Whether an address is the broadcast address of a connected network.
    fn is_broadcast(snapshot: &Snapshot, address: Self) -> bool;

    /// Adds a session under the capacity both families share; `hashes` are those of its tuples.
    ///
    /// # Errors
    /// As `Sessions::insert_v4`.
    fn insert(
        sessions: &mut Sessions,
        new: &NewSession<Self>,
        hashes: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError>;

    /// The addresses of a pool for this client, its own first.
    fn pool(pool: &Pool, client: Self) -> impl Iterator<Item = Self>;

    /// Gives a packet the source and destination of `tuple`, with the checksum changes that brings. False when the
    /// packet does not have the headers its facts say.
    fn rewrite(frame: &mut [u8], facts: &Facts, tuple: &Tuple<Self>, deltas: Deltas) -> bool;

    /// What the headers of a plain packet of this family say.
    fn head(frame: &[u8]) -> Option<Head<Self>>;

    /// As [`head`](Self::head), as it lies in the frame.
    fn front(frame: &[u8]) -> Option<Front<Self>>;

    /// Sends a plain packet on over `hop`, rewritten if its session says so. False when it is not a plain packet.
    fn pass(frame: &mut [u8], tcp: bool, hop: Hop, leaving: Option<Leaving<Self::Pair>>) -> bool;

    /// Rewrites a plain packet that passes in line. False when it is not a plain packet.
    fn turn(frame: &mut [u8], tcp: bool, leaving: Leaving<Self::Pair>) -> bool;
}

/// A tuple as the translator knows it.
#[inline(always)]
pub(crate) const fn ends<A: Copy>(tuple: &Tuple<A>) -> NewEndpoints<A> {
    NewEndpoints {
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    }
}

impl Family for Ipv4Addr {
    const TRANSPORT: usize = TRANSPORT_V4;

    #[inline(always)]
    fn table(sessions: &Sessions) -> &Table<Self> {
        &sessions.v4
    }

    #[inline(always)]
    fn table_mut(sessions: &mut Sessions) -> &mut Table<Self> {
        &mut sessions.v4
    }

    fn into_ip(self) -> IpAddr {
        IpAddr::V4(self)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }
    }

    fn endpoints(tuple: &Tuple<Self>) -> Endpoints {
        Endpoints::V4 { source: tuple.source, destination: tuple.destination }
    }

    #[inline(always)]
    fn is_everywhere(address: Self) -> bool {
        !address.is_link_local()
    }

    #[inline]
    fn is_broadcast(snapshot: &Snapshot, address: Self) -> bool {
        snapshot.is_broadcast(address)
    }

    #[inline]
    fn insert(
        sessions: &mut Sessions,
        new: &NewSession<Self>,
        hashes: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError> {
        sessions.insert_hashed_v4(new, hashes, now)
    }

    fn pool(pool: &Pool, client: Self) -> impl Iterator<Item = Self> {
        pool.v4(client)
    }

    fn rewrite(frame: &mut [u8], facts: &Facts, tuple: &Tuple<Self>, deltas: Deltas) -> bool {
        rewrite_v4(frame, facts, &ends(tuple), deltas)
    }

    #[inline(always)]
    fn head(frame: &[u8]) -> Option<Head<Self>> {
        let (header, [source_port, destination_port]) = plain_v4(frame)?;
        let (source, destination) = (header.source(), header.destination());
        let tuple = Tuple { source, destination, source_port, destination_port };
        Some(Head { tuple, length: header.total_length(), hop_limit: header.ttl() })
    }

    #[inline(always)]
    fn front(frame: &[u8]) -> Option<Front<Self>> {
        let front = frame.first_chunk::<LEAST_V4>()?;
        let addresses = u64::from_ne_bytes(*front[ADDRESSES_V4..].first_chunk()?);
        let ports = u32::from_ne_bytes(*front[TRANSPORT_V4..].first_chunk()?);
        let length = u16::from_be_bytes([front[16], front[17]]);
        Some(Front { tuple: WireTuple::new(addresses, ports), length, hop_limit: front[22] })
    }

    #[inline(always)]
    fn pass(frame: &mut [u8], tcp: bool, hop: Hop, leaving: Option<Leaving<u64>>) -> bool {
        pass_v4(frame, tcp, hop, leaving)
    }

    #[inline(always)]
    fn turn(frame: &mut [u8], tcp: bool, leaving: Leaving<u64>) -> bool {
        turn_v4(frame, tcp, leaving)
    }
}

impl Family for Ipv6Addr {
    const TRANSPORT: usize = TRANSPORT_V6;

    #[inline(always)]
    fn table(sessions: &Sessions) -> &Table<Self> {
        &sessions.v6
    }

    #[inline(always)]
    fn table_mut(sessions: &mut Sessions) -> &mut Table<Self> {
        &mut sessions.v6
    }

    fn into_ip(self) -> IpAddr {
        IpAddr::V6(self)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        }
    }

    fn endpoints(tuple: &Tuple<Self>) -> Endpoints {
        Endpoints::V6 { source: tuple.source, destination: tuple.destination }
    }

    #[inline(always)]
    fn is_everywhere(address: Self) -> bool {
        !address.is_unicast_link_local()
    }

    #[inline]
    fn is_broadcast(_: &Snapshot, _: Self) -> bool {
        false
    }

    #[inline]
    fn insert(
        sessions: &mut Sessions,
        new: &NewSession<Self>,
        hashes: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError> {
        sessions.insert_hashed_v6(new, hashes, now)
    }

    fn pool(pool: &Pool, client: Self) -> impl Iterator<Item = Self> {
        pool.v6(client)
    }

    fn rewrite(frame: &mut [u8], facts: &Facts, tuple: &Tuple<Self>, deltas: Deltas) -> bool {
        rewrite_v6(frame, facts, &ends(tuple), deltas)
    }

    #[inline(always)]
    fn head(frame: &[u8]) -> Option<Head<Self>> {
        let (header, [source_port, destination_port]) = plain_v6(frame)?;
        let (source, destination) = (header.source(), header.destination());
        let tuple = Tuple { source, destination, source_port, destination_port };
        Some(Head { tuple, length: header.length(), hop_limit: header.hop_limit() })
    }

    #[inline(always)]
    fn front(frame: &[u8]) -> Option<Front<Self>> {
        let front = frame.first_chunk::<LEAST_V6>()?;
        let source = u128::from_ne_bytes(*front[ADDRESSES_V6..].first_chunk()?);
        let destination = u128::from_ne_bytes(*front[ADDRESSES_V6 + 16..].first_chunk()?);
        let ports = u32::from_ne_bytes(*front[TRANSPORT_V6..].first_chunk()?);
        let length = u16::from_be_bytes([front[18], front[19]]).wrapping_add(40);
        Some(Front { tuple: WireTuple::new([source, destination], ports), length, hop_limit: front[21] })
    }

    #[inline(always)]
    fn pass(frame: &mut [u8], tcp: bool, hop: Hop, leaving: Option<Leaving<[u128; 2]>>) -> bool {
        pass_v6(frame, tcp, hop, leaving)
    }

    #[inline(always)]
    fn turn(frame: &mut [u8], tcp: bool, leaving: Leaving<[u128; 2]>) -> bool {
        turn_v6(frame, tcp, leaving)
    }
}
