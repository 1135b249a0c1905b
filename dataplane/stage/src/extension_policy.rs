//! Which IPv6 extension headers a zone lets in, beside those that are refused everywhere (type 0 routing headers, RFC 5095).
//!
//! Hop-by-hop options pass unless the zone refuses them: routers ignore what they are not set up for (RFC 8200 section 4.3).
//! A routing header hides where a packet goes from whoever judges its destination, and has whatever stations it names send
//! packets on; so it passes only with a type that the zone names (RFC 9288 section 3.4.2). One without segments left is at
//! its end and asks for nothing.
//!
//! Written by management, asked by workers about packets with extension headers, before sessions.

use wire::Extensions;

use crate::DropReason;

/// What one zone lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionPolicy {
    hop_by_hop: bool,
    /// A bit for each type of routing header.
    routing: [u64; 4],
}

impl Default for ExtensionPolicy {
    fn default() -> Self {
        Self::new(true, &[])
    }
}

impl ExtensionPolicy {
    /// Whether hop-by-hop options pass, and which types of routing headers.
    #[must_use]
    pub fn new(hop_by_hop: bool, types: &[u8]) -> Self {
        let mut routing = [0; 4];
        for kind in types {
            if let Some(word) = routing.get_mut(usize::from(kind / 64)) {
                *word |= 1_u64 << (kind % 64);
            }
        }
        Self { hop_by_hop, routing }
    }

    /// Why a packet with these headers may not come in; `None` when it may.
    #[must_use]
    pub fn refuses(&self, extensions: Extensions) -> Option<DropReason> {
        if extensions.hop_by_hop && !self.hop_by_hop {
            return Some(DropReason::HopByHopRefused);
        }
        let kind = extensions.routing?;
        let word = self.routing.get(usize::from(kind / 64)).copied().unwrap_or_default();
        (word >> (kind % 64) & 1 == 0).then_some(DropReason::RoutingHeaderRefused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_of_routing_header_is_let_in_by_itself() {
        let policy = ExtensionPolicy::new(true, &[2, 4, 64, 255]);
        for kind in 1..=255 {
            let routed = Extensions { hop_by_hop: true, routing: Some(kind) };
            let expected = (![2, 4, 64, 255].contains(&kind)).then_some(DropReason::RoutingHeaderRefused);
            assert_eq!(policy.refuses(routed), expected, "type {kind}");
        }
    }

    #[test]
    fn hop_by_hop_options_pass_unless_they_are_refused() {
        let options = Extensions { hop_by_hop: true, routing: None };
        assert_eq!(ExtensionPolicy::default().refuses(options), None);
        assert_eq!(ExtensionPolicy::new(false, &[]).refuses(options), Some(DropReason::HopByHopRefused));
        assert_eq!(ExtensionPolicy::new(false, &[]).refuses(Extensions::default()), None);
    }
}
