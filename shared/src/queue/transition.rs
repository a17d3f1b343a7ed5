//! The shard state machine: the one place that says which changes are legal.
//!
//! [`apply`] is pure: it takes a shard, what happened, the moment it happened and the run's settings,
//! and gives the shard as it is afterwards, or says why the change is refused. [`super::memory`] is
//! built on it; the Lua library of [`super::redis`] states the same rules and is tested against it.
//!
//! Ownership and change stand together: an event that ends or extends a lease names its worker and its
//! token, and is refused unless both are those of the lease that stands
//! ([`crate::laws::Law::LeasesAreFenced`]). A lease whose time has passed stands until it is reaped:
//! its worker may still extend or end it, since nobody else can hold the shard before that.

use std::time::Duration;

use crate::ids::{ClaimNonce, ContentName, LeaseToken, WorkerId};

use super::{CompletedPart, FailKind, ItemRange, QueueSettings, ServerTime, ShardState};

mod shortages;

pub use shortages::{HOSTS_THAT_PROVE, SHORTAGES_KEPT, Shortage, Shortages};

/// The longest failure message kept, in bytes.
pub const MESSAGE_LIMIT: usize = 1000;

/// A shard as a queue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its bundle.
    pub bundle: ContentName,
    /// How many items it has.
    pub items: u64,
    /// Where it stands.
    pub state: State,
    /// What went wrong so far; empty once it is done.
    pub trouble: Trouble,
    /// How its last lease was ended by its worker, so that a repeated call gets the same answer. A
    /// lost lease leaves nothing here.
    pub ended: Option<Ended>,
}

/// Where a shard stands, with what that state needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits to be claimed.
    Pending,
    /// Held.
    Leased(Held),
    /// Waits for its backoff.
    Delayed {
        /// When it is pending again.
        until: ServerTime,
    },
    /// A part exists.
    Done(CompletedPart),
    /// Given up.
    Dead,
}

/// A lease from the queue's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub worker: WorkerId,
    /// The token that every call on it carries.
    pub token: LeaseToken,
    /// The claim that made it.
    pub nonce: ClaimNonce,
    /// When it may be reaped.
    pub expires_at: ServerTime,
    /// Items embedded so far, by the last beat.
    pub items_done: u64,
    /// The batch that runs, by the last beat.
    pub in_flight: Option<ItemRange>,
}

/// A shard's history of failures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Failures that were the shard's.
    pub attempts: u32,
    /// Leases lost.
    pub lost_leases: u32,
    /// The last reason.
    pub message: String,
    /// The worker that was lost last with a batch in flight, and that batch.
    pub suspect: Option<(WorkerId, ItemRange)>,
    /// Where two leases were lost on different workers: to be bisected in child processes.
    pub isolate: Option<ItemRange>,
    /// Items that machines of the largest memory ran out of memory on.
    pub shortages: Shortages,
    /// Failures for memory on machines smaller than the largest: no attempts, but they lengthen the
    /// backoff, so that small machines do not try such a shard all the time.
    pub waived: u32,
}

/// The end of a lease, as its worker was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The lease.
    pub token: LeaseToken,
    /// How it ended.
    pub how: EndedBy,
}

/// How a worker ended a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// With a part.
    Completed,
    /// With a failure; the shard is tried again.
    Retry,
    /// With a failure; the shard is dead.
    Dead,
    /// By giving it back.
    Released,
}

/// What happens to a shard.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A worker claims it.
    Claim {
        /// Who.
        worker: &'a WorkerId,
        /// Under which claim.
        nonce: &'a ClaimNonce,
        /// The token made for this lease.
        token: LeaseToken,
    },
    /// Its worker lives.
    Beat {
        /// Who.
        worker: &'a WorkerId,
        /// Its token.
        token: LeaseToken,
        /// Items embedded so far.
        items_done: u64,
        /// The batch that runs.
        in_flight: Option<ItemRange>,
    },
    /// The reaper passes.
    Expire,
    /// The promoter of delayed shards passes.
    Promote,
    /// Its worker has uploaded a part.
    Complete {
        /// Who.
        worker: &'a WorkerId,
        /// Its token.
        token: LeaseToken,
        /// The part.
        part: &'a CompletedPart,
    },
    /// Its worker failed.
    Fail {
        /// Who.
        worker: &'a WorkerId,
        /// Its token.
        token: LeaseToken,
        /// How.
        failure: Failure<'a>,
    },
    /// Its worker gives it back.
    Release {
        /// Who.
        worker: &'a WorkerId,
        /// Its token.
        token: LeaseToken,
    },
    /// The store holds a valid part.
    PartFound(&'a CompletedPart),
    /// The store holds none.
    PartGone,
    /// A person brings it back from the dead.
    RequeueDead,
    /// A person wants another try at its failed items.
    RequeueDone,
}

/// A failure, and what the queue knows of the machine that it happened on.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Whose fault it was.
    pub kind: FailKind,
    /// The reason.
    pub message: &'a str,
    /// The worker's machine.
    pub host: &'a str,
    /// The largest memory that the run has seen, with that of this failure.
    pub largest_memory: u64,
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The caller's lease does not stand: it was reaped, or it never was.
    NotHeld,
    /// The caller ended this lease before, in this way.
    AlreadyEnded(EndedBy),
    /// The shard is done, so its lease does not stand.
    Cancelled,
    /// The event has nothing to do in this state, or its time has not come.
    NothingToDo,
}

impl State {
    /// The state's name.
    pub fn name(&self) -> ShardState {
        match self {
            Self::Pending => ShardState::Pending,
            Self::Leased(_) => ShardState::Leased,
            Self::Delayed { .. } => ShardState::Delayed,
            Self::Done(_) => ShardState::Done,
            Self::Dead => ShardState::Dead,
        }
    }
}

impl Shard {
    /// A shard fresh from the plan: done where it has a part, else pending.
    pub fn new(bundle: ContentName, items: u64, part: Option<CompletedPart>) -> Self {
        let state = part.map_or(State::Pending, State::Done);
        Self { bundle, items, state, trouble: Trouble::default(), ended: None }
    }

    /// The lease, where this worker and token hold it.
    fn held_by(&self, worker: &WorkerId, token: LeaseToken) -> Result<&Held, Refusal> {
        match &self.state {
            State::Leased(held) if held.worker == *worker && held.token == token => Ok(held),
            _ => Err(self.refusal(token)),
        }
    }

    fn refusal(&self, token: LeaseToken) -> Refusal {
        match (self.ended, &self.state) {
            (Some(ended), _) if ended.token == token => Refusal::AlreadyEnded(ended.how),
            (_, State::Done(_)) => Refusal::Cancelled,
            _ => Refusal::NotHeld,
        }
    }
}

/// The shard after `event` at `now`, or why nothing changes.
pub fn apply(
    shard: &Shard,
    event: &Event<'_>,
    now: ServerTime,
    settings: &QueueSettings,
) -> Result<Shard, Refusal> {
    match *event {
        Event::Claim { worker, nonce, token } => claim(shard, worker, nonce, token, now, settings),
        Event::Beat { worker, token, items_done, in_flight } => {
            let held = shard.held_by(worker, token)?;
            let expires_at = later(now, settings.lease);
            Ok(with_state(shard, State::Leased(Held { expires_at, items_done, in_flight, ..held.clone() })))
        }
        Event::Expire => match &shard.state {
            State::Leased(held) if held.expires_at <= now => Ok(lose(shard, held, settings)),
            _ => Err(Refusal::NothingToDo),
        },
        Event::Promote => match shard.state {
            State::Delayed { until } if until <= now => Ok(with_state(shard, State::Pending)),
            _ => Err(Refusal::NothingToDo),
        },
        Event::Complete { worker, token, part } => {
            shard.held_by(worker, token)?;
            let ended = Some(Ended { token, how: EndedBy::Completed });
            Ok(Shard { ended, ..done(shard, part) })
        }
        Event::Fail { worker, token, failure } => {
            shard.held_by(worker, token)?;
            Ok(fail(shard, token, failure, now, settings))
        }
        Event::Release { worker, token } => {
            shard.held_by(worker, token)?;
            let ended = Some(Ended { token, how: EndedBy::Released });
            Ok(Shard { ended, ..with_state(shard, State::Pending) })
        }
        Event::PartFound(part) => Ok(done(shard, part)),
        Event::PartGone | Event::RequeueDone => match shard.state {
            State::Done(_) => Ok(with_state(shard, State::Pending)),
            _ => Err(Refusal::NothingToDo),
        },
        Event::RequeueDead => match shard.state {
            State::Dead => Ok(Shard { trouble: Trouble::default(), ..with_state(shard, State::Pending) }),
            _ => Err(Refusal::NothingToDo),
        },
    }
}

/// Cuts a failure message to [`MESSAGE_LIMIT`] bytes, never inside a character.
pub fn cap_message(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_LIMIT)]
}

/// `now` and a while.
pub fn later(now: ServerTime, duration: Duration) -> ServerTime {
    ServerTime(now.0.saturating_add(microseconds(duration)))
}

/// Whole microseconds.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn with_state(shard: &Shard, state: State) -> Shard {
    Shard { state, ..shard.clone() }
}

fn done(shard: &Shard, part: &CompletedPart) -> Shard {
    Shard { trouble: Trouble::default(), ..with_state(shard, State::Done(part.clone())) }
}

fn claim(
    shard: &Shard,
    worker: &WorkerId,
    nonce: &ClaimNonce,
    token: LeaseToken,
    now: ServerTime,
    settings: &QueueSettings,
) -> Result<Shard, Refusal> {
    if shard.state != State::Pending {
        return Err(Refusal::NothingToDo);
    }
    let held = Held {
        worker: worker.clone(),
        token,
        nonce: nonce.clone(),
        expires_at: later(now, settings.lease),
        items_done: 0,
        in_flight: None,
    };
    Ok(with_state(shard, State::Leased(held)))
}

/// A lease was lost: counted apart from failures, since a box that vanished is not poison.
fn lose(shard: &Shard, held: &Held, settings: &QueueSettings) -> Shard {
    let mut trouble = shard.trouble.clone();
    trouble.lost_leases += 1;
    trouble.message = format!("{} leases lost, the last by {}", trouble.lost_leases, held.worker);
    if let Some(range) = held.in_flight {
        if let Some((earlier, suspected)) = &trouble.suspect
            && *earlier != held.worker
            && let Some(shared) = intersection(*suspected, range)
        {
            trouble.isolate = Some(shared);
        }
        trouble.suspect = Some((held.worker.clone(), range));
    }
    let dead = trouble.lost_leases >= settings.max_lost_leases;
    let state = if dead { State::Dead } else { State::Pending };
    Shard { trouble, ..with_state(shard, state) }
}

fn fail(
    shard: &Shard,
    token: LeaseToken,
    failure: Failure<'_>,
    now: ServerTime,
    settings: &QueueSettings,
) -> Shard {
    let mut trouble = shard.trouble.clone();
    cap_message(failure.message).clone_into(&mut trouble.message);
    let (state, how) = match failure.kind {
        FailKind::Host => (State::Pending, EndedBy::Retry),
        FailKind::Retry => {
            trouble.attempts += 1;
            delay_or_give_up(&trouble, now, settings)
        }
        FailKind::OutOfMemory { item, memory } => {
            let shortage = Shortage { item, host: failure.host.to_owned(), memory };
            count_shortage(&mut trouble, shortage, failure.largest_memory);
            delay_or_give_up(&trouble, now, settings)
        }
    };
    Shard { trouble, ended: Some(Ended { token, how }), ..with_state(shard, state) }
}

/// Counts a failure for memory. A machine smaller than the largest proves nothing about the shard. An
/// item that turns out too large is left out from now on, so the shard starts afresh without it.
fn count_shortage(trouble: &mut Trouble, shortage: Shortage, largest_memory: u64) {
    if shortage.memory < largest_memory {
        trouble.waived = trouble.waived.saturating_add(1);
    } else if trouble.shortages.note(shortage, largest_memory) {
        (trouble.attempts, trouble.waived) = (0, 0);
    } else {
        trouble.attempts += 1;
    }
}

fn delay_or_give_up(trouble: &Trouble, now: ServerTime, settings: &QueueSettings) -> (State, EndedBy) {
    if trouble.attempts >= settings.max_attempts {
        return (State::Dead, EndedBy::Dead);
    }
    let failures = trouble.attempts.saturating_add(trouble.waived);
    let until = ServerTime(now.0.saturating_add(backoff_microseconds(failures, settings)));
    (State::Delayed { until }, EndedBy::Retry)
}

/// The delay after so many failures: the first backoff, doubled with every one after the first.
fn backoff_microseconds(failures: u32, settings: &QueueSettings) -> u64 {
    let doublings = failures.saturating_sub(1);
    let grown = 2u64
        .checked_pow(doublings)
        .map_or(u64::MAX, |factor| microseconds(settings.first_backoff).saturating_mul(factor));
    grown.min(microseconds(settings.longest_backoff))
}

/// Batches differ between workers with other budgets, so what kills both lies where they overlap.
fn intersection(a: ItemRange, b: ItemRange) -> Option<ItemRange> {
    let range = ItemRange { first: a.first.max(b.first), end: a.end.min(b.end) };
    (range.first < range.end).then_some(range)
}

#[cfg(test)]
mod tests;
