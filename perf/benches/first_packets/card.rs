//! A network card of plain memory that costs little: frames are copied from a row that was made before, buffers go round
//! between the card that receives and the one that sends.

use core::fmt;
use std::sync::{Arc, Mutex};

use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use units::limits::BURST;

use crate::traffic::Frame;

const HEADROOM: usize = 128;
const ROOM: usize = 256;

type Storage = Box<[u8; ROOM]>;

/// One packet.
pub(crate) struct Held {
    storage: Storage,
    len: usize,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Buffer for Held {
    fn bytes(&self) -> &[u8] {
        &self.storage[HEADROOM..HEADROOM + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[HEADROOM..HEADROOM + self.len]
    }

    fn prepend(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }

    fn trim_front(&mut self, _: usize) -> bool {
        false
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = len <= ROOM - HEADROOM;
        if fits {
            self.len = len;
        }
        fits
    }

    fn is_chained(&self) -> bool {
        false
    }

    fn received_checksum(&self) -> ReceivedChecksum {
        ReceivedChecksum::Unchecked
    }
}

/// Nothing is made here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPool;

impl BufferPool for NoPool {
    type Buffer = Held;

    fn allocate(&self) -> Option<Held> {
        None
    }
}

/// What both cards and the benchmark share.
#[derive(Debug, Default)]
pub(crate) struct Road {
    /// The next frame that arrives.
    pub(crate) next: usize,
    /// The first that does not.
    pub(crate) end: usize,
    spare: Vec<Storage>,
}

/// A card: the one of the first port receives, both send into nowhere.
pub(crate) struct Card {
    road: Arc<Mutex<Road>>,
    frames: Option<Arc<[Frame]>>,
}

impl Card {
    pub(crate) const fn new(road: Arc<Mutex<Road>>, frames: Option<Arc<[Frame]>>) -> Self {
        Self { road, frames }
    }
}

impl Nic for Card {
    type Buffer = Held;

    fn receive(&mut self, burst: &mut Burst<Held>) -> usize {
        let Some(frames) = &self.frames else { return 0 };
        let mut road = self.road.lock().unwrap();
        let count = (road.end - road.next).min(BURST);
        for frame in &frames[road.next..road.next + count] {
            let mut storage = road.spare.pop().unwrap_or_else(|| Box::new([0; ROOM]));
            storage[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
            burst.push(Held { storage, len: frame.len() });
        }
        road.next += count;
        count
    }

    fn transmit(&mut self, burst: &mut Burst<Held>) -> usize {
        let sent = burst.len();
        let mut road = self.road.lock().unwrap();
        road.spare.extend(burst.drain(..).map(|held| held.storage));
        sent
    }
}
