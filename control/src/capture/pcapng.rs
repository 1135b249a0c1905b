//! Captured frames as a pcapng file (draft-ietf-opsawg-pcapng): one section, an interface for each port, each frame with its
//! direction and, where it was dropped, the reason as its comment. Written piece by piece as frames come, in the byte
//! order of the machine that writes; times are nanoseconds.
//!
//! ```text
//! section header, interface description, then for each frame an enhanced packet block; last, statistics
//! ```

use units::Nanos;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

const MAGIC: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

/// Options: of every block, of sections, of interfaces, of packets, of statistics.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const DROPPED: u16 = 4;
const INTERFACE_DROPPED: u16 = 5;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came by the port.
    Inbound = 1,
    /// It left through the port.
    Outbound = 2,
}

/// One frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The port's place among the interfaces.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at: Nanos,
    /// Which way.
    pub direction: Direction,
    /// Its bytes, as far as they were captured.
    pub bytes: &'a [u8],
    /// Its bytes on the wire.
    pub length: usize,
    /// What is said of it.
    pub comment: Option<&'a str>,
    /// Frames before it, since the last that was written, that could not be.
    pub lost: u64,
}

fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// One option: its code, its length, its value, filled to four bytes.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(value);
    fill(body);
}

fn fill(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// One block: its type, its length, what it says, and its length again.
fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = word(body.len() + 12);
    out.extend(kind.to_ne_bytes());
    out.extend(length.to_ne_bytes());
    out.extend(body);
    out.extend(length.to_ne_bytes());
}

/// A moment in two halves, the high one first.
fn moment(body: &mut Vec<u8>, at: Nanos) {
    let [high, low] = [at.get() >> 32, at.get() & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or(0));
    body.extend(high.to_ne_bytes());
    body.extend(low.to_ne_bytes());
}

/// The beginning of a file: who wrote it, and the ports, each with as many bytes of a frame as are kept.
pub fn begin(out: &mut Vec<u8>, ports: &[&str], snap: usize) {
    let mut body = Vec::new();
    body.extend(MAGIC.to_ne_bytes());
    body.extend(1_u16.to_ne_bytes());
    body.extend(0_u16.to_ne_bytes());
    // How long the section is, is not known.
    body.extend(u64::MAX.to_ne_bytes());
    option(&mut body, APPLICATION, concat!("millrace ", env!("CARGO_PKG_VERSION")).as_bytes());
    option(&mut body, END, &[]);
    block(out, SECTION, &body);
    for port in ports {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend(word(snap).to_ne_bytes());
        option(&mut body, NAME, port.as_bytes());
        option(&mut body, RESOLUTION, &[9]);
        option(&mut body, END, &[]);
        block(out, INTERFACE, &body);
    }
}

/// One frame.
pub fn frame(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut body = Vec::with_capacity(record.bytes.len() + 64);
    body.extend(record.interface.to_ne_bytes());
    moment(&mut body, record.at);
    body.extend(word(record.bytes.len()).to_ne_bytes());
    body.extend(word(record.length).to_ne_bytes());
    body.extend(record.bytes);
    fill(&mut body);
    if let Some(comment) = record.comment {
        option(&mut body, COMMENT, comment.as_bytes());
    }
    option(&mut body, FLAGS, &(record.direction as u32).to_ne_bytes());
    if record.lost > 0 {
        option(&mut body, DROPPED, &record.lost.to_ne_bytes());
    }
    option(&mut body, END, &[]);
    block(out, PACKET, &body);
}

/// The end of a file: how many frames of a port were wanted and could not be written.
pub fn end(out: &mut Vec<u8>, interface: u32, at: Nanos, lost: u64) {
    let mut body = Vec::new();
    body.extend(interface.to_ne_bytes());
    moment(&mut body, at);
    option(&mut body, INTERFACE_DROPPED, &lost.to_ne_bytes());
    option(&mut body, END, &[]);
    block(out, STATISTICS, &body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut file = Vec::new();
        begin(&mut file, &["outside", "inside"], 100);
        let record = Record {
            interface: 1,
            at: Nanos::new(1_700_000_000_123_456_789),
            direction: Direction::Inbound,
            bytes: &[1, 2, 3, 4, 5],
            length: 60,
            comment: Some("dropped: no_route"),
            lost: 3,
        };
        frame(&mut file, &record);
        frame(&mut file, &Record { bytes: &[], comment: None, lost: 0, direction: Direction::Outbound, ..record });
        end(&mut file, 1, record.at, 3);
        assert!(file.len().is_multiple_of(4));
        assert_eq!(crate::trace::file::frames(&file, 10).unwrap(), [vec![1, 2, 3, 4, 5], vec![]]);
    }
}
