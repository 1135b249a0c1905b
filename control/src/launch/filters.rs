//! Filters of captures, compiled by libpcap, whose language everybody knows. A program is made for each worker, and runs
//! there without memory of its own.

use pcap::{BpfProgram, Capture, Linktype};
use worker::FrameFilter;

/// A compiled filter.
struct Filter(BpfProgram);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Filter").field(&self.0.get_instructions().len()).finish()
    }
}

impl FrameFilter for Filter {
    fn wants(&self, frame: &[u8]) -> bool {
        self.0.filter(frame)
    }
}

/// The filter that this text is.
///
/// # Errors
/// libpcap's sentence.
pub(super) fn compile(text: &str) -> Result<Box<dyn FrameFilter>, String> {
    let compiled = Capture::dead(Linktype::ETHERNET).and_then(|ethernet| ethernet.compile(text, true));
    match compiled {
        Ok(program) => Ok(Box::new(Filter(program))),
        Err(error) => Err(format!("`{text}` is no filter: {error}; see pcap-filter(7)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::description::Description;

    #[test]
    fn filters_let_through_what_they_say() {
        let frame = |text: &str| Description::parse(text).unwrap().frame(wire::MacAddr::ZERO);
        let udp = frame("udp 192.0.2.1:1234 > 198.51.100.10:80 port outside");
        let v6 = frame("tcp [2001:db8::1]:1234 > [2001:db8:1::10]:443 port outside");
        for (filter, wanted) in [
            ("udp", [true, false]),
            ("host 192.0.2.1 and port 80", [true, false]),
            ("ip6 and tcp dst port 443", [false, true]),
            ("tcp[tcpflags] & tcp-syn != 0", [false, false]),
            ("ip or ip6", [true, true]),
            ("greater 1000", [false, false]),
        ] {
            let filter = compile(filter).unwrap();
            assert_eq!([filter.wants(&udp), filter.wants(&v6)], wanted, "{filter:?}");
        }
        assert!(compile("udp").unwrap().wants(&[]) || !compile("udp").unwrap().wants(&[]), "no frame is too short");
        assert!(compile("bad luck").unwrap_err().contains("is no filter"));
    }
}
