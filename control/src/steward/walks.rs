//! Copies of all sessions for whoever asks, batch by batch. A worker is lent its buffer again when the reader has taken what was in it:
//! however many sessions there are, and however slowly they are read, a few batches are all that waits. Who takes nothing for
//! too long is cut off, and so is who holds up others, the sooner the more they are.

use std::collections::VecDeque;

use crossbeam::channel::{Sender, TrySendError};
use units::{Nanos, WorkerId};
use worker::{Clock, Command, Cursor, Dump, SessionRecord};

use super::Steward;

/// Sessions copied at once.
pub(super) const BATCH: usize = 2_048;

/// How long a reader may take nothing.
const READ_WITHIN: Nanos = Nanos::from_secs(10);

/// How long one may hold up another, in all; of several that wait each has its part of it.
const HOLDS_UP_FOR: Nanos = Nanos::from_secs(5);

/// A walk over all workers' sessions.
#[derive(Debug)]
pub(super) struct Walk {
    /// Who wants the copies; `None` once nobody does.
    reader: Option<Sender<Vec<SessionRecord>>>,
    /// What the reader has no room for yet, each with the place of its worker.
    kept: VecDeque<(usize, Box<Dump>)>,
    /// Since when there is none.
    stalled: Option<Nanos>,
    /// For how long that was so while others waited, in all.
    held_up: Nanos,
    /// When that was last looked at, while there is no room.
    looked: Option<Nanos>,
}

/// What becomes of a worker whose copies were looked at.
enum Next {
    /// Its copies wait.
    Waits,
    /// It goes on.
    GoesOn,
    /// It is through, or nobody wants more.
    IsThrough,
}

impl Walk {
    /// A walk for this reader.
    pub(super) const fn new(reader: Sender<Vec<SessionRecord>>) -> Self {
        Self { reader: Some(reader), kept: VecDeque::new(), stalled: None, held_up: Nanos::ZERO, looked: None }
    }

    /// Hands a worker's copies out. Behind those of the last worker comes an empty batch: that was all.
    fn hand_out(&mut self, dump: &mut Dump, last: bool, waiting: usize, now: Nanos) -> Next {
        let records = core::mem::take(&mut dump.records);
        if !records.is_empty()
            && let Some(back) = self.send(records, waiting, now)
        {
            dump.records = back;
            return Next::Waits;
        }
        if self.reader.is_some() && dump.cursor != Cursor::Done {
            return Next::GoesOn;
        }
        if last && self.send(Vec::new(), waiting, now).is_some() { Next::Waits } else { Next::IsThrough }
    }

    /// Gives the reader a batch; it comes back when there is no room for it. Without a reader it is gone.
    fn send(&mut self, batch: Vec<SessionRecord>, waiting: usize, now: Nanos) -> Option<Vec<SessionRecord>> {
        match self.reader.as_ref()?.try_send(batch) {
            Ok(()) => {
                (self.stalled, self.looked) = (None, None);
                return None;
            }
            Err(TrySendError::Full(batch)) => {
                let since = *self.stalled.get_or_insert(now);
                let looked = self.looked.replace(now).unwrap_or(now);
                if waiting > 0 {
                    self.held_up = self.held_up + now.since(looked);
                }
                let holds_up_for = HOLDS_UP_FOR.get() / waiting.max(1) as u64;
                if now.since(since) < READ_WITHIN && self.held_up.get() < holds_up_for {
                    return Some(batch);
                }
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
        self.reader = None;
        None
    }
}

impl<C: Clock> Steward<C> {
    /// The first walk of the queue has its turn.
    pub(super) fn begin_walk(&mut self) {
        let Some(round) = self.walks.current() else { return };
        round.running = self.lines.len();
        for (line, number) in self.lines.iter_mut().zip(0..) {
            line.send(Command::Dump(Box::new(Dump::new(round.request, WorkerId::new(number), BATCH))));
        }
    }

    /// A worker's copies.
    pub(super) fn dumped(&mut self, position: usize, dump: Box<Dump>) {
        if let Some(round) = self.walks.numbered(dump.request) {
            round.errand.kept.push_back((position, dump));
            self.hand_out();
        }
    }

    /// Hands out what was copied, as far as the reader of the walk under way takes it.
    pub(super) fn hand_out(&mut self) {
        let now = self.clock.now();
        loop {
            let waiting = self.walks.waiting();
            let Some(round) = self.walks.current() else { return };
            let Some((position, mut dump)) = round.errand.kept.pop_front() else { return };
            match round.errand.hand_out(&mut dump, round.running == 1, waiting, now) {
                Next::Waits => return round.errand.kept.push_front((position, dump)),
                Next::GoesOn => {
                    dump.records.reserve_exact(BATCH);
                    if let Some(line) = self.lines.get_mut(position) {
                        line.send(Command::Dump(dump));
                    }
                }
                Next::IsThrough => {
                    if self.walks.finish_one().is_some() {
                        self.begin_walk();
                    }
                }
            }
        }
    }
}
