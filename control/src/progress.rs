//! How far a change of policy has come: written by the thread that leads it, read by whoever waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stage::firewall::{Classifier, Rule};
use stage::forward::{Route, RouteTable};

use crate::compile::TableMaker;
use crate::status::ProgressStatus;

/// What is being done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The text is read and validated.
    Checking,
    /// The firewall's classifier is built.
    Rules,
    /// The balancer's tables are.
    Services,
    /// The generation is written down.
    Storing,
    /// Workers move on to the new tables.
    Publishing,
    /// Others are told to direct packets here.
    Redirecting,
}

impl Step {
    const ALL: [Self; 6] =
        [Self::Checking, Self::Rules, Self::Services, Self::Storing, Self::Publishing, Self::Redirecting];

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checking => "reading the policy",
            Self::Rules => "compiling rules",
            Self::Services => "compiling services",
            Self::Storing => "writing it down",
            Self::Publishing => "putting it in force",
            Self::Redirecting => "having packets directed here",
        }
    }
}

/// The changes under way. Of several the one that moved last is told.
#[derive(Debug, Default)]
pub struct Progress {
    changes: Mutex<Changes>,
}

/// Those under way, the one that moved last behind the others.
#[derive(Debug, Default)]
struct Changes {
    under_way: Vec<(u64, Step, Instant)>,
    begun: u64,
}

impl Progress {
    /// A change begins; it has ended when the answer is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Under {
        let mut changes = self.lock();
        changes.begun += 1;
        let number = changes.begun;
        changes.under_way.push((number, Step::Checking, Instant::now()));
        Under { progress: Arc::clone(self), number }
    }

    /// How far it is; `None` when nothing is under way.
    #[must_use]
    pub fn status(&self) -> Option<ProgressStatus> {
        let (_, step, since) = *self.lock().under_way.last()?;
        let done = Step::ALL.iter().position(|&each| each == step).unwrap_or(0);
        Some(ProgressStatus {
            step: step.name().to_owned(),
            done: done as u64,
            of: Step::ALL.len() as u64,
            elapsed_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way.
#[derive(Debug)]
pub struct Under {
    progress: Arc<Progress>,
    number: u64,
}

impl Under {
    /// It has come to this step.
    pub fn at(&self, step: Step) {
        let mut changes = self.progress.lock();
        if let Some(at) = changes.under_way.iter().position(|(number, ..)| *number == self.number) {
            let (number, _, since) = changes.under_way.remove(at);
            changes.under_way.push((number, step, since));
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.progress.lock().under_way.retain(|(number, ..)| *number != self.number);
    }
}

/// Makes tables as another does, and tells how far it is.
#[derive(Debug)]
pub struct Told<'a> {
    /// Who makes them.
    pub tables: &'a dyn TableMaker,
    /// Of which change it is told.
    pub under: &'a Under,
}

impl TableMaker for Told<'_> {
    fn classifier(&self, rules: &[Rule]) -> Result<Box<dyn Classifier>, String> {
        self.under.at(Step::Rules);
        let made = self.tables.classifier(rules);
        self.under.at(Step::Services);
        made
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        self.tables.routes(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::PlainTables;

    #[test]
    fn a_change_is_told_from_its_beginning_to_its_end() {
        let progress = Arc::new(Progress::default());
        assert_eq!(progress.status(), None);
        let under = progress.begin();
        let step = || progress.status().map(|status| (status.step, status.done));
        assert_eq!(step(), Some(("reading the policy".to_owned(), 0)));
        let told = Told { tables: &PlainTables, under: &under };
        told.classifier(&[]).unwrap();
        assert_eq!(step(), Some(("compiling services".to_owned(), 2)));
        let next = progress.begin();
        assert_eq!(step(), Some(("reading the policy".to_owned(), 0)));
        under.at(Step::Publishing);
        assert_eq!(step(), Some(("putting it in force".to_owned(), 4)), "of two the one that moved last");
        drop(under);
        assert_eq!(step(), Some(("reading the policy".to_owned(), 0)), "the other is under way yet");
        drop(next);
        assert_eq!(progress.status(), None);
    }
}
