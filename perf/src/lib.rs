//! The bench: what the appliance costs a packet, beside `dpdk-testpmd` on the same devices in the same run. Nothing of the
//! appliance uses this package.
//!
//! ```text
//! cli ── Settings ──> cases::* ── Experiment ──> bench::Bench ── in turn ──> subject::{Testpmd, Millrace}
//!          traffic (captures) ─┘                    │ statistics
//!          blueprint (configuration) ─┘             └──> report::{Chapter, Measurement} ──> terminal, JSON, HTML
//! ```
//!
//! Cases that need both ends of a conversation stand aside of `Bench::compare`: `cases::live` starts a subject between the two
//! devices of [`generator`] and searches for rates with [`mlrsearch`].
//!
//! A case says what is measured; `Bench` measures it; a report is plain values until it is drawn. The program is `main.rs`;
//! the microbenchmarks in `benches` take their packets from [`traffic`].

pub mod bench;
pub mod blueprint;
pub mod cases;
pub mod cli;
pub mod generator;
pub mod machine;
pub mod mlrsearch;
pub mod report;
pub mod statistics;
pub mod subject;
pub mod traffic;

/// What a measurement ends in: figures, or a sentence.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
