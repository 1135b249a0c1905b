//! SYN cookies (RFC 4987 section 3.6): a service answers a SYN out of a keyed hash instead of remembering it, and knows from
//! the ACK alone that the client is where it says it is. What the client offered travels in the cookie.
//!
//! - `cookie`: what is sealed into an initial sequence number, and read back.
//! - `guard`: when a service asks for a cookie, by how many handshakes are under way.

mod cookie;
mod guard;

pub use cookie::{CookieKey, Handshake, Offer, stamp};
pub use guard::{CookieMode, Pressed, SynCounts, SynGuard};
