//! The admin API: HTTP and JSON under `/api/v1` on the control socket.
//!
//! - [`Appliance`]: what is asked of the running appliance.
//! - `routes`: the calls, one handler for each; `objects`: those about single objects of the policy; `watching`: those whose
//!   answers go on; `events`: the stream of what happens.
//! - `call`: what a call is, for the router and for `openapi`, which describes them all.
//! - `answer`: how bodies are read and answers given.
//! - `callers`: who is on the socket at a time; `guests`: who calls over TCP, with `tls` and the `role` of each certificate;
//!   `crowd`: who gives way where places are few; `large_bodies`: who may send much at a time.
//! - `metrics`: `/metrics`, here and on a TCP port of its own.
//! - [`user`]: as whom they call.
//! - [`socket`]: the socket file, its mode and its life.
//! - [`Server`]: the listener and its end.
//!
//! Runs on the management threads. A handler never touches tables: it asks the [`Appliance`] on a thread that may block.

mod answer;
pub mod appliance;
mod call;
mod callers;
mod crowd;
mod events;
mod guests;
mod large_bodies;
mod metrics;
mod objects;
mod openapi;
mod pieces;
mod role;
mod routes;
pub mod socket;
#[cfg(test)]
mod tests;
mod tls;
pub mod user;
mod watching;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use appliance::{Appliance, Feed, Sessions};
use callers::Callers;
pub use guests::Door;
pub use metrics::MetricsPort;
pub use routes::router;
use socket::{ControlSocket, SocketError};
pub use tls::TlsError;
use user::User;

/// The API, listening. Dropping it stops listening and removes the socket; calls under way end with the runtime.
#[derive(Debug)]
pub struct Server {
    socket: ControlSocket,
    serving: Vec<Serving>,
}

/// One place that is served.
#[derive(Debug)]
struct Serving {
    /// Told, or dropped: both end it.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Answers from `appliance` whoever comes to `listener`.
    fn start<L>(listener: L, appliance: Arc<dyn Appliance>, runtime: &Handle) -> Self
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
        for<'a> User: Connected<IncomingStream<'a, L>>,
    {
        let service = router(appliance).into_make_service_with_connect_info::<User>();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let serving = axum::serve(listener, service).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = serving.await {
                log::error!("the API failed: {error}");
            }
        });
        Self { stop, task }
    }
}

impl Server {
    /// Listens at `path` and answers from `appliance`, on the threads of `runtime`.
    ///
    /// # Errors
    /// [`SocketError`] when the socket cannot be had.
    pub fn start(path: &Path, appliance: Arc<dyn Appliance>, runtime: &Handle) -> Result<Self, SocketError> {
        Self::answer(ControlSocket::bind(path)?, appliance, runtime)
    }

    /// Answers from `appliance` what is asked at a socket that was bound before; calls made meanwhile are answered now.
    ///
    /// # Errors
    /// [`SocketError`] when the runtime cannot watch it.
    pub fn answer(
        (socket, listener): (ControlSocket, UnixListener),
        appliance: Arc<dyn Appliance>,
        runtime: &Handle,
    ) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind { path: socket.path().to_owned(), source };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::from_std(listener).map_err(failed)?
        };
        let serving = vec![Serving::start(Callers::new(listener), appliance, runtime)];
        Ok(Self { socket, serving })
    }

    /// Answers over TCP, too, whoever is let in at this door.
    ///
    /// # Errors
    /// [`TlsError`] when the runtime cannot watch it.
    pub fn open(&mut self, door: Door, appliance: Arc<dyn Appliance>, runtime: &Handle) -> Result<(), TlsError> {
        let guests = {
            let _inside = runtime.enter();
            door.attend()?
        };
        self.serving.push(Serving::start(guests, appliance, runtime));
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Removes the socket, lets the calls under way finish, and returns when they have, or when `patience` is over: a caller
    /// that never ends its question or never reads its answer holds up nothing. What is left of it ends with the runtime.
    pub async fn stop(self, patience: Duration) {
        let Self { socket, serving } = self;
        drop(socket);
        let (stops, tasks): (Vec<_>, Vec<_>) = serving.into_iter().map(|Serving { stop, task }| (stop, task)).unzip();
        drop(stops);
        let over = tokio::time::Instant::now() + patience;
        for mut task in tasks {
            match tokio::time::timeout_at(over, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => log::error!("the API ended by a fault"),
                Err(_) => {
                    log::warn!("a call of the API did not end in {patience:?} and was cut off");
                    task.abort();
                }
            }
        }
    }
}
