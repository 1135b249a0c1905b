//! IPv4 lengths, checksum, options, fragments.

use super::*;
use crate::packets::{
    DESTINATION_V4, SOURCE_V4, SYN, facts, fault, naive, read, seal, seal_header, tcp, udp, v4, v4_with,
};
use crate::{Endpoints, Transport};

fn good() -> Vec<u8> {
    seal(v4(17, &udp(b"payload")))
}

#[test]
fn bytes_and_fields_agree() {
    let frame = v4_with(6, &[], 0x6123, &[0; 8]);
    let (header, packet) = Ipv4Header::split(&frame[14..]).unwrap();
    assert_eq!((header.version(), header.header_len(), header.total_length()), (4, 20, 28));
    assert!(header.dont_fragment() && header.more_fragments());
    assert_eq!((header.fragment_offset(), header.ttl(), header.protocol()), (0x123, 63, 6));
    assert_eq!((header.source().octets(), header.destination().octets()), (SOURCE_V4, DESTINATION_V4));
    assert_eq!(packet.len(), 28);

    let written = Ipv4Header::new(0xc0, 28, 9, 6, SOURCE_V4.into(), DESTINATION_V4.into());
    assert_eq!(naive(written.as_bytes()), 0);
    let (read, _) = Ipv4Header::ref_from_prefix(written.as_bytes()).unwrap();
    assert_eq!((read.traffic_class, read.total_length(), read.ttl(), read.protocol()), (0xc0, 28, 9, 6));
    assert!(read.dont_fragment() && !read.more_fragments());
}

#[test]
fn setters_keep_the_checksum_right() {
    let mut header = Ipv4Header::new(0, 28, 9, 17, SOURCE_V4.into(), DESTINATION_V4.into());
    for ttl in [0, 1, 64, 255, 9] {
        header.set_ttl(ttl);
        header.swap_addresses();
        assert_eq!(naive(header.as_bytes()), 0, "{ttl}");
    }
}

#[test]
fn a_whole_packet_is_read() {
    let facts = facts(&good());
    assert_eq!((facts.network, facts.transport_offset, facts.end), (14, 34, 49));
    assert_eq!((facts.protocol, facts.hop_limit, facts.dont_fragment), (17, 63, false));
    assert_eq!(facts.fragment, Fragment::No);
    let endpoints = Endpoints::V4 { source: SOURCE_V4.into(), destination: DESTINATION_V4.into() };
    assert_eq!(facts.endpoints, endpoints);
}

/// MAL-02: IHL 0 to 15 against total lengths that are right and wrong, 80 verdicts.
#[test]
fn only_consistent_lengths_pass() {
    let mut verdicts = 0;
    for ihl in 0..16_u8 {
        let header = usize::from(ihl) * 4;
        // NOP options up to the header's length, then eight bytes of a protocol nobody reads.
        let right = header.max(20) + 8;
        for total in [0, header.saturating_sub(1), right, right + 1, 65_535] {
            let mut frame = v4(99, &vec![1; right - 20]);
            frame[14] = 0x40 | ihl;
            frame[16..18].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
            seal_header(&mut frame);
            let expected = if ihl < 5 {
                Some(Malformed::Ipv4HeaderLength)
            } else if total != right {
                Some(Malformed::Ipv4TotalLength)
            } else {
                None
            };
            assert_eq!(fault(&frame), expected, "IHL {ihl}, total length {total}");
            verdicts += 1;
        }
    }
    assert_eq!(verdicts, 80);
}

#[test]
fn a_header_beyond_the_frame_is_refused() {
    let mut frame = v4(99, &[0; 8]);
    frame[14] = 0x4f;
    assert_eq!(fault(&frame), Some(Malformed::Ipv4HeaderLength));
}

/// MAL-03 (CVE-2020-35498): 0 to 200 bytes of padding change nothing.
#[test]
fn padding_changes_nothing() {
    for segment in [seal(v4(6, &tcp(SYN, &[], b"abc"))), good(), v4(99, b"xyz")] {
        let unpadded = read(&segment).unwrap();
        for padding in 0..=200 {
            let padded = [&segment[..], &vec![0x5a; padding]].concat();
            assert_eq!(read(&padded), Ok(unpadded));
        }
    }
}

/// MAL-05: any one bit of the header wrong.
#[test]
fn a_flipped_header_bit_is_refused() {
    let good = good();
    for bit in 0..160 {
        let mut frame = good.clone();
        frame[14 + bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0 if bit % 8 >= 4 => Malformed::Ipv4Version,
            // The IHL: from 5 to 4, 7, 1, 13.
            0 if matches!(bit, 0 | 2) => Malformed::Ipv4HeaderLength,
            0 if bit == 3 => Malformed::Ipv4HeaderLength,
            // The total length: beyond the frame, or below what it was; a smaller one still has a wrong checksum.
            2 | 3 if usize::from(frame[16]) * 256 + usize::from(frame[17]) > 35 => Malformed::Ipv4TotalLength,
            2 | 3 if frame[17] < 20 => Malformed::Ipv4TotalLength,
            _ => Malformed::Ipv4Checksum,
        };
        assert_eq!(fault(&frame), Some(expected), "bit {bit}");
        let unverified = crate::dissect(&frame, Verify::Nothing);
        assert!(expected != Malformed::Ipv4Checksum || unverified.err() != Some(Malformed::Ipv4Checksum));
    }
}

#[test]
fn another_version_is_refused() {
    for version in (0..16_u8).filter(|&version| version != 4) {
        let mut frame = good();
        frame[14] = version << 4 | 5;
        assert_eq!(fault(&frame), Some(Malformed::Ipv4Version));
    }
}

#[test]
fn options_are_walked_within_their_bounds() {
    let bare = seal(v4(17, &udp(b"payload")));
    for (options, expected) in [
        (&[1, 1, 1, 1][..], None),
        (&[0, 9, 9, 9], None),
        (&[148, 4, 0, 0], None),
        (&[7, 7, 4, 0, 0, 0, 0, 0], None),
        (&[1; 40], None),
        (&[148, 1, 0, 0], Some(Malformed::Ipv4Options)),
        (&[148, 0, 0, 0], Some(Malformed::Ipv4Options)),
        (&[148, 5, 0, 0], Some(Malformed::Ipv4Options)),
        (&[1, 1, 1, 7], Some(Malformed::Ipv4Options)),
        (&[131, 7, 4, 192, 0, 2, 9, 0], Some(Malformed::Ipv4SourceRoute)),
        (&[1, 137, 7, 4, 192, 0, 2, 9], Some(Malformed::Ipv4SourceRoute)),
    ] {
        let frame = seal(v4_with(17, options, 0, &bare[34..]));
        assert_eq!(fault(&frame), expected, "{options:?}");
        if expected.is_none() {
            assert_eq!(usize::from(facts(&frame).transport_offset), 34 + options.len());
        }
    }
}

/// RFC 2131: the one packet from 0.0.0.0.
#[test]
fn only_a_dhcp_client_speaks_from_nowhere() {
    let from_nowhere = |ports: [u8; 4], destination: [u8; 4]| {
        let mut frame = v4(17, &[&ports[..], &[0, 9, 0, 0, 7]].concat());
        frame[26..30].fill(0);
        frame[30..34].copy_from_slice(&destination);
        seal_header(&mut frame);
        fault(&seal(frame))
    };
    assert_eq!(from_nowhere([0, 68, 0, 67], [255; 4]), None);
    assert_eq!(from_nowhere([0, 68, 0, 67], [127, 0, 0, 1]), Some(Malformed::SourceLoopback));
    assert_eq!(from_nowhere([0, 68, 0, 69], [255; 4]), Some(Malformed::SourceUnspecified));
}

/// EVA-01, EVA-02, EVA-04 and RFC 1858: what a fragment may look like.
#[test]
fn fragments_are_told_apart_and_judged() {
    const MORE: u16 = 0x2000;
    for (protocol, cut, segment, expected) in [
        (6, MORE, tcp(SYN, &[], &[0; 4]), Ok(Fragment::First)),
        (6, MORE, tcp(SYN, &[1; 12], &[]), Ok(Fragment::First)),
        (17, MORE, vec![3, 232, 0, 53, 0, 99, 0, 0], Ok(Fragment::First)),
        (1, MORE, vec![8; 8], Ok(Fragment::First)),
        (99, MORE, vec![1; 8], Ok(Fragment::First)),
        (6, MORE | 3, vec![0; 8], Ok(Fragment::Later)),
        (6, 3, vec![0; 1], Ok(Fragment::Later)),
        (17, 1, vec![0; 5], Ok(Fragment::Later)),
        (6, MORE, tcp(SYN, &[], &[])[..8].to_vec(), Err(Malformed::FragmentTiny)),
        (6, MORE, tcp(SYN, &[], &[])[..16].to_vec(), Err(Malformed::FragmentTiny)),
        (6, MORE, tcp(SYN, &[1; 12], &[])[..24].to_vec(), Err(Malformed::FragmentTiny)),
        (6, 1, vec![0; 8], Err(Malformed::FragmentTiny)),
        (6, MORE | 1, vec![0; 8], Err(Malformed::FragmentTiny)),
        (6, 2, vec![0; 8], Err(Malformed::FragmentTiny)),
        (17, MORE, vec![], Err(Malformed::FragmentTiny)),
        (17, 7, vec![], Err(Malformed::FragmentTiny)),
        (17, MORE, udp(b"payload"), Err(Malformed::FragmentLength)),
        (17, MORE | 5, vec![0; 9], Err(Malformed::FragmentLength)),
        (1, 0x1fff, vec![0; 1], Err(Malformed::FragmentLength)),
        (1, 8_188, vec![0; 12], Err(Malformed::FragmentLength)),
        (1, 8_188, vec![0; 11], Ok(Fragment::Later)),
        // A UDP length that the first fragment alone already fulfils.
        (17, MORE, udp(&[0; 8]), Err(Malformed::UdpLength)),
        // A data offset no length can mend.
        (
            6,
            MORE,
            {
                let mut s = tcp(SYN, &[], &[0; 4]);
                s[12] = 0x40;
                s
            },
            Err(Malformed::TcpDataOffset),
        ),
    ] {
        let frame = v4_with(protocol, &[], cut, &segment);
        let verdict = read(&frame).map(|_| facts(&frame).fragment);
        assert_eq!(verdict, expected, "protocol {protocol}, {cut:#06x}, {} bytes", segment.len());
        if verdict == Ok(Fragment::Later) {
            assert_eq!(facts(&frame).transport, Transport::Unknown);
        }
    }
}
