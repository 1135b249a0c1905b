//! Rules multiplied out into flat entries of one prefix, one range, one zone each, as classifiers over tries and ranges
//! want them. Pure; called in management when a policy is compiled, and by `check`.

use ipnet::IpNet;
use units::limits::CLASSIFIER_ENTRIES_MAX;
use units::{RuleId, ZoneId};

use super::Rule;
use super::normal::{Normal, Part};
use crate::PortRange;

/// One flat entry. What is `None` matches everything; so do [`PortRange::ANY`] and prefixes of length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The rule it belongs to. Of all entries that match, the one with the lowest rule decides.
    pub rule: RuleId,
    /// Zone the packet comes from.
    pub from: Option<ZoneId>,
    /// Zone the packet goes to.
    pub to: Option<ZoneId>,
    /// The protocol as on the wire.
    pub protocol: Option<u8>,
    /// Source prefix, of the family of its list, host bits zero.
    pub source: IpNet,
    /// Destination prefix, of the family of its list, host bits zero.
    pub destination: IpNet,
    /// Source ports, or ICMP types.
    pub source_port: PortRange,
    /// Destination ports, or ICMP codes.
    pub destination_port: PortRange,
}

/// The entries of a rule list, each family in the order of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Entries for IPv4 packets.
    pub v4: Vec<Entry>,
    /// Entries for IPv6 packets.
    pub v6: Vec<Entry>,
}

/// The rules multiply out to more entries than the classifier holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the firewall rules take {total} classifier entries and {limit} fit; rule \"{rule}\" alone takes {entries}: it is \
     every source with every destination, port range and zone"
)]
pub struct ExpandError {
    /// The rule that takes the most.
    pub rule: String,
    /// How many that rule takes.
    pub entries: u64,
    /// How many all rules take.
    pub total: u64,
    /// How many there may be.
    pub limit: usize,
}

/// The flat entries of `rules`; [`RuleId`]s are their places in the list. Prefixes that contain one another and ranges
/// that touch are merged within a rule.
///
/// # Errors
/// [`ExpandError`] beyond [`CLASSIFIER_ENTRIES_MAX`] entries; nothing of that size is allocated before it is known.
pub fn expand(rules: &[Rule]) -> Result<Entries, ExpandError> {
    expand_within(rules, CLASSIFIER_ENTRIES_MAX)
}

fn expand_within(rules: &[Rule], limit: usize) -> Result<Entries, ExpandError> {
    let normal: Vec<Normal> = rules.iter().map(Normal::of).collect();
    let counts = || normal.iter().map(Normal::entries);
    let total = counts().fold(0, u64::saturating_add);
    if usize::try_from(total).is_ok_and(|total| total <= limit) {
        let mut entries = Entries::default();
        for (id, rule) in (0..).map(RuleId::new).zip(&normal) {
            multiply(id, rule, rule.v4.as_ref(), &mut entries.v4);
            multiply(id, rule, rule.v6.as_ref(), &mut entries.v6);
        }
        return Ok(entries);
    }
    let largest = counts().zip(rules).max_by_key(|&(entries, _)| entries);
    let (entries, rule) = largest.map_or((0, String::new()), |(entries, rule)| (entries, rule.name.clone()));
    Err(ExpandError { rule, entries, total, limit })
}

fn multiply(id: RuleId, rule: &Normal, part: Option<&Part>, out: &mut Vec<Entry>) {
    let Some(part) = part else { return };
    for from in every(&rule.from) {
        for to in every(&rule.to) {
            for traffic in &part.traffic {
                for &source_port in &traffic.source_ports {
                    for &destination_port in &traffic.destination_ports {
                        out.extend(part.sources.iter().flat_map(|&source| {
                            part.destinations.iter().map(move |&destination| Entry {
                                rule: id,
                                from,
                                to,
                                protocol: traffic.protocol,
                                source,
                                destination,
                                source_port,
                                destination_port,
                            })
                        }));
                    }
                }
            }
        }
    }
}

/// Each zone of a list, or one time none for every zone.
fn every(zones: &[ZoneId]) -> impl Iterator<Item = Option<ZoneId>> {
    zones.is_empty().then_some(None).into_iter().chain(zones.iter().copied().map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::ProtocolMatch;
    use crate::firewall::tests::rule_for_all;

    fn rule(name: &str) -> Rule {
        Rule { name: name.into(), ..rule_for_all() }
    }

    fn prefixes(count: u32) -> Vec<IpNet> {
        (0..count).map(|number| format!("10.{}.{}.0/25", number / 256, number % 256).parse().unwrap()).collect()
    }

    #[test]
    fn a_rule_for_everything_is_one_entry_in_each_family() {
        let entries = expand(&[rule("all")]).unwrap();
        let (v4, v6): (IpNet, IpNet) = ("0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap());
        let of = |any| Entry {
            rule: RuleId::new(0),
            from: None,
            to: None,
            protocol: None,
            source: any,
            destination: any,
            source_port: PortRange::ANY,
            destination_port: PortRange::ANY,
        };
        assert_eq!(entries, Entries { v4: vec![of(v4)], v6: vec![of(v6)] });
    }

    #[test]
    fn a_rule_is_multiplied_out_in_its_family_alone() {
        let shop = Rule {
            from: vec![ZoneId::new(1)],
            destination: vec!["198.51.100.10/32".parse().unwrap(), "2001:db8:51::10/128".parse().unwrap()],
            source: vec!["192.0.2.7/24".parse().unwrap()],
            protocol: ProtocolMatch::Tcp,
            destination_port: vec![PortRange::single(80), PortRange::new(8_000, 8_100).unwrap()],
            ..rule("shop")
        };
        let entries = expand(&[rule("all"), shop]).unwrap();
        assert_eq!((entries.v4.len(), entries.v6.len()), (3, 1));
        let last = entries.v4[2];
        assert_eq!(
            (last.rule, last.from, last.to, last.protocol),
            (RuleId::new(1), Some(ZoneId::new(1)), None, Some(6))
        );
        assert_eq!(
            (last.source.to_string(), last.destination_port.to_string()),
            ("192.0.2.0/24".into(), "8000-8100".into())
        );
    }

    #[test]
    fn ports_without_a_protocol_mean_tcp_and_udp() {
        let dns = Rule { destination_port: vec![PortRange::single(53)], ..rule("dns") };
        let protocols: Vec<_> = expand(&[dns]).unwrap().v4.iter().map(|entry| entry.protocol).collect();
        assert_eq!(protocols, [Some(6), Some(17)]);
    }

    #[test]
    fn a_rule_that_multiplies_beyond_the_limit_is_named() {
        let huge = Rule { source: prefixes(3_000), destination: prefixes(3_000), ..rule("huge") };
        let error = expand(&[rule("small"), huge, rule("small-too")]).unwrap_err();
        let wanted =
            ExpandError { rule: "huge".into(), entries: 9_000_000, total: 9_000_004, limit: CLASSIFIER_ENTRIES_MAX };
        assert_eq!(error, wanted);
        assert!(error.to_string().contains("rule \"huge\" alone takes 9000000"));
    }

    #[test]
    fn the_limit_itself_still_fits() {
        let ten = Rule { source: prefixes(10), ..rule("ten") };
        assert_eq!(expand_within(std::slice::from_ref(&ten), 10).unwrap().v4.len(), 10);
        assert_eq!(expand_within(&[ten], 9).unwrap_err().entries, 10);
    }

    #[test]
    fn no_product_of_lengths_overflows() {
        let ports: Vec<_> = (0..30_000).map(|number| PortRange::single(number * 2)).collect();
        let huge = Rule {
            source: prefixes(30_000),
            destination: prefixes(30_000),
            from: (0..=254).map(ZoneId::new).collect(),
            to: (0..=254).map(ZoneId::new).collect(),
            source_port: ports.clone(),
            destination_port: ports,
            ..rule("huge")
        };
        assert_eq!(expand(&[huge]).unwrap_err().entries, u64::MAX);
    }
}
