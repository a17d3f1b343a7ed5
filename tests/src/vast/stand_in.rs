//! What a test holds: a market that is served.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::answer::{Body, Request};
use super::boxes::Boxes;
use super::fault::{Fault, Faults};
use super::held::Held;
use super::ledger::Ledger;
use super::market::{Market, Settings};
use super::money::Money;
use super::offer::OfferSpec;
use super::server::{Server, url_of};

/// A running stand-in. It ends when dropped, and every box with it; should the test be killed, they die too.
#[derive(Debug)]
pub struct StandIn {
    url: String,
    key: String,
    held: Arc<Held>,
    // Ends before the boxes do: no request may start one that nobody would end.
    server: Option<Server>,
}

/// An instance as a test sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rented {
    /// Its id.
    pub id: u64,
    /// Its label now.
    pub label: String,
    /// The machine it is on.
    pub machine_id: u64,
    /// The offer it was made from.
    pub offer_id: u64,
    /// `actual_status`.
    pub status: Option<&'static str>,
    /// Whether it is on its way out: destroyed, but listed yet.
    pub leaving: bool,
    /// Its home, which survives a stop.
    pub folder: PathBuf,
    /// The process group of its script, until it is killed.
    pub group: Option<u32>,
    /// What it cost so far.
    pub cost: Money,
}

impl StandIn {
    /// Starts one on a free port of loopback.
    ///
    /// # Panics
    /// When there is none, or no bash.
    pub fn start(settings: Settings) -> Self {
        Self::start_on(settings, 0)
    }

    /// The same on a port.
    ///
    /// # Panics
    /// When it is taken, or there is no bash.
    pub fn start_on(settings: Settings, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let url = url_of(listener.local_addr().unwrap());
        let settings = Settings { url: url.clone(), ..settings };
        let key = settings.account_key.clone();
        let boxes = Boxes::new(&settings.instance_keys).unwrap();
        let held = Held::new(Market::new(settings), boxes);
        let server = Some(Server::start(listener, Arc::clone(&held)).unwrap());
        Self { url, key, held, server }
    }

    /// The address that stands for `https://console.vast.ai`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The account's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Offers a machine; the offer's id.
    pub fn add_offer(&self, spec: OfferSpec) -> u64 {
        self.held.with(|market, _, _| market.add_offer(spec))
    }

    /// Rents an offer as somebody might at the vendor's web page, with this body of a create call; the
    /// instance's id, unless the call was refused. The ledger has it as a request of the account.
    pub fn rent(&self, offer: u64, body: &Value) -> Option<u64> {
        let request = Request {
            method: "PUT".to_owned(),
            path: format!("/api/v0/asks/{offer}/"),
            body: body.to_string(),
            key: Some(self.key.clone()),
            ..Request::default()
        };
        match self.held.with(|market, _, now| market.answer(&request, now)).body {
            Body::Json(reply) => reply.get("new_contract")?.as_u64(),
            _ => None,
        }
    }

    /// The ids of the offers that stand, with their machines.
    pub fn offers(&self) -> Vec<(u64, u64)> {
        self.held
            .with(|market, _, _| market.offers().iter().map(|(id, spec)| (*id, spec.machine_id)).collect())
    }

    /// Switches a fault of the whole account on.
    pub fn set_fault(&self, fault: Fault) {
        self.held.with(|market, _, now| market.set_fault(fault, now));
    }

    /// Ends all faults of the account. Credit stays what it is.
    pub fn clear_faults(&self) {
        self.held.with(|market, _, _| market.faults = Faults::default());
    }

    /// All that happened so far.
    pub fn ledger(&self) -> Ledger {
        self.held.with(|market, _, _| market.ledger.clone())
    }

    /// What everything cost so far whose label begins so, with what is gone already.
    pub fn charges(&self, label_prefix: &str) -> Money {
        self.held.with(|market, _, _| market.charges(label_prefix))
    }

    /// The account's credit in dollars.
    pub fn credit(&self) -> f64 {
        self.held.with(|market, _, _| market.credit())
    }

    /// The instances that exist now.
    pub fn instances(&self) -> Vec<Rented> {
        self.held.with(|market, boxes, now| {
            let rented = market.instances().values().map(|instance| Rented {
                id: instance.id,
                label: instance.label.clone().unwrap_or_default(),
                machine_id: instance.spec.machine_id,
                offer_id: instance.offer_id,
                status: instance.status(now),
                leaving: instance.leaves_at.is_some(),
                folder: boxes.home(instance.id),
                group: boxes.group(instance.id),
                cost: instance.bill.total(),
            });
            rented.collect()
        })
    }

    /// What an instance printed, also one that is gone.
    pub fn log(&self, instance: u64) -> String {
        self.held.with(|_, boxes, _| boxes.log(instance))
    }

    /// Kills what runs in a box, as a crash would: its instance is listed as before.
    pub fn crash(&self, instance: u64) {
        self.held.with(|_, boxes, _| boxes.kill(instance));
    }

    /// The process that ends the boxes should this one be killed.
    pub fn watcher(&self) -> u32 {
        self.held.with(|_, boxes, _| boxes.watcher())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server = None;
        self.held.end();
    }
}
