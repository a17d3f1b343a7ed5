//! Whether there is money for what is meant.

use jiff::Timestamp;

use crate::dollars::Dollars;
use crate::fleet::money;
use crate::fleet::rules::Rules;
use crate::fleet::state::{Fleet, Rental};

/// What must be kept back so that all boxes, and so many more at this price, can be drained and destroyed.
pub fn reserve(fleet: &Fleet, rules: &Rules, more: Dollars) -> Dollars {
    let boxes = fleet.live().count() + usize::from(more > Dollars::ZERO);
    (money::rate(fleet) + more).an_hour_for(rules.reserve_seconds(boxes))
}

/// What a box would need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// An hour of it, the disk included.
    pub price: Dollars,
    /// What its traffic costs.
    pub traffic: Dollars,
    /// Seconds it needs to fetch everything.
    pub fetch_seconds: f64,
}

/// Why such a box is not rented; nothing where it may be. It must be able to fetch, begin and be drained again, in
/// money and in time.
pub fn affordable(
    fleet: &Fleet,
    rules: &Rules,
    balance: Option<Dollars>,
    need: Need,
    now: Timestamp,
) -> Result<(), String> {
    let begin_seconds = need.fetch_seconds + rules.deadlines.start;
    let left = rules.until.duration_since(now).as_secs_f64();
    if left <= begin_seconds + rules.deadlines.drain {
        return Err("the time that is left is too short for another box (--max-hours)".to_owned());
    }
    let rate = money::rate(fleet) + need.price;
    if let Some(most) = rules.max_rate.filter(|most| rate > *most) {
        return Err(format!("{rate} an hour would be more than {most} (--max-rate)"));
    }
    let begin = need.price.an_hour_for(begin_seconds) + need.traffic;
    let reserve = reserve(fleet, rules, need.price);
    if let Some(balance) = balance.filter(|balance| *balance - rules.balance_floor <= reserve + begin) {
        return Err(format!("the account has {balance} left (--balance-floor {})", rules.balance_floor));
    }
    let needed = money::spent_at_most(fleet, now) + reserve + begin;
    match rules.budget {
        Some(budget) if needed > budget => Err(format!(
            "another box could bring the bill to {needed} before it is worth anything, and the budget is {budget}"
        )),
        _ => Ok(()),
    }
}

/// Why so much more an hour cannot be paid for a box that is there.
pub fn may_cost_more(fleet: &Fleet, rules: &Rules, more: Dollars, now: Timestamp) -> Result<(), String> {
    let rate = money::rate(fleet) + more;
    if let Some(most) = rules.max_rate.filter(|most| rate > *most) {
        return Err(format!("{rate} an hour would be more than {most} (--max-rate)"));
    }
    let needed = money::spent_at_most(fleet, now) + reserve(fleet, rules, more);
    match rules.budget {
        Some(budget) if needed >= budget => {
            Err(format!("the budget of {budget} has no room for a higher bid"))
        }
        _ => Ok(()),
    }
}

/// Why the fleet must stop working now; nothing while it may go on.
pub fn exhausted(fleet: &Fleet, rules: &Rules, balance: Option<Dollars>, now: Timestamp) -> Option<String> {
    let reserve = reserve(fleet, rules, Dollars::ZERO);
    let spent = money::spent_at_most(fleet, now);
    if let Some(budget) = rules.budget.filter(|budget| spent + reserve >= *budget) {
        return Some(format!(
            "the budget of {budget} is reached: up to {spent} are spent, and {reserve} are kept for ending"
        ));
    }
    if let Some(balance) = balance.filter(|balance| *balance - rules.balance_floor <= reserve) {
        return Some(format!("the account has {balance} left (--balance-floor {})", rules.balance_floor));
    }
    let left = rules.until.duration_since(now).as_secs_f64();
    (left <= rules.deadlines.drain).then(|| "the time is over (--max-hours)".to_owned())
}

/// The dearest box of a fleet that costs more an hour than it may: hosts raise prices.
pub fn too_dear<'a>(fleet: &'a Fleet, rules: &Rules) -> Option<&'a Rental> {
    if rules.max_rate.is_none_or(|most| money::rate(fleet) <= most) {
        return None;
    }
    fleet.live().filter(|of| of.is_wanted()).max_by(|left, right| left.price().0.total_cmp(&right.price().0))
}
