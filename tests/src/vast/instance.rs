//! One rented box: its states, and what each moment of it costs. Pure: whoever asks says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::create::Order;
use super::money::{MONTH_HOURS, Meter, Money};
use super::offer::OfferSpec;
use super::script::{DestroyFailure, Outbid, Stage};

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// On its way up.
    Loading,
    /// Its container runs.
    Running,
    /// Stopped by its renter.
    Stopped,
    /// Stopped by a higher bid.
    Outbid,
    /// The host is gone.
    Offline,
}

/// What became of an instance at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It says something else about itself now.
    Status,
    /// Its container starts.
    Start,
    /// Its container is killed.
    Kill,
    /// It exists no more.
    Gone,
}

/// What was billed, by what for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bill {
    /// GPU hours, at the price or the bid.
    pub gpu: Meter,
    /// The disk, from creation to destruction.
    pub disk: Meter,
    /// Downloads.
    pub bandwidth: Money,
}

impl Bill {
    /// All of it.
    pub fn total(&self) -> Money {
        self.gpu.amount() + self.disk.amount() + self.bandwidth
    }
}

/// An instance that is listed.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id, `new_contract` in the reply of the create call.
    pub id: u64,
    /// The offer it was made from.
    pub offer_id: u64,
    /// The machine it is on.
    pub spec: OfferSpec,
    /// What the create call asked for.
    pub order: Order,
    /// Its own key, `CONTAINER_API_KEY`.
    pub key: String,
    /// Its label now.
    pub label: Option<String>,
    /// Since the epoch, as all times here.
    pub created: Duration,
    /// Where it is in its life.
    pub phase: Phase,
    /// What of it is to be paid.
    pub bill: Bill,
    /// The bid, $/h without the disk, of an interruptible one.
    pub bid: Option<Money>,
    /// The lowest bid that runs now.
    pub min_bid: Money,
    /// Whether a start is queued for when it is no longer outbid.
    pub queued: bool,
    /// Whether its script ran to its end and took the container along (`runtype` args).
    pub ended: bool,
    /// Its next destroy calls.
    pub destroy_failures: VecDeque<DestroyFailure>,
    /// When it is gone, once it is destroyed.
    pub leaves_at: Option<Duration>,
    /// When its container last started.
    pub started: Option<Duration>,
    loading_since: Duration,
    loaded: bool,
    outbids: VecDeque<Outbid>,
    contest_ends: Option<Duration>,
    seen: Duration,
}

impl Instance {
    /// One that is created now, on its way up unless it was ordered stopped or bids too little.
    pub fn new(id: u64, offer_id: u64, spec: OfferSpec, order: Order, key: String, now: Duration) -> Self {
        let bid = order.price.map(Money::of_dollars);
        let min_bid = Money::of_dollars(spec.min_bid);
        let phase = match bid {
            _ if order.stopped => Phase::Stopped,
            Some(bid) if bid < min_bid => Phase::Outbid,
            _ => Phase::Loading,
        };
        let mut outbids = spec.script.outbids.clone();
        outbids.sort_by_key(|outbid| outbid.at);
        Self {
            id,
            offer_id,
            label: order.label.clone(),
            destroy_failures: spec.script.destroy_failures.iter().copied().collect(),
            spec,
            order,
            key,
            created: now,
            phase,
            bill: Bill::default(),
            bid,
            min_bid,
            queued: false,
            ended: false,
            leaves_at: None,
            started: None,
            loading_since: now,
            loaded: false,
            outbids: outbids.into(),
            contest_ends: None,
            seen: now,
        }
    }

    /// $/h of its GPUs while it runs.
    pub fn base_price(&self) -> Money {
        self.bid.unwrap_or_else(|| Money::of_dollars(self.spec.price))
    }

    /// $/h of its disk, always.
    pub fn disk_price(&self) -> Money {
        Money::of_dollars(self.spec.storage_cost * self.order.disk / MONTH_HOURS)
    }

    /// The stage of its way up, while it is on it.
    pub fn stage(&self, now: Duration) -> Option<Stage> {
        let elapsed = now.saturating_sub(self.loading_since);
        (self.phase == Phase::Loading).then(|| self.spec.script.load.stage(elapsed)).flatten()
    }

    /// `actual_status`.
    pub fn status(&self, now: Duration) -> Option<&'static str> {
        match self.phase {
            Phase::Loading => self.stage(now).and_then(Stage::status),
            Phase::Running if self.ended => Some("exited"),
            Phase::Running => Some("running"),
            Phase::Stopped => Some("stopped"),
            Phase::Outbid => Some("exited"),
            Phase::Offline => Some("offline"),
        }
    }

    /// `status_msg`.
    pub fn message(&self, now: Duration) -> String {
        match self.phase {
            Phase::Loading => self.spec.script.load.message(now.saturating_sub(self.loading_since)),
            Phase::Running if self.ended => "success, exited".to_owned(),
            Phase::Running => format!("success, running {}", self.order.image),
            Phase::Stopped | Phase::Outbid => format!("success, stopped {}", self.order.image),
            Phase::Offline => "host is offline".to_owned(),
        }
    }

    /// `cur_state`, and `next_state` with `intended_status`, which are always the same.
    pub fn states(&self) -> (&'static str, &'static str) {
        match self.phase {
            Phase::Loading | Phase::Running | Phase::Offline => ("running", "running"),
            Phase::Outbid if self.queued => ("stopped", "running"),
            Phase::Stopped | Phase::Outbid => ("stopped", "stopped"),
        }
    }

    /// Whether its container runs, or would if its script had not ended.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Running && self.leaves_at.is_none()
    }

    /// When something happens by itself next.
    pub fn next_event(&self) -> Option<Duration> {
        if self.leaves_at.is_some() {
            return self.leaves_at;
        }
        let load = match self.phase {
            Phase::Loading => {
                let load = &self.spec.script.load;
                let elapsed = self.seen.saturating_sub(self.loading_since);
                // One that loads in no time is up as soon as it exists.
                let change =
                    if load.stage(elapsed).is_none() { Some(elapsed) } else { load.next_change(elapsed) };
                change.map(|change| self.loading_since + change)
            }
            _ => None,
        };
        let outbid = self.bid.and(self.outbids.front()).map(|outbid| self.created + outbid.at);
        let offline = self.spec.script.offline_at.filter(|_| self.phase != Phase::Offline);
        let offline = offline.map(|age| self.created + age);
        [load, outbid, offline, self.contest_ends].into_iter().flatten().min()
    }

    /// Lets everything happen that is due at `at`, the time of its next event.
    pub fn happen(&mut self, at: Duration) -> Vec<Change> {
        self.pay_until(at);
        if self.leaves_at.is_some_and(|leaves| leaves <= at) {
            return vec![Change::Gone];
        }
        let offline = self.spec.script.offline_at.is_some_and(|age| self.created + age <= at);
        if offline && self.phase != Phase::Offline {
            (self.phase, self.contest_ends) = (Phase::Offline, None);
            self.outbids.clear();
            return vec![Change::Kill, Change::Status];
        }
        let mut changes = Vec::new();
        if self.contest_ends.is_some_and(|end| end <= at) {
            self.contest_ends = None;
            self.min_bid = Money::of_dollars(self.spec.min_bid);
            changes.extend(self.settle(at));
        }
        let due = self.bid.and(self.outbids.front()).is_some_and(|outbid| self.created + outbid.at <= at);
        if due && let Some(outbid) = self.outbids.pop_front() {
            self.min_bid = Money::of_dollars(outbid.min_bid);
            self.contest_ends = outbid.lasts.map(|lasts| at + lasts);
            changes.extend(self.settle(at));
        }
        if self.phase == Phase::Loading {
            match self.spec.script.load.stage(at.saturating_sub(self.loading_since)) {
                Some(_) => changes.push(Change::Status),
                None => changes.extend(self.come_up(at)),
            }
        }
        changes
    }

    /// Makes it run or not, as its bid compares to the lowest one.
    fn settle(&mut self, at: Duration) -> Vec<Change> {
        let wins = self.bid.is_none_or(|bid| bid >= self.min_bid);
        match self.phase {
            Phase::Loading | Phase::Running if !wins => {
                (self.phase, self.queued) = (Phase::Outbid, false);
                vec![Change::Kill, Change::Status]
            }
            Phase::Outbid if wins => self.go_up(at),
            _ => Vec::new(),
        }
    }

    /// Starts it: at once where its image lies already.
    fn go_up(&mut self, at: Duration) -> Vec<Change> {
        self.queued = false;
        if self.loaded {
            return self.come_up(at);
        }
        (self.phase, self.loading_since) = (Phase::Loading, at);
        vec![Change::Status]
    }

    fn come_up(&mut self, at: Duration) -> Vec<Change> {
        if !self.loaded {
            let dollars = self.spec.script.downloaded_gb * self.spec.inet_down_cost;
            self.bill.bandwidth += Money::of_dollars(dollars);
        }
        (self.phase, self.loaded, self.ended, self.started) = (Phase::Running, true, false, Some(at));
        vec![Change::Status, Change::Start]
    }

    /// Brings the bill up to a time.
    pub fn pay_until(&mut self, now: Duration) {
        let time = now.saturating_sub(self.seen);
        self.bill.disk.run(self.disk_price(), time);
        if matches!(self.phase, Phase::Running | Phase::Offline) {
            self.bill.gpu.run(self.base_price(), time);
        }
        self.seen = self.seen.max(now);
    }

    /// Stops it at its renter's wish.
    pub fn stop(&mut self, now: Duration) -> Vec<Change> {
        self.pay_until(now);
        match self.phase {
            Phase::Offline | Phase::Stopped => return Vec::new(),
            Phase::Loading | Phase::Running | Phase::Outbid => self.phase = Phase::Stopped,
        }
        self.queued = false;
        vec![Change::Kill, Change::Status]
    }

    /// Starts it at its renter's wish; `None` when that has to wait for a lower bid of somebody else.
    pub fn start(&mut self, now: Duration) -> Option<Vec<Change>> {
        self.pay_until(now);
        if !matches!(self.phase, Phase::Stopped | Phase::Outbid) {
            return Some(Vec::new());
        }
        if self.bid.is_some_and(|bid| bid < self.min_bid) {
            (self.phase, self.queued) = (Phase::Outbid, true);
            return None;
        }
        Some(self.go_up(now))
    }

    /// Changes the bid; without a price to the lowest one that runs.
    pub fn rebid(&mut self, price: Option<f64>, now: Duration) -> Vec<Change> {
        self.pay_until(now);
        self.bid = Some(price.map_or(self.min_bid, Money::of_dollars));
        self.settle(now)
    }

    /// Destroys it: its container dies, and it is gone after `lingers`.
    pub fn leave(&mut self, now: Duration) -> Vec<Change> {
        self.pay_until(now);
        if self.leaves_at.is_none() {
            self.leaves_at = Some(now + self.spec.script.lingers);
        }
        vec![Change::Kill]
    }
}
