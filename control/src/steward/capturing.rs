//! A capture as control sees it: buffers lent to the workers for the frames that come by a port and for those that leave through
//! it, frames passed on to whoever asked, and an end. One capture at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crossbeam::channel::Sender;
use stage::DropReason;
use units::{Nanos, PortId};
use worker::{CaptureOrder, Catch, Caught, Clock, Command, FrameFilter, Side};

use super::Steward;

/// Frames and bytes of one buffer.
const FRAMES: usize = 4_096;
const BYTES: usize = 1 << 20;

/// Buffers lent to each worker for each side: one is filled while the other is on its way.
const LENT: usize = 2;

/// Pieces that wait for a reader who is slower than the network; what comes beyond is counted as lost.
pub const PIECES: usize = 64;

/// What is asked.
#[derive(Debug)]
pub struct Capturing {
    /// Which port's frames.
    pub port: PortId,
    /// Which way they go.
    pub sides: Vec<Side>,
    /// Only what is dropped.
    pub drops: Option<Option<DropReason>>,
    /// Bytes of each frame.
    pub snap: usize,
    /// A filter for each worker and side; none where all frames are wanted.
    pub filters: Vec<Box<dyn FrameFilter>>,
    /// For how long.
    pub span: Nanos,
    /// Who asks; a channel of one place. True when no frame that comes from now on is missed, false when another capture
    /// is under way.
    pub begun: Sender<bool>,
    /// Who listens; a channel of [`PIECES`] places that closes after the end.
    pub reader: Sender<Captured>,
    /// Frames that found no place with the reader and were not told with others: for its last word, when the channel has closed.
    pub untold: Arc<AtomicU64>,
    /// Gone when nobody does.
    pub listener: Weak<()>,
}

/// Frames of one side, as a worker copied them.
#[derive(Debug)]
pub struct Captured {
    /// Which side.
    pub side: Side,
    /// The frames, in the order in which they came.
    pub frames: Vec<Caught>,
    /// Their bytes, one behind the other.
    pub bytes: Vec<u8>,
    /// Frames that found no room since those before.
    pub lost: u64,
}

/// The capture under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    request: u64,
    begun: Sender<bool>,
    /// Sides of workers that have not begun yet.
    awaited: usize,
    reader: Sender<Captured>,
    listener: Weak<()>,
    until: Nanos,
    /// Frames that found no place with the reader, received and sent, to be told with the next; and their sum, for the reader.
    lost: [u64; 2],
    untold: Arc<AtomicU64>,
}

impl<C: Clock> Steward<C> {
    /// Begins a capture, unless another is under way.
    pub(super) fn begin_capture(&mut self, asked: Capturing) {
        if self.capturing.is_some() {
            let _ = asked.begun.try_send(false);
            return;
        }
        self.serial += 1;
        let Capturing { port, sides, drops, snap, mut filters, span, begun, reader, untold, listener } = asked;
        let (request, until) = (self.serial, self.clock.now() + span);
        for line in &mut self.lines {
            for &side in &sides {
                let order = CaptureOrder { request, port, side, drops, snap, until };
                for number in 0..LENT {
                    let mut buffer = Box::new(Catch::new(order, FRAMES, BYTES));
                    if number == 0 {
                        buffer.begins = true;
                        buffer.filter = filters.pop();
                    }
                    line.send(Command::Capture(buffer));
                }
            }
        }
        let awaited = self.lines.len() * sides.len();
        self.capturing = Some(UnderWay { request, begun, awaited, reader, listener, until, lost: [0; 2], untold });
    }

    /// A worker has begun one side of a capture.
    pub(super) fn capture_begun(&mut self, request: u64) {
        let Some(capture) = self.capturing.as_mut().filter(|capture| capture.request == request) else { return };
        capture.awaited = capture.awaited.saturating_sub(1);
        if capture.awaited == 0 {
            let _ = capture.begun.try_send(true);
        }
    }

    /// A worker's frames; its buffer goes back to it.
    pub(super) fn captured(&mut self, position: usize, mut catch: Box<Catch>) {
        let Some(capture) = self.capturing.as_mut().filter(|capture| capture.request == catch.order.request) else {
            return;
        };
        let side = catch.order.side;
        let frames = std::mem::replace(&mut catch.frames, Vec::with_capacity(FRAMES));
        let bytes = std::mem::replace(&mut catch.bytes, Vec::with_capacity(BYTES));
        let [received, sent] = &mut capture.lost;
        let place = if side == Side::Received { received } else { sent };
        let lost = std::mem::take(&mut catch.lost) + std::mem::take(place);
        if !frames.is_empty() || lost > 0 {
            let many = frames.len() as u64;
            // A reader that does not keep up holds up nobody.
            if capture.reader.try_send(Captured { side, frames, bytes, lost }).is_err() {
                *place = lost + many;
            }
            capture.untold.store(capture.lost.iter().sum(), Ordering::Relaxed);
        }
        if !catch.over
            && let Some(line) = self.lines.get_mut(position)
        {
            catch.begins = false;
            line.send(Command::Capture(catch));
        }
    }

    /// Ends a capture whose time is over or that nobody listens to.
    pub(super) fn look_after_capture(&mut self) {
        let Some(capture) = &self.capturing else { return };
        // Workers end by themselves at that moment; what they have copied is given a little longer to arrive.
        let late = self.clock.now() >= capture.until + Nanos::from_millis(200);
        if late || capture.listener.strong_count() == 0 {
            let request = capture.request;
            self.capturing = None;
            for line in &mut self.lines {
                line.send(Command::EndCapture { request });
            }
        }
    }
}
