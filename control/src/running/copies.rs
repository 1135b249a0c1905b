//! Sessions for a reader, as workers copy them: a few batches at a time, however many there are.

use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use worker::SessionRecord;

use super::documents::session_status;
use super::{PATIENCE, Running};
use crate::admin::Sessions;
use crate::event::Request;
use crate::session_match::SessionMatch;
use crate::status::{Refusal, RefusalKind, SessionStatus};

/// Batches of copies that wait for a reader.
pub(super) const BATCHES: usize = 4;

/// How long it is waited for the first of them: others may be reading, one after the other.
pub(super) const TURN_WITHIN: Duration = Duration::from_secs(8);

/// What is said when none has come by then.
pub(super) const OTHERS_READ: &str = "others are reading the sessions, or the workers do not answer; ask again";

/// What is copied, and how much of it is wanted yet.
struct Copies {
    batches: Receiver<Vec<SessionRecord>>,
    wanted: SessionMatch,
    left: usize,
}

impl Running {
    /// At most `limit` sessions that match. That the workers answer is known when this returns.
    pub(super) fn copied(&self, wanted: &SessionMatch, limit: usize) -> Result<Sessions, Refusal> {
        let (reader, batches) = bounded(BATCHES);
        let gone = |_| Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(Request::Sessions(reader)).map_err(gone)?;
        let mut copies = Copies { batches, wanted: wanted.clone(), left: limit };
        let mut first = Some(copies.next(TURN_WITHIN, OTHERS_READ)?);
        let mut next = move || copies.next(PATIENCE, "the workers do not answer");
        Ok(Box::new(move || first.take().map_or_else(&mut next, Ok)))
    }
}

impl Copies {
    /// The next of them, nothing at the end; when none has come `within` this time, `why`.
    fn next(&mut self, within: Duration, why: &str) -> Result<Option<Vec<SessionStatus>>, Refusal> {
        if self.left == 0 {
            return Ok(None);
        }
        let records = self.batches.recv_timeout(within).map_err(|error| {
            Refusal::new(
                RefusalKind::Busy,
                match error {
                    RecvTimeoutError::Timeout => why,
                    RecvTimeoutError::Disconnected => "the sessions could not be copied to the end; ask again",
                },
            )
        })?;
        if records.is_empty() {
            self.left = 0;
            return Ok(None);
        }
        let matching = records.iter().map(session_status).filter(|session| self.wanted.matches(session));
        let sessions: Vec<_> = matching.take(self.left).collect();
        self.left -= sessions.len();
        Ok(Some(sessions))
    }
}
