//! The generations of this appliance: which is in force, which were, and the store that keeps them. `show policy` reads a
//! copy in memory, so that no look at the state waits for a disk; whoever writes has the turn (`Turns`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::status::{AppliedPolicy, How, Standing};
use crate::store::{Store, StoreError, last_committed};

/// Which generation is in force, and the others that are kept.
#[derive(Debug)]
pub struct Ledger {
    store: Box<dyn Store>,
    book: Mutex<Book>,
}

/// What the store holds, and what could not be written there.
#[derive(Debug, Default)]
struct Book {
    /// The generation of the tables in force.
    in_force: u64,
    /// The one whose policy they are: an earlier one once a file of the policy was read again.
    policy: u64,
    /// Oldest first.
    kept: Vec<AppliedPolicy>,
}

impl Book {
    fn find(&mut self, generation: u64) -> Option<&mut AppliedPolicy> {
        self.kept.iter_mut().find(|policy| policy.generation == generation)
    }
}

impl Ledger {
    /// The generations of a store. What a process that died had begun and not settled is withdrawn.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(store: Box<dyn Store>) -> Result<Self, StoreError> {
        for begun in store.generations()?.iter().filter(|policy| policy.standing == Standing::Pending) {
            log::warn!("generation {} was never confirmed or never came into force; it is withdrawn", begun.generation);
            // On a full disk it stays pending, which is no more than withdrawn.
            if let Err(why) = store.settle(begun.generation, Standing::Withdrawn) {
                log::warn!("{why}");
            }
        }
        let book = Mutex::new(Book { kept: store.generations()?, ..Book::default() });
        Ok(Self { store, book })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change in here is one assignment or one push.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last generation that was in force for good, before one is in force now.
    #[must_use]
    pub fn last_committed(&self) -> Option<AppliedPolicy> {
        last_committed(&self.book().kept).cloned()
    }

    /// The number of the next generation. That of one that was withdrawn is not given again.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.book().kept.last().map_or(1, |policy| policy.generation + 1)
    }

    /// One that is kept.
    #[must_use]
    pub fn get(&self, generation: u64) -> Option<AppliedPolicy> {
        self.book().find(generation).cloned()
    }

    /// The generation whose policy is in force.
    #[must_use]
    pub fn policy_in_force(&self) -> u64 {
        self.book().policy
    }

    /// The committed generation before that whose text is another than `in_force`: what a trial or a rollback has brought back
    /// is there more than once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn before(&self, in_force: &str) -> Result<Option<AppliedPolicy>, StoreError> {
        let earlier: Vec<AppliedPolicy> = {
            let book = self.book();
            let was_policy = |it: &&AppliedPolicy| it.standing == Standing::Committed && it.how != How::Reload;
            book.kept.iter().filter(|it| it.generation < book.policy).filter(was_policy).cloned().collect()
        };
        for policy in earlier.into_iter().rev() {
            if self.store.text(policy.generation)?.as_deref() != Some(in_force) {
                return Ok(Some(policy));
            }
        }
        Ok(None)
    }

    /// The text of one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn text(&self, generation: u64) -> Result<Option<String>, StoreError> {
        self.store.text(generation)
    }

    /// The generation in force and the others, newest first.
    #[must_use]
    pub fn history(&self) -> (Option<AppliedPolicy>, Vec<AppliedPolicy>) {
        let mut book = self.book();
        let in_force = book.in_force;
        let current = book.find(in_force).cloned();
        (current, book.kept.iter().rev().filter(|policy| policy.generation != in_force).cloned().collect())
    }

    /// Writes down what is about to come into force.
    ///
    /// # Errors
    /// [`StoreError`]; then it must not come into force.
    pub fn intend(&self, policy: AppliedPolicy, text: &str) -> Result<(), StoreError> {
        self.store.intend(&policy, text)?;
        self.book().kept.push(policy);
        Ok(())
    }

    /// Takes note of which generation is in force.
    pub fn in_force(&self, generation: u64) {
        let mut book = self.book();
        (book.in_force, book.policy) = (generation, generation);
    }

    /// Takes note that a file of the policy in force was read again, which makes a generation of tables and none of policy:
    /// the store does not hear of it, and the one before is forgotten, so that they do not push out what can be gone back to.
    pub fn reread(&self, generation: u64, source: String) {
        let mut book = self.book();
        book.kept.retain(|policy| policy.how != How::Reload);
        let (applied_at, of) = (Timestamp::now(), Some(book.policy));
        let (how, standing) = (How::Reload, Standing::Committed);
        book.kept.push(AppliedPolicy { generation, applied_at, source, who: String::new(), how, of, standing });
        book.in_force = generation;
    }

    /// Writes down what became of a generation.
    ///
    /// # Errors
    /// [`StoreError`]; then the store and [`history`](Self::history) still say what they said.
    pub fn settle(&self, generation: u64, standing: Standing) -> Result<(), StoreError> {
        self.store.settle(generation, standing)?;
        if let Some(policy) = self.book().find(generation) {
            policy.standing = standing;
        }
        self.forget();
        Ok(())
    }

    /// As [`settle`](Self::settle), for what is so whether it can be written down or not: then the log says so.
    pub fn settle_anyway(&self, generation: u64, standing: Standing) {
        if let Err(why) = self.settle(generation, standing) {
            log::error!("what became of generation {generation} could not be written down: {why}");
            if let Some(policy) = self.book().find(generation) {
                policy.standing = standing;
            }
        }
    }

    /// Takes note of a generation that is in force whether it can be written down or not; if not, the log says so, and the
    /// appliance comes up with an earlier one when it is told to resume.
    pub fn record_anyway(&self, policy: AppliedPolicy, text: &str) {
        let generation = policy.generation;
        if let Err(why) = self.store.intend(&policy, text) {
            log::error!("generation {generation} is in force and could not be written down: {why}");
        }
        self.book().kept.push(policy);
        self.in_force(generation);
        self.forget();
    }

    /// Forgets what the store has forgotten; a store that cannot be read now is asked the next time.
    fn forget(&self) {
        let Ok(stored) = self.store.generations() else { return };
        let last = stored.last().map_or(0, |policy| policy.generation);
        let mut book = self.book();
        let in_force = book.in_force;
        book.kept.retain(|policy| {
            let number = policy.generation;
            number == in_force || number > last || stored.iter().any(|it| it.generation == number)
        });
    }
}
