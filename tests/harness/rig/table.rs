//! Tables of packets: a sentence, packets in, packets out, drops; what is not in the row did not happen.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use stage::DropReason;

use super::{Rig, Side};
use crate::packet::{Packet, show};

impl Rig {
    /// Puts packets in at once, lets everything settle, and asserts that exactly `out` came out, byte for byte and in
    /// this order at each side, and that exactly `drops` were counted.
    pub fn case(&mut self, sentence: &str, packets: &[(Side, Packet)], out: &[(Side, Packet)], drops: &[DropReason]) {
        self.after(sentence, out, drops, |rig| {
            for (side, packet) in packets {
                rig.put(*side, packet);
            }
        });
    }

    /// As [`Rig::case`], after whatever `happens`.
    pub fn after(
        &mut self,
        sentence: &str,
        out: &[(Side, Packet)],
        drops: &[DropReason],
        happens: impl FnOnce(&mut Self),
    ) {
        let stale = self.take();
        assert!(stale.is_empty(), "{sentence}: {} packets of before were not looked at", stale.len());
        let before = self.drops();
        happens(self);
        self.settle();
        let new: BTreeMap<_, _> = self
            .drops()
            .into_iter()
            .map(|(name, count)| (name, count - before.get(name).copied().unwrap_or(0)))
            .filter(|&(_, count)| count > 0)
            .collect();
        let mut expected = BTreeMap::new();
        for reason in drops {
            *expected.entry(reason.name()).or_insert(0) += 1;
        }
        let differences = self.differences(out);
        assert!(
            differences.is_empty() && new == expected,
            "{sentence}\n{differences}  drops wanted {expected:?}, counted {new:?}"
        );
    }

    /// Asserts that exactly `out` has come out since the last look.
    pub fn came(&mut self, sentence: &str, out: &[(Side, Packet)]) {
        let differences = self.differences(out);
        assert!(differences.is_empty(), "{sentence}\n{differences}");
    }

    /// What was wanted and what came, when they differ; otherwise nothing.
    fn differences(&mut self, out: &[(Side, Packet)]) -> String {
        let mut came = self.take();
        came.sort_by_key(|&(side, _)| side);
        let mut wanted: Vec<_> = out.iter().map(|(side, packet)| (*side, self.outward(*side, packet))).collect();
        wanted.sort_by_key(|&(side, _)| side);
        let mut report = String::new();
        if came == wanted {
            return report;
        }
        for (side, bytes) in &wanted {
            let _ = writeln!(report, "  wanted {side:?}: {}", show(bytes));
        }
        for (side, bytes) in &came {
            let _ = writeln!(report, "  came   {side:?}: {}", show(bytes));
        }
        report
    }

    /// A row of packets of which nothing comes out: each is dropped for this reason.
    pub fn drops_all(&mut self, sentence: &str, packets: &[(Side, Packet)], reason: impl Into<DropReason>) {
        let reason = reason.into();
        self.case(sentence, packets, &[], &vec![reason; packets.len()]);
    }
}
