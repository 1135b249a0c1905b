//! One trial: for a given time the streams send at their rates, what arrives is answered and counted, and then it waits
//! until nothing is under way any more. Generic over devices, so that tests run it over memory; on one thread, which owns
//! both devices. A turn receives everything first: a receiver that lets its ring fill up would make the appliance lose
//! packets, and only what is late in sending is told apart from what the appliance loses.

use frame::{Buffer, BufferPool, Burst, Nic};
use wire::{MacAddr, Verify, dissect};

use super::clients::is_client_port;
use super::connection::{Connection, Event, Outgoing, Step};
use super::frame::Packet;
use super::server;
use super::stamp::Stamp;
use super::stream::{Side, Stream, Work};
use super::tally::Tally;
use crate::traffic::{FCS, Size};

/// One arriving packet of so many is read as a receiver would, checksums and all.
pub const JUDGED: u32 = 64;
/// One stamped packet of so many has its time recorded.
pub const TIMED: u32 = 8;
/// Bursts taken from a device in one turn.
const BURSTS: usize = 8;
/// Packets a stream sends in one turn.
const GRANT: u64 = 32;
/// Connections looked after in one turn.
const LOOKS: u64 = 64;
/// How long nothing may arrive before a trial is over, in milliseconds; and how long that is waited for.
const QUIET_MS: u64 = 20;
const DRAIN_MS: u64 = 1_000;

/// Where packets go in and come out: two devices, a pool, and the stations the packets are addressed to.
#[derive(Debug)]
pub struct Wires<N: Nic, P> {
    pool: P,
    ends: [End<N>; 2],
}

/// One device.
#[derive(Debug)]
struct End<N: Nic> {
    nic: N,
    out: Burst<N::Buffer>,
    /// The generator's station on this side, and the appliance's.
    stations: (MacAddr, MacAddr),
    /// Numbers the stamps.
    sequence: u32,
    /// The last stamp seen.
    seen: Option<u32>,
    arrivals: u32,
}

/// The parameters of a trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Tells its packets from an earlier one's.
    pub number: u16,
    /// Seconds of sending.
    pub seconds: f64,
    /// Cycles of the counter in a second.
    pub hertz: f64,
    /// Whether servers answer datagrams.
    pub answered: bool,
    /// Sizes of the frames that answer a request over TCP.
    pub responses: Size,
}

impl<N: Nic, P: BufferPool<Buffer = N::Buffer>> Wires<N, P> {
    /// Outside and inside device, each with the generator's station and the appliance's.
    pub fn new(pool: P, outside: (N, MacAddr, MacAddr), inside: (N, MacAddr, MacAddr)) -> Self {
        let end = |(nic, ours, theirs)| End {
            nic,
            out: Burst::new(),
            stations: (ours, theirs),
            sequence: 0,
            seen: None,
            arrivals: 0,
        };
        Self { pool, ends: [end(outside), end(inside)] }
    }

    /// Takes what is still in the devices from before, and forgets it.
    pub fn clear(&mut self) {
        for end in &mut self.ends {
            let mut burst = Burst::new();
            while end.nic.receive(&mut burst) > 0 {
                burst.clear();
            }
            end.seen = None;
        }
    }

    /// Runs a trial. `cycles` reads the counter; the second half of what is returned says so when there was no memory for
    /// a histogram.
    ///
    /// # Errors
    /// As [`Tally::new`].
    pub fn run(
        &mut self,
        streams: &mut [Stream],
        trial: &Trial,
        mut cycles: impl FnMut() -> u64,
    ) -> Result<Tally, hdrhistogram::CreationError> {
        let mut tally = Tally::new(trial.hertz)?;
        self.clear();
        let start = cycles();
        for stream in streams.iter_mut() {
            stream.begin(trial.hertz, start);
        }
        let per_ms = whole(trial.hertz / 1_000.0).max(1);
        let end = start.saturating_add(whole(trial.seconds * trial.hertz));
        let mut quiet_since = end;
        loop {
            let now = cycles();
            let moment = Moment { cycles: now, ms: low(now / per_ms) };
            let arrived = self.take(streams, trial, moment, &mut tally);
            for stream in streams.iter_mut() {
                if now < end {
                    self.offer(stream, trial, moment, &mut tally);
                }
                self.look_after(stream, trial, moment, start, &mut tally);
            }
            for index in 0..2 {
                self.flush(index, &mut tally);
            }
            if arrived > 0 && now > end {
                quiet_since = now;
            }
            if now > quiet_since + QUIET_MS * per_ms || now > end + DRAIN_MS * per_ms {
                break;
            }
        }
        tally.seconds = trial.seconds;
        tally.late = streams.iter().map(|stream| stream.pace.late()).sum();
        tally.done = streams.iter().map(|stream| stream.pace.granted()).sum();
        Ok(tally)
    }

    /// Receives on both sides and answers.
    fn take(&mut self, streams: &mut [Stream], trial: &Trial, moment: Moment, tally: &mut Tally) -> usize {
        let mut arrived = 0;
        for side in [Side::Outside, Side::Inside] {
            for _ in 0..BURSTS {
                let mut burst = Burst::new();
                let Some(end) = self.ends.get_mut(side.index()) else { break };
                let count = end.nic.receive(&mut burst);
                arrived += count;
                for buffer in burst {
                    self.arrive(side, buffer, streams, trial, moment, tally);
                }
                if count < units::limits::BURST {
                    break;
                }
            }
        }
        arrived
    }

    fn arrive(
        &mut self,
        side: Side,
        buffer: N::Buffer,
        streams: &mut [Stream],
        trial: &Trial,
        moment: Moment,
        tally: &mut Tally,
    ) {
        let index = side.index();
        let Some(end) = self.ends.get_mut(index) else { return };
        let Some((packet, payload)) = Packet::read(buffer.bytes()) else {
            tally.strange += 1;
            return;
        };
        if let Some(stamp) = Stamp::read(payload) {
            if stamp.trial() != trial.number {
                return;
            }
            let sequence = stamp.sequence();
            if end.seen.is_some_and(|seen| sequence.wrapping_sub(seen).cast_signed() <= 0) {
                tally.reordered += 1;
            }
            end.seen = Some(sequence);
            if sequence.is_multiple_of(TIMED) {
                tally.latency.record(moment.cycles.saturating_sub(stamp.cycles()));
            }
        }
        count(&mut tally.received, index, 1);
        count(&mut tally.received_bytes, index, buffer.bytes().len() as u64 + u64::from(FCS));
        end.arrivals = end.arrivals.wrapping_add(1);
        if end.arrivals.is_multiple_of(JUDGED) && dissect(buffer.bytes(), Verify::All).is_err() {
            tally.malformed += 1;
        }
        if is_client_port(packet.destination_port) {
            self.deliver(side, &packet, buffer, streams, trial, moment, tally);
        } else {
            self.serve(side, &packet, buffer, trial, moment, tally);
        }
    }

    fn serve(
        &mut self,
        side: Side,
        packet: &Packet,
        buffer: N::Buffer,
        trial: &Trial,
        moment: Moment,
        tally: &mut Tally,
    ) {
        let mut reply = packet.reversed();
        if let Some(segment) = &packet.tcp {
            let is_v6 = packet.endpoints.is_v6();
            let response = payload_of(trial.responses, segment.sequence >> 4, is_v6, true);
            let Some(Outgoing { segment, payload }) = server::answer(segment, packet.payload, response) else { return };
            (reply.tcp, reply.payload) = (Some(segment), payload);
        } else if !trial.answered {
            return;
        }
        self.send(side, buffer, &reply, trial, moment, tally);
    }

    #[expect(clippy::too_many_arguments, reason = "a packet and everything it may change")]
    fn deliver(
        &mut self,
        side: Side,
        packet: &Packet,
        buffer: N::Buffer,
        streams: &mut [Stream],
        trial: &Trial,
        moment: Moment,
        tally: &mut Tally,
    ) {
        let Some(segment) = &packet.tcp else { return };
        let (address, port) = (packet.endpoints.destination(), packet.destination_port);
        let found = streams.iter_mut().filter(|stream| stream.side == side).find_map(|stream| {
            let number = stream.clients.number(address, port)?;
            let Work::Connections { habits, table, .. } = &mut stream.work else { return None };
            let connection = table.get_mut(usize::try_from(number).ok()?)?;
            Some(connection.receive(*habits, moment.ms, segment, packet.payload))
        });
        let Some(step) = found else {
            tally.strange += 1;
            return;
        };
        self.follow(side, &packet.reversed(), step, Some(buffer), trial, moment, tally);
    }

    /// Sends what a connection's step says; the first segment goes in `buffer` if there is one.
    #[expect(clippy::too_many_arguments, reason = "a step and everything it may change")]
    fn follow(
        &mut self,
        side: Side,
        from: &Packet,
        step: Step,
        mut buffer: Option<N::Buffer>,
        trial: &Trial,
        moment: Moment,
        tally: &mut Tally,
    ) {
        record(tally, step.event);
        for Outgoing { segment, payload } in step.out {
            let Some(buffer) = buffer.take().or_else(|| self.pool.allocate()) else {
                tally.without_buffer += 1;
                return;
            };
            self.send(side, buffer, &Packet { tcp: Some(segment), payload, ..*from }, trial, moment, tally);
        }
    }

    /// Sends what is due of a stream.
    fn offer(&mut self, stream: &mut Stream, trial: &Trial, moment: Moment, tally: &mut Tally) {
        let (side, clients) = (stream.side, stream.clients);
        for _ in 0..stream.pace.due(moment.cycles, GRANT) {
            match &mut stream.work {
                Work::Datagrams { order, place, sizes } => {
                    let Some(&client) = order.get(*place) else { return };
                    *place = if *place + 1 == order.len() { 0 } else { *place + 1 };
                    let mut packet = self.client_packet(side, &clients, client);
                    let number = self.ends.get(side.index()).map_or(0, |end| end.sequence);
                    packet.payload = payload_of(*sizes, number, packet.endpoints.is_v6(), false);
                    let Some(buffer) = self.pool.allocate() else {
                        tally.without_buffer += 1;
                        return;
                    };
                    self.send(side, buffer, &packet, trial, moment, tally);
                }
                Work::Connections { habits, table, place, .. } => {
                    let number = *place;
                    *place = if number + 1 >= clients.count { 0 } else { number + 1 };
                    let Some(connection) = usize::try_from(number).ok().and_then(|at| table.get_mut(at)) else {
                        return;
                    };
                    let step = connection.visit(*habits, moment.ms);
                    if step.out.is_empty() {
                        tally.idle += 1;
                        continue;
                    }
                    let packet = self.client_packet(side, &clients, number);
                    self.follow(side, &packet, step, None, trial, moment, tally);
                }
            }
        }
    }

    /// Repeats what was not answered and ends what has rested, all connections in turn, four times a second.
    fn look_after(&mut self, stream: &mut Stream, trial: &Trial, moment: Moment, start: u64, tally: &mut Tally) {
        let (side, clients) = (stream.side, stream.clients);
        let Work::Connections { habits, table, hand, .. } = &mut stream.work else { return };
        let passed = u128::from(moment.cycles.saturating_sub(start)) * 4 * table.len() as u128;
        let wanted = u64::try_from(passed / u128::from(whole(trial.hertz).max(1))).unwrap_or(u64::MAX);
        let looks = wanted.saturating_sub(stream.looked).min(LOOKS);
        stream.looked += looks;
        for _ in 0..looks {
            let number = *hand;
            *hand = if number + 1 >= clients.count { 0 } else { number + 1 };
            let Some(connection): Option<&mut Connection> =
                usize::try_from(number).ok().and_then(|at| table.get_mut(at))
            else {
                return;
            };
            let step = connection.look(*habits, moment.ms);
            if step.event != Event::None {
                let packet = self.client_packet(side, &clients, number);
                self.follow(side, &packet, step, None, trial, moment, tally);
            }
        }
    }

    /// A packet of a client's, still without anything in it.
    fn client_packet(&self, side: Side, clients: &super::clients::Clients, number: u32) -> Packet {
        let (endpoints, source_port) = clients.tuple(number);
        let (source_mac, destination_mac) = self.ends.get(side.index()).map(|end| end.stations).unwrap_or_default();
        let destination_port = clients.service_port;
        Packet { source_mac, destination_mac, endpoints, source_port, destination_port, tcp: None, payload: 0 }
    }

    #[inline]
    fn send(
        &mut self,
        side: Side,
        mut buffer: N::Buffer,
        packet: &Packet,
        trial: &Trial,
        moment: Moment,
        tally: &mut Tally,
    ) {
        let index = side.index();
        let Some(end) = self.ends.get_mut(index) else { return };
        let stamp = Stamp::new(trial.number, end.sequence, moment.cycles);
        let stamped = usize::from(packet.payload) >= Stamp::LEN;
        if !packet.write(&mut buffer, stamped.then_some(&stamp)) {
            tally.without_buffer += 1;
            return;
        }
        if stamped {
            end.sequence = end.sequence.wrapping_add(1);
        }
        count(&mut tally.sent, index, 1);
        end.out.push(buffer);
        if end.out.is_full() {
            self.flush(index, tally);
        }
    }

    /// Hands the device what was made; what it does not take is lost.
    fn flush(&mut self, index: usize, tally: &mut Tally) {
        let Some(end) = self.ends.get_mut(index) else { return };
        if end.out.is_empty() {
            return;
        }
        end.nic.transmit(&mut end.out);
        if !end.out.is_empty() {
            count(&mut tally.refused, index, end.out.len() as u64);
            end.out.clear();
        }
    }
}

/// One reading of the clock: cycles, and milliseconds that wrap.
#[derive(Clone, Copy, Debug)]
struct Moment {
    cycles: u64,
    ms: u32,
}

/// Bytes of payload that give the frame numbered `number` its size, at least a stamp's.
fn payload_of(size: Size, number: u32, is_v6: bool, is_tcp: bool) -> u16 {
    let frame = usize::from(size.of(number.into()).saturating_sub(FCS));
    let payload = frame.saturating_sub(Packet::headers(is_v6, is_tcp)).max(Stamp::LEN);
    u16::try_from(payload).unwrap_or(u16::MAX)
}

fn count(both: &mut [u64; 2], index: usize, more: u64) {
    if let Some(one) = both.get_mut(index) {
        *one += more;
    }
}

fn record(tally: &mut Tally, event: Event) {
    let counts = &mut tally.connections;
    match event {
        Event::None => {}
        Event::Opened => counts.opened += 1,
        Event::Established => counts.established += 1,
        Event::Answered => counts.answered += 1,
        Event::Closed => counts.closed += 1,
        Event::Reset => counts.reset += 1,
        Event::Repeated => counts.repeated += 1,
        Event::GivenUp => counts.given_up += 1,
        Event::Stray => counts.stray += 1,
    }
}

/// A number of cycles.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and times are positive")]
const fn whole(value: f64) -> u64 {
    value as u64
}

/// The low half: milliseconds may wrap.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests;
