//! Captures in the classic pcap format (draft-ietf-opsawg-pcap), as DPDK's pcap device reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `frames`, all captured at the beginning of time.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Magic, version 2.4, no time zone, no accuracy, whole packets, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for word in [0, 0, length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame)?;
    }
    file.flush()
}
