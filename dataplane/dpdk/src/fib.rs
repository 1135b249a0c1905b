//! Routes by longest prefix over `rte_fib` (DIR-24-8) and `rte_fib6` (a trie of the same kind): one or two memory reads for
//! IPv4, at most fourteen for IPv6, whatever the number of routes. Compiled in management, asked by every worker for first
//! packets, never changed.
//!
//! The price is memory: 16 MiB for IPv4 with up to 126 routes (32 or 64 with more), 32 MiB for IPv6, and twice that for
//! the moment in which one policy replaces another. A family without routes takes none.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dpdk_sys::{rte_fib, rte_fib_conf, rte_fib6, rte_fib6_conf};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use stage::forward::{Route, RouteTable};

use crate::eal::Runtime;
use crate::{Eal, Errno, Error, said};

/// Tables are found by name in C, so each gets a name of its own.
static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

/// Places of the first level: one for each value of an address's first 24 bits.
const FIRST_LEVEL: usize = 1 << 24;
/// Places of a further level's group.
const GROUP: usize = 256;

/// The routes of one policy.
#[derive(Debug)]
pub struct Fib {
    /// What the tables' answers mean: place plus one, zero for no route.
    routes: Box<[Route]>,
    v4: Option<NonNull<rte_fib>>,
    v6: Option<NonNull<rte_fib6>>,
    memory: usize,
    _runtime: Arc<Runtime>,
}

// SAFETY: finished tables are never changed; look-ups only read them, from any number of threads.
unsafe impl Send for Fib {}
// SAFETY: as above.
unsafe impl Sync for Fib {}

// DPDK counts widths as `Size` does, and its trie begins with two bytes.
const _: () = assert!(dpdk_sys::RTE_FIB_DIR24_8_1B == 0 && dpdk_sys::RTE_FIB6_TRIE_2B == 1);

/// How wide an answer is, and how many groups of the further levels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    /// Base-two logarithm of the bytes of an answer.
    width: u32,
    groups: u32,
}

impl Size {
    /// The narrowest answer, of at least `1 << width` bytes, that can number `answers` and `groups` (one bit of it says
    /// which of the two it is).
    fn new(width: u32, answers: usize, groups: usize) -> Option<Self> {
        let groups = groups.max(1);
        let fits = |width: &u32| answers.max(groups) < 1 << ((8 << width) - 1);
        let width = (width..=2).find(fits)?;
        Some(Self { width, groups: u32::try_from(groups).ok()? })
    }

    const fn bytes(self) -> usize {
        (FIRST_LEVEL + self.groups as usize * GROUP) << self.width
    }
}

impl Fib {
    /// Compiles `routes`; of several with the same prefix the first one counts.
    ///
    /// # Errors
    /// [`Error::Table`] when DPDK's memory does not suffice.
    pub fn new(eal: &Eal, routes: &[Route]) -> Result<Self, Error> {
        let mut seen = BTreeSet::new();
        let routes: Box<[Route]> = routes.iter().filter(|route| seen.insert(route.to.trunc())).copied().collect();
        let mut fib = Self { routes, v4: None, v6: None, memory: 0, _runtime: eal.runtime() };
        let v4 = fib.numbered(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None });
        let v6 = fib.numbered(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None });
        said::forget();
        // Fields are filled one after the other, so that a failure drops what is there.
        if !v4.is_empty() {
            fib.fill_v4(&v4)?;
        }
        if !v6.is_empty() {
            fib.fill_v6(&v6)?;
        }
        Ok(fib)
    }

    /// The prefixes of one family with their answers.
    fn numbered<P>(&self, family: impl Fn(IpNet) -> Option<P>) -> Vec<(P, u64)> {
        (1..).zip(&self.routes).filter_map(|(answer, route)| Some((family(route.to)?, answer))).collect()
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Table { table: "the route table", entries: self.routes.len(), errno, said: said::since_forget() }
    }

    fn name(&self) -> Result<CString, Error> {
        CString::new(format!("fib-{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed)))
            .map_err(|_| self.failed(Errno::new(libc::EINVAL)))
    }

    fn fill_v4(&mut self, routes: &[(Ipv4Net, u64)]) -> Result<(), Error> {
        let too_many = self.failed(Errno::new(libc::E2BIG));
        let size = Size::new(0, self.routes.len(), groups_v4(routes)).ok_or(too_many.clone())?;
        let name = self.name()?;
        let mut conf = rte_fib_conf {
            type_: dpdk_sys::RTE_FIB_DIR24_8,
            default_nh: default_answer(routes.iter().map(|&(net, answer)| (net.prefix_len(), answer))),
            max_routes: i32::try_from(routes.len()).map_err(|_| too_many)?,
            ..rte_fib_conf::default()
        };
        conf.__bindgen_anon_1.dir24_8.nh_sz = size.width;
        conf.__bindgen_anon_1.dir24_8.num_tbl8 = size.groups;
        // SAFETY: the name and `conf` outlive the call, and DPDK copies them.
        let table = unsafe { dpdk_sys::rte_fib_create(name.as_ptr(), dpdk_sys::MILLRACE_SOCKET_ID_ANY, &raw mut conf) };
        let table = NonNull::new(table).ok_or_else(|| self.failed(Errno::last()))?;
        self.v4 = Some(table);
        self.memory += size.bytes();
        for &(net, answer) in routes.iter().filter(|(net, _)| net.prefix_len() > 0) {
            // SAFETY: the table is ours alone; address in host order.
            let result =
                unsafe { dpdk_sys::rte_fib_add(table.as_ptr(), net.network().into(), net.prefix_len(), answer) };
            if result != 0 {
                return Err(self.failed(Errno::new(result)));
            }
        }
        Ok(())
    }

    fn fill_v6(&mut self, routes: &[(Ipv6Net, u64)]) -> Result<(), Error> {
        let too_many = self.failed(Errno::new(libc::E2BIG));
        let size = Size::new(1, self.routes.len(), groups_v6(routes)).ok_or(too_many.clone())?;
        let name = self.name()?;
        let mut conf = rte_fib6_conf {
            type_: dpdk_sys::RTE_FIB6_TRIE,
            default_nh: default_answer(routes.iter().map(|&(net, answer)| (net.prefix_len(), answer))),
            max_routes: i32::try_from(routes.len()).map_err(|_| too_many)?,
            ..rte_fib6_conf::default()
        };
        conf.__bindgen_anon_1.trie.nh_sz = size.width;
        conf.__bindgen_anon_1.trie.num_tbl8 = size.groups;
        // SAFETY: the name and `conf` outlive the call, and DPDK copies them.
        let table =
            unsafe { dpdk_sys::rte_fib6_create(name.as_ptr(), dpdk_sys::MILLRACE_SOCKET_ID_ANY, &raw mut conf) };
        let table = NonNull::new(table).ok_or_else(|| self.failed(Errno::last()))?;
        self.v6 = Some(table);
        self.memory += size.bytes();
        for &(net, answer) in routes.iter().filter(|(net, _)| net.prefix_len() > 0) {
            let address = net.network().octets();
            // SAFETY: the table is ours alone; sixteen bytes in network order.
            let result =
                unsafe { dpdk_sys::millrace_fib6_add(table.as_ptr(), address.as_ptr(), net.prefix_len(), answer) };
            if result != 0 {
                return Err(self.failed(Errno::new(result)));
            }
        }
        Ok(())
    }

    fn answer_v4(&self, destination: Ipv4Addr) -> u64 {
        let Some(table) = self.v4 else { return 0 };
        let mut address = u32::from(destination);
        let mut answer = 0;
        // SAFETY: the table is finished; one address in host order, one place for its answer.
        let _ = unsafe { dpdk_sys::rte_fib_lookup_bulk(table.as_ptr(), &raw mut address, &raw mut answer, 1) };
        answer
    }

    fn answer_v6(&self, destination: Ipv6Addr) -> u64 {
        let Some(table) = self.v6 else { return 0 };
        let mut address = destination.octets();
        let mut answer = 0;
        // SAFETY: the table is finished; one address of sixteen bytes, one place for its answer.
        let _ = unsafe { dpdk_sys::millrace_fib6_lookup(table.as_ptr(), address.as_mut_ptr(), &raw mut answer, 1) };
        answer
    }
}

impl RouteTable for Fib {
    fn lookup(&self, destination: IpAddr) -> Option<&Route> {
        let answer = match destination {
            IpAddr::V4(destination) => self.answer_v4(destination),
            IpAddr::V6(destination) => self.answer_v6(destination),
        };
        let place = usize::try_from(answer.checked_sub(1)?).ok()?;
        self.routes.get(place)
    }

    fn memory(&self) -> usize {
        self.memory + size_of_val(&*self.routes)
    }
}

impl Drop for Fib {
    fn drop(&mut self) {
        if let Some(table) = self.v4 {
            // SAFETY: made by `fill_v4`, freed once, and no thread looks anything up any more.
            unsafe { dpdk_sys::rte_fib_free(table.as_ptr()) };
        }
        if let Some(table) = self.v6 {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_fib6_free(table.as_ptr()) };
        }
    }
}

/// The answer of the route to everywhere, which is what a table says when it has nothing better.
fn default_answer(mut routes: impl Iterator<Item = (u8, u64)>) -> u64 {
    routes.find(|&(length, _)| length == 0).map_or(0, |(_, answer)| answer)
}

/// Groups DIR-24-8 needs: one for each /24 that is divided further.
fn groups_v4(routes: &[(Ipv4Net, u64)]) -> usize {
    let divided = routes.iter().filter(|(net, _)| net.prefix_len() > 24).map(|(net, _)| u32::from(net.network()) >> 8);
    divided.collect::<BTreeSet<_>>().len()
}

/// Groups the trie sets aside: one for each byte behind the third that a prefix reaches into, shared with nobody.
fn groups_v6(routes: &[(Ipv6Net, u64)]) -> usize {
    routes.iter().map(|(net, _)| usize::from(net.prefix_len().saturating_sub(24).div_ceil(8))).sum::<usize>() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_narrow_as_their_number_allows() {
        assert_eq!(Size::new(0, 126, 3), Some(Size { width: 0, groups: 3 }));
        assert_eq!(Size::new(0, 126, 0), Some(Size { width: 0, groups: 1 }));
        assert_eq!(Size::new(0, 128, 1), Some(Size { width: 1, groups: 1 }));
        assert_eq!(Size::new(0, 3, 200), Some(Size { width: 1, groups: 200 }));
        assert_eq!(Size::new(1, 40_000, 1), Some(Size { width: 2, groups: 1 }));
        assert_eq!(Size::new(0, 1, 1).map(Size::bytes), Some((16 << 20) + 256));
    }

    #[test]
    fn groups_are_counted_as_dpdk_sets_them_aside() {
        let v4 = |text: &str| (text.parse::<Ipv4Net>().unwrap(), 1);
        assert_eq!(groups_v4(&[v4("10.0.0.0/8"), v4("10.0.0.1/32"), v4("10.0.0.128/25"), v4("10.0.1.0/30")]), 2);
        let v6 = |text: &str| (text.parse::<Ipv6Net>().unwrap(), 1);
        assert_eq!(groups_v6(&[v6("2001:db8::/24"), v6("2001:db8::/32"), v6("2001:db8::1/128")]), 1 + 1 + 13);
    }
}
