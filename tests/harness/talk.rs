//! A conversation through the appliance, as it looks on the side of who opened it and on the other: addresses, ports, and
//! the packets of its life in both looks.

use crate::packet::{Packet, tcp, udp};
use crate::rig::{Rig, Side};

/// A packet as it comes in, and as it goes out.
pub type Passage = ((Side, Packet), (Side, Packet));

/// Sequence number of the opener's SYN.
pub const OPENER: u32 = 1_000;
/// Sequence number of the answer's SYN.
pub const ANSWERER: u32 = 5_000;

/// Both looks of a conversation. `near` is the side of the opener: its own end and the one it asks for. `far` is the other:
/// the end that asks there, and the one that answers.
#[derive(Clone, Debug)]
pub struct Talk {
    near: (Side, String, String),
    far: (Side, String, String),
    write: fn(&str, &str) -> Packet,
}

impl Talk {
    /// A TCP connection.
    #[must_use]
    pub fn tcp(near: (Side, &str, &str), far: (Side, &str, &str)) -> Self {
        Self::new(near, far, tcp)
    }

    /// A UDP conversation.
    #[must_use]
    pub fn udp(near: (Side, &str, &str), far: (Side, &str, &str)) -> Self {
        Self::new(near, far, udp)
    }

    fn new(near: (Side, &str, &str), far: (Side, &str, &str), write: fn(&str, &str) -> Packet) -> Self {
        let own = |(side, one, other): (Side, &str, &str)| (side, one.to_owned(), other.to_owned());
        Self { near: own(near), far: own(far), write }
    }

    /// A packet of the opener.
    #[must_use]
    pub fn up(&self, what: impl Fn(Packet) -> Packet) -> Passage {
        let (near, source, asked) = &self.near;
        let (far, shown, server) = &self.far;
        ((*near, what((self.write)(source, asked))), (*far, what((self.write)(shown, server)).routed()))
    }

    /// A packet of the answer.
    #[must_use]
    pub fn down(&self, what: impl Fn(Packet) -> Packet) -> Passage {
        let (near, source, asked) = &self.near;
        let (far, shown, server) = &self.far;
        ((*far, what((self.write)(server, shown))), (*near, what((self.write)(asked, source)).routed()))
    }

    /// What the appliance itself says to the opener in the other end's name.
    #[must_use]
    pub fn told_opener(&self, what: impl Fn(Packet) -> Packet) -> (Side, Packet) {
        let (near, source, asked) = &self.near;
        (*near, what((self.write)(asked, source)).window(0).atomic())
    }

    /// What the appliance itself says to the answering end in the opener's name.
    #[must_use]
    pub fn told_answerer(&self, what: impl Fn(Packet) -> Packet) -> (Side, Packet) {
        let (far, shown, server) = &self.far;
        (*far, what((self.write)(shown, server)).window(0).atomic())
    }

    /// Its first packet.
    pub fn syn(&self, rig: &mut Rig) {
        rig.passes("SYN", self.up(|p| p.syn().seq(OPENER)));
    }

    /// The handshake: afterwards the opener goes on at [`OPENER`] + 1, the answer at [`ANSWERER`] + 1.
    pub fn open(&self, rig: &mut Rig) {
        self.syn(rig);
        rig.passes("SYN-ACK", self.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        rig.passes("ACK", self.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
    }

    /// Five bytes each way, which are never acknowledged, so that the same can be said again.
    pub fn chat(&self, rig: &mut Rig) {
        rig.passes("data", self.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1).data(b"hello")));
        rig.passes("its answer", self.down(|p| p.ack(OPENER + 1).seq(ANSWERER + 1).data(b"hello")));
    }

    /// Both sides finish, after each has said this many bytes.
    pub fn close_after(&self, rig: &mut Rig, said: u32) {
        let (opener, answerer) = (OPENER + 1 + said, ANSWERER + 1 + said);
        rig.passes("FIN", self.up(|p| p.fin(answerer).seq(opener)));
        rig.passes("FIN of the other side", self.down(|p| p.fin(opener + 1).seq(answerer)));
        rig.passes("the last ACK", self.up(|p| p.ack(answerer + 1).seq(opener + 1)));
    }

    /// Both sides finish without having said anything.
    pub fn close(&self, rig: &mut Rig) {
        self.close_after(rig, 0);
    }
}

impl Rig {
    /// A row of the table: one packet in, the same packet out as it looks there.
    pub fn passes(&mut self, sentence: &str, (packet, passed): Passage) {
        self.case(sentence, &[packet], &[passed], &[]);
    }
}
