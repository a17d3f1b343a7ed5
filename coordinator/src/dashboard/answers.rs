//! Answers that are made from what is seen.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Serialize;
use shared::exit::ExitCode;

use super::Served;
use super::access::Refusal;
use super::page::{Page, Rights};
use crate::metrics;
use crate::watch::control::Order;

/// A line that says nothing, so that a page notices a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Lets those through who may see the run.
pub async fn refuse_strangers(State(served): State<Served>, request: Request, next: Next) -> Response {
    if served.access.may_read(request.headers()) {
        return next.run(request).await;
    }
    unproven("this takes the dashboard's token: `Authorization: Bearer ...`")
}

/// What is seen, again and again.
pub async fn events(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut seen = served.feed.watch();
    // The first event is what was seen last.
    seen.mark_changed();
    let rights = Rights {
        takes_orders: served.access.takes_orders() && served.feed.control().is_possible(),
        reads_freely: served.access.reads_freely(&headers),
    };
    let events = stream::unfold((seen, served.feed), move |(mut seen, feed)| async move {
        seen.changed().await.ok()?;
        let json = serde_json::to_string(&Page::of(&seen.borrow_and_update(), rights)).ok()?;
        Some((Ok(Event::default().data(json)), (seen, feed)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// The status as `status --json` prints it.
pub async fn status(State(served): State<Served>) -> Response {
    json(StatusCode::OK, &served.feed.fresh().await.status)
}

/// The status for Prometheus.
pub async fn metrics(State(served): State<Served>) -> Response {
    let seen = served.feed.fresh().await;
    let text = metrics::render(&seen);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// Gives an order to the queue, for those who may.
pub async fn order(State(served): State<Served>, headers: HeaderMap, order: Order) -> Response {
    match served.access.may_order(&headers) {
        Ok(()) => {}
        Err(Refusal::ReadOnly) => {
            let why = "this dashboard is read-only: start it with FLEET_DASHBOARD_TOKEN to give orders";
            return refused(StatusCode::FORBIDDEN, why);
        }
        Err(Refusal::Unproven) => {
            return unproven("orders take the dashboard's token: `Authorization: Bearer ...`");
        }
    }
    let given = served.feed.control().give(order).await;
    served.feed.look_now();
    match given {
        Ok(()) => json(StatusCode::OK, &Done { done: order }),
        Err(failure) => {
            let status = match failure.code {
                ExitCode::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
                ExitCode::Usage => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refused(status, &format!("{:#}", failure.error))
        }
    }
}

#[derive(Serialize)]
struct Done {
    done: Order,
}

#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
}

fn unproven(why: &str) -> Response {
    let mut response = refused(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
    response
}

fn refused(status: StatusCode, why: &str) -> Response {
    json(status, &Refused { error: why })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => {
            (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
