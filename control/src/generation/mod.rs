//! How one policy follows another: the parts of the one road that `run`, `check`, `diff`, `apply`, `rollback`, SIGHUP and the
//! API take.
//!
//! ```text
//! text -> proposal (load, validate) -> plan (compare) -> compile -> ledger: intend -> publish -> ledger: settle
//!                                                                                        \ trial: confirmed, or back
//! ```
//!
//! - `proposal`: what should be in force, who wants it and how; checked.
//! - [`plan`]: what separates two policies, object by object.
//! - `ledger`: the numbers, what is in force, what is kept in the store.
//! - `start`: what a starting appliance comes up with.
//! - [`trial`]: a policy that has to be confirmed.
//! - `turn`: one change at a time, in order.
//!
//! Compiling is `compile`'s, publishing `running`'s, which walks the road. All of it is management's: nothing here is on the
//! packet path or the control thread.

mod ledger;
pub mod plan;
mod proposal;
mod start;
pub mod trial;
mod turn;

pub use ledger::Ledger;
pub use plan::Plan;
pub use proposal::Proposal;
pub use start::Start;
pub use trial::Trial;
pub use turn::{Place, Turns};
