//! What a capture is made of: what control orders, the buffers it lends, and the frames in them. Frames that came by a port
//! are taken by [`watch`](crate::watch), which knows what became of them; frames that were sent by a [`Tap`] at the queue
//! they left through. Management writes the file.

use core::fmt::Debug;

use arrayvec::ArrayVec;
use frame::{Buffer, Burst, Nic};
use stage::DropReason;
use units::limits::BURST_MAX;
use units::{Nanos, PortId};

/// Buffers that control may lend for one side of a capture.
pub(crate) const LENT: usize = 2;

/// Which frames are wanted, by their bytes.
pub trait FrameFilter: Send + Debug {
    /// Whether this one is.
    fn wants(&self, frame: &[u8]) -> bool;
}

/// On which side of the appliance frames are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As they come by the port.
    Received,
    /// As the port's device has taken them to be sent.
    Sent,
}

/// What control wants captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureOrder {
    /// The number of the request.
    pub request: u64,
    /// Which port's frames.
    pub port: PortId,
    /// Which way they go.
    pub side: Side,
    /// Only what is dropped, for this reason or any. Frames that were sent were not dropped.
    pub drops: Option<Option<DropReason>>,
    /// Bytes of each frame.
    pub snap: usize,
    /// Until when.
    pub until: Nanos,
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// When, since start: the beginning of the worker's turn.
    pub at: Nanos,
    /// Its bytes on the wire.
    pub length: usize,
    /// Where its captured bytes end in the buffer; they begin where those of the one before end.
    pub end: usize,
    /// Why it was dropped.
    pub reason: Option<DropReason>,
}

/// A buffer for captured frames: sent with [`Command::Capture`](crate::Command), comes back when it is full or the worker
/// has a moment. Sent again emptied, it serves again.
#[derive(Debug)]
pub struct Catch {
    /// What is wanted.
    pub order: CaptureOrder,
    /// With the first buffer: which frames; `None` for all. It goes back with the last.
    pub filter: Option<Box<dyn FrameFilter>>,
    /// Whether the capture begins with this buffer.
    pub begins: bool,
    /// The frames; never more than its capacity.
    pub frames: Vec<Caught>,
    /// Their bytes, one behind the other; never more than its capacity.
    pub bytes: Vec<u8>,
    /// Frames that were wanted and found no room, since the buffer before.
    pub lost: u64,
    /// The time is over: no other buffer will come.
    pub over: bool,
}

impl Catch {
    /// A buffer for so many frames and bytes.
    #[must_use]
    pub fn new(order: CaptureOrder, frames: usize, bytes: usize) -> Self {
        Self {
            order,
            filter: None,
            begins: false,
            frames: Vec::with_capacity(frames),
            bytes: Vec::with_capacity(bytes),
            lost: 0,
            over: false,
        }
    }
}

/// One side of a capture under way on one worker.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) order: CaptureOrder,
    filter: Option<Box<dyn FrameFilter>>,
    buffers: ArrayVec<Box<Catch>, LENT>,
    lost: u64,
    now: Nanos,
}

impl Tap {
    /// The side that this first buffer begins.
    pub(crate) fn new(mut first: Box<Catch>) -> Self {
        let (order, filter) = (first.order, first.filter.take());
        let mut buffers = ArrayVec::new();
        buffers.push(first);
        Self { order, filter, buffers, lost: 0, now: Nanos::ZERO }
    }

    /// Takes one more buffer; it comes back when there is no place for it.
    pub(crate) fn lend(&mut self, buffer: Box<Catch>) -> Option<Box<Catch>> {
        self.buffers.try_push(buffer).err().map(|full| full.element())
    }

    /// The time of what is taken from now on.
    pub(crate) const fn turn(&mut self, now: Nanos) {
        self.now = now;
    }

    /// Whether these bytes are wanted.
    pub(crate) fn wants(&self, frame: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.wants(frame))
    }

    /// As much of a frame as is taken.
    fn taken_of<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(..self.order.snap).unwrap_or(frame)
    }

    /// Whether there is no room for a frame, which is counted.
    pub(crate) fn misses(&mut self, frame: &[u8]) -> bool {
        let taken = self.taken_of(frame).len();
        let room = self.buffers.first().is_some_and(|buffer| {
            buffer.frames.len() < buffer.frames.capacity() && buffer.bytes.len() + taken <= buffer.bytes.capacity()
        });
        self.lost += u64::from(!room);
        !room
    }

    /// Takes a frame; false, and counted, when there is no room.
    pub(crate) fn take(&mut self, frame: &[u8]) -> bool {
        if self.misses(frame) {
            return false;
        }
        let taken = self.taken_of(frame);
        let Some(buffer) = self.buffers.first_mut() else { return false };
        buffer.bytes.extend_from_slice(taken);
        let end = buffer.bytes.len();
        buffer.frames.push(Caught { at: self.now, length: frame.len(), end, reason: None });
        true
    }

    /// Writes down why the frame that was taken last was dropped.
    pub(crate) fn explain(&mut self, reason: DropReason) {
        if let Some(frame) = self.buffers.first_mut().and_then(|buffer| buffer.frames.last_mut()) {
            frame.reason = Some(reason);
        }
    }

    /// Gives up what was taken last: the frame, or the count of one that found no room.
    pub(crate) fn untake(&mut self, taken: bool) {
        if !taken {
            self.lost = self.lost.saturating_sub(1);
            return;
        }
        let Some(buffer) = self.buffers.first_mut() else { return };
        buffer.frames.pop();
        buffer.bytes.truncate(buffer.frames.last().map_or(0, |frame| frame.end));
    }

    /// Takes what a device is offered; of what it did not take, nothing was taken either.
    #[cold]
    #[inline(never)]
    pub(crate) fn watch<N: Nic>(&mut self, nic: &mut N, packets: &mut Burst<N::Buffer>) -> usize {
        let mut taken = ArrayVec::<Option<bool>, BURST_MAX>::new();
        for packet in packets.iter() {
            let bytes = packet.bytes();
            taken.push(self.wants(bytes).then(|| self.take(bytes)));
        }
        let sent = nic.transmit(packets);
        for taken in taken.iter().skip(sent).rev().flatten() {
            self.untake(*taken);
        }
        sent
    }

    /// The first buffer, as far as it is to be delivered now.
    pub(crate) fn ready(&mut self, now: Nanos, at_leisure: bool) -> Option<Box<Catch>> {
        let over = self.order.until <= now;
        let first = self.buffers.first()?;
        let half = first.frames.len() * 2 >= first.frames.capacity() || first.bytes.len() * 2 >= first.bytes.capacity();
        let something = !first.frames.is_empty() || self.lost > 0;
        // The last buffer stays while the others are on their way: what comes meanwhile finds room.
        if !(over || half || at_leisure && something && self.buffers.is_full()) {
            return None;
        }
        let mut buffer = self.buffers.pop_at(0)?;
        buffer.lost = core::mem::take(&mut self.lost);
        if over {
            buffer.over = true;
            buffer.filter = self.filter.take();
        }
        Some(buffer)
    }

    /// What is given back when it ends: its buffers, and the filter.
    pub(crate) fn end(mut self) -> (ArrayVec<Box<Catch>, LENT>, Option<Box<dyn FrameFilter>>) {
        for buffer in &mut self.buffers {
            buffer.over = true;
        }
        (self.buffers, self.filter)
    }
}
