//! Control and management: everything of the appliance that is not the packet path. The `millrace` binary is a thin
//! `main` over this library.
//!
//! - `cli`, `command`, `client`, `render`: the command line, how it asks the running appliance, how it draws the answers.
//! - `launch`: staged start and stop; the only part that opens devices (feature `dpdk`).
//! - `compile`: a checked policy becomes the tables in force; `blocklist`: the files of prefixes among them; `progress`: how far
//!   a change has come.
//! - `generation`: how one policy follows another; `store`: where generations are kept.
//! - `succession`: sessions that one process leaves to the next.
//! - `amendment`: changes of single objects of a policy, in its text.
//! - `event`, `steward`: the control thread and everything that can wake it.
//! - `running`: the appliance as the API sees it; `journal`: what control notes, written to the log; `bulletin`: what happens, told to
//!   whoever listens; `watch`: what changes by itself.
//! - `status`, `admin`, `session_match`: the API over the control socket, and its documents.
//! - `capture`: frames of a port as a file; `trace`: the ways of packets, in words.
//! - `session_log`: records of sessions on their way to a collector.
//! - `metrics`: what `show` shows, for Prometheus.
//! - `top`: the live view.
//! - `health`: probes of backends, over ordinary sockets.
//! - `kernel`: the kernel interface beside each port.
//! - `doctor`: what this machine lacks.
#![forbid(unsafe_code)]

pub mod admin;
pub mod amendment;
pub mod blocklist;
pub mod bulletin;
pub mod capture;
pub mod cli;
pub mod client;
pub mod command;
pub mod compile;
pub mod doctor;
pub mod event;
pub mod generation;
pub mod health;
pub mod journal;
pub mod kernel;
#[cfg(feature = "dpdk")]
pub mod launch;
pub mod log_format;
pub mod metrics;
pub mod progress;
pub mod redirection;
pub mod render;
pub mod running;
pub mod session_log;
pub mod session_match;
pub mod status;
pub mod steward;
pub mod store;
pub mod succession;
pub mod top;
pub mod trace;
pub mod watch;
