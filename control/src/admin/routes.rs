//! The calls of the API, and the router over them: what `show` asks, what changes the policy as a whole, and what concerns
//! backends. Objects of the policy are `objects`'. Every answer is JSON, refusals are problem documents.
//!
//! | call | answer |
//! |---|---|
//! | `GET /api/v1/ports`, `workers`, `services`, `firewall`, `neighbors`, `routes`, `nat`, `session-log`, `restart`, `drops`, `top`, `memory`, `policy` | as `show` |
//! | `GET /api/v1/progress` | [`ProgressStatus`] of the change under way, or `null` |
//! | `GET /api/v1/sessions?limit=N&match=TERMS` | as `show sessions` |
//! | `GET /api/v1/trace?match=TERMS&count=N&seconds=S` | [`TraceNews`], one a line, as it happens |
//! | `GET /api/v1/capture?port=NAME&direction=both&drops=REASON&filter=PCAP&snap=N&count=N&size=N&seconds=S` | a pcapng file, as frames come |
//! | `POST /api/v1/trace/packets`, body [`Supposed`] packets | [`TraceStatus`] of each |
//! | `POST /api/v1/diff?file=NAME`, body TOML | [`Plan`] |
//! | `POST /api/v1/apply?file=NAME&confirm_within_ms=N`, body TOML; `POST /api/v1/confirm`; `POST /api/v1/rollback?generation=N` | [`Applied`] |
//! | `POST /api/v1/staged?file=NAME`, body TOML; `GET`, `DELETE /api/v1/staged` | [`StagedStatus`] |
//! | `POST /api/v1/reload`, body [`Reload`] | [`Reloaded`] |
//! | `POST /api/v1/drain`, body [`Drain`]; `POST /api/v1/flush`, body [`Target`] | [`Changed`] |
//! | `GET /api/v1/events` | what happens, as it happens |
//! | `GET /api/v1/openapi.json` | all of these, described |
//! | `GET /metrics` | every counter of `show`, as `OpenMetrics` or Prometheus text |

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{self, Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use config::policy::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Appliance;
use super::answer::{Answer, Asked, Refused, ask, json as json_body, put, read, refused, show};
use super::call::Call;
use super::pieces::listed;
use super::user::User;
use super::{events, large_bodies, metrics, objects, openapi, watching};
use crate::cli::{CONFIRM_WITHIN, SESSIONS_SHOWN};
use crate::generation::{Plan, Proposal};
use crate::session_match::SessionMatch;
use crate::status::{
    Applied, Changed, Drain, Drops, FirewallStatus, MemoryStatus, NatStatus, NeighborStatus, PolicyStatus, PortStatus,
    ProgressStatus, RefusalKind, Reload, Reloaded, RestartStatus, RouteStatus, ServiceStatus, SessionLogStatus,
    SessionStatus, StagedStatus, Supposed, Target, TopStatus, TraceNews, TraceStatus, WorkerStatus,
};

/// The API over this appliance.
pub fn router(appliance: Arc<dyn Appliance>) -> Router {
    let described = Arc::new(OnceLock::new());
    let mut calls = calls(&described);
    calls.extend(objects::calls());
    calls.push(events::call());
    described.get_or_init(|| openapi::document(&calls).to_string());
    let routed = calls.into_iter().fold(Router::new(), |router, call| router.route(&call.path.clone(), guarded(call)));
    Router::new()
        .nest("/api/v1", routed)
        .route("/metrics", get(metrics::metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(|| async { refused(RefusalKind::MethodNotAllowed, "the call has another method") })
        .with_state(appliance)
}

/// What is no call of this API; of another version of it, that it is.
async fn unknown(uri: Uri) -> Refused {
    let message = match uri.path().strip_prefix("/api/v") {
        Some(rest) if !rest.starts_with("1/") => "this appliance speaks version 1 of the API, at /api/v1",
        Some(_) | None => "there is no such call; /api/v1/openapi.json has them all",
    };
    refused(RefusalKind::NotFound, message)
}

/// The call for those who may make it.
fn guarded(call: Call) -> MethodRouter<Arc<dyn Appliance>> {
    let least = call.least;
    let gate =
        move |ConnectInfo(user): ConnectInfo<User>, request: Request, next: Next| gate(least, user, request, next);
    let handler = match call.large {
        true => call.handler.route_layer(from_fn_with_state(large_bodies::turn(), large_bodies::in_turn)),
        false => call.handler,
    };
    // The last one is the first to be asked.
    handler.route_layer(middleware::from_fn(gate))
}

/// Lets a call through when the caller's role is at least this. The log has who was refused, and who changed what or took more
/// than a look.
async fn gate(least: Role, user: User, mut request: Request, next: Next) -> Response {
    // The router has taken off what all calls begin with.
    let what = format!("{} /api/v1{}", request.method(), request.uri().path());
    let (who, role) = (user.name(), user.role());
    if role < least {
        log::warn!(target: AUDIT, "{who} ({}) was refused {what}: that takes the role {}", role.name(), least.name());
        let message = format!("{who} has the role {}, and this takes the role {}", role.name(), least.name());
        return refused(RefusalKind::Forbidden, message).into_response();
    }
    if least == Role::Viewer {
        return next.run(request).await;
    }
    if is_of_a_page(request.headers()) {
        log::warn!(target: AUDIT, "{who} ({}) was refused {what}: a web page had it sent", role.name());
        let message =
            "a web page had this sent, and a browser shows its certificate to whichever asks; send it yourself";
        return refused(RefusalKind::Forbidden, message).into_response();
    }
    let asked = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let about = About::default();
    request.extensions_mut().insert(about.clone());
    // A task of its own: what has begun goes on when the caller hangs up, and so does what the log says of it.
    let recorded = tokio::spawn(async move {
        let change = tokio::spawn(next.run(request));
        let response = change.await.unwrap_or_else(|_| with_a_fault());
        log::info!(target: AUDIT, "{who} ({}): {what}{asked}: {}{about}", role.name(), response.status().as_u16());
        response
    });
    recorded.await.unwrap_or_else(|_| with_a_fault())
}

/// The answer to what panicked.
fn with_a_fault() -> Response {
    refused(RefusalKind::Failed, "the change ended with a fault").into_response()
}

/// Whether a browser sends it for a page of somebody else's (Fetch metadata; RFC 6454 section 7): this API has no pages.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let elsewhere = |origin: &str| origin.split_once("://").map(|(_, host)| host) != text("host");
    text("origin").is_some_and(elsewhere) || text("sec-fetch-site").is_some_and(|site| !OWN_SITES.contains(&site))
}

/// `Sec-Fetch-Site` of what no foreign page has sent.
const OWN_SITES: [&str; 2] = ["none", "same-origin"];

/// What a change is about where its path does not say it, for the log; its handler finds out.
#[derive(Clone, Debug, Default)]
pub(super) struct About(Arc<OnceLock<String>>);

impl About {
    /// It is about this: names are quoted by whoever calls, so that they stay on one line.
    pub(super) fn is(&self, what: &str) {
        let _ = self.0.set(what.chars().take(ABOUT_MAX).collect());
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |what| write!(f, " ({what})"))
    }
}

/// Characters of it that the log has.
const ABOUT_MAX: usize = 2_000;

/// What the log calls who did what.
pub(super) const AUDIT: &str = "audit";

/// A look at the state that takes nothing and cannot be refused.
fn look<T: Serialize + JsonSchema + Send + 'static>(
    what: &str,
    says: &str,
    question: impl Fn(&dyn Appliance) -> T + Clone + Send + Sync + 'static,
) -> Call {
    let handler = get(move |State(appliance): Asked| show(appliance, move |appliance| question(appliance)));
    Call::new::<T>(Method::GET, format!("/{what}"), format!("show_{what}"), says, handler)
}

/// A call that does something.
fn act<T: JsonSchema>(what: &str, says: &str, handler: MethodRouter<Arc<dyn Appliance>>) -> Call {
    Call::new::<T>(Method::POST, format!("/{what}"), what, says, handler)
}

/// All calls but those about objects.
fn calls(described: &Arc<OnceLock<String>>) -> Vec<Call> {
    let described = Arc::clone(described);
    let text = || json!({"type": "string"});
    let shown = Call::new::<Vec<SessionStatus>>(Method::GET, "/sessions", "show_sessions", "Sessions", get(sessions))
        .query("limit", json!({"type": "integer", "minimum": 0}), "At most this many")
        .query("match", text(), "Only those that match: protocol=tcp service=shop source=198.51.100.0/24");
    let file = "What refusals, the log and the history call the configuration";
    let name =
        || json!({"type": "string", "maxLength": FILE_NAME_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"});
    vec![
        look::<Vec<PortStatus>>("ports", "Ports: link and counters", |a| a.ports()),
        look::<Vec<WorkerStatus>>("workers", "Workers: load, cycles per packet, policy in force", |a| a.workers()),
        shown,
        look::<Vec<ServiceStatus>>("services", "Virtual services and their backends", |a| a.services()),
        look::<FirewallStatus>("firewall", "Firewall rules and how often each decided", |a| a.firewall()),
        look::<Vec<NeighborStatus>>("neighbors", "Neighbors: addresses, MACs, state", |a| a.neighbors()),
        look::<Vec<RouteStatus>>("routes", "Routes", |a| a.routes()),
        look::<NatStatus>("nat", "Address translation: pools and how far they are used", |a| a.nat()),
        look::<SessionLogStatus>("session-log", "What is told of sessions, to whom, and how much was sent", |a| {
            a.session_log()
        }),
        look::<RestartStatus>(
            "restart",
            "Sessions that the process before has left, and how long the change took",
            |a| a.restart(),
        ),
        look::<Drops>("drops", "Packets that did not come out, by reason", |a| a.drops()),
        look::<TopStatus>("top", "Who opens most sessions and has most packets dropped, lately", |a| a.top()),
        look::<MemoryStatus>("memory", "Packet buffers, sessions, bytes", |a| a.memory()),
        look::<PolicyStatus>("policy", "The policy in force and those before it", |a| a.policy()),
        look::<Option<ProgressStatus>>("progress", "How far the change of policy is that is under way", |a| {
            a.progress()
        }),
        Call::new::<TraceNews>(
            Method::GET,
            "/trace",
            "trace",
            "The ways of the next packets that match, stage by stage, as they come",
            get(watching::trace),
        )
        .in_media("application/jsonl")
        .query("match", text(), "Only packets that match")
        .query("count", json!({"type": "integer", "minimum": 1}), "At most so many")
        .query("seconds", json!({"type": "integer", "minimum": 1}), "At most for so long"),
        Call::new::<String>(
            Method::GET,
            "/capture",
            "capture",
            "Frames of a port, as they come",
            get(watching::capture),
        )
        .in_media("application/x-pcapng")
        .from(Role::Operator)
        .required("port", text(), "Its name")
        .query("direction", json!({"enum": ["in", "out", "both"]}), "Frames that come in, go out, or both")
        .query("drops", text(), "Only frames that are dropped: any, or for one reason of show drops")
        .query("filter", text(), "Only frames that match, in the syntax of pcap-filter(7)")
        .query("snap", json!({"type": "integer", "minimum": 1}), "At most so many bytes of each")
        .query("count", json!({"type": "integer", "minimum": 1}), "At most so many frames")
        .query("size", json!({"type": "integer", "minimum": 1}), "At most so many bytes in all")
        .query("seconds", json!({"type": "integer", "minimum": 1}), "At most for so long"),
        Call::new::<Vec<TraceStatus>>(
            Method::POST,
            "/trace/packets",
            "suppose",
            "The ways of packets that are only supposed",
            post(watching::suppose),
        )
        .takes::<Vec<Supposed>>()
        .large()
        .from(Role::Viewer),
        act::<Plan>("diff", "Says what applying a configuration would change", post(diff))
            .takes_toml()
            .required("file", name(), file)
            .from(Role::Viewer),
        look::<StagedStatus>("staged", "Rules on probation, and what each would have done", |a| a.staged()),
        act::<StagedStatus>("staged", "Puts the rules of a configuration on probation", post(stage))
            .takes_toml()
            .required("file", name(), file)
            .refused(&[409]),
        Call::new::<StagedStatus>(Method::DELETE, "/staged", "unstage", "Ends the probation", delete(unstage)),
        act::<Applied>("apply", "Puts a configuration in force: all of it or nothing", post(apply))
            .takes_toml()
            .required("file", name(), file)
            .query("confirm_within_ms", json!({"type": "integer", "minimum": 1_000, "maximum": 86_400_000}), CONFIRM)
            .refused(&[409]),
        act::<Reloaded>("reload", "Reads a file of the policy again", post(reload))
            .takes::<Reload>()
            .refused(&[404, 409, 422])
            .from(Role::Operator),
        act::<Applied>("confirm", "Keeps the configuration that waits to be confirmed", post(confirm)).refused(&[409]),
        act::<Applied>("rollback", "Puts an earlier generation in force again", post(rollback))
            .query("generation", json!({"type": "integer", "minimum": 0}), "Its number; without it, the one before")
            .refused(&[404, 409, 422]),
        act::<Changed>("drain", "Gives backends no new sessions, or gives them some again", post(drain))
            .takes::<Drain>()
            .refused(&[404])
            .from(Role::Operator),
        act::<Changed>("flush", "Ends the sessions of backends", post(flush))
            .takes::<Target>()
            .refused(&[404])
            .from(Role::Operator),
        Call::new::<Map<String, Value>>(
            Method::GET,
            "/openapi.json",
            "describe",
            "This document",
            get(async move || {
                ([(header::CONTENT_TYPE, "application/json")], described.get().cloned().unwrap_or_default())
            }),
        ),
    ]
}

const CONFIRM: &str = "The policy before comes back unless it is confirmed within this time";

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
    put(appliance, move |appliance| appliance.sessions(&wanted, limit)).await.map(listed)
}

/// What a configuration is called: in refusals, in the log, in the history of generations and on whichever terminal shows them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct FileName(String);

/// Characters of one (`PATH_MAX` of Linux).
const FILE_NAME_MAX: usize = 4_095;

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name.is_empty() || name.chars().count() > FILE_NAME_MAX || name.contains(char::is_control) {
            return Err(format!("`file` is a name of 1 to {FILE_NAME_MAX} characters without control characters"));
        }
        Ok(Self(name))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compared {
    file: FileName,
}

async fn diff(
    State(appliance): Asked,
    compared: Result<Query<Compared>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Query(Compared { file: FileName(file) }) =
        compared.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let text = configuration(&file, &headers, body).await?;
    ask(appliance, move |appliance| appliance.diff(&text, &file)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    file: FileName,
    confirm_within_ms: Option<u64>,
}

async fn apply(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    source: Result<Query<Source>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Query(Source { file: FileName(file), confirm_within_ms }) =
        source.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let confirm_within = confirm_within(confirm_within_ms.map(Duration::from_millis))?;
    let text = configuration(&file, &headers, body).await?;
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

/// How soon a change has to be confirmed, when that is a time one can keep.
pub(super) fn confirm_within(within: Option<Duration>) -> Result<Option<Duration>, Refused> {
    match within.filter(|within| !CONFIRM_WITHIN.contains(within)) {
        None => Ok(within),
        Some(_) => {
            let (least, most) = (CONFIRM_WITHIN.start().as_millis(), CONFIRM_WITHIN.end().as_millis());
            Err(refused(RefusalKind::BadRequest, format!("confirm_within_ms is {least} to {most}")))
        }
    }
}

/// The text of a configuration; `file` names it in refusals.
async fn configuration(file: &str, headers: &HeaderMap, body: Body) -> Result<String, Refused> {
    let body = read(headers, body, large_bodies::BODY_MAX).await?;
    String::from_utf8(body.into())
        .map_err(|error| refused(RefusalKind::BadRequest, format!("{file} is not text: {error}")))
}

async fn stage(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    compared: Result<Query<Compared>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Query(Compared { file: FileName(file) }) =
        compared.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let text = configuration(&file, &headers, body).await?;
    ask(appliance, move |appliance| appliance.stage(&Proposal::apply(&text, &file, &user.name()))).await
}

async fn unstage(State(appliance): Asked) -> Answer {
    ask(appliance, |appliance| appliance.unstage()).await
}

async fn confirm(State(appliance): Asked) -> Answer {
    ask(appliance, |appliance| appliance.confirm()).await
}

/// The body of `reload`, `drain` and `flush`.
const CONCERNED: &str = r#"{"kind": "service" or "backend" (reload: "blocklist"), "name": "..."}"#;

async fn reload(State(appliance): Asked, Extension(about): Extension<About>, headers: HeaderMap, body: Body) -> Answer {
    let what: Reload = json_body(&headers, body, CONCERNED).await?;
    let Reload::Blocklist(name) = &what;
    about.is(&format!("blocklist {name:?}"));
    ask(appliance, move |appliance| appliance.reload(&what)).await
}

async fn drain(State(appliance): Asked, Extension(about): Extension<About>, headers: HeaderMap, body: Body) -> Answer {
    let Drain { target, undo } = json_body(&headers, body, CONCERNED).await?;
    about.is(&format!("{}{}", if undo { "undo, " } else { "" }, quoted(&target)));
    ask(appliance, move |appliance| if undo { appliance.undrain(&target) } else { appliance.drain(&target) }).await
}

async fn flush(State(appliance): Asked, Extension(about): Extension<About>, headers: HeaderMap, body: Body) -> Answer {
    let target: Target = json_body(&headers, body, CONCERNED).await?;
    about.is(&quoted(&target));
    ask(appliance, move |appliance| appliance.flush(&target)).await
}

fn quoted(target: &Target) -> String {
    match target {
        Target::Service(name) => format!("service {name:?}"),
        Target::Backend(name) => format!("backend {name:?}"),
    }
}
