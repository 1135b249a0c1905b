//! One rig after another: the first writes its sessions down as a process that stops does, the second takes them up before its
//! first packet.

use std::collections::BTreeMap;

use frame::memory::MemoryBuffer;
use units::Nanos;
use worker::{Block, Places, SessionImage, Shard};

use super::{Layout, Rig};
use crate::clock::START;

/// Why sessions were not taken up, and how many.
pub(super) type Refused = BTreeMap<&'static str, usize>;

/// Has sessions go on in these shards.
fn settle(images: &[SessionImage], shards: &mut [Shard<MemoryBuffer>], places: &Places) -> Refused {
    let mut refused = BTreeMap::new();
    for image in images {
        let settled = shards[0].owner_of(image).and_then(|owner| shards[owner.index()].take_up(image, places));
        if let Err(why) = settled {
            *refused.entry(why.name()).or_insert(0) += 1;
        }
    }
    refused
}

impl Rig {
    /// What its workers leave, in the blocks they leave it in.
    #[must_use]
    pub fn left(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for worker in &self.workers {
            worker.write_down(|block| {
                blocks.push(block);
                true
            });
        }
        blocks
    }

    /// Sessions it leaves, and how many it cannot.
    #[must_use]
    pub fn images(&self) -> (Vec<SessionImage>, u32) {
        let (mut images, mut left_out) = (Vec::new(), 0);
        for block in self.left() {
            let mut rest = &block.images[..];
            for _ in 0..block.sessions {
                let (image, behind) = SessionImage::decode(rest).expect("what was written is read");
                images.push(image);
                rest = behind;
            }
            assert!(rest.is_empty(), "a block says how many sessions it has");
            left_out += block.left_out;
        }
        (images, left_out)
    }

    /// Another rig, on this policy, with the sessions this one leaves, `silence` later; and why some do not go on.
    #[must_use]
    pub fn succeeded_by(self, text: &str, layout: Layout, silence: Nanos) -> (Self, Refused) {
        let (images, _) = self.images();
        Self::heir(text, layout, &images, silence)
    }

    /// A rig that begins with these sessions, which nobody has treated for `silence`.
    #[must_use]
    pub fn heir(text: &str, layout: Layout, images: &[SessionImage], silence: Nanos) -> (Self, Refused) {
        let (policy, snapshot) = Self::tables(text);
        let places = Places::of(&snapshot, silence, START);
        let mut refused = Refused::new();
        let rig = Self::settled(policy, snapshot, layout, |shards| refused = settle(images, shards, &places));
        (rig, refused)
    }
}
