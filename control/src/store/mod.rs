//! Where generations are kept: every policy that was put in force, with who did it, when and how, and its text.
//!
//! - [`Store`]: what is asked of a place that keeps them. Cut so that a cluster-wide one can stand beside those here.
//! - [`Embedded`]: a file in the state folder, for one machine.
//! - [`Volatile`]: memory, for an appliance that is to leave nothing behind.
//!
//! A generation is written down twice: [`Store::intend`] before it is put in force, [`Store::settle`] when it is. What was
//! intended and never settled was never in force for good: whoever opens the store next withdraws it.
//!
//! Called on management threads that may wait for a disk. Not here: what is in force, and when something is recorded
//! (`generation`).

mod embedded;
mod sealed;
#[cfg(test)]
mod tests;
mod volatile;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use crate::status::{AppliedPolicy, Standing};

pub use embedded::Embedded;
pub(crate) use sealed::{seal, unseal};
pub use volatile::Volatile;

/// Generations kept. The last committed one is kept beyond that.
pub const KEPT: usize = 20;

/// A place that keeps generations.
///
/// One appliance holds a store at a time: the embedded one by a lock on its file, a cluster-wide one by a lease. Numbers
/// only grow, and [`intend`](Store::intend) refuses one that is not above all others, which is the compare-and-set that
/// several appliances on one store need: whoever was overtaken reads again. Being told of what others commit is a
/// cluster-wide store's alone and not part of this interface.
pub trait Store: Send + Sync + Debug {
    /// Every generation kept, oldest first, without the texts.
    ///
    /// # Errors
    /// [`StoreError`].
    fn generations(&self) -> Result<Vec<AppliedPolicy>, StoreError>;

    /// The text of a generation; `None` when it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    fn text(&self, generation: u64) -> Result<Option<String>, StoreError>;

    /// Writes a generation down with the standing it has. Durable when this returns; on an error nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn intend(&self, policy: &AppliedPolicy, text: &str) -> Result<(), StoreError>;

    /// Writes down what became of a generation, and forgets those beyond [`KEPT`]. Durable when this returns; on an error
    /// nothing is changed. Nothing happens where it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    fn settle(&self, generation: u64, standing: Standing) -> Result<(), StoreError>;
}

/// Why a store does not do what it is asked, and what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "another appliance keeps its state in {}; stop it, or give this one another `state_folder` under [appliance]",
        path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file cannot be made or opened.
    #[error(
        "cannot keep state in {}: {source}; `state_folder` under [appliance] names the folder, false keeps nothing",
        path.display()
    )]
    Folder {
        /// What could not be made or opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error(
        "{} is damaged: {what}; put a copy of it back, or move it away: then there are no earlier generations",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Reading or writing failed; it may work again later.
    #[error("cannot read or write {}: {what}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// Somebody else has written down a generation with this number or a higher one.
    #[error("generation {generation} comes too late: generation {last} is written down already")]
    Overtaken {
        /// The number wanted.
        generation: u64,
        /// The highest there is.
        last: u64,
    },
}

/// Whether a generation with this number may be written down after those.
fn in_order(generation: u64, last: Option<u64>) -> Result<(), StoreError> {
    match last.filter(|&last| generation <= last) {
        Some(last) => Err(StoreError::Overtaken { generation, last }),
        None => Ok(()),
    }
}

/// The generations to forget: all but the newest [`KEPT`] and the last committed one.
fn surplus(kept: &[AppliedPolicy]) -> Vec<u64> {
    let committed = last_committed(kept).map(|policy| policy.generation);
    let old = kept.get(..kept.len().saturating_sub(KEPT)).unwrap_or_default();
    old.iter().map(|policy| policy.generation).filter(|&generation| Some(generation) != committed).collect()
}

/// The last one that was in force for good, of generations in order.
#[must_use]
pub fn last_committed(kept: &[AppliedPolicy]) -> Option<&AppliedPolicy> {
    kept.iter().rfind(|policy| policy.standing == Standing::Committed)
}
