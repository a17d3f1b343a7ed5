//! The least time between two calls of a kind, as the market asks for it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Calls that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Offers: ten a minute.
    Search,
    /// A creation.
    Create,
    /// A higher bid.
    Bid,
    /// A destruction.
    Destroy,
    /// One instance.
    One,
    /// A page of all instances.
    List,
    /// A log.
    Log,
    /// The account and its bills.
    Account,
}

impl Call {
    /// Seconds between two of them.
    fn seconds(self) -> f64 {
        match self {
            Self::Search => 6.0,
            Self::Create => 4.5,
            Self::Bid => 5.5,
            Self::Destroy => 3.0,
            Self::One | Self::Log => 2.0,
            Self::List | Self::Account => 1.0,
        }
    }
}

/// Makes calls wait for their turn.
#[derive(Debug)]
pub struct Pace {
    /// 1 for the market; less for a server that asks for less.
    factor: f64,
    next: Mutex<HashMap<Call, Instant>>,
}

impl Pace {
    /// With this factor on all pauses.
    pub fn new(factor: f64) -> Self {
        Self { factor, next: Mutex::default() }
    }

    /// Waits until a call of this kind may be made, and counts it as made then.
    pub async fn wait(&self, call: Call) {
        let turn = self.turn(&mut *self.next.lock().await, call, Instant::now());
        tokio::time::sleep_until(turn).await;
    }

    /// When a call that is wanted now may be made; the next one of its kind is moved behind it.
    fn turn(&self, next: &mut HashMap<Call, Instant>, call: Call, now: Instant) -> Instant {
        let turn = next.get(&call).map_or(now, |turn| now.max(*turn));
        next.insert(call, turn + Duration::from_secs_f64(call.seconds() * self.factor));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_kind_wait_for_each_other() {
        let (pace, mut next, start) = (Pace::new(1.0), HashMap::new(), Instant::now());
        let mut turn = |call, seconds: f64| {
            let turn = pace.turn(&mut next, call, start + Duration::from_secs_f64(seconds));
            turn.duration_since(start).as_secs_f64()
        };
        assert!((turn(Call::Create, 0.0) - 0.0).abs() < 1e-9);
        assert!((turn(Call::List, 0.0) - 0.0).abs() < 1e-9);
        assert!((turn(Call::Create, 0.0) - 4.5).abs() < 1e-9);
        assert!((turn(Call::Create, 1.0) - 9.0).abs() < 1e-9, "behind the one that waits");
        assert!((turn(Call::Create, 60.0) - 60.0).abs() < 1e-9);
        assert!((turn(Call::List, 60.0) - 60.0).abs() < 1e-9);
    }
}
