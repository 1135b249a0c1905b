//! Mappings against a plain model: which outside ends are taken, who is let in, what is left when all is over.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const POOL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

fn host(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn far(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
}

fn mapped(mapping: Mapping, filtering: Filtering, client: (u8, u16), port: u16, to: (u8, u16)) -> Mapped {
    let held_for = mapping.far(far(to.0), to.1);
    Mapped {
        inside: Inside { pool: 0, protocol: 17, address: host(client.0), port: client.1, far: held_for, aside: 0 },
        outside: Outside { protocol: 17, address: POOL.into(), port, far: held_for },
        filtering,
    }
}

/// RFC 6888 REQ-4: a source has so many ports and no more, and gets one again when one is free.
#[test]
fn a_source_is_limited_by_itself() {
    let mut mappings = Mappings::new(16);
    let make = |client, port| {
        let filtering = Filtering::default();
        mapped(Mapping::EndpointIndependent, filtering, (client, port), port, (1, 53))
    };
    let first = mappings.open(make(1, 1), Some(2)).unwrap();
    mappings.retain(first, far(1));
    let second = mappings.open(make(1, 2), Some(2)).unwrap();
    mappings.retain(second, far(1));
    assert_eq!(mappings.open(make(1, 3), Some(2)), Err(NoMapping::SourceLimit));
    assert!(mappings.open(make(2, 4), Some(2)).is_ok(), "another source");
    assert_eq!(mappings.ports_of(0, host(1)), 2);
    assert!(mappings.release(first, far(1)).is_some());
    assert!(mappings.open(make(1, 3), Some(2)).is_ok());
}

/// EVA-25: who is let in through a mapping is what its filtering says, for each of the three kinds (RFC 4787 section 5).
#[test]
fn filtering_decides_who_may_open_a_conversation() {
    use Filtering as F;
    use Mapping as M;
    for (mapping, filtering, asked, other_port, other_host) in [
        (M::EndpointIndependent, F::EndpointIndependent, true, true, true),
        (M::EndpointIndependent, F::AddressDependent, true, true, false),
        (M::EndpointIndependent, F::AddressAndPortDependent, false, false, false),
        (M::AddressDependent, F::AddressDependent, true, true, false),
        (M::AddressDependent, F::AddressAndPortDependent, false, false, false),
        (M::AddressAndPortDependent, F::AddressAndPortDependent, false, false, false),
    ] {
        let mut mappings = Mappings::new(16);
        let id = mappings.open(mapped(mapping, filtering, (1, 5_000), 6_000, (7, 53)), None).unwrap();
        mappings.retain(id, far(7));
        let admits = |from| mappings.admits(17, POOL.into(), 6_000, far(from)) == Some(id);
        let shown = (admits(7), admits(7), admits(8));
        assert_eq!(shown, (asked, other_port, other_host), "{mapping:?} {filtering:?}");
        assert_eq!(mappings.admits(6, POOL.into(), 6_000, far(7)), None, "another protocol");
        assert_eq!(mappings.admits(17, POOL.into(), 6_001, far(7)), None, "another port");
    }
}

#[test]
fn a_permit_ends_with_the_last_session_to_that_address() {
    let mut mappings = Mappings::new(16);
    let client = mapped(Mapping::EndpointIndependent, Filtering::AddressDependent, (1, 5_000), 6_000, (7, 53));
    let id = mappings.open(client, None).unwrap();
    for address in [7, 7, 8] {
        mappings.retain(id, far(address));
    }
    assert_eq!(mappings.release(id, far(7)), None);
    assert!(mappings.admits(17, POOL.into(), 6_000, far(7)).is_some(), "one session is left");
    assert_eq!(mappings.release(id, far(7)), None);
    assert!(mappings.admits(17, POOL.into(), 6_000, far(7)).is_none());
    assert_eq!(mappings.release(id, far(8)), Some(client));
    assert!(mappings.is_empty() && mappings.permits.is_empty() && mappings.by_outside.is_empty());
}

/// A table that is full refuses and is what it was.
#[test]
fn a_full_table_refuses_and_changes_nothing() {
    let mut mappings = Mappings::new(1);
    let make = |port| mapped(Mapping::EndpointIndependent, Filtering::default(), (1, port), port, (1, 53));
    let id = mappings.open(make(1), Some(5)).unwrap();
    assert_eq!(mappings.open(make(2), Some(5)), Err(NoMapping::Full));
    assert_eq!((mappings.len(), mappings.ports_of(0, host(1))), (1, 1));
    assert!(!mappings.is_taken(&make(2).outside));
    assert!(mappings.abandon(id).is_some() && mappings.sources.is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask { client: (u8, u16), to: (u8, u16), first_port: u16 },
    End { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => ((1..5_u8, 5_000..5_004_u16), (1..4_u8, 50..53_u16), 6_000..6_012_u16)
            .prop_map(|(client, to, first_port)| Step::Ask { client, to, first_port }),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::End { which: index.index(1_000) }),
    ];
    prop::collection::vec(step, 1..400)
}

/// Far address and port as far as they matter (0 and none for all), and the outside port they see.
type Seen = ((u8, Option<u16>), u16);
/// One session of the model.
type Live = (MappingId, (u8, u16), (u8, u16), u16);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Tens of thousands of random sessions in every mode, of few clients on few ports: no two clients ever share an
    /// outside end where it would matter, one client always keeps its own, and nothing is left when all is over.
    #[test]
    fn ends_never_collide_and_nothing_is_left(mode in 0..3_usize, filter in 0..3_usize, limit in 1..20_u32, steps in steps()) {
        let (_, mapping) = Mapping::WORDS[mode];
        let (_, filtering) = Filtering::WORDS[filter.max(mode)];
        let mut mappings = Mappings::new(64);
        let mut live: Vec<Live> = Vec::new();
        for step in steps {
            match step {
                Step::Ask { client, to, first_port } => {
                    if live.iter().any(|&(_, c, t, _)| c == client && t == to) {
                        continue;
                    }
                    let make = |port| mapped(mapping, filtering, client, port, to);
                    let id = match mappings.find(&make(0).inside) {
                        Some(id) => id,
                        None => {
                            let free = (0..12).map(|n| 6_000 + (first_port - 6_000 + n) % 12).find(|&port| !mappings.is_taken(&make(port).outside));
                            let Some(port) = free else { continue };
                            let held = |c: u8| {
                                let mut ports: Vec<_> = live.iter().filter(|l| l.1.0 == c).map(|l| l.3).collect();
                                ports.sort_unstable();
                                ports.dedup();
                                u32::try_from(ports.len()).unwrap()
                            };
                            prop_assert_eq!(mappings.ports_of(0, host(client.0)), held(client.0));
                            match mappings.open(make(port), Some(limit)) {
                                Ok(id) => id,
                                Err(NoMapping::SourceLimit) => {
                                    prop_assert_eq!(held(client.0), limit);
                                    continue;
                                }
                                Err(NoMapping::Full) => {
                                    prop_assert_eq!(mappings.len(), 64);
                                    continue;
                                }
                            }
                        }
                    };
                    mappings.retain(id, far(to.0));
                    live.push((id, client, to, mappings.get(id).unwrap().outside.port));
                }
                Step::End { which } => {
                    if !live.is_empty() {
                        let (id, _, to, _) = live.remove(which % live.len());
                        let last = !live.iter().any(|l| l.0 == id);
                        prop_assert_eq!(mappings.release(id, far(to.0)).is_some(), last);
                    }
                }
            }
            let mut towards: HashMap<Seen, (u8, u16)> = HashMap::new();
            for &(_, client, to, port) in &live {
                // What a far end must be able to tell apart.
                let seen_by = match mapping {
                    Mapping::EndpointIndependent => (0, None),
                    Mapping::AddressDependent => (to.0, None),
                    Mapping::AddressAndPortDependent => (to.0, Some(to.1)),
                };
                prop_assert_eq!(*towards.entry((seen_by, port)).or_insert(client), client, "shared {}", port);
            }
            for &(id, client, to, port) in &live {
                let same = live.iter().filter(|l| l.1 == client && (mapping == Mapping::EndpointIndependent || l.2.0 == to.0 && mapping == Mapping::AddressDependent));
                prop_assert!(same.clone().all(|l| l.3 == port), "one client, one outside end");
                let expected = filtering == Filtering::EndpointIndependent || filtering == Filtering::AddressDependent;
                prop_assert_eq!(mappings.admits(17, POOL.into(), port, far(to.0)) == Some(id), expected);
            }
        }
        for (id, _, to, _) in live {
            mappings.release(id, far(to.0));
        }
        prop_assert!(mappings.is_empty() && mappings.by_outside.is_empty() && mappings.permits.is_empty() && mappings.sources.is_empty());
    }
}

/// A mapping that was set aside keeps its outside end and its sessions; its inside end gets another.
#[test]
fn a_mapping_set_aside_is_not_found_again() {
    let mut mappings = Mappings::new(16);
    let make = |port| mapped(Mapping::EndpointIndependent, Filtering::default(), (1, 5), port, (1, 53));
    let old = mappings.open(make(5), Some(2)).unwrap();
    mappings.retain(old, far(1));
    mappings.set_aside(old);
    assert_eq!(mappings.find(&make(5).inside), None);
    assert!(mappings.is_taken(&make(5).outside));
    let new = mappings.open(make(6), Some(2)).unwrap();
    mappings.retain(new, far(1));
    assert_eq!((mappings.find(&make(5).inside), mappings.ports_of(0, host(1))), (Some(new), 2));
    assert!(mappings.release(old, far(1)).is_some());
    assert!(!mappings.is_taken(&make(5).outside) && mappings.is_taken(&make(6).outside));
    assert!(mappings.release(new, far(1)).is_some());
    assert_eq!((mappings.len(), mappings.ports_of(0, host(1))), (0, 0));
}
