//! Messages of IPFIX (RFC 7011 section 3): a header, and sets of records that one template describes. No message is larger than it
//! may be, and each says how many data records came before it, so that a collector knows what it has missed.

use super::Message;
use super::element::{INTERFACES, STATISTICS, TEMPLATES, Template, interface, write_name};
use super::entry::Entry;

/// Bytes of a message's header, and of a set's.
const HEADER: usize = 16;
const SET_HEADER: usize = 4;
const VERSION: u16 = 10;

/// Sets from this number on hold data records, which are counted.
const FIRST_DATA_SET: u16 = 256;

/// What the exporting process says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Milliseconds since 1970.
    pub(super) at: u64,
    pub(super) messages: u64,
    pub(super) sent: u64,
    pub(super) not_sent: u64,
}

/// A message being written, and the number of the next.
#[derive(Debug)]
pub(super) struct Messages {
    domain: u32,
    size_max: usize,
    /// Data records in all messages before this one.
    sequence: u32,
    bytes: Vec<u8>,
    /// The set at the end, and where it begins.
    set: Option<(u16, usize)>,
    /// Data records of this message, and how many of them are entries.
    records: u32,
    entries: u64,
    /// A record before it is known where it goes.
    record: Vec<u8>,
}

impl Messages {
    /// Messages of this observation domain, each of so many bytes at most.
    pub(super) fn new(domain: u32, size_max: usize) -> Self {
        Self { domain, size_max, sequence: 0, bytes: Vec::new(), set: None, records: 0, entries: 0, record: Vec::new() }
    }

    /// Begins anew, with a collector that has heard nothing.
    pub(super) fn begin(&mut self) {
        *self = Self::new(self.domain, self.size_max);
    }

    /// Describes every template.
    pub(super) fn describe(&mut self, at: u64, send: &mut impl FnMut(Message)) {
        for template in TEMPLATES {
            let mut record = core::mem::take(&mut self.record);
            template.describe(&mut record);
            self.add(template.set(), record, at, send);
        }
    }

    /// Says what the ports are called, and what has been sent and what not (RFC 7011 section 4.3).
    pub(super) fn introduce<'p>(
        &mut self,
        ports: impl Iterator<Item = (units::PortId, &'p str)>,
        statistics: &Statistics,
        send: &mut impl FnMut(Message),
    ) {
        for (port, name) in ports {
            let mut record = core::mem::take(&mut self.record);
            record.extend(interface(port).to_be_bytes());
            write_name(name, &mut record);
            self.add(INTERFACES.id, record, statistics.at, send);
        }
        let mut record = core::mem::take(&mut self.record);
        record.extend(self.domain.to_be_bytes());
        for number in [statistics.at, statistics.messages, statistics.sent, statistics.not_sent] {
            record.extend(number.to_be_bytes());
        }
        self.add(STATISTICS.id, record, statistics.at, send);
    }

    /// Adds an entry; a message that has no room for it is sent first.
    pub(super) fn enter(&mut self, entry: &Entry<'_>, send: &mut impl FnMut(Message)) {
        let template = Template::of(entry);
        let mut record = core::mem::take(&mut self.record);
        template.write(entry, &mut record);
        self.add(template.id, record, entry.at, send);
        self.entries += 1;
    }

    fn add(&mut self, set: u16, mut record: Vec<u8>, at: u64, send: &mut impl FnMut(Message)) {
        let same_set = self.set.is_some_and(|(id, _)| id == set);
        let header = if same_set { 0 } else { SET_HEADER };
        if !self.bytes.is_empty() && self.bytes.len() + header + record.len() > self.size_max {
            self.finish(at, send);
        }
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER, 0);
        }
        if self.set.is_none_or(|(id, _)| id != set) {
            self.end_set();
            self.set = Some((set, self.bytes.len()));
            self.bytes.extend(set.to_be_bytes());
            self.bytes.extend([0; 2]);
        }
        self.bytes.extend(&record);
        self.records += u32::from(set >= FIRST_DATA_SET);
        record.clear();
        self.record = record;
    }

    /// Writes how long the set at the end is.
    fn end_set(&mut self) {
        let Some((_, begin)) = self.set.take() else { return };
        let length = u16::try_from(self.bytes.len() - begin).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(begin + 2..begin + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Sends what there is; `at` is when, milliseconds since 1970.
    pub(super) fn finish(&mut self, at: u64, send: &mut impl FnMut(Message)) {
        if self.bytes.is_empty() {
            return;
        }
        self.end_set();
        let length = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        // Seconds of 32 bits until 2106 (RFC 7011 section 3.1).
        let seconds = u32::try_from(at / 1_000).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(HEADER);
        header.extend(VERSION.to_be_bytes());
        header.extend(length.to_be_bytes());
        for word in [seconds, self.sequence, self.domain] {
            header.extend(word.to_be_bytes());
        }
        if let Some(place) = self.bytes.get_mut(..HEADER) {
            place.copy_from_slice(&header);
        }
        self.sequence = self.sequence.wrapping_add(self.records);
        self.records = 0;
        let bytes = core::mem::take(&mut self.bytes);
        send(Message { bytes, entries: core::mem::take(&mut self.entries) });
    }
}
