//! How a call is answered: a document of the appliance's as JSON, or a refusal as problem details (RFC 9457). And how its body
//! is read: never more of it than makes sense.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Appliance;
use crate::status::{Problem, Refusal, RefusalKind};

/// Bytes of a body that is no configuration, and of one that does not say beforehand how long it is (API-03).
pub(super) const BODY_MAX: usize = 1 << 20;

/// What a problem is called on the wire (RFC 9457 section 3).
pub(super) const PROBLEM: &str = "application/problem+json";

pub(super) type Asked = State<Arc<dyn Appliance>>;
pub(super) type Answer = Result<Response, Refused>;

/// A refusal on its way out.
pub(super) struct Refused(pub(super) Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

pub(super) fn refused(kind: RefusalKind, message: impl Into<String>) -> Refused {
    Refused(Refusal::new(kind, message))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, ..) = self.0.kind.meaning();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, PROBLEM)], Json(Problem::from(self.0))).into_response()
    }
}

/// Answers a question that cannot be refused.
pub(super) async fn show<T: Serialize + Send + 'static>(
    appliance: Arc<dyn Appliance>,
    question: impl FnOnce(&dyn Appliance) -> T + Send + 'static,
) -> Answer {
    ask(appliance, move |appliance| Ok(question(appliance))).await
}

/// Puts a question to the appliance on a thread that may block.
pub(super) async fn ask<T: Serialize + Send + 'static>(
    appliance: Arc<dyn Appliance>,
    question: impl FnOnce(&dyn Appliance) -> Result<T, Refusal> + Send + 'static,
) -> Answer {
    put(appliance, question).await.map(|document| Json(document).into_response())
}

/// As [`ask`]; what was found out, before it is a response.
pub(super) async fn put<T: Send + 'static>(
    appliance: Arc<dyn Appliance>,
    question: impl FnOnce(&dyn Appliance) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refused> {
    let answer = tokio::task::spawn_blocking(move || question(&*appliance)).await;
    match answer {
        Ok(answer) => answer.map_err(Refused),
        Err(_) => Err(refused(RefusalKind::Failed, "the appliance failed to answer; its log says why")),
    }
}

/// The body of a request, of this many bytes at most. One that says it is longer is refused before it comes.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Refused> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let max = if said.is_some() { max } else { max.min(BODY_MAX) };
    let too_large = || refused(RefusalKind::TooLarge, format!("the body is longer than {max} bytes"));
    if said.is_some_and(|said| said > max as u64) {
        return Err(too_large());
    }
    match Limited::new(body, max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(error) => Err(refused(RefusalKind::BadRequest, format!("the body did not come to its end: {error}"))),
    }
}

/// A body that is JSON.
pub(super) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body, wanted: &str) -> Result<T, Refused> {
    let bytes = read(headers, body, BODY_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| refused(RefusalKind::BadRequest, format!("the body must be {wanted}: {error}")))
}
