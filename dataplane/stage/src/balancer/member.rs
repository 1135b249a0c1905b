//! A backend's place in one policy's service: what that policy says of it, beside the running [`Backend`] that policies
//! share. Built when a policy is compiled, read by workers, never changed.

use std::sync::Arc;

use units::BackendId;

use super::{Backend, Health};

/// One backend as one policy sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number in this policy.
    pub id: BackendId,
    /// The backend itself: identity, condition, counters.
    pub backend: Arc<Backend>,
    /// Its share among the others; 0 gets no new sessions.
    pub weight: u32,
    /// Physical connections between this appliance and it (SE-58).
    pub hops: u32,
    /// This policy takes it out of service.
    pub disabled: bool,
    /// Whether its health counts: without probes it is always up.
    pub probed: bool,
}

impl Member {
    /// Whether new sessions may be directed to it (SE-52).
    #[must_use]
    pub fn selectable(&self) -> bool {
        self.weight > 0
            && !self.disabled
            && self.backend.is_enabled()
            && (!self.probed || self.backend.health() == Health::Up)
    }

    /// Its weight as long as it is selectable, else 0.
    pub(super) fn effective_weight(&self) -> u32 {
        if self.selectable() { self.weight } else { 0 }
    }
}
