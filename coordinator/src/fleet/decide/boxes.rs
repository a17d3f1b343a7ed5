//! The next step for one box.

use super::{Action, Topic, View, budget};
use crate::dollars::Dollars;
use crate::fleet::label::Label;
use crate::fleet::rules::{ANSWER, LONGEST_LOADING, SETTLED};
use crate::fleet::sight::is_about_image;
use crate::fleet::state::Rental;
use crate::provider::{Instance, InstanceId, InstanceStatus};
use crate::status::text::duration;

/// How much more than the bid that holds is offered.
const OUTBID: f64 = 1.05;

/// A container that ended may be on its way up again for so many ticks.
const ENDED_TICKS: f64 = 3.0;

/// The next steps for a box that may exist.
pub fn next(view: &View<'_>, of: &Rental) -> Vec<Action> {
    let Some(instance) = of.instance else { return without_instance(view, of) };
    if of.condemned.is_some() {
        return condemned(view, of, instance);
    }
    let Ok(instances) = &view.sight.instances else { return Vec::new() };
    let Some(seen) = instances.iter().find(|seen| seen.id == instance) else {
        // A list may lag behind what was just made.
        let settled =
            view.since(view.memory.not_before_me(of.ordered_at)) > SETTLED * view.rules.deadlines.created;
        let confirm = Action::Confirm { id: of.intent.id.clone(), instance };
        return if settled { vec![confirm] } else { Vec::new() };
    };
    let mut actions = Vec::new();
    let changed = of.history.is_empty()
        || seen.status != of.status()
        || seen.price.is_some_and(|price| (price.0 - of.price().0).abs() > 1e-9);
    if changed {
        let since = view.memory.changed_at(view.sight.at).max(of.status_since());
        let (id, status, price) = (of.intent.id.clone(), seen.status, seen.price);
        actions.push(Action::Note { id, since, status, price });
    }
    // A status that is new now is judged at the next look.
    if view.ends() || seen.status != of.status() {
        return actions;
    }
    if is_about_image(seen.status, &seen.message) {
        let why = format!("its image cannot be had: {}", seen.message);
        // Another box would fail the same way.
        actions.push(Action::Refuse { why: why.clone() });
        actions.push(Action::Condemn { id: of.intent.id.clone(), why, ban: false });
        return actions;
    }
    actions.extend(judge(view, of, seen));
    actions
}

/// The instance that carries a box's label.
pub fn labelled<'a>(view: &View<'a>, of: &Rental) -> Option<&'a Instance> {
    let label = Label { run: view.run.clone(), slot: of.intent.slot, id: of.intent.id.clone() }.to_string();
    let found = view.sight.instances.as_ref().ok()?.iter().filter(|instance| instance.label == label);
    found.min_by_key(|instance| instance.id)
}

/// An order without an answer: it may have been carried out.
fn without_instance(view: &View<'_>, of: &Rental) -> Vec<Action> {
    let id = of.intent.id.clone();
    match (&view.sight.instances, labelled(view, of)) {
        (_, Some(instance)) => vec![Action::Adopt { id, instance: instance.id }],
        (Ok(_), None)
            if view.since(view.memory.not_before_me(of.ordered_at))
                > ANSWER * view.rules.deadlines.created =>
        {
            vec![Action::GiveUp { id }]
        }
        _ => Vec::new(),
    }
}

/// A box that shall end: asked for until it is gone.
fn condemned(view: &View<'_>, of: &Rental, instance: InstanceId) -> Vec<Action> {
    let id = of.intent.id.clone();
    if let Ok(instances) = &view.sight.instances {
        match instances.iter().find(|seen| seen.id == instance) {
            None => return vec![Action::Confirm { id, instance }],
            Some(seen) if Label::of(view.run, &seen.label).is_none() => {
                return vec![Action::Say(
                    Topic::Foreign,
                    format!(
                        "instance {instance} is to be destroyed, but its label is now {:?}, which is not ours: destroy it \
                     by hand if it is yours",
                        seen.label
                    ),
                )];
            }
            Some(_) => {}
        }
    }
    if view.may_destroy(instance) { vec![Action::Destroy { id, instance }] } else { Vec::new() }
}

/// A wanted box in a status that stands.
fn judge(view: &View<'_>, of: &Rental, seen: &Instance) -> Option<Action> {
    let deadlines = &view.rules.deadlines;
    let stands = view.since(of.status_since());
    let condemn = |why: String, ban: bool| Some(Action::Condemn { id: of.intent.id.clone(), why, ban });
    if of.intent.slot >= view.rules.workers {
        return condemn("the fleet is to be smaller".to_owned(), false);
    }
    if let Some(most) = view.rules.max_price.filter(|most| of.intent.bid.is_none() && of.price() > *most) {
        return condemn(format!("its host raised the price to {} an hour, above {most}", of.price()), true);
    }
    match seen.status {
        InstanceStatus::Created if stands > deadlines.created => {
            condemn(format!("it does not begin to load after {}", duration(stands)), true)
        }
        InstanceStatus::Loading => {
            let stuck = view.since(view.memory.moved_at(of));
            if stuck > deadlines.loading {
                condemn(format!("it loads without progress for {}", duration(stuck)), true)
            } else if stands > LONGEST_LOADING * deadlines.loading {
                condemn(format!("it still loads after {}", duration(stands)), true)
            } else {
                None
            }
        }
        InstanceStatus::Running => running(view, of, stands),
        InstanceStatus::Preempted => preempted(view, of, seen, stands),
        InstanceStatus::Exited if stands > ENDED_TICKS * deadlines.tick => {
            condemn(format!("its container ended ({})", seen.message), of.ready.is_none())
        }
        InstanceStatus::Offline if stands > deadlines.offline => {
            condemn(format!("its machine is out of sight for {}", duration(stands)), true)
        }
        InstanceStatus::Unknown if stands > deadlines.loading => {
            condemn(format!("its status is not known for {}", duration(stands)), true)
        }
        InstanceStatus::Created
        | InstanceStatus::Exited
        | InstanceStatus::Offline
        | InstanceStatus::Unknown => None,
    }
}

/// A box that runs is as good as its worker.
fn running(view: &View<'_>, of: &Rental, stands: f64) -> Option<Action> {
    let (id, deadlines) = (of.intent.id.clone(), &view.rules.deadlines);
    if let Some(why) = view.memory.failures.get(&id) {
        return Some(Action::Condemn { id, why: format!("its worker failed: {why}"), ban: true });
    }
    // Without the queue nothing is known of its worker.
    view.snapshot()?;
    let worker = view.worker_of(of);
    if let Some(worker) = worker
        && worker.banned
    {
        let why = format!(
            "its worker {} is banned after {} failures of the machine",
            worker.id, worker.host_failures
        );
        return Some(Action::Condemn { id, why, ban: true });
    }
    // Nobody could be heard while the queue was not there.
    let heard_for = |moment| view.since(view.memory.not_before_queue(moment));
    let Some((ready_at, _)) = of.ready else {
        if let Some(worker) = worker {
            return Some(Action::Ready { id, worker: worker.id.to_string() });
        }
        let allowed = deadlines.beat + 2.0 * of.intent.fetch_seconds;
        let waited = heard_for(of.status_since());
        if waited > allowed {
            let why = format!("its worker is not heard {} after it ran", duration(waited));
            return Some(Action::Condemn { id, why, ban: true });
        }
        return read_log(view, of, stands);
    };
    let silent = worker
        .map_or_else(|| view.since(ready_at), |worker| worker.last_seen_seconds)
        .min(stands)
        .min(heard_for(ready_at));
    // All at once speaks against the queue, its users or the network; each still has the patience of its worker.
    let patience = if view.all_silent() { 3.0 } else { 1.0 };
    if silent > patience * deadlines.silent {
        let why = format!("its worker is silent for {}", duration(silent));
        return Some(Action::Condemn { id, why, ban: true });
    }
    read_log(view, of, silent)
}

/// After a fifth of the deadline, and then once a fifth.
fn read_log(view: &View<'_>, of: &Rental, waited: f64) -> Option<Action> {
    let pause = view.rules.deadlines.beat / 5.0;
    let due = view.memory.log_read_at.get(&of.intent.id).is_none_or(|at| view.since(*at) > pause);
    let instance = of.instance?;
    (waited > pause && due).then(|| Action::ReadLog { id: of.intent.id.clone(), instance })
}

/// A box that was outbid: offer more while the most allows it, else look elsewhere.
fn preempted(view: &View<'_>, of: &Rental, seen: &Instance, stands: f64) -> Option<Action> {
    let id = of.intent.id.clone();
    let condemn = |why: String| Some(Action::Condemn { id: of.intent.id.clone(), why, ban: false });
    let (Some(most), Some(bid)) = (view.rules.max_bid, of.bid()) else {
        return condemn("it was stopped, and not by us".to_owned());
    };
    let resumed = view.rules.deadlines.resumed;
    let raised_now = of.last_bid.is_some_and(|(at, _)| at >= of.status_since());
    if raised_now {
        let waited = of.last_bid.map_or(0.0, |(at, _)| view.since(at));
        return (waited > resumed)
            .then(|| condemn(format!("it was outbid, and does not resume for {bid} an hour")))
            .flatten();
    }
    let needed = Dollars(seen.min_bid.map_or(bid.0, |least| least.0.max(bid.0)) * OUTBID);
    if needed > most {
        return condemn(format!(
            "it was outbid {} ago: {needed} an hour would be needed, {most} is the most",
            duration(stands)
        ));
    }
    if stands > resumed {
        return condemn(format!("it was outbid {} ago, and no bid is taken", duration(stands)));
    }
    if let Err(why) = budget::may_cost_more(view.fleet, view.rules, needed - bid, view.sight.at) {
        return condemn(format!("it was outbid, and {why}"));
    }
    let instance = of.instance.filter(|_| !view.memory.bidding.contains(&id))?;
    Some(Action::Rebid { id, instance, bid: needed })
}
