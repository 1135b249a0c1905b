//! One `rte_acl` context: the entries of one family. First match wins, so the lowest rule gets the highest priority.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use dpdk_sys::{rte_acl_config, rte_acl_ctx, rte_acl_field, rte_acl_param, rte_acl_rule_data};
use stage::firewall::{Candidate, Entry};
use units::RuleId;
use units::limits::BURST_MAX;

use super::key::Key;
use crate::eal::Runtime;
use crate::{Eal, Errno, Error, heap, said};

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

/// A compiled context; `None` when there are no entries, which `rte_acl` cannot build.
#[derive(Debug)]
pub(super) struct Table<K, const N: usize> {
    context: Option<NonNull<rte_acl_ctx>>,
    memory: usize,
    _key: core::marker::PhantomData<K>,
    _runtime: Arc<Runtime>,
}

// SAFETY: a built context is never changed; classification only reads it, from any number of threads.
unsafe impl<K: Key<N>, const N: usize> Send for Table<K, N> {}
// SAFETY: as above.
unsafe impl<K: Key<N>, const N: usize> Sync for Table<K, N> {}

impl<K: Key<N>, const N: usize> Table<K, N> {
    pub(super) fn new(eal: &Eal, entries: &[Entry]) -> Result<Self, Error> {
        let before = heap::in_use();
        let mut table = Self { context: None, memory: 0, _key: core::marker::PhantomData, _runtime: eal.runtime() };
        let rules = entries.iter().filter_map(rule::<K, N>).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            return Ok(table);
        }
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
        table.context = Some(context);
        let first = rules.as_ptr().cast::<dpdk_sys::rte_acl_rule>();
        // SAFETY: `first` points at `count` rules of the size the context was created for; DPDK copies them.
        let added = unsafe { dpdk_sys::rte_acl_add_rules(context.as_ptr(), first, count) };
        if added != 0 {
            return Err(failed(Errno::new(added)));
        }
        let built = build::<K, N>(context);
        if built != 0 {
            return Err(failed(Errno::new(built)));
        }
        table.memory = heap::in_use().saturating_sub(before);
        Ok(table)
    }

    /// Answers for the candidates of this family; leaves the places of the others alone.
    pub(super) fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        for (candidates, matches) in candidates.chunks(BURST_MAX).zip(matches.chunks_mut(BURST_MAX)) {
            self.classify_burst(candidates, matches);
        }
    }

    fn classify_burst(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        let mut keys = ArrayVec::<K, BURST_MAX>::new_const();
        let mut places = ArrayVec::<usize, BURST_MAX>::new_const();
        for (place, candidate) in candidates.iter().enumerate().take(matches.len()) {
            if let Some(key) = K::of(candidate) {
                keys.push(key);
                places.push(place);
            }
        }
        let mut results = [0_u32; BURST_MAX];
        if let Some(context) = self.context
            && !keys.is_empty()
        {
            let mut pointers: ArrayVec<*const u8, BURST_MAX> =
                keys.iter().map(|key| (&raw const *key).cast()).collect();
            #[expect(clippy::cast_possible_truncation, reason = "at most BURST_MAX, the room for keys")]
            let asked = keys.len() as u32;
            // SAFETY: the context is built; the `asked` pointers lead to whole keys, which outlive the call, and `results`
            // has a place for each. A refusal leaves zeroes, which say that no rule matches.
            let _ = unsafe {
                dpdk_sys::rte_acl_classify(context.as_ptr(), pointers.as_mut_ptr(), results.as_mut_ptr(), asked, 1)
            };
        }
        for (place, result) in places.iter().zip(results) {
            if let Some(found) = matches.get_mut(*place) {
                *found = result.checked_sub(1).map(RuleId::new);
            }
        }
    }

    pub(super) const fn memory(&self) -> usize {
        self.memory
    }
}

impl<K, const N: usize> Drop for Table<K, N> {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            // SAFETY: created by `new`, freed once, and no thread classifies any more: that takes a reference to `self`.
            unsafe { dpdk_sys::rte_acl_free(context.as_ptr()) };
        }
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
