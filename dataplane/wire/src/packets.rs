//! Packets for this crate's tests, put together byte by byte with sums of their own, so that nothing under test takes part.

use crate::{Content, Facts, Frame, Malformed, Verify, dissect};

pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const SOURCE_V4: [u8; 4] = [192, 0, 2, 1];
pub(crate) const DESTINATION_V4: [u8; 4] = [198, 51, 100, 2];
pub(crate) const SOURCE_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const DESTINATION_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 2];

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// The checksum, word by word.
pub(crate) fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !u16::try_from(sum).unwrap()
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    [&OUR_MAC[..], &THEIR_MAC, &ethertype.to_be_bytes()].concat()
}

/// A frame with an IPv4 packet: `options` a multiple of 4 bytes, `cut` the flags and fragment offset.
pub(crate) fn v4_with(protocol: u8, options: &[u8], cut: u16, segment: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let header_len = 20 + options.len();
    let total = u16::try_from(header_len + segment.len()).unwrap();
    frame.extend([0x40 | u8::try_from(header_len / 4).unwrap(), 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0x12, 0x34]);
    frame.extend(cut.to_be_bytes());
    frame.extend([63, protocol, 0, 0]);
    frame.extend(SOURCE_V4);
    frame.extend(DESTINATION_V4);
    frame.extend(options);
    frame.extend(segment);
    seal_header(&mut frame);
    frame
}

pub(crate) fn v4(protocol: u8, segment: &[u8]) -> Vec<u8> {
    v4_with(protocol, &[], 0, segment)
}

pub(crate) fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([next, 63]);
    frame.extend(SOURCE_V6);
    frame.extend(DESTINATION_V6);
    frame.extend(payload);
    frame
}

/// Makes the IPv4 header checksum of an untagged frame right; the IHL is trusted as far as the bytes go.
pub(crate) fn seal_header(frame: &mut [u8]) {
    let end = (14 + usize::from(frame[14] & 15) * 4).clamp(34, frame.len());
    frame[24..26].fill(0);
    let checksum = naive(&frame[14..end]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// Makes the checksum right of the transport header at `at`, of `protocol`, in an untagged frame without padding.
pub(crate) fn seal_at(mut frame: Vec<u8>, at: usize, protocol: u8) -> Vec<u8> {
    let field = at
        + match protocol {
            6 => 16,
            17 => 6,
            _ => 2,
        };
    if frame.len() < field + 2 {
        return frame;
    }
    frame[field..field + 2].fill(0);
    let len = u32::try_from(frame.len() - at).unwrap().to_be_bytes();
    let addresses = if frame[14] >> 4 == 4 { 26..34 } else { 22..54 };
    let mut summed = Vec::new();
    if protocol != 1 {
        summed.extend(&frame[addresses]);
        summed.extend(len);
        summed.extend([0, 0, 0, protocol]);
    }
    summed.extend(&frame[at..]);
    let checksum = match naive(&summed) {
        0 if protocol == 17 => 0xffff,
        checksum => checksum,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// As [`seal_at`], for a frame whose transport header follows the IP header.
pub(crate) fn seal(frame: Vec<u8>) -> Vec<u8> {
    if frame[14] >> 4 == 4 {
        let (at, protocol) = (14 + usize::from(frame[14] & 15) * 4, frame[23]);
        seal_at(frame, at, protocol)
    } else {
        let protocol = frame[20];
        seal_at(frame, 54, protocol)
    }
}

/// A segment from port 1000 to 80 without checksum; `options` a multiple of 4 bytes.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x03, 0xe8, 0, 80, 0, 0, 0x10, 0, 0, 0, 0x20, 0];
    segment.extend([u8::try_from(5 + options.len() / 4).unwrap() << 4, flags, 0x40, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A datagram from port 1000 to 53 without checksum.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x03, 0xe8, 0, 53];
    segment.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    segment
}

/// A message without checksum.
pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], message: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0][..], &rest, message].concat()
}

/// The frame with `tags` behind its Ethernet header.
pub(crate) fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// The facts of an IP packet that must be one.
pub(crate) fn facts(frame: &[u8]) -> Facts {
    match read(frame) {
        Ok(Frame { content: Content::Ip(facts), .. }) => facts,
        other => panic!("not an IP packet: {other:?}"),
    }
}

pub(crate) fn read(frame: &[u8]) -> Result<Frame, Malformed> {
    dissect(frame, Verify::All)
}

/// Why a frame is refused, `None` when it is not.
pub(crate) fn fault(frame: &[u8]) -> Option<Malformed> {
    read(frame).err()
}
