//! Devices that go and come while everything else goes on: what `control`'s launch does with those over interfaces that
//! vanish.

use std::sync::Arc;

use control::event::Request;
use frame::memory::MemoryNic;
use worker::Command;

use super::{Rig, Side};

impl Rig {
    /// Has the workers give up the device of a port. Returns how many packets waited to be sent by it.
    pub fn unplug(&mut self, side: Side) -> u64 {
        let (devices, lost) = self.exchange(Request::Unplug(side.port()));
        drop(devices);
        lost
    }

    /// Gives the workers a device for a port, on its old cables, and expects that they take it. Returns how many packets
    /// were lost because somebody did not know yet that there was none.
    pub fn plug(&mut self, side: Side) -> u64 {
        let (refused, lost) = self.offer(side);
        assert_eq!(refused, 0, "a worker has no place for a device");
        lost
    }

    /// As [`plug`](Self::plug); returns how many devices the workers gave back, too.
    pub fn offer(&mut self, side: Side) -> (usize, u64) {
        for (exchange, wire) in self.exchanges.iter().zip(&self.wires[side.port().index()]) {
            exchange.offer(side.port(), MemoryNic::new(Arc::clone(wire))).expect("nothing else lies there");
        }
        let (refused, lost) = self.exchange(Request::Plug(side.port()));
        (refused.len(), lost)
    }

    /// As [`unplug`](Self::unplug), of one worker alone: the others have not heard yet.
    pub fn unplug_one(&mut self, worker: usize, side: Side) -> u64 {
        let (inbox, _) = &self.rings[worker];
        inbox.push(Command::Unplug { port: side.port() }).expect("a place for a command");
        self.settle();
        let lost = self.exchanges[worker].answer().expect("it answers").lost;
        self.tally.lost += lost;
        lost
    }

    fn exchange(&mut self, request: Request) -> (Vec<MemoryNic>, u64) {
        self.requests.send(request).expect("the steward listens");
        self.settle();
        let (mut devices, mut lost) = (Vec::new(), 0);
        for exchange in &self.exchanges {
            let answer = exchange.answer().expect("every worker answers");
            assert!(exchange.answer().is_none(), "and once");
            devices.extend(answer.nic);
            lost += answer.lost;
        }
        self.tally.lost += lost;
        (devices, lost)
    }
}
