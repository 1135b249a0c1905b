//! New clients of a service while something else goes on: a server in one namespace that says a word to whoever comes, and a
//! client in another that comes again and again, each time by a connection of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Outcome;

/// What the server says.
const WORD: &[u8] = b"welcome\n";
/// How long a visit may take: a SYN that is lost twice comes again after one and after three seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the server waits before it looks whether it is still wanted.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Moves this thread into a namespace, for good.
fn enter(namespace: &str) -> Outcome<()> {
    let place = File::open(Path::new("/run/netns").join(namespace))?;
    Ok(move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// A server that is gone with its owner.
#[derive(Debug)]
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in this namespace.
    pub(super) fn start(namespace: &str, address: SocketAddr) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, listens) = mpsc::channel();
        let (namespace, stopped) = (namespace.to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let listener = enter(&namespace).and_then(|()| {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            match listener {
                Ok(listener) => {
                    drop(told.send(Ok(())));
                    welcome(&listener, &stopped);
                }
                Err(why) => drop(told.send(Err(why.to_string()))),
            }
        });
        listens.recv()??;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn welcome(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        if poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&TURN)).is_err() {
            return;
        }
        while let Ok((mut visitor, _)) = listener.accept() {
            drop(visitor.write_all(WORD));
        }
    }
}

/// What became of the visits.
#[derive(Clone, Debug, Default)]
pub(super) struct Visits {
    /// How many there were.
    pub(super) paid: usize,
    /// Of those that were answered, how long each took, milliseconds.
    pub(super) took: Vec<f64>,
}

/// Visits the server at `address` from this namespace, one visit after the other, `pause` apart, until `until`.
pub(super) fn visit(namespace: &str, address: SocketAddr, pause: Duration, until: Instant) -> Outcome<Visits> {
    let namespace = namespace.to_owned();
    let visitor = thread::spawn(move || {
        enter(&namespace).map_err(|why| why.to_string())?;
        let mut visits = Visits::default();
        while Instant::now() < until {
            let begun = Instant::now();
            visits.paid += 1;
            if is_welcome(address).unwrap_or(false) {
                visits.took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            thread::sleep(pause);
        }
        Ok::<_, String>(visits)
    });
    Ok(visitor.join().map_err(|_| "the thread that visits ended by a fault")??)
}

fn is_welcome(address: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard)?;
    Ok(heard == WORD)
}
