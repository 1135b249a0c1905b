//! The choice of a backend for a new session, by each algorithm. Called by workers at the first packet of a session only
//! (SE-65); whoever takes the choice calls [`Backend::opened`](super::Backend::opened) at once, so that the next choice
//! sees it: workers that race are then at most one session each apart from the order a single one would keep.
//!
//! Every choice looks at each backend once at most, after a bounded number of table reads.

use std::net::IpAddr;

use units::Nanos;

use super::Backend;
use super::service::Algorithm;
use super::services::{Plan, Service};
use super::stable_hash::{StableHash, below, mix};

/// Table reads before a choice falls back to the list. The tables leave out what cannot be selected, so more than one
/// read is needed only between a backend's failing and the next table.
const READS_MAX: usize = 16;

impl Service {
    /// As [`pick`](Self::pick), but a source that was here within the service's persistence goes back to its backend
    /// as long as that is selectable (SE-79, SE-80), and is remembered for the next time.
    #[must_use]
    pub fn choose(&self, client: IpAddr, client_port: u16, turn: &mut u32, now: Nanos) -> Option<usize> {
        let (Some(memory), Some(timeout)) = (self.persistence(), self.spec().persistence) else {
            return self.pick(client, client_port, turn);
        };
        let remembered = memory.recall(client, timeout, now).and_then(|key| {
            self.members().iter().position(|member| member.backend.key() == key && member.selectable())
        });
        let position = remembered.or_else(|| self.pick(client, client_port, turn))?;
        memory.note(client, &self.members().get(position)?.backend, now);
        Some(position)
    }

    /// A session of this source with this backend goes on, or has just ended: its persistence counts from now. Call it at
    /// a session's end and, while it lasts, at least once in the time of persistence. A source that has meanwhile gone to
    /// another backend (SE-80) stays with that.
    pub fn remember(&self, client: IpAddr, backend: &Backend, now: Nanos) {
        let (Some(memory), Some(timeout)) = (self.persistence(), self.spec().persistence) else { return };
        if memory.recall(client, timeout, now).is_none_or(|key| key == backend.key()) {
            memory.note(client, backend, now);
        }
    }

    /// The position among [`members`](Service::members) of the backend for a new session from this client; `None` when
    /// none is selectable (SE-53). `turn` is the caller's own place in the round robin of this service (one for each
    /// worker and service, any value to start with).
    #[must_use]
    pub fn pick(&self, client: IpAddr, client_port: u16, turn: &mut u32) -> Option<usize> {
        match self.plan() {
            Plan::Schedule(schedule) => {
                for _ in 0..READS_MAX.min(schedule.len()) {
                    let (position, next) = schedule.get(*turn)?;
                    *turn = next;
                    if self.selectable(position) {
                        return Some(position);
                    }
                }
                let start = *turn as usize;
                *turn = turn.wrapping_add(1);
                self.first_selectable(start)
            }
            Plan::Ring(ring) => {
                let client = StableHash::new(4).address(client);
                let mut hash = match self.spec().algorithm {
                    Algorithm::SourceHash => client.finish(),
                    _ => client.word(u64::from(client_port)).finish(),
                };
                for _ in 0..READS_MAX {
                    let Some(position) = ring.get(hash) else { break };
                    if self.selectable(position) {
                        return Some(position);
                    }
                    hash = mix(hash);
                }
                self.first_selectable(below(hash, self.members().len()))
            }
            Plan::FewestSessions => self.fewest_sessions(),
            Plan::LeastLoad => self.least_load(),
        }
    }

    /// The backend that a client's connection belongs to without being remembered: by the ring where the service has one,
    /// else the one whose weighted hash with the client is largest (weighted rendezvous; Schindelhauer and Schomaker,
    /// 2005). It follows from the client and the backends alone, the same at every start, and changes only for clients of a
    /// backend that can no longer be selected, or for one that can be again.
    #[must_use]
    pub fn without_memory(&self, client: IpAddr, client_port: u16) -> Option<&super::Member> {
        if matches!(self.plan(), Plan::Ring(_)) {
            return self.members().get(self.pick(client, client_port, &mut 0)?);
        }
        let client = StableHash::new(6).address(client).word(u64::from(client_port)).finish();
        let members = self.members().iter().filter(|member| member.selectable());
        let distance = |member: &&super::Member| distance(mix(client ^ member.backend.key()), member.weight);
        members.min_by(|one, other| distance(one).total_cmp(&distance(other)))
    }

    fn selectable(&self, position: usize) -> bool {
        self.members().get(position).is_some_and(super::Member::selectable)
    }

    /// The first selectable backend from `start` on, going round.
    fn first_selectable(&self, start: usize) -> Option<usize> {
        let count = self.members().len();
        let start = start.checked_rem(count)?;
        (start..count).chain(0..start).find(|&position| self.selectable(position))
    }

    /// Fewest sessions for its weight; of equals the first listed (SE-55, SE-56).
    fn fewest_sessions(&self) -> Option<usize> {
        let mut best: Option<(usize, u128, u128)> = None;
        for (position, member) in self.members().iter().enumerate().filter(|(_, member)| member.selectable()) {
            let (active, weight) = (u128::from(member.backend.active()), u128::from(member.weight));
            if best.is_none_or(|(_, least, its_weight)| active * its_weight < least * weight) {
                best = Some((position, active, weight));
            }
        }
        best.map(|(position, ..)| position)
    }

    /// Smallest load C x (H + 1) (SE-57, SE-64); of backends without load the nearest (SE-63), of equals the first
    /// listed (SE-56).
    fn least_load(&self) -> Option<usize> {
        let candidates = self.members().iter().enumerate().filter(|(_, member)| member.selectable());
        // `min_by_key` keeps the first of equal keys.
        candidates
            .min_by_key(|(_, member)| {
                let load = member.backend.active().saturating_mul(u64::from(member.hops) + 1);
                (load, if load == 0 { member.hops } else { 0 })
            })
            .map(|(position, _)| position)
    }
}

/// How far a client is from a backend of this weight: the time until the first event, when they come at random, so many a
/// second, and `hash` is the chance.
#[expect(clippy::cast_precision_loss, reason = "53 bits of the hash fit exactly")]
fn distance(hash: u64, weight: u32) -> f64 {
    let chance = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -chance.ln() / f64::from(weight)
}
