//! Measurement: the traffic, the runs side by side with `dpdk-testpmd`, the figures. The program is `main.rs`; the
//! microbenchmarks in `benches` take their packets from [`clients`]. Nothing of the appliance uses this package.

pub mod clients;
pub mod established;
pub mod figures;
pub mod millrace;
pub mod pcap;
pub mod testpmd;

/// What a measurement ends in: figures, or a sentence.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
