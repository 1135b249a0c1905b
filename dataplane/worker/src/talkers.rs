//! Who opens sessions, and whose packets are dropped: noted at first packets and at drops, never at packets that pass, and of
//! many only some. Management reads the sums from the worker's counters.

use stage::DropReason;
use stage::heavy_hitters::Outcome;
use units::TenantId;
use wire::{Endpoints, claimed};

use crate::burst::Door;
use crate::packet::Origin;
use crate::shard::Shard;

impl<B> Shard<B> {
    /// Notes what became of a packet of this tenant.
    #[inline]
    pub(crate) fn note(&mut self, outcome: Outcome, tenant: TenantId, ends: &Endpoints) {
        if self.sampler.is_due() {
            self.count_talker(outcome, tenant, ends);
        }
    }

    /// Notes a frame that was dropped because it is no packet, by the addresses it claims.
    #[cold]
    pub(crate) fn note_unread(&mut self, bytes: &[u8], reason: DropReason, door: Door) {
        if let DropReason::Malformed(_) = reason
            && door.origin != Origin::Kernel
            && let Some(claimed) = claimed(bytes)
        {
            self.note(Outcome::Dropped, self.snapshot.tenant_unread(bytes, door), &claimed);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_talker(&mut self, outcome: Outcome, tenant: TenantId, ends: &Endpoints) {
        let weight = self.sampler.weight(self.tick);
        let ends = [ends.source(), ends.destination()];
        self.counters.talkers.count(tenant, ends, outcome, weight, self.now);
    }
}
