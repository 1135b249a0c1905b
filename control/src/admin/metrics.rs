//! `GET /metrics`: on the control socket, and where the configuration says so on a TCP port of its own, which answers nothing
//! else. Readers of that port are few at a time, and each has a few seconds: whoever connects and says nothing keeps nobody
//! out for long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse, Response as Answered};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Appliance;
use super::answer::Asked;
use crate::metrics::{Format, families, text};

/// Readers of the TCP port at a time.
const READERS_MAX: usize = 16;

/// How long one may take, from the first byte of its question to the last of the answer.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long it waits when nobody can be taken in (no file descriptor left).
const PAUSE: Duration = Duration::from_millis(100);

/// The metrics of now, or nothing where the appliance failed to tell them.
async fn gathered(appliance: Arc<dyn Appliance>, format: Format) -> Option<String> {
    tokio::task::spawn_blocking(move || text(families(&*appliance), format).ok()).await.ok().flatten()
}

fn accepted(headers: &HeaderMap) -> Format {
    Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default())
}

/// `GET /metrics` on the control socket.
pub(super) async fn metrics(State(appliance): Asked, headers: HeaderMap) -> Answered {
    let format = accepted(&headers);
    match gathered(appliance, format).await {
        Some(text) => ([(CONTENT_TYPE, format.media_type())], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The TCP port, listening. Dropping it stops listening.
#[derive(Debug)]
pub struct MetricsPort {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsPort {
    /// Answers from `appliance` at a port that was bound before, on the threads of `runtime`.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn answer(
        listener: std::net::TcpListener,
        appliance: Arc<dyn Appliance>,
        runtime: &Handle,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        Ok(Self { address, task: runtime.spawn(serve(listener, appliance)) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, appliance: Arc<dyn Appliance>) {
    let seats = Arc::new(Semaphore::new(READERS_MAX));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let appliance = Arc::clone(&appliance);
                tokio::spawn(async move {
                    let told = service_fn(move |request| tell(Arc::clone(&appliance), request));
                    let reading = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), told);
                    let _ = tokio::time::timeout(READ_WITHIN, reading).await;
                    drop(seat);
                });
            }
            Err(error) => {
                log::warn!("the metrics port takes nobody in: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The answer to one question at the TCP port.
async fn tell(appliance: Arc<dyn Appliance>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut answer = Response::new(Full::default());
    if request.uri().path() != "/metrics" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    } else if request.method() != Method::GET {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
    } else {
        let format = accepted(request.headers());
        match gathered(appliance, format).await {
            Some(text) => {
                let media_type = hyper::header::HeaderValue::from_static(format.media_type());
                answer.headers_mut().insert(CONTENT_TYPE, media_type);
                *answer.body_mut() = Full::new(text.into());
            }
            None => *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
    Ok(answer)
}
