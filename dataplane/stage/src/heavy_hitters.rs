//! Who opens most sessions and has most packets dropped, in bounded memory: the Space-Saving algorithm (Metwally, Agrawal and El
//! Abbadi, ICDT 2005) over a fixed number of places. Whoever has more than a 64th of all that is counted has a place; a flood of
//! addresses that come once each takes turns in those with the least.
//!
//! One worker writes, without locks and in plain stores; management reads at any time. A place that changes hands has a
//! version, odd meanwhile, so that nobody reads one address with another's counts. Two windows, this and the one before: what
//! is shown is what goes on now.

use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};
use std::net::{IpAddr, Ipv6Addr};

use units::{Nanos, TenantId, Tick};

/// Addresses that have a place at a time, in each window.
const PLACES: usize = 64;

/// A window is 2^33 ns, 8.6 s.
const WINDOW_BITS: u32 = 33;

/// What is counted singly in one tick; of what goes beyond, about one in sixty-four is, and counts for as many.
const EXACT: u32 = 64;
const SAMPLE: u32 = 64;

/// What became of a packet that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It opened a session.
    Opened,
    /// It was answered with a SYN cookie.
    Challenged,
    /// It was dropped.
    Dropped,
}

/// How often each outcome was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions opened.
    pub opened: u64,
    /// SYN cookies sent.
    pub challenged: u64,
    /// Packets dropped.
    pub dropped: u64,
}

impl Counts {
    /// All together.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.opened + self.challenged + self.dropped
    }

    /// Adds what was counted elsewhere.
    pub const fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.challenged += other.challenged;
        self.dropped += other.dropped;
    }
}

/// One address and what was counted of it while it has had its place: at least so much has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talker {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The address; of IPv6 sources the first of their /64.
    pub address: IpAddr,
    /// What was counted.
    pub counts: Counts,
}

#[derive(Debug, Default)]
struct Place {
    version: AtomicU64,
    /// The address as IPv6, IPv4 mapped into it, and its tenant.
    whose: [AtomicU64; 3],
    /// By [`Outcome`].
    counts: [AtomicU64; 3],
    /// What the place had counted before this address took it.
    inherited: AtomicU64,
}

/// The places of one window.
#[derive(Debug)]
struct Places {
    window: AtomicU64,
    places: [Place; PLACES],
}

impl Default for Places {
    fn default() -> Self {
        Self { window: AtomicU64::new(0), places: core::array::from_fn(|_| Place::default()) }
    }
}

/// Counts of one worker: sources and targets.
#[derive(Debug, Default)]
pub struct HeavyHitters {
    sources: [Places; 2],
    targets: [Places; 2],
}

impl Place {
    fn weight(&self) -> u64 {
        self.counts.iter().fold(self.inherited.load(Relaxed), |sum, count| sum + count.load(Relaxed))
    }

    fn belongs_to(&self, [high, low, tenant]: [u64; 3]) -> bool {
        let [own_high, own_low, own_tenant] = &self.whose;
        own_low.load(Relaxed) == low && own_high.load(Relaxed) == high && own_tenant.load(Relaxed) == tenant
    }

    /// Gives the place to another address, with what it has counted so far, or with nothing.
    fn give(&self, whose: [u64; 3], inherited: u64) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        for (word, value) in self.whose.iter().zip(whose) {
            word.store(value, Relaxed);
        }
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.inherited.store(inherited, Relaxed);
        self.version.store(version.wrapping_add(2), Release);
    }

    fn add(&self, outcome: Outcome, weight: u64) {
        let [opened, challenged, dropped] = &self.counts;
        let count = match outcome {
            Outcome::Opened => opened,
            Outcome::Challenged => challenged,
            Outcome::Dropped => dropped,
        };
        count.store(count.load(Relaxed) + weight, Relaxed);
    }

    /// What it holds; `None` when it is empty or changes hands.
    fn read(&self) -> Option<Talker> {
        let version = self.version.load(Acquire);
        let [high, low, tenant] = self.whose.each_ref().map(|word| word.load(Relaxed));
        let [opened, challenged, dropped] = self.counts.each_ref().map(|count| count.load(Relaxed));
        fence(Acquire);
        let counts = Counts { opened, challenged, dropped };
        let whole = version & 1 == 0 && self.version.load(Relaxed) == version;
        let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical();
        let tenant = TenantId::new(u16::try_from(tenant).unwrap_or_default());
        (whole && counts.sum() > 0).then_some(Talker { tenant, address, counts })
    }
}

impl Places {
    fn add(&self, window: u64, whose: [u64; 3], outcome: Outcome, weight: u64) {
        if self.window.load(Relaxed) != window {
            self.places.iter().for_each(|place| place.give([0; 3], 0));
            self.window.store(window, Relaxed);
        }
        if let Some(own) = self.places.iter().find(|place| place.belongs_to(whose)) {
            return own.add(outcome, weight);
        }
        let least = self.places.iter().map(|place| (place.weight(), place)).min_by_key(|(weight, _)| *weight);
        if let Some((inherited, place)) = least {
            place.give(whose, inherited);
            place.add(outcome, weight);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn words(address: Ipv6Addr) -> [u64; 2] {
    [(address.to_bits() >> 64) as u64, address.to_bits() as u64]
}

/// An address as a target is counted.
const fn whole(address: IpAddr) -> [u64; 2] {
    words(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    })
}

/// An address as a source is counted: of IPv6 its /64, which is what one host can use at will.
const fn shared(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(_) => whole(address),
        IpAddr::V6(v6) => [words(v6)[0], 0],
    }
}

impl HeavyHitters {
    /// Counts one packet from a source to a target of a tenant, for as many as `weight` says. One thread only calls this.
    pub fn count(&self, tenant: TenantId, [source, target]: [IpAddr; 2], outcome: Outcome, weight: u64, now: Nanos) {
        let window = now.get() >> WINDOW_BITS;
        let side = usize::from(window & 1 == 1);
        for (places, [high, low]) in [(&self.sources, shared(source)), (&self.targets, whole(target))] {
            if let Some(places) = places.get(side) {
                places.add(window, [high, low, u64::from(tenant.get())], outcome, weight);
            }
        }
    }

    /// Sources of this window and the one before; an address may come in both.
    pub fn sources(&self, now: Nanos) -> impl Iterator<Item = Talker> {
        read(&self.sources, now)
    }

    /// Targets, likewise.
    pub fn targets(&self, now: Nanos) -> impl Iterator<Item = Talker> {
        read(&self.targets, now)
    }

    /// The time that both windows cover, until now.
    #[must_use]
    pub const fn span(now: Nanos) -> Nanos {
        let since_turn = now.get() & ((1 << WINDOW_BITS) - 1);
        let covered = since_turn + (1 << WINDOW_BITS);
        Nanos::new(if covered < now.get() { covered } else { now.get() })
    }
}

fn read(windows: &[Places; 2], now: Nanos) -> impl Iterator<Item = Talker> {
    let current = now.get() >> WINDOW_BITS;
    let fresh = move |places: &&Places| current.saturating_sub(places.window.load(Relaxed)) <= 1;
    windows.iter().filter(fresh).flat_map(|places| places.places.iter().filter_map(Place::read))
}

/// Chooses which packets are counted: all while there are few, then about one in 64, at random, so that nobody's
/// packets can be timed to be passed over.
#[derive(Debug)]
pub struct Sampler {
    /// Packets up to the next that is counted, that one included.
    left: u32,
    /// How many more are counted singly in this tick.
    exact: u32,
    tick: Tick,
    dice: u32,
}

impl Sampler {
    /// A sampler that begins its dice with this.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self { left: 1, exact: EXACT, tick: Tick::new(0), dice: seed | 1 }
    }

    /// Whether the next packet is to be counted; then [`Sampler::weight`] follows.
    #[inline]
    pub const fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// For how many packets the one that is counted stands.
    pub fn weight(&mut self, tick: Tick) -> u64 {
        let sampled = self.exact == 0;
        if self.tick != tick {
            (self.tick, self.exact) = (tick, EXACT);
        }
        self.exact = self.exact.saturating_sub(1);
        self.left = if self.exact > 0 { 1 } else { 1 + self.roll() % (2 * SAMPLE - 1) };
        if sampled { u64::from(SAMPLE) } else { 1 }
    }

    /// The next number (xorshift).
    const fn roll(&mut self) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 17;
        self.dice ^= self.dice << 5;
        self.dice
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const NOW: Nanos = Nanos::from_secs(1_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(talkers: impl Iterator<Item = Talker>, address: &str) -> Counts {
        let mut sum = Counts::default();
        talkers.filter(|talker| talker.address == ip(address)).for_each(|talker| sum.add(&talker.counts));
        sum
    }

    #[test]
    fn each_outcome_is_counted_of_source_and_target() {
        let hitters = HeavyHitters::default();
        for (outcome, times) in [(Outcome::Opened, 3), (Outcome::Challenged, 4), (Outcome::Dropped, 5)] {
            (0..times)
                .for_each(|_| hitters.count(TenantId::NONE, [ip("192.0.2.1"), ip("198.51.100.10")], outcome, 1, NOW));
        }
        hitters.count(TenantId::NONE, [ip("2001:db8::1"), ip("2001:db8:51::10")], Outcome::Dropped, 16, NOW);
        hitters.count(TenantId::NONE, [ip("2001:db8::2"), ip("2001:db8:51::10")], Outcome::Opened, 1, NOW);
        assert_eq!(of(hitters.sources(NOW), "192.0.2.1"), Counts { opened: 3, challenged: 4, dropped: 5 });
        assert_eq!(of(hitters.targets(NOW), "198.51.100.10").sum(), 12);
        assert_eq!(of(hitters.sources(NOW), "2001:db8::").sum(), 17, "one /64 is one source");
        assert_eq!(of(hitters.targets(NOW), "2001:db8:51::10"), Counts { opened: 1, challenged: 0, dropped: 16 });
    }

    #[test]
    fn an_address_of_one_tenant_is_not_that_of_another() {
        let hitters = HeavyHitters::default();
        for number in 0..3 {
            let ends = [ip("192.0.2.1"), ip("198.51.100.10")];
            hitters.count(TenantId::new(number), ends, Outcome::Opened, u64::from(number) + 1, NOW);
        }
        let mut counted: Vec<_> =
            hitters.sources(NOW).map(|talker| (talker.tenant.get(), talker.counts.opened)).collect();
        counted.sort_unstable();
        assert_eq!(counted, [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(hitters.targets(NOW).count(), 3);
    }

    /// FLD-10's other half: who stands out is known however many come once.
    #[test]
    fn a_flood_of_addresses_hides_nobody() {
        let hitters = HeavyHitters::default();
        for number in 0..100_000_u32 {
            let forged = IpAddr::V4(number.wrapping_mul(0x9e37_79b9).into());
            hitters.count(TenantId::NONE, [forged, ip("198.51.100.10")], Outcome::Dropped, 1, NOW);
            if number % 20 == 0 {
                hitters.count(TenantId::NONE, [ip("192.0.2.1"), ip("198.51.100.10")], Outcome::Opened, 1, NOW);
            }
        }
        let most = hitters.sources(NOW).max_by_key(|talker| talker.counts.sum()).unwrap();
        assert_eq!(most.address, ip("192.0.2.1"));
        assert!((4_000..=5_000).contains(&most.counts.opened), "{most:?}");
        assert_eq!(hitters.sources(NOW).count(), PLACES);
        assert_eq!(of(hitters.targets(NOW), "198.51.100.10").sum(), 105_000);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let hitters = HeavyHitters::default();
        hitters.count(TenantId::NONE, [ip("192.0.2.1"), ip("198.51.100.10")], Outcome::Opened, 1, NOW);
        let later = |seconds| NOW + Nanos::from_secs(seconds);
        assert_eq!(of(hitters.sources(later(8)), "192.0.2.1").opened, 1);
        hitters.count(TenantId::NONE, [ip("192.0.2.2"), ip("198.51.100.10")], Outcome::Opened, 1, later(8));
        assert_eq!(of(hitters.targets(later(8)), "198.51.100.10").opened, 2, "both windows");
        assert_eq!(hitters.sources(later(60)).count(), 0, "nothing has come since");
        hitters.count(TenantId::NONE, [ip("192.0.2.3"), ip("198.51.100.10")], Outcome::Opened, 1, later(60));
        assert_eq!(of(hitters.targets(later(60)), "198.51.100.10").opened, 1);
        let span = HeavyHitters::span(NOW);
        assert!((Nanos::from_secs(8)..Nanos::from_secs(18)).contains(&span), "{span:?}");
        assert_eq!(HeavyHitters::span(Nanos::from_secs(3)), Nanos::from_secs(3));
    }

    #[test]
    fn few_packets_are_all_counted_and_many_by_one_in_sixty_four() {
        let mut sampler = Sampler::new(7);
        let mut counted = |packets: u32, tick: u64| {
            let mut weights = Vec::new();
            for _ in 0..packets {
                if sampler.is_due() {
                    weights.push(sampler.weight(Tick::new(tick)));
                }
            }
            weights
        };
        assert_eq!(counted(50, 1), vec![1; 50]);
        let many = counted(1_000_000, 2);
        assert!((15_000..16_300).contains(&many.len()), "{}", many.len());
        let sum: u64 = many.iter().sum();
        assert!((970_000..1_030_000).contains(&sum), "{sum}");
    }

    #[test]
    fn nobody_is_read_with_anothers_counts() {
        let hitters = HeavyHitters::default();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..300_000_u32 {
                    // Each address comes with a weight of its own.
                    let last = number % 200;
                    let source = IpAddr::V4((0x0a00_0000 + last).into());
                    hitters.count(TenantId::NONE, [source; 2], Outcome::Opened, 1 + u64::from(last) * 1_000_000, NOW);
                }
            });
            while !writer.is_finished() {
                for talker in hitters.sources(NOW) {
                    let IpAddr::V4(address) = talker.address else { panic!("{talker:?}") };
                    let weight = 1 + u64::from(address.to_bits() - 0x0a00_0000) * 1_000_000;
                    assert_eq!(talker.counts.opened % weight, 0, "{talker:?}");
                }
            }
        });
    }
}
