//! One `rte_acl` context: entries of one family, all of them or some. First match wins, so the lowest rule gets the highest priority.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use dpdk_sys::{rte_acl_config, rte_acl_ctx, rte_acl_field, rte_acl_param, rte_acl_rule_data};
use stage::firewall::Entry;
use units::limits::BURST_MAX;

use super::key::Key;
use crate::eal::Runtime;
use crate::{Eal, Errno, Error, allowance, said};

/// Contexts are found by name in C, so each gets a name of its own.
static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

/// The limit on vector width is one variable of the process; only one context at a time is built under a raised one.
static VECTOR_WIDTH: Mutex<()> = Mutex::new(());

/// A rule as `rte_acl` takes it (`RTE_ACL_RULE_DEF`).
#[derive(Clone, Copy)]
#[repr(C)]
struct Rule<const N: usize> {
    data: rte_acl_rule_data,
    fields: [rte_acl_field; N],
}

// The macro RTE_ACL_RULE_SZ counts one field's size for everything in front of the fields.
const _: () = assert!(size_of::<Rule<7>>() == size_of::<rte_acl_field>() * 8);

/// A compiled context.
#[derive(Debug)]
pub(super) struct Table<K, const N: usize> {
    context: NonNull<rte_acl_ctx>,
    _key: core::marker::PhantomData<K>,
    _runtime: Arc<Runtime>,
}

// SAFETY: a built context is never changed; classification only reads it, from any number of threads.
unsafe impl<K: Key<N>, const N: usize> Send for Table<K, N> {}
// SAFETY: as above.
unsafe impl<K: Key<N>, const N: usize> Sync for Table<K, N> {}

impl<K: Key<N>, const N: usize> Table<K, N> {
    /// Compiles entries, at least one of this family, with at most `allowed` bytes of ordinary memory; also tells how many it took.
    pub(super) fn new(eal: &Eal, entries: &[Entry], allowed: usize) -> Result<(Self, usize), Error> {
        let rules = entries.iter().filter_map(rule::<K, N>).collect::<Result<Vec<_>, _>>()?;
        said::forget();
        let failed = |errno| Error::Table {
            table: "the firewall's classifier",
            entries: rules.len(),
            errno,
            said: said::since_forget(),
        };
        let too_many = |_| failed(Errno::new(libc::E2BIG));
        let count = u32::try_from(rules.len()).map_err(too_many)?;
        let size = u32::try_from(size_of::<Rule<N>>()).map_err(too_many)?;
        let name = format!("{}-{}", K::NAME, NEXT_NAME.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).map_err(|_| failed(Errno::new(libc::EINVAL)))?;
        let wanted = rte_acl_param {
            name: name.as_ptr(),
            socket_id: dpdk_sys::MILLRACE_SOCKET_ID_ANY,
            rule_size: size,
            max_rule_num: count,
        };
        // SAFETY: `wanted` and the name it points to outlive the call, and DPDK copies them.
        let context = NonNull::new(unsafe { dpdk_sys::rte_acl_create(&raw const wanted) });
        let context = context.ok_or_else(|| failed(Errno::new(libc::ENOMEM)))?;
        // From here on dropping the table frees the context.
        let table = Self { context, _key: core::marker::PhantomData, _runtime: eal.runtime() };
        let first = rules.as_ptr().cast::<dpdk_sys::rte_acl_rule>();
        // SAFETY: `first` points at `count` rules of the size the context was created for; DPDK copies them.
        let added = unsafe { dpdk_sys::rte_acl_add_rules(context.as_ptr(), first, count) };
        if added != 0 {
            return Err(failed(Errno::new(added)));
        }
        let (built, taken) = allowance::within(allowed, || build::<K, N>(context));
        if built != 0 && taken.refused {
            return Err(Error::BuildMemory { entries: rules.len(), mib: allowed >> 20 });
        }
        if built != 0 {
            return Err(failed(Errno::new(built)));
        }
        Ok((table, taken.bytes))
    }

    /// Writes for each key the rule of the highest priority that matches, counted from one, and zero for none.
    pub(super) fn classify(&self, keys: &mut ArrayVec<&K, BURST_MAX>, results: &mut [u32; BURST_MAX]) {
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_MAX, the room for keys")]
        let asked = keys.len() as u32;
        // SAFETY: the context is built; references are pointers, the `asked` of them lead to whole keys, none of them is
        // written, and `results` has a place for each. A refusal leaves zeroes, which say that no rule matches.
        let _ = unsafe {
            dpdk_sys::rte_acl_classify(self.context.as_ptr(), keys.as_mut_ptr().cast(), results.as_mut_ptr(), asked, 1)
        };
    }
}

impl<K, const N: usize> Drop for Table<K, N> {
    fn drop(&mut self) {
        // SAFETY: created by `new`, freed once, and no thread classifies any more: that takes a reference to `self`.
        unsafe { dpdk_sys::rte_acl_free(self.context.as_ptr()) };
    }
}

/// An entry as a rule; `None` when it is of the other family.
fn rule<K: Key<N>, const N: usize>(entry: &Entry) -> Option<Result<Rule<N>, Error>> {
    let fields = K::fields(entry)?;
    let number = entry.rule.get();
    let highest = dpdk_sys::RTE_ACL_MAX_PRIORITY;
    let priority = highest.checked_sub(number).filter(|&priority| priority >= dpdk_sys::RTE_ACL_MIN_PRIORITY);
    let Some(priority) = priority.and_then(|priority| i32::try_from(priority).ok()) else {
        return Some(Err(Error::TooMany {
            table: "the firewall's classifier",
            of: "rules",
            most: highest as usize,
            wanted: entry.rule.index().saturating_add(1),
        }));
    };
    // Zero is the answer for "no rule", so rules count from one.
    let data = rte_acl_rule_data { category_mask: 1, priority, userdata: number.saturating_add(1) };
    Some(Ok(Rule { data, fields }))
}

/// Compiles a filled context, and has it use the widest vectors of this processor.
fn build<K: Key<N>, const N: usize>(context: NonNull<rte_acl_ctx>) -> i32 {
    let mut config = rte_acl_config { num_categories: 1, ..rte_acl_config::default() };
    let layout = K::layout();
    for (place, field) in config.defs.iter_mut().zip(layout) {
        *place = field;
    }
    config.num_fields = u32::try_from(layout.len()).unwrap_or(0);
    // SAFETY: `context` is ours alone and holds rules; `config` outlives the call.
    let built = unsafe { dpdk_sys::rte_acl_build(context.as_ptr(), &raw const config) };
    if built != 0 {
        return built;
    }
    let _one_at_a_time = VECTOR_WIDTH.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: reads a number.
    let width = unsafe { dpdk_sys::rte_vect_get_max_simd_bitwidth() };
    // The choice is made here, once, and kept in the context; drivers that start later keep their own limit.
    // SAFETY: sets a number; refused when the operator has forced one, which is then respected.
    let _ = unsafe { dpdk_sys::rte_vect_set_max_simd_bitwidth(dpdk_sys::MILLRACE_VECTOR_BITS_512) };
    // SAFETY: `context` is ours alone; the default is the best this processor and the limit allow.
    let chosen = unsafe { dpdk_sys::rte_acl_set_ctx_classify(context.as_ptr(), dpdk_sys::RTE_ACL_CLASSIFY_DEFAULT) };
    // SAFETY: sets a number back to what it was.
    let _ = unsafe { dpdk_sys::rte_vect_set_max_simd_bitwidth(width) };
    chosen
}
