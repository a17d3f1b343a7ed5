//! A run on a page: what `coordinator dashboard` serves.
//!
//! | address | what it answers |
//! |---|---|
//! | `/`, `/assets/...` | the page: no data, no scripts or styles from elsewhere |
//! | `/api/events` | a [`page::Page`] every two seconds, as server-sent events |
//! | `/api/status` | the [`Status`](crate::status::Status), as `status --json` prints it |
//! | `/metrics` | the same for Prometheus |
//! | `POST /api/pause`, `/api/resume`, `/api/drain` | orders to the queue, with the token |
//!
//! Who may read and who may give orders is decided in [`access`].

pub mod access;
mod answers;
mod assets;
pub mod page;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::watch::control::Order;
use crate::watch::feed::Feed;
use access::Access;

/// What all answers are made from.
#[derive(Clone)]
struct Served {
    feed: Feed,
    access: Access,
}

/// The whole site.
pub fn router(feed: Feed, access: Access) -> Router {
    let served = Served { feed, access };
    let may_read = middleware::from_fn_with_state(served.clone(), answers::refuse_strangers);
    let data = Router::new()
        .route("/api/events", get(answers::events))
        .route("/api/status", get(answers::status))
        .route("/metrics", get(answers::metrics))
        .route_layer(may_read);
    let orders = Router::new()
        .route("/api/pause", post(|state, headers| answers::order(state, headers, Order::Pause)))
        .route("/api/resume", post(|state, headers| answers::order(state, headers, Order::Resume)))
        .route("/api/drain", post(|state, headers| answers::order(state, headers, Order::Drain)));
    assets::routes()
        .merge(data)
        .merge(orders)
        .with_state(served)
        .layer(middleware::map_response(assets::guard))
}
