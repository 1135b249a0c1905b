//! Facts of the neighbor cache: RFC 4861 appendix C row by row, and what floods and liars may do. Time is an argument.

use proptest::prelude::*;

use super::*;

const PORT: PortId = PortId::new(0);
const ANSWER: Evidence = Evidence::Reply { solicited: true, replaces: true };

fn secs(seconds: u64) -> Nanos {
    Nanos::from_secs(seconds)
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + n).into())
}

fn mac(n: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, n])
}

/// A cache with the actions it gave since they were last looked at.
struct Cache {
    neighbors: Neighbors,
    actions: Vec<Action>,
}

impl Cache {
    fn new(limits: Limits) -> Self {
        Self { neighbors: Neighbors::new(limits), actions: Vec::new() }
    }

    fn resolve(&mut self, n: u32, now: Nanos) -> Vec<Action> {
        self.neighbors.resolve(PORT, address(n), now, &mut self.actions);
        self.take()
    }

    fn seen(&mut self, n: u32, at: Option<MacAddr>, evidence: Evidence, now: Nanos) -> Vec<Action> {
        self.neighbors.seen(PORT, address(n), at, evidence, now, &mut self.actions);
        self.take()
    }

    fn used(&mut self, n: u32, now: Nanos) -> Vec<Action> {
        self.neighbors.used(PORT, address(n), now, &mut self.actions);
        self.take()
    }

    fn tick(&mut self, now: Nanos) -> Vec<Action> {
        self.neighbors.tick(now, &mut self.actions);
        self.take()
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn find(&self, n: u32) -> Option<(State, Option<MacAddr>)> {
        self.neighbors.iter().find(|it| it.address == address(n)).map(|it| (it.state, it.mac))
    }

    /// A cache in which neighbor 1 is in `state` at `mac(1)`, at 100 seconds.
    fn with(state: State) -> Self {
        let mut cache = Self::new(Limits::default());
        cache.resolve(1, secs(1));
        match state {
            State::Incomplete => {}
            State::Failed => _ = (2..=4).map(|second| cache.tick(secs(second))).count(),
            State::Static => cache.neighbors.set_static([(PORT, address(1), mac(1))], secs(1), &mut cache.actions),
            State::Reachable | State::Stale | State::Probe => {
                cache.seen(1, Some(mac(1)), ANSWER, secs(1));
                if state != State::Reachable {
                    cache.tick(secs(99));
                }
                if state == State::Probe {
                    cache.used(1, secs(99));
                }
            }
        }
        cache.take();
        assert_eq!(cache.find(1).unwrap().0, state);
        cache
    }
}

fn solicit(n: u32, unicast: Option<MacAddr>) -> Action {
    Action::Solicit { port: PORT, address: address(n), unicast }
}

fn resolved(n: u32, at: MacAddr) -> Action {
    Action::Resolved { port: PORT, address: address(n), mac: at }
}

fn failed(n: u32) -> Action {
    Action::Failed { port: PORT, address: address(n) }
}

#[test]
fn a_question_is_asked_once_and_its_answer_resolves() {
    let mut cache = Cache::new(Limits::default());
    assert_eq!(cache.resolve(1, secs(1)), [solicit(1, None)]);
    assert_eq!(cache.resolve(1, secs(1)), [], "one question at a time");
    assert_eq!(cache.seen(1, Some(mac(1)), ANSWER, secs(1)), [resolved(1, mac(1))]);
    assert_eq!(cache.find(1), Some((State::Reachable, Some(mac(1)))));
    assert_eq!(cache.resolve(1, secs(2)), [resolved(1, mac(1))], "a worker that missed it is told again");
}

#[test]
fn silence_fails_after_three_questions_and_is_not_asked_again_at_once() {
    let mut cache = Cache::new(Limits::default());
    cache.resolve(1, secs(1));
    assert_eq!(cache.tick(secs(1)), []);
    assert_eq!(cache.tick(secs(2)), [solicit(1, None)]);
    assert_eq!(cache.tick(secs(3)), [solicit(1, None)]);
    assert_eq!(cache.tick(secs(4)), [failed(1)]);
    assert_eq!(cache.resolve(1, secs(4)), [failed(1)], "held down");
    assert_eq!(cache.resolve(1, secs(5)), [solicit(1, None)]);
    assert_eq!(cache.neighbors.len(), 1);
    for second in 6..=9 {
        cache.tick(secs(second));
    }
    assert!(cache.neighbors.is_empty(), "forgotten");
}

#[test]
fn what_is_used_is_asked_alone_then_everybody_then_given_up() {
    let mut cache = Cache::with(State::Stale);
    assert_eq!(cache.used(1, secs(100)), [solicit(1, Some(mac(1)))]);
    assert_eq!(cache.used(1, secs(100)), []);
    let asked: Vec<Action> = (101..=106).flat_map(|second| cache.tick(secs(second))).collect();
    let (alone, all) = (solicit(1, Some(mac(1))), solicit(1, None));
    assert_eq!(asked, [alone, alone, all, all, all, failed(1)]);
    assert_eq!(cache.find(1), Some((State::Failed, None)));
}

#[test]
fn an_answer_to_a_probe_confirms_without_news() {
    let mut cache = Cache::with(State::Probe);
    assert_eq!(cache.seen(1, Some(mac(1)), ANSWER, secs(100)), []);
    assert_eq!(cache.find(1), Some((State::Reachable, Some(mac(1)))));
    assert_eq!(cache.tick(secs(114)), []);
    assert_eq!(cache.find(1).unwrap().0, State::Reachable, "for half the mean at least");
    cache.tick(secs(146));
    assert_eq!(cache.find(1).unwrap().0, State::Stale, "and not beyond one and a half");
}

#[test]
fn a_neighbor_nobody_uses_is_forgotten() {
    let mut cache = Cache::with(State::Stale);
    assert_eq!(cache.tick(secs(500)), []);
    assert_eq!(cache.tick(secs(800)), [], "to forget is not to have failed");
    assert!(cache.neighbors.is_empty());
}

#[test]
fn a_worker_that_remembers_more_is_put_right() {
    let forgotten = || {
        let mut cache = Cache::with(State::Stale);
        cache.tick(secs(800));
        assert!(cache.neighbors.is_empty());
        cache
    };
    // It is still there.
    let mut cache = forgotten();
    assert_eq!(cache.used(1, secs(900)), [solicit(1, None)]);
    assert_eq!(cache.used(1, secs(900)), [], "one question at a time");
    assert_eq!(cache.seen(1, Some(mac(1)), ANSWER, secs(900)), [resolved(1, mac(1))]);
    // It moved.
    let mut cache = forgotten();
    cache.used(1, secs(900));
    assert_eq!(cache.seen(1, Some(mac(2)), ANSWER, secs(900)), [resolved(1, mac(2))]);
    // It is gone.
    let mut cache = forgotten();
    cache.used(1, secs(900));
    let end: Vec<Action> = (901..=903).flat_map(|second| cache.tick(secs(second))).collect();
    assert_eq!(end, [solicit(1, None), solicit(1, None), failed(1)]);
    // No share of this second's questions is left: it is not held against the neighbor.
    let mut cache = Cache::new(Limits { new_per_second: 0, ..Limits::default() });
    assert_eq!((cache.used(1, secs(1)), cache.resolve(1, secs(1))), (vec![], vec![failed(1)]));
}

#[test]
fn every_message_in_every_state_is_as_rfc_4861_appendix_c_says() {
    use Evidence::{Gratuitous, Reply, Request};
    use State::{Failed, Incomplete, Probe, Reachable, Stale, Static};
    let reply = |solicited, replaces| Reply { solicited, replaces };
    let (same, other) = (Some(mac(1)), Some(mac(2)));
    let rows = [
        // before, message, link-layer address in it; after, known address, told to workers
        (Incomplete, reply(true, false), same, Reachable, same, true),
        (Incomplete, reply(false, true), same, Stale, same, true),
        (Incomplete, reply(true, true), None, Incomplete, None, false),
        (Incomplete, Request, same, Stale, same, true),
        (Incomplete, Gratuitous, same, Stale, same, true),
        (Failed, reply(true, true), same, Stale, same, true),
        (Reachable, reply(true, false), same, Reachable, same, false),
        (Reachable, reply(true, false), other, Stale, same, false),
        (Reachable, reply(false, false), other, Stale, same, false),
        (Reachable, reply(true, true), other, Reachable, other, true),
        (Reachable, reply(true, true), None, Reachable, same, false),
        (Reachable, reply(false, true), same, Reachable, same, false),
        (Reachable, reply(false, true), other, Stale, other, true),
        (Reachable, Request, same, Reachable, same, false),
        (Reachable, Request, other, Stale, other, true),
        (Reachable, Gratuitous, other, Stale, other, true),
        (Stale, reply(true, false), same, Reachable, same, false),
        (Stale, reply(true, false), other, Stale, same, false),
        (Stale, reply(false, false), same, Stale, same, false),
        (Stale, reply(true, true), other, Reachable, other, true),
        (Stale, Gratuitous, other, Stale, other, true),
        (Probe, reply(true, false), same, Reachable, same, false),
        (Probe, reply(true, false), other, Probe, same, false),
        (Probe, reply(true, true), None, Reachable, same, false),
        (Probe, reply(false, true), other, Stale, other, true),
        (Probe, Request, same, Probe, same, false),
        (Static, reply(true, true), other, Static, same, false),
        (Static, Gratuitous, other, Static, same, false),
    ];
    for (before, message, link, after, known, told) in rows {
        let mut cache = Cache::with(before);
        let actions = cache.seen(1, link, message, secs(100));
        assert_eq!(cache.find(1), Some((after, known)), "{before:?} {message:?} {link:?}");
        assert_eq!(!actions.is_empty(), told, "{before:?} {message:?} {link:?}: {actions:?}");
    }
}

#[test]
fn nothing_unsolicited_creates_an_entry() {
    // EVA-26.
    let mut cache = Cache::new(Limits::default());
    for evidence in [Evidence::Gratuitous, Evidence::Request, ANSWER] {
        assert_eq!(cache.seen(1, Some(mac(1)), evidence, secs(1)), []);
    }
    assert!(cache.neighbors.is_empty());
}

#[test]
fn nobody_takes_our_addresses() {
    // EVA-26: ignored, and said.
    let mut cache = Cache::with(State::Reachable);
    cache.resolve(2, secs(1));
    cache.neighbors.set_own([address(1), address(2), address(7)], &mut cache.actions);
    assert_eq!(cache.find(1), None, "what became ours is no neighbor");
    let mut told = cache.take();
    told.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(told, [failed(1), failed(2)], "and nobody waits for it");
    let conflict = Action::Conflict { port: PORT, address: address(7), mac: mac(9) };
    for evidence in [Evidence::Gratuitous, Evidence::Request, ANSWER] {
        assert_eq!(cache.seen(7, Some(mac(9)), evidence, secs(1)), [conflict]);
    }
    assert_eq!(cache.resolve(7, secs(1)), [failed(7)]);
    assert_eq!(cache.used(7, secs(1)), []);
    assert!(cache.neighbors.is_empty());
}

#[test]
fn addresses_of_no_single_station_are_neither_asked_for_nor_believed() {
    let mut neighbors = Neighbors::new(Limits::default());
    for text in ["0.0.0.0", "255.255.255.255", "224.0.0.5", "127.0.0.1", "::", "::1", "ff02::1"] {
        let mut actions = Vec::new();
        let address = text.parse().unwrap();
        neighbors.resolve(PORT, address, secs(1), &mut actions);
        assert_eq!(actions, [Action::Failed { port: PORT, address }], "{text}");
    }
    let mut cache = Cache::with(State::Incomplete);
    for wrong in [MacAddr::BROADCAST, MacAddr::ZERO, MacAddr::new([1, 0, 0x5e, 0, 0, 1])] {
        assert_eq!(cache.seen(1, Some(wrong), ANSWER, secs(1)), []);
    }
    assert_eq!(cache.find(1), Some((State::Incomplete, None)));
}

#[test]
fn the_same_address_on_two_ports_is_two_neighbors() {
    let mut neighbors = Neighbors::new(Limits::default());
    let mut actions = Vec::new();
    let link_local: IpAddr = "fe80::1".parse().unwrap();
    for port in [0, 1] {
        neighbors.resolve(PortId::new(port), link_local, secs(1), &mut actions);
    }
    neighbors.seen(PortId::new(1), link_local, Some(mac(1)), ANSWER, secs(1), &mut actions);
    assert_eq!(neighbors.len(), 2);
    assert_eq!(neighbors.iter().filter(|it| it.state.is_resolved()).map(|it| it.port.get()).collect::<Vec<_>>(), [1]);
}

#[test]
fn static_neighbors_come_and_go_with_the_policy() {
    let mut cache = Cache::with(State::Reachable);
    let place = |cache: &mut Cache, placed: &[(u32, u8)]| {
        let placed: Vec<_> = placed.iter().map(|&(n, at)| (PORT, address(n), mac(at))).collect();
        cache.neighbors.set_static(placed, secs(100), &mut cache.actions);
        cache.take()
    };
    assert_eq!(place(&mut cache, &[(1, 5), (2, 6)]), [resolved(1, mac(5)), resolved(2, mac(6))]);
    assert_eq!(place(&mut cache, &[(1, 5), (2, 6)]), [], "nothing new");
    assert_eq!(cache.tick(secs(100_000)), []);
    assert_eq!(place(&mut cache, &[(2, 7)]), [resolved(2, mac(7))], "flows to the other go on");
    assert_eq!(cache.neighbors.len(), 1);
    assert_eq!(cache.used(1, secs(100_000)), [solicit(1, None)], "and are looked after");
}

#[test]
fn a_flood_of_unknown_targets_costs_no_known_neighbor() {
    // FLD-11: 100,000 targets that do not exist, in ten seconds, while fifty neighbors are in use.
    let mut cache = Cache::new(Limits::default());
    for n in 0..50 {
        cache.resolve(n, secs(1));
        cache.seen(n, Some(mac(1)), ANSWER, secs(1));
    }
    let mut questions = 0;
    for target in 0..100_000u32 {
        let now = secs(2) + Nanos::new(u64::from(target) * 100_000);
        let actions = cache.resolve(1_000 + target, now);
        questions += actions.iter().filter(|action| matches!(action, Action::Solicit { .. })).count();
        assert!(cache.neighbors.len() <= 50 + Limits::default().unresolved_max);
        assert!(actions.iter().all(|action| *action != failed(target % 50)));
        if target % 2_500 == 0 {
            for n in 0..50 {
                cache.used(n, now);
            }
            cache.tick(now);
        }
    }
    assert!(questions <= 11 * 2_000, "{questions}");
    assert!((0..50).all(|n| cache.find(n) == Some((State::Reachable, Some(mac(1))))), "lost");
}

#[test]
fn a_neighbor_that_answers_gets_in_during_a_flood() {
    let mut cache = Cache::new(Limits { new_per_second: u32::MAX, ..Limits::default() });
    for target in 0..5_000 {
        cache.resolve(1_000 + target, secs(1));
    }
    assert_eq!(cache.resolve(1, secs(1)), [failed(1_000 + 5_000 - 1_024), solicit(1, None)]);
    for target in 0..1_000 {
        cache.resolve(10_000 + target, secs(1));
    }
    assert_eq!(cache.seen(1, Some(mac(1)), ANSWER, secs(1)), [resolved(1, mac(1))]);
}

#[test]
fn a_full_cache_forgets_whom_it_used_least_lately() {
    let mut cache = Cache::new(Limits { resolved_max: 3, ..Limits::default() });
    for n in 1..=3 {
        cache.resolve(n, secs(1));
        cache.seen(n, Some(mac(1)), ANSWER, secs(1));
        cache.used(n, secs(10 - u64::from(n)));
    }
    cache.resolve(4, secs(11));
    assert_eq!(cache.seen(4, Some(mac(4)), ANSWER, secs(11)), [resolved(4, mac(4))]);
    assert_eq!((cache.neighbors.len(), cache.find(3)), (3, None));
    assert_eq!(cache.used(3, secs(11)), [solicit(3, None)]);
}

proptest! {
    #[test]
    fn whatever_happens_bounds_and_counts_hold(
        steps in prop::collection::vec((0u8..6, 0u32..12, 0u8..3, 0u64..3_000), 1..300),
    ) {
        let limits = Limits { resolved_max: 4, unresolved_max: 3, new_per_second: 5, ..Limits::default() };
        let mut cache = Cache::new(limits);
        cache.neighbors.set_own([address(0)], &mut cache.actions);
        let mut now = secs(1);
        // What a worker would know by listening to the actions.
        let mut known = HashMap::new();
        for (step, n, at, millis) in steps {
            now = now + Nanos::from_millis(millis);
            let actions = match step {
                0 | 1 => cache.resolve(n, now),
                2 => cache.seen(n, Some(mac(at)), ANSWER, now),
                3 => cache.seen(n, Some(mac(at)), Evidence::Gratuitous, now),
                4 => cache.used(n, now),
                _ => cache.tick(now),
            };
            for action in actions {
                match action {
                    Action::Resolved { address, mac, .. } => _ = known.insert(address, mac),
                    Action::Failed { address, .. } => _ = known.remove(&address),
                    Action::Solicit { address, unicast, .. } => {
                        prop_assert!(unicast.is_none() || unicast == known.get(&address).copied());
                    }
                    Action::Conflict { address: ours, .. } => prop_assert_eq!(ours, address(0)),
                }
            }
            let resolved: HashMap<_, _> =
                cache.neighbors.iter().filter_map(|it| Some((it.address, it.mac.filter(|_| it.state.is_resolved())?))).collect();
            prop_assert!(resolved.iter().all(|it| known.get(it.0) == Some(it.1)), "workers know what the cache knows");
            let failed = cache.neighbors.iter().find(|it| it.state == State::Failed && known.contains_key(&it.address));
            prop_assert_eq!(failed, None, "and nothing that failed");
            prop_assert!(resolved.len() <= 4 && cache.neighbors.len() <= 7);
            prop_assert_eq!(cache.neighbors.resolved, resolved.len());
            prop_assert_eq!(cache.neighbors.unresolved.len(), cache.neighbors.len() - resolved.len());
            prop_assert!(!resolved.contains_key(&address(0)));
        }
    }
}

#[test]
fn behind_another_cable_everybody_is_asked_anew() {
    // RLD-13: the stations of a port whose interface was made anew may be others.
    let elsewhere = PortId::new(1);
    for (state, asked, then) in [
        (State::Reachable, true, Some((State::Probe, Some(mac(1))))),
        (State::Stale, true, Some((State::Probe, Some(mac(1))))),
        (State::Probe, true, Some((State::Probe, Some(mac(1))))),
        (State::Incomplete, true, Some((State::Incomplete, None))),
        (State::Failed, false, None),
        (State::Static, false, Some((State::Static, Some(mac(1))))),
    ] {
        let mut cache = Cache::with(state);
        cache.neighbors.doubt(elsewhere, secs(100));
        assert_eq!(cache.find(1).unwrap().0, state, "another port's");
        cache.neighbors.doubt(PORT, secs(100));
        let solicit = Action::Solicit { port: PORT, address: address(1), unicast: None };
        assert_eq!(cache.tick(secs(100)), if asked { vec![solicit] } else { Vec::new() }, "{state:?}");
        assert_eq!(cache.find(1), then, "{state:?}");
    }
    // A neighbor that answers with another address has it at once; one that nobody is any more fails in the usual time.
    let mut cache = Cache::with(State::Reachable);
    cache.neighbors.doubt(PORT, secs(100));
    cache.tick(secs(100));
    let moved = vec![Action::Resolved { port: PORT, address: address(1), mac: mac(9) }];
    assert_eq!(cache.seen(1, Some(mac(9)), ANSWER, secs(100)), moved);
    cache.neighbors.doubt(PORT, secs(101));
    let failed = Action::Failed { port: PORT, address: address(1) };
    let told = (101..120).find(|&second| cache.tick(secs(second)).contains(&failed));
    assert!(told.is_some_and(|second| second <= 105), "{told:?}");
}

#[test]
fn thousands_of_neighbors_are_asked_one_after_the_other() {
    let mut cache = Cache::new(Limits::default());
    for n in 1..=400 {
        cache.resolve(n, secs(1 + u64::from(n) / 50));
        cache.seen(n, Some(mac(1)), ANSWER, secs(1 + u64::from(n) / 50));
    }
    cache.neighbors.doubt(PORT, secs(10));
    let asked = [0, 100, 200, 300, 400].map(|millis| cache.tick(secs(10) + Nanos::from_millis(millis)).len());
    assert_eq!(asked.iter().sum::<usize>(), 400);
    assert!(asked.iter().all(|&asked| asked <= 101), "{asked:?}");
}
