//! Devices of plain memory, for tests: what is sent into one comes out of whatever a test puts in between.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};

/// Room of a buffer.
const ROOM: usize = 2_048;

/// A frame in memory.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// A buffer that held something else before.
    pub(crate) fn filled(byte: u8) -> Self {
        Self(vec![byte; 1_000])
    }
}

impl Buffer for Frame {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn prepend(&mut self, _len: usize) -> Option<&mut [u8]> {
        None
    }

    fn trim_front(&mut self, _len: usize) -> bool {
        false
    }

    fn resize(&mut self, len: usize) -> bool {
        if len <= ROOM {
            self.0.resize(len, 0);
        }
        len <= ROOM
    }

    fn is_chained(&self) -> bool {
        false
    }

    fn received_checksum(&self) -> ReceivedChecksum {
        ReceivedChecksum::Unchecked
    }
}

/// A pool that never ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool;

impl BufferPool for Pool {
    type Buffer = Frame;

    fn allocate(&self) -> Option<Frame> {
        Some(Frame(Vec::with_capacity(ROOM)))
    }
}

/// A row of frames on their way.
pub(crate) type Way = Arc<Mutex<VecDeque<Frame>>>;

/// A device: receives from one way, sends into the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) to_us: Way,
    pub(crate) from_us: Way,
    /// Frames the way from us may hold; what is more is not taken.
    pub(crate) room: Option<usize>,
}

impl Nic for Device {
    type Buffer = Frame;

    fn receive(&mut self, burst: &mut Burst<Frame>) -> usize {
        let mut way = self.to_us.lock().unwrap();
        let count = way.len().min(32);
        burst.extend(way.drain(..count));
        count
    }

    fn transmit(&mut self, burst: &mut Burst<Frame>) -> usize {
        let mut way = self.from_us.lock().unwrap();
        let count = self.room.map_or(burst.len(), |room| room.saturating_sub(way.len()).min(burst.len()));
        way.extend(burst.drain(..count));
        count
    }
}
