//! The one registry of drop reasons: the enum, its counter index, the operator's name and sentence. Command line,
//! metrics, trace and capture all read it. Every dropped packet is counted under exactly one.

use core::fmt;

use wire::Malformed;

macro_rules! reasons {
    ($($variant:ident $name:literal $words:literal)*) => {
        /// Why a packet did not come out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            /// The bytes are not a packet the appliance treats.
            Malformed(Malformed),
            $(#[doc = $words] $variant,)*
        }

        #[derive(Clone, Copy)]
        enum Own { $($variant,)* }

        impl DropReason {
            const OWN: &'static [Self] = &[$(Self::$variant,)*];

            /// The position of this reason's counter, below [`DropReason::COUNT`].
            #[must_use]
            pub const fn index(self) -> usize {
                match self {
                    Self::Malformed(malformed) => malformed.index(),
                    $(Self::$variant => Malformed::COUNT + Own::$variant as usize,)*
                }
            }

            /// The name in `show drops`, metrics and captures: never renamed.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Malformed(malformed) => malformed.name(),
                    $(Self::$variant => $name,)*
                }
            }

            /// The operator's sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    Self::Malformed(malformed) => malformed.sentence(),
                    $(Self::$variant => $words,)*
                }
            }
        }
    };
}

reasons! {
    ChainedBuffer "chained_buffer" "The frame is larger than the packet buffers of the appliance."
    NotOurMac "not_our_mac" "The frame is addressed to another station."
    UnknownEthertype "unknown_ethertype" "Neither IP nor ARP, and not for this appliance."
    UnknownVlan "unknown_vlan" "The frame carries a VLAN tag that the port does not expect."
    SourceOwnAddress "source_own_address" "The packet claims to come from an address of this appliance."
    Blocklisted "blocklisted" "Its source is on a blocklist."
    BogonSource "bogon_source" "Its source is an address nobody on the Internet has."
    ReversePathFailed "reverse_path_failed" "Its source is not reached the way it came from."
    HopByHopRefused "hop_by_hop_refused" "IPv6 hop-by-hop options, which its zone refuses."
    RoutingHeaderRefused "routing_header_refused" "An IPv6 routing header with segments left, of a type its zone does not let in."
    ArpUnwanted "arp_unwanted" "An ARP packet that neither asks for nor answers this appliance."
    NeighborDiscoveryInvalid "neighbor_discovery_invalid" "A neighbor discovery message that RFC 4861 tells receivers to ignore."
    MulticastUnwanted "multicast_unwanted" "Multicast or broadcast that is not for this appliance."
    FragmentOverlap "fragment_overlap" "A fragment that overlaps others of its datagram or contradicts them, and the whole datagram with it (RFC 5722)."
    FragmentDuplicate "fragment_duplicate" "A fragment that has come before; its datagram is not affected."
    FragmentsTooMany "fragments_too_many" "A datagram in more fragments than `[fragments] per_datagram`."
    FragmentsOfSource "fragments_of_source" "The oldest incomplete datagram of a sender that has its share of the fragments that may wait."
    FragmentsFull "fragments_full" "The oldest incomplete datagram, given up because `[fragments] capacity` are waiting."
    FragmentTimeout "fragment_timeout" "Fragments of a datagram that was not complete in time."
    FirewallDenied "firewall_denied" "A firewall rule, or the default, denies it."
    FirewallRejected "firewall_rejected" "A firewall rule rejects it; the sender was told."
    RuleRateLimited "rule_rate_limited" "The new sessions the rule allows in a second are used up."
    SourceRateLimited "source_rate_limited" "The new sessions the rule allows one source in a second are used up."
    SourceSessionsLimited "source_sessions_limited" "Its source has as many sessions as the zone allows."
    HalfOpenLimited "half_open_limited" "As many handshakes are under way as the virtual service allows (`half_open_limit`)."
    NoSession "no_session" "It belongs to no session and does not open one."
    TcpOutOfWindow "tcp_out_of_window" "The sequence number lies outside the window of its session."
    TcpInvalidState "tcp_invalid_state" "The TCP flags do not fit the state of the session."
    AwaitsBackend "awaits_backend" "Its client has proven itself with a SYN cookie and the backend has not answered yet."
    IcmpErrorUnmatched "icmp_error_unmatched" "An ICMP error about a packet of no session."
    IcmpMtuFloor "icmp_mtu_floor" "An ICMP error that claims a path MTU below 552 bytes (IPv4) or 1,280 (IPv6): it would only make the sender slow."
    IcmpErrorsLimited "icmp_errors_limited" "More ICMP errors about one session than are passed on in a second."
    IcmpUnwanted "icmp_unwanted" "An ICMP message that routers do not pass on."
    SessionTableFull "session_table_full" "The session table is full; established sessions go on."
    NatPortsExhausted "nat_ports_exhausted" "No free port on the addresses that hide this source."
    Nat64Unsupported "nat64_unsupported" "NAT64 carries TCP, UDP and echo, to IPv4 addresses that its prefix may stand before; the sender was told."
    NatSourceLimit "nat_source_limit" "The source has as many outside ports as its source NAT rule allows."
    SourceAddressGone "source_address_gone" "The address that hid the session's source is no longer in the policy; the session was ended."
    NoService "no_service" "A virtual address that has no service on this protocol and port."
    TupleInUse "tuple_in_use" "Another session has the same addresses and ports after translation."
    LinkLocalSource "link_local_source" "A link-local source does not leave its link (RFC 3927 section 7, RFC 4291 section 2.5.6)."
    LinkLocalDestination "link_local_destination" "A link-local destination of IPv4 is on no other link (RFC 3927 section 7)."
    NoBackend "no_backend" "No backend of the virtual service can take a new session."
    TierAmbiguous "tier_ambiguous" "It comes from a machine that is an instance of two tiers of its service, and no `marker_vlan` tells which."
    ClientIsBackend "client_is_backend" "The client is the backend or server it was given; only a hidden source can bring it to itself."
    BackendFailed "backend_failed" "The session's backend failed."
    BackendDrained "backend_drained" "The session's backend was taken out and its drain timeout has passed."
    NoRoute "no_route" "No route to the destination."
    HopLimitExceeded "hop_limit_exceeded" "The TTL or hop limit ran out here; the sender was told."
    PacketTooBig "packet_too_big" "Larger than the MTU of the outgoing port; the sender was told."
    TunnelSource "tunnel_source" "A packet into a tunnel that ends here, from a sender the tunnel does not list."
    TunnelHeader "tunnel_header" "What stands between the IP headers is not what the tunnel that ends here has."
    TunnelNesting "tunnel_nesting" "Tunnels in tunnels, more than are taken off."
    TunnelCongestion "tunnel_congestion" "Congestion was met in a tunnel, and the packet inside cannot tell its ends (RFC 6040)."
    TunnelTooNarrow "tunnel_too_narrow" "Smaller than any sender need go, and still larger than the tunnel's path carries."
    PathMtuFloor "path_mtu_floor" "An ICMP error that claims a path below the least MTU, or one no packet was too large for."
    NeighborUnresolved "neighbor_unresolved" "The next hop did not answer ARP or neighbor solicitation."
    NeighborQueueFull "neighbor_queue_full" "Too many packets wait for next hops to answer."
    NextHopsFull "next_hops_full" "More next hops than the table holds."
    TransmitFull "transmit_full" "The outgoing port did not take it in time."
    PortVanished "port_vanished" "The interface under the outgoing port has vanished, and none has taken its place yet."
    HandoverFull "handover_full" "The ring to the worker that owns the session is full."
    NoKernelInterface "no_kernel_interface" "For the appliance itself, and the port has no kernel interface."
    KernelFull "kernel_full" "The ring to the port's kernel interface is full."
    KernelAddressInUse "kernel_address_in_use" "The kernel chose an address and port that a translated session uses."
    BuffersExhausted "buffers_exhausted" "No packet buffer was free."
}

impl DropReason {
    /// How many counters there are.
    pub const COUNT: usize = Malformed::COUNT + Self::OWN.len();

    /// Every reason, in counter order.
    pub fn all() -> impl Iterator<Item = Self> {
        Malformed::ALL.iter().map(|&malformed| Self::Malformed(malformed)).chain(Self::OWN.iter().copied())
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let all: Vec<_> = DropReason::all().collect();
        assert_eq!(all.len(), DropReason::COUNT);
        for (position, reason) in all.iter().enumerate() {
            assert_eq!(reason.index(), position, "{reason}");
            assert!(reason.sentence().ends_with('.'), "{reason}");
        }
        let mut names: Vec<_> = all.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
