//! A stand-in for Vast.ai on loopback: its REST API over a market that can go wrong in every known way, with
//! boxes that are real processes, a bill, and a ledger of all that happened. `tests/tests/vastai.rs` holds it
//! against the vendor's own client.
//!
//! ```no_run
//! use std::time::Duration;
//! use tests::vast::{Broken, Fault, Load, OfferSpec, Outbid, Script, Settings, StandIn};
//!
//! let market = StandIn::start(Settings::default());
//! market.add_offer(OfferSpec::default());
//! market.add_offer(OfferSpec {
//!     gpu_name: "RTX 3090".to_owned(),
//!     price: 0.2,
//!     script: Script {
//!         load: Load::After(Duration::from_millis(300)),
//!         outbids: vec![Outbid { at: Duration::from_secs(2), min_bid: 0.9, lasts: None }],
//!         ..Script::default()
//!     },
//!     ..OfferSpec::default()
//! });
//! // A launcher runs here, with VAST_URL = market.url() and VAST_API_KEY = market.key() ...
//! market.set_fault(Fault::List(Broken::EmptyBody));
//! let ledger = market.ledger();
//! assert!(ledger.alive("fleet-").is_empty());
//! assert!(ledger.most_alive_per_slot("fleet-").values().all(|most| *most == 1));
//! println!("{} billed", market.charges("fleet-"));
//! ```

mod answer;
mod api;
mod boxes;
mod charges;
mod create;
mod fault;
mod held;
mod instance;
mod ledger;
mod listener;
mod lists;
mod market;
mod money;
mod offer;
mod pace;
mod query;
mod route;
mod row;
mod script;
mod server;
mod shape;
mod stand_in;
pub mod vendor;
mod watcher;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Body, ErrorStyle, Request};
pub use fault::{Broken, Fault};
pub use instance::{Bill, Instance, Phase};
pub use ledger::{Arrival, Caller, Event, Ledger, What, slot};
pub use market::{Container, Effect, Market, Settings};
pub use money::Money;
pub use offer::OfferSpec;
pub use script::{CreateAnswer, DestroyFailure, Load, Outbid, Script, Stage};
pub use shape::{Kind, Shape, shapes};
pub use stand_in::{Rented, StandIn};
