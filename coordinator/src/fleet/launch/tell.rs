//! What a launcher says: a line for each event, with the time.

use std::io::Write as _;

use jiff::Timestamp;

use crate::fleet::event::Event;
use crate::fleet::label::BoxId;
use crate::fleet::money;
use crate::fleet::state::Fleet;

/// A line on standard error, with the time in UTC: launchers and boxes stand anywhere.
pub fn line(text: &str) {
    // A log that is full or gone must not take the launcher with it.
    let _ = writeln!(std::io::stderr(), "{} {text}", Timestamp::now().strftime("%H:%M:%SZ"));
}

/// The sentence for an event; the fleet is as before it. Nothing for what a person need not know.
pub fn sentence(event: &Event, fleet: &Fleet) -> Option<String> {
    match event {
        Event::Intent(intent) => Some(format!(
            "slot {}: renting {} {} (machine {}, {}) for {} an hour",
            intent.slot, intent.gpus, intent.gpu, intent.machine, intent.place, intent.price
        )),
        Event::Created { id, instance } => Some(format!("{}: instance {instance}", place(fleet, id))),
        Event::Refused { id, why, .. } => Some(format!("{}: not rented: {why}", place(fleet, id))),
        Event::GivenUp { id } => {
            Some(format!("{}: no answer came, and no instance has its label: given up", place(fleet, id)))
        }
        Event::Status { id, status, .. } => Some(format!("{}: {}", place(fleet, id), status.name())),
        Event::Ready { id, worker } => Some(format!("{}: worker {worker} works", place(fleet, id))),
        Event::Bid { id, bid } => Some(format!("{}: outbid; offering {bid} an hour now", place(fleet, id))),
        Event::Condemned { id, why, ban } => {
            let never = if *ban { "; its machine is not rented again" } else { "" };
            Some(format!("{}: ending it: {why}{never}", place(fleet, id)))
        }
        Event::Gone { id, .. } => {
            let cost = fleet
                .boxes
                .get(id)
                .map_or(crate::dollars::Dollars::ZERO, |of| money::estimate(of, Timestamp::now()));
            Some(format!("{}: gone, about {cost}", place(fleet, id)))
        }
        Event::Stray { instance, label } => {
            Some(format!("instance {instance} ({label}) is ours and nobody's: destroying it"))
        }
        Event::Drained { why } => Some(format!("draining: {why}")),
        Event::Opened(_) | Event::Closed(_) => None,
    }
}

/// `slot 3, instance 77`.
fn place(fleet: &Fleet, id: &BoxId) -> String {
    match fleet.boxes.get(id) {
        Some(of) => match of.instance {
            Some(instance) => format!("slot {}, instance {instance}", of.intent.slot),
            None => format!("slot {}", of.intent.slot),
        },
        None => format!("box {id}"),
    }
}
