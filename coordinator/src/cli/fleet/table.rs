//! Offers as a table.

use crate::columns::columns;
use crate::dollars::Dollars;
use crate::fleet::rank::{Ranked, Work, forecast};
use crate::status::text::duration;

/// Offers that are shown beside those that are taken.
const SHOWN: usize = 5;

/// The offers, the cheapest by the item first, those that would be taken marked.
pub fn offers(ranked: &[Ranked], taken: usize) -> String {
    let heading = ["", "GPU", "machine", "place", "$/h", "items/s", "fetch", "$ per 1,000 items"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (position, of) in ranked.iter().take(taken + SHOWN).enumerate() {
        rows.push(vec![
            if position < taken { "*".to_owned() } else { String::new() },
            format!("{} {}", of.offer.gpus, of.offer.gpu),
            of.offer.machine.to_string(),
            of.offer.place.clone(),
            of.offer.price.to_string(),
            format!("{:.1}", of.items_per_second),
            duration(of.fetch_seconds),
            of.per_thousand.to_string(),
        ]);
    }
    let mut text = columns(&rows, &[4, 5, 6, 7]);
    if ranked.len() > taken + SHOWN {
        text += &format!("and {} more\n", ranked.len() - taken - SHOWN);
    }
    text
}

/// What these boxes would take and cost.
pub fn estimate(chosen: &[Ranked], work: Work) -> String {
    let Some((seconds, bill)) = forecast(chosen, work) else { return String::new() };
    let rate: Dollars = chosen.iter().map(|of| of.offer.price).sum();
    format!(
        "{} items on {} boxes: about {} and {bill}, {rate} an hour (by known or estimated speeds)\n",
        work.items,
        chosen.len(),
        duration(seconds)
    )
}
