//! Who is on the control socket: so many at a time. When one more comes, whoever has said nothing for longest gives way, those
//! first who never said anything; so callers that come and stay silent, or take their time over a question, keep nobody out and
//! use up no file descriptors that health probes need (FLD-13).
//!
//! Runs on the management threads; one short lock, never held over a wait.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// Callers at a time: a quarter of the file descriptors a process usually may have.
const CALLERS_MAX: usize = 256;

/// How long it waits when no caller can be taken in (no file descriptor left).
const PAUSE: Duration = Duration::from_millis(100);

/// One caller that is there.
#[derive(Debug)]
struct Present {
    number: u64,
    /// When it last said something, in words of all; 0 as long as it has not.
    spoke: u64,
    /// Dropped, its connection ends.
    _stay: oneshot::Sender<()>,
}

/// Everybody who is there, as all connections know it.
pub(super) type Shared = Arc<Mutex<Presence>>;

/// Everybody who is there, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Presence {
    callers: Vec<Present>,
    /// Callers so far, and words so far.
    came: u64,
    words: u64,
}

impl Presence {
    /// Takes one more in, `who` it is by its stream.
    pub(super) fn caller<S, W>(shared: &Shared, stream: S, who: W, known: bool) -> Caller<S, W> {
        let (stay, gone) = oneshot::channel();
        let number = with(shared, |presence| {
            let number = presence.enter(stay);
            // Who has shown a certificate has said something.
            if known {
                presence.hear(number);
            }
            number
        });
        Caller { stream, who, gone, number, presence: Arc::clone(shared) }
    }

    /// Takes one more in; whoever has been silent for longest goes when there is no room.
    fn enter(&mut self, stay: oneshot::Sender<()>) -> u64 {
        if self.callers.len() >= CALLERS_MAX {
            let silent = self.callers.iter().enumerate().min_by_key(|(_, caller)| caller.spoke).map(|(at, _)| at);
            silent.map(|at| self.callers.remove(at));
        }
        self.came += 1;
        self.callers.push(Present { number: self.came, spoke: 0, _stay: stay });
        self.came
    }

    fn hear(&mut self, number: u64) {
        self.words += 1;
        if let Some(caller) = self.callers.iter_mut().find(|caller| caller.number == number) {
            caller.spoke = self.words;
        }
    }

    fn leave(&mut self, number: u64) {
        self.callers.retain(|caller| caller.number != number);
    }
}

/// The control socket, with a bounded number of callers.
#[derive(Debug)]
pub(super) struct Callers {
    listener: UnixListener,
    presence: Shared,
}

impl Callers {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, presence: Arc::default() }
    }
}

fn with<T>(presence: &Mutex<Presence>, change: impl FnOnce(&mut Presence) -> T) -> T {
    change(&mut presence.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Listener for Callers {
    type Io = Caller<UnixStream, Option<u32>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // As the kernel saw it when it connected.
                    let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                    return (Presence::caller(&self.presence, stream, user, false), address);
                }
                Err(error) => {
                    log::warn!("the control socket takes nobody in: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connection of one caller; it ends when somebody else gets its place.
#[derive(Debug)]
pub(super) struct Caller<S, W> {
    stream: S,
    who: W,
    gone: oneshot::Receiver<()>,
    number: u64,
    presence: Shared,
}

impl<S, W> Caller<S, W> {
    /// Who is at the other end.
    pub(super) const fn who(&self) -> &W {
        &self.who
    }

    /// Whether it had to give way; else this task is woken when it has to.
    fn gives_way(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut self.gone).poll(context).is_ready()
    }
}

impl<S, W> Drop for Caller<S, W> {
    fn drop(&mut self) {
        with(&self.presence, |presence| presence.leave(self.number));
    }
}

impl<S: AsyncRead + Unpin, W: Unpin> AsyncRead for Caller<S, W> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let caller = self.get_mut();
        if caller.gives_way(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut caller.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            with(&caller.presence, |presence| presence.hear(caller.number));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, W: Unpin> AsyncWrite for Caller<S, W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let caller = self.get_mut();
        if caller.gives_way(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut caller.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(presence: &mut Presence) -> (u64, oneshot::Receiver<()>) {
        let (stay, gone) = oneshot::channel();
        (presence.enter(stay), gone)
    }

    fn is_gone(gone: &mut oneshot::Receiver<()>) -> bool {
        gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_silent_give_way_in_the_order_they_came() {
        let mut presence = Presence::default();
        let mut callers: Vec<_> = (0..CALLERS_MAX).map(|_| enter(&mut presence)).collect();
        for at in [0, 2] {
            presence.hear(callers[at].0);
        }
        let _more: Vec<_> = (0..2).map(|_| enter(&mut presence)).collect();
        let gone: Vec<usize> = (0..callers.len()).filter(|&at| is_gone(&mut callers[at].1)).collect();
        assert_eq!((gone, presence.callers.len()), (vec![1, 3], CALLERS_MAX));
    }

    #[test]
    fn of_those_who_spoke_the_one_who_did_longest_ago_gives_way() {
        let mut presence = Presence::default();
        let mut callers: Vec<_> = (0..CALLERS_MAX).map(|_| enter(&mut presence)).collect();
        let numbers: Vec<u64> = callers.iter().map(|(number, _)| *number).collect();
        numbers.iter().rev().for_each(|&number| presence.hear(number));
        let _one_more = enter(&mut presence);
        assert!(is_gone(&mut callers.last_mut().unwrap().1) && !is_gone(&mut callers[0].1));
        presence.leave(numbers[0]);
        let _another = enter(&mut presence);
        assert!(!is_gone(&mut callers[1].1), "there was room");
    }
}
