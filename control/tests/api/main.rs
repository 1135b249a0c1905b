//! The admin API over its socket, asked by the command line's own client and by plain HTTP: every call, every refusal, the
//! field names that scripts rely on. The appliance is a small one of this test's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on should stop")]

mod appliance;
mod callers;
mod changes;
mod commands;
mod documents;
