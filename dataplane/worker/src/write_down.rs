//! All sessions of a worker as images, for the process that comes after this one. Called when the worker treats packets no more, from
//! its own thread; what it makes goes away block by block, so that a million sessions never stand twice in memory.
//!
//! What the appliance's own kernel has begun ends with the process, as the interfaces of that kernel do and the sockets of probes. Left
//! out are, besides, connections that are still being begun by the appliance itself ([`splice_image`](crate::splice_image)). Of a session with
//! tiers the way to its backend is written, without the instances before it.

use std::net::{Ipv4Addr, Ipv6Addr};

use session::{Direction, Session, Slot};
use stage::balancer::key_of_name;
use stage::translate::{Mapped, MappingId};

use crate::act::FROM_KERNEL;
use crate::binding::BindingId;
use crate::family::Family;
use crate::hide::POOL_ONLY;
use crate::image::{Course, FLAGS, Lease, SessionImage};
use crate::next_hop::NextHopId;
use crate::shard::Shard;
use crate::splice_image::SpliceImage;
use crate::sweep::Ends;

/// Bytes of images in a block, before the last one.
const BLOCK: usize = 64 << 10;

/// Some images, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The images.
    pub images: Vec<u8>,
    /// How many there are.
    pub sessions: u32,
    /// Sessions there were between them that have no image.
    pub left_out: u32,
}

impl Block {
    /// Bytes of images in a block at most.
    pub const LEN_MAX: usize = BLOCK + SessionImage::LEN_MAX;
}

impl<B> Shard<B> {
    /// Hands out all sessions, block by block, until `take` says that it takes no more.
    pub(crate) fn write_down(&self, mut take: impl FnMut(Block) -> bool) {
        let ports: Vec<u64> = self.snapshot.ports.iter().map(|port| key_of_name(&port.name)).collect();
        let mut block = Block::default();
        let all = self.write_down_family::<Ipv4Addr>(&ports, &mut block, &mut take)
            && self.write_down_family::<Ipv6Addr>(&ports, &mut block, &mut take);
        if all && block != Block::default() {
            take(block);
        }
    }

    fn write_down_family<A: Family>(
        &self,
        ports: &[u64],
        block: &mut Block,
        take: &mut impl FnMut(Block) -> bool,
    ) -> bool {
        let not_kernels = |(_, session): &(Slot, &Session<A>)| session.flags() & FROM_KERNEL == 0;
        for (slot, session) in A::table(&self.sessions).occupied(0, u32::MAX).filter(not_kernels) {
            match self.image_of(ports, slot, session) {
                Some(image) => {
                    image.encode(&mut block.images);
                    block.sessions += 1;
                }
                None => block.left_out += 1,
            }
            if block.images.len() >= BLOCK && !take(core::mem::take(block)) {
                return false;
            }
        }
        true
    }

    /// The image of a session; `ports` are the keys of the ports' names. `None` where it would not be the whole session.
    fn image_of<A: Family>(&self, ports: &[u64], slot: Slot, session: &Session<A>) -> Option<SessionImage> {
        let splice = self.splice_of::<A>(slot);
        let (hop, lease) = match (splice, self.journey_of::<A>(slot)) {
            (Some(splice), _) => (splice.hops[0], splice.lease),
            (None, Some(journey)) => journey.before(),
            (None, None) => (NextHopId::new(session.next_hop(Direction::Original)), session.lease()),
        };
        let splice = match splice {
            Some(splice) => Some(SpliceImage::of(splice)?),
            None => None,
        };
        let backend = self.bindings.backend(BindingId::new(session.binding())).map(|backend| backend.key());
        let course = match hop {
            NextHopId::KERNEL => Course::Here,
            NextHopId::TUNNEL => Course::Tunnel,
            pair if pair.is_through() => {
                if lease == 0 {
                    Course::InLine
                } else {
                    Course::Attracted
                }
            }
            side if side.crosses() => Course::Across,
            _ => Course::Routed,
        };
        let lease = if hop.is_through() { Lease::None } else { self.lease_of(lease)? };
        let tenant = self.snapshot.tenants.tenant(session.tenant()).map(|tenant| key_of_name(&tenant.name));
        let ports = Direction::BOTH.map(|direction| ports.get(session.ingress(direction).index()).copied());
        let [Some(port), Some(answers)] = ports else { return None };
        Some(SessionImage {
            kind: session.kind(),
            original: ends(session, Direction::Original),
            reply: ends(session, Direction::Reply),
            history: session.history(self.tick),
            flags: session.flags() & FLAGS,
            one_sided: session.is_one_sided(),
            one_shot: session.is_one_shot(),
            lingers: session.lingers(),
            course,
            ports: [port, answers],
            backend,
            tenant,
            lease,
            splice,
        })
    }

    /// What this lease is, without numbers of this process.
    fn lease_of(&self, lease: u32) -> Option<Lease> {
        let key_of_pool = |number| self.snapshot.pool_uses.get(number).map(|pool| key_of_name(pool.name()));
        if lease == 0 {
            return Some(Lease::None);
        }
        if lease & POOL_ONLY != 0 {
            let pool = key_of_pool(u16::try_from(lease & !POOL_ONLY).ok()?)?;
            return Some(Lease::Port { pool });
        }
        let Mapped { inside, outside, filtering } = *self.mappings.get(MappingId::new(lease))?;
        Some(Lease::Mapping {
            pool: key_of_pool(inside.pool)?,
            filtering,
            inside: (inside.address, inside.port),
            outside: (outside.address, outside.port),
            far: inside.far,
        })
    }
}

/// The tuple of one direction as it stands in the table.
fn ends<A: Family>(session: &Session<A>, direction: Direction) -> Ends {
    let tuple = session.tuple(direction);
    Ends {
        source: tuple.source.into_ip(),
        source_port: tuple.source_port,
        destination: tuple.destination.into_ip(),
        destination_port: tuple.destination_port,
    }
}
