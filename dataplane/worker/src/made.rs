//! Segments of the appliance's making for connections that began with a SYN cookie, or whose backend is told of its client
//! ([`join`](crate::join), [`introduce`](crate::introduce)): what they say, and their bytes. They wait in
//! [`Splices`](crate::splice::Splices) until the turn ends.

use stage::introduction::{HEADER_MAX, Introduction, OPTION_MAX, option, proxy_header};
use units::PortId;
use wire::emit::{self, Segment};
use wire::tcp_options::OPTIONS_MAX;
use wire::{Endpoints, MacAddr, SeqNumber, TcpFlags, TcpOptions};

/// Who a backend's client is: the client's and the service's ends, as the client knows them, and how they are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) how: Introduction,
    pub(crate) asked: Endpoints,
    pub(crate) ports: [u16; 2],
}

/// A segment of the appliance's making, on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) port: PortId,
    pub(crate) source_mac: MacAddr,
    pub(crate) destination_mac: MacAddr,
    pub(crate) endpoints: Endpoints,
    pub(crate) ports: [u16; 2],
    pub(crate) sequence: SeqNumber,
    pub(crate) acknowledgment: SeqNumber,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: TcpOptions,
    /// Whom it introduces.
    pub(crate) introduces: Option<Named>,
}

impl Made {
    /// The longest of them: Ethernet, IPv6, TCP with all its options, and a header that introduces a client.
    pub(crate) const LONGEST: usize = 14 + 40 + 20 + OPTIONS_MAX + HEADER_MAX;

    /// Writes the frame; returns its bytes.
    pub(crate) fn write(&self, out: &mut [u8]) -> Option<usize> {
        let (mut options, mut name, mut header) = ([0; OPTIONS_MAX], [0; OPTION_MAX], [0; HEADER_MAX]);
        let (first, payload) = match self.introduces {
            Some(Named { how: Introduction::ProxyV2, asked, ports }) => (0, proxy_header(&mut header, &asked, ports)),
            Some(Named { how: Introduction::TcpOption, asked, ports: [port, _] }) => {
                (option(&mut name, (asked.source(), port)), 0)
            }
            None => (0, 0),
        };
        let len = first + self.options.write(&mut options);
        options.copy_within(..len - first, first);
        options.get_mut(..first)?.copy_from_slice(name.get(..first)?);
        let [source_port, destination_port] = self.ports;
        let segment = Segment {
            source_port,
            destination_port,
            sequence: self.sequence,
            acknowledgment: self.acknowledgment,
            flags: self.flags,
            window: self.window,
            options: options.get(..len)?,
            payload: header.get(..payload)?,
        };
        emit::tcp_segment_to(out, self.source_mac, self.destination_mac, &self.endpoints, &segment)
    }
}
