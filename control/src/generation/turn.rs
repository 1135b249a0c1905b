//! Whose turn it is to change the appliance: one change at a time, in the order in which they were asked for. A mutex would
//! let a late caller overtake one that waits, and of a storm of changes not the last one might win.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The queue of those who want to change something.
#[derive(Debug, Default)]
pub struct Turns {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The place that is given out next.
    next: u64,
    /// The place whose turn it is.
    serving: u64,
    /// Places behind it that were given up.
    left: BTreeSet<u64>,
}

/// A place in the queue. Dropped, it is given up, or the turn is over.
#[derive(Debug)]
pub struct Place<'q> {
    turns: &'q Turns,
    number: u64,
}

impl Turns {
    /// The last place of the queue.
    pub fn draw(&self) -> Place<'_> {
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        Place { turns: self, number }
    }

    /// Draws a place and waits for its turn.
    pub fn wait(&self) -> Place<'_> {
        let place = self.draw();
        place.wait();
        place
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics between two steps that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until all who came before are through.
    pub fn wait(&self) {
        let mut queue = self.turns.queue();
        while queue.serving != self.number {
            queue = self.turns.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.turns.queue();
        queue.left.insert(self.number);
        while queue.left.first() == Some(&queue.serving) {
            queue.left.pop_first();
            queue.serving += 1;
        }
        drop(queue);
        self.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// RLD-06: the order of what is done is the order of what was asked.
    #[test]
    fn turns_come_in_the_order_the_places_were_drawn() {
        let (turns, done) = (Turns::default(), Mutex::new(Vec::new()));
        let places: Vec<_> = (0..100).map(|number| (number, turns.draw())).collect();
        std::thread::scope(|scope| {
            // The last begin to wait first.
            for (number, place) in places.into_iter().rev() {
                let done = &done;
                scope.spawn(move || {
                    place.wait();
                    done.lock().unwrap().push(number);
                });
            }
        });
        assert_eq!(*done.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_gives_up_or_panics_holds_up_nobody() {
        let turns = Turns::default();
        let (first, second, third) = (turns.draw(), turns.draw(), turns.draw());
        drop(second);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            first.wait();
            let _inside = first;
            panic!("as the test asked");
        }));
        assert!(panicked.is_err());
        third.wait();
        drop(third);
        drop(turns.wait());
    }
}
