//! A frame in one line, for the tables of what was wanted and what came.

use core::fmt::Write as _;

use wire::{Content, Transport, Verify, dissect};

/// Reads a frame aloud; what does not dissect is shown as bytes.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    let mut line = String::new();
    match dissect(bytes, Verify::All) {
        Ok(frame) => {
            let _ = write!(line, "{} > {}", frame.link.source, frame.link.destination);
            match frame.content {
                Content::Ip(ip) => {
                    let (source, destination) = (ip.endpoints.source(), ip.endpoints.destination());
                    let _ = write!(line, "  {source} > {destination} hops {}", ip.hop_limit);
                    let _ = match ip.transport {
                        Transport::Tcp(tcp) => write!(
                            line,
                            "  tcp {} > {} [{}] seq {} ack {} window {} data {}",
                            tcp.source_port,
                            tcp.destination_port,
                            tcp.flags,
                            tcp.sequence,
                            tcp.acknowledgment,
                            tcp.window,
                            tcp.payload
                        ),
                        other => write!(line, "  {other:?}"),
                    };
                }
                other => {
                    let _ = write!(line, "  {other:?}");
                }
            }
        }
        Err(fault) => {
            let _ = write!(line, "not right ({fault})");
        }
    }
    let _ = write!(line, "\n            ");
    for (position, byte) in bytes.iter().enumerate() {
        let _ = write!(line, "{byte:02x}{}", if matches!(position, 5 | 11 | 13 | 33 | 53) { " " } else { "" });
    }
    line
}
