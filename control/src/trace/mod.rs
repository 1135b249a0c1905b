//! The ways of packets, told to the operator: of those that pass while somebody asks (`trace --match`), and of those that
//! are only described (`trace --packet`), which are judged by the same code in a worker of their own.
//!
//! - [`pattern`]: which packets are wanted.
//! - [`words`]: what a worker has written down of a packet, as steps in words.
//! - [`description`]: a packet in words, to bytes.
//! - [`file`]: the frames of a capture file.
//! - [`rehearsal`]: a worker of plain memory that judges packets by the tables in force and changes nothing.
//!
//! Runs in management.

pub mod description;
pub mod file;
pub mod pattern;
pub mod rehearsal;
pub mod words;
