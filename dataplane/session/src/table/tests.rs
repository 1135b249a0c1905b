//! The table against a plain model, at every load, and through every way a session can end.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use units::{Nanos, RuleId, TenantId};

use super::*;
use crate::{State, datagram};

const NOW: Tick = Tick::new(1_000);

fn tuple(number: u32) -> Tuple<Ipv4Addr> {
    Tuple {
        source: Ipv4Addr::from_bits(0x0a00_0000 | number >> 12),
        destination: Ipv4Addr::new(192, 0, 2, 80),
        source_port: 1_024 + (number & 0xfff) as u16,
        destination_port: 443,
    }
}

fn plain(kind: Kind, number: u32) -> NewSession<Ipv4Addr> {
    NewSession::new(kind, tuple(number), tuple(number).reversed())
}

fn table(capacity: usize) -> Table<Ipv4Addr> {
    Table::new(capacity, HashSecret::from_seed(7)).unwrap()
}

fn lookup<A: Address>(table: &Table<A>, kind: Kind, tuple: &Tuple<A>) -> Option<(Slot, Direction)> {
    let hash = table.hash(kind, tuple);
    table.prefetch_bucket(hash);
    let hint = table.prefetch_session(hash);
    let found = table.lookup(hash, kind, tuple);
    assert_eq!(table.lookup_hinted(hint, hash, kind, (*tuple).into()), found, "a hint changes nothing");
    assert_eq!(table.lookup_hinted(Hint::default(), hash, kind, (*tuple).into()), found);
    found
}

/// Every timer, list and index entry belongs to a session: nothing leaked.
fn drain<A: Address>(table: &mut Table<A>, from: Tick) -> usize {
    let mut expired = 0;
    let mut now = from;
    while !table.is_empty() {
        now = Tick::new(now.get() + 5_000);
        table.advance(now, usize::MAX, |_, _| expired += 1);
        assert!(now.get() < from.get() + 200_000, "sessions that never end");
    }
    expired
}

#[test]
fn both_tuples_find_the_session_and_its_direction() {
    let mut table = table(10);
    let reply = Tuple { source: Ipv4Addr::new(10, 9, 9, 9), ..tuple(1).reversed() };
    let slot = table.insert(&NewSession::new(Kind::Udp, tuple(1), reply), NOW).unwrap();
    assert_eq!(lookup(&table, Kind::Udp, &tuple(1)), Some((slot, Direction::Original)));
    assert_eq!(lookup(&table, Kind::Udp, &reply), Some((slot, Direction::Reply)));
    assert_eq!(lookup(&table, Kind::Udp, &tuple(1).reversed()), None);
    assert_eq!(lookup(&table, Kind::Tcp, &tuple(1)), None, "another kind is another key");
    assert_eq!(table.session(slot).outgoing(Direction::Original), reply.reversed());
    assert_eq!(table.session(slot).outgoing(Direction::Reply), tuple(1).reversed());
}

#[test]
fn ipv6_sessions_are_found_both_ways() {
    let mut table: Table<Ipv6Addr> = Table::new(100, HashSecret::from_seed(3)).unwrap();
    for port in 0..100 {
        let original = Tuple {
            source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
            source_port: port,
            destination_port: 53,
        };
        let slot = table.insert(&NewSession::new(Kind::Udp, original, original.reversed()), NOW).unwrap();
        assert_eq!(lookup(&table, Kind::Udp, &original), Some((slot, Direction::Original)));
        assert_eq!(lookup(&table, Kind::Udp, &original.reversed()), Some((slot, Direction::Reply)));
    }
    assert_eq!(drain(&mut table, NOW), 100);
}

#[test]
fn a_tuple_belongs_to_one_session() {
    let mut table = table(10);
    table.insert(&plain(Kind::Udp, 1), NOW).unwrap();
    assert_eq!(table.insert(&plain(Kind::Udp, 1), NOW), Err(InsertError::TupleInUse));
    let by_reply = NewSession::new(Kind::Udp, tuple(2), tuple(1).reversed());
    assert_eq!(table.insert(&by_reply, NOW), Err(InsertError::TupleInUse));
    let swapped = NewSession::new(Kind::Udp, tuple(1).reversed(), tuple(1));
    assert_eq!(table.insert(&swapped, NOW), Err(InsertError::TupleInUse));
    let to_itself = NewSession::new(Kind::Udp, tuple(3), tuple(3));
    assert_eq!(table.insert(&to_itself, NOW), Err(InsertError::TupleInUse));
    assert_eq!(table.len(), 1);
    table.insert(&plain(Kind::Tcp, 1), NOW).unwrap();
}

fn of_tenant(number: u16, new: NewSession<Ipv4Addr>) -> NewSession<Ipv4Addr> {
    NewSession { tenant: TenantId::new(number), ..new }
}

/// SE-45: each tenant's tuple is its own, and none is what belongs to nobody.
#[test]
fn a_tuple_belongs_to_one_session_of_each_tenant() {
    const TENANTS: u16 = 1_000;
    let mut table = table(4_000);
    let slots: Vec<Slot> =
        (0..=TENANTS).map(|number| table.insert(&of_tenant(number, plain(Kind::Tcp, 1)), NOW).unwrap()).collect();
    for (number, slot) in (0..=TENANTS).zip(&slots) {
        let tenant = TenantId::new(number);
        let found = |tuple: Tuple<Ipv4Addr>| {
            table.lookup_in(tenant, table.hash_in(tenant, Kind::Tcp, &tuple), Kind::Tcp, &tuple)
        };
        assert_eq!(found(tuple(1)), Some((*slot, Direction::Original)), "{number}");
        assert_eq!(found(tuple(1).reversed()), Some((*slot, Direction::Reply)), "{number}");
        assert_eq!(table.session(*slot).tenant(), tenant);
        let again = of_tenant(number, plain(Kind::Tcp, 1));
        assert_eq!(table.insert(&again, NOW), Err(InsertError::TupleInUse), "{number}");
    }
    assert_eq!(lookup(&table, Kind::Tcp, &tuple(1)), Some((slots[0], Direction::Original)));
    // Those of every second tenant end, and the others are still there.
    assert!(slots.iter().skip(1).step_by(2).all(|slot| table.remove(*slot)));
    for number in 0..=TENANTS {
        assert_eq!(table.contains_in(TenantId::new(number), Kind::Tcp, &tuple(1)), number % 2 == 0, "{number}");
    }
    assert_eq!(drain(&mut table, NOW), usize::from(TENANTS) / 2 + 1);
    assert!(table.index.is_blank(), "each was found by its own hash when it ended");
}

/// STX-09: what tenants have in common does not bring their sessions together. The index goes no further for the last of a
/// thousand tenants with the same tuples than for as many tuples of one.
#[test]
fn the_same_tuples_of_a_thousand_tenants_spread_like_any_others() {
    let further = |sessions: &mut dyn Iterator<Item = NewSession<Ipv4Addr>>| {
        let mut table = table(16_000);
        sessions.for_each(|new| assert!(table.insert(&new, NOW).is_ok()));
        assert_eq!(table.len(), 16_000);
        table.index.overflowed()
    };
    let of_tenants =
        (1..=1_000).flat_map(|tenant| (0..16).map(move |number| of_tenant(tenant, plain(Kind::Tcp, number))));
    let of_nobody = (0..16_000).map(|number| plain(Kind::Tcp, number));
    let (tenants, nobody) = (further(&mut { of_tenants }), further(&mut { of_nobody }));
    // At half load about one entry in a thousand lives elsewhere.
    assert!(tenants <= 3 * 32 && nobody <= 3 * 32, "{tenants} of tenants, {nobody} of nobody");
}

/// Whatever the hash: equal ones are told apart by what they are of.
#[test]
fn tenants_with_equal_hashes_are_told_apart() {
    let mut table = table(10);
    let hashes = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    let insert =
        |table: &mut Table<_>, number| table.insert_hashed(&of_tenant(number, plain(Kind::Udp, 1)), hashes, NOW);
    let slots: Vec<Slot> = [2, 1].map(|number| insert(&mut table, number).unwrap()).into();
    assert_eq!(insert(&mut table, 1), Err(InsertError::TupleInUse));
    let found = |table: &Table<_>, number| table.lookup_in(TenantId::new(number), hashes[0], Kind::Udp, &tuple(1));
    assert_eq!(found(&table, 2), Some((slots[0], Direction::Original)));
    assert_eq!(found(&table, 1), Some((slots[1], Direction::Original)));
    assert_eq!((found(&table, 0), found(&table, 3)), (None, None));
    assert_eq!(table.lookup(hashes[0], Kind::Udp, &tuple(1)), None);
    let nobodys = insert(&mut table, 0).unwrap();
    assert_eq!(table.lookup(hashes[0], Kind::Udp, &tuple(1)), Some((nobodys, Direction::Original)));
    // What does not compare tenants finds the one that came first.
    let hint = table.prefetch_session(hashes[0]);
    let plain = table.lookup_hinted(hint, hashes[0], Kind::Udp, tuple(1).into());
    assert_eq!(plain, Some((slots[0], Direction::Original)));
    assert!(!table.was_absent(hint, hashes[0]));
}

/// STX-05 and STX-01: no refusal below capacity, exactly the excess above it, and what is there stays.
#[test]
fn full_table_refuses_only_what_is_new() {
    const CAPACITY: u32 = 100_000;
    let mut table = table(CAPACITY as usize);
    for (number, load) in (0..CAPACITY).map(|number| (number, f64::from(number) / f64::from(CAPACITY))) {
        assert!(table.insert(&plain(Kind::Udp, number), NOW).is_ok(), "refused at load {load}");
    }
    for number in CAPACITY..CAPACITY + 5_000 {
        assert_eq!(table.insert(&plain(Kind::Udp, number), NOW), Err(InsertError::Full));
    }
    for number in 0..CAPACITY {
        assert!(table.contains(Kind::Udp, &tuple(number)));
        assert!(table.contains(Kind::Udp, &tuple(number).reversed()));
    }
    assert!(!table.contains(Kind::Udp, &tuple(CAPACITY)));
    assert_eq!(table.len(), table.capacity());
}

/// STX-05 under churn: at full load, each removal makes room for exactly one, again and again.
#[test]
fn churn_at_full_load_is_never_refused() {
    const CAPACITY: u32 = 20_000;
    let mut table = table(CAPACITY as usize);
    let mut slots: Vec<_> = (0..CAPACITY).map(|number| table.insert(&plain(Kind::Udp, number), NOW).unwrap()).collect();
    for number in 0..10 * CAPACITY {
        let place = (number.wrapping_mul(2_654_435_761) % CAPACITY) as usize;
        assert!(table.remove(slots[place]));
        slots[place] = table.insert(&plain(Kind::Udp, CAPACITY + number), NOW).unwrap();
    }
    assert_eq!(table.len(), CAPACITY as usize);
    assert_eq!(drain(&mut table, NOW), CAPACITY as usize);
}

#[test]
fn small_tables_use_every_slot() {
    for capacity in 0..70 {
        let mut table = table(capacity as usize);
        for number in 0..capacity {
            assert!(table.insert(&plain(Kind::Udp, number), NOW).is_ok(), "{number} of {capacity}");
        }
        assert_eq!(table.insert(&plain(Kind::Udp, capacity), NOW), Err(InsertError::Full));
        assert!(!table.contains(Kind::Udp, &tuple(capacity)));
        assert_eq!(drain(&mut table, NOW), capacity as usize);
    }
}

/// 10M sessions of capacity are set aside without being touched.
#[test]
fn memory_is_what_the_shape_says() {
    let table = table(10_000_000);
    let per_session = table.bytes() / table.capacity();
    assert!((148..=150).contains(&per_session), "{per_session}");
    let six: Table<Ipv6Addr> = Table::new(1_000, HashSecret::from_seed(1)).unwrap();
    assert!(six.bytes() / 1_000 < 216);
}

#[test]
fn what_was_removed_is_gone_and_its_slot_is_vacant() {
    let mut table = table(4);
    let slot = table.insert(&plain(Kind::Udp, 1), NOW).unwrap();
    let hash = table.hash(Kind::Udp, &tuple(1));
    let stale = table.prefetch_session(hash);
    assert!(table.remove(slot));
    assert!(!table.remove(slot), "removed once");
    assert!(!table.session(slot).is_occupied());
    assert_eq!(table.lookup_hinted(stale, hash, Kind::Udp, tuple(1).into()), None);
    let again = table.insert(&plain(Kind::Udp, 2), NOW).unwrap();
    assert_eq!(again, slot, "the slot used last is used next");
    assert_eq!(table.lookup_hinted(stale, hash, Kind::Udp, tuple(1).into()), None);
}

#[test]
fn slots_of_nothing_are_harmless() {
    let mut table = table(2);
    for slot in [0, 1, 3, u32::MAX].map(Slot::new) {
        assert!(!table.remove(slot));
        table.refresh_expiry(slot, NOW);
        assert!(!table.session(slot).is_occupied());
    }
    table.session_mut(Slot::new(u32::MAX)).touch(NOW);
    assert_eq!(table.insert(&plain(Kind::Udp, 1), NOW), Ok(Slot::new(1)));
    assert_eq!(drain(&mut table, NOW), 1);
}

/// STX-16: each kind's idle limit, to the tick, and never early.
#[test]
fn a_silent_session_ends_within_a_tick_of_its_limit() {
    let timeouts = Timeouts::default();
    for (kind, limit) in [
        (Kind::Udp, timeouts.udp_one_way),
        (Kind::Icmp, timeouts.icmp),
        (Kind::Other, timeouts.other),
        (Kind::Tcp, timeouts.tcp_established),
    ] {
        for start in [0, 5, 255, 256, 70_000] {
            let mut table = table(1);
            let slot = table.insert(&plain(kind, 1), Tick::new(start)).unwrap();
            let mut ended = None;
            let mut now = start;
            while ended.is_none() && now < start + 40_000 {
                now += 1;
                table.advance(Tick::new(now), 10, |expired, _| ended = Some((expired, now)));
            }
            let (expired, at) = ended.unwrap();
            assert_eq!(expired, slot);
            // The last packet came somewhere within tick `start`; its session may not end before `limit` has passed since.
            assert!(Tick::new(at).start() >= Tick::new(start + 1).start() + limit, "{kind:?} early");
            assert!(Tick::new(at).start() <= Tick::new(start + 2).start() + limit, "{kind:?} late");
            assert_eq!(table.len(), 0);
        }
    }
}

#[test]
fn packets_keep_a_session_alive_and_state_changes_its_limit() {
    let mut table = table(1);
    let slot = table.insert(&plain(Kind::Udp, 1), NOW).unwrap();
    let mut now = NOW.get();
    for _ in 0..50 {
        now += 100;
        table.advance(Tick::new(now), 100, |_, _| panic!("alive"));
        table.session_mut(slot).touch(Tick::new(now));
    }
    assert_eq!(table.expires(slot, Tick::new(now)), Tick::new(now + 121));
    assert!(datagram::observe(table.session_mut(slot), Direction::Reply));
    assert!(!datagram::observe(table.session_mut(slot), Direction::Reply));
    assert_eq!(table.session(slot).state(), State::TwoWay);
    table.refresh_expiry(slot, Tick::new(now));
    assert_eq!(table.expires(slot, Tick::new(now)), Tick::new(now + 481));
    table.advance(Tick::new(now + 480), 100, |_, _| panic!("alive"));
    let mut ended = 0;
    table.advance(Tick::new(now + 481), 100, |_, _| ended += 1);
    assert_eq!(ended, 1);
}

#[test]
fn a_shorter_limit_counts_at_once_after_a_refresh() {
    let mut table = table(1);
    let slot = table.insert(&plain(Kind::Tcp, 1), NOW).unwrap();
    table.session_mut(slot).set_state(State::Closed);
    table.refresh_expiry(slot, NOW);
    let mut ended = 0;
    table.advance(Tick::new(NOW.get() + 9), 10, |_, session| {
        assert_eq!(session.state(), State::Closed);
        ended += 1;
    });
    assert_eq!(ended, 1);
    table.set_timeouts(&Timeouts { udp_one_way: Nanos::from_secs(1), ..Timeouts::default() });
    table.insert(&plain(Kind::Udp, 2), NOW).unwrap();
    table.advance(Tick::new(NOW.get() + 10), 10, |_, _| ended += 1);
    assert_eq!(ended, 2);
}

/// STX-10: a storm of expiries is worked off in pieces of the caller's choosing.
#[test]
fn an_expiry_storm_is_spread_over_calls() {
    let mut table = table(10_000);
    for number in 0..10_000 {
        table.insert(&plain(Kind::Icmp, number), NOW).unwrap();
    }
    let later = Tick::new(NOW.get() + 1_000);
    let mut ended = 0;
    for call in 1..=100 {
        assert_eq!(table.advance(later, 100, |_, _| ended += 1), 100);
        assert_eq!((ended, table.len()), (100 * call, 10_000 - 100 * call));
    }
    assert_eq!(table.advance(later, 100, |_, _| panic!("all gone")), 0);
}

#[test]
fn a_long_silent_clock_is_caught_up_with() {
    let mut table = table(2);
    let year = Tick::new(4 * 86_400 * 365);
    table.insert(&plain(Kind::Udp, 1), Tick::new(0)).unwrap();
    let mut ended = 0;
    table.advance(year, 10, |_, _| ended += 1);
    assert_eq!(ended, 1);
    table.insert(&plain(Kind::Udp, 2), year).unwrap();
    assert_eq!(table.advance(Tick::new(year.get() + 120), 10, |_, _| panic!("alive")), 0);
    table.advance(Tick::new(year.get() + 121), 10, |_, _| ended += 1);
    assert_eq!(ended, 2);
}

/// A TCP session that begins with a SYN.
fn handshake(number: u32) -> NewSession<Ipv4Addr> {
    let syn = wire::Tcp {
        source_port: 1,
        destination_port: 2,
        sequence: wire::SeqNumber::new(1),
        acknowledgment: wire::SeqNumber::new(0),
        window: 1_000,
        flags: wire::TcpFlags::SYN,
        payload: 0,
        window_scale: None,
    };
    NewSession { tcp: crate::open(&syn, crate::Pickup::Strict), ..plain(Kind::Tcp, number) }
}

/// What is half open, in the order in which a full table gives it up.
fn given_up(table: &mut Table<Ipv4Addr>) -> Vec<Slot> {
    let mut order = Vec::new();
    while let Some((_, slot)) = table.oldest_half_open() {
        order.push(slot);
        assert!(table.remove(slot));
    }
    order
}

/// FLD-03: what is half open can be given up for a new session; what is settled, or kept, never.
#[test]
fn what_has_been_half_open_for_longest_is_found() {
    let mut table = table(8);
    table.insert(&plain(Kind::Tcp, 1), NOW).unwrap();
    for kept in [handshake(2), plain(Kind::Udp, 3)] {
        table.insert(&NewSession { kept: true, ..kept }, NOW).unwrap();
    }
    let one_sided = NewSession { one_sided: true, ..plain(Kind::Udp, 4) };
    table.insert(&one_sided, NOW).unwrap();
    assert_eq!(table.oldest_half_open(), None);
    let later = Tick::new(NOW.get() + 4);
    let first = table.insert(&handshake(5), later).unwrap();
    let second = table.insert(&handshake(6), NOW).unwrap();
    assert_eq!(table.oldest_half_open(), Some((NOW, second)));
    assert!(table.remove(second));
    assert_eq!(table.oldest_half_open(), Some((later, first)));
    table.session_mut(first).set_state(State::Established);
    assert_eq!(table.oldest_half_open(), None, "even before its timer is set anew");
    table.refresh_expiry(first, later);
    assert_eq!(table.oldest_half_open(), None);
    let question = table.insert(&plain(Kind::Udp, 7), later).unwrap();
    assert_eq!(table.oldest_half_open(), Some((later, question)));
    datagram::observe(table.session_mut(question), Direction::Reply);
    table.refresh_expiry(question, later);
    assert_eq!(table.oldest_half_open(), None, "it was answered");
}

/// FLD-03: the oldest goes first, whatever list of the wheel it is on: of those of one tick, of those whose turn comes in
/// the next round of the inner wheel, and of those that are being moved to it.
#[test]
fn of_handshakes_the_oldest_is_given_up_first() {
    for begin in [NOW.get(), 240, 250, 255, 256, 65_535] {
        let mut table = table(64);
        table.advance(Tick::new(begin), 100, |_, _| {});
        let slots: Vec<_> = (0..64).map(|number| table.insert(&handshake(number), Tick::new(begin)).unwrap()).collect();
        assert_eq!(given_up(&mut table), slots, "at tick {begin}");
    }
    let mut table = table(64);
    table.advance(Tick::new(240), 100, |_, _| {});
    let mut slots: Vec<_> = (0..32).map(|number| table.insert(&handshake(number), Tick::new(240)).unwrap()).collect();
    // A few of them have moved to the inner wheel, where the next ones go at once.
    table.advance(Tick::new(257), 5, |_, _| panic!("none is over"));
    slots.extend((32..64).map(|number| table.insert(&handshake(number), Tick::new(257)).unwrap()));
    let order = given_up(&mut table);
    let early = |half: &[Slot]| half.iter().all(|slot| slots[..32].contains(slot));
    assert!(early(&order[..32]), "all of the old ones first: {order:?}");
}

/// FLD-03: whose handshake is answered waits longer for its end, and a datagram for its answer. That makes nobody else the
/// first to go.
#[test]
fn patience_is_no_privilege() {
    let mut table = table(64);
    let mut slots = Vec::new();
    for number in 0..20 {
        let at = Tick::new(NOW.get() + u64::from(number / 5));
        let slot = match number % 5 {
            0 => table.insert(&plain(Kind::Udp, number), at).unwrap(),
            2 => table.insert(&NewSession { lingers: true, ..handshake(number) }, at).unwrap(),
            1 => {
                let slot = table.insert(&handshake(number), at).unwrap();
                table.session_mut(slot).set_state(State::SynReceived);
                table.refresh_expiry(slot, at);
                slot
            }
            _ => table.insert(&handshake(number), at).unwrap(),
        };
        slots.push((at, slot));
    }
    let order: Vec<_> =
        given_up(&mut table).iter().map(|gone| slots.iter().find(|(_, slot)| slot == gone).unwrap().0).collect();
    assert!(order.is_sorted() && order.len() == 20, "{order:?}");
}

/// Opens sessions of every kind and ends them in every way there is, until `cycles` have come and gone.
fn live_and_die(cycles: u32) {
    const CAPACITY: u32 = 1_000;
    let mut table = table(CAPACITY as usize);
    let opening = handshake(0).tcp;
    let (mut now, mut opened, mut ended) = (NOW.get(), 0_u32, 0_u32);
    while opened < cycles {
        let first = opened;
        for number in first..first + CAPACITY {
            let kind = Kind::ALL[number as usize % 4];
            let tcp = if number % 8 == 0 { opening } else { None };
            table.insert(&NewSession { tcp, ..plain(kind, number) }, Tick::new(now)).unwrap();
            if number % 7 == 0 {
                assert_eq!(table.insert(&plain(kind, number), Tick::new(now)), Err(InsertError::TupleInUse));
            }
        }
        opened += CAPACITY;
        assert_eq!(table.insert(&plain(Kind::Udp, u32::MAX), Tick::new(now)), Err(InsertError::Full));
        // A full table gives up a handshake for a new session.
        let (_, given_up) = table.oldest_half_open().unwrap();
        assert!(table.remove(given_up));
        table.insert(&plain(Kind::Udp, 0xfff_0000 | first >> 10), Tick::new(now)).unwrap();
        opened += 1;
        ended += 1;
        for number in (first..first + CAPACITY).step_by(3) {
            let kind = Kind::ALL[number as usize % 4];
            let Some((slot, _)) = lookup(&table, kind, &tuple(number)) else { continue };
            match number % 4 {
                // Flushed, or reset: removed.
                0 => {
                    assert!(table.remove(slot));
                    ended += 1;
                }
                // Answered: it changes lists.
                1 => {
                    datagram::observe(table.session_mut(slot), Direction::Reply);
                    table.refresh_expiry(slot, Tick::new(now));
                }
                // Closed: it lingers.
                2 => {
                    table.session_mut(slot).set_state(State::TimeWait);
                    table.refresh_expiry(slot, Tick::new(now));
                }
                _ => table.session_mut(slot).touch(Tick::new(now)),
            }
        }
        // The rest by silence.
        now += 40_000;
        while table.advance(Tick::new(now), 64, |_, _| ended += 1) > 0 {}
        assert_eq!((table.len(), ended), (0, opened));
    }
    assert!(table.index.is_blank() && table.expiry.is_empty());
    assert_eq!((table.fresh, table.vacant_len), (CAPACITY + 1, CAPACITY), "free is what it was, exactly");
    let mut vacant: Vec<_> = (0..table.vacant_len).map(|place| *table.vacant.at(place)).collect();
    vacant.sort_unstable();
    assert!(vacant.into_iter().eq(1..=CAPACITY), "each slot once");
}

/// STX-12: after any number of sessions, ended in every way, the table is as it was.
#[test]
fn nothing_leaks_over_many_cycles() {
    live_and_die(100_000);
}

/// STX-12 in full: `cargo test --release -p session -- --ignored`, some seconds.
#[test]
#[ignore = "ten million sessions: for a release build"]
fn nothing_leaks_over_ten_million_cycles() {
    live_and_die(10_000_000);
}

/// STX-05 at full size: `cargo test --release -p session -- --ignored`, 1.5 GB.
#[test]
#[ignore = "1.5 GB of sessions: for a release build"]
fn ten_million_sessions_fit_and_none_is_refused() {
    const CAPACITY: u32 = 10_000_000;
    let mut table = table(CAPACITY as usize);
    for number in 0..CAPACITY {
        assert!(table.insert(&plain(Kind::Udp, number), NOW).is_ok(), "refused at {number}");
    }
    assert_eq!(table.insert(&plain(Kind::Udp, CAPACITY), NOW), Err(InsertError::Full));
    assert!((0..CAPACITY).step_by(97).all(|number| table.contains(Kind::Udp, &tuple(number).reversed())));
    assert_eq!(drain(&mut table, NOW), CAPACITY as usize);
    assert!(table.index.is_blank());
}

#[test]
fn the_vacant_slots_that_come_next_can_be_asked_for_however_few_there_are() {
    let mut table = table(4);
    for ahead in [0, 3, 4, 70, u32::MAX - 8] {
        table.prefetch_vacant(ahead);
    }
    let slots: Vec<_> = (0..4).map(|number| table.insert(&plain(Kind::Udp, number), NOW).unwrap()).collect();
    assert!(table.remove(slots[2]) && table.remove(slots[0]));
    for ahead in 0..9 {
        table.prefetch_vacant(ahead);
    }
    assert_eq!(table.insert(&plain(Kind::Udp, 9), NOW), Ok(slots[0]), "the slot used last is used next");
}

#[test]
fn a_walk_sees_every_session_once() {
    let mut table = table(100);
    let slots: Vec<_> = (0..100).map(|number| table.insert(&plain(Kind::Udp, number), NOW).unwrap()).collect();
    for slot in slots.iter().step_by(2) {
        table.remove(*slot);
    }
    let mut seen = Vec::new();
    let mut from = 0;
    while let Some(slot) = table.next_occupied(from) {
        seen.push(slot);
        from = slot.get() + 1;
    }
    let in_pieces: Vec<_> = (0..table.slots_end())
        .step_by(7)
        .flat_map(|from| table.occupied(from, 7).map(|(slot, _)| slot).collect::<Vec<_>>())
        .collect();
    assert_eq!(seen, slots.iter().skip(1).step_by(2).copied().collect::<Vec<_>>());
    assert_eq!(in_pieces, seen);
}

#[test]
fn what_a_session_begins_with_is_what_it_tells() {
    let mut table = table(1);
    let new = NewSession {
        tenant: TenantId::new(4_094),
        one_sided: true,
        generation: 9,
        rule: Some(RuleId::new(5)),
        next_hop: [3, 4],
        binding: 17,
        translated: true,
        deltas: crate::Deltas { network: 0x1234, transport: 0xabcd },
        ingress: [units::PortId::new(1), units::PortId::new(63)],
        lease: 0xdead_beef,
        flags: 0xa5,
        ..plain(Kind::Udp, 1)
    };
    let slot = table.insert(&new, NOW).unwrap();
    let session = table.session_mut(slot);
    assert_eq!(
        (session.kind(), session.state(), session.generation(), session.binding()),
        (Kind::Udp, State::OneWay, 9, 17)
    );
    assert_eq!((session.rule(), session.created(), session.last_seen()), (Some(RuleId::new(5)), NOW, NOW.short()));
    assert_eq!(Direction::BOTH.map(|direction| session.next_hop(direction)), [3, 4]);
    assert_eq!(Direction::BOTH.map(|direction| session.ingress(direction).get()), [1, 63]);
    assert_eq!(session.tenant(), TenantId::new(4_094));
    assert_eq!((session.deltas(), session.lease(), session.flags()), (new.deltas, 0xdead_beef, 0xa5));
    assert!(session.is_translated() && session.is_one_sided() && !session.is_answered());
    session.set_flags(0x5a);
    session.readmit(10, None);
    assert_eq!((session.flags(), session.rule(), session.generation()), (0x5a, None, 10));
    assert!(session.is_one_sided() && session.is_translated());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, bool),
    Remove(u32),
    Touch(u32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..60_u32, any::<bool>()).prop_map(|(number, translated)| Step::Insert(number, translated)),
        2 => (0..60_u32).prop_map(Step::Remove),
        2 => (0..60_u32).prop_map(Step::Touch),
        1 => (0..200_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Against a map of tuples with their last packet: same outcome of every insert, lookup, removal and expiry.
    #[test]
    fn agrees_with_a_plain_model(steps in steps(), capacity in 1..40_usize, aes: bool, start in 0..100_000_u64) {
        let secret = HashSecret::from_seed(start);
        let hasher = if aes { Hasher::new(secret) } else { Hasher::portable(secret) };
        let mut table: Table<Ipv4Addr> = Table::with_hasher(capacity, hasher).unwrap();
        let mut model: HashMap<u32, (Slot, Tuple<Ipv4Addr>, u64)> = HashMap::new();
        let mut now = start;
        for step in steps {
            match step {
                Step::Insert(number, translated) => {
                    // Translated sessions share a few reply tuples, so that those collide too.
                    let reply = if translated { tuple(1_000 + number % 8).reversed() } else { tuple(number).reversed() };
                    let in_use = model.contains_key(&number) || model.values().any(|(_, other, _)| *other == reply);
                    let expected = if in_use { Err(InsertError::TupleInUse) } else if model.len() == capacity { Err(InsertError::Full) } else { Ok(()) };
                    let got = table.insert(&NewSession::new(Kind::Udp, tuple(number), reply), Tick::new(now));
                    prop_assert_eq!(got.map(|_| ()), expected);
                    if let Ok(slot) = got {
                        model.insert(number, (slot, reply, now));
                    }
                }
                Step::Remove(number) => {
                    if let Some((slot, ..)) = model.remove(&number) {
                        prop_assert!(table.remove(slot));
                    }
                }
                Step::Touch(number) => {
                    if let Some((slot, _, seen)) = model.get_mut(&number) {
                        table.session_mut(*slot).touch(Tick::new(now));
                        *seen = now;
                    }
                }
                Step::Wait(ticks) => {
                    now += ticks;
                    let mut expired = Vec::new();
                    table.advance(Tick::new(now), usize::MAX, |slot, session| expired.push((slot, session.tuple(Direction::Reply))));
                    let due: Vec<_> = model.iter().filter(|(_, (_, _, seen))| seen + 121 <= now).map(|(&number, _)| number).collect();
                    prop_assert_eq!(expired.len(), due.len());
                    for number in due {
                        let (slot, reply, _) = model.remove(&number).unwrap();
                        prop_assert!(expired.contains(&(slot, reply)));
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for number in 0..60 {
                let found = lookup(&table, Kind::Udp, &tuple(number));
                prop_assert_eq!(found, model.get(&number).map(|(slot, ..)| (*slot, Direction::Original)));
            }
            for (slot, reply, _) in model.values() {
                prop_assert_eq!(lookup(&table, Kind::Udp, reply), Some((*slot, Direction::Reply)));
            }
        }
        let left = model.len();
        prop_assert_eq!(drain(&mut table, Tick::new(now)), left);
    }
}
