//! Named cases: hostile, broken and merely odd packets, each with a sentence, where it is known from, what goes in, what has
//! to come out, and which counter says why nothing does. They lie in `fixtures/cases` as text; its README is the language.
//!
//! ```text
//!   *.toml -> table (the cases, all faults at once) -> script (steps) -> words (one packet) -> run (a rig for each case)
//! ```
//!
//! A case for both families is run once in IPv4 and once in IPv6: it names stations (`client`, `server`), and each has an
//! address in both. What a case expects is written from the RFC or the documented policy, never from what came out.

mod numbers;
mod run;
mod script;
mod stations;
mod table;
mod words;

pub use run::{run, run_again_after};
pub use table::{Case, Family, Table};
