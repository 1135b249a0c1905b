//! A session as it can be carried elsewhere: into a file that the next process reads, or to another appliance. It says nothing by
//! number that only this process knows. Ports, pools, backends and tenants are named by keys that every appliance makes the same
//! ([`key_of_name`](stage::balancer::key_of_name), `Backend::key`); times are spans; next hops, rules and checksum deltas are left
//! out, since who takes it up finds them by its own tables.
//!
//! Made by [`write_down`](crate::write_down), used by [`take_up`](crate::take_up), in any thread. Whatever bytes there are,
//! [`SessionImage::decode`] finds an image or says that there is none.
//!
//! Version [`VERSION`], every number in network order:
//!
//! ```text
//!  0  u8   family, 4 or 6                  12  u64  port it came by, by key
//!  1  u8   kind: TCP, UDP, echo, other     20  u64  port its answers came by
//!  2  u8   state                           28  u64  backend, by key; 0 for none
//!  3  u8   flags: who opened it            36  u64  tenant, by key; 0 for none
//!  4  u8   marks, see below                44  u64  ticks of silence
//!  5  u8   course                          52  u64  ticks since it was opened
//!  6  u8   what it has leased              60  12   acknowledged, flight, window of the stream of who opened it: u32 u32 u32
//!  7  u8   scales, two nibbles             72  12   the same of the answers
//!  8  u32  number of the SYN let through   84  32   packets and bytes of both directions: u64 each
//!                                          116 ...  both tuples: source, destination (4 or 16 bytes each), ports (u16 each)
//! ```
//!
//! Then what it has leased. Of a pool: its key. Of a mapping: the key of its pool (u64), its filtering (u8), the far end it holds for (u8: 0
//! all, 1 an address, 2 an address and port), then the inside and the outside end, and the far end if there is one: family (u8),
//! address, port (u16) each. Last what is kept beside it ([`SpliceImage`]), if anything is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use session::{Direction, History, Kind, State, StreamHistory, Traffic};
use stage::translate::Filtering;

use crate::hide::{FORWARDED, INBOUND};
use crate::splice_image::SpliceImage;
use crate::sweep::Ends;

/// The version of the layout; it changes with whatever changes there.
pub const VERSION: u16 = 1;

/// The flags of a session that mean the same elsewhere.
pub(crate) const FLAGS: u8 = INBOUND | FORWARDED;

// The marks.
const ONE_SIDED: u8 = 1;
const ONE_SHOT: u8 = 2;
const LINGERS: u8 = 4;
const CHALLENGED: u8 = 8;
const CHALLENGED_REPLY: u8 = 16;
const SPLICED: u8 = 32;
const MARKS: u8 = 63;

/// How packets of a session go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Course {
    /// By the routes.
    Routed = 0,
    /// To the appliance's own kernel.
    Here = 1,
    /// To a backend by its tunnel.
    Tunnel = 2,
    /// Through a pair of ports, as they came.
    InLine = 3,
    /// Through a pair of ports, and to a backend.
    Attracted = 4,
    /// Across NAT64.
    Across = 5,
}

impl Course {
    const ALL: [Self; 6] = [Self::Routed, Self::Here, Self::Tunnel, Self::InLine, Self::Attracted, Self::Across];
}

/// What a session has leased of a pool of source addresses; outside is what its answers are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nothing.
    None,
    /// A port towards its far end.
    Port {
        /// The pool, by key.
        pool: u64,
    },
    /// A part in a mapping.
    Mapping {
        /// The pool, by key.
        pool: u64,
        /// Who may answer.
        filtering: Filtering,
        /// The inside end.
        inside: (IpAddr, u16),
        /// The outside end.
        outside: (IpAddr, u16),
        /// The far end it holds for.
        far: Option<(IpAddr, Option<u16>)>,
    },
}

/// One session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionImage {
    /// Protocol kind.
    pub kind: Kind,
    /// Packets of who opened it, as they arrive.
    pub original: Ends,
    /// The answers, as they arrive.
    pub reply: Ends,
    /// What it has come to.
    pub history: History,
    /// Who opened it: those of the worker's own flags that mean the same elsewhere.
    pub flags: u8,
    /// Only packets of who opened it pass here.
    pub one_sided: bool,
    /// It is over when its questions are answered.
    pub one_shot: bool,
    /// Its silence is borne longer.
    pub lingers: bool,
    /// How its packets go on.
    pub course: Course,
    /// The ports its packets come in by, by key, in both directions.
    pub ports: [u64; 2],
    /// The backend that serves it, by key.
    pub backend: Option<u64>,
    /// Whose it is, by key.
    pub tenant: Option<u64>,
    /// What it has leased.
    pub lease: Lease,
    /// What is kept beside it.
    pub splice: Option<SpliceImage>,
}

impl SessionImage {
    /// Bytes of the longest.
    pub const LEN_MAX: usize = 116 + 2 * 36 + 8 + 2 + 3 * 19 + SpliceImage::LEN;

    /// Writes it behind what is in `into`.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let Self { history, original, reply, .. } = self;
        let challenge = match history.challenge {
            None => 0,
            Some((Direction::Original, _)) => CHALLENGED,
            Some((Direction::Reply, _)) => CHALLENGED | CHALLENGED_REPLY,
        };
        let mark = |wanted: bool, mark: u8| if wanted { mark } else { 0 };
        let marks = mark(self.one_sided, ONE_SIDED)
            | mark(self.one_shot, ONE_SHOT)
            | mark(self.lingers, LINGERS)
            | mark(self.splice.is_some(), SPLICED)
            | challenge;
        let lease = match self.lease {
            Lease::None => 0,
            Lease::Port { .. } => 1,
            Lease::Mapping { .. } => 2,
        };
        let [forth, back] = history.scales;
        let family = if original.source.is_ipv6() { 6 } else { 4 };
        let scales = forth << 4 | back & 15;
        into.extend([
            family,
            self.kind as u8,
            history.state as u8,
            self.flags,
            marks,
            self.course as u8,
            lease,
            scales,
        ]);
        into.extend(history.challenge.map_or(0, |(_, sequence)| sequence).to_be_bytes());
        let [port, answers] = self.ports;
        for word in [port, answers, self.backend.unwrap_or(0), self.tenant.unwrap_or(0), history.idle, history.age] {
            into.extend(word.to_be_bytes());
        }
        for stream in history.streams {
            for word in [stream.acknowledged, stream.flight, u32::from(stream.window)] {
                into.extend(word.to_be_bytes());
            }
        }
        for Traffic { packets, bytes } in history.traffic {
            into.extend(packets.to_be_bytes());
            into.extend(bytes.to_be_bytes());
        }
        for ends in [original, reply] {
            put_address(ends.source, into);
            put_address(ends.destination, into);
            into.extend(ends.source_port.to_be_bytes());
            into.extend(ends.destination_port.to_be_bytes());
        }
        match self.lease {
            Lease::None => {}
            Lease::Port { pool } => into.extend(pool.to_be_bytes()),
            Lease::Mapping { pool, filtering, inside, outside, far } => {
                into.extend(pool.to_be_bytes());
                into.push(filtering as u8);
                into.push(match far {
                    None => 0,
                    Some((_, None)) => 1,
                    Some((_, Some(_))) => 2,
                });
                let far = far.map(|(address, port)| (address, port.unwrap_or(0)));
                for (address, port) in [inside, outside].into_iter().chain(far) {
                    into.push(if address.is_ipv6() { 6 } else { 4 });
                    put_address(address, into);
                    into.extend(port.to_be_bytes());
                }
            }
        }
        if let Some(splice) = &self.splice {
            into.extend(splice.bytes());
        }
    }

    /// The image at the beginning of these bytes, and what is behind it; `None` when there is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut read = Reader(bytes);
        let [family, kind, state, flags, marks, course, lease, scales] = read.bytes()?;
        let (kind, state) = (Kind::from_number(kind)?, State::from_number(state)?);
        if flags & !FLAGS != 0 || marks & !MARKS != 0 || marks & (CHALLENGED | CHALLENGED_REPLY) == CHALLENGED_REPLY {
            return None;
        }
        let sequence = read.u32()?;
        let course = *Course::ALL.get(usize::from(course))?;
        let ports = [read.u64()?, read.u64()?];
        let backend = Some(read.u64()?).filter(|&key| key != 0);
        let tenant = Some(read.u64()?).filter(|&key| key != 0);
        let (idle, age) = (read.u64()?, read.u64()?);
        let streams = [read.stream()?, read.stream()?];
        let traffic = [read.traffic()?, read.traffic()?];
        let (original, reply) = (read.ends(family)?, read.ends(family)?);
        let direction = if marks & CHALLENGED_REPLY == 0 { Direction::Original } else { Direction::Reply };
        let challenge = (marks & CHALLENGED != 0).then_some((direction, sequence));
        let scales = [scales >> 4, scales & 15];
        let history = History { state, streams, scales, challenge, traffic, idle, age };
        if !history.is_of(kind) || challenge.is_none() && sequence != 0 {
            return None;
        }
        let lease = read.lease(lease)?;
        let splice = if marks & SPLICED == 0 { None } else { Some(SpliceImage::from_bytes(read.bytes()?)) };
        let image = Self {
            kind,
            original,
            reply,
            history,
            flags,
            one_sided: marks & ONE_SIDED != 0,
            one_shot: marks & ONE_SHOT != 0,
            lingers: marks & LINGERS != 0,
            course,
            ports,
            backend,
            tenant,
            lease,
            splice,
        };
        Some((image, read.0))
    }
}

fn put_address(address: IpAddr, into: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => into.extend(v4.octets()),
        IpAddr::V6(v6) => into.extend(v6.octets()),
    }
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn address(&mut self, family: u8) -> Option<IpAddr> {
        match family {
            4 => self.bytes::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            6 => self.bytes::<16>().map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        }
    }

    fn ends(&mut self, family: u8) -> Option<Ends> {
        let (source, destination) = (self.address(family)?, self.address(family)?);
        Some(Ends { source, destination, source_port: self.u16()?, destination_port: self.u16()? })
    }

    fn stream(&mut self) -> Option<StreamHistory> {
        let (acknowledged, flight, window) = (self.u32()?, self.u32()?, self.u32()?);
        let window = u8::try_from(window).ok().filter(|&window| window < 32)?;
        (flight < 1 << 27).then_some(StreamHistory { acknowledged, flight, window })
    }

    fn traffic(&mut self) -> Option<Traffic> {
        Some(Traffic { packets: self.u64()?, bytes: self.u64()? })
    }

    fn end(&mut self) -> Option<(IpAddr, u16)> {
        let family = self.u8()?;
        Some((self.address(family)?, self.u16()?))
    }

    fn lease(&mut self, lease: u8) -> Option<Lease> {
        match lease {
            0 => Some(Lease::None),
            1 => Some(Lease::Port { pool: self.u64()? }),
            2 => {
                let (pool, filtering, holds_for) = (self.u64()?, self.u8()?, self.u8()?);
                let filtering = Filtering::WORDS.into_iter().map(|(_, it)| it).find(|&it| it as u8 == filtering)?;
                let (inside, outside) = (self.end()?, self.end()?);
                let far = match holds_for {
                    0 => None,
                    1 => Some(self.end().filter(|&(_, port)| port == 0).map(|(address, _)| (address, None))?),
                    2 => Some(self.end().map(|(address, port)| (address, Some(port)))?),
                    _ => return None,
                };
                Some(Lease::Mapping { pool, filtering, inside, outside, far })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(v6: bool) -> BoxedStrategy<IpAddr> {
        if v6 {
            any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()).boxed()
        } else {
            any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()).boxed()
        }
    }

    fn ends(v6: bool) -> impl Strategy<Value = Ends> {
        (addresses(v6), addresses(v6), any::<[u16; 2]>()).prop_map(|(source, destination, [from, to])| Ends {
            source,
            destination,
            source_port: from,
            destination_port: to,
        })
    }

    fn leases() -> impl Strategy<Value = Lease> {
        let end = || (any::<bool>().prop_flat_map(addresses), any::<u16>());
        let far = (end(), any::<bool>()).prop_map(|((address, port), with)| (address, with.then_some(port)));
        prop_oneof![
            Just(Lease::None),
            any::<u64>().prop_map(|pool| Lease::Port { pool }),
            (any::<u64>(), 0..3_usize, end(), end(), prop::option::of(far)).prop_map(
                |(pool, filtering, inside, outside, far)| {
                    let (_, filtering) = Filtering::WORDS[filtering];
                    Lease::Mapping { pool, filtering, inside, outside, far }
                }
            ),
        ]
    }

    fn histories() -> impl Strategy<Value = History> {
        let stream = || {
            (any::<u32>(), 0_u32..1 << 27, 0_u8..32).prop_map(|(acknowledged, flight, window)| StreamHistory {
                acknowledged,
                flight,
                window,
            })
        };
        let traffic = || any::<[u64; 2]>().prop_map(|[packets, bytes]| Traffic { packets, bytes });
        let challenge = prop::option::of(
            (any::<bool>(), any::<u32>())
                .prop_map(|(reply, sequence)| (if reply { Direction::Reply } else { Direction::Original }, sequence)),
        );
        let scales = [0_u8..16, 0_u8..16];
        (
            prop::sample::select(&State::ALL[..]),
            [stream(), stream()],
            scales,
            challenge,
            [traffic(), traffic()],
            any::<[u64; 2]>(),
        )
            .prop_map(|(state, streams, scales, challenge, traffic, [idle, age])| History {
                state,
                streams,
                scales,
                challenge,
                traffic,
                idle,
                age,
            })
    }

    fn images() -> impl Strategy<Value = SessionImage> {
        let ends = any::<bool>().prop_flat_map(|v6| (ends(v6), ends(v6)));
        let kinds = (prop::sample::select(&Kind::ALL[1..]), prop::sample::select(&Course::ALL[..]));
        let splice = prop::array::uniform::<_, { SpliceImage::LEN }>(any::<u8>()).prop_map(SpliceImage::from_bytes);
        let splices = prop::option::of(splice);
        let rest = (
            any::<[bool; 3]>(),
            0..4_u8,
            any::<[u64; 2]>(),
            prop::option::of(1..=u64::MAX),
            prop::option::of(1..=u64::MAX),
            leases(),
            splices,
        );
        (ends, histories(), kinds, rest).prop_map(|((original, reply), history, (kind, course), rest)| {
            let ([one_sided, one_shot, lingers], flags, ports, backend, tenant, lease, splice) = rest;
            let kind = if history.is_of(Kind::Tcp) { Kind::Tcp } else { kind };
            SessionImage {
                kind,
                original,
                reply,
                history,
                flags: flags << 1,
                one_sided,
                one_shot,
                lingers,
                course,
                ports,
                backend,
                tenant,
                lease,
                splice,
            }
        })
    }

    proptest! {
        /// What was written is read, one behind the other, and no piece of it is taken for a whole.
        #[test]
        fn images_are_read_as_they_were_written(images in prop::collection::vec(images(), 1..4), cut in any::<prop::sample::Index>()) {
            let (mut bytes, mut begins) = (Vec::new(), Vec::new());
            for image in &images {
                begins.push(bytes.len());
                image.encode(&mut bytes);
                prop_assert!(bytes.len() - begins.last().unwrap() <= SessionImage::LEN_MAX);
            }
            let mut rest = &bytes[..];
            for image in &images {
                let (read, behind) = SessionImage::decode(rest).unwrap();
                prop_assert_eq!(&read, image);
                rest = behind;
            }
            prop_assert!(rest.is_empty());
            let last = &bytes[*begins.last().unwrap()..];
            prop_assert!(SessionImage::decode(&last[..cut.index(last.len())]).is_none());
        }

        /// Whatever bytes there are: there is no image, or one that is written as it was read.
        #[test]
        fn other_bytes_are_no_image_or_exactly_one(image in images(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8), 1..4), any in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Vec::new();
            image.encode(&mut bytes);
            for (place, bit) in flips {
                let place = place.index(bytes.len());
                bytes[place] ^= 1_u8 << bit;
            }
            for bytes in [bytes, any] {
                if let Some((image, rest)) = SessionImage::decode(&bytes) {
                    let mut again = Vec::new();
                    image.encode(&mut again);
                    prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
                }
            }
        }
    }
}
