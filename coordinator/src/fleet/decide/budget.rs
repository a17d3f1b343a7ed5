//! Whether there is money for what is meant.

use jiff::Timestamp;

use crate::dollars::Dollars;
use crate::fleet::money;
use crate::fleet::rules::Rules;
use crate::fleet::state::Fleet;
use crate::provider::Offer;

/// What must be kept back so that all boxes, and so many more at this price, can be drained and destroyed.
pub fn reserve(fleet: &Fleet, rules: &Rules, more: Dollars) -> Dollars {
    let boxes = fleet.live().count() + usize::from(more > Dollars::ZERO);
    (money::rate(fleet) + more).an_hour_for(rules.reserve_seconds(boxes))
}

/// Why a box of this offer cannot be paid for; nothing where it can. It must be able to fetch, begin and be
/// drained again.
pub fn affordable(
    fleet: &Fleet,
    rules: &Rules,
    offer: &Offer,
    traffic: Dollars,
    fetch_seconds: f64,
    now: Timestamp,
) -> Result<(), String> {
    if let Some(most) = rules.max_rate {
        let rate = money::rate(fleet) + offer.price;
        if rate > most {
            return Err(format!("{rate} an hour would be more than {most} (--max-rate)"));
        }
    }
    let Some(budget) = rules.budget else { return Ok(()) };
    let begin = offer.price.an_hour_for(fetch_seconds + rules.deadlines.start);
    let needed = money::spent_at_most(fleet, now) + reserve(fleet, rules, offer.price) + begin + traffic;
    if needed > budget {
        return Err(format!(
            "another box could bring the bill to {needed} before it is worth anything, and the budget is {budget}"
        ));
    }
    Ok(())
}

/// Why the fleet must stop working now; nothing while it may go on.
pub fn exhausted(fleet: &Fleet, rules: &Rules, balance: Option<Dollars>, now: Timestamp) -> Option<String> {
    let reserve = reserve(fleet, rules, Dollars::ZERO);
    if let Some(budget) = rules.budget {
        let spent = money::spent_at_most(fleet, now);
        if spent + reserve >= budget {
            return Some(format!(
                "the budget of {budget} is reached: up to {spent} are spent, and {reserve} are kept for ending"
            ));
        }
    }
    if let Some(balance) = balance
        && balance - rules.balance_floor <= reserve
    {
        return Some(format!("the account has {balance} left (--balance-floor {})", rules.balance_floor));
    }
    let left = rules.until.duration_since(now).as_secs_f64();
    (left <= rules.deadlines.drain).then(|| "the time is over (--max-hours)".to_owned())
}
