//! A fixed-size row of buffers on the stack: what a queue gives and takes at once.

use arrayvec::ArrayVec;
use units::limits::BURST_MAX;

/// Up to [`BURST_MAX`] buffers, owned. Dropping the burst returns what is left in it to the pool.
pub type Burst<B> = ArrayVec<B, BURST_MAX>;
