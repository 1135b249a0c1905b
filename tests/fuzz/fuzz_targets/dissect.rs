//! Any bytes as a frame: the reader ends, its facts lie inside the frame, checks only ever refuse more, and what reads the
//! discovery message behind the facts ends too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{Content, Fragment, Frame, Transport, Verify, dissect, ndp};

/// Everything the facts point at is inside the frame.
fn inside(frame: &Frame, len: usize) {
    assert!(usize::from(frame.link.payload) <= len);
    if let Content::Ip(facts) = &frame.content {
        let (network, transport, end) =
            (usize::from(facts.network), usize::from(facts.transport_offset), usize::from(facts.end));
        assert!(usize::from(frame.link.payload) == network && network < transport && transport <= end && end <= len);
        match facts.transport {
            Transport::Tcp(tcp) => {
                assert!(transport + 20 + usize::from(tcp.payload) <= end || facts.fragment != Fragment::No)
            }
            Transport::IcmpError { quote, .. } => {
                assert!(usize::from(quote.network) >= transport + 8);
                assert!(usize::from(quote.network) < usize::from(quote.transport_offset));
            }
            _ => {}
        }
        assert_eq!(facts.fragment == Fragment::Later, facts.transport == Transport::Unknown);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [all, nothing, partial] = [Verify::All, Verify::Nothing, Verify::Partial].map(|verify| dissect(bytes, verify));
    for frame in [&all, &nothing, &partial].into_iter().flatten() {
        inside(frame, bytes.len());
        if let Content::Ip(facts) = &frame.content {
            let _ = ndp::neighbor_message(bytes, facts);
        }
    }
    if let Ok(frame) = all {
        // What verifies is read the same without verifying.
        assert_eq!(nothing.as_ref(), Ok(&frame));
        assert!(partial.is_ok());
    }
});
