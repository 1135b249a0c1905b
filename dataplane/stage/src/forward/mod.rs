//! Forwarding: routes by longest prefix, and the neighbors behind them.

pub mod neighbor;
pub mod neighbors;
pub mod route;

pub use neighbor::{Action, Evidence, Limits, Neighbor, State};
pub use neighbors::Neighbors;
pub use route::{LinearRoutes, Route, RouteTable};
