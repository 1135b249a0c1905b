//! One handler for each call of the API. Every answer is JSON, refusals too: a [`Refusal`] with the HTTP status of its
//! kind.
//!
//! | call | answer |
//! |---|---|
//! | `GET /api/v1/ports`, `workers`, `services`, `firewall`, `neighbors`, `routes`, `nat`, `drops`, `top`, `memory`, `policy` | as `show` |
//! | `GET /api/v1/progress` | [`ProgressStatus`](crate::status::ProgressStatus) of the change under way, or `null` |
//! | `GET /api/v1/sessions?limit=N&match=TERMS` | as `show sessions` |
//! | `GET /api/v1/trace?match=TERMS&count=N&seconds=S` | [`TraceNews`](crate::status::TraceNews), one a line, as it happens |
//! | `POST /api/v1/trace/packets`, body [`Supposed`](crate::status::Supposed) packets | [`TraceStatus`](crate::status::TraceStatus) of each |
//! | `POST /api/v1/diff?file=NAME`, body TOML | [`Plan`](crate::generation::Plan) |
//! | `POST /api/v1/apply?file=NAME&confirm_within_ms=N`, body TOML; `POST /api/v1/confirm`; `POST /api/v1/rollback?generation=N` | [`Applied`](crate::status::Applied) |
//! | `POST /api/v1/reload`, body [`Reload`] | [`Reloaded`](crate::status::Reloaded) |
//! | `POST /api/v1/drain`, body [`Drain`]; `POST /api/v1/flush`, body [`Target`] | [`Changed`](crate::status::Changed) |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Appliance;
use super::large_bodies;
use super::user::User;
use super::watching;
use crate::cli::{CONFIRM_WITHIN, SESSIONS_SHOWN};
use crate::generation::Proposal;
use crate::session_match::SessionMatch;
use crate::status::{Drain, Refusal, RefusalKind, Reload, Target};

pub(super) type Asked = State<Arc<dyn Appliance>>;
pub(super) type Answer = Result<Response, Refused>;

/// The API over this appliance.
pub fn router(appliance: Arc<dyn Appliance>) -> Router {
    let calls = Router::new()
        .route("/ports", get(|State(a): Asked| show(a, |a| a.ports())))
        .route("/workers", get(|State(a): Asked| show(a, |a| a.workers())))
        .route("/sessions", get(sessions))
        .route("/services", get(|State(a): Asked| show(a, |a| a.services())))
        .route("/firewall", get(|State(a): Asked| show(a, |a| a.firewall())))
        .route("/neighbors", get(|State(a): Asked| show(a, |a| a.neighbors())))
        .route("/routes", get(|State(a): Asked| show(a, |a| a.routes())))
        .route("/nat", get(|State(a): Asked| show(a, |a| a.nat())))
        .route("/drops", get(|State(a): Asked| show(a, |a| a.drops())))
        .route("/top", get(|State(a): Asked| show(a, |a| a.top())))
        .route("/memory", get(|State(a): Asked| show(a, |a| a.memory())))
        .route("/policy", get(|State(a): Asked| show(a, |a| a.policy())))
        .route("/progress", get(|State(a): Asked| show(a, |a| a.progress())))
        .route("/trace", get(watching::trace))
        .route("/trace/packets", post(watching::suppose))
        .route("/diff", post(diff))
        .route("/apply", post(apply))
        .route("/reload", post(reload))
        .route("/confirm", post(|State(a): Asked| ask(a, |a| a.confirm())))
        .route("/rollback", post(rollback))
        .route("/drain", post(drain))
        .route("/flush", post(flush));
    Router::new()
        .nest("/api/v1", calls)
        .fallback(|| async { refused(RefusalKind::NotFound, "there is no such call") })
        .method_not_allowed_fallback(|| async { refused(RefusalKind::BadRequest, "the call has another method") })
        .layer(DefaultBodyLimit::max(large_bodies::BODY_MAX))
        .layer(from_fn_with_state(large_bodies::turn(), large_bodies::in_turn))
        .with_state(appliance)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionsWanted {
    limit: Option<usize>,
    #[serde(rename = "match", default)]
    wanted: String,
}

async fn sessions(State(appliance): Asked, wanted: Result<Query<SessionsWanted>, QueryRejection>) -> Answer {
    let Query(SessionsWanted { limit, wanted }) =
        wanted.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let wanted: SessionMatch =
        wanted.parse().map_err(|error| refused(RefusalKind::BadRequest, format!("match: {error}")))?;
    let limit = limit.unwrap_or(SESSIONS_SHOWN);
    ask(appliance, move |appliance| appliance.sessions(&wanted, limit)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compared {
    file: String,
}

async fn diff(
    State(appliance): Asked,
    compared: Result<Query<Compared>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let Query(Compared { file }) =
        compared.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let text = configuration(&file, body)?;
    ask(appliance, move |appliance| appliance.diff(&text, &file)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    file: String,
    confirm_within_ms: Option<u64>,
}

async fn apply(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    source: Result<Query<Source>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let Query(Source { file, confirm_within_ms }) =
        source.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let confirm_within = confirm_within_ms.map(Duration::from_millis);
    if confirm_within.is_some_and(|within| !CONFIRM_WITHIN.contains(&within)) {
        let (least, most) = (CONFIRM_WITHIN.start().as_millis(), CONFIRM_WITHIN.end().as_millis());
        return Err(refused(RefusalKind::BadRequest, format!("confirm_within_ms is {least} to {most}")));
    }
    let text = configuration(&file, body)?;
    ask(appliance, move |appliance| {
        let proposal = Proposal { confirm_within, ..Proposal::apply(&text, &file, &user.name()) };
        appliance.apply(&proposal)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    generation: Option<u64>,
}

async fn rollback(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    earlier: Result<Query<Earlier>, QueryRejection>,
) -> Answer {
    let Query(Earlier { generation }) =
        earlier.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    ask(appliance, move |appliance| appliance.rollback(generation, &user.name())).await
}

/// The text of a configuration; `file` names it in refusals.
fn configuration(file: &str, body: Result<Bytes, BytesRejection>) -> Result<String, Refused> {
    let body = body.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    String::from_utf8(body.into())
        .map_err(|error| refused(RefusalKind::BadRequest, format!("{file} is not text: {error}")))
}

async fn reload(State(appliance): Asked, body: Result<Bytes, BytesRejection>) -> Answer {
    let what: Reload = concerned(body)?;
    ask(appliance, move |appliance| appliance.reload(&what)).await
}

async fn drain(State(appliance): Asked, body: Result<Bytes, BytesRejection>) -> Answer {
    let Drain { target, undo } = concerned(body)?;
    ask(appliance, move |appliance| if undo { appliance.undrain(&target) } else { appliance.drain(&target) }).await
}

async fn flush(State(appliance): Asked, body: Result<Bytes, BytesRejection>) -> Answer {
    let target: Target = concerned(body)?;
    ask(appliance, move |appliance| appliance.flush(&target)).await
}

fn concerned<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refused> {
    let body = body.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let wanted = r#"{"kind": "service" or "backend" (reload: "blocklist"), "name": "..."}"#;
        refused(RefusalKind::BadRequest, format!("the body must be {wanted}: {error}"))
    })
}

/// Answers a question that cannot be refused.
async fn show<T: Serialize + Send + 'static>(
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
    Ok(Json(answer(appliance, question).await?).into_response())
}

/// The appliance's own answer to a question, on a thread that may block.
pub(super) async fn answer<T: Send + 'static>(
    appliance: Arc<dyn Appliance>,
    question: impl FnOnce(&dyn Appliance) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(move || question(&*appliance)).await {
        Ok(answer) => answer.map_err(Refused),
        Err(_) => Err(refused(RefusalKind::Failed, "the appliance failed to answer; its log says why")),
    }
}

/// A refusal on its way out.
pub(super) struct Refused(Refusal);

pub(super) fn refused(kind: RefusalKind, message: impl Into<String>) -> Refused {
    Refused(Refusal::new(kind, message))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            RefusalKind::BadRequest => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::PolicyInvalid => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::NeedsRestart | RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}
