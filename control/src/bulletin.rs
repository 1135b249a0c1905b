//! What happens to the appliance, told as it happens to whoever listens: a bounded number of events each, of which those that
//! do not keep up lose the oldest and are told how many. Nobody who tells ever waits.
//!
//! Told by management threads; heard by the API's stream of events.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::status::{HealthStatus, How, Link, RedirectionStatus};

/// Events a listener may be behind.
const BEHIND_MAX: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// Another generation is in force.
    Generation {
        /// Its number.
        generation: u64,
        /// What brought it into force.
        how: How,
        /// Who did it.
        who: String,
        /// The file it came from.
        source: String,
    },
    /// A backend was found to be in another state.
    Backend {
        /// Its service.
        service: String,
        /// Its name.
        backend: String,
        /// The state.
        health: HealthStatus,
    },
    /// A service that others direct here (`external`) is directed here, or is not, as the hook of `[redirection]` says.
    Redirection {
        /// The service.
        service: String,
        /// How it stands; null when it is not directed here any more.
        redirection: Option<RedirectionStatus>,
    },
    /// A port has carrier, or has lost it.
    Port {
        /// The port.
        port: String,
        /// Whether it has.
        link: Link,
    },
    /// Something is used nearly up, or is not any more.
    Threshold {
        /// What: `sessions`, `buffers`.
        what: String,
        /// Whether it is nearly used up.
        exceeded: bool,
        /// How much of it is in use.
        percent: u64,
    },
    /// A worker does not turn any more, or turns again.
    Worker {
        /// Its core.
        core: u64,
        /// Whether it turns.
        alive: bool,
    },
    /// The collector of the session log cannot be reached, or can be again.
    Collector {
        /// Where it is: `udp 192.0.2.9:4739`.
        collector: String,
        /// Whether it can.
        reachable: bool,
    },
    /// This listener was too slow: it has missed events.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

impl Told {
    /// Now.
    #[must_use]
    pub fn now(happening: Happening) -> Self {
        Self { at: Timestamp::now(), happening }
    }
}

impl Happening {
    /// The word of the kind of event.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Generation { .. } => "generation",
            Self::Backend { .. } => "backend",
            Self::Redirection { .. } => "redirection",
            Self::Port { .. } => "port",
            Self::Threshold { .. } => "threshold",
            Self::Worker { .. } => "worker",
            Self::Collector { .. } => "collector",
            Self::Lost { .. } => "lost",
        }
    }
}

/// Where events are told, until it is closed.
#[derive(Debug)]
pub struct Bulletin(Mutex<Option<broadcast::Sender<Told>>>);

/// Where they are heard.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Told>);

impl Default for Bulletin {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(BEHIND_MAX).0)))
    }
}

impl Bulletin {
    /// Tells everybody who listens now.
    pub fn tell(&self, happening: Happening) {
        if let Some(sender) = &*self.sender() {
            // Nobody listens: nobody misses it.
            let _ = sender.send(Told::now(happening));
        }
    }

    /// Listens from now on; to nothing when it is closed.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.sender().as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe))
    }

    /// How many listen now.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.sender().as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Nothing is told any more: whoever listens hears that.
    pub fn close(&self) {
        *self.sender() = None;
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Told>>> {
        // Nothing in here can panic between two steps that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// The next event; how many were missed, once before it. `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<Told> {
        match self.0.recv().await {
            Ok(told) => Some(told),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Told::now(Happening::Lost { count })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(percent: u64) -> Happening {
        Happening::Threshold { what: "sessions".into(), exceeded: true, percent }
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_much_it_missed_and_holds_up_nobody() {
        let bulletin = Bulletin::default();
        bulletin.tell(threshold(0));
        let (mut slow, mut quick) = (bulletin.listen(), bulletin.listen());
        for number in 0..BEHIND_MAX as u64 + 10 {
            bulletin.tell(threshold(number));
            assert_eq!(quick.next().await.unwrap().happening, threshold(number));
        }
        assert_eq!(slow.next().await.unwrap().happening, Happening::Lost { count: 10 });
        assert_eq!(slow.next().await.unwrap().happening, threshold(10));
        bulletin.close();
        assert!(bulletin.listen().next().await.is_none());
        while slow.next().await.is_some() {}
    }

    #[test]
    fn an_event_says_its_kind_in_one_word() {
        let told = serde_json::to_value(Told::now(Happening::Lost { count: 3 })).unwrap();
        assert_eq!((&told["event"], &told["count"]), (&"lost".into(), &3.into()));
        assert_eq!(Happening::Lost { count: 3 }.kind(), "lost");
    }
}
