//! Somebody who operates the appliance while it is measured: applies policies in turn, reads everything there is to read, and
//! scrapes the metrics.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::status::Applied;
use serde::de::IgnoredAny;

use super::http::Connection;
use crate::Outcome;

/// Every document there is; the metrics are read besides.
const DOCUMENTS: [&str; 14] = [
    "ports",
    "workers",
    "sessions",
    "services",
    "firewall",
    "neighbors",
    "routes",
    "nat",
    "drops",
    "top",
    "memory",
    "policy",
    "staged",
    "progress",
];
/// From one reading of all of them to the next.
const EVERY: Duration = Duration::from_millis(100);

/// The operator of one appliance.
#[derive(Clone, Debug)]
pub struct Operator {
    pub(super) socket: PathBuf,
}

/// What an operator did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Policies that came into force.
    pub policies: u32,
    /// Documents that were read, the metrics among them.
    pub documents: u32,
}

impl Operator {
    /// Applies these policies in turn, one after the other, and reads every document and the metrics ten times a second, until told that it
    /// is `enough`.
    ///
    /// # Errors
    /// When a policy or a question is refused.
    pub fn work(&self, policies: &[String], enough: &AtomicBool) -> Outcome<Worked> {
        thread::scope(|scope| {
            let reading = scope.spawn(|| self.read(enough).map_err(|why| why.to_string()));
            let applied = self.apply(policies, enough);
            // A fault of the one ends the other as well.
            enough.store(true, Ordering::Relaxed);
            let documents = reading.join().map_err(|_| "the thread that reads ended by a fault")??;
            Ok(Worked { policies: applied?, documents })
        })
    }

    fn apply(&self, policies: &[String], enough: &AtomicBool) -> Outcome<u32> {
        let mut connection = Connection::open(&self.socket)?;
        let mut applied = 0;
        for policy in policies.iter().cycle() {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            let done: Applied = connection.post("apply?file=bench", policy)?;
            applied += u32::from(!done.unchanged);
        }
        Ok(applied)
    }

    fn read(&self, enough: &AtomicBool) -> Outcome<u32> {
        let mut connection = Connection::open(&self.socket)?;
        let mut read = 0;
        while !enough.load(Ordering::Relaxed) {
            let begun = Instant::now();
            for document in DOCUMENTS {
                let _: IgnoredAny = connection.get(document)?;
                read += 1;
            }
            connection.metrics()?;
            read += 1;
            thread::sleep(EVERY.saturating_sub(begun.elapsed()));
        }
        Ok(read)
    }
}
