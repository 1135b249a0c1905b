//! Sessions that a new policy would give to another worker than the one that has them. They stay where they are: a packet
//! that finds no session at its owner goes round the workers that earlier policies would have given it to, and comes back to
//! open a new one only when none of them knows it.
//!
//! ```text
//! owner -- not here --> owner by the policy before -- not here --> by the one before that ... --> owner: opens
//! ```
//!
//! Each worker is asked once. Only packets without a session are concerned, and of those only the ones between ends whose
//! part has changed. The same way a packet finds its worker that another has sent by a policy this one has not, or no
//! longer.

use std::net::{Ipv4Addr, Ipv6Addr};

use frame::Buffer;
use stage::DropReason;
use units::WorkerId;
use wire::Content;

use crate::burst::Door;
use crate::family::Family;
use crate::lane::{self, Known, Others, Task};
use crate::packet::{Asked, Verdict};
use crate::shard::Shard;
use crate::steer::{self, Ends};
use crate::tunnel_error;

impl<B: Buffer> Shard<B> {
    /// The worker that a packet goes on to whose session is not here, and who was asked before; `None` where it is opened
    /// here. The first is its owner, where this is not.
    fn goes_on(&mut self, ends: &Ends, door: Door) -> Option<(WorkerId, Asked)> {
        if self.workers <= 1 || door.asked == Asked::ALL {
            return None;
        }
        let by = |roles| steer::owner_by(roles, ends, &self.snapshot, &self.slice, self.workers);
        let steering = &self.snapshot.steering;
        if door.steer {
            let owner = by(steering.today());
            if owner != self.id {
                return Some((owner, Asked::NOBODY));
            }
        }
        let asked = door.asked.and(self.id);
        let mut earlier = steering.earlier(ends.addresses(), self.tick).iter().map(|roles| by(roles));
        let next = earlier.find(|&worker| !asked.has(worker)).map(|worker| (worker, asked));
        if next.is_none() && door.asked == Asked::NOBODY && !door.stale {
            return None;
        }
        self.gone_on += 1;
        let next = next.or_else(|| Some((by(steering.today()), Asked::ALL)));
        next.filter(|&(worker, _)| worker != self.id)
    }

    /// As [`goes_on`](Self::goes_on), of a plain packet.
    #[inline(never)]
    pub(crate) fn plain_goes_on(&mut self, buffer: &B, known: &Known, door: Door) -> Option<(WorkerId, Asked)> {
        if known.is_v6 {
            return self.goes_on(&lane::ends_of(known.kind, &Ipv6Addr::head(buffer.bytes())?.tuple), door);
        }
        let tuple = Ipv4Addr::head(buffer.bytes())?.tuple;
        // Sessions of NAT64 are found by the full way.
        if self.found_across(known.kind, &tuple).is_some() {
            return None;
        }
        self.goes_on(&lane::ends_of(known.kind, &tuple), door)
    }

    /// Sends on those packets read in full whose session is not here but may be elsewhere.
    pub(crate) fn send_astray(&mut self, others: &mut Others<B>, door: Door) {
        for place in 0..others.packets.len() {
            let (Some(Some(packet)), Some(task)) = (others.packets.get(place), others.tasks.get(place)) else {
                continue;
            };
            let missed = match task {
                Task::Find(..) => others.misses.contains(&place),
                Task::Error => others.verdicts.get(place) == Some(&Verdict::Drop(DropReason::IcmpErrorUnmatched)),
                Task::Done => false,
            };
            let Content::Ip(facts) = &packet.frame.content else { continue };
            if !missed {
                continue;
            }
            let ends = tunnel_error::ends(packet.buffer.bytes(), facts, &self.snapshot);
            if let Some((worker, asked)) = self.goes_on(&ends, door)
                && let Some(verdict) = others.verdicts.get_mut(place)
            {
                *verdict = Verdict::HandOver(worker, asked);
                others.misses.retain(|miss| *miss != place);
            }
        }
    }
}
