//! Frames of a port as a pcapng file, written while they are captured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use jiff::Timestamp;
use units::Nanos;
use worker::{FrameFilter, Side};

use super::{PATIENCE, Running};
use crate::admin::Feed;
use crate::capture::pcapng::{self, Direction, Record};
use crate::capture::{CaptureWanted, Directions, Drops};
use crate::event::Request;
use crate::status::{Refusal, RefusalKind};
use crate::steward::{CAPTURE_PIECES, Captured, Capturing};
use crate::trace::pattern::port_named;

impl Running {
    /// The file, piece by piece.
    pub(super) fn take_frames(&self, wanted: &CaptureWanted) -> Result<Feed<u8>, Refusal> {
        let bad = |why| Refusal::new(RefusalKind::BadRequest, why);
        let port = port_named(&self.snapshot(), &wanted.port).map_err(bad)?;
        let (sides, drops) = match (wanted.drops, wanted.directions) {
            (Drops::All, Directions::Both) => (vec![Side::Received, Side::Sent], None),
            (Drops::All, Directions::In) => (vec![Side::Received], None),
            (Drops::All, Directions::Out) => (vec![Side::Sent], None),
            // What is dropped was received.
            (Drops::Any, _) => (vec![Side::Received], Some(None)),
            (Drops::Only(reason), _) => (vec![Side::Received], Some(Some(reason))),
        };
        let filters = self.fixed.workers.iter().flat_map(|_| &sides).filter(|_| !wanted.filter.is_empty());
        let filters: Vec<Box<dyn FrameFilter>> =
            filters.map(|_| (self.fixed.filters)(&wanted.filter)).collect::<Result<_, _>>().map_err(bad)?;
        let (begun, begins) = bounded(1);
        let (reader, heard) = bounded(CAPTURE_PIECES);
        let listener = Arc::new(());
        let span = Nanos::new(u64::try_from(wanted.span.as_nanos()).unwrap_or(u64::MAX));
        let snap = wanted.snap;
        let listens = Arc::downgrade(&listener);
        let untold = Arc::<AtomicU64>::default();
        let asked = Capturing {
            port,
            sides,
            drops,
            snap,
            filters,
            span,
            begun,
            reader,
            untold: Arc::clone(&untold),
            listener: listens,
        };
        let gone = |_| Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(Request::Capture(Box::new(asked))).map_err(gone)?;
        match begins.recv_timeout(PATIENCE) {
            Ok(true) => {}
            Ok(false) => {
                return Err(Refusal::new(RefusalKind::Busy, "another capture is under way; one at a time is taken"));
            }
            Err(_) => return Err(Refusal::new(RefusalKind::Busy, "the workers do not answer")),
        }
        let mut head = Vec::new();
        pcapng::begin(&mut head, &[&wanted.port], snap);
        let start = self.started_at();
        let room = wanted.size.saturating_sub(head.len() as u64);
        let mut file = File { heard, start, left: wanted.count, room, lost: 0, untold };
        let (mut head, mut over) = (Some(head), false);
        Ok(Box::new(move |patience| {
            let _listens = &listener;
            if over {
                return None;
            }
            if let Some(head) = head.take() {
                return Some(head);
            }
            let (bytes, goes_on) = file.next(patience);
            over = !goes_on;
            Some(bytes)
        }))
    }
}

/// The file as it grows.
struct File {
    heard: Receiver<Captured>,
    start: Timestamp,
    /// Frames and bytes that may still be written.
    left: u64,
    room: u64,
    lost: u64,
    untold: Arc<AtomicU64>,
}

impl File {
    /// What is new within this time, and whether the file goes on.
    fn next(&mut self, patience: Duration) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let goes_on = match self.heard.recv_timeout(patience) {
            Ok(captured) => self.write(&mut out, &captured),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => {
                self.lost += self.untold.load(Ordering::Relaxed);
                false
            }
        };
        if !goes_on {
            let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
            pcapng::end(&mut out, 0, Nanos::new(now), self.lost);
        }
        (out, goes_on)
    }

    /// Writes frames; false when the file has as many, or as many bytes, as were wanted.
    fn write(&mut self, out: &mut Vec<u8>, captured: &Captured) -> bool {
        let &Captured { side, ref frames, ref bytes, lost } = captured;
        let start = u64::try_from(self.start.as_nanosecond()).unwrap_or(0);
        let (mut begin, mut lost) = (0, lost);
        self.lost += lost;
        for frame in frames {
            let kept = bytes.get(begin..frame.end).unwrap_or_default();
            begin = frame.end;
            let comment = frame.reason.map(|reason| format!("dropped: {}: {}", reason.name(), reason.sentence()));
            let record = Record {
                interface: 0,
                at: Nanos::new(start.saturating_add(frame.at.get())),
                direction: if side == Side::Received { Direction::Inbound } else { Direction::Outbound },
                bytes: kept,
                length: frame.length,
                comment: comment.as_deref(),
                lost: std::mem::take(&mut lost),
            };
            let before = out.len();
            pcapng::frame(out, &record);
            let more = (out.len() - before) as u64;
            if self.left == 0 || more > self.room {
                out.truncate(before);
                return false;
            }
            self.left -= 1;
            self.room -= more;
        }
        self.left > 0
    }
}
