//! `GET /events`: what happens, as it happens, one event after the other (server-sent events, HTML section 9.2), until the
//! caller has heard enough or the appliance stops.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::Method;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures_core::Stream;
use tokio::sync::mpsc;

use super::answer::Asked;
use super::call::Call;
use crate::bulletin::{Listener, Told};

/// How often a caller is told that there is nothing to tell.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The call.
pub(super) fn call() -> Call {
    let says = "Tells what happens as it happens: generations, backends, ports, workers, what is nearly used up";
    Call::new::<Told>(Method::GET, "/events", "events", says, get(events)).in_media("text/event-stream")
}

async fn events(State(appliance): Asked) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // The listener is the bound: what waits here is the one event that is on its way.
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(pass_on(appliance.listen(), tell));
    Sse::new(Words(told)).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE))
}

/// Passes events on until nobody hears them or there are no more.
async fn pass_on(mut listener: Listener, tell: mpsc::Sender<Told>) {
    loop {
        let told = tokio::select! {
            told = listener.next() => told,
            () = tell.closed() => return,
        };
        let Some(told) = told else { return };
        if tell.send(told).await.is_err() {
            return;
        }
    }
}

/// Events as they are written.
struct Words(mpsc::Receiver<Told>);

impl Stream for Words {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|told| {
            let told = told?;
            let event = Event::default().event(told.happening.kind());
            // A plain struct with string keys always has a JSON form.
            Some(Ok(event.json_data(&told).unwrap_or_default()))
        })
    }
}
