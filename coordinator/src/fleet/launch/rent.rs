//! Takes an offer for a place of the fleet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use shared::queue::redis::acl::WorkerUser;

use super::Launcher;
use crate::dollars::Dollars;
use crate::fleet::decide::{Topic, affordable};
use crate::fleet::event::{Event, Intent};
use crate::fleet::journal::JournalError;
use crate::fleet::label::{BoxId, Label};
use crate::fleet::money::seconds_between;
use crate::fleet::rank::{Ranked, Work, rank};
use crate::fleet::rights::record;
use crate::provider::{MachineId, Order, ProviderError, ProviderErrorKind};

/// How old a search may be, in seconds: offers come and go.
const OFFERS_HOLD: f64 = 30.0;

/// Offers tried for one place before the next look.
const TRIES: usize = 4;

/// How much above the lowest bid that holds the first one is.
const FIRST_BID: f64 = 1.05;

/// What became of an order.
enum Ordered {
    /// The place is filled, or may be.
    Taken,
    /// Somebody else was quicker: the next offer.
    OfferGone,
    /// Nothing more for now.
    Later,
}

impl Launcher {
    /// Rents a box for a place, trying the best few offers.
    pub(super) async fn rent(&mut self, slot: u32) -> Result<(), JournalError> {
        for _ in 0..TRIES {
            let Some(chosen) = self.choose().await else { return Ok(()) };
            match self.order(slot, &chosen).await? {
                Ordered::Taken | Ordered::Later => return Ok(()),
                Ordered::OfferGone => {}
            }
        }
        Ok(())
    }

    /// The best offer that can be paid for.
    async fn choose(&mut self) -> Option<Ranked> {
        let now = Timestamp::now();
        if self.offers.as_ref().is_none_or(|(at, _)| seconds_between(*at, now) > OFFERS_HOLD) {
            match self.provider.offers(&self.boxes.wanted).await {
                Ok(offers) => self.offers = Some((now, offers)),
                Err(error) => {
                    if error.is_final() {
                        self.memory.refused = Some(error.to_string());
                    }
                    self.say(Topic::Renting, &error.to_string());
                    return None;
                }
            }
        }
        let (_, offers) = self.offers.as_ref()?;
        let work = Work {
            items: self.items_left(),
            boxes: self.rules.workers,
            start_seconds: self.rules.deadlines.start,
        };
        let ranked = rank(offers, &self.run.plan, &self.speeds, work, &self.taken_machines());
        if ranked.is_empty() {
            self.say(
                Topic::Renting,
                "no offer holds what is wanted now; looking again (another --gpu, a higher --max-price or a wider \
                 --region may help)",
            );
            return None;
        }
        let mut why = String::new();
        for chosen in ranked {
            let price = self.price_of(&chosen);
            let mut offer = chosen.offer.clone();
            offer.price = price;
            match affordable(self.fleet(), &self.rules, &offer, chosen.traffic, chosen.fetch_seconds, now) {
                Ok(()) => return Some(chosen),
                Err(reason) => why = reason,
            }
        }
        if self.fleet().live().next().is_none() {
            self.memory.refused = Some(why.clone());
        }
        self.say(Topic::Renting, &format!("no further box is rented: {why}"));
        None
    }

    /// Items that no shard in the queue has finished.
    fn items_left(&self) -> u64 {
        let done: u64 = self.items_by_box.values().sum();
        self.run.plan.counts.items.saturating_sub(done).max(1)
    }

    /// Machines that are not to be rented, or are.
    fn taken_machines(&self) -> BTreeSet<MachineId> {
        let live = self.fleet().live().map(|of| of.intent.machine);
        self.fleet().banned.iter().copied().chain(live).collect()
    }

    /// What an hour will cost: the price, or our bid.
    fn price_of(&self, chosen: &Ranked) -> Dollars {
        match self.rules.max_bid {
            None => chosen.offer.price,
            Some(most) => (chosen.offer.price * FIRST_BID).min(most),
        }
    }

    async fn order(&mut self, slot: u32, chosen: &Ranked) -> Result<Ordered, JournalError> {
        let label = Label { run: self.run.plan.run.clone(), slot, id: BoxId::fresh() };
        let Ok(user) = self.rights.draft(&label) else { return Ok(Ordered::Later) };
        let price = self.price_of(chosen);
        let bid = self.rules.max_bid.map(|_| price);
        self.note(Event::Intent(Intent {
            id: label.id.clone(),
            slot,
            offer: chosen.offer.id,
            machine: chosen.offer.machine,
            gpu: chosen.offer.gpu.clone(),
            gpus: chosen.offer.gpus,
            place: chosen.offer.place.clone(),
            price,
            disk_price: chosen.offer.disk_price,
            traffic: chosen.traffic,
            bid,
            fetch_seconds: chosen.fetch_seconds,
            until: self.rules.until,
            queue_user: user.as_ref().map(record),
        }))
        .await?;
        let order = match self.prepare(&label, user.as_ref(), bid).await {
            Ok(order) => order,
            Err(why) => {
                self.refused(label.id, why.clone(), false).await?;
                self.say(Topic::Renting, &format!("no box is rented: {why}"));
                return Ok(Ordered::Later);
            }
        };
        match self.provider.create(&chosen.offer, &order).await {
            Ok(instance) => {
                self.note(Event::Created { id: label.id, instance }).await?;
                Ok(Ordered::Taken)
            }
            Err(error) => self.failed(label.id, chosen, error).await,
        }
    }

    /// The box's user on the queue, and its order.
    async fn prepare(
        &self,
        label: &Label,
        user: Option<&WorkerUser>,
        bid: Option<Dollars>,
    ) -> Result<Order, String> {
        if let (Some(users), Some(user)) = (&self.rights.users, user) {
            users.make(user).await.map_err(|error| error.to_string())?;
        }
        let environment =
            self.rights.environment(label, self.rules.until, user).map_err(|error| error.to_string())?;
        Ok(Order {
            label: label.to_string(),
            image: self.boxes.image.clone(),
            disk_gb: self.boxes.wanted.disk_gb,
            onstart: self.boxes.onstart.clone(),
            environment,
            bid,
        })
    }

    /// What a creation that failed means for the place.
    async fn failed(
        &mut self,
        id: BoxId,
        chosen: &Ranked,
        error: ProviderError,
    ) -> Result<Ordered, JournalError> {
        if let Some((_, offers)) = &mut self.offers {
            offers.retain(|offer| offer.id != chosen.offer.id);
        }
        let why = error.to_string();
        if let Some(instance) = error.created {
            // It says it failed, and it exists and costs money.
            self.note(Event::Created { id: id.clone(), instance }).await?;
            self.note(Event::Condemned { id, why: format!("its creation failed: {why}"), ban: true }).await?;
            return Ok(Ordered::Taken);
        }
        if error.outcome_unknown() {
            self.say(
                Topic::Failure,
                &format!("{why}; whether the box exists shows in the list of instances"),
            );
            return Ok(Ordered::Taken);
        }
        let gone = error.kind == ProviderErrorKind::OfferGone;
        if error.is_final() {
            self.memory.refused = Some(why.clone());
        }
        self.refused(id, why, false).await?;
        Ok(if gone { Ordered::OfferGone } else { Ordered::Later })
    }
}
