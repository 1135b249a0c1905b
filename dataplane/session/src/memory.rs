//! A fixed row of plain values that begins as zeroes and takes no memory until it is touched. One of the two files of
//! this crate with unsafe code.
//!
//! Made and dropped by whoever makes a table, never on the packet path. A long row is aligned to 2 MiB and the kernel is
//! asked for large pages: at a million sessions that saves a page walk a packet, at ten thousand a look into the second
//! table of pages. Every access is defined: a position
//! outside the row reads the first element, which the tables keep vacant for it.
#![allow(
    unsafe_code,
    reason = "zeroed, aligned, lazily backed memory cannot be had from Vec; accesses are checked here"
)]

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;
use std::alloc::{alloc_zeroed, dealloc};
use std::sync::Arc;

use crate::arch::{Line, prefetch};
use crate::{Address, Session};

/// The size of a large page, and the alignment of long rows.
const LARGE_PAGE: usize = 2 << 20;

/// A row of this many bytes is long: ordinary pages of it would crowd out others in the processor's first table of pages.
const LONG: usize = 64 << 10;

/// The alignment that allocators serve straight from the kernel's zeroed pages; more would make them touch each page.
const PLAIN_ALIGN: usize = 16;

/// A type for which all bytes zero are a value, and which has nothing to drop.
///
/// # Safety
/// Both must be so.
pub(crate) unsafe trait Zeroed {}

// SAFETY: integers only.
unsafe impl Zeroed for Line {}
// SAFETY: an integer.
unsafe impl Zeroed for u32 {}
// SAFETY: integers and addresses, which are integers too: `Address` is sealed, there are only IPv4's and IPv6's. Enums are
// kept as bits of integers.
unsafe impl<A: Address> Zeroed for Session<A> {}

/// The machine has not the address space or memory for a table of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for a session table of {bytes} bytes; lower [sessions] capacity")]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
}

/// A row of `len` values, at least one.
pub(crate) struct Row<T> {
    first: NonNull<T>,
    len: usize,
    allocation: Arc<Allocation>,
}

/// The memory of a row.
#[derive(Debug)]
struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address and a size; what lies there is the row's.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

// SAFETY: a row owns its values, like a boxed slice.
unsafe impl<T: Send> Send for Row<T> {}
// SAFETY: a shared row gives shared references only, like a boxed slice.
unsafe impl<T: Sync> Sync for Row<T> {}

impl<T> core::fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Row({})", self.len)
    }
}

impl<T: Zeroed> Row<T> {
    /// A row of `len` zeroes (one, when `len` is 0).
    ///
    /// # Errors
    /// When the allocator has no room.
    pub(crate) fn new(len: usize) -> Result<Self, OutOfMemory> {
        const { assert!(!core::mem::needs_drop::<T>() && size_of::<T>() != 0) };
        let len = len.max(1);
        let bytes = len.saturating_mul(size_of::<T>());
        // A long row has large pages to itself: the last one reaches beyond it.
        let (align, room) = if bytes >= LONG {
            (LARGE_PAGE, bytes.checked_next_multiple_of(LARGE_PAGE).unwrap_or(usize::MAX))
        } else {
            (align_of::<T>(), bytes)
        };
        let layout =
            Layout::from_size_align(room.saturating_add(align), PLAIN_ALIGN).map_err(|_| OutOfMemory { bytes })?;
        let start = reserve(layout).ok_or(OutOfMemory { bytes })?;
        let allocation = Arc::new(Allocation { start, layout });
        let offset = start.align_offset(align);
        // SAFETY: `offset` is below `align`, and the allocation is `align` bytes longer than `room`, which holds the row.
        let first = unsafe { start.add(offset) }.cast::<T>();
        advise_large_pages(first.cast(), room);
        Ok(Self { first, len, allocation })
    }

    /// Bytes of the row, touched or not.
    pub(crate) const fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The value at `position`, the first when there is none.
    #[inline(always)]
    pub(crate) const fn at(&self, position: u32) -> &T {
        // SAFETY: `place` lies within the row, whose values are initialised and borrowed with `self`.
        unsafe { self.place(position).as_ref() }
    }

    /// The value at `position`, the first when there is none.
    #[inline(always)]
    pub(crate) const fn at_mut(&mut self, position: u32) -> &mut T {
        // SAFETY: `place` lies within the row, whose values are initialised and borrowed with `self`.
        unsafe { self.place(position).as_mut() }
    }

    /// The value at `fraction` of the row, in 2^-32nds of its length.
    #[inline(always)]
    pub(crate) const fn at_fraction(&self, fraction: u32) -> &T {
        let within = ((fraction as u64).wrapping_mul(self.len as u64) >> 32) as usize;
        // SAFETY: `within` is below `len`: `fraction / 2^32` is below one, and where the product of a row longer than 2^32
        // wraps, what is left of it is below 2^32. `new` allocated and zeroed `len` values, borrowed with `self`.
        unsafe { self.first.add(within).as_ref() }
    }

    /// Asks for the lines of the value at `position`, of which only the first two are ever needed at once.
    #[inline(always)]
    pub(crate) fn prefetch(&self, position: u32) {
        let place = self.first.as_ptr().wrapping_add(position as usize).cast::<u8>();
        prefetch(place);
        if size_of::<T>() > 128 {
            prefetch(place.wrapping_add(64));
        }
    }

    /// Asks for all lines of the value at `position`.
    #[inline(always)]
    pub(crate) fn prefetch_whole(&self, position: u32) {
        let place = self.first.as_ptr().wrapping_add(position as usize).cast::<u8>();
        for line in (0..size_of::<T>()).step_by(64) {
            prefetch(place.wrapping_add(line));
        }
    }

    /// Its memory, for whoever has the kernel back it.
    pub(crate) fn stretch(&self) -> Stretch {
        Stretch { first: self.first.cast(), bytes: self.bytes(), _allocation: Arc::clone(&self.allocation) }
    }

    #[inline(always)]
    const fn place(&self, position: u32) -> NonNull<T> {
        let position = position as usize;
        let within = if position < self.len { position } else { 0 };
        // SAFETY: `within` is below `len`, and `new` allocated `len` values from `first` on.
        unsafe { self.first.add(within) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `reserve` gave it to `Row::new` for this layout; the values have nothing to drop, and row and stretches are gone.
        unsafe { release(self.start, self.layout) };
    }
}

/// The memory of a row, as far as the kernel is concerned: no value in it can be reached. It outlives the row.
#[derive(Debug)]
pub(crate) struct Stretch {
    first: NonNull<u8>,
    bytes: usize,
    _allocation: Arc<Allocation>,
}

// SAFETY: nothing in the memory is read or written through it.
unsafe impl Send for Stretch {}

impl Stretch {
    /// How long it is.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has the kernel back these bytes, as far as there are so many; their values stay as they are, and whoever owns them goes on
    /// meanwhile. Kernels before 5.14 do nothing: then the owner's first touch does it.
    pub(crate) fn back(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.bytes);
        #[cfg(all(target_os = "linux", not(miri)))]
        if self.bytes >= LONG && bytes.start < end {
            // SAFETY: the range begins within the row, which `_allocation` keeps mapped, and ends within it; long rows begin on a
            // page of their own. What is there stays as it is (madvise(2), MADV_POPULATE_WRITE), atomically for all others.
            unsafe {
                let start = self.first.add(bytes.start);
                libc::madvise(start.as_ptr().cast(), end - bytes.start, libc::MADV_POPULATE_WRITE);
            }
        }
        #[cfg(not(all(target_os = "linux", not(miri))))]
        let _ = end;
    }
}

/// Whether memory of this layout is the kernel's, untouched. An allocator may serve from what others gave back: then it zeroes
/// every byte, so that all is backed at once, and by ordinary pages.
const fn is_mapped(layout: Layout) -> bool {
    cfg!(all(target_os = "linux", not(miri))) && layout.size() >= LONG
}

/// Zeroed memory, `None` when there is not as much.
fn reserve(layout: Layout) -> Option<NonNull<u8>> {
    #[cfg(all(target_os = "linux", not(miri)))]
    if is_mapped(layout) {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at no address that we name, of no file.
        let mapped = unsafe { libc::mmap(core::ptr::null_mut(), layout.size(), protection, flags, -1, 0) };
        return if mapped == libc::MAP_FAILED { None } else { NonNull::new(mapped.cast()) };
    }
    // SAFETY: a layout of `Row::new` is larger than its alignment, so not of size zero.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

/// Gives memory back.
///
/// # Safety
/// [`reserve`] gave it for this layout, and nobody uses it.
unsafe fn release(allocation: NonNull<u8>, layout: Layout) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if is_mapped(layout) {
        // SAFETY: a whole mapping of `reserve`'s, as the caller promises.
        unsafe { libc::munmap(allocation.as_ptr().cast(), layout.size()) };
        return;
    }
    // SAFETY: as the caller promises.
    unsafe { dealloc(allocation.as_ptr(), layout) };
}

/// Asks for large pages behind the whole ones of a row. Advice: the outcome does not matter.
fn advise_large_pages(first: NonNull<u8>, bytes: usize) {
    let whole = bytes & !(LARGE_PAGE - 1);
    #[cfg(all(target_os = "linux", not(miri)))]
    if whole != 0 {
        // SAFETY: the range is within one allocation; this advice changes no content.
        unsafe { libc::madvise(first.as_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (first, whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_begins_as_zeroes_on_its_own_lines() {
        for len in [0, 1, 3, 100_000] {
            let row = Row::<Line>::new(len).unwrap();
            assert_eq!(row.bytes(), len.max(1) * 64);
            let align = if row.bytes() >= LONG { LARGE_PAGE } else { 64 };
            assert_eq!(core::ptr::from_ref(row.at(0)).addr() % align, 0);
            assert!(row.at(u32::try_from(len.max(1) - 1).unwrap()).0.iter().all(|&word| word == 0));
        }
    }

    #[test]
    fn what_is_backed_stays_as_it_is_while_it_is_written() {
        let mut row = Row::<u32>::new(1 << 20).unwrap();
        let stretch = row.stretch();
        let backs = std::thread::spawn(move || {
            stretch.back(0..usize::MAX);
            stretch.back(usize::MAX..usize::MAX);
            stretch.back((4 << 20) - 4096..(4 << 20) + 4096);
        });
        (0..1 << 20).for_each(|position| *row.at_mut(position) = position);
        backs.join().unwrap();
        assert!((0..1 << 20).all(|position| *row.at(position) == position));
    }

    #[test]
    fn outside_lies_the_first() {
        let mut row = Row::<Line>::new(2).unwrap();
        row.at_mut(7).0[3] = 9;
        row.at_mut(1).0[3] = 5;
        assert_eq!((row.at(0).0[3], row.at(u32::MAX).0[3], row.at(1).0[3]), (9, 9, 5));
    }

    #[test]
    fn too_long_is_an_error_not_an_abort() {
        assert_eq!(Row::<Line>::new(usize::MAX).unwrap_err().bytes, usize::MAX);
    }
}
