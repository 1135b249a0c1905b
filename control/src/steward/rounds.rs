//! What is asked of all workers together and takes them a while: walks over their sessions, and flushes. One of a kind is
//! under way at a time, the others wait their turn, so that no worker ever has two of them.

use std::collections::VecDeque;

use crossbeam::channel::Sender;
use stage::balancer::Backend;
use std::sync::Arc;

/// Rounds of one kind that may wait; more are refused.
const WAITING_MAX: usize = 256;

/// A round of all workers.
#[derive(Debug)]
pub(super) struct Round<T> {
    /// Its number: answers of a worker carry it.
    pub(super) request: u64,
    /// Workers that are not through with it; none yet while it waits.
    pub(super) running: usize,
    /// What it is about.
    pub(super) errand: T,
}

/// A flush.
#[derive(Debug)]
pub(super) struct Flushing {
    /// Whose sessions end.
    pub(super) backends: Arc<[Arc<Backend>]>,
    /// Who waits for the sum.
    pub(super) done: Sender<u64>,
    /// Sessions ended so far.
    pub(super) sessions: u64,
}

/// The rounds of one kind: the first is under way.
#[derive(Debug)]
pub(super) struct Rounds<T> {
    queue: VecDeque<Round<T>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<T> Rounds<T> {
    /// Puts a round at the end. True when it is its turn at once. Where too many wait, it is dropped, and whoever waits for
    /// it finds the channel closed.
    pub(super) fn add(&mut self, request: u64, errand: T) -> bool {
        if self.queue.len() <= WAITING_MAX {
            self.queue.push_back(Round { request, running: 0, errand });
        }
        self.queue.len() == 1
    }

    /// The round under way.
    pub(super) fn current(&mut self) -> Option<&mut Round<T>> {
        self.queue.front_mut()
    }

    /// Rounds that wait for the one under way.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len().saturating_sub(1)
    }

    /// The round under way, if that is the one with this number: an answer to another comes too late.
    pub(super) fn numbered(&mut self, request: u64) -> Option<&mut Round<T>> {
        self.current().filter(|round| round.request == request)
    }

    /// One worker is through with the round under way. Returns the round when it was the last: the next has its turn.
    pub(super) fn finish_one(&mut self) -> Option<Round<T>> {
        let round = self.current()?;
        round.running = round.running.saturating_sub(1);
        if round.running > 0 { None } else { self.queue.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_is_under_way_and_the_others_wait_their_turn() {
        let mut rounds = Rounds::default();
        assert!(rounds.add(1, "a"));
        assert!(!rounds.add(2, "b"));
        rounds.current().unwrap().running = 2;
        assert!(rounds.numbered(2).is_none());
        assert!(rounds.finish_one().is_none());
        assert_eq!(rounds.finish_one().unwrap().errand, "a");
        assert_eq!(rounds.numbered(2).unwrap().errand, "b");
    }

    #[test]
    fn too_many_are_refused() {
        let mut rounds = Rounds::default();
        let (sender, receiver) = crossbeam::channel::unbounded::<()>();
        for request in 0..1_000 {
            rounds.add(request, sender.clone());
        }
        assert_eq!(rounds.queue.len(), 1 + WAITING_MAX);
        drop((sender, rounds));
        assert!(receiver.recv().is_err());
    }
}
