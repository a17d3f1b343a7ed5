//! The market as a pure state machine: offers, instances, keys, money. It does nothing by itself; whoever
//! holds it says what time it is, and carries out the orders it gives.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::{Answer, Refusal};
use super::create::Order;
use super::fault::{Fault, Faults};
use super::instance::{Bill, Change, Instance};
use super::ledger::{Caller, Event, Ledger, What};
use super::money::Money;
use super::offer::OfferSpec;
use super::pace::Pace;
use super::script::{CreateAnswer, DestroyFailure};

/// How a market is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key of the account.
    pub account_key: String,
    /// What the keys of its instances begin with; shared by no other market.
    pub instance_keys: String,
    /// The account's credit at the start, in dollars.
    pub credit: f64,
    /// Times the vendor's own limits of calls: 1.0 is real, 0.0 no limit.
    pub pace: f64,
    /// The most offers one search gives.
    pub search_limit: usize,
    /// How often the address of a log answers 404 before the text lies there.
    pub log_missing: u32,
    /// How often it answers with nothing, after that.
    pub log_empty: u32,
    /// Its own address, for what it refers to.
    pub url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account_key: format!("{:032x}", rand::random::<u128>()),
            instance_keys: format!("{:032x}", rand::random::<u128>()),
            credit: 100.0,
            pace: 0.02,
            search_limit: 64,
            log_missing: 2,
            log_empty: 0,
            url: String::new(),
        }
    }
}

/// What the holder of a market has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start the container of an instance.
    Start(Box<Container>),
    /// Kill everything in it; its disk stays.
    Kill(u64),
    /// Throw its disk away.
    Erase(u64),
}

/// What is needed to start a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its instance.
    pub instance: u64,
    /// `CONTAINER_API_KEY`.
    pub key: String,
    /// What was ordered.
    pub order: Order,
    /// What the host sets, over everything else.
    pub environment: Vec<(String, String)>,
}

/// The paid and closed account of an instance that is gone.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The instance.
    pub id: u64,
    /// The label it had at the end.
    pub label: Option<String>,
    /// Since the epoch.
    pub created: Duration,
    /// Since the epoch.
    pub gone: Duration,
    /// What it cost.
    pub bill: Bill,
    /// Its hardware.
    pub gpu_name: String,
}

/// The market.
#[derive(Debug)]
pub struct Market {
    /// How it is set up.
    pub settings: Settings,
    /// What goes wrong.
    pub faults: Faults,
    /// What happened.
    pub ledger: Ledger,
    pub(super) offers: BTreeMap<u64, OfferSpec>,
    pub(super) instances: BTreeMap<u64, Instance>,
    pub(super) closed: Vec<Closed>,
    pub(super) pace: Pace,
    /// Polls so far of the logs that were asked for, with whose they are and how many lines.
    pub(super) logs: BTreeMap<u64, (u32, u64, usize)>,
    pub(super) refused: usize,
    pub(super) too_early: usize,
    effects: Vec<Effect>,
    next_id: u64,
    next_machine: u64,
    /// What had been billed when the credit was set.
    billed_before: Money,
}

impl Market {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        Self {
            pace: Pace::new(settings.pace),
            settings,
            faults: Faults::default(),
            ledger: Ledger::default(),
            offers: BTreeMap::new(),
            instances: BTreeMap::new(),
            closed: Vec::new(),
            logs: BTreeMap::new(),
            refused: 0,
            too_early: 0,
            effects: Vec::new(),
            next_id: 10_000_001,
            next_machine: 50_001,
            billed_before: Money::default(),
        }
    }

    /// Offers a machine; the offer's id.
    pub fn add_offer(&mut self, mut spec: OfferSpec) -> u64 {
        if spec.machine_id == 0 {
            spec.machine_id = self.next_machine;
            self.next_machine += 1;
        }
        if spec.host_id == 0 {
            spec.host_id = spec.machine_id;
        }
        let id = self.give_id();
        self.offers.insert(id, spec);
        id
    }

    /// The offers that stand, by id.
    pub fn offers(&self) -> &BTreeMap<u64, OfferSpec> {
        &self.offers
    }

    /// The instances that are listed, by id.
    pub fn instances(&self) -> &BTreeMap<u64, Instance> {
        &self.instances
    }

    /// Switches a fault on.
    pub fn set_fault(&mut self, fault: Fault, now: Duration) {
        if let Fault::Credit(credit) = fault {
            self.advance(now);
            self.settings.credit = credit;
            self.billed_before = self.billed();
        }
        self.faults.set(fault);
    }

    /// What the holder has to do now, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When something happens by itself next.
    pub fn next_event(&self) -> Option<Duration> {
        self.instances.values().filter_map(Instance::next_event).min()
    }

    /// Lets everything happen that is due, in order, and brings all bills up to now.
    pub fn advance(&mut self, now: Duration) {
        loop {
            let events = self.instances.values().filter_map(|one| Some((one.next_event()?, one.id)));
            let Some((at, id)) = events.min().filter(|(at, _)| *at <= now) else { break };
            let Some(instance) = self.instances.get_mut(&id) else { break };
            let changes = instance.happen(at);
            self.note(id, &changes, at);
        }
        self.instances.values_mut().for_each(|instance| instance.pay_until(now));
    }

    /// The container of an instance ended by itself.
    pub fn script_ended(&mut self, id: u64, code: Option<i32>, now: Duration) {
        self.advance(now);
        let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.is_up()) else { return };
        instance.ended = instance.order.ends_with_script();
        let ended = instance.ended;
        self.write(id, What::ScriptEnded(code), now);
        if ended {
            self.note(id, &[Change::Status], now);
        }
    }

    /// What everything cost whose label begins so, to the moment of the last `advance`.
    pub fn charges(&self, label_prefix: &str) -> Money {
        let fits = |label: &Option<String>| label.as_deref().unwrap_or_default().starts_with(label_prefix);
        let closed =
            self.closed.iter().filter(|closed| fits(&closed.label)).map(|closed| closed.bill.total());
        let open = self.instances.values().filter(|one| fits(&one.label)).map(|one| one.bill.total());
        closed.chain(open).sum()
    }

    /// The account's credit in dollars; negative where it owes.
    pub fn credit(&self) -> f64 {
        self.settings.credit - (self.billed().dollars() - self.billed_before.dollars())
    }

    fn billed(&self) -> Money {
        self.charges("")
    }

    /// Carries a create call out.
    pub(super) fn create(
        &mut self,
        offer: u64,
        order: Order,
        request: usize,
        now: Duration,
    ) -> Result<Answer, Refusal> {
        let Some(spec) = self.offers.get(&offer) else { return Err(Refusal::no_ask(404, offer)) };
        if self.credit() <= 0.0 {
            let message = "Your account lacks credit; see the billing page.".to_owned();
            return Err(Refusal { status: 400, error: "insufficient_credit", message });
        }
        if order.disk > spec.disk_space {
            return Err(Refusal::invalid(format!("disk: the machine has {} GB", spec.disk_space)));
        }
        if order.cancel_unavail && order.price.is_some_and(|price| price < spec.min_bid) {
            return Err(Refusal::no_ask(410, offer));
        }
        let answer = spec.script.create;
        match answer {
            CreateAnswer::Taken(status) => {
                self.offers.remove(&offer);
                return Err(Refusal::no_ask(status, offer));
            }
            CreateAnswer::ServerError => return Ok(Answer::text(500, "Internal Server Error")),
            _ => {}
        }
        let Some(spec) = self.offers.remove(&offer) else { return Err(Refusal::no_ask(404, offer)) };
        let (id, key) = self.rent(offer, spec, order, request, now);
        let reply = serde_json::json!({"success": true, "new_contract": id, "instance_api_key": key});
        Ok(match answer {
            CreateAnswer::FailureButExists => Answer::json(serde_json::json!({
                "success": false, "error": "create_failed", "msg": "Something went wrong.", "new_contract": id,
            })),
            CreateAnswer::ReplyLost => Answer::hang_up(),
            CreateAnswer::Late(delay) => Answer { delay, ..Answer::json(reply) },
            _ => Answer::json(reply),
        })
    }

    fn rent(
        &mut self,
        offer: u64,
        spec: OfferSpec,
        order: Order,
        request: usize,
        now: Duration,
    ) -> (u64, String) {
        let id = self.give_id();
        let key = format!("{}-{id}", self.settings.instance_keys);
        let machine = spec.machine_id;
        let instance = Instance::new(id, offer, spec, order, key.clone(), now);
        self.instances.insert(id, instance);
        self.write(id, What::Created { offer, machine, request }, now);
        self.note(id, &[Change::Status], now);
        // What loads in no time runs now.
        self.advance(now);
        (id, key)
    }

    /// Carries a destroy call out; one that fails or lies as the machine's script has it.
    pub(super) fn destroy(&mut self, id: u64, caller: Caller, now: Duration) -> Result<Answer, Refusal> {
        let Some(instance) = self.instances.get_mut(&id) else { return Err(Refusal::no_instance(id)) };
        let failure = instance.destroy_failures.pop_front();
        let granted = matches!(failure, None | Some(DestroyFailure::Lie));
        let changes = if failure.is_none() { instance.leave(now) } else { Vec::new() };
        self.write(id, What::DestroyAsked { caller, granted }, now);
        self.note(id, &changes, now);
        self.advance(now);
        Ok(match failure {
            Some(DestroyFailure::ServerError) => Answer::text(500, "Internal Server Error"),
            Some(DestroyFailure::Refused) => Answer::json(serde_json::json!({
                "success": false, "error": "destroy_failed", "msg": "Could not destroy the instance.",
            })),
            Some(DestroyFailure::Lie) | None => Answer::success(),
        })
    }

    /// Writes down and orders what follows from the changes of an instance.
    pub(super) fn note(&mut self, id: u64, changes: &[Change], at: Duration) {
        for change in changes {
            let Some(instance) = self.instances.get(&id) else { return };
            match change {
                Change::Status => {
                    let status = instance.status(at);
                    self.write(id, What::Status(status), at);
                }
                Change::Start => {
                    self.effects.push(Effect::Start(Box::new(Container {
                        instance: id,
                        key: instance.key.clone(),
                        order: instance.order.clone(),
                        environment: instance.spec.script.environment.clone(),
                    })));
                    self.write(id, What::Started, at);
                }
                Change::Kill => self.effects.push(Effect::Kill(id)),
                Change::Gone => self.close(id, at),
            }
        }
    }

    fn close(&mut self, id: u64, at: Duration) {
        self.write(id, What::Gone, at);
        self.effects.push(Effect::Erase(id));
        let Some(instance) = self.instances.remove(&id) else { return };
        self.closed.push(Closed {
            id,
            label: instance.label,
            created: instance.created,
            gone: at,
            bill: instance.bill,
            gpu_name: instance.spec.gpu_name.clone(),
        });
        if instance.spec.comes_back {
            self.add_offer(instance.spec);
        }
    }

    pub(super) fn write(&mut self, id: u64, what: What, at: Duration) {
        let label = self.instances.get(&id).and_then(|instance| instance.order.label.clone());
        self.ledger.events.push(Event { at, instance: id, label: label.unwrap_or_default(), what });
    }

    fn give_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}
