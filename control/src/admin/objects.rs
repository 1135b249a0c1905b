//! The calls that read and change single objects of the policy: `/config/KIND` and `/config/KIND/NAME`, with the kinds and
//! their forms as `config` has them, and `/transaction` for several changes as one.
//!
//! | call | does |
//! |---|---|
//! | `GET /config/KIND` | the objects of a kind, each with its tag |
//! | `POST /config/KIND?before=NAME&after=NAME&within=NAME` | adds one |
//! | `GET /config/KIND/NAME` | one of them; its tag is the `ETag` |
//! | `PUT`, `PATCH`, `DELETE /config/KIND/NAME`, with `If-Match` | replaces, changes, removes it; `PUT` also adds one |
//! | `POST /transaction` | several changes, all or nothing |
//! | `GET /schemas`, `GET /schemas/KIND` | what an object of a kind may hold |

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{QueryRejection, RawPathParamsRejection};
use axum::extract::{ConnectInfo, Query, RawPathParams, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, patch, post, put};
use config::{Form, forms};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::Appliance;
use super::answer::{self, Answer, Asked, Refused, ask, refused};
use super::call::{Call, Shape};
use super::openapi::{alone, kinds, of_kind};
use super::routes::{About, confirm_within};
use super::user::User;
use crate::amendment::{Amended, Amendment, CHANGES_MAX, Change, ObjectStatus, Tags, own_name};
use crate::status::RefusalKind;

/// Several changes that come into force together, or not at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Transaction {
    /// The changes, each to what those before it have made.
    #[schemars(length(max = CHANGES_MAX))]
    changes: Vec<Change>,
    /// They are taken back unless they are confirmed within this time.
    #[serde(default)]
    #[schemars(range(min = 1_000, max = 86_400_000))]
    confirm_within_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sited {
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    within: String,
}

/// All calls about objects.
pub(super) fn calls() -> Vec<Call> {
    let mut calls = vec![
        Call::new::<Vec<String>>(
            Method::GET,
            "/schemas",
            "list_schemas",
            "The kinds of objects there can be",
            get(async || Json(kinds().map(|form| form.kind.as_str()).collect::<Vec<_>>())),
        ),
        Call::new::<Map<String, Value>>(
            Method::GET,
            "/schemas/{kind}",
            "get_schema",
            "The JSON Schema of a kind of object",
            get(schema_of),
        )
        .part("kind", "The kind: firewall.rule"),
        Call::new::<Amended>(
            Method::POST,
            "/transaction",
            "transaction",
            "Makes several changes of objects, all or nothing, as one generation",
            post(transaction),
        )
        .takes::<Transaction>()
        .header("If-Match", "The state of the whole policy that is meant: the ETag of any /config collection")
        .refused(&[404, 409, 412, 422, 428]),
    ];
    let turn = Arc::new(Semaphore::new(1));
    calls.extend(kinds().flat_map(|form| of(form, &turn)));
    calls
}

/// The calls of one kind. A list, which is copied before it is written, is made when it has the `turn` among all of them.
fn of(form: &'static Form, turn: &Arc<Semaphore>) -> Vec<Call> {
    let kind = form.kind.as_str();
    let collection = format!("/config/{kind}");
    let word = kind.replace('.', "_");
    let (names, says): (&[&str], String) = match form.levels {
        0 => (&[], format!("the [{kind}] table")),
        1 => (&["name"], format!("one {kind}")),
        2 => (&["within", "name"], format!("one {kind}")),
        _ => (&["within", "inner", "name"], format!("one {kind}")),
    };
    let item = names.iter().fold(collection.clone(), |path, name| format!("{path}/{{{name}}}"));
    let object = move || -> Shape { Box::new(move |_| of_kind(kind)) };
    let part = |call: Call| {
        let says = |name: &str| match name {
            "within" => "The object it belongs to",
            "inner" => "The one of that which it belongs to",
            _ => "Its name, or its place from 1 where it has none",
        };
        names.iter().fold(call, |call, name| call.part(name, says(name))).refused(&[404])
    };
    let if_match = "The state that is meant: its ETag, or *";
    let changing = |call: Call| part(call).header("If-Match", if_match).refused(&[409, 412, 422, 428]);
    let mut calls = Vec::new();
    if form.levels > 0 {
        let turn = Arc::clone(turn);
        calls.push(
            Call::new::<Vec<ObjectStatus>>(
                Method::GET,
                collection.clone(),
                format!("list_{word}"),
                format!("All objects of the kind {kind}, in their order"),
                get(move |state: Asked| list(state, kind, Arc::clone(&turn))),
            )
            .gives(Box::new(move |_| listed(kind))),
        );
    }
    if form.several {
        let call = Call::new::<Amended>(
            Method::POST,
            collection,
            format!("create_{word}"),
            format!("Adds a {kind}"),
            post(move |state: Asked, user: ConnectInfo<User>, about, sited, headers: HeaderMap, body: Body| {
                create(state, (user, about), kind, sited, headers, body)
            }),
        )
        .takes_shape(object())
        .query("before", json!({"type": "string"}), "It comes right before this one")
        .query("after", json!({"type": "string"}), "It comes right behind this one; without either, behind all")
        .done(201, Some(200))
        .refused(&[404, 409, 422]);
        calls.push(match form.levels {
            1 => call,
            _ => call.required(
                "within",
                json!({"type": "string"}),
                "The object it belongs to: its name, as its place has it",
            ),
        });
    }
    calls.push(part(
        Call::new::<Map<String, Value>>(
            Method::GET,
            item.clone(),
            format!("get_{word}"),
            format!("Reads {says}"),
            get(move |state: Asked, names| read(state, kind, names)),
        )
        .gives(object()),
    ));
    calls.push(
        changing(
            Call::new::<Amended>(
                Method::PUT,
                item.clone(),
                format!("replace_{word}"),
                format!("Replaces {says}, or adds it where it is not there"),
                put(move |state: Asked, user: ConnectInfo<User>, names, headers: HeaderMap, body: Body| {
                    replace(state, user, kind, names, headers, body)
                }),
            )
            .takes_shape(object()),
        )
        .done(200, Some(201)),
    );
    calls.push(changing(
        Call::new::<Amended>(
            Method::PATCH,
            item.clone(),
            format!("change_{word}"),
            format!("Changes some keys of {says}; null removes one (RFC 7396)"),
            patch(move |state: Asked, user: ConnectInfo<User>, names, headers: HeaderMap, body: Body| {
                merge(state, user, kind, names, headers, body)
            }),
        )
        .takes::<Map<String, Value>>(),
    ));
    calls.push(changing(Call::new::<Amended>(
        Method::DELETE,
        item,
        format!("delete_{word}"),
        format!("Removes {says}"),
        delete(move |state: Asked, user: ConnectInfo<User>, names, headers: HeaderMap| {
            remove(state, user, kind, names, headers)
        }),
    )));
    calls
}

/// What a list of objects of a kind is.
fn listed(kind: &str) -> Schema {
    let text = json!({ "type": "string" });
    let schema = json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": { "kind": text, "name": text, "etag": text, "object": of_kind(kind) },
            "required": ["kind", "name", "etag", "object"],
        },
    });
    Schema::try_from(schema).unwrap_or_default()
}

type Names = Result<RawPathParams, RawPathParamsRejection>;

/// The name in a path: all its parts, the outermost first.
fn name(names: Names) -> Result<String, Refused> {
    let names = names.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    Ok(names.iter().map(|(_, part)| part).collect::<Vec<_>>().join("/"))
}

fn tags(headers: &HeaderMap) -> Result<Option<Tags>, Refused> {
    let Some(written) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let written = written.to_str().map_err(|_| refused(RefusalKind::BadRequest, "If-Match is not text"))?;
    Ok(Some(Tags::new(written)))
}

async fn schema_of(names: Names) -> Answer {
    let kind = name(names)?;
    let form = forms().get(&kind).filter(|_| !kind.is_empty());
    let form = form.ok_or_else(|| refused(RefusalKind::NotFound, format!("there is no kind of object \"{kind}\"")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], alone(form).to_string()).into_response())
}

async fn list(State(appliance): Asked, kind: &'static str, turn: Arc<Semaphore>) -> Answer {
    // Never closed.
    let turn = turn.acquire_owned().await;
    let (objects, etag) = answer::put(appliance, move |appliance| {
        let _until_it_is_written = turn;
        let configuration = appliance.configuration();
        // Plain maps always have a form, and memory takes it.
        let written = serde_json::to_vec(&configuration.objects(kind)?).unwrap_or_default();
        Ok((written, configuration.etag()))
    })
    .await?;
    Ok(tagged(&etag, ([(header::CONTENT_TYPE, "application/json")], objects)))
}

async fn read(State(appliance): Asked, kind: &'static str, names: Names) -> Answer {
    let name = name(names)?;
    let there = answer::put(appliance, move |appliance| appliance.configuration().object(kind, &name)).await?;
    Ok(tagged(&there.etag, Json(there.object)))
}

async fn create(
    State(appliance): Asked,
    (ConnectInfo(user), Extension(about)): (ConnectInfo<User>, Extension<About>),
    kind: &'static str,
    sited: Result<Query<Sited>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Query(Sited { before, after, within }) =
        sited.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let object = object(&headers, body).await?;
    about.is(&format!("{:?}", own_name(&object)?));
    let change = Change::Create { kind: kind.to_owned(), within, object, before, after };
    change_one(appliance, &user, change, StatusCode::CREATED).await
}

async fn replace(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    kind: &'static str,
    names: Names,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (name, if_match) = (name(names)?, tags(&headers)?);
    let object = object(&headers, body).await?;
    let wanted = name.clone();
    let there = answer::put(Arc::clone(&appliance), move |appliance| {
        Ok(appliance.configuration().object(kind, &wanted).is_ok())
    })
    .await?;
    let kind = kind.to_owned();
    // Whoever means a state of it does not want a new one (RFC 9110 section 13.1.1).
    if there || if_match.is_some() {
        if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == "*") {
            return Err(refused(RefusalKind::PreconditionFailed, format!("there is a {kind} {name} already")));
        }
        return change_one(appliance, &user, Change::Replace { kind, name, object, if_match }, StatusCode::OK).await;
    }
    let within = match forms().get(&kind) {
        Some(form) if form.several => {
            let own = name.splitn(form.levels.max(1), '/').last().unwrap_or_default();
            let within = name.strip_suffix(own).unwrap_or_default().trim_end_matches('/');
            let called = own_name(&object)?;
            if called.is_empty() {
                let message = format!("there is no {kind} {name}; one that is called by its place is added with POST");
                return Err(refused(RefusalKind::BadRequest, message));
            }
            if called != own {
                let message = format!("the object is called \"{called}\", and its place \"{own}\"");
                return Err(refused(RefusalKind::BadRequest, message));
            }
            within
        }
        Some(_) | None => name.as_str(),
    };
    let change = Change::Create { kind, within: within.to_owned(), object, before: None, after: None };
    change_one(appliance, &user, change, StatusCode::CREATED).await
}

async fn merge(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    kind: &'static str,
    names: Names,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (name, if_match) = (name(names)?, tags(&headers)?);
    let object = object(&headers, body).await?;
    let change = Change::Merge { kind: kind.to_owned(), name, object, if_match };
    change_one(appliance, &user, change, StatusCode::OK).await
}

async fn remove(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    kind: &'static str,
    names: Names,
    headers: HeaderMap,
) -> Answer {
    let change = Change::Delete { kind: kind.to_owned(), name: name(names)?, if_match: tags(&headers)? };
    change_one(appliance, &user, change, StatusCode::OK).await
}

async fn transaction(
    State(appliance): Asked,
    ConnectInfo(user): ConnectInfo<User>,
    Extension(about): Extension<About>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let wanted = r#"{"changes": [{"do": "create", "kind": "...", "object": {...}}, ...]}"#;
    let Transaction { changes, confirm_within_ms } = answer::json(&headers, body, wanted).await?;
    if changes.len() > CHANGES_MAX {
        return Err(refused(RefusalKind::BadRequest, format!("{CHANGES_MAX} changes at most are made at once")));
    }
    let confirm_within = confirm_within(confirm_within_ms.map(Duration::from_millis))?;
    let amendment = Amendment { changes, if_match: tags(&headers)?, who: user.name(), confirm_within };
    about.is(&amendment.in_words());
    ask(appliance, move |appliance| appliance.amend(&amendment)).await
}

async fn object(headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Refused> {
    answer::json(headers, body, "the keys of the object, {\"name\": \"...\", ...}").await
}

async fn change_one(appliance: Arc<dyn Appliance>, user: &User, change: Change, done: StatusCode) -> Answer {
    let amendment = Amendment { changes: vec![change], if_match: None, who: user.name(), confirm_within: None };
    let amended = answer::put(appliance, move |appliance| appliance.amend(&amendment)).await?;
    let left = amended.objects.first().map(|it| (it.etag.clone(), location(it)));
    let Some((etag, place)) = left else { return Ok(Json(amended).into_response()) };
    let mut response = tagged(&etag, (done, Json(amended)));
    if done == StatusCode::CREATED
        && let Ok(place) = HeaderValue::from_str(&place)
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Where an object is read.
fn location(object: &ObjectStatus) -> String {
    let levels = forms().get(&object.kind).map_or(0, |form| form.levels);
    let parts = object.name.splitn(levels.max(1), '/').filter(|part| !part.is_empty());
    parts.fold(format!("/api/v1/config/{}", object.kind), |path, part| {
        format!("{path}/{}", crate::client::encoded(part, "-._~"))
    })
}

fn tagged(etag: &str, response: impl IntoResponse) -> Response {
    ([(header::ETAG, etag)], response).into_response()
}
