//! One packet buffer: an owning pointer to an `rte_mbuf`. Not `Clone`; dropping it returns the buffer to its pool, handing
//! it to a queue or ring moves it. Fields are read and written at the offsets the C headers gave at build time, asserted in
//! `dpdk-sys`, so that nothing here depends on how a DPDK version names its inner parts.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;

use dpdk_sys::rte_mbuf;
use frame::{Buffer, ReceivedChecksum};

use crate::mempool::HEADROOM;

/// A place in every mbuf. The constants below are the only values, and their types are those of the C fields.
#[derive(Clone, Copy)]
struct Field<T>(usize, PhantomData<T>);

impl<T> Field<T> {
    const fn at(offset: u32) -> Self {
        Self(offset as usize, PhantomData)
    }
}

const BUF_ADDR: Field<*mut u8> = Field::at(dpdk_sys::MILLRACE_MBUF_BUF_ADDR);
const DATA_OFF: Field<u16> = Field::at(dpdk_sys::MILLRACE_MBUF_DATA_OFF);
const NB_SEGS: Field<u16> = Field::at(dpdk_sys::MILLRACE_MBUF_NB_SEGS);
const OL_FLAGS: Field<u64> = Field::at(dpdk_sys::MILLRACE_MBUF_OL_FLAGS);
const PKT_LEN: Field<u32> = Field::at(dpdk_sys::MILLRACE_MBUF_PKT_LEN);
const DATA_LEN: Field<u16> = Field::at(dpdk_sys::MILLRACE_MBUF_DATA_LEN);
const VLAN_TCI: Field<u16> = Field::at(dpdk_sys::MILLRACE_MBUF_VLAN_TCI);
const BUF_LEN: Field<u16> = Field::at(dpdk_sys::MILLRACE_MBUF_BUF_LEN);

/// A packet in a buffer of a [`Pool`](crate::Pool). One pointer in size, so that a burst of them is the array of pointers
/// DPDK takes.
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<rte_mbuf>,
}

const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut rte_mbuf>());

// SAFETY: an mbuf is plain memory owned by whoever holds it; freeing is allowed on every thread.
unsafe impl Send for Mbuf {}

/// Where a received frame begins, from the mbuf's first byte on.
const FRAME: usize = dpdk_sys::MILLRACE_MBUF_SIZE as usize + HEADROOM as usize;

/// Asks for the line at `place`, if there is memory. Does nothing where there is no such instruction.
#[inline(always)]
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `raw` is an mbuf that nobody else refers to (reference count 1, not attached to another's data), whose data lies in
    /// its buffer, and whose pool is one of [`Pool`](crate::Pool)'s.
    pub(crate) const unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self { raw }
    }

    fn get<T: Copy>(&self, field: Field<T>) -> T {
        let place = self.raw.as_ptr().wrapping_byte_add(field.0).cast::<T>();
        // SAFETY: `field` names a field of this type inside the mbuf, which lives and is ours alone; fields are aligned.
        unsafe { place.read() }
    }

    fn set<T: Copy>(&mut self, field: Field<T>, value: T) {
        let place = self.raw.as_ptr().wrapping_byte_add(field.0).cast::<T>();
        // SAFETY: as in `get`, and `&mut self` excludes readers.
        unsafe { place.write(value) }
    }

    /// The first byte of the frame.
    fn data(&self) -> *mut u8 {
        self.get(BUF_ADDR).wrapping_add(usize::from(self.get(DATA_OFF)))
    }

    /// Sets the length of the first segment and, by the same difference, that of the packet.
    fn set_len(&mut self, len: u16) {
        let others = self.get(PKT_LEN).wrapping_sub(u32::from(self.get(DATA_LEN)));
        self.set(DATA_LEN, len);
        self.set(PKT_LEN, others.wrapping_add(u32::from(len)));
    }

    /// Bytes behind the frame that it may grow into.
    fn tailroom(&self) -> usize {
        let used = usize::from(self.get(DATA_OFF)) + usize::from(self.get(DATA_LEN));
        usize::from(self.get(BUF_LEN)).saturating_sub(used)
    }

    /// Marks the packet as one whose transport checksum was left to hardware that never was, unless the driver said more.
    #[inline]
    pub(crate) fn mark_unchecked_as_partial(&mut self) {
        let flags = self.get(OL_FLAGS);
        if flags & dpdk_sys::MILLRACE_RX_L4_CKSUM_MASK == 0 {
            self.set(OL_FLAGS, flags | dpdk_sys::MILLRACE_RX_L4_CKSUM_NONE);
        }
    }

    /// Puts back a VLAN tag (802.1Q) that the device took out although nobody asked it to.
    #[inline]
    pub(crate) fn restore_vlan(&mut self) {
        if self.get(OL_FLAGS) & dpdk_sys::MILLRACE_RX_VLAN_STRIPPED != 0 {
            self.insert_vlan();
        }
    }

    #[cold]
    fn insert_vlan(&mut self) {
        let flags = self.get(OL_FLAGS);
        let [high, low] = self.get(VLAN_TCI).to_be_bytes();
        let Some(frame) = self.prepend(4) else { return };
        // Both MAC addresses move to the new front, the tag takes their last four bytes' place.
        if frame.len() >= 16 {
            frame.copy_within(4..16, 0);
            if let Some(tag) = frame.get_mut(12..16) {
                tag.copy_from_slice(&[0x81, 0x00, high, low]);
            }
        }
        self.set(OL_FLAGS, flags & !(dpdk_sys::MILLRACE_RX_VLAN_STRIPPED | dpdk_sys::MILLRACE_RX_VLAN));
    }

    /// Whether the frame says it carries IPv6, which has no header checksum for a device to judge.
    fn is_ipv6(&self) -> bool {
        matches!(self.bytes(), [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ..])
    }
}

impl Buffer for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the `len` bytes at `data` lie inside the buffer (kept so by every method here and by the drivers), and
        // are ours as long as the mbuf is.
        unsafe { slice::from_raw_parts(self.data(), usize::from(self.get(DATA_LEN))) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(self.data(), usize::from(self.get(DATA_LEN))) }
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        let added = u16::try_from(len).ok()?;
        let offset = self.get(DATA_OFF).checked_sub(added)?;
        let grown = self.get(DATA_LEN).checked_add(added)?;
        self.set(DATA_OFF, offset);
        self.set_len(grown);
        Some(self.bytes_mut())
    }

    #[inline]
    fn trim_front(&mut self, len: usize) -> bool {
        let Ok(cut) = u16::try_from(len) else { return false };
        let Some(rest) = self.get(DATA_LEN).checked_sub(cut) else { return false };
        self.set(DATA_OFF, self.get(DATA_OFF).wrapping_add(cut));
        self.set_len(rest);
        true
    }

    #[inline]
    fn resize(&mut self, len: usize) -> bool {
        let old = usize::from(self.get(DATA_LEN));
        let Ok(new) = u16::try_from(len) else { return false };
        let grows_by = len.saturating_sub(old);
        // The first segment of a chain cannot change its end: the packet goes on behind it.
        if grows_by > self.tailroom() || (self.is_chained() && len != old) {
            return false;
        }
        let end = self.data().wrapping_add(old);
        // SAFETY: `grows_by` bytes behind the frame lie inside the buffer, as just checked, and are ours.
        unsafe { end.write_bytes(0, grows_by) };
        self.set_len(new);
        true
    }

    #[inline]
    fn is_chained(&self) -> bool {
        self.get(NB_SEGS) > 1
    }

    #[inline]
    fn prefetch(&self) {
        let description = self.raw.as_ptr().cast::<u8>();
        prefetch(description);
        // Where frames begin as they are received: to read where this one does would be to wait for it.
        prefetch(description.wrapping_add(FRAME));
    }

    #[inline]
    fn received_checksum(&self) -> ReceivedChecksum {
        let flags = self.get(OL_FLAGS);
        // A device that does not look says nothing at all.
        if flags & (dpdk_sys::MILLRACE_RX_IP_CKSUM_MASK | dpdk_sys::MILLRACE_RX_L4_CKSUM_MASK) == 0 {
            return ReceivedChecksum::Unchecked;
        }
        let ip = flags & dpdk_sys::MILLRACE_RX_IP_CKSUM_MASK;
        let transport = flags & dpdk_sys::MILLRACE_RX_L4_CKSUM_MASK;
        if ip == dpdk_sys::MILLRACE_RX_IP_CKSUM_BAD {
            ReceivedChecksum::BadIp
        } else if transport == dpdk_sys::MILLRACE_RX_L4_CKSUM_BAD {
            ReceivedChecksum::BadTransport
        } else if transport == dpdk_sys::MILLRACE_RX_L4_CKSUM_NONE {
            ReceivedChecksum::Partial
        } else if transport == dpdk_sys::MILLRACE_RX_L4_CKSUM_GOOD
            && (ip == dpdk_sys::MILLRACE_RX_IP_CKSUM_GOOD || self.is_ipv6())
        {
            ReceivedChecksum::Good
        } else {
            ReceivedChecksum::Unchecked
        }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.get(DATA_LEN))
            .field("segments", &self.get(NB_SEGS))
            .field("received_checksum", &self.received_checksum())
            .finish_non_exhaustive()
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf is ours alone and its pool is still there: a pool with buffers out is never freed.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.raw.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An mbuf in ordinary memory, which belongs to no pool and so is never dropped.
    #[repr(C, align(64))]
    struct Memory {
        mbuf: [u8; dpdk_sys::MILLRACE_MBUF_SIZE as usize],
        buffer: [u8; 256],
    }

    /// Runs `test` on an mbuf with 128 bytes of headroom, this frame, and these flags.
    fn with(frame: &[u8], flags: u64, test: impl FnOnce(&mut Mbuf)) {
        let mut memory = Memory { mbuf: [0; dpdk_sys::MILLRACE_MBUF_SIZE as usize], buffer: [0xa5; 256] };
        let buffer = memory.buffer.as_mut_ptr();
        let raw = NonNull::new(memory.mbuf.as_mut_ptr().cast::<rte_mbuf>()).unwrap();
        // SAFETY: `memory` outlives the mbuf, is ours alone, and `ManuallyDrop` keeps it from going to a pool.
        let mut mbuf = core::mem::ManuallyDrop::new(unsafe { Mbuf::from_raw(raw) });
        mbuf.set(BUF_ADDR, buffer);
        mbuf.set(BUF_LEN, 256);
        mbuf.set(DATA_OFF, 128);
        mbuf.set(NB_SEGS, 1);
        mbuf.set(OL_FLAGS, flags);
        assert!(mbuf.resize(frame.len()));
        mbuf.bytes_mut().copy_from_slice(frame);
        test(&mut mbuf);
    }

    #[test]
    fn what_the_device_says_of_checksums_is_understood() {
        use dpdk_sys as sys;

        let v4 = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0];
        let v6 = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0];
        let (ip_good, ip_bad) = (sys::MILLRACE_RX_IP_CKSUM_GOOD, sys::MILLRACE_RX_IP_CKSUM_BAD);
        let (good, bad, none) =
            (sys::MILLRACE_RX_L4_CKSUM_GOOD, sys::MILLRACE_RX_L4_CKSUM_BAD, sys::MILLRACE_RX_L4_CKSUM_NONE);
        for (frame, flags, expected) in [
            (v4, 0, ReceivedChecksum::Unchecked),
            (v4, ip_good | good, ReceivedChecksum::Good),
            (v4, good, ReceivedChecksum::Unchecked),
            (v4, ip_good, ReceivedChecksum::Unchecked),
            (v6, good, ReceivedChecksum::Good),
            (v4, ip_bad | good, ReceivedChecksum::BadIp),
            (v4, ip_good | bad, ReceivedChecksum::BadTransport),
            (v6, bad, ReceivedChecksum::BadTransport),
            (v4, none, ReceivedChecksum::Partial),
        ] {
            with(&frame, flags, |mbuf| assert_eq!(mbuf.received_checksum(), expected, "{flags:x}"));
        }
        with(&v4, ip_good, |mbuf| {
            mbuf.mark_unchecked_as_partial();
            assert_eq!(mbuf.received_checksum(), ReceivedChecksum::Partial);
        });
        with(&v4, ip_good | good, |mbuf| {
            mbuf.mark_unchecked_as_partial();
            assert_eq!(mbuf.received_checksum(), ReceivedChecksum::Good);
        });
    }

    #[test]
    fn a_tag_taken_out_by_the_device_is_put_back_once() {
        let frame = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00, 0x45, 0x00];
        let tagged = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x81, 0x00, 0x60, 0x64, 0x08, 0x00, 0x45, 0x00];
        with(&frame, dpdk_sys::MILLRACE_RX_VLAN | dpdk_sys::MILLRACE_RX_VLAN_STRIPPED, |mbuf| {
            mbuf.set(VLAN_TCI, 0x6064);
            mbuf.restore_vlan();
            mbuf.restore_vlan();
            assert_eq!(mbuf.bytes(), tagged);
            assert_eq!(mbuf.get(PKT_LEN), 20);
        });
        // A tag that was left in, and none at all.
        for flags in [dpdk_sys::MILLRACE_RX_VLAN, 0] {
            with(&frame, flags, |mbuf| {
                mbuf.restore_vlan();
                assert_eq!(mbuf.bytes(), frame);
            });
        }
    }

    #[test]
    fn a_chain_keeps_its_end() {
        with(&[0; 60], 0, |mbuf| {
            mbuf.set(NB_SEGS, 2);
            mbuf.set(PKT_LEN, 100);
            assert!(mbuf.is_chained() && mbuf.resize(60) && !mbuf.resize(61) && !mbuf.resize(59));
            assert!(mbuf.trim_front(10));
            assert_eq!((mbuf.bytes().len(), mbuf.get(PKT_LEN)), (50, 90));
        });
    }
}
