//! Generations in memory: they end with the process. For `state_folder = false`, so that `rollback` works all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Store, StoreError, in_order, surplus};
use crate::status::{AppliedPolicy, Standing};

/// Generations in memory, by number.
#[derive(Debug, Default)]
pub struct Volatile(Mutex<BTreeMap<u64, (AppliedPolicy, String)>>);

impl Volatile {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, (AppliedPolicy, String)>) -> T) -> T {
        // Whoever panicked inside left whole entries behind.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Volatile {
    fn generations(&self) -> Result<Vec<AppliedPolicy>, StoreError> {
        Ok(self.with(|kept| kept.values().map(|(policy, _)| policy.clone()).collect()))
    }

    fn text(&self, generation: u64) -> Result<Option<String>, StoreError> {
        Ok(self.with(|kept| kept.get(&generation).map(|(_, text)| text.clone())))
    }

    fn intend(&self, policy: &AppliedPolicy, text: &str) -> Result<(), StoreError> {
        self.with(|kept| {
            in_order(policy.generation, kept.last_key_value().map(|(&last, _)| last))?;
            kept.insert(policy.generation, (policy.clone(), text.to_owned()));
            Ok(())
        })
    }

    fn settle(&self, generation: u64, standing: Standing) -> Result<(), StoreError> {
        self.with(|kept| {
            if let Some((policy, _)) = kept.get_mut(&generation) {
                policy.standing = standing;
            }
            let all: Vec<_> = kept.values().map(|(policy, _)| policy.clone()).collect();
            for old in surplus(&all) {
                kept.remove(&old);
            }
        });
        Ok(())
    }
}
