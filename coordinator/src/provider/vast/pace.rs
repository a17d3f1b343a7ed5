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
    /// Everything else.
    Other,
}

impl Call {
    /// Seconds between two of them.
    fn seconds(self) -> f64 {
        match self {
            Self::Search => 6.0,
            Self::Create => 4.5,
            Self::Bid => 5.5,
            Self::Destroy => 3.0,
            Self::One => 2.0,
            Self::List | Self::Other => 1.0,
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
        let pause = Duration::from_secs_f64(call.seconds() * self.factor);
        let turn = {
            let mut next = self.next.lock().await;
            let turn = next.get(&call).copied().map_or_else(Instant::now, |turn| turn.max(Instant::now()));
            next.insert(call, turn + pause);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_kind_wait_for_each_other() {
        let (pace, started) = (Pace::new(1.0), Instant::now());
        pace.wait(Call::Create).await;
        pace.wait(Call::List).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        pace.wait(Call::Create).await;
        assert_eq!(started.elapsed(), Duration::from_millis(4500));
        pace.wait(Call::Create).await;
        assert_eq!(started.elapsed(), Duration::from_secs(9));
        pace.wait(Call::List).await;
        assert_eq!(started.elapsed(), Duration::from_secs(9));
    }
}
