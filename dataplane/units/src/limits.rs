//! Every capacity of the data plane, each with its reason. Tables are sized from these at start; full is a counted
//! outcome, not a surprise.

/// Packets in a burst as received: what DPDK's vector receive paths hand out at once.
pub const BURST: usize = 32;

/// Packets a burst may grow to (transmit batches, hand-over rings read at once).
pub const BURST_MAX: usize = 64;

/// 802.1Q and 802.1ad tags read before a frame is dropped: QinQ is two, one more serves a provider's own.
pub const VLAN_TAGS_MAX: usize = 3;

/// IPv6 extension headers walked before a packet is dropped: every kind of RFC 8200 once, destination options twice,
/// and as many again.
pub const IPV6_EXTENSIONS_MAX: usize = 16;

/// Bytes of headers any parser looks at in one packet: bounds the work a packet can cause.
pub const HEADER_BYTES_MAX: usize = 512;

/// Tunnels in tunnels that are taken off one packet: a provider's, a site's, and as many again (MAL-15).
pub const TUNNEL_DEPTH_MAX: usize = 4;

/// Ports of one appliance.
pub const PORTS_MAX: usize = 64;

/// Zones of one policy, the appliance's own included; a zone is one byte in the rule key.
pub const ZONES_MAX: usize = 255;

/// Workers of one appliance.
pub const WORKERS_MAX: usize = 64;

/// Tiers of one service before its backends: each is one more way through the appliance for every packet of a client.
pub const TIERS_MAX: usize = 7;

/// Instances of one tier: a packet that opens a session is compared with all of them, where it came by their port.
pub const INSTANCES_MAX: usize = 64;

/// Pairs of ports that frames pass through: two ports each.
pub const PAIRS_MAX: usize = PORTS_MAX / 2;

/// The last VLAN there is (IEEE 802.1Q table 9-2).
pub const VLAN_MAX: u16 = 4_094;

/// Tenants of one policy: each has a VLAN of its own.
pub const TENANTS_MAX: usize = VLAN_MAX as usize;

/// Next hops a worker knows: sessions name them in 16 bits, seven values of which mean the kernel, a tunnel, none, a connection
/// that began with a SYN cookie, either side of NAT64, and a service with tiers, and some a pair of ports, with or without a tenant.
pub const NEXT_HOPS_MAX: usize = 65_529 - 2 * PAIRS_MAX;

/// Backends with sessions on one worker at one time: sessions name them in 16 bits; beyond, traffic flows uncounted.
pub const BINDINGS_MAX: usize = 65_535;

/// Packets held for one unresolved neighbor (RFC 4861 section 7.2.2 asks for at least one), and in all by a worker.
pub const HELD_PER_NEIGHBOR: usize = 16;
/// Packets held for unresolved neighbors by one worker in all.
pub const HELD_MAX: usize = 1_024;

/// Pieces one packet is cut into at most, when the next link is smaller: a frame of 9,600 bytes for a link of 256.
pub const CUT_MAX: usize = 64;

/// Places in a ring by which a worker sends through another's queue.
pub const HANDOVER_RING: usize = 2_048;

/// Places in a ring that hands packets from one worker to the owner of their sessions; each takes up to [`BURST`] of them.
pub const HANDOVERS: usize = 128;

/// Places in the ring of events a worker has for control.
pub const EVENT_RING: usize = 8_192;

/// Places in the ring of commands control has for a worker.
pub const COMMAND_RING: usize = 1_024;

/// Places in the rings between a worker and a port's kernel interface.
pub const KERNEL_RING: usize = 1_024;

/// Sources whose limits (`new_sessions_per_source`) are remembered at one time, by all rules together: 3 MiB.
pub const LIMITED_SOURCES: usize = 131_072;

/// Sources whose backend is remembered (persistence), for each service: 1.5 MiB.
pub const PERSISTENT_SOURCES: usize = 65_536;

/// Entries of a Maglev table: the paper's larger prime, over 100 for each of 600 backends (Eisenbud et al., NSDI 2016, 5.3).
pub const MAGLEV_TABLE: usize = 65_537;

/// Ports that source NAT may hand out on a pool address.
pub const NAT_PORT_MIN: u16 = 1_024;
/// The last port that source NAT may hand out.
pub const NAT_PORT_MAX: u16 = 65_535;

/// Addresses of one source NAT rule, prefixes and ranges written out: 264 million ports towards every far end.
pub const NAT_ADDRESSES_MAX: usize = 4_096;

/// NAT64 rules: each is asked for every first IPv6 packet to nobody the appliance knows.
pub const NAT64_RULES_MAX: usize = 64;

/// Sessions of the appliance's own kernel beyond the configured capacity, for each worker: however full the table is,
/// health probes and routing protocols go on.
pub const KERNEL_SESSIONS: usize = 4_096;

/// Records of the session log that may wait for its collector, of all workers together: 672 MiB.
pub const LOG_RECORDS_MAX: usize = 4 << 20;

/// ICMP errors and resets a worker originates in a second (RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8).
pub const ORIGINATED_PER_SECOND: u32 = 1_000;

/// ICMP errors about one session that are passed on in a second: three probes for each of 32 hops.
pub const ERRORS_PER_SESSION: u32 = 100;

/// Sessions about which errors are counted at one time, by each worker: 64 KiB.
pub const ERROR_COUNTS: usize = 4_096;

/// Backends remembered that an operator has drained and a policy then left out: of deployments that give every backend a new
/// name, those of some weeks. The oldest are forgotten first.
pub const DRAINED_ABSENT_MAX: usize = 1_024;

/// Compiled classifier entries (a rule with several sources, destinations and ports takes their product).
pub const CLASSIFIER_ENTRIES_MAX: usize = 4_000_000;

/// Entries of one family that are tried in one table of the classifier: as fast as it gets, for 10,000 rules of nearly any kind.
pub const CLASSIFIER_TABLE_ENTRIES: usize = 32_768;

/// Entries of a table where there are more: of IPv6, compiling so many takes less than half of [`CLASSIFIER_BUILD_BYTES`].
pub const CLASSIFIER_PART_ENTRIES: usize = 12_288;

/// Entries below which a table is not divided further: what takes too much memory then is a matter of its rules.
pub const CLASSIFIER_DIVIDED_MIN: usize = 64;

/// Bytes of ordinary memory that compiling rules takes at most, for the moment: three times what 10,000 IPv6 rules take that name
/// source, destination and port.
pub const CLASSIFIER_BUILD_BYTES: usize = 1 << 30;
