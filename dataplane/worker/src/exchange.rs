//! Where the device of a port changes hands while a worker runs: its queue pair comes out when the device is to go, and
//! another's goes in when there is one. Control says when ([`Command::Unplug`](crate::Command::Unplug),
//! [`Command::Plug`](crate::Command::Plug)); the queues lie here, since control knows no devices. One exchange for each
//! worker, which never waits at it and frees no device: launch's thread for devices does.
//!
//! ```text
//! Unplug -> worker -- answer: its queue pair --> closed by launch
//! launch -- offer: another queue pair, Plug --> worker -- answer
//! ```

use crossbeam::queue::ArrayQueue;
use units::PortId;
use units::limits::PORTS_MAX;

/// The place where one worker and whoever opens devices meet.
#[derive(Debug)]
pub struct Exchange<N> {
    offered: ArrayQueue<(PortId, N)>,
    answers: ArrayQueue<Exchanged<N>>,
}

/// A worker's answer to one command.
#[derive(Debug)]
pub struct Exchanged<N> {
    /// The port the command named.
    pub port: PortId,
    /// The queue pair it gives up, or one it has no place for.
    pub nic: Option<N>,
    /// Packets that waited to be sent and went with the device.
    pub lost: u64,
}

impl<N> Default for Exchange<N> {
    fn default() -> Self {
        Self { offered: ArrayQueue::new(PORTS_MAX), answers: ArrayQueue::new(2 * PORTS_MAX) }
    }
}

impl<N> Exchange<N> {
    /// Lays a queue pair down for the worker, before the command to plug it in is sent.
    ///
    /// # Errors
    /// It comes back when more lie there than there are ports.
    pub fn offer(&self, port: PortId, nic: N) -> Result<(), N> {
        self.offered.push((port, nic)).map_err(|(_, nic)| nic)
    }

    /// The worker's next answer: one to each command.
    #[must_use]
    pub fn answer(&self) -> Option<Exchanged<N>> {
        self.answers.pop()
    }

    /// What lies there for the worker.
    pub(crate) fn take(&self) -> Option<(PortId, N)> {
        self.offered.pop()
    }

    /// Answers. There is a place for two answers about every port, and nobody asks again before the first was heard.
    pub(crate) fn give(&self, answer: Exchanged<N>) {
        let _ = self.answers.push(answer);
    }
}
