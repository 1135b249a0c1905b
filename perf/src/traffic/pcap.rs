//! Captures in the classic pcap format (draft-ietf-opsawg-pcap), as DPDK's pcap device reads them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::Frames;

/// Microsecond captures in this machine's order and the other, then nanosecond ones.
const MAGICS: [(u32, bool); 4] = [(0xa1b2_c3d4, false), (0xd4c3_b2a1, true), (0xa1b2_3c4d, false), (0x4d3c_b2a1, true)];
/// The link type of Ethernet.
const ETHERNET: u32 = 1;
/// The longest packet that is read: what no device of DPDK exceeds.
const PACKET_MAX: u32 = 65_535;

/// Writes `frames`, all captured at the beginning of time. The file appears when it is whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, mut frames: Frames) -> io::Result<()> {
    write_each(path, |frame| Ok(frames.next_into(frame)))
}

/// As [`write`], of what `next` puts into the frame it is given, until it says that there is no more.
///
/// # Errors
/// When the file cannot be written, or `next` fails.
pub(super) fn write_each(path: &Path, mut next: impl FnMut(&mut Vec<u8>) -> io::Result<bool>) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
    // Magic, version 2.4, no time zone, no accuracy, whole packets, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, PACKET_MAX, ETHERNET] {
        file.write_all(&word.to_le_bytes())?;
    }
    let mut frame = Vec::new();
    while next(&mut frame)? {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for word in [0, 0, length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame)?;
    }
    file.into_inner()?.sync_all()?;
    std::fs::rename(part, path)
}

/// Reads the packets of a capture one after another.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    swapped: bool,
}

impl Reader {
    /// Opens a capture of Ethernet frames.
    ///
    /// # Errors
    /// When it cannot be read, or is something else; pcapng is, and the error says how to turn it into this.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut head = [0; 24];
        file.read_exact(&mut head)?;
        let wrong = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let magic = word(&head, 0, false);
        let Some(&(_, swapped)) = MAGICS.iter().find(|&&(known, _)| known == magic) else {
            return Err(wrong("not a pcap file; of pcapng make one with: editcap -F pcap IN OUT".to_owned()));
        };
        let link = word(&head, 20, swapped) & 0xffff;
        if link != ETHERNET {
            return Err(wrong(format!("its packets are no Ethernet frames (link type {link})")));
        }
        Ok(Self { file, swapped })
    }

    /// Puts the next packet into `frame`; false at the end.
    ///
    /// # Errors
    /// When the file ends in a packet, or says that one is longer than can be.
    pub fn next_into(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let mut head = [0; 16];
        match self.file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        let length = word(&head, 8, self.swapped);
        if length > PACKET_MAX {
            return Err(io::Error::other(format!("a packet of {length} bytes")));
        }
        frame.resize(length as usize, 0);
        self.file.read_exact(frame)?;
        Ok(true)
    }
}

/// The word at this place, in the file's order.
fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
    if swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blueprint::Blueprint;
    use crate::traffic::{Clients, Draw, Family, Order, Protocol, Size};

    fn frames() -> Frames {
        let target = Blueprint::example(Family::V4, Protocol::Udp).unwrap().target().unwrap();
        Frames::new(Clients::new(target, 12), Size::Imix, Order::new(Draw::Uniform, 12, 12))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        write(&path, frames()).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let mut frame = Vec::new();
        for expected in frames() {
            assert!(reader.next_into(&mut frame).unwrap());
            assert_eq!(frame, expected);
        }
        assert!(!reader.next_into(&mut frame).unwrap());
    }

    #[test]
    fn captures_of_the_other_order_and_of_nanoseconds_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.pcap");
        for magic in [0xa1b2_c3d4_u32, 0xa1b2_3c4d] {
            let mut bytes = Vec::new();
            for word in [magic, 0x0002_0004, 0, 0, 65_535, 1, 0, 0, 3, 3] {
                bytes.extend(word.to_be_bytes());
            }
            bytes.extend([7, 8, 9]);
            std::fs::write(&path, &bytes).unwrap();
            let mut frame = Vec::new();
            assert!(Reader::open(&path).unwrap().next_into(&mut frame).unwrap());
            assert_eq!(frame, [7, 8, 9]);
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_and_a_cut_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.pcap");
        std::fs::write(&path, [0x0a, 0x0d, 0x0d, 0x0a].repeat(8)).unwrap();
        assert!(Reader::open(&path).unwrap_err().to_string().contains("editcap -F pcap"));
        write(&path, frames()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let mut frame = Vec::new();
        let outcome = std::iter::from_fn(|| Some(reader.next_into(&mut frame))).find(|read| !matches!(read, Ok(true)));
        assert!(outcome.unwrap().is_err());
    }
}
