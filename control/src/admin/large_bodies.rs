//! Large bodies, which are kept in memory whole until they are understood: one of a call's at a time, so that callers together take
//! no more than one would. A caller that sends nothing for long, or slowly, does not keep the others waiting for ever, and one who
//! may only look keeps nobody waiting who changes something.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{self, refused};
use crate::status::RefusalKind;

/// Bytes of a policy that are read, as `config` has it for files.
pub(super) const BODY_MAX: usize = 64 << 20;

/// How long a large body may take to come, and how long it is waited for one's turn to send one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose turn it is to send a large body.
pub(super) type Turn = Arc<Semaphore>;

/// The turn, nobody's yet.
pub(super) fn turn() -> Turn {
    Arc::new(Semaphore::new(1))
}

/// Reads the body of a call before its handler does, in turn if it is large; the turn ends with the answer. Who does not say
/// beforehand how much comes needs no turn: of that no more is read than of any other body.
pub(super) async fn in_turn(State(turn): State<Turn>, request: Request, next: Next) -> Response {
    let Some(told) = request.body().size_hint().exact().filter(|&bytes| bytes > answer::BODY_MAX as u64) else {
        return next.run(request).await;
    };
    if told > BODY_MAX as u64 {
        return too_large();
    }
    // The semaphore is never closed.
    let Ok(Ok(_turn)) = timeout(PATIENCE, turn.acquire()).await else {
        return refused(RefusalKind::Busy, "others are sending large bodies; send it again").into_response();
    };
    let (head, body) = request.into_parts();
    match timeout(PATIENCE, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => too_large(),
        Err(_) => {
            let message = format!("the body did not come within {} s; send it again", PATIENCE.as_secs());
            refused(RefusalKind::Busy, message).into_response()
        }
    }
}

fn too_large() -> Response {
    let message = format!("the body is longer than {} MiB, or was cut off", BODY_MAX >> 20);
    refused(RefusalKind::TooLarge, message).into_response()
}
