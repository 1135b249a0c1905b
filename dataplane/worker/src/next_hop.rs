//! The next hops one worker sends to, and the packets that wait for one to answer.
//!
//! A next hop is a (port, address) pair. The worker only remembers; asking (ARP, neighbor solicitation), retrying and
//! ageing are control's (`stage::forward::neighbors`), which answers with [`Command::Neighbor`](crate::Command). Sessions
//! name next hops by number and keep them alive; what no session names is reclaimed when the table is full, so a flood of
//! unknown targets cannot displace a neighbor in use (FLD-11).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use stage::translate::Hop;
use stage::{DropReason, Keyed};
use units::limits::{HELD_MAX, HELD_PER_NEIGHBOR, NEXT_HOPS_MAX, PAIRS_MAX};
use units::{PortId, TenantId, Tick};
use wire::MacAddr;

use crate::snapshot::{Pair, PortFacts};

/// The number of a next hop in this worker's table, or one of the special ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NextHopId(u16);

impl NextHopId {
    /// The kernel interface of the port the packet came by.
    pub(crate) const KERNEL: Self = Self(u16::MAX);
    /// Not known (yet): the session looks again on its next packet.
    pub(crate) const NONE: Self = Self(u16::MAX - 1);
    /// The tunnel to the session's backend.
    pub(crate) const TUNNEL: Self = Self(u16::MAX - 2);
    /// The connection began with a SYN cookie: its next hops are kept with what else is known of it (`splice`).
    pub(crate) const SPLICED: Self = Self(u16::MAX - 3);
    /// The IPv4 side of NAT64: packets become IPv4 first (`across`). The next hop is kept beside.
    pub(crate) const ACROSS: Self = Self(u16::MAX - 4);
    /// The IPv6 side of NAT64, for packets that have become IPv6. None comes as such, so the plain path must not know the way:
    /// the next hop is kept beside.
    pub(crate) const INSIDE: Self = Self(u16::MAX - 5);

    /// The service has tiers: where a packet goes depends on those it has passed (`tiers`); the backend's next hop is kept with
    /// the session's journey.
    pub(crate) const TIERED: Self = Self(u16::MAX - 6);

    /// The other port of a pair: the packet leaves in line, its link header as it came. Which port that is follows from
    /// the one it came by.
    #[must_use]
    pub(crate) const fn through(pair: Pair) -> Self {
        Self(THROUGH - pair.number)
    }

    /// As [`through`](Self::through), of a session of this tenant. The plain path, which compares no tenants, does not look at
    /// a tenant's: it never takes a packet for one of its session.
    #[must_use]
    pub(crate) fn through_for(pair: Pair, tenant: TenantId) -> Self {
        if tenant == TenantId::NONE { Self::through(pair) } else { Self(THROUGH_TENANT - pair.number) }
    }

    /// Whether this is a side of NAT64.
    #[must_use]
    pub(crate) const fn crosses(self) -> bool {
        matches!(self, Self::ACROSS | Self::INSIDE)
    }

    /// Whether this is a pair.
    #[must_use]
    pub(crate) const fn is_through(self) -> bool {
        self.0 <= THROUGH && self.0 >= THROUGH_LAST
    }

    /// The id with this number, as a session keeps it.
    #[must_use]
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number, as a session keeps it.
    #[must_use]
    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

/// The first pair; the others are below.
const THROUGH: u16 = u16::MAX - 7;
/// The first pair again, of tenants' sessions; the others are below.
const THROUGH_TENANT: u16 = THROUGH - 32;
/// The last of them.
const THROUGH_LAST: u16 = THROUGH_TENANT - 31;

const _: () = assert!((THROUGH - THROUGH_TENANT) as usize == PAIRS_MAX);
const _: () = assert!((THROUGH_TENANT - THROUGH_LAST) as usize + 1 == PAIRS_MAX);
const _: () = assert!(NEXT_HOPS_MAX <= THROUGH_LAST as usize);

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Control was asked at this tick.
    Asked(Tick),
    /// It answers at this MAC.
    Resolved(MacAddr),
    /// It did not answer; asked again one second after this tick.
    Failed(Tick),
}

/// Ticks after which a question is repeated or a failure doubted: one second.
const ASK_AGAIN: u64 = 4;

/// Ticks a packet waits at most: five seconds, longer than control goes on asking.
const HELD_TICKS_MAX: u64 = 20;

#[derive(Debug)]
struct NextHop {
    port: PortId,
    address: IpAddr,
    reach: Reach,
    /// When a packet was last told to wait for it.
    needed: Tick,
    sessions: u32,
    waiting: u16,
}

/// All that an established packet needs of its next hop, beside the slow facts. 18 bytes, so that three share a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    /// The MACs packets leave with.
    pub(crate) hop: Hop,
    /// The largest IP packet; 0 while the next hop does not answer, so that every packet is too large.
    pub(crate) mtu: u16,
    /// The port it is behind.
    pub(crate) port: PortId,
    /// It was sent to since control last asked.
    used: bool,
}

impl Exit {
    /// Nothing leaves here yet.
    const fn closed(port: PortId) -> Self {
        let hop = Hop { destination: MacAddr::ZERO, source: MacAddr::ZERO };
        Self { hop, mtu: 0, port, used: false }
    }
}

/// What to do with a packet for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Send it through this port to this MAC.
    Open(PortId, MacAddr),
    /// Hold it; ask control when `ask` says so.
    Wait {
        /// Whether control must be asked (again).
        ask: Option<(PortId, IpAddr)>,
    },
    /// It did not answer lately.
    Closed(PortId),
}

/// The next hops of one worker.
#[derive(Debug)]
pub(crate) struct NextHops<B> {
    entries: Vec<NextHop>,
    /// By the same numbers.
    exits: Vec<Exit>,
    /// MAC and MTU of the ports.
    ports: Vec<(MacAddr, u16)>,
    index: HashMap<(PortId, IpAddr), u16, Keyed>,
    waiting: VecDeque<(u16, Tick, B)>,
    hand: usize,
    /// The one given out last: whoever has it may be about to hold it, and asks for another first.
    lent: u16,
    /// When a packet was last told to wait.
    latest: Tick,
    /// The next hop that was asked for last of those whose addresses end in the same bits: a guess, proved by its entry.
    guesses: [u16; GUESSES],
}

/// Next hops that are found without the index.
const GUESSES: usize = 64;

/// The guess of an address behind a port.
const fn guess_of(port: PortId, address: &IpAddr) -> usize {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    (last as usize ^ port.index() << 3) % GUESSES
}

impl<B> NextHops<B> {
    /// An empty table with all its memory taken.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::with_capacity(NEXT_HOPS_MAX),
            exits: Vec::with_capacity(NEXT_HOPS_MAX),
            ports: Vec::new(),
            // Twice as much as is ever in it: with fewer than half of its places taken a map never grows, whatever was
            // taken out of it before.
            index: HashMap::with_capacity_and_hasher(2 * NEXT_HOPS_MAX, Keyed::default()),
            waiting: VecDeque::with_capacity(HELD_MAX),
            hand: 0,
            lent: u16::MAX,
            latest: Tick::new(0),
            guesses: [0; GUESSES],
        }
    }

    /// Takes in MAC and MTU of the ports, for what is learnt from now on.
    pub(crate) fn set_ports(&mut self, ports: &[PortFacts]) {
        self.ports = ports.iter().map(|port| (port.mac, port.mtu)).collect();
    }

    /// The next hop `address` behind `port`, made if it is new; `None` when the table is full of next hops in use.
    #[inline]
    pub(crate) fn obtain(&mut self, port: PortId, address: IpAddr) -> Option<NextHopId> {
        let guess = self.guesses.get_mut(guess_of(port, &address))?;
        if self.entries.get(usize::from(*guess)).is_some_and(|entry| entry.port == port && entry.address == address) {
            self.lent = *guess;
            return Some(NextHopId(*guess));
        }
        let number = self.find_or_make(port, address)?;
        self.lent = number;
        *self.guesses.get_mut(guess_of(port, &address))? = number;
        Some(NextHopId(number))
    }

    #[inline(never)]
    fn find_or_make(&mut self, port: PortId, address: IpAddr) -> Option<u16> {
        if let Some(&number) = self.index.get(&(port, address)) {
            return Some(number);
        }
        // Asked in a future that never comes: the first packet asks.
        let never = Reach::Asked(Tick::new(u64::MAX));
        let entry = NextHop { port, address, reach: never, needed: Tick::new(u64::MAX), sessions: 0, waiting: 0 };
        let number = if self.entries.len() < NEXT_HOPS_MAX {
            let number = u16::try_from(self.entries.len()).ok()?;
            self.entries.push(entry);
            self.exits.push(Exit::closed(port));
            number
        } else {
            let number = self.reclaimable()?;
            let slot = self.entries.get_mut(usize::from(number))?;
            self.index.remove(&(slot.port, slot.address));
            *slot = entry;
            *self.exits.get_mut(usize::from(number))? = Exit::closed(port);
            number
        };
        self.index.insert((port, address), number);
        Some(number)
    }

    /// A next hop no session and no packet needs, those that are on their way to hold it or to wait for it among them, sought over
    /// a bounded stretch so that a flood costs little.
    fn reclaimable(&mut self) -> Option<u16> {
        for _ in 0..64 {
            self.hand = if self.hand + 1 < self.entries.len() { self.hand + 1 } else { 0 };
            let entry = self.entries.get(self.hand)?;
            if usize::from(self.lent) != self.hand
                && entry.sessions == 0
                && entry.waiting == 0
                && entry.needed != self.latest
            {
                return u16::try_from(self.hand).ok();
            }
        }
        None
    }

    /// A session names this next hop.
    pub(crate) fn retain(&mut self, id: NextHopId) {
        if let Some(entry) = self.entries.get_mut(usize::from(id.0)) {
            entry.sessions = entry.sessions.saturating_add(1);
        }
    }

    /// A session no longer names it.
    pub(crate) fn release(&mut self, id: NextHopId) {
        if let Some(entry) = self.entries.get_mut(usize::from(id.0)) {
            entry.sessions = entry.sessions.saturating_sub(1);
        }
    }

    /// The port behind which this next hop is, and the MAC it answers at, if that is known.
    #[must_use]
    pub(crate) fn station(&self, id: NextHopId) -> Option<(PortId, MacAddr)> {
        let entry = self.entries.get(usize::from(id.0))?;
        match entry.reach {
            Reach::Resolved(mac) => Some((entry.port, mac)),
            Reach::Asked(_) | Reach::Failed(_) => None,
        }
    }

    /// The address of this next hop.
    #[must_use]
    pub(crate) fn address(&self, id: NextHopId) -> Option<IpAddr> {
        self.entries.get(usize::from(id.0)).map(|entry| entry.address)
    }

    /// The port behind which this next hop is.
    #[must_use]
    pub(crate) fn port(&self, id: NextHopId) -> Option<PortId> {
        self.entries.get(usize::from(id.0)).map(|entry| entry.port)
    }

    /// The way out of an established packet; `None` for the special next hops.
    #[inline(always)]
    pub(crate) fn exit(&mut self, number: u16) -> Option<&Exit> {
        let exit = self.exits.get_mut(usize::from(number))?;
        exit.used = true;
        Some(exit)
    }

    /// What to do with a packet for this next hop at `now`.
    pub(crate) fn way(&mut self, id: NextHopId, now: Tick) -> Option<Way> {
        let entry = self.entries.get_mut(usize::from(id.0))?;
        Some(match entry.reach {
            Reach::Resolved(mac) => {
                if let Some(exit) = self.exits.get_mut(usize::from(id.0)) {
                    exit.used = true;
                }
                Way::Open(entry.port, mac)
            }
            Reach::Failed(failed) if failed <= now && now.get() - failed.get() < ASK_AGAIN => Way::Closed(entry.port),
            Reach::Asked(_) | Reach::Failed(_) => {
                (entry.needed, self.latest) = (now, now);
                let asks = !matches!(entry.reach, Reach::Asked(at) if at <= now && now.get() - at.get() < ASK_AGAIN);
                if asks {
                    entry.reach = Reach::Asked(now);
                }
                Way::Wait { ask: asks.then_some((entry.port, entry.address)) }
            }
        })
    }

    /// Keeps a packet until its next hop answers.
    ///
    /// # Errors
    /// The packet comes back when too many wait already.
    pub(crate) fn hold(&mut self, id: NextHopId, packet: B, now: Tick) -> Result<(), (B, DropReason)> {
        let Some(entry) = self.entries.get_mut(usize::from(id.0)) else {
            return Err((packet, DropReason::NeighborUnresolved));
        };
        if usize::from(entry.waiting) >= HELD_PER_NEIGHBOR || self.waiting.len() >= HELD_MAX {
            return Err((packet, DropReason::NeighborQueueFull));
        }
        entry.waiting += 1;
        self.waiting.push_back((id.0, now, packet));
        Ok(())
    }

    /// How many next hops sessions, tunnels and the operator hold on to.
    #[must_use]
    pub(crate) fn in_use(&self) -> usize {
        self.entries.iter().filter(|entry| entry.sessions > 0).count()
    }

    /// How many packets wait.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in what control found out. Returns the id when the next hop is one of this worker's: its packets are then
    /// taken with [`NextHops::released`].
    pub(crate) fn learn(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Option<MacAddr>,
        now: Tick,
    ) -> Option<NextHopId> {
        let number = *self.index.get(&(port, address))?;
        let entry = self.entries.get_mut(usize::from(number))?;
        entry.reach = mac.map_or(Reach::Failed(now), Reach::Resolved);
        let exit = self.exits.get_mut(usize::from(number))?;
        *exit = Exit { used: exit.used, ..Exit::closed(port) };
        if let (Some(destination), Some(&(source, mtu))) = (mac, self.ports.get(port.index())) {
            exit.hop = Hop { destination, source };
            exit.mtu = mtu;
        }
        Some(NextHopId(number))
    }

    /// Takes in a next hop the operator named: known before the first packet, and never given up for another.
    pub(crate) fn place(&mut self, port: PortId, address: IpAddr, mac: MacAddr) {
        if let Some(id) = self.obtain(port, address) {
            self.retain(id);
            self.learn(port, address, Some(mac), Tick::new(0));
        }
    }

    /// The next packet that waited for this next hop, oldest first.
    pub(crate) fn released(&mut self, id: NextHopId) -> Option<B> {
        let entry = self.entries.get_mut(usize::from(id.0))?;
        if entry.waiting == 0 {
            return None;
        }
        let position = self.waiting.iter().position(|(number, ..)| *number == id.0)?;
        entry.waiting -= 1;
        self.waiting.remove(position).map(|(.., packet)| packet)
    }

    /// The oldest packet that has waited longer than any question takes: its answer was lost on the way here.
    pub(crate) fn overdue(&mut self, now: Tick) -> Option<B> {
        let (number, since, _) = self.waiting.front()?;
        if now.get().saturating_sub(since.get()) < HELD_TICKS_MAX {
            return None;
        }
        if let Some(entry) = self.entries.get_mut(usize::from(*number)) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
        self.waiting.pop_front().map(|(.., packet)| packet)
    }

    /// Walks a few entries further and returns one that was sent to since the last round: control refreshes it.
    pub(crate) fn next_used(&mut self, cursor: &mut usize) -> Option<(PortId, IpAddr)> {
        for _ in 0..8 {
            let (Some(entry), Some(exit)) = (self.entries.get(*cursor), self.exits.get_mut(*cursor)) else {
                *cursor = 0;
                return None;
            };
            *cursor += 1;
            if exit.used {
                exit.used = false;
                return Some((entry.port, entry.address));
            }
        }
        None
    }
}

impl<B> Default for NextHops<B> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PORT: PortId = PortId::new(0);

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    /// A marker that is taken for another, or for a next hop, would lead packets of one feature through another's way.
    #[test]
    fn no_special_next_hop_is_another_or_a_real_one() {
        let pair = |number| Pair { number, other: PORT };
        let numbers = 0..u16::try_from(PAIRS_MAX).unwrap();
        let tenants = [0, 1].map(TenantId::new);
        let pairs = numbers.flat_map(|number| tenants.map(|tenant| NextHopId::through_for(pair(number), tenant)));
        let alone = [
            NextHopId::KERNEL,
            NextHopId::NONE,
            NextHopId::TUNNEL,
            NextHopId::SPLICED,
            NextHopId::ACROSS,
            NextHopId::INSIDE,
            NextHopId::TIERED,
        ];
        let special: Vec<NextHopId> = alone.into_iter().chain(pairs).collect();
        let numbers: std::collections::HashSet<u16> = special.iter().map(|id| id.get()).collect();
        assert_eq!(numbers.len(), alone.len() + 2 * PAIRS_MAX);
        assert_eq!(special.iter().filter(|id| id.is_through()).count(), 2 * PAIRS_MAX);
        assert_eq!(NextHopId::through_for(pair(9), TenantId::NONE), NextHopId::through(pair(9)));
        assert_eq!(
            NextHopId::through_for(pair(9), TenantId::new(1)),
            NextHopId::through_for(pair(9), TenantId::new(2))
        );
        assert_eq!(special.iter().filter(|id| id.crosses()).count(), 2);

        let mut hops = NextHops::<()>::new();
        let real: Vec<NextHopId> = (0..2 * u32::try_from(NEXT_HOPS_MAX).unwrap())
            .filter_map(|number| {
                let id = hops.obtain(PORT, address(number))?;
                hops.retain(id);
                Some(id)
            })
            .collect();
        assert_eq!(real.len(), NEXT_HOPS_MAX, "every one there is");
        assert!(real.iter().all(|id| !numbers.contains(&id.get()) && !id.is_through() && !id.crosses()));
    }

    #[test]
    fn packets_wait_for_the_answer_and_leave_in_order() {
        let mut hops = NextHops::new();
        let id = hops.obtain(PORT, address(1)).unwrap();
        let now = Tick::new(0);
        assert_eq!(hops.way(id, now), Some(Way::Wait { ask: Some((PORT, address(1))) }));
        for packet in 0..HELD_PER_NEIGHBOR {
            assert_eq!(hops.way(id, now), Some(Way::Wait { ask: None }));
            hops.hold(id, packet, now).unwrap();
        }
        assert_eq!(hops.hold(id, 99, now), Err((99, DropReason::NeighborQueueFull)));
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        assert_eq!(hops.learn(PORT, address(1), Some(mac), now), Some(id));
        for packet in 0..HELD_PER_NEIGHBOR {
            assert_eq!(hops.released(id), Some(packet));
        }
        assert_eq!((hops.released(id), hops.held()), (None, 0));
        assert_eq!(hops.way(id, now), Some(Way::Open(PORT, mac)));
    }

    #[test]
    fn a_next_hop_the_operator_named_is_open_at_once_and_stays() {
        let mut hops = NextHops::<()>::new();
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        hops.place(PORT, address(1), mac);
        for number in 2..200_000 {
            assert!(hops.obtain(PORT, address(number)).is_some());
        }
        let id = hops.obtain(PORT, address(1)).unwrap();
        assert_eq!(hops.way(id, Tick::new(0)), Some(Way::Open(PORT, mac)));
    }

    #[test]
    fn a_failed_next_hop_is_asked_again_after_a_second() {
        let mut hops = NextHops::<()>::new();
        let id = hops.obtain(PORT, address(1)).unwrap();
        hops.learn(PORT, address(1), None, Tick::new(10));
        assert_eq!(hops.way(id, Tick::new(11)), Some(Way::Closed(PORT)));
        assert_eq!(hops.way(id, Tick::new(14)), Some(Way::Wait { ask: Some((PORT, address(1))) }));
    }

    #[test]
    fn a_packet_whose_answer_was_lost_does_not_wait_for_ever() {
        let mut hops = NextHops::new();
        let id = hops.obtain(PORT, address(1)).unwrap();
        hops.hold(id, 7, Tick::new(10)).unwrap();
        assert_eq!(hops.overdue(Tick::new(29)), None);
        assert_eq!(hops.overdue(Tick::new(30)), Some(7));
        assert_eq!((hops.held(), hops.released(id)), (0, None));
    }

    #[test]
    fn a_lost_question_is_repeated_after_a_second() {
        let mut hops = NextHops::<()>::new();
        let id = hops.obtain(PORT, address(1)).unwrap();
        assert!(matches!(hops.way(id, Tick::new(7)), Some(Way::Wait { ask: Some(_) })));
        assert!(matches!(hops.way(id, Tick::new(10)), Some(Way::Wait { ask: None })));
        assert!(matches!(hops.way(id, Tick::new(11)), Some(Way::Wait { ask: Some(_) })));
    }

    /// Between the word that a packet waits and its waiting lies the rest of its burst.
    #[test]
    fn a_next_hop_a_packet_is_about_to_wait_for_is_not_given_up() {
        let mut hops = NextHops::new();
        let now = Tick::new(9);
        let id = hops.obtain(PORT, address(1)).unwrap();
        assert!(matches!(hops.way(id, now), Some(Way::Wait { .. })));
        for number in 2..200_000 {
            assert!(hops.obtain(PORT, address(number)).is_some());
        }
        hops.hold(id, "held", now).unwrap();
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        assert_eq!(hops.learn(PORT, address(1), Some(mac), now), Some(id));
        assert_eq!(hops.released(id), Some("held"));
        // Later, when nobody waits for it, it is one of many.
        let other = hops.obtain(PORT, address(200_000)).unwrap();
        assert!(matches!(hops.way(other, Tick::new(10)), Some(Way::Wait { .. })));
        for number in 200_001..400_000 {
            assert!(hops.obtain(PORT, address(number)).is_some());
        }
        assert!(matches!(hops.way(id, Tick::new(10)), Some(Way::Wait { .. })), "it is somebody else's");
    }

    /// The way there and the way back of a new session are asked for one after the other.
    #[test]
    fn the_second_of_two_never_takes_the_place_of_the_first() {
        let mut hops = NextHops::<()>::new();
        let idle = hops.obtain(PORT, address(0)).unwrap();
        for number in 1..u32::try_from(NEXT_HOPS_MAX).unwrap() {
            let id = hops.obtain(PORT, address(number)).unwrap();
            hops.retain(id);
        }
        for number in 200_000..202_000 {
            assert_eq!(hops.obtain(PORT, address(0)), Some(idle));
            assert_eq!(hops.obtain(PORT, address(number)), None, "all others are held");
        }
        // Not the last one any more, it is one of many.
        hops.obtain(PORT, address(1)).unwrap();
        assert!((300_000..302_000).any(|number| hops.obtain(PORT, address(number)) == Some(idle)));
    }

    #[test]
    fn a_flood_of_unknown_targets_never_displaces_a_next_hop_in_use() {
        let mut hops = NextHops::<()>::new();
        let live = hops.obtain(PORT, address(1)).unwrap();
        hops.retain(live);
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        hops.learn(PORT, address(1), Some(mac), Tick::new(0));
        for number in 2..200_000 {
            assert!(hops.obtain(PORT, address(number)).is_some());
        }
        assert_eq!(hops.obtain(PORT, address(1)), Some(live));
        assert_eq!(hops.way(live, Tick::new(1)), Some(Way::Open(PORT, mac)));
    }
}
