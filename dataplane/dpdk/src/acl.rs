//! Rule classification over `rte_acl`: expanded rules become multi-bit tries that answer a batch of packets at once, with
//! the widest vectors the processor has. Compiled in management, asked by every worker, never changed.

mod key;
mod table;

use core::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use arrayvec::ArrayVec;
use stage::firewall::{Candidate, Classifier, Entries, Entry, Reach, divide, split};
use units::RuleId;
use units::limits::{BURST_MAX, CLASSIFIER_BUILD_BYTES, CLASSIFIER_TABLE_ENTRIES};

use crate::{Eal, Error, heap};
use key::{Key, KeyV4, KeyV6};
use table::Table;

/// The classifier of one ruleset.
#[derive(Debug)]
pub struct Acl {
    v4: Tables<KeyV4, 7>,
    v6: Tables<KeyV6, 13>,
    memory: usize,
}

impl Acl {
    /// Compiles `entries` (`rte_acl_create`, `rte_acl_add_rules`, `rte_acl_build`), and takes at most `allowance` bytes of
    /// ordinary memory meanwhile: what does not fit is divided, and takes several tables.
    ///
    /// # Errors
    /// [`Error::Table`] when DPDK's memory does not suffice; [`Error::BuildMemory`] when the allowance does not, however the
    /// entries are divided; [`Error::TooMany`] for a rule number beyond what a priority can hold.
    pub fn new(eal: &Eal, entries: Entries, allowance: usize) -> Result<Self, Error> {
        let before = heap::in_use();
        let (v4, v6) = Self::compile(eal, entries, allowance)?;
        Ok(Self { v4, v6, memory: heap::in_use().saturating_sub(before) })
    }

    /// Both families at once, with half of the allowance each, where they are divided anyway, the calling thread has cores for it,
    /// and there is memory enough that half of it is plenty: what compiled on one core must compile at the next start.
    fn compile(eal: &Eal, entries: Entries, allowance: usize) -> Result<Both, Error> {
        let Entries { v4, v6 } = entries;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        if cores == 1 || allowance < CLASSIFIER_BUILD_BYTES || v4.len().min(v6.len()) <= CLASSIFIER_TABLE_ENTRIES {
            return Ok((Tables::new(eal, v4, allowance)?, Tables::new(eal, v6, allowance)?));
        }
        thread::scope(|scope| {
            let v6 = scope.spawn(|| Tables::new(eal, v6, allowance / 2));
            let mut v4 = Tables::new(eal, v4, allowance / 2)?;
            let v6 = v6.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            v4.taken += v6.taken;
            Ok((v4, v6))
        })
    }

    /// How many tables there are.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.v4.tables.len() + self.v6.tables.len()
    }

    /// Bytes of ordinary memory that were taken at most while it was compiled.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.v4.taken.max(self.v6.taken)
    }
}

impl Classifier for Acl {
    fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        for (candidates, matches) in candidates.chunks(BURST_MAX).zip(matches.chunks_mut(BURST_MAX)) {
            // A family without rules answers nothing.
            matches.iter_mut().zip(candidates).for_each(|(found, _)| *found = None);
            self.v4.classify(candidates, matches);
            self.v6.classify(candidates, matches);
        }
    }

    /// As DPDK's memory in use grew while it was compiled; what another thread took meanwhile counts too.
    fn memory(&self) -> usize {
        self.memory
    }
}

/// The tables of both families.
type Both = (Tables<KeyV4, 7>, Tables<KeyV6, 13>);

/// The entries of one family: in one table as long as they are few and cross little, which is asked about every packet; else in
/// several, each asked about the packets within its reach.
#[derive(Debug)]
struct Tables<K, const N: usize> {
    tables: Box<[(Reach, Table<K, N>)]>,
    taken: usize,
}

impl<K: Key<N>, const N: usize> Tables<K, N> {
    fn new(eal: &Eal, entries: Vec<Entry>, allowance: usize) -> Result<Self, Error> {
        let mut waiting = divide(entries);
        let (mut tables, mut taken) = (Vec::new(), 0);
        while let Some(entries) = waiting.pop() {
            let reach = Reach::of(&entries);
            match Table::new(eal, &entries, allowance) {
                Ok((table, bytes)) => {
                    taken = bytes.max(taken);
                    tables.push((reach, table));
                }
                Err(error) if error.is_of_memory() => {
                    taken = allowance;
                    waiting.extend(split(entries).ok_or(error)?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { tables: tables.into(), taken })
    }

    /// Answers for the candidates of this family, [`BURST_MAX`] at most; leaves the places of the others alone.
    fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        if self.tables.is_empty() {
            return;
        }
        let mut keys = ArrayVec::<K, BURST_MAX>::new_const();
        let mut places = ArrayVec::<usize, BURST_MAX>::new_const();
        for (place, candidate) in candidates.iter().enumerate().take(matches.len()) {
            if let Some(key) = K::of(candidate) {
                keys.push(key);
                places.push(place);
            }
        }
        if keys.is_empty() {
            return;
        }
        let mut results = [0_u32; BURST_MAX];
        match &*self.tables {
            [] => {}
            [(_, only)] => only.classify(&mut keys.iter().collect(), &mut results),
            several => classify_among(several, &keys, &mut results),
        }
        for (place, result) in places.iter().zip(results) {
            if let Some(found) = matches.get_mut(*place) {
                *found = result.checked_sub(1).map(RuleId::new);
            }
        }
    }
}

/// The lowest rule that any table has for each key, counted from one; zero for none.
fn classify_among<K: Key<N>, const N: usize>(
    tables: &[(Reach, Table<K, N>)],
    keys: &[K],
    results: &mut [u32; BURST_MAX],
) {
    let ends: ArrayVec<(u128, u128), BURST_MAX> = keys.iter().map(Key::ends).collect();
    for (reach, table) in tables {
        let mut asked = ArrayVec::<&K, BURST_MAX>::new_const();
        let mut places = ArrayVec::<usize, BURST_MAX>::new_const();
        for (place, (key, &(source, destination))) in keys.iter().zip(&ends).enumerate() {
            if reach.has(source, destination) {
                asked.push(key);
                places.push(place);
            }
        }
        let mut found = [0_u32; BURST_MAX];
        table.classify(&mut asked, &mut found);
        for (place, found) in places.iter().zip(found) {
            if let Some(result) = results.get_mut(*place) {
                // Zero is behind all others.
                *result = result.wrapping_sub(1).min(found.wrapping_sub(1)).wrapping_add(1);
            }
        }
    }
}
