//! Calls about what happens to packets: traces and captures, whose answer goes on as packets come (`pieces`), and questions about packets
//! that are only supposed.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::answer::{Answer, Asked, ask, put, read, refused};
use super::large_bodies;
use super::pieces::told;
use crate::capture::{self, CaptureWanted, Directions, Drops};
use crate::cli::{TRACED_MAX, TRACED_WITHIN};
use crate::status::{Refusal, RefusalKind, Supposed, TraceNews};
use crate::trace::pattern::PacketPattern;
use crate::trace::rehearsal::PACKETS_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceWanted {
    #[serde(rename = "match", default)]
    wanted: String,
    count: Option<u64>,
    seconds: Option<u64>,
}

/// `GET trace`.
pub(super) async fn trace(State(appliance): Asked, wanted: Result<Query<TraceWanted>, QueryRejection>) -> Answer {
    let Query(TraceWanted { wanted, count, seconds }) =
        wanted.map_err(|rejection| refused(RefusalKind::BadRequest, rejection.body_text()))?;
    let wanted: PacketPattern =
        wanted.parse().map_err(|error| refused(RefusalKind::BadRequest, format!("match: {error}")))?;
    let (count, span) = (count.unwrap_or(10), Duration::from_secs(seconds.unwrap_or(60)));
    if !(1..=TRACED_MAX).contains(&count) || !TRACED_WITHIN.contains(&span) {
        let most = TRACED_WITHIN.end().as_secs();
        return Err(refused(RefusalKind::BadRequest, format!("count is 1 to {TRACED_MAX}, seconds are 1 to {most}")));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let feed = put(appliance, move |appliance| appliance.trace(&wanted, count, span)).await?;
    Ok(told("application/jsonl", feed, |news: Vec<TraceNews>| {
        let line = |news| [serde_json::to_vec(&news).unwrap_or_default(), vec![b'\n']].concat();
        news.into_iter().flat_map(line).collect()
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frames {
    port: String,
    #[serde(default)]
    direction: String,
    #[serde(default)]
    drops: String,
    #[serde(default)]
    filter: String,
    snap: Option<usize>,
    count: Option<u64>,
    size: Option<u64>,
    seconds: Option<u64>,
}

/// `GET capture`.
pub(super) async fn capture(State(appliance): Asked, frames: Result<Query<Frames>, QueryRejection>) -> Answer {
    let bad = |why: String| refused(RefusalKind::BadRequest, why);
    let Query(frames) = frames.map_err(|rejection| bad(rejection.body_text()))?;
    let span = Duration::from_secs(frames.seconds.unwrap_or(60));
    let snap = frames.snap.unwrap_or(capture::SNAP_MAX);
    if !capture::LASTS.contains(&span) || !(1..=capture::SNAP_MAX).contains(&snap) {
        let (most, snap) = (capture::LASTS.end().as_secs(), capture::SNAP_MAX);
        return Err(bad(format!("seconds are 1 to {most}, snap is 1 to {snap}")));
    }
    let directions = match frames.direction.as_str() {
        "" => Directions::Both,
        word => word.parse().map_err(|why| bad(format!("direction: {why}")))?,
    };
    let drops = match frames.drops.as_str() {
        "" => Drops::All,
        word => word.parse().map_err(bad)?,
    };
    let wanted = CaptureWanted {
        port: frames.port,
        directions,
        drops,
        filter: frames.filter,
        snap,
        count: frames.count.unwrap_or(u64::MAX),
        size: frames.size.unwrap_or(capture::SIZE),
        span,
    };
    let feed = put(appliance, move |appliance| appliance.capture(&wanted)).await?;
    Ok(told("application/x-pcapng", feed, |bytes| bytes))
}

/// Packets that are judged at once. Of a list of more nothing is kept.
struct Packets(Vec<Supposed>);

impl<'de> Deserialize<'de> for Packets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AFew;

        impl<'de> Visitor<'de> for AFew {
            type Value = Packets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of packets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Packets, A::Error> {
                let mut packets = Vec::new();
                while let Some(packet) = list.next_element()? {
                    if packets.len() == PACKETS_MAX {
                        let message = format_args!("{PACKETS_MAX} packets at most are judged at once");
                        return Err(A::Error::custom(message));
                    }
                    packets.push(packet);
                }
                Ok(Packets(packets))
            }
        }

        from.deserialize_seq(AFew)
    }
}

/// `POST trace/packets`.
pub(super) async fn suppose(State(appliance): Asked, headers: HeaderMap, body: Body) -> Answer {
    let body = read(&headers, body, large_bodies::BODY_MAX).await?;
    ask(appliance, move |appliance| {
        let Packets(packets) = serde_json::from_slice(&body).map_err(|error| {
            Refusal::new(RefusalKind::BadRequest, format!("the body is a list of packets: {error}"))
        })?;
        drop(body);
        appliance.suppose(&packets)
    })
    .await
}
