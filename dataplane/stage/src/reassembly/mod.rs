//! Virtual reassembly: the fragments of a datagram are kept, as they came, until all are there and sound, and then go on
//! together (RFC 791 section 3.2, RFC 8200 section 4.5). Nothing is copied or put together; the datagram leaves in the
//! fragments it came in.
//!
//! Used by each worker for its own table, generic over the buffer. Memory is taken when the table is made; full is a
//! counted outcome. Time is an argument.

pub mod order;
pub mod source;
pub mod table;

pub use source::Source;
pub use table::{DatagramId, Held, Key, Limits, Taken, Waiting};

#[cfg(test)]
mod tests;
