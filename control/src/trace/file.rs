//! The frames of a capture file: pcap (classic, either byte order, microseconds or nanoseconds) and pcapng, of Ethernet
//! links. Read by the command line; a file is taken at no word: what is cut off or contradicts itself is told.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

/// A frame may be this long: more than any link carries.
const FRAME_MAX: usize = 65_535;

/// What stands around a frame in a file, at most: the headers of its packet and of its block, and options.
const AROUND_MAX: usize = 4_096;

/// Bytes of a capture that its first `most` frames are within, unless other blocks stand between them.
#[must_use]
pub const fn reach(most: usize) -> usize {
    most.saturating_add(1).saturating_mul(FRAME_MAX + AROUND_MAX)
}

/// The link type of Ethernet.
const ETHERNET: u16 = 1;

/// Integers as the file has them.
#[derive(Clone, Copy)]
struct Order {
    little: bool,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes = *bytes.get(at..)?.first_chunk::<4>()?;
        let number = if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        usize::try_from(number).ok()
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }
}

/// The first `most` frames of a capture.
///
/// # Errors
/// A sentence: what is wrong with the file.
pub fn frames(file: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
    match file.first_chunk::<4>() {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => classic(file, Order { little: true }, most),
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => classic(file, Order { little: false }, most),
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => blocks(file, most),
        Some(_) | None => Err("it is no capture file: neither pcap nor pcapng".to_owned()),
    }
}

fn cut() -> String {
    "it is cut off".to_owned()
}

fn link(kind: u16) -> Result<(), String> {
    if kind == ETHERNET { Ok(()) } else { Err(format!("its link type is {kind}; only Ethernet ({ETHERNET}) is read")) }
}

fn taken(file: &[u8], at: usize, length: usize) -> Result<Vec<u8>, String> {
    if length > FRAME_MAX {
        return Err(format!("a frame of {length} bytes is none of Ethernet"));
    }
    file.get(at..at + length).map(<[u8]>::to_vec).ok_or_else(cut)
}

fn classic(file: &[u8], order: Order, most: usize) -> Result<Vec<Vec<u8>>, String> {
    // The upper half has other meanings (draft-ietf-opsawg-pcap section 4).
    let kind = order.u32(file, 20).ok_or_else(cut)? & 0xffff;
    link(u16::try_from(kind).unwrap_or(u16::MAX))?;
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() && frames.len() < most {
        let length = order.u32(file, at + 8).ok_or_else(cut)?;
        frames.push(taken(file, at + 16, length)?);
        at += 16 + length;
    }
    Ok(frames)
}

fn blocks(file: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
    const SECTION: usize = 0x0a0d_0d0a;
    const INTERFACE: usize = 1;
    const SIMPLE: usize = 3;
    const ENHANCED: usize = 6;
    let mut order = Order { little: true };
    let (mut frames, mut at, mut kinds) = (Vec::new(), 0, Vec::new());
    while at < file.len() && frames.len() < most {
        if file.get(at..at + 4) == Some(&[0x0a, 0x0d, 0x0d, 0x0a]) {
            order.little = file.get(at + 8..at + 12).ok_or_else(cut)? == [0x4d, 0x3c, 0x2b, 0x1a];
            kinds.clear();
        }
        let (kind, length) = (order.u32(file, at).ok_or_else(cut)?, order.u32(file, at + 4).ok_or_else(cut)?);
        if length < 12 || !length.is_multiple_of(4) {
            return Err(format!("a block of {length} bytes cannot be"));
        }
        let block = file.get(at..at + length).ok_or_else(cut)?;
        match kind {
            INTERFACE => kinds.push(order.u16(block, 8).ok_or_else(cut)?),
            ENHANCED => {
                let interface = order.u32(block, 8).ok_or_else(cut)?;
                link(*kinds.get(interface).ok_or("a frame is of an interface that was not described")?)?;
                frames.push(taken(block, 28, order.u32(block, 20).ok_or_else(cut)?)?);
            }
            SIMPLE => {
                link(*kinds.first().ok_or("a frame is of an interface that was not described")?)?;
                let length = order.u32(block, 8).ok_or_else(cut)?.min(block.len().saturating_sub(16));
                frames.push(taken(block, 12, length)?);
            }
            SECTION => {}
            _ => {}
        }
        at += length;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32], little: bool) -> Vec<u8> {
        words.iter().flat_map(|word| if little { word.to_le_bytes() } else { word.to_be_bytes() }).collect()
    }

    fn classic_file(little: bool, magic: u32, link: u32) -> Vec<u8> {
        let mut file = words(&[magic, 0x0004_0002, 0, 0, 65_535, link], little);
        for length in [3_u32, 5] {
            file.extend(words(&[1, 2, length, length], little));
            file.extend(vec![7; length as usize]);
        }
        file
    }

    #[test]
    fn classic_files_of_either_byte_order_are_read() {
        for (little, magic) in [(true, 0xa1b2_c3d4), (false, 0xa1b2_c3d4), (true, 0xa1b2_3c4d), (false, 0xa1b2_3c4d)] {
            let read = frames(&classic_file(little, magic, 1), 10).unwrap();
            assert_eq!(read, [vec![7; 3], vec![7; 5]]);
        }
        assert_eq!(frames(&classic_file(true, 0xa1b2_c3d4, 1), 1).unwrap().len(), 1);
    }

    #[test]
    fn blocks_are_read_and_unknown_ones_passed_over() {
        let mut file = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28], true);
        file.extend(words(&[1, 20, 1, 0, 20], true));
        file.extend(words(&[5, 16, 9, 16], true));
        file.extend(words(&[6, 36, 0, 0, 0, 3, 3, 0x0007_0707, 36], true));
        file.extend(words(&[3, 20, 4, 0x0707_0707, 20], true));
        assert_eq!(frames(&file, 10).unwrap(), [vec![7; 3], vec![7; 4]]);
    }

    #[test]
    fn what_is_no_capture_is_told() {
        for (file, why) in [
            (b"hello".to_vec(), "it is no capture file"),
            (Vec::new(), "it is no capture file"),
            (classic_file(true, 0xa1b2_c3d4, 113), "its link type is 113"),
            (classic_file(true, 0xa1b2_c3d4, 1)[..60].to_vec(), "it is cut off"),
            (words(&[0x0a0d_0d0a, 8, 0x1a2b_3c4d], true), "a block of 8 bytes"),
            (words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1], true), "it is cut off"),
        ] {
            assert!(frames(&file, 10).unwrap_err().starts_with(why), "{file:?}: {:?}", frames(&file, 10));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(magic in 0_usize..3, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let heads: [&[u8]; 3] = [&[0xd4, 0xc3, 0xb2, 0xa1], &[0x0a, 0x0d, 0x0d, 0x0a], &[]];
            let _ = frames(&[heads[magic], &bytes].concat(), 10);
        }
    }
}
