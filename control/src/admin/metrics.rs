//! `GET /metrics`: on the control socket, and where the configuration says so on a TCP port of its own, which answers nothing
//! else. Readers of that port are few at a time, and each has a few seconds; when one more comes, the oldest of those from where
//! most come gives way. Metrics are gathered for few at a time, too, whoever has gone meanwhile.

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
use super::crowd::Crowd;
use crate::metrics::{Format, families, text};

/// Readers of the TCP port at a time.
const READERS_MAX: usize = 16;

/// How long one may take, from the first byte of its question to the last of the answer.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long it waits when nobody can be taken in (no file descriptor left).
const PAUSE: Duration = Duration::from_millis(100);

/// For how many metrics are gathered at a time: what is begun goes on when its reader has gone, on threads that the calls of
/// the API need, too.
const GATHERED_MAX: usize = 4;

static GATHERING: Semaphore = Semaphore::const_new(GATHERED_MAX);

/// What this gathers, when its turn has come; nothing where it fails.
async fn in_turn<T: Send + 'static>(gather: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // The semaphore is never closed.
    let turn = GATHERING.acquire().await.ok()?;
    let gathering = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        gather()
    });
    gathering.await.ok()
}

/// The metrics of now, or nothing where the appliance failed to tell them.
async fn gathered(appliance: Arc<dyn Appliance>, format: Format) -> Option<String> {
    in_turn(move || text(families(&*appliance), format).ok()).await.flatten()
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
    let mut readers = Crowd::new(READERS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let appliance = Arc::clone(&appliance);
                readers.attend(from.ip(), async move {
                    let told = service_fn(move |request| tell(Arc::clone(&appliance), request));
                    let reading = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), told);
                    let _ = tokio::time::timeout(READ_WITHIN, reading).await;
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::running::tests::Bench;

    /// Whoever says nothing keeps nobody out, not even until his time is over.
    #[test]
    fn a_crowd_of_silent_readers_gives_way() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let appliance = Arc::clone(&Bench::new().appliance) as Arc<dyn Appliance>;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = MetricsPort::answer(listener, appliance, runtime.handle()).unwrap();
        let mut silent: Vec<_> = (0..4 * READERS_MAX).map(|_| TcpStream::connect(port.address()).unwrap()).collect();
        let mut reader = TcpStream::connect(port.address()).unwrap();
        reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("millrace_"), "{answer}");
        // Those who came last are there yet: the answer did not wait for the end of their time.
        let last = silent.last_mut().unwrap();
        last.set_nonblocking(true).unwrap();
        assert_eq!(last.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    /// What was begun for readers who have gone still counts.
    #[tokio::test]
    async fn metrics_are_gathered_for_few_at_a_time() {
        let (begun, at_work) = channel();
        let (release, released) = crossbeam::channel::unbounded::<()>();
        let gathering: Vec<_> = (0..GATHERED_MAX)
            .map(|_| {
                let (begun, released) = (begun.clone(), released.clone());
                tokio::spawn(in_turn(move || {
                    begun.send(()).unwrap();
                    released.recv()
                }))
            })
            .collect();
        for _ in 0..GATHERED_MAX {
            while at_work.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        gathering.iter().for_each(tokio::task::JoinHandle::abort);
        for reader in gathering {
            assert!(reader.await.unwrap_err().is_cancelled());
        }
        assert_eq!(GATHERING.available_permits(), 0, "they go on");
        drop(release);
        assert_eq!(in_turn(|| 7).await, Some(7));
    }
}
