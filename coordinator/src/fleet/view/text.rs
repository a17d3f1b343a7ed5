//! A fleet and its cost for a person.

use std::fmt::Write as _;

use super::{BoxView, Cost, FleetView};
use crate::columns::columns;
use crate::status::text::duration;

/// Boxes and what they cost.
pub fn fleet(view: &FleetView, all: bool) -> String {
    let mut text = String::new();
    let _ = write_fleet(&mut text, view, all);
    text
}

fn write_fleet(text: &mut String, view: &FleetView, all: bool) -> std::fmt::Result {
    let state = match (&view.ended, &view.draining, &view.launcher) {
        (Some(why), ..) => format!("ended: {why}"),
        (None, Some(why), _) => format!("draining: {why}"),
        (None, None, Some(by)) => format!("launcher {by}"),
        (None, None, None) => "nothing was ever rented".to_owned(),
    };
    writeln!(text, "fleet    of run {} ({state})", view.run)?;
    let shown: Vec<&BoxView> =
        view.boxes.iter().filter(|of| all || !matches!(of.phase.as_str(), "gone" | "refused")).collect();
    if !shown.is_empty() {
        let heading = [
            "instance", "slot", "GPU", "place", "state", "age", "$/h", "cost", "items", "items/s", "$/1,000",
            "worker",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(shown.iter().map(|of| row(of)));
        text.push_str(&columns(&rows, &[5, 6, 7, 8, 9, 10]));
        for of in shown.iter().filter(|of| of.why.is_some()) {
            let id = of.instance.map_or_else(|| "none".to_owned(), |id| id.to_string());
            writeln!(
                text,
                "         slot {}, instance {id}: {}",
                of.slot,
                of.why.as_deref().unwrap_or_default()
            )?;
        }
    }
    write_cost(text, &view.cost)
}

fn row(of: &BoxView) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        or_dash(of.instance.map(|id| id.to_string())),
        of.slot.to_string(),
        format!("{} {}", of.gpus, of.gpu),
        of.place.clone(),
        of.phase.clone(),
        duration(of.age_seconds),
        of.price.to_string(),
        of.cost.to_string(),
        of.items.to_string(),
        or_dash(of.items_per_second.map(|rate| format!("{rate:.1}"))),
        or_dash(of.per_thousand.map(|cost| cost.to_string())),
        or_dash(of.worker.clone()),
    ]
}

/// What a fleet costs, in a few lines.
pub fn cost(cost: &Cost) -> String {
    let mut text = String::new();
    let _ = write_cost(&mut text, cost);
    text
}

fn write_cost(text: &mut String, cost: &Cost) -> std::fmt::Result {
    match cost.billed {
        Some(billed) => write!(text, "cost     {billed} billed, {} by our own account", cost.so_far)?,
        None => write!(text, "cost     {} so far, {} an hour", cost.so_far, cost.an_hour)?,
    }
    if let Some(projected) = cost.projected {
        write!(text, ", about {projected} at the end")?;
    }
    if let Some(per_thousand) = cost.per_thousand {
        write!(text, ", {per_thousand} for 1,000 items")?;
    }
    if let Some(budget) = cost.budget {
        write!(text, ", budget {budget}")?;
    }
    writeln!(text)?;
    for kind in &cost.by_gpu {
        write!(text, "         {}: {} boxes, {}, {} items", kind.gpu, kind.boxes, kind.dollars, kind.items)?;
        if let Some(per_thousand) = kind.per_thousand {
            write!(text, ", {per_thousand} for 1,000")?;
        }
        if let Some(rate) = kind.items_per_second {
            write!(text, ", {rate:.1} items/s a GPU")?;
        }
        writeln!(text)?;
    }
    Ok(())
}
