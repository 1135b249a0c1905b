//! The cookie itself: an initial sequence number that only the appliance can have chosen.
//!
//! ```text
//!   31                              8 7    0
//!  +---------------------------------+------+     packed: 3 bits segment size, 3 bits window scale, 1 bit selective
//!  |  keyed hash of ends, the        |packed|             acknowledgments, 1 bit the period it was made in
//!  |  client's ISN, period, packed   |^ hash|
//!  +---------------------------------+------+
//! ```
//!
//! Sizes and scales are rounded down to one of eight. A client that sends timestamps gives our clock back with its ACK: its
//! low four bits hold the scale exactly. A cookie holds for the period it was made in (69 s) and the next; as the period
//! is under the hash, what was learnt in one is worth nothing two later. To guess one takes 2^23 packets in the mean.

use core::hash::BuildHasher;
use std::hash::RandomState;

use units::Nanos;
use wire::{Endpoints, SeqNumber};

/// Segment sizes that are told apart: what the common links and tunnels leave, and the smallest sizes of both families.
const SIZES: [u16; 8] = [216, 536, 1_220, 1_360, 1_400, 1_440, 1_452, 1_460];

/// Window scales that are told apart; the first is "none offered".
const SCALES: [Option<u8>; 8] = [None, Some(0), Some(2), Some(5), Some(6), Some(7), Some(8), Some(10)];

/// A period is 2^36 ns, 69 s.
const PERIOD_BITS: u32 = 36;

/// The low bits of our clock that hold the window scale.
const STAMP_SCALE: u32 = 0x0f;

/// A handshake, from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    /// The addresses of the client's packets.
    pub endpoints: Endpoints,
    /// The client's port.
    pub source_port: u16,
    /// The service's port.
    pub destination_port: u16,
    /// The sequence number of the client's SYN.
    pub sequence: SeqNumber,
}

/// What a client offered in its SYN, as far as a cookie can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Largest segment it takes, rounded down; 216 at least.
    pub segment_size: u16,
    /// Its window scale, rounded down.
    pub window_scale: Option<u8>,
    /// Whether selective acknowledgments are welcome.
    pub sack_permitted: bool,
}

/// The key of one service's cookies: random, of this process only.
#[derive(Clone, Debug, Default)]
pub struct CookieKey(RandomState);

fn position<T: PartialOrd>(table: &[T; 8], value: &T) -> u8 {
    let fitting = table.iter().rposition(|entry| entry <= value).unwrap_or(0);
    u8::try_from(fitting).unwrap_or(0)
}

impl Offer {
    fn pack(self, period: u64) -> u8 {
        let parity = if period & 1 == 0 { 0 } else { 0x80 };
        position(&SIZES, &self.segment_size)
            | position(&SCALES, &self.window_scale) << 3
            | u8::from(self.sack_permitted) << 6
            | parity
    }

    fn unpack(packed: u8) -> Self {
        let entry = |bits: u8| usize::from(bits & 7);
        Self {
            segment_size: SIZES.get(entry(packed)).copied().unwrap_or(216),
            window_scale: SCALES.get(entry(packed >> 3)).copied().flatten(),
            sack_permitted: packed & 0x40 != 0,
        }
    }

    /// The offer with the scale that our clock, given back, holds; as it is where that does not agree.
    #[must_use]
    pub fn refined(self, echo: Option<u32>) -> Self {
        let exact = echo.and_then(|echo| u8::try_from(echo & STAMP_SCALE).ok()).filter(|&scale| scale <= 14);
        match (self.window_scale, exact) {
            (Some(_), Some(exact)) if position(&SCALES, &Some(exact)) == position(&SCALES, &self.window_scale) => {
                Self { window_scale: Some(exact), ..self }
            }
            _ => self,
        }
    }
}

/// Our clock for a client that sends timestamps: milliseconds, but for the bits that hold the window scale it offered.
#[must_use]
pub fn stamp(window_scale: Option<u8>, now: Nanos) -> u32 {
    let [low, _] = halves(now.get() >> 20);
    low & !STAMP_SCALE | u32::from(window_scale.unwrap_or(0x0f)) & STAMP_SCALE
}

fn halves(word: u64) -> [u32; 2] {
    [word & u64::from(u32::MAX), word >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

impl CookieKey {
    /// The initial sequence number that answers this handshake at `now`.
    #[must_use]
    pub fn seal(&self, handshake: &Handshake, offer: &Offer, now: Nanos) -> SeqNumber {
        let period = now.get() >> PERIOD_BITS;
        self.sequence(handshake, offer.pack(period), period)
    }

    /// What the client offered, if `cookie` was made for this handshake in this period or the one before.
    #[must_use]
    pub fn open(&self, handshake: &Handshake, cookie: SeqNumber, now: Nanos) -> Option<Offer> {
        let [top, _, _, low] = cookie.get().to_be_bytes();
        let packed = low ^ top;
        let current = now.get() >> PERIOD_BITS;
        let period = if current & 1 == u64::from(packed >> 7) { current } else { current.checked_sub(1)? };
        (self.sequence(handshake, packed, period) == cookie).then(|| Offer::unpack(packed))
    }

    fn sequence(&self, handshake: &Handshake, packed: u8, period: u64) -> SeqNumber {
        let [hash, _] = halves(self.0.hash_one((handshake, period, packed)));
        let [top, middle, bottom, _] = hash.to_be_bytes();
        SeqNumber::new(u32::from_be_bytes([top, middle, bottom, packed ^ top]))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn handshake(address: u128, ports: [u16; 2], sequence: u32) -> Handshake {
        let endpoints = if address & 1 == 0 {
            Endpoints::V6 { source: Ipv6Addr::from_bits(address), destination: Ipv6Addr::from_bits(!address) }
        } else {
            let [.., a, b, c, d] = address.to_be_bytes();
            Endpoints::V4 { source: Ipv4Addr::new(a, b, c, d), destination: Ipv4Addr::new(d, c, b, a) }
        };
        let [source_port, destination_port] = ports;
        Handshake { endpoints, source_port, destination_port, sequence: SeqNumber::new(sequence) }
    }

    fn offers() -> impl Strategy<Value = Offer> {
        (any::<u16>(), prop::option::of(0_u8..15), any::<bool>()).prop_map(|(segment_size, window_scale, sack)| Offer {
            segment_size,
            window_scale,
            sack_permitted: sack,
        })
    }

    proptest! {
        /// What was offered comes back, rounded down and never up, for at least one period and at most two.
        #[test]
        fn a_cookie_holds_what_was_offered(address: u128, ports: [u16; 2], sequence: u32, offer in offers(), at in 0_u64..1 << 50, later in 0_u64..4 << 36) {
            let (key, handshake) = (CookieKey::default(), handshake(address, ports, sequence));
            let cookie = key.seal(&handshake, &offer, Nanos::new(at));
            let opened = key.open(&handshake, cookie, Nanos::new(at + later));
            let periods = ((at + later) >> PERIOD_BITS) - (at >> PERIOD_BITS);
            prop_assert_eq!(opened.is_some(), periods <= 1);
            if let Some(opened) = opened {
                prop_assert!(opened.segment_size <= offer.segment_size.max(216));
                prop_assert!(opened.window_scale <= offer.window_scale);
                prop_assert_eq!(opened.window_scale.is_some(), offer.window_scale.is_some());
                prop_assert_eq!(opened.sack_permitted, offer.sack_permitted);
                let refined = opened.refined(Some(stamp(offer.window_scale, Nanos::new(at))));
                prop_assert_eq!(refined.window_scale, offer.window_scale);
            }
        }

        /// A cookie is worth nothing to anyone else, and a changed one nothing to anyone.
        #[test]
        fn a_cookie_fits_one_handshake_only(address: u128, ports: [u16; 2], sequence: u32, offer in offers(), bit in 0_u32..32) {
            let (key, own) = (CookieKey::default(), handshake(address, ports, sequence));
            let now = Nanos::from_secs(1_000);
            let cookie = key.seal(&own, &offer, now);
            let [source, destination] = ports;
            let others = [
                handshake(address.wrapping_add(2), ports, sequence),
                handshake(address, [source.wrapping_add(1), destination], sequence),
                handshake(address, [source, destination.wrapping_add(1)], sequence),
                handshake(address, ports, sequence.wrapping_add(1)),
            ];
            for other in others {
                // One in 2^24 fits by chance; the cases are a few thousand.
                prop_assert_eq!(key.open(&other, cookie, now), None);
            }
            prop_assert_eq!(key.open(&own, SeqNumber::new(cookie.get() ^ 1 << bit), now), None);
            prop_assert_eq!(CookieKey::default().open(&own, cookie, now), None);
        }
    }

    #[test]
    fn a_clock_that_does_not_agree_changes_nothing() {
        let offer = Offer { segment_size: 1_460, window_scale: Some(7), sack_permitted: true };
        for echo in [None, Some(0), Some(8), Some(9), Some(15)] {
            assert_eq!(offer.refined(echo), offer, "{echo:?}");
        }
        let none = Offer { window_scale: None, ..offer };
        assert_eq!(none.refined(Some(7)), none);
    }
}
