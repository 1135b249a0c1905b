//! Address translation: which sessions leave with another source, which ports they get, and the rewriting of headers.

pub mod behavior;
pub mod bounded;
pub mod deltas;
pub mod destination_nat;
pub mod icmp_error;
pub mod lead;
pub mod mappings;
pub mod nat64;
pub mod plain;
pub mod pool;
pub mod pool_use;
pub mod port_slice;
pub mod rewrite;
pub mod segment_size;
pub mod source_nat;
pub mod splice;
#[cfg(test)]
mod tests;

pub use behavior::{Filtering, Mapping};
pub use deltas::{Covered, Deltas};
pub use destination_nat::{DestinationNat, ForwardRule};
pub use icmp_error::{outer_addresses, rewrite_error_v4, rewrite_error_v6};
pub use lead::{Lead, Progress};
pub use mappings::{Inside, Mapped, MappingId, Mappings, NoMapping, Outside};
pub use plain::{Hop, Leaving, pass_v4, pass_v6, turn_v4, turn_v6};
pub use pool::Pool;
pub use pool_use::{PoolUse, PoolUses};
pub use port_slice::{Candidates, PortSlice};
pub use rewrite::{NewEndpoints, decrement_hop_limit, rewrite_v4, rewrite_v6};
pub use segment_size::clamp_segment_size;
pub use source_nat::{SourceNat, SourceNatRule, Together};
pub use splice::{Shift, Toward};
