//! How a fleet comes to its end: the run is finished, the money is, or a person says so.

use jiff::Timestamp;
use shared::queue::RunState;

use super::{Action, View, budget};
use crate::fleet::sight::Ending;
use crate::fleet::state::Rental;

/// The next steps towards the end, if it comes.
pub fn next(view: &View<'_>) -> Vec<Action> {
    if let Some(why) = &view.memory.ending {
        return ending(view, &why.to_string());
    }
    if view.memory.interrupted {
        return vec![Action::End(Ending::Interrupted)];
    }
    if let Some(snapshot) = view.snapshot() {
        let shards = snapshot.shards;
        let open = shards.pending + shards.delayed + shards.leased;
        if open == 0 && shards.total() > 0 {
            let ending = match shards.dead {
                0 => Ending::Finished,
                dead => Ending::Dead(dead),
            };
            return vec![Action::End(ending)];
        }
    }
    let exhausted = || budget::exhausted(view.fleet, view.rules, view.memory.balance, view.sight.at);
    if let Some((at, why)) = &view.fleet.drained {
        return draining(view, *at, why);
    }
    if view.fleet.live().next().is_none() {
        let why = exhausted().or_else(|| view.memory.refused.clone());
        return why.map(|why| Action::End(Ending::Exhausted(why))).into_iter().collect();
    }
    if let Some(why) = exhausted() {
        return vec![Action::Drain { why }];
    }
    let dear = budget::too_dear(view.fleet, view.rules).filter(|of| of.instance.is_some());
    dear.map(|of| condemn(of, "all boxes together cost more than --max-rate allows".to_owned()))
        .into_iter()
        .collect()
}

/// Workers were told to exit.
fn draining(view: &View<'_>, since: Timestamp, why: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    if view.snapshot().is_some_and(|snapshot| snapshot.state != RunState::Draining) {
        actions.push(Action::DrainAgain);
    }
    actions.extend(drained(view, since));
    if !view.fleet.live().any(Rental::is_wanted) {
        actions.push(Action::End(Ending::Exhausted(why.to_owned())));
    }
    actions
}

/// Every box is condemned; once none is left, that is written down.
fn ending(view: &View<'_>, why: &str) -> Vec<Action> {
    let wanted = view.fleet.live().filter(|of| of.is_wanted() && of.instance.is_some());
    let mut actions: Vec<Action> = wanted.map(|of| condemn(of, why.to_owned())).collect();
    let ours = |instances: &Vec<crate::provider::Instance>| {
        instances.iter().any(|instance| view.own_label(&instance.label).is_some())
    };
    // An order without an answer may still become a box: it is waited for.
    if view.fleet.live().next().is_none() && view.sight.instances.as_ref().is_ok_and(|all| !ours(all)) {
        actions.push(Action::Close);
    }
    actions
}

/// Boxes of a draining run: destroyed as soon as they hold nothing, all of them at the deadline.
fn drained(view: &View<'_>, since: Timestamp) -> Vec<Action> {
    let late = view.since(since) > view.rules.deadlines.drain;
    let draining = view.snapshot().is_some_and(|snapshot| snapshot.state == RunState::Draining);
    let wanted = view.fleet.live().filter(|of| of.is_wanted() && of.instance.is_some());
    wanted
        .filter_map(|of| {
            if late {
                return Some(condemn(of, "it did not finish what it held in time".to_owned()));
            }
            if !draining {
                return None;
            }
            match view.worker_of(of) {
                None => Some(condemn(of, "the run drains, and it has not begun".to_owned())),
                Some(worker) if worker.leases == 0 => {
                    Some(condemn(of, "the run drains, and it holds nothing".to_owned()))
                }
                Some(_) => None,
            }
        })
        .collect()
}

fn condemn(of: &Rental, why: String) -> Action {
    Action::Condemn { id: of.intent.id.clone(), why, ban: false }
}
