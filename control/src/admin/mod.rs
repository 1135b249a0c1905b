//! The admin API: HTTP and JSON under `/api/v1` on the control socket.
//!
//! - [`Appliance`]: what is asked of the running appliance.
//! - `routes`: the calls, one handler for each; `objects`: those about single objects of the policy; `watching`: those whose
//!   answers go on.
//! - `call`: what a call is, for the router and for `openapi`, which describes them all.
//! - `answer`: how bodies are read and answers given.
//! - `callers`: who is on the socket at a time; `large_bodies`: who may send much at a time.
//! - [`user`]: as whom they call.
//! - [`socket`]: the socket file, its mode and its life.
//! - [`Server`]: the listener and its end.
//!
//! Runs on the management threads. A handler never touches tables: it asks the [`Appliance`] on a thread that may block.

mod answer;
pub mod appliance;
mod call;
mod callers;
mod large_bodies;
mod objects;
mod openapi;
mod routes;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod user;
mod watching;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use appliance::{Appliance, Feed};
use callers::Callers;
pub use routes::router;
use socket::{ControlSocket, SocketError};
use user::User;

/// The API, listening. Dropping it stops listening and removes the socket; calls under way end with the runtime.
#[derive(Debug)]
pub struct Server {
    socket: ControlSocket,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
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
        let service = router(appliance).into_make_service_with_connect_info::<User>();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let serving = axum::serve(Callers::new(listener), service).with_graceful_shutdown(async {
                // Told, or dropped: both end it.
                let _ = stopped.await;
            });
            if let Err(error) = serving.await {
                log::error!("the control socket failed: {error}");
            }
        });
        Ok(Self { socket, stop: Some(stop), task })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Removes the socket, lets the calls under way finish, and returns when they have, or when `patience` is over: a caller
    /// that never ends its question or never reads its answer holds up nothing. What is left of it ends with the runtime.
    pub async fn stop(self, patience: Duration) {
        let Self { socket, stop, mut task } = self;
        drop(socket);
        drop(stop);
        match tokio::time::timeout(patience, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => log::error!("the control socket ended by a fault"),
            Err(_) => {
                log::warn!("a call on the control socket did not end in {patience:?} and was cut off");
                task.abort();
            }
        }
    }
}
