//! The way to a collector: an ordinary socket of the kernel's, which never waits. What the kernel does not take at once is kept,
//! a message or two, and nothing more is asked for until it is gone. A connection that breaks is made anew, ever less often; UDP has
//! none, and what it says of nobody listening is taken for the same.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::policy::Collector;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Message;
use super::tally::{Reach, Tally};

/// From a failure to the next attempt, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a connection lasts before the next failure is a new one: who accepts and hangs up is asked ever less often, too.
const LASTED: Duration = Duration::from_secs(10);

/// How long a connection may take to come about, and how long data may stay unacknowledged, or not be taken by whoever acknowledges it:
/// then the kernel ends the connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// How long a collector may take nothing before that is told.
const STALLED: Duration = Duration::from_secs(10);

/// How long nobody may refuse datagrams before the collector is taken for one that is there.
const ACCEPTED: Duration = Duration::from_secs(3);

#[derive(Debug)]
enum State {
    /// No socket until then.
    Apart { again: Instant },
    /// A connection is being made.
    Connecting { socket: Socket, since: Instant },
    /// What is written goes out.
    Open(Socket),
}

/// The way to one collector.
#[derive(Debug)]
pub(super) struct Link {
    to: Collector,
    state: State,
    /// From the next failure to the attempt after it.
    pause: Duration,
    /// When what is open was opened.
    since: Instant,
    pending: VecDeque<Message>,
    /// Bytes of the first of them that are gone.
    written: usize,
    /// When something was taken last.
    moved: Instant,
    /// When a datagram was refused last.
    refused: Option<Instant>,
    /// A conversation has begun with somebody who knows nothing.
    begun: bool,
    tally: Arc<Tally>,
}

impl Link {
    /// A way that is opened at the first turn.
    pub(super) fn new(to: Collector, tally: Arc<Tally>, now: Instant) -> Self {
        tally.set_reach(Reach::Connecting, None);
        Self {
            to,
            state: State::Apart { again: now },
            pause: PAUSE,
            since: now,
            pending: VecDeque::new(),
            written: 0,
            moved: now,
            refused: None,
            begun: false,
            tally,
        }
    }

    /// Where it leads.
    pub(super) const fn to(&self) -> &Collector {
        &self.to
    }

    /// Does what can be done without waiting. True when a conversation has begun with somebody who knows nothing.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        match &self.state {
            State::Apart { again } if *again <= now => self.open(now),
            State::Apart { .. } => {}
            State::Connecting { socket, since } => match connected(socket) {
                Ok(true) => self.opened(now),
                Ok(false) if now.duration_since(*since) < CONNECTED_WITHIN => {}
                Ok(false) => self.fail(now, "it does not answer"),
                Err(error) => self.fail(now, &error.to_string()),
            },
            State::Open(_) if self.is_datagram() => self.flush(now),
            State::Open(socket) => match is_there(socket) {
                Ok(()) => {
                    if now.duration_since(self.since) >= LASTED {
                        self.pause = PAUSE;
                    }
                    self.flush(now);
                }
                Err(error) => self.fail(now, &error.to_string()),
            },
        }
        core::mem::take(&mut self.begun)
    }

    /// Whether a message would go out at once.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Open(_)) && self.pending.is_empty()
    }

    /// Waits until the kernel takes more of what is kept, or something is wrong with the connection. False, at once, when nothing
    /// is kept.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let State::Open(socket) = &self.state else { return false };
        if self.pending.is_empty() {
            return false;
        }
        let at_most = Timespec::try_from(at_most).ok();
        // Interrupted or not: the next turn finds out how it stands.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], at_most.as_ref());
        true
    }

    /// Sends a message, or keeps it until the kernel takes it. Without a connection it is lost, and counted.
    pub(super) fn send(&mut self, message: Message, now: Instant) {
        if !matches!(self.state, State::Open(_)) {
            return self.tally.count_unsent(message.entries);
        }
        if self.pending.is_empty() {
            self.moved = now;
        }
        self.pending.push_back(message);
        self.flush(now);
    }

    const fn is_datagram(&self) -> bool {
        matches!(self.to, Collector::Udp(_))
    }

    fn open(&mut self, now: Instant) {
        match begin(&self.to) {
            Ok((socket, true)) => {
                self.state = State::Open(socket);
                self.opened(now);
            }
            Ok((socket, false)) => self.state = State::Connecting { socket, since: now },
            Err(error) => self.fail(now, &error.to_string()),
        }
    }

    fn opened(&mut self, now: Instant) {
        self.state = match core::mem::replace(&mut self.state, State::Apart { again: now }) {
            State::Connecting { socket, .. } | State::Open(socket) => State::Open(socket),
            State::Apart { again } => State::Apart { again },
        };
        self.since = now;
        self.begun = true;
        self.tally.count_connection();
        self.tally.set_reach(Reach::Up, None);
    }

    /// Gives up the socket, with what was under way, until a while later.
    fn fail(&mut self, now: Instant, why: &str) {
        self.tally.count_unsent(self.pending.drain(..).map(|message| message.entries).sum());
        self.written = 0;
        self.state = State::Apart { again: now + self.pause };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.tally.set_reach(Reach::Down, Some(why.to_owned()));
    }

    /// Writes what the kernel takes.
    fn flush(&mut self, now: Instant) {
        let mut again = self.is_datagram();
        while let (State::Open(socket), Some(first)) = (&self.state, self.pending.front()) {
            let rest = first.bytes.get(self.written..).unwrap_or_default();
            match socket.send(rest) {
                Ok(taken) => {
                    self.moved = now;
                    self.written += taken;
                    if self.written >= first.bytes.len() || self.is_datagram() {
                        self.tally.count_sent(first.entries, first.bytes.len());
                        self.written = 0;
                        self.pending.pop_front();
                    }
                    self.accepted(now);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if now.duration_since(self.moved) > STALLED && self.tally.reach() == Reach::Up {
                        self.tally.set_reach(Reach::Down, Some("it takes nothing any more".to_owned()));
                    }
                    return;
                }
                Err(error) if self.is_datagram() => {
                    self.refused = Some(now);
                    self.tally.set_reach(Reach::Down, Some(error.to_string()));
                    // The error may be that of an earlier datagram: this one is tried once more.
                    if !core::mem::take(&mut again)
                        && let Some(lost) = self.pending.pop_front()
                    {
                        self.tally.count_unsent(lost.entries);
                        again = true;
                    }
                }
                Err(error) => return self.fail(now, &error.to_string()),
            }
        }
    }

    /// Something was taken. Of datagrams that says little, until nobody has refused one for a while.
    fn accepted(&mut self, now: Instant) {
        if self.tally.reach() != Reach::Down {
            return;
        }
        match self.refused {
            Some(refused) if now.duration_since(refused) < ACCEPTED => return,
            Some(_) => {
                self.refused = None;
                self.begun = true;
            }
            None => {}
        }
        self.tally.set_reach(Reach::Up, None);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tally.count_unsent(self.pending.drain(..).map(|message| message.entries).sum());
        self.tally.set_reach(Reach::Off, None);
    }
}

/// A socket to this collector, and whether it is connected already.
fn begin(to: &Collector) -> io::Result<(Socket, bool)> {
    let domain = |address: &SocketAddr| if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let (socket, address) = match to {
        Collector::Udp(address) => (Socket::new(domain(address), Type::DGRAM, None)?, SockAddr::from(*address)),
        Collector::Tcp(address) => {
            let socket = Socket::new(domain(address), Type::STREAM, None)?;
            socket.set_tcp_user_timeout(Some(HEARD_WITHIN))?;
            (socket, SockAddr::from(*address))
        }
        Collector::Unix(path) => (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?),
    };
    socket.set_nonblocking(true)?;
    match socket.connect(&address) {
        Ok(()) => Ok((socket, true)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

/// Whether a connection that was begun has come about.
fn connected(socket: &Socket) -> io::Result<bool> {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    if poll(&mut asked, Some(&Timespec::default()))? == 0 {
        return Ok(false);
    }
    socket.take_error()?.map_or(Ok(true), Err)
}

/// Whether the other end of a connection is still there. What it says is of no interest.
fn is_there(mut socket: &Socket) -> io::Result<()> {
    let mut said = [0; 512];
    match socket.read(&mut said) {
        Ok(0) => Err(io::Error::new(ErrorKind::ConnectionAborted, "it has closed the connection")),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}
