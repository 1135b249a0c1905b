//! What a record of a worker tells: one entry that its session opened or ended, and one that its translation began or ended, as far
//! as either is wanted.

use std::time::SystemTime;

use session::Kind;
use units::{Nanos, Tick};
use worker::{Ends, LogEvents, LogRecord, Turn};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A session opened.
    Open,
    /// A session ended.
    Close,
    /// Addresses or ports are rewritten from now on.
    NatCreate,
    /// They are not any more.
    NatDelete,
}

impl About {
    /// The word of a line of JSON: never renamed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::NatCreate => "nat_create",
            Self::NatDelete => "nat_delete",
        }
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'r> {
    pub(super) about: About,
    pub(super) record: &'r LogRecord,
    /// When it happened, milliseconds since 1970.
    pub(super) at: u64,
    /// When the session was opened, to a quarter of a second: the same in all its entries.
    pub(super) opened: u64,
    /// When its last packet came, to a quarter of a second.
    pub(super) last: u64,
}

/// The entries of a record.
pub(super) fn entries(record: &LogRecord, events: LogEvents, calendar: Calendar) -> impl Iterator<Item = Entry<'_>> {
    let (plain, wanted, translation) = match record.turn {
        Turn::Opened => (About::Open, events.open, About::NatCreate),
        Turn::Closed(_) => (About::Close, events.close, About::NatDelete),
    };
    let plain = wanted.then_some(plain);
    let translation = (events.nat && record.is_translated()).then_some(translation);
    let at = calendar.of(record.at);
    let opened = calendar.of(begin(record.opened)).min(at);
    let last = at.saturating_sub(idle(record).as_millis()).max(opened);
    [plain, translation].into_iter().flatten().map(move |about| Entry { about, record, at, opened, last })
}

/// How long no packet had come.
pub(super) fn idle(record: &LogRecord) -> Nanos {
    begin(Tick::new(u64::from(record.idle)))
}

fn begin(tick: Tick) -> Nanos {
    Nanos::new(tick.get().saturating_mul(Tick::NANOS))
}

/// Which moments of the calendar times since start are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    /// The start, milliseconds since 1970.
    start: u64,
}

/// How far the machine's clock may drift from what was told before it is followed, ms.
const DRIFT_MAX: u64 = 1_000;

impl Calendar {
    /// As the machine's clock has it at `now` since start.
    pub(super) fn at(now: Nanos) -> Self {
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: u64::try_from(today.as_millis()).unwrap_or(u64::MAX).saturating_sub(now.as_millis()) }
    }

    /// The same, or this one where the machine's clock was set: small corrections would give the entries of one session
    /// different beginnings.
    pub(super) const fn followed_by(self, later: Self) -> Self {
        if self.start.abs_diff(later.start) > DRIFT_MAX { later } else { self }
    }

    /// Milliseconds since 1970.
    pub(super) const fn of(self, since_start: Nanos) -> u64 {
        self.start.saturating_add(since_start.as_millis())
    }
}

/// How a rewritten conversation is seen on both sides of the appliance, by packets of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) versions: Versions,
    /// As they arrive.
    pub(super) before: Ends,
    /// As they leave.
    pub(super) after: Ends,
}

/// The IP versions on the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    Nat44,
    Nat64,
    Nat66,
}

impl Translation {
    /// Seen by packets of who opened the session; of NAT64 by those of the IPv6 side, as RFC 8158 has it.
    pub(super) fn of(record: &LogRecord) -> Self {
        let (before, after) = (record.original, record.leaves_with());
        match (before.source.is_ipv6(), after.source.is_ipv6()) {
            (false, false) => Self { versions: Versions::Nat44, before, after },
            (true, true) => Self { versions: Versions::Nat66, before, after },
            (true, false) => Self { versions: Versions::Nat64, before, after },
            (false, true) => Self { versions: Versions::Nat64, before: record.reply, after: before.reversed() },
        }
    }
}

/// The protocol's number, where packets have this source.
pub(super) fn protocol(record: &LogRecord, ends: &Ends) -> u8 {
    match (record.kind, ends.source.is_ipv6()) {
        (Kind::Tcp, _) => 6,
        (Kind::Udp, _) => 17,
        (Kind::Icmp, false) => 1,
        (Kind::Icmp, true) => 58,
        (Kind::Other, _) => u8::try_from(record.original.source_port).unwrap_or(u8::MAX),
    }
}

/// Source and destination port. Of an echo its identifier is in both places (RFC 8158 has it where ports are); protocols that
/// are not read have none.
pub(super) const fn ports(record: &LogRecord, ends: &Ends) -> (u16, u16) {
    match record.kind {
        Kind::Other => (0, 0),
        Kind::Tcp | Kind::Udp | Kind::Icmp => (ends.source_port, ends.destination_port),
    }
}
