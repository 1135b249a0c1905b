//! Who calls over TCP: nobody is one of the callers until the handshake has shown whose certificate it is. Handshakes have
//! places of their own, and the oldest of whoever has most gives way, so that a flood of connections neither keeps those out who
//! are let in nor waits on them (FLD-13).
//!
//! Runs on the management threads.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::Listener;
use config::policy::Api;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::callers::{Caller, Presence, Shared};
use super::crowd::Crowd;
use super::role::{Grant, grant};
use super::routes::AUDIT;
use super::tls::{Tls, TlsError};

/// Handshakes at a time: few, so that with the callers of both kinds there are file descriptors left for all else.
const HANDSHAKES_MAX: usize = 64;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;
/// How long it waits when no connection can be taken in (no file descriptor left).
const PAUSE: Duration = Duration::from_millis(100);
/// How often refused handshakes are told of.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A door that is open and not yet attended: the port and the certificates are there.
#[derive(Debug)]
pub struct Door {
    listener: StdListener,
    tls: Tls,
}

impl Door {
    /// Opens the port that `[api]` names. An address that the machine does not have yet will do: that of a port's kernel
    /// interface comes later.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(api: &Api) -> Result<Self, TlsError> {
        let tls = Tls::new(api)?;
        let listener = listen(api.listen).map_err(|source| TlsError::Port { address: api.listen, source })?;
        Ok(Self { listener, tls })
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Begins to take callers in, on the runtime this is called in.
    pub(super) fn attend(self) -> Result<Guests, TlsError> {
        let address = self.tls.address();
        let failed = |source| TlsError::Port { address, source };
        let listener = TcpListener::from_std(self.listener).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (let_in, arrivals) = mpsc::channel(1);
        let task = tokio::spawn(receive(listener, Arc::new(self.tls), let_in));
        Ok(Guests { arrivals, presence: Shared::default(), local, task })
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

type Arrival = (TlsStream<TcpStream>, Grant, SocketAddr);

/// Those who were let in, as the server takes them.
#[derive(Debug)]
pub(super) struct Guests {
    arrivals: mpsc::Receiver<Arrival>,
    presence: Shared<Grant>,
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes connections, and makes a handshake with each, beside each other.
async fn receive(listener: TcpListener, tls: Arc<Tls>, let_in: mpsc::Sender<Arrival>) {
    let mut under_way = Crowd::new(HANDSHAKES_MAX);
    let (turned_away, mut told) = mpsc::channel::<String>(HANDSHAKES_MAX);
    let told = tokio::spawn(async move {
        let mut untold = Untold::default();
        while let Some(why) = told.recv().await {
            untold.tell(&why);
        }
    });
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                log::warn!("the API takes nobody in over TCP: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, let_in, turned_away) = (Arc::clone(&tls), let_in.clone(), turned_away.clone());
        under_way.attend(from.ip(), async move {
            match welcome(stream, &tls).await {
                Ok((stream, grant)) => {
                    // Nobody serves any more: then this ends, too.
                    let _ = let_in.send((stream, grant, from)).await;
                }
                // Of a flood not every one is told.
                Err(why) => drop(turned_away.try_send(format!("{from}: {why}"))),
            }
        });
        if told.is_finished() {
            return;
        }
    }
}

/// The handshake, and what the certificate may do.
async fn welcome(stream: TcpStream, tls: &Arc<Tls>) -> io::Result<(TlsStream<TcpStream>, Grant)> {
    // Answers are small and end in one piece.
    stream.set_nodelay(true)?;
    let looking = Arc::clone(tls);
    let handshake = async {
        let config = tokio::task::spawn_blocking(move || looking.config()).await?;
        TlsAcceptor::from(config).accept(stream).await
    };
    let stream = tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let grant = certificate.and_then(|certificate| grant(tls.roles(), certificate));
    let grant = grant.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
    Ok((stream, grant))
}

/// Refused handshakes that the log has not had yet.
#[derive(Debug, Default)]
struct Untold {
    last: Option<Instant>,
    count: u64,
}

impl Untold {
    fn tell(&mut self, why: &str) {
        self.count += 1;
        if self.last.is_none_or(|last| last.elapsed() >= TOLD_EVERY) {
            log::warn!(target: AUDIT, "{} callers of the API were refused, the last one {why}", self.count);
            (self.last, self.count) = (Some(Instant::now()), 0);
        }
    }
}

impl Listener for Guests {
    type Io = Caller<TlsStream<TcpStream>, Grant>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.arrivals.recv().await {
            Some((stream, grant, from)) => (Presence::caller(&self.presence, stream, grant, true), from),
            // The task goes only with this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
