//! Answers that come piece by piece: what is told as it happens, and lists too long to be held whole. An answer ends when its reader
//! leaves; a slow one is waited for, with a bounded number of pieces.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::{Feed, Sessions};
use crate::status::Refusal;

/// How long an answer that goes on may be without news before it is looked whether anybody still reads it.
const LOOK: Duration = Duration::from_millis(200);

/// Pieces of an answer that wait for a slow reader.
const PIECES: usize = 64;

/// Sessions in a piece: some 40 KiB.
const SESSIONS_AT_ONCE: usize = 64;

/// An answer that goes on as long as the feed has news and somebody reads.
pub(super) fn told<T: 'static>(
    kind: &'static str,
    mut feed: Feed<T>,
    write: impl Fn(Vec<T>) -> Vec<u8> + Send + 'static,
) -> Response {
    let (pieces, read) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        while !pieces.is_closed()
            && let Some(news) = feed(LOOK)
        {
            let piece = write(news);
            if !piece.is_empty() && pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                return;
            }
        }
    });
    ([(CONTENT_TYPE, kind)], Body::new(Pieces(read))).into_response()
}

/// Sessions as a JSON array, one a line. A list that is cut short is no answer: the connection breaks off.
pub(super) fn listed(mut sessions: Sessions) -> Response {
    let (pieces, read) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut between: &[u8] = b"[\n";
        while !pieces.is_closed() {
            let batch = match sessions() {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    let end: &[u8] = if between == b"[\n" { b"[]\n" } else { b"\n]\n" };
                    let _ = pieces.blocking_send(Ok(Bytes::from_static(end)));
                    return;
                }
                Err(refusal) => {
                    let _ = pieces.blocking_send(Err(refusal));
                    return;
                }
            };
            for some in batch.chunks(SESSIONS_AT_ONCE) {
                let mut piece = Vec::new();
                for session in some {
                    piece.extend_from_slice(between);
                    between = b",\n";
                    // Plain structs always have a form, and memory takes it.
                    let _ = serde_json::to_writer(&mut piece, session);
                }
                if pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return;
                }
            }
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::new(Pieces(read))).into_response()
}

/// The body of an answer that comes in pieces.
struct Pieces(mpsc::Receiver<Result<Bytes, Refusal>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }
}
