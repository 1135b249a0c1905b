//! Tunnels: packets inside packets, as backends behind routers are reached and as another appliance sends them here. The
//! headers in front of a packet, and what is known of the paths they take.
//!
//! Pure functions of bytes, and one atomic word a path. Which tunnel a packet takes is the worker's to know.

pub mod decapsulate;
pub mod encapsulate;
pub mod path;

pub use decapsulate::{Ending, Endings, carry_congestion, class};
pub use encapsulate::{Encapsulation, GueVariant, Outer};
pub use path::{PathMtu, floor};
