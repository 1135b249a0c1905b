//! What the running appliance says of itself: `millrace show ... --json`, read by field name.

use serde_json::Value;

use super::{Appliance, eventually};

/// One backend of `show services`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Whether it gets new sessions.
    pub health: String,
    /// Sessions now.
    pub active: u64,
    /// Sessions since it was added.
    pub total: u64,
}

/// Where the packets went.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// From ports.
    pub received: u64,
    /// From kernel interfaces.
    pub from_kernel: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Answered or used up.
    pub consumed: u64,
    /// Handed to the kernel.
    pub punted: u64,
    /// Dropped.
    pub dropped: u64,
    /// Waiting for a next hop to answer.
    pub held: u64,
    /// The sum of `show drops`.
    pub drops_by_reason: u64,
}

impl Account {
    /// Whether every packet is in exactly one column.
    #[must_use]
    pub fn closes(&self) -> bool {
        let ended = self.forwarded + self.consumed + self.punted + self.dropped;
        self.held == 0 && self.received + self.from_kernel == ended && self.dropped == self.drops_by_reason
    }
}

impl Appliance<'_> {
    /// What `show <what> --json` says.
    #[must_use]
    pub fn show(&self, what: &str) -> Value {
        let finished = self.ask(&format!("show {what} --json"));
        assert!(finished.success, "show {what}: {}", finished.err);
        serde_json::from_str(&finished.out).expect("--json prints JSON")
    }

    /// Every backend of every service.
    #[must_use]
    pub fn backends(&self) -> Vec<Backend> {
        let services = self.show("services");
        let listed = elements(&services).filter_map(|service| service.get("backends")).flat_map(elements);
        let word = |backend: &Value, field: &str| {
            backend.get(field).and_then(Value::as_str).expect("show services says so of a backend").to_owned()
        };
        let read = listed.map(|backend| Backend {
            name: word(backend, "name"),
            health: word(backend, "health"),
            active: number(backend, "active"),
            total: number(backend, "total"),
        });
        read.collect()
    }

    /// One backend, by its name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Backend {
        self.backends().into_iter().find(|backend| backend.name == name).expect("the backend is configured")
    }

    /// The health of one backend, as `show services` puts it.
    #[must_use]
    pub fn health(&self, backend: &str) -> String {
        self.backend(backend).health
    }

    /// Waits until that is the health of this backend.
    #[track_caller]
    pub fn wait_for(&self, backend: &str, health: &str) {
        eventually(15, &format!("{backend} is {health}"), || self.health(backend) == health);
    }

    /// Packets dropped for `reason` so far.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        number(&self.show("drops"), reason)
    }

    /// Sessions there are, of those that match `terms` (one word: no spaces).
    #[must_use]
    pub fn sessions(&self, terms: &str) -> usize {
        let wanted = if terms.is_empty() { String::new() } else { format!(" --match {terms}") };
        elements(&self.show(&format!("sessions --limit 200000{wanted}"))).count()
    }

    /// A number of `show memory`.
    #[must_use]
    pub fn memory(&self, field: &str) -> u64 {
        number(&self.show("memory"), field)
    }

    /// A number of each worker, in `show workers`.
    #[must_use]
    pub fn of_each_worker(&self, field: &str) -> Vec<u64> {
        elements(&self.show("workers")).map(|worker| number(worker, field)).collect()
    }

    /// Sessions and packets that the firewall rule with this name decided.
    #[must_use]
    pub fn rule_hits(&self, name: &str) -> u64 {
        let firewall = self.show("firewall");
        let mut rules = firewall.get("rules").into_iter().flat_map(elements);
        let rule = rules.find(|rule| rule.get("name").and_then(Value::as_str) == Some(name));
        number(rule.expect("the rule is configured"), "hits")
    }

    /// The account of all workers together.
    #[must_use]
    pub fn account(&self) -> Account {
        let drops = self.show("drops").as_object().map_or(0, |drops| drops.values().filter_map(Value::as_u64).sum());
        let workers = self.show("workers");
        let sum = |field: &str| -> u64 { elements(&workers).map(|worker| number(worker, field)).sum() };
        Account {
            received: sum("rx_packets"),
            from_kernel: sum("from_kernel"),
            forwarded: sum("forwarded"),
            consumed: sum("consumed"),
            punted: sum("punted"),
            dropped: sum("dropped"),
            held: sum("held"),
            drops_by_reason: drops,
        }
    }
}

fn elements(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

fn number(of: &Value, field: &str) -> u64 {
    of.get(field).and_then(Value::as_u64).expect("the field is there and is a count")
}
