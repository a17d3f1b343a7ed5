//! How a status is said, alike in every view.

use shared::queue::RunState;

use super::{Source, Status};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Every shard has a part.
    Finished,
    /// Known from the store alone, and not finished.
    FromStore,
    /// Shards are handed out.
    Running,
    /// Workers stay and claim nothing.
    Paused,
    /// Workers finish what they hold and exit.
    Draining,
}

impl Stage {
    /// That of a status.
    pub fn of(status: &Status) -> Self {
        match (status.source, status.state) {
            _ if status.shards.done > 0 && status.shards.done == status.shards.total() => Self::Finished,
            (Source::Store, _) | (_, None) => Self::FromStore,
            (_, Some(RunState::Running)) => Self::Running,
            (_, Some(RunState::Paused)) => Self::Paused,
            (_, Some(RunState::Draining)) => Self::Draining,
        }
    }

    /// In one word, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::FromStore => "from_store",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }

    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::FromStore => "from the store",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// The share of the items that are settled (with a row, or failed), from 0 to 1.
pub fn share(status: &Status) -> f64 {
    (status.items_done + status.items_failed) as f64 / status.items_total.max(1) as f64
}

/// The same in percent with one digit, never rounded up to a 100 that is not there.
pub fn percent(status: &Status) -> f64 {
    (share(status) * 1000.0).floor() / 10.0
}

/// A count with its thousands apart: `176,443`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    #[test]
    fn thousands_stand_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (176_443, "176,443")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn all_but_one_is_not_a_hundred_percent() {
        let status = Status { items_total: 100_000, items_done: 99_999, items_failed: 0, ..sample::status() };
        assert_eq!(format!("{:.1}", percent(&status)), "99.9");
        assert_eq!(format!("{:.1}", percent(&Status { items_failed: 1, ..status })), "100.0");
    }
}
