//! The programs under measurement: started, asked for their counters, stopped. Each is a child process with the priority
//! of a real-time program, so that what else runs on the machine disturbs little; its end is awaited when it is dropped.

mod http;
mod millrace;
mod operator;
mod process;
mod telemetry;
mod testpmd;

pub use millrace::{Millrace, Reading, Stage};
pub use operator::{Operator, Worked};
pub use testpmd::{Mode, Testpmd, TestpmdPlan};
