//! Takes an offer for a place of the fleet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use shared::queue::redis::acl::WorkerUser;

use super::{Launcher, Step, tell};
use crate::dollars::Dollars;
use crate::fleet::decide::{Need, Topic, affordable};
use crate::fleet::event::{Event, Intent};
use crate::fleet::journal::JournalError;
use crate::fleet::label::{BoxId, Label};
use crate::fleet::money::seconds_between;
use crate::fleet::rank::{Ranked, Work, rank};
use crate::fleet::rights::record;
use crate::fleet::rules::Rules;
use crate::provider::{InstanceId, MachineId, Offer, Order, ProviderError, ProviderErrorKind};

/// How old a search may be, in seconds: offers come and go.
const OFFERS_HOLD: f64 = 30.0;

/// Offers tried for one place before the next look.
const TRIES: usize = 4;

/// How much above the lowest bid that holds the first one is.
const FIRST_BID: f64 = 1.05;

/// Refusals in a row that a person has to look into.
const REFUSALS: u32 = 3;

/// The first bid for an offer, where bids are made.
pub fn first_bid(rules: &Rules, offer: &Offer) -> Option<Dollars> {
    rules.max_bid.map(|most| (offer.price * FIRST_BID).min(most))
}

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
    pub(super) async fn rent(&mut self, slot: u32) -> Result<Step, JournalError> {
        for _ in 0..TRIES {
            let Some(chosen) = self.choose().await else { return Ok(Step::Taken) };
            match self.order(slot, &chosen).await? {
                Ordered::Taken => return Ok(Step::Ordered),
                Ordered::Later => return Ok(Step::Taken),
                Ordered::OfferGone => {}
            }
        }
        Ok(Step::Taken)
    }

    /// The best offer that can be paid for.
    async fn choose(&mut self) -> Option<Ranked> {
        let now = Timestamp::now();
        if self.offers.as_ref().is_none_or(|(at, _)| seconds_between(*at, now) > OFFERS_HOLD) {
            match self.provider.offers(&self.boxes.wanted).await {
                Ok(offers) => self.offers = Some((now, offers)),
                Err(error) => {
                    // An empty answer for a while: a market that fails is not asked at every look.
                    self.offers = Some((now, Vec::new()));
                    self.count_refusal(&error);
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
            let bans = match self.fleet().banned.len() {
                0 => String::new(),
                count => format!("; {count} machines failed before, --forget-bans tries them again"),
            };
            self.say(
                Topic::Renting,
                &format!(
                    "no offer holds what is wanted now; looking again (another --gpu, a higher --max-price or a \
                     wider --region may help{bans})"
                ),
            );
            return None;
        }
        let mut why = String::new();
        for chosen in ranked {
            let need = Need {
                price: self.hour_of(&chosen),
                traffic: chosen.traffic,
                fetch_seconds: chosen.fetch_seconds,
            };
            match affordable(self.fleet(), &self.rules, self.memory.balance, need, now) {
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

    /// What an hour will cost in all: the price, or our bid and the disk.
    fn hour_of(&self, chosen: &Ranked) -> Dollars {
        match first_bid(&self.rules, &chosen.offer) {
            None => chosen.offer.price,
            Some(bid) => bid + chosen.offer.disk_price,
        }
    }

    /// Reasons that another offer does not change end the renting when they come again and again.
    fn count_refusal(&mut self, error: &ProviderError) {
        self.refusals = if error.is_final() { self.refusals + 1 } else { 0 };
        if self.refusals >= REFUSALS {
            self.memory.refused = Some(error.to_string());
        }
    }

    async fn order(&mut self, slot: u32, chosen: &Ranked) -> Result<Ordered, JournalError> {
        let label = Label { run: self.run.plan.run.clone(), slot, id: BoxId::fresh(&self.tag) };
        let Ok(user) = self.rights.draft(&label) else { return Ok(Ordered::Later) };
        let bid = first_bid(&self.rules, &chosen.offer);
        let intent = Intent {
            id: label.id.clone(),
            slot,
            offer: chosen.offer.id,
            machine: chosen.offer.machine,
            gpu: chosen.offer.gpu.clone(),
            gpus: chosen.offer.gpus,
            place: chosen.offer.place.clone(),
            price: self.hour_of(chosen),
            disk_price: chosen.offer.disk_price,
            traffic: chosen.traffic,
            bid,
            fetch_seconds: chosen.fetch_seconds,
            until: self.rules.until,
            queue_user: user.as_ref().map(record),
        };
        let intent = Event::Intent(intent);
        let said = tell::sentence(&intent, self.fleet());
        self.journal.intend(intent).await?;
        if let Some(said) = said {
            tell::line(&said);
        }
        let order = match self.prepare(&label, user.as_ref(), bid).await {
            Ok(order) => order,
            Err(why) => {
                self.refused(label.id, why.clone()).await?;
                self.say(Topic::Renting, &format!("no box is rented: {why}"));
                return Ok(Ordered::Later);
            }
        };
        match self.provider.create(&chosen.offer, &order).await {
            Ok(instance) => {
                self.refusals = 0;
                self.made(label.id, instance).await?;
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

    /// A box that exists. Where the fleet was ended meanwhile nobody else knows its number: it is destroyed here.
    async fn made(&mut self, id: BoxId, instance: InstanceId) -> Result<(), JournalError> {
        let written = self.note(Event::Created { id, instance }).await;
        if matches!(written, Err(JournalError::Ended { .. }))
            && let Err(error) = self.provider.destroy(instance).await
        {
            tell::line(&format!(
                "error: instance {instance} was made after the end and is not destroyed: {error}"
            ));
        }
        match written {
            // The box stands in memory, and is written when the store answers.
            Err(error) if error.may_pass() => Ok(()),
            written => written,
        }
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
            self.made(id.clone(), instance).await?;
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
        self.count_refusal(&error);
        self.refused(id, why).await?;
        Ok(if gone { Ordered::OfferGone } else { Ordered::Later })
    }
}
