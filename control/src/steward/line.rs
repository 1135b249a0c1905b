//! The rings to and from one worker, and what waits because the worker's ring is full. Used by the control thread alone.
//!
//! What management waits for is never given up: tables, devices, walks and flushes arrive, in order, however late. News of neighbors
//! and frames of ours are given up when very many wait; both are repeated by whoever needs them.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use worker::{Command, Event};

/// Commands waiting for a worker beyond which what can be repeated is given up.
const BACKLOG: usize = 65_536;

/// The rings to and from one worker.
#[derive(Clone, Debug)]
pub struct WorkerLink {
    /// Commands to it.
    pub inbox: Arc<ArrayQueue<Command>>,
    /// Events from it.
    pub events: Arc<ArrayQueue<Event>>,
}

/// One worker, as control speaks to it.
#[derive(Debug)]
pub(super) struct Line {
    link: WorkerLink,
    backlog: VecDeque<Command>,
}

impl Line {
    pub(super) const fn new(link: WorkerLink) -> Self {
        Self { link, backlog: VecDeque::new() }
    }

    /// Sends a command after all those before it.
    pub(super) fn send(&mut self, command: Command) {
        let refused = if self.backlog.is_empty() { self.link.inbox.push(command).err() } else { Some(command) };
        if let Some(command) = refused.filter(|command| self.backlog.len() < BACKLOG || must_arrive(command)) {
            self.backlog.push_back(command);
        }
    }

    /// Sends what waits, as far as the worker has room for it.
    pub(super) fn retry(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            if let Err(command) = self.link.inbox.push(command) {
                self.backlog.push_front(command);
                return;
            }
        }
    }

    /// The next event of the worker.
    pub(super) fn hear(&self) -> Option<Event> {
        self.link.events.pop()
    }
}

/// Whether somebody waits for what comes of this command, so that it cannot be left out.
const fn must_arrive(command: &Command) -> bool {
    match command {
        Command::Publish { .. }
        | Command::Unplug { .. }
        | Command::Plug { .. }
        | Command::Dump(_)
        | Command::Flush(_)
        | Command::Trace(_)
        | Command::EndTrace { .. }
        | Command::Capture(_)
        | Command::EndCapture { .. } => true,
        Command::Neighbor { .. } | Command::Transmit { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use units::{PortId, WorkerId};
    use worker::{Dump, Flush};

    use super::*;

    fn line(places: usize) -> (Line, Arc<ArrayQueue<Command>>) {
        let inbox = Arc::new(ArrayQueue::new(places));
        (Line::new(WorkerLink { inbox: Arc::clone(&inbox), events: Arc::new(ArrayQueue::new(1)) }), inbox)
    }

    fn neighbor(number: u32) -> Command {
        Command::Neighbor { port: PortId::new(0), address: IpAddr::V4(Ipv4Addr::from(number)), mac: None }
    }

    fn number(command: &Command) -> Option<u32> {
        match command {
            Command::Neighbor { address: IpAddr::V4(address), .. } => Some((*address).into()),
            _ => None,
        }
    }

    #[test]
    fn what_waits_is_sent_in_order() {
        let (mut line, inbox) = line(2);
        (0..5).for_each(|at| line.send(neighbor(at)));
        let mut heard = Vec::new();
        while let Some(command) = inbox.pop() {
            heard.push(number(&command).unwrap());
            line.retry();
        }
        assert_eq!(heard, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn at_the_bound_only_what_can_be_repeated_is_given_up() {
        let (mut line, inbox) = line(1);
        let last = u32::try_from(BACKLOG).unwrap();
        (0..=last).for_each(|at| line.send(neighbor(at)));
        line.send(neighbor(last + 1));
        line.send(Command::Flush(Flush { request: 1, backends: Arc::from([]) }));
        line.send(Command::Dump(Box::new(Dump::new(2, WorkerId::new(0), 1))));
        line.send(neighbor(last + 2));
        let mut neighbors = 0;
        let mut others = Vec::new();
        while let Some(command) = inbox.pop() {
            match number(&command) {
                Some(at) => {
                    assert_eq!(at, neighbors);
                    neighbors += 1;
                }
                None => others.push(command),
            }
            line.retry();
        }
        assert_eq!(neighbors, last + 1);
        assert!(matches!(others.as_slice(), [Command::Flush(_), Command::Dump(_)]), "{others:?}");
    }
}
