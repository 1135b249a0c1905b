//! Large bodies, which are kept in memory whole until they are understood: one at a time, so that callers together take no more
//! than one would. A caller that sends nothing for long, or slowly, does not keep the others waiting for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use super::answer::refused;
use crate::status::RefusalKind;

/// Bytes of a policy that are read, as `config` has it for files.
pub(super) const BODY_MAX: usize = 64 << 20;

/// Bytes of a body that waits for nobody.
const SMALL: u64 = 1 << 20;

/// How long a large body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose turn it is to send a large body.
pub(super) type Turn = Arc<Semaphore>;

/// The turn, nobody's yet.
pub(super) fn turn() -> Turn {
    Arc::new(Semaphore::new(1))
}

/// Reads the body of a call before its handler does, in turn if it is large; the turn ends with the answer.
pub(super) async fn in_turn(State(turn): State<Turn>, request: Request, next: Next) -> Response {
    let told = request.body().size_hint();
    if told.lower() > BODY_MAX as u64 {
        return too_large();
    }
    if told.upper().is_some_and(|bytes| bytes <= SMALL) {
        return next.run(request).await;
    }
    // The semaphore is never closed.
    let Ok(_turn) = turn.acquire().await else { return too_slow() };
    let (head, body) = request.into_parts();
    match tokio::time::timeout(PATIENCE, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => too_large(),
        Err(_) => too_slow(),
    }
}

fn too_large() -> Response {
    let message = format!("the body is longer than {} MiB, or was cut off", BODY_MAX >> 20);
    refused(RefusalKind::TooLarge, message).into_response()
}

fn too_slow() -> Response {
    let message = format!("the body did not come within {} s; send it again", PATIENCE.as_secs());
    refused(RefusalKind::Busy, message).into_response()
}
