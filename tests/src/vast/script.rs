//! What a machine does to whoever rents it. All durations are real time, counted from the creation of the
//! instance unless they say otherwise.

use std::time::Duration;

/// How an instance comes up.
#[derive(Debug, Clone)]
pub enum Load {
    /// Runs after this time; its message moves eight times on the way.
    After(Duration),
    /// Runs after `total`; its message moves every `message_every`.
    Slowly {
        /// Until it runs.
        total: Duration,
        /// Between two messages.
        message_every: Duration,
    },
    /// Stays in this stage for ever, with a message that never moves.
    Stuck(Stage),
    /// Reaches `loading` at once and stays there with this message (an image that does not exist).
    Fails(String),
}

/// What comes before `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `actual_status` is null.
    Scheduled,
    /// `created`.
    Created,
    /// `loading`.
    Loading,
}

impl Stage {
    /// As the API says it.
    pub fn status(self) -> Option<&'static str> {
        match self {
            Self::Scheduled => None,
            Self::Created => Some("created"),
            Self::Loading => Some("loading"),
        }
    }
}

impl Load {
    /// The stage after this time, or `None` once it runs.
    pub fn stage(&self, elapsed: Duration) -> Option<Stage> {
        let total = match self {
            Self::After(total) | Self::Slowly { total, .. } => *total,
            Self::Stuck(stage) => return Some(*stage),
            Self::Fails(_) => return Some(Stage::Loading),
        };
        match elapsed {
            elapsed if elapsed >= total => None,
            elapsed if elapsed >= total / 4 => Some(Stage::Loading),
            elapsed if elapsed >= total / 10 => Some(Stage::Created),
            _ => Some(Stage::Scheduled),
        }
    }

    /// The next time after this one at which the stage changes.
    pub fn next_change(&self, elapsed: Duration) -> Option<Duration> {
        match self {
            Self::After(total) | Self::Slowly { total, .. } => {
                [*total / 10, *total / 4, *total].into_iter().find(|change| *change > elapsed)
            }
            Self::Stuck(_) | Self::Fails(_) => None,
        }
    }

    /// The message after this time.
    pub fn message(&self, elapsed: Duration) -> String {
        let every = match self {
            Self::After(total) => *total / 8,
            Self::Slowly { message_every, .. } => *message_every,
            Self::Stuck(Stage::Scheduled) => return String::new(),
            Self::Stuck(_) => return "a3ed95caeb02: Waiting".to_owned(),
            Self::Fails(message) => return message.clone(),
        };
        let step = elapsed.as_nanos() / every.as_nanos().max(1);
        format!("a3ed95caeb02: Downloading, step {step}")
    }
}

/// How the create call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateAnswer {
    /// Well.
    Success,
    /// It says `success: false`, but the instance exists and `new_contract` is in the reply.
    FailureButExists,
    /// The instance exists; the connection is closed without a reply.
    ReplyLost,
    /// The instance exists at once; the reply comes after this time.
    Late(Duration),
    /// Somebody else was faster: `no_such_ask` with this status (404, and 400 or 410 were seen in the wild).
    Taken(u16),
    /// 500 in plain text, and there is no instance.
    ServerError,
}

/// A higher bid by somebody else. Instances rented on demand do not mind.
#[derive(Debug, Clone, Copy)]
pub struct Outbid {
    /// The age at which it comes.
    pub at: Duration,
    /// The new `min_bid` in $/h; an instance whose bid is at least that goes on.
    pub min_bid: f64,
    /// The other one leaves after this time: the instance resumes by itself, and `min_bid` is what it was.
    pub lasts: Option<Duration>,
}

/// A destroy call that does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestroyFailure {
    /// 500 in plain text.
    ServerError,
    /// 200 with `success: false`.
    Refused,
    /// 200 with `success: true`, and nothing happens.
    Lie,
}

/// A machine's behaviour, the same for every instance on it.
#[derive(Debug, Clone)]
pub struct Script {
    /// How it comes up.
    pub load: Load,
    /// How the create call goes.
    pub create: CreateAnswer,
    /// When it is outbid.
    pub outbids: Vec<Outbid>,
    /// The age at which it goes offline. Its process is killed; it is billed as if it ran.
    pub offline_at: Option<Duration>,
    /// Variables the host sets in the container, over those of the create call.
    pub environment: Vec<(String, String)>,
    /// The first destroy calls, in order.
    pub destroy_failures: Vec<DestroyFailure>,
    /// How long an instance is listed, and billed, after a destroy that worked. Its process is killed at once.
    pub lingers: Duration,
    /// GB that come down the line before it first runs.
    pub downloaded_gb: f64,
}

impl Default for Script {
    /// A good machine: up after 100 ms, with 1 GB downloaded.
    fn default() -> Self {
        Self {
            load: Load::After(Duration::from_millis(100)),
            create: CreateAnswer::Success,
            outbids: Vec::new(),
            offline_at: None,
            environment: Vec::new(),
            destroy_failures: Vec::new(),
            lingers: Duration::ZERO,
            downloaded_gb: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_messages_move() {
        let load = Load::After(Duration::from_secs(100));
        let stages = [0, 10, 25, 99, 100].map(|second| load.stage(Duration::from_secs(second)));
        let expected =
            [Some(Stage::Scheduled), Some(Stage::Created), Some(Stage::Loading), Some(Stage::Loading), None];
        assert_eq!(stages, expected);
        assert_eq!(load.next_change(Duration::from_secs(25)), Some(Duration::from_secs(100)));
        assert_eq!(load.next_change(Duration::from_secs(100)), None);
        assert_ne!(load.message(Duration::from_secs(30)), load.message(Duration::from_secs(60)));
    }

    #[test]
    fn a_stuck_machine_changes_nothing() {
        let load = Load::Stuck(Stage::Loading);
        assert_eq!(load.next_change(Duration::ZERO), None);
        assert_eq!(load.stage(Duration::from_secs(9999)), Some(Stage::Loading));
        assert_eq!(load.message(Duration::ZERO), load.message(Duration::from_secs(9999)));
    }
}
