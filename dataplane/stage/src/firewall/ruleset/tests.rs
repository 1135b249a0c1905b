//! Judgements, counters and limits of one ruleset, and what goes on in the next.

use std::net::{Ipv4Addr, Ipv6Addr};

use units::{PerSecond, TenantId, ZoneId};
use wire::Endpoints;

use super::*;
use crate::firewall::Linear;
use crate::firewall::tests::rule_for_all;

const NOW: Nanos = Nanos::from_secs(100);

fn rule(name: &str, action: Action) -> Rule {
    Rule { name: name.into(), action, ..rule_for_all() }
}

fn from_source(last: u8) -> Candidate {
    Candidate {
        from: ZoneId::new(1),
        to: ZoneId::new(2),
        tenant: TenantId::NONE,
        protocol: 17,
        endpoints: Endpoints::V4 {
            source: Ipv4Addr::new(198, 51, 100, last),
            destination: Ipv4Addr::new(203, 0, 113, 53),
        },
        source_port: 40_000,
        destination_port: 53,
    }
}

fn in_force(rules: Vec<Rule>, previous: Option<&Ruleset>) -> Ruleset {
    let classifier = Box::new(Linear::new(&rules));
    Ruleset::new(rules, Action::Deny, classifier, previous)
}

fn judged(ruleset: &Ruleset, candidates: &[Candidate], now: Nanos) -> Vec<Judgement> {
    let mut judgements = vec![Judgement::DENIED; candidates.len()];
    ruleset.judge(WorkerId::new(0), candidates, now, &mut judgements);
    judgements
}

fn allowed(judgements: &[Judgement]) -> usize {
    judgements.iter().filter(|judgement| judgement.action == Action::Allow).count()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let denied = Rule { source: vec!["198.51.100.7/32".parse().unwrap()], ..rule("denied", Action::Deny) };
    let ruleset = in_force(vec![denied, Rule { log: true, ..rule("rest", Action::Allow) }], None);
    let judgements = judged(&ruleset, &[from_source(7), from_source(8)], NOW);
    assert_eq!(judgements[0], Judgement { rule: Some(RuleId::new(0)), ..Judgement::DENIED });
    let rest = Judgement { action: Action::Allow, rule: Some(RuleId::new(1)), limited: None, log: true };
    assert_eq!(judgements[1], rest);
    assert_eq!(ruleset.name(RuleId::new(1)), Some("rest"));
    assert_eq!(ruleset.name(RuleId::new(2)), None);
}

#[test]
fn what_no_rule_matches_meets_the_default_and_is_counted_there() {
    let only_v6 = Rule { source: vec!["2001:db8::/32".parse().unwrap()], ..rule("v6", Action::Allow) };
    let ruleset = in_force(vec![only_v6], None);
    assert_eq!(judged(&ruleset, &[from_source(1), from_source(2)], NOW), [Judgement::DENIED; 2]);
    assert_eq!((ruleset.default_hits(), ruleset.default_action()), (2, Action::Deny));
    assert_eq!(ruleset.counts().map(|counts| counts.hits).collect::<Vec<_>>(), [0]);
}

#[test]
fn hits_are_counted_in_bursts_of_any_length() {
    let odd = Rule { source: vec!["198.51.100.1/32".parse().unwrap()], ..rule("odd", Action::Allow) };
    let ruleset = in_force(vec![odd, rule("rest", Action::Reject)], None);
    let candidates: Vec<_> = (0..200).map(|number| from_source(if number % 5 == 0 { 1 } else { 2 })).collect();
    judged(&ruleset, &candidates, NOW);
    judged(&ruleset, &[], NOW);
    let counts: Vec<_> = ruleset.counts().map(|counts| (counts.name, counts.action, counts.hits)).collect();
    assert_eq!(counts, [("odd", Action::Allow, 40), ("rest", Action::Reject, 160)]);
    assert_eq!(ruleset.default_hits(), 0);
}

#[test]
fn a_short_slice_of_judgements_limits_what_is_judged_and_counted() {
    let ruleset = in_force(vec![rule("all", Action::Allow)], None);
    let mut judgements = [Judgement::DENIED; 2];
    ruleset.judge(WorkerId::new(0), &[from_source(1); 5], NOW, &mut judgements);
    ruleset.judge(WorkerId::new(0), &[from_source(1)], NOW, &mut judgements);
    assert_eq!(ruleset.counts().map(|counts| counts.hits).sum::<u64>(), 3);
}

#[test]
fn counters_and_buckets_go_on_by_name_whatever_the_order() {
    let limited = Rule { new_sessions_per_second: Some(PerSecond::new(3)), ..rule("limited", Action::Allow) };
    let before = in_force(vec![limited.clone()], None);
    assert_eq!(allowed(&judged(&before, &[from_source(1); 5], NOW)), 3);
    let other = Rule { source: vec!["192.0.2.0/24".parse().unwrap()], ..rule("other", Action::Allow) };
    let after = in_force(vec![other, limited], Some(&before));
    assert_eq!(allowed(&judged(&after, &[from_source(1); 2], NOW)), 0, "the bucket is still empty");
    assert_eq!(allowed(&judged(&before, &[from_source(1); 2], NOW)), 0, "also for workers that still use the old one");
    let counts: Vec<_> = after.counts().map(|counts| (counts.name, counts.hits, counts.limited_by_rule)).collect();
    assert_eq!(counts, [("other", 0, 0), ("limited", 9, 6)]);
}

#[test]
fn a_rule_that_changes_its_rate_keeps_no_more_than_the_new_burst() {
    let with_rate =
        |rate| Rule { new_sessions_per_second: Some(PerSecond::new(rate)), ..rule("limited", Action::Allow) };
    let before = in_force(vec![with_rate(100)], None);
    assert_eq!(allowed(&judged(&before, &[from_source(1); 50], NOW)), 50);
    let after = in_force(vec![with_rate(10)], Some(&before));
    assert_eq!(allowed(&judged(&after, &[from_source(1); 50], NOW)), 5, "half a second is spent");
}

#[test]
fn one_source_beyond_its_limit_leaves_the_rule_to_the_others() {
    let limited = Rule {
        new_sessions_per_second: Some(PerSecond::new(30)),
        new_sessions_per_source: Some(PerSecond::new(20)),
        log: true,
        ..rule("dns-in-limit", Action::Allow)
    };
    let ruleset = in_force(vec![limited], None);
    let flood = judged(&ruleset, &[from_source(1); 1_000], NOW);
    assert_eq!(allowed(&flood), 20);
    assert_eq!(flood[999].limited, Some(Limited::Source));
    assert_eq!(flood[999].drop_reason(), Some(DropReason::SourceRateLimited));
    assert!(flood[19].log && !flood[20].log, "what a limit turns away is not logged");
    let other = judged(&ruleset, &[from_source(2); 20], NOW);
    assert_eq!(allowed(&other), 10);
    assert_eq!(other[19].drop_reason(), Some(DropReason::RuleRateLimited));
    let counts = ruleset.counts().next().unwrap();
    assert_eq!((counts.hits, counts.limited_by_source, counts.limited_by_rule), (1_020, 980, 10));
    assert_eq!(allowed(&judged(&ruleset, &[from_source(1); 30], NOW + Nanos::from_secs(1))), 20, "a second later");
}

#[test]
fn sources_are_counted_for_each_rule_alone() {
    let to_port = |name: &str, zone| Rule {
        to: vec![ZoneId::new(zone)],
        new_sessions_per_source: Some(PerSecond::new(2)),
        ..rule(name, Action::Allow)
    };
    let ruleset = in_force(vec![to_port("one", 2), to_port("two", 3)], None);
    let elsewhere = Candidate { to: ZoneId::new(3), ..from_source(1) };
    assert_eq!(allowed(&judged(&ruleset, &[from_source(1); 3], NOW)), 2);
    assert_eq!(allowed(&judged(&ruleset, &[elsewhere; 3], NOW)), 2);
    let swapped = in_force(vec![to_port("two", 3), to_port("one", 2)], Some(&ruleset));
    assert_eq!(allowed(&judged(&swapped, &[from_source(1), elsewhere], NOW)), 0, "places change, names do not");
}

#[test]
fn limits_concern_only_rules_that_allow() {
    let denied = Rule { new_sessions_per_second: Some(PerSecond::new(1)), ..rule("denied", Action::Deny) };
    let ruleset = in_force(vec![denied], None);
    assert!(judged(&ruleset, &[from_source(1); 5], NOW).iter().all(|judgement| judgement.limited.is_none()));
}

#[test]
fn judging_again_counts_nothing_and_takes_no_token() {
    let limited = Rule {
        new_sessions_per_second: Some(PerSecond::new(1)),
        log: true,
        destination: vec!["203.0.113.53/32".parse().unwrap()],
        ..rule("limited", Action::Allow)
    };
    let ruleset = in_force(vec![limited], None);
    let elsewhere = Candidate {
        endpoints: Endpoints::V6 { source: Ipv6Addr::LOCALHOST, destination: Ipv6Addr::LOCALHOST },
        ..from_source(1)
    };
    let mut judgements = [Judgement::DENIED; 3];
    ruleset.rejudge(&[from_source(1), from_source(1), elsewhere], &mut judgements);
    let kept = Judgement { action: Action::Allow, rule: Some(RuleId::new(0)), ..Judgement::DENIED };
    assert_eq!(judgements, [kept, kept, Judgement::DENIED]);
    assert_eq!((ruleset.counts().next().unwrap().hits, ruleset.default_hits()), (0, 0));
    assert_eq!(allowed(&judged(&ruleset, &[from_source(1)], NOW)), 1, "the token is still there");
}

#[test]
fn every_refusal_has_its_drop_reason() {
    let reason = |action| Judgement { action, ..Judgement::DENIED }.drop_reason();
    assert_eq!(reason(Action::Allow), None);
    assert_eq!(reason(Action::Deny), Some(DropReason::FirewallDenied));
    assert_eq!(reason(Action::Reject), Some(DropReason::FirewallRejected));
}

#[test]
fn memory_is_known_and_source_buckets_exist_only_when_a_rule_asks() {
    let plain = in_force(vec![rule("plain", Action::Allow)], None);
    let limited = Rule { new_sessions_per_source: Some(PerSecond::new(2)), ..rule("limited", Action::Allow) };
    let with_sources = in_force(vec![limited], Some(&plain));
    assert!(plain.memory() < 4_096);
    assert!(with_sources.memory() > units::limits::LIMITED_SOURCES * 24);
    let again = in_force(vec![rule("plain", Action::Allow)], Some(&with_sources));
    assert!(again.memory() < 4_096);
}

/// What is staged counts what it would have done and changes no judgement; its counters go on in the next ruleset.
#[test]
fn staged_rules_are_counted_beside_those_in_force() {
    let live = || vec![Rule { source: vec!["198.51.100.1/32".parse().unwrap()], ..rule("one", Action::Allow) }];
    let tried = |previous: Option<&Ruleset>| {
        let two = Rule { source: vec!["198.51.100.2/32".parse().unwrap()], ..rule("two", Action::Allow) };
        let rules = [rule("none", Action::Reject), two];
        let rules =
            vec![Rule { source: vec!["198.51.100.1/32".parse().unwrap()], ..rules[0].clone() }, rules[1].clone()];
        let classifier = Box::new(Linear::new(&rules));
        Staged::new(rules, |_| true, Action::Deny, classifier, previous.and_then(Ruleset::staged))
    };
    let candidates: Vec<Candidate> = (0..4).chain(0..70).map(|last| from_source(last % 4)).collect();
    let plain = in_force(live(), None);
    let with = in_force(live(), None).with_staged(Some(tried(None)));
    assert_eq!(judged(&with, &candidates, NOW), judged(&plain, &candidates, NOW));
    let again = in_force(live(), Some(&with)).with_staged(Some(tried(Some(&with))));
    judged(&again, &[from_source(1)], NOW);
    let counts: Vec<_> = again.staged().unwrap().counts().collect();
    assert_eq!((counts[0].hits, counts[0].would_allow, counts[0].would_refuse), (20, 0, 20));
    assert_eq!((counts[1].hits, counts[1].would_allow, counts[1].would_refuse), (18, 18, 0));
    let default = again.staged().unwrap().default_counts();
    assert_eq!((default.hits, default.would_allow, default.would_refuse), (37, 0, 0));
    assert!(again.staged().unwrap().memory() > 0 && again.memory() > plain.memory());
}

/// What was counted of a rule is not another's of the same name.
#[test]
fn staged_rules_that_say_something_else_begin_to_count_anew() {
    let tried = |rules: Vec<Rule>, default, previous: Option<&Staged>| {
        let classifier = Box::new(Linear::new(&rules));
        Staged::new(rules, |_| true, default, classifier, previous)
    };
    let from = |last: u8| vec![format!("198.51.100.{last}/32").parse().unwrap()];
    let rules = |other: u8| {
        vec![
            Rule { source: from(1), ..rule("same", Action::Deny) },
            Rule { source: from(other), ..rule("other", Action::Deny) },
        ]
    };
    let counted = in_force(Vec::new(), None).with_staged(Some(tried(rules(2), Action::Allow, None)));
    judged(&counted, &[1, 1, 2, 3].map(from_source), NOW);
    let before = counted.staged();
    let hits = |staged: &Staged| {
        staged.counts().map(|rule| rule.hits).chain([staged.default_counts().hits]).collect::<Vec<_>>()
    };
    assert_eq!(hits(before.unwrap()), [2, 1, 1]);
    assert_eq!(hits(&tried(rules(2), Action::Allow, before)), [2, 1, 1]);
    assert_eq!(hits(&tried(rules(3), Action::Deny, before)), [2, 0, 0]);
}

/// A limit that is used up is not what the rules differ in.
#[test]
fn what_a_limit_turns_away_counts_as_let_in() {
    let limited = Rule { new_sessions_per_second: Some(PerSecond::new(1)), ..rule("all", Action::Allow) };
    let staged = vec![rule("all", Action::Allow)];
    let classifier = Box::new(Linear::new(&staged));
    let staged = Staged::new(staged, |_| true, Action::Deny, classifier, None);
    let ruleset = in_force(vec![limited], None).with_staged(Some(staged));
    let candidates = [from_source(1); 50];
    assert!(judged(&ruleset, &candidates, NOW).iter().any(|judgement| judgement.limited.is_some()));
    let counts = ruleset.staged().unwrap().counts().next().unwrap();
    assert_eq!((counts.hits, counts.would_allow, counts.would_refuse), (50, 0, 0));
}
