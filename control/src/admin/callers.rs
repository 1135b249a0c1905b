//! Who is on the control socket: so many at a time. When one more comes, one of whoever has most places gives way: the one that
//! has said nothing for longest, those first who never said anything. So callers that come and stay silent, or take their time
//! over a question, keep nobody out and use up no file descriptors that health probes need (FLD-13), and who comes with many
//! keeps out only himself. Who takes nothing of an answer for long is cut off, too: until he has it, it is in memory.
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
use tokio::time::{Sleep, sleep};

use super::crowd::gives_way;

/// Callers at a time, here and over TCP each: a quarter of the file descriptors a process usually may have.
const CALLERS_MAX: usize = 256;

/// How long a caller may take nothing of what is written to it.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// How long it waits when no caller can be taken in (no file descriptor left).
const PAUSE: Duration = Duration::from_millis(100);

/// One caller that is there.
#[derive(Debug)]
struct Present<W> {
    number: u64,
    who: W,
    /// When it last said something, in words of all; 0 as long as it has not.
    spoke: u64,
    /// Dropped, its connection ends.
    _stay: oneshot::Sender<()>,
}

/// Everybody who is there, as all connections know it.
pub(super) type Shared<W> = Arc<Mutex<Presence<W>>>;

/// Everybody who is there, in the order they came.
#[derive(Debug)]
pub(super) struct Presence<W> {
    callers: Vec<Present<W>>,
    /// Callers so far, and words so far.
    came: u64,
    words: u64,
}

impl<W> Default for Presence<W> {
    fn default() -> Self {
        Self { callers: Vec::new(), came: 0, words: 0 }
    }
}

impl<W: Clone + Ord> Presence<W> {
    /// Takes one more in, `who` it is by its stream.
    pub(super) fn caller<S>(shared: &Shared<W>, stream: S, who: W, known: bool) -> Caller<S, W> {
        let (stay, gone) = oneshot::channel();
        let number = with(shared, |presence| {
            let number = presence.enter(who.clone(), stay);
            // Who has shown a certificate has said something.
            if known {
                presence.hear(number);
            }
            number
        });
        Caller {
            stream,
            who,
            gone,
            over: false,
            patience: UNREAD_MAX,
            stuck: None,
            number,
            presence: Arc::clone(shared),
        }
    }

    /// Takes one more in; one of whoever has most places goes when there is no room, the one that has been silent for longest.
    fn enter(&mut self, who: W, stay: oneshot::Sender<()>) -> u64 {
        if self.callers.len() >= CALLERS_MAX {
            let silent = gives_way(self.callers.iter().map(|caller| (&caller.who, caller.spoke)));
            silent.map(|at| self.callers.remove(at));
        }
        self.came += 1;
        self.callers.push(Present { number: self.came, who, spoke: 0, _stay: stay });
        self.came
    }
}

impl<W> Presence<W> {
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
    presence: Shared<Option<u32>>,
}

impl Callers {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, presence: Arc::default() }
    }
}

fn with<W, T>(presence: &Mutex<Presence<W>>, change: impl FnOnce(&mut Presence<W>) -> T) -> T {
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
    /// It had to give way.
    over: bool,
    /// How long it may take nothing.
    patience: Duration,
    /// Runs as long as it takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    number: u64,
    presence: Shared<W>,
}

impl<S, W> Caller<S, W> {
    /// Who is at the other end.
    pub(super) const fn who(&self) -> &W {
        &self.who
    }

    /// Whether it had to give way; else this task is woken when it has to.
    fn gives_way(&mut self, context: &mut Context<'_>) -> bool {
        // Once it is told, it is told no more: an answer may still be on its way out when the question was cut off.
        self.over = self.over || Pin::new(&mut self.gone).poll(context).is_ready();
        self.over
    }

    /// What came of writing; when the other end has taken nothing for too long, an error.
    fn written<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stuck = None;
            return done;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        let done = Pin::new(&mut caller.stream).poll_write(context, bytes);
        caller.written(context, done)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let caller = self.get_mut();
        let done = Pin::new(&mut caller.stream).poll_flush(context);
        caller.written(context, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let caller = self.get_mut();
        let done = Pin::new(&mut caller.stream).poll_shutdown(context);
        caller.written(context, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(presence: &mut Presence<&'static str>, who: &'static str) -> (u64, oneshot::Receiver<()>) {
        let (stay, gone) = oneshot::channel();
        (presence.enter(who, stay), gone)
    }

    fn is_gone(gone: &mut oneshot::Receiver<()>) -> bool {
        gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_silent_give_way_in_the_order_they_came() {
        let mut presence = Presence::default();
        let mut callers: Vec<_> = (0..CALLERS_MAX).map(|_| enter(&mut presence, "op")).collect();
        for at in [0, 2] {
            presence.hear(callers[at].0);
        }
        let _more: Vec<_> = (0..2).map(|_| enter(&mut presence, "op")).collect();
        let gone: Vec<usize> = (0..callers.len()).filter(|&at| is_gone(&mut callers[at].1)).collect();
        assert_eq!((gone, presence.callers.len()), (vec![1, 3], CALLERS_MAX));
    }

    #[test]
    fn of_those_who_spoke_the_one_who_did_longest_ago_gives_way() {
        let mut presence = Presence::default();
        let mut callers: Vec<_> = (0..CALLERS_MAX).map(|_| enter(&mut presence, "op")).collect();
        let numbers: Vec<u64> = callers.iter().map(|(number, _)| *number).collect();
        numbers.iter().rev().for_each(|&number| presence.hear(number));
        let _one_more = enter(&mut presence, "op");
        assert!(is_gone(&mut callers.last_mut().unwrap().1) && !is_gone(&mut callers[0].1));
        presence.leave(numbers[0]);
        let _another = enter(&mut presence, "op");
        assert!(!is_gone(&mut callers[1].1), "there was room");
    }
    /// FLD-13: whoever comes with most gives way, whatever he says; others only when they are as many.
    #[test]
    fn a_crowd_keeps_out_nobody_but_itself() {
        let mut presence = Presence::default();
        let mut quiet = enter(&mut presence, "alice");
        let mut crowd: Vec<_> = (1..CALLERS_MAX).map(|_| enter(&mut presence, "mallory")).collect();
        for _ in 0..2 * CALLERS_MAX {
            crowd.push(enter(&mut presence, "mallory"));
            let numbers: Vec<u64> = crowd.iter().map(|(number, _)| *number).collect();
            numbers.into_iter().for_each(|number| presence.hear(number));
        }
        assert!(!is_gone(&mut quiet.1));
        let stay = crowd.iter_mut().filter_map(|(_, gone)| (!is_gone(gone)).then_some(())).count();
        assert_eq!(stay, CALLERS_MAX - 1);
    }

    /// API-04: what nobody reads is not kept for ever.
    #[tokio::test]
    async fn who_takes_nothing_is_cut_off() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (near, mut far) = tokio::io::duplex(64);
        let mut caller = Presence::caller(&Shared::default(), near, "op", true);
        caller.patience = Duration::ZERO;
        caller.write_all(&[1; 64]).await.unwrap();
        assert_eq!(caller.write_u8(1).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 64]).await.unwrap();
        caller.write_all(&[1; 64]).await.unwrap();
        caller.patience = Duration::from_secs(3_600);
        let (all, read) = tokio::join!(caller.write_all(&[2; 640]), async { far.read_exact(&mut [0; 704]).await });
        assert!(all.is_ok() && read.is_ok());
    }

    /// hyper answers a question whose body was cut off: what had to give way is then asked again.
    #[tokio::test]
    async fn who_had_to_give_way_stays_away() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let shared: Shared<&str> = Arc::default();
        let (near, _far) = tokio::io::duplex(64);
        let mut first = Presence::caller(&shared, near, "op", true);
        let _others: Vec<_> =
            (0..CALLERS_MAX).map(|_| Presence::caller(&shared, tokio::io::empty(), "op", true)).collect();
        for _ in 0..2 {
            assert_eq!(first.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
            assert_eq!(first.write_u8(1).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}
