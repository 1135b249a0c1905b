//! The L4 balancer: virtual services, their backends, and the choice of one for a new session.

mod absent;
pub mod backend;
mod index;
mod maglev;
mod member;
pub mod persistence;
mod pick;
pub mod quic;
mod schedule;
pub mod service;
pub mod services;
pub(crate) mod stable_hash;
#[cfg(test)]
mod tests;
pub mod untracked;

pub use backend::{Admin, Backend, Fate, Health};
pub use member::Member;
pub use persistence::Persistence;
pub use quic::QuicIds;
pub use service::{
    Algorithm, Attract, BackendSpec, Mode, OnBackendFailure, SegmentClamp, ServiceProtocol, ServiceSpec,
};
pub use services::{Service, Services};
pub use stable_hash::{VERSION as RING_VERSION, key_of_name};
pub use untracked::Untracked;
