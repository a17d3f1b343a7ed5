//! What a launcher keeps to: how many boxes, how much money, and how long it waits for what.

use jiff::Timestamp;

use super::state::Fleet;
use crate::dollars::Dollars;

/// Deadlines in seconds. Those of a loading box are for one that shows no progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Deadlines {
    /// From the order until the box loads; also how long a creation without an answer is waited for.
    pub created: f64,
    /// Without a new message while it loads.
    pub loading: f64,
    /// From running until its worker is heard, beside twice the time to fetch the model.
    pub beat: f64,
    /// Without a word of a worker that was heard before.
    pub silent: f64,
    /// Out of the market's sight.
    pub offline: f64,
    /// Stopped by a higher bid, after ours was raised.
    pub resumed: f64,
    /// From telling workers to exit until their boxes are destroyed.
    pub drain: f64,
    /// What a box needs from running to its first item beside fetching: not worth it when the run ends sooner.
    pub start: f64,
    /// Between two looks.
    pub tick: f64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            created: 180.0,
            loading: 1200.0,
            beat: 300.0,
            silent: 600.0,
            offline: 300.0,
            resumed: 300.0,
            drain: 300.0,
            start: 180.0,
            tick: 10.0,
        }
    }
}

/// An order without an answer is waited for this many times the deadline of a box that is made: a creation may take its
/// time, and be told to come again.
pub const ANSWER: f64 = 2.0;

/// A box is not taken for gone within this share of that deadline: lists lag behind what was made.
pub const SETTLED: f64 = 1.0 / 3.0;

/// Boxes in a row that come to nothing before no more are rented: twice the fleet, and at least so many.
pub const FAILURES: usize = 6;

/// A box that loads for this many times the deadline is given up however its message moves.
pub const LONGEST_LOADING: f64 = 3.0;

/// What a launcher keeps to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Boxes at the same time.
    pub workers: u32,
    /// The most for the whole run.
    pub budget: Option<Dollars>,
    /// The most for an hour of one box; hosts may raise what they ask for.
    pub max_price: Option<Dollars>,
    /// The most an hour.
    pub max_rate: Option<Dollars>,
    /// What must stay on the account.
    pub balance_floor: Dollars,
    /// The most that is bid for an interruptible box an hour; `None` for boxes on demand.
    pub max_bid: Option<Dollars>,
    /// Orders an hour: a fleet whose boxes all fail must not go on renting.
    pub launches_an_hour: u32,
    /// The hard end of the fleet.
    pub until: Timestamp,
    /// How long it waits for what.
    pub deadlines: Deadlines,
}

impl Rules {
    /// To end a fleet and rent nothing.
    pub fn to_end(fleet: &Fleet, deadlines: Deadlines) -> Self {
        Self {
            workers: 0,
            budget: fleet.opened.as_ref().and_then(|(_, opened)| opened.budget),
            max_price: None,
            max_rate: None,
            balance_floor: Dollars::ZERO,
            max_bid: None,
            launches_an_hour: 0,
            until: Timestamp::now(),
            deadlines,
        }
    }

    /// What must be left of a budget so that draining, destroying and the pauses between looks fit: seconds at
    /// the price of all boxes.
    pub fn reserve_seconds(&self, boxes: usize) -> f64 {
        // The market takes a destruction every three seconds, and may fail a few.
        self.deadlines.drain + 3.0 * self.deadlines.tick + 6.0 * boxes as f64 * self.deadlines.tick / 10.0
    }
}
