//! One receive and one transmit queue of a port, owned by one worker. There is exactly one `Queue` for each queue number:
//! [`Port::open`](crate::Port::open) makes them all and hands them out, and a `Queue` is not `Clone`.
//!
//! Both directions are one call into the driver; `receive` looks at the packets only on devices whose packets need
//! a note or a repair.

use std::sync::Arc;

use dpdk_sys::rte_mbuf;
use frame::{Burst, Nic};
use units::QueueId;
use units::limits::{BURST, BURST_MAX};

use crate::Mbuf;
use crate::ethdev::Ethdev;

// A burst's spare places are handed to DPDK as an array of pointers.
const _: () = assert!(BURST <= BURST_MAX && BURST_MAX <= u16::MAX as usize);

/// What is done to each packet as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Nothing.
    Nothing,
    /// The kernel of this machine may have left checksums undone.
    MarkPartial,
    /// The device takes VLAN tags out unasked.
    RestoreVlan,
}

/// A queue pair.
#[derive(Debug)]
pub struct Queue {
    port: u16,
    queue: u16,
    touch: Touch,
    /// Keeps the device open.
    ethdev: Arc<Ethdev>,
}

impl Queue {
    /// The pair numbered `queue` of an open device.
    ///
    /// The caller makes each number once, below the count the device was configured with, after it was started.
    pub(crate) const fn new(ethdev: Arc<Ethdev>, port: u16, queue: u16, touch: Touch) -> Self {
        Self { port, queue, touch, ethdev }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> QueueId {
        QueueId::new(self.queue)
    }

    /// The device it belongs to, as DPDK names it.
    #[must_use]
    pub fn device(&self) -> &str {
        self.ethdev.name()
    }
}

impl Nic for Queue {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let len = burst.len();
        let room = (BURST_MAX - len).min(BURST);
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST, asserted above")]
        let wanted = room as u16;
        let places = burst.as_mut_ptr().wrapping_add(len).cast::<*mut rte_mbuf>();
        // SAFETY: `Port::open` configured and started this queue, and `ethdev` keeps it so; `&mut self` and the one `Queue`
        // per number make this thread the only poller; `places` has room for `wanted` pointers behind the burst's length.
        let received = unsafe { dpdk_sys::rte_eth_rx_burst(self.port, self.queue, places, wanted) };
        let received = usize::from(received);
        // SAFETY: DPDK has written `received <= wanted` pointers to fresh mbufs that are now ours; an `Mbuf` is exactly such
        // a pointer, never null; they come from the pool the queue was set up with.
        unsafe { burst.set_len(len + received) };
        let fresh = burst.iter_mut().skip(len);
        match self.touch {
            Touch::Nothing => {}
            Touch::MarkPartial => fresh.for_each(Mbuf::mark_unchecked_as_partial),
            Touch::RestoreVlan => fresh.for_each(Mbuf::restore_vlan),
        }
        received
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let len = burst.len();
        if len == 0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_MAX, asserted above")]
        let wanted = len as u16;
        let places = burst.as_mut_ptr();
        // SAFETY: as in `receive`; the burst holds `wanted` mbufs, each owned by it alone.
        let sent = unsafe { dpdk_sys::rte_eth_tx_burst(self.port, self.queue, places.cast::<*mut rte_mbuf>(), wanted) };
        let sent = usize::from(sent).min(len);
        // SAFETY: the first `sent` mbufs belong to the driver now and must be forgotten; a length of zero forgets all, and
        // the ones behind are moved to the front and counted again below.
        unsafe { burst.set_len(0) };
        let rest = places.wrapping_add(sent);
        // SAFETY: `len - sent` pointers lie at `rest`, inside the burst; source and target may overlap.
        unsafe { core::ptr::copy(rest, places, len - sent) };
        // SAFETY: the first `len - sent` places hold mbufs that the driver did not take.
        unsafe { burst.set_len(len - sent) };
        sent
    }
}
