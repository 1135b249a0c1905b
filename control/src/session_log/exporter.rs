//! The thread that takes records out of the workers' rings and sends them to the collector of the policy in force. It looks some
//! twenty times a second, and goes on without a pause while there is more; where the collector takes nothing it takes nothing
//! either, and waits for the socket.
//!
//! Without rings in force nobody is told anything. Rings that a policy replaced are emptied until no worker has them any more, and
//! before those that followed them. What is left at the end of the appliance has a moment to go out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Policy;
use config::policy::{Collector, SessionLog as Settings, SessionLogFormat};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use units::{Nanos, PortId};
use worker::{LogRecord, SessionLog};

use super::Message;
use super::collector::Link;
use super::entry::{Calendar, entries};
use super::ipfix::{Messages, Statistics};
use super::json::{Lines, Names};
use super::tally::{Reach, Tally};
use crate::bulletin::Happening;
use crate::running::Running;

/// How long it sleeps when there is nothing: what waits is told that much later, and rings hold as much.
const NAP: Duration = Duration::from_millis(50);

/// How long what is left may take to go out when the appliance ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sets of rings that are kept for what waits in them: those in force, and one before. Each takes as much memory.
const LOGS_MAX: usize = 2;

/// Records taken before others have their turn: the clock, the socket, a new policy.
const BATCH: usize = 4_096;

/// What is to be told, and by whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The policy, with a `[session_log]`.
    pub policy: Arc<Policy>,
    /// The rings of its tables.
    pub log: Arc<SessionLog>,
    /// Entries of records that workers had no room for.
    pub lost: u64,
}

/// Sends records until `stop` is closed.
pub fn write(appliance: &Arc<Running>, stop: &Receiver<()>) {
    let mut exporter = Exporter::new(appliance.session_tally());
    loop {
        let before = exporter.tally.reach();
        let busy = exporter.turn(appliance.session_log_wanted(), appliance.now(), Instant::now());
        let after = exporter.tally.reach();
        if before != after {
            tell(appliance, before, after, exporter.collector(), exporter.tally.trouble());
        }
        let pause = if busy || exporter.wait(NAP) { Duration::ZERO } else { NAP };
        match stop.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let left = exporter.end(appliance.session_log_wanted().as_ref(), appliance.now(), LAST_WORDS);
                if left > 0 {
                    log::warn!("session log: {left} entries could not be sent any more");
                }
                return;
            }
        }
    }
}

fn tell(appliance: &Running, before: Reach, after: Reach, to: Option<&Collector>, trouble: Option<String>) {
    let Some(to) = to.map(place) else { return };
    match (before, after) {
        (Reach::Down, Reach::Up) => {
            log::info!("session log: the collector {to} takes records again");
            appliance.bulletin().tell(Happening::Collector { collector: to, reachable: true });
        }
        (_, Reach::Down) => {
            log::warn!("session log: the collector {to} cannot be reached: {}", trouble.unwrap_or_default());
            appliance.bulletin().tell(Happening::Collector { collector: to, reachable: false });
        }
        (_, Reach::Up) => log::info!("session log: records go to the collector {to}"),
        (_, Reach::Off | Reach::Connecting) => {}
    }
}

/// Where a collector is, in words.
pub(crate) fn place(collector: &Collector) -> String {
    match collector {
        Collector::Udp(address) => format!("udp {address}"),
        Collector::Tcp(address) => format!("tcp {address}"),
        Collector::Unix(path) => path.display().to_string(),
    }
}

#[derive(Debug)]
enum Encoding {
    Ipfix(Messages),
    Json(Lines),
}

impl Encoding {
    fn of(settings: &Settings) -> Self {
        match settings.format {
            SessionLogFormat::Ipfix => Self::Ipfix(Messages::new(settings.domain, usize::from(settings.message_size))),
            SessionLogFormat::Json => Self::Json(Lines::default()),
        }
    }
}

/// What goes to one collector.
#[derive(Debug)]
struct Route {
    settings: Settings,
    link: Link,
    encoding: Encoding,
    /// When the collector was told of templates and statistics last.
    described: Option<Instant>,
}

/// The exporter's state.
#[derive(Debug)]
pub struct Exporter {
    tally: Arc<Tally>,
    route: Option<Route>,
    /// The rings in force, and behind them those that workers may still have.
    logs: Vec<Arc<SessionLog>>,
    calendar: Option<Calendar>,
}

impl Exporter {
    /// An exporter with nobody to send to, which counts in `tally`.
    #[must_use]
    pub const fn new(tally: Arc<Tally>) -> Self {
        Self { tally, route: None, logs: Vec::new(), calendar: None }
    }

    fn collector(&self) -> Option<&Collector> {
        self.route.as_ref().map(|route| route.link.to())
    }

    /// Takes some records and sends them, as `wanted` now; `since_start` is the workers' time. True when there may be more, and it
    /// would go out at once.
    pub fn turn(&mut self, wanted: Option<Wanted>, since_start: Nanos, now: Instant) -> bool {
        let today = Calendar::at(since_start);
        let calendar = self.calendar.map_or(today, |before| before.followed_by(today));
        self.calendar = Some(calendar);
        self.follow(wanted.as_ref(), now);
        let (Some(route), Some(wanted)) = (&mut self.route, wanted) else {
            self.discard();
            return false;
        };
        let statistics = || {
            let (sent, messages, _) = self.tally.sent();
            Statistics { at: calendar.of(since_start), messages, sent, not_sent: wanted.lost + self.tally.unsent() }
        };
        route.turn(&wanted.policy, statistics, now);
        let mut taken = 0;
        let workers = self.logs.iter().map(|log| log.workers()).max().unwrap_or(0);
        let cut_short = 'taking: loop {
            let before = taken;
            for worker in 0..workers {
                if taken >= BATCH || !route.link.is_ready() {
                    break 'taking true;
                }
                // A worker writes to one ring at a time: what waits in an earlier one happened before.
                let next = self.logs.iter().find_map(|log| Some((log.next_of(worker)?, log)));
                let Some((record, log)) = next else { continue };
                taken += 1;
                route.enter(&record, log, calendar, &wanted.policy, now);
            }
            if taken == before {
                break false;
            }
        };
        route.finish(calendar.of(since_start), now);
        let busy = cut_short && route.link.is_ready();
        self.forget();
        busy
    }

    /// Waits until the collector takes more. False, at once, when it took all there was, or is not there.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        self.route.as_ref().is_some_and(|route| route.link.wait(at_most))
    }

    /// Sends what is left, for so long. Returns how many entries could not be sent any more; they are counted.
    pub(super) fn end(&mut self, wanted: Option<&Wanted>, since_start: Nanos, within: Duration) -> u64 {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            let busy = self.turn(wanted.cloned(), since_start, now);
            let rest = within.saturating_sub(now.duration_since(begin));
            if rest.is_zero() || !(busy || self.wait(rest)) {
                break;
            }
        }
        let before = self.tally.unsent();
        self.route = None;
        self.discard();
        self.tally.unsent() - before
    }

    /// Takes up another policy.
    fn follow(&mut self, wanted: Option<&Wanted>, now: Instant) {
        let settings = wanted.and_then(|wanted| wanted.policy.session_log.as_ref());
        if self.route.as_ref().map(|route| &route.settings) != settings {
            let same_way = |route: &Route, settings: &Settings| {
                *route.link.to() == settings.collector
                    && route.settings.format == settings.format
                    && (route.settings.domain, route.settings.message_size) == (settings.domain, settings.message_size)
            };
            match (&mut self.route, settings) {
                (Some(route), Some(settings)) if same_way(route, settings) => route.settings = settings.clone(),
                (_, settings) => {
                    // The old one first: its end and the new one's beginning are told in the same place.
                    self.route = None;
                    self.route = settings.map(|settings| Route {
                        settings: settings.clone(),
                        link: Link::new(settings.collector.clone(), Arc::clone(&self.tally), now),
                        encoding: Encoding::of(settings),
                        described: None,
                    });
                }
            }
        }
        if let Some(wanted) = wanted
            && !self.logs.iter().any(|log| Arc::ptr_eq(log, &wanted.log))
        {
            self.logs.push(Arc::clone(&wanted.log));
        }
    }

    /// Lets go of rings that nobody writes to any more. While no collector takes what waits in them, each new set puts the oldest
    /// out.
    fn forget(&mut self) {
        self.logs.retain(|log| Arc::strong_count(log) > 1 || log.waiting() > 0);
        while self.logs.len() > LOGS_MAX
            && let Some(oldest) = self.logs.iter().position(|log| Arc::strong_count(log) == 1)
        {
            let log = self.logs.remove(oldest);
            self.give_up(&log);
        }
    }

    /// Nobody is to be told: what workers still told is lost.
    fn discard(&mut self) {
        for log in &self.logs {
            self.give_up(log);
        }
        self.forget();
    }

    /// What waits in these rings cannot be sent any more.
    fn give_up(&self, log: &SessionLog) {
        for record in (0..log.workers()).flat_map(|worker| core::iter::from_fn(move || log.next_of(worker))) {
            let calendar = self.calendar.unwrap_or_else(|| Calendar::at(Nanos::ZERO));
            self.tally.count_unsent(entries(&record, log.events(), calendar).count() as u64);
        }
    }
}

impl Route {
    /// Sees to the socket, and tells the collector what it needs to know.
    fn turn(&mut self, policy: &Policy, statistics: impl Fn() -> Statistics, now: Instant) {
        let Self { settings, link, encoding, described } = self;
        let begun = link.turn(now);
        let interval = Duration::from_nanos(settings.template_interval.get());
        let due = described.is_none_or(|at| now.duration_since(at) >= interval);
        let Encoding::Ipfix(messages) = encoding else { return };
        if !link.is_ready() || !(begun || due) {
            return;
        }
        *described = Some(now);
        let datagrams = matches!(link.to(), Collector::Udp(_));
        // Datagrams are one conversation, whoever has heard them.
        if begun && !datagrams {
            messages.begin();
        }
        let statistics = statistics();
        let mut send = |message: Message| link.send(message, now);
        if begun || datagrams {
            messages.describe(statistics.at, &mut send);
        }
        let ports = (0..).map(PortId::new).zip(policy.ports.iter().map(|port| port.name.as_str()));
        messages.introduce(ports, &statistics, &mut send);
        messages.finish(statistics.at, &mut send);
    }

    fn enter(&mut self, record: &LogRecord, log: &SessionLog, calendar: Calendar, policy: &Policy, now: Instant) {
        let Self { link, encoding, .. } = self;
        let mut send = |message: Message| link.send(message, now);
        for entry in entries(record, log.events(), calendar) {
            match encoding {
                Encoding::Ipfix(messages) => messages.enter(&entry, &mut send),
                Encoding::Json(lines) => {
                    let names = Names { appliance: &policy.appliance.name, ports: &policy.ports };
                    lines.enter(&entry, names, &mut send);
                }
            }
        }
    }

    /// Sends what was not enough for a message.
    fn finish(&mut self, at: u64, now: Instant) {
        let Self { link, encoding, .. } = self;
        let mut send = |message: Message| link.send(message, now);
        match encoding {
            Encoding::Ipfix(messages) => messages.finish(at, &mut send),
            Encoding::Json(lines) => lines.finish(&mut send),
        }
    }
}
