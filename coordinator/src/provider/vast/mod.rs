//! The market of Vast.ai, by its REST interface.

mod client;
mod key;
mod pace;
mod request;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use url::Url;

pub use key::{ApiKey, KEY_VARIABLE, URL_VARIABLE};

use self::client::VastClient;
use self::wire::{Asked, ChargePage, Creation, InstancePage, Offers, OneInstance, User};
use super::{Instance, InstanceId, Offer, Order, Provider, ProviderError, ProviderErrorKind, Wanted};
use crate::dollars::Dollars;

/// The market.
pub const DEFAULT_URL: &str = "https://console.vast.ai";

/// A shorter value of a variable is no secret.
const SECRETS_FROM: usize = 12;

/// Pages that no account has.
const MOST_PAGES: usize = 400;

/// How often a log is asked for that the market said it would fetch, and the pause between.
const LOG_TRIES: (u32, Duration) = (40, Duration::from_millis(500));

/// The market.
#[derive(Debug)]
pub struct Vast {
    client: VastClient,
}

impl Vast {
    /// The market at `base` with an account's key; `pace` is a factor on the pauses between calls, 1 for the market
    /// itself.
    pub fn open(base: Url, key: ApiKey, pace: f64) -> Result<Self, ProviderError> {
        Ok(Self { client: VastClient::new(base, key, pace)? })
    }
}

#[async_trait]
impl Provider for Vast {
    async fn account(&self) -> Result<String, ProviderError> {
        let user: User = self.client.call(&request::user()).await?;
        let id = user.id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        Ok(format!("account {id} at {}", self.client.base().as_str().trim_end_matches('/')))
    }

    async fn offers(&self, wanted: &Wanted) -> Result<Vec<Offer>, ProviderError> {
        let found: Offers = self.client.call(&request::search(wanted)).await?;
        let asked = Asked { wanted, cuda: request::LEAST_CUDA, capability: request::LEAST_CAPABILITY };
        Ok(found.offers.into_iter().filter_map(|offer| offer.read(&asked)).collect())
    }

    async fn create(&self, offer: &Offer, order: &Order) -> Result<InstanceId, ProviderError> {
        let made = self.client.call::<Creation>(&request::create(offer.id, order)).await;
        made.map(|made| InstanceId(made.new_contract)).map_err(|mut error| {
            // A refusal may quote what it was sent.
            for value in order.environment.values().filter(|value| value.len() >= SECRETS_FROM) {
                error.message = error.message.replace(value.as_str(), "***");
            }
            error
        })
    }

    async fn instances(&self) -> Result<Vec<Instance>, ProviderError> {
        let incomplete = |why: String| {
            ProviderError::new(ProviderErrorKind::Unreachable, format!("cannot list the instances: {why}"))
        };
        let (mut rows, mut after) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page: InstancePage = self.client.call(&request::list(after.as_deref())).await?;
            rows.extend(page.instances);
            after = wire::next_page(page.next_token.as_ref());
            if after.is_some() {
                continue;
            }
            if page.total_instances.is_some_and(|total| total > rows.len() as u64) {
                return Err(incomplete(format!(
                    "the market says {} and shows {}",
                    page.total_instances.unwrap_or_default(),
                    rows.len()
                )));
            }
            return Ok(rows.into_iter().map(wire::WireInstance::read).collect());
        }
        Err(incomplete(format!("there are more than {MOST_PAGES} pages")))
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<Instance>, ProviderError> {
        match self.client.call::<OneInstance>(&request::one(id)).await {
            Ok(one) => Ok(one.instances.map(wire::WireInstance::read)),
            Err(error) if error.kind == ProviderErrorKind::NoInstance => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), ProviderError> {
        match self.client.call::<Value>(&request::destroy(id)).await {
            Ok(_) => Ok(()),
            // It is gone already.
            Err(error) if error.kind == ProviderErrorKind::NoInstance => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn raise_bid(&self, id: InstanceId, bid: Dollars) -> Result<(), ProviderError> {
        self.client.call::<Value>(&request::bid(id, bid)).await.map(drop)
    }

    async fn logs(&self, id: InstanceId, lines: u32) -> Result<String, ProviderError> {
        let answer: Value = self.client.call(&request::logs(id, lines)).await?;
        let missing = || {
            ProviderError::new(
                ProviderErrorKind::Failed,
                format!("the log of instance {id} did not come; try again, the box may still be loading"),
            )
        };
        let url = answer.get("result_url").and_then(Value::as_str).ok_or_else(missing)?;
        let (tries, pause) = LOG_TRIES;
        for _ in 0..tries {
            tokio::time::sleep(pause).await;
            if let Some(text) = self.client.fetch(url).await.filter(|text| !text.is_empty()) {
                return Ok(text);
            }
        }
        Err(missing())
    }

    async fn balance(&self) -> Result<Option<Dollars>, ProviderError> {
        let user: User = self.client.call(&request::user()).await?;
        Ok(user.credit.or(user.balance).map(Dollars))
    }

    async fn charges(
        &self,
        since: Timestamp,
    ) -> Result<Option<BTreeMap<InstanceId, Dollars>>, ProviderError> {
        let (mut sums, mut after) = (BTreeMap::new(), None);
        for _ in 0..MOST_PAGES {
            let page: ChargePage =
                self.client.call(&request::charges(since, Timestamp::now(), after.as_deref())).await?;
            wire::add_charges(&mut sums, page.results);
            after = wire::next_page(page.next_token.as_ref());
            if after.is_none() {
                return Ok(Some(sums));
            }
        }
        Err(ProviderError::new(
            ProviderErrorKind::Unreachable,
            "cannot read the charges: there is no last page",
        ))
    }

    fn show_search(&self, wanted: &Wanted) -> String {
        request::search(wanted).show(self.client.base())
    }

    fn show_create(&self, offer: &Offer, order: &Order) -> String {
        request::create(offer.id, &request::masked(order)).show(self.client.base())
    }
}
