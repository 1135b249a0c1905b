//! Captures ready to be replayed: made from parameters, and kept in the bench's folder for the next run; or the user's own.

use std::path::{Path, PathBuf};

use wire::{Content, Tcp, Transport, Verify, dissect, toeplitz};

use super::{Clients, Draw, Family, Frames, Order, Reader, Size, pcap};
use crate::Outcome;

/// Raised when the same parameters give other frames, so that no old file is taken for a new one.
const FORMAT: u32 = 1;

/// Packets of zipf traffic, at least: enough that the rare clients appear.
const ZIPF_PACKETS: u32 = 1_000_000;

/// Traffic by its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Who sends.
    pub clients: Clients,
    /// How large frames are.
    pub size: Size,
    /// In which order clients come.
    pub draw: Draw,
}

impl Traffic {
    /// Packets in one pass.
    #[must_use]
    pub fn packets(&self) -> u32 {
        match self.draw {
            Draw::Uniform => self.clients.count,
            Draw::Zipf => self.clients.count.max(ZIPF_PACKETS),
        }
    }

    /// The frames of one pass, without their check sequence.
    #[must_use]
    pub fn frames(&self) -> Frames {
        Frames::new(self.clients, self.size, self.order())
    }

    fn order(&self) -> Order {
        Order::new(self.draw, self.clients.count, self.packets())
    }

    fn file_name(&self) -> String {
        let Clients { target, count, services } = self.clients;
        let family = Family::of(target.address);
        // The addresses are the user's where the configuration is.
        let to =
            format!("{}-{}-{}-{}", target.address, target.port, target.client, target.station).replace([':', '.'], "");
        let (protocol, size, draw) = (target.protocol.word(), self.size, self.draw);
        format!("{count}-{family}-{protocol}-{size}-{draw}-{services}-{to}-v{FORMAT}.pcap").to_ascii_lowercase()
    }
}

/// A capture on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Where it is.
    pub path: PathBuf,
    /// Packets in it.
    pub packets: u32,
    /// Sessions they belong to.
    pub sessions: u32,
    /// Bytes of the longest, without the check sequence.
    pub longest: u16,
}

impl Capture {
    /// The capture of this traffic, made in `folder` unless it is there from an earlier run.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn of(traffic: &Traffic, folder: &Path) -> Outcome<Self> {
        let path = folder.join(traffic.file_name());
        if !path.exists() {
            pcap::write(&path, traffic.frames())?;
        }
        let frames = Frames::new(traffic.clients, traffic.size, Order::new(Draw::Uniform, 0, 0));
        let sessions = match traffic.draw {
            Draw::Uniform => traffic.clients.count,
            Draw::Zipf => traffic.order().distinct(),
        };
        Ok(Self { path, packets: traffic.packets(), sessions, longest: frames.longest() })
    }

    /// A capture of the user's, as it is. Sessions are counted by protocol, addresses and ports, each direction for itself.
    ///
    /// # Errors
    /// When it cannot be read, or holds no packets.
    pub fn read(path: &Path) -> Outcome<Self> {
        let mut reader = Reader::open(path)?;
        let mut flows = std::collections::HashSet::new();
        let (mut packets, mut longest, mut frame) = (0, 0, Vec::new());
        while reader.next_into(&mut frame)? {
            packets += 1;
            longest = longest.max(u16::try_from(frame.len()).unwrap_or(u16::MAX));
            if let Ok(dissected) = dissect(&frame, Verify::Nothing)
                && let Content::Ip(facts) = dissected.content
                && let Transport::Udp { source_port, destination_port, .. }
                | Transport::Tcp(Tcp { source_port, destination_port, .. }) = facts.transport
            {
                flows.insert((facts.endpoints, facts.protocol, source_port, destination_port));
            }
        }
        if packets == 0 {
            return Err(format!("{} holds no packets", path.display()).into());
        }
        let sessions = u32::try_from(flows.len()).unwrap_or(u32::MAX);
        Ok(Self { path: path.canonicalize()?, packets, sessions, longest })
    }

    /// What a NIC delivers to each of `queues` that spreads these packets by their source, as the appliance shares sessions
    /// between workers: a capture for each, beside this one.
    ///
    /// # Errors
    /// When this one cannot be read, or another not be written.
    pub fn spread(&self, queues: usize) -> Outcome<Vec<Self>> {
        let to = |queue| -> Outcome<Self> {
            let path = self.path.with_extension(format!("{queue}-of-{queues}.pcap"));
            let mut reader = Reader::open(&self.path)?;
            let mut packets = 0;
            pcap::write_each(&path, |frame| {
                while reader.next_into(frame)? {
                    if queue_of(frame, queues) == Some(queue) {
                        packets += 1;
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
            Ok(Self { path, packets, ..self.clone() })
        };
        (0..queues).map(to).collect()
    }

    /// The device string that replays it without end.
    #[must_use]
    pub fn device(&self, number: u32) -> String {
        format!("net_pcap{number},rx_pcap={},infinite_rx=1", self.path.display())
    }
}

/// The queue of a frame by its source; `None` for what has no ports.
fn queue_of(frame: &[u8], queues: usize) -> Option<usize> {
    let Content::Ip(facts) = dissect(frame, Verify::Nothing).ok()?.content else { return None };
    let (Transport::Udp { source_port, .. } | Transport::Tcp(Tcp { source_port, .. })) = facts.transport else {
        return None;
    };
    Some(toeplitz::part(toeplitz::end(facts.endpoints.source(), source_port), queues))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blueprint::Blueprint;
    use crate::traffic::Protocol;

    #[test]
    fn a_capture_is_made_once_and_read_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let target = Blueprint::example(Family::V4, Protocol::Tcp).unwrap().target().unwrap();
        let traffic = Traffic { clients: Clients::new(target, 500), size: Size::Imix, draw: Draw::Uniform };
        let made = Capture::of(&traffic, folder.path()).unwrap();
        let modified = std::fs::metadata(&made.path).unwrap().modified().unwrap();
        assert_eq!(Capture::of(&traffic, folder.path()).unwrap(), made);
        assert_eq!(std::fs::metadata(&made.path).unwrap().modified().unwrap(), modified);
        let read = Capture::read(&made.path).unwrap();
        assert_eq!((read.packets, read.sessions, read.longest), (500, 500, 1_514));
        let queues = made.spread(3).unwrap();
        assert_eq!(queues.iter().map(|queue| queue.packets).sum::<u32>(), 500);
        assert!(queues.iter().all(|queue| queue.packets > 100 && Capture::read(&queue.path).unwrap().packets > 100));
        let other = Traffic { size: Size::Bytes(64), ..traffic };
        assert_ne!(Capture::of(&other, folder.path()).unwrap().path, made.path);
    }
}
