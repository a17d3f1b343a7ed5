//! `--dry-run`: the requests that would be sent.

use shared::exit::ExitCode;

use super::Prepared;
use crate::failure::Failure;
use crate::fleet::label::{BoxId, FleetTag, Label};
use crate::fleet::launch::first_bid;
use crate::provider::Order;

/// Prints the requests that would be sent.
pub fn show(prepared: &Prepared, needed: usize) -> Result<ExitCode, Failure> {
    println!("{}\n", prepared.provider.show_search(&prepared.boxes.wanted));
    let tag = prepared.journal.fleet().tag.clone().unwrap_or_else(FleetTag::fresh);
    for (slot, chosen) in prepared.ranked.iter().take(needed).enumerate() {
        let label = Label { run: prepared.run.plan.run.clone(), slot: slot as u32, id: BoxId::fresh(&tag) };
        let user = prepared.rights.draft(&label).map_err(|error| Failure::usage(error.to_string()))?;
        let environment = prepared.rights.environment(&label, prepared.rules.until, user.as_ref())?;
        let order = Order {
            label: label.to_string(),
            image: prepared.boxes.image.clone(),
            disk_gb: prepared.boxes.wanted.disk_gb,
            onstart: prepared.boxes.onstart.clone(),
            environment,
            bid: first_bid(&prepared.rules, &chosen.offer),
        };
        println!("{}\n", prepared.provider.show_create(&chosen.offer, &order));
    }
    eprintln!("nothing was rented (--dry-run)");
    Ok(ExitCode::Done)
}
