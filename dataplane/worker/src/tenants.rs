//! Tenants: whom the VLANs of frames belong to that pass through pairs of ports, and what they are called (SE-45). The outermost
//! VLAN of such a frame tells its tenant; what is routed has none.
//!
//! Sessions, fragments and counts of sources know a tenant by its number. That stays with its name for as long as the appliance
//! runs, also when no policy has the tenant any more: its sessions may outlive it, and nobody else must ever meet them. Made by
//! management with the policy's other tables; workers read them.

use core::ops::RangeInclusive;
use std::collections::HashMap;
use std::sync::Arc;

use units::limits::VLAN_MAX;
use units::{PortId, TenantId};
use wire::Frame;

use crate::burst::Door;
use crate::packet::{Origin, Packet};
use crate::snapshot::Snapshot;
use crate::tag::tag_of;

/// VLANs there can be in a tag.
const VLANS: usize = VLAN_MAX as usize + 2;

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: TenantId,
    /// The operator's name for it.
    pub name: String,
}

/// The tenants of a policy, and those of earlier ones.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// By VLAN.
    of_vlan: Box<[TenantId]>,
    /// By number, the first of which is 1.
    known: Vec<Arc<Tenant>>,
}

/// More tenants have come and gone than there are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} tenants have come and gone since the start, and no number is left for another; restart", u16::MAX)]
pub struct NoNumber;

impl Default for Tenants {
    fn default() -> Self {
        Self { of_vlan: [TenantId::NONE; VLANS].into(), known: Vec::new() }
    }
}

impl Tenants {
    /// Tenants of these names, each with its VLANs. Those that `previous` knows keep their numbers.
    ///
    /// # Errors
    /// There is no number for one of them.
    pub fn compile<'t>(
        tenants: impl IntoIterator<Item = (&'t str, &'t [RangeInclusive<u16>])>,
        previous: Option<&Self>,
    ) -> Result<Self, NoNumber> {
        let mut compiled =
            Self { known: previous.map_or_else(Vec::new, |before| before.known.clone()), ..Self::default() };
        let mut numbers: HashMap<String, TenantId> =
            compiled.known.iter().map(|tenant| (tenant.name.clone(), tenant.id)).collect();
        for (name, vlans) in tenants {
            let id = match numbers.get(name) {
                Some(&id) => id,
                None => {
                    let id = u16::try_from(compiled.known.len() + 1).map(TenantId::new).map_err(|_| NoNumber)?;
                    numbers.insert(name.to_owned(), id);
                    compiled.known.push(Arc::new(Tenant { id, name: name.to_owned() }));
                    id
                }
            };
            for vlan in vlans.iter().cloned().flatten() {
                if let Some(place) = compiled.of_vlan.get_mut(usize::from(vlan)) {
                    *place = id;
                }
            }
        }
        Ok(compiled)
    }

    /// The tenant of frames in this VLAN; 0 is a frame without.
    #[must_use]
    pub fn of_vlan(&self, vlan: u16) -> TenantId {
        self.of_vlan.get(usize::from(vlan)).copied().unwrap_or_default()
    }

    /// The tenant of this number, of this policy or an earlier one.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<Tenant>> {
        self.known.get(id.index().checked_sub(1)?)
    }

    /// Every tenant, of this policy or an earlier one.
    pub fn iter(&self) -> impl Iterator<Item = &Tenant> {
        self.known.iter().map(Arc::as_ref)
    }

    /// The tenant of this name, of this policy or an earlier one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.known.iter().find(|tenant| tenant.name == name)
    }
}

impl Snapshot {
    /// The tenant that a frame belongs to which comes by the wire of this port.
    #[must_use]
    pub fn tenant_at(&self, port: PortId, frame: &Frame) -> TenantId {
        let passes = self.port(port).is_some_and(|facts| facts.pair.is_some() && frame.link.destination != facts.mac);
        if passes { self.tenants.of_vlan(frame.link.vlan) } else { TenantId::NONE }
    }

    /// The tenant that a packet belongs to.
    pub(crate) fn tenant_of<B>(&self, packet: &Packet<B>) -> TenantId {
        if packet.origin == Origin::InLine { self.tenants.of_vlan(packet.frame.link.vlan) } else { TenantId::NONE }
    }

    /// The tenant that a frame claims to belong to which cannot be read.
    pub(crate) fn tenant_unread(&self, frame: &[u8], door: Door) -> TenantId {
        let vlan = door.pair.and_then(|_| tag_of(frame));
        vlan.map_or(TenantId::NONE, |vlan| self.tenants.of_vlan(vlan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(written: &[(&str, &[RangeInclusive<u16>])], previous: Option<&Tenants>) -> Tenants {
        Tenants::compile(written.iter().copied(), previous).unwrap()
    }

    fn number(tenants: &Tenants, name: &str) -> u16 {
        tenants.named(name).unwrap().id.get()
    }

    #[test]
    fn a_vlan_tells_its_tenant_and_no_vlan_tells_none() {
        let tenants = tenants(&[("acme", &[100..=100, 200..=299]), ("burns", &[1..=1, 4_094..=4_094])], None);
        for (vlan, name) in [(100, "acme"), (200, "acme"), (299, "acme"), (1, "burns"), (4_094, "burns")] {
            let tenant = tenants.tenant(tenants.of_vlan(vlan)).unwrap();
            assert_eq!((tenant.name.as_str(), tenant.id), (name, tenants.of_vlan(vlan)), "{vlan}");
        }
        for vlan in [0, 2, 99, 101, 199, 300, 4_093, 4_095, 4_096, u16::MAX] {
            assert_eq!(tenants.of_vlan(vlan), TenantId::NONE, "{vlan}");
        }
        assert_eq!(tenants.tenant(TenantId::NONE), None);
        assert_eq!(Tenants::default().of_vlan(100), TenantId::NONE);
    }

    /// What sessions of one tenant remember is never the number of another.
    #[test]
    fn a_number_stays_with_its_name() {
        let first = tenants(&[("acme", &[100..=100]), ("burns", &[200..=200])], None);
        assert_eq!([number(&first, "acme"), number(&first, "burns")], [1, 2]);
        let second = tenants(&[("cyberdyne", &[100..=100]), ("burns", &[200..=201])], Some(&first));
        assert_eq!([number(&second, "burns"), number(&second, "cyberdyne")], [2, 3]);
        assert_eq!(second.of_vlan(100), TenantId::new(3));
        assert_eq!(second.tenant(TenantId::new(1)).unwrap().name, "acme", "its sessions may still be there");
        let third = tenants(&[("acme", &[300..=300])], Some(&second));
        assert_eq!([third.of_vlan(300), third.of_vlan(100), third.of_vlan(200)], [1, 0, 0].map(TenantId::new));
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut tenants = Tenants::default();
        let mut told = 0_u32;
        loop {
            let names: Vec<String> = (0..4_094).map(|number| format!("{told}-{number}")).collect();
            let written: Vec<(&str, &[RangeInclusive<u16>])> =
                names.iter().map(|name| (name.as_str(), &[][..])).collect();
            match Tenants::compile(written.iter().copied(), Some(&tenants)) {
                Ok(compiled) => tenants = compiled,
                Err(NoNumber) => break,
            }
            told += 1;
        }
        assert_eq!(told, 16, "of 65,535 numbers");
        let ids: std::collections::HashSet<TenantId> = tenants.known.iter().map(|tenant| tenant.id).collect();
        assert_eq!((ids.len(), ids.contains(&TenantId::NONE)), (tenants.known.len(), false));
    }
}
