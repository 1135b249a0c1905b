//! Who opens sessions, and whose packets are dropped: noted at first packets and at drops, never at packets that pass, and of
//! many only some. Management reads the sums from the worker's counters.

use std::net::IpAddr;

use stage::heavy_hitters::Outcome;

use crate::shard::Shard;

impl<B> Shard<B> {
    /// Notes what became of a packet.
    #[inline]
    pub(crate) fn note(&mut self, outcome: Outcome, source: IpAddr, target: IpAddr) {
        if self.sampler.is_due() {
            self.count_talker(outcome, source, target);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_talker(&mut self, outcome: Outcome, source: IpAddr, target: IpAddr) {
        let weight = self.sampler.weight(self.tick);
        self.counters.talkers.count(source, target, outcome, weight, self.now);
    }
}
