//! Sessions counted against the limit of their source (`sessions_per_source` of a zone): taken when a session is put into the
//! table, given back when it ends, whatever policies came between. The kernel's own are not counted.

use session::{Direction, NewSession, Session};
use stage::DropReason;
use stage::limiter::open_sessions::{Source, Taken};
use units::{PortId, TenantId};

use crate::act::{FROM_KERNEL, HALF_OPEN};
use crate::family::Family;
use crate::hide::{FORWARDED, INBOUND};
use crate::shard::Shard;

/// Session flag: its source's count has it.
pub(crate) const COUNTED_OF_SOURCE: u8 = 8;
const _: () = assert!(COUNTED_OF_SOURCE & (FROM_KERNEL | INBOUND | FORWARDED | HALF_OPEN) == 0);

/// The tenant of a session which counts, and the port it has come by.
pub(crate) fn counted_at<A: Family>(session: &Session<A>) -> Option<(TenantId, PortId)> {
    (session.flags() & COUNTED_OF_SOURCE != 0).then(|| (session.tenant(), session.ingress(Direction::Original)))
}

impl<B> Shard<B> {
    /// Counts a new session of its source where its zone has a limit; whether it was counted. An IPv4 source is one address,
    /// also where NAT64 has it in an IPv6 session.
    ///
    /// # Errors
    /// The source has as many as it may.
    #[inline]
    pub(crate) fn take_from_source<A: Family>(&self, new: &NewSession<A>) -> Result<bool, DropReason> {
        let [port, _] = new.ingress;
        if self.snapshot.source_limits.open().is_none() || new.flags & FROM_KERNEL != 0 {
            return Ok(false);
        }
        let limits = &self.snapshot.source_limits;
        let Some((open, limit)) = limits.limit(self.snapshot.zone(port)) else { return Ok(false) };
        let (zone, address) = (limits.counted(port), new.original.source.into_ip().to_canonical());
        match open.take(Source { zone, tenant: new.tenant, address }, limit) {
            Taken::Counted => Ok(true),
            Taken::Uncounted => Ok(false),
            Taken::Refused => Err(DropReason::SourceSessionsLimited),
        }
    }

    /// Gives back what a tenant's session of `source` that came by `port` has taken.
    pub(crate) fn give_back_to_source(&self, (tenant, port): (TenantId, PortId), source: std::net::IpAddr) {
        let limits = &self.snapshot.source_limits;
        if let Some(open) = limits.open() {
            open.give_back(Source { zone: limits.counted(port), tenant, address: source.to_canonical() });
        }
    }
}
