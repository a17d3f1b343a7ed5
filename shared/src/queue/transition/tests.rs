use super::*;
use crate::ids::{Sha16, ShardId};

const NOW: ServerTime = ServerTime(1_000_000_000);

fn name(text: &str) -> ContentName {
    ContentName { shard: ShardId(1), sha: Sha16::of(text.as_bytes()) }
}

fn part() -> CompletedPart {
    CompletedPart { name: name("part"), embedded: 9, failed: 1 }
}

fn pending() -> Shard {
    Shard::new(name("bundle"), 10, None)
}

fn worker(id: &str) -> WorkerId {
    WorkerId(id.to_owned())
}

fn failure(kind: FailKind) -> Failure<'static> {
    Failure { kind, message: "m", host: "h", largest_memory: 8 }
}

fn leased(shard: &Shard, id: &str, token: u64) -> Shard {
    let (worker, nonce) = (worker(id), ClaimNonce("n".to_owned()));
    let event = Event::Claim { worker: &worker, nonce: &nonce, token: LeaseToken(token) };
    apply(shard, &event, NOW, &QueueSettings::default()).unwrap()
}

fn lost_in(shard: &Shard, id: &str, token: u64, range: Option<(u32, u32)>) -> Shard {
    let held = leased(shard, id, token);
    let in_flight = range.map(|(first, end)| ItemRange { first, end });
    let worker = worker(id);
    let beat = Event::Beat { worker: &worker, token: LeaseToken(token), items_done: 0, in_flight };
    let settings = QueueSettings::default();
    let beaten = apply(&held, &beat, NOW, &settings).unwrap();
    apply(&beaten, &Event::Expire, later(NOW, settings.lease), &settings).unwrap()
}

#[test]
fn every_state_takes_only_its_own_events() {
    let settings = QueueSettings::default();
    let (owner, nonce, part) = (worker("w"), ClaimNonce("n".to_owned()), part());
    let token = LeaseToken(7);
    let held = leased(&pending(), "w", 7);
    let fail = |kind| Event::Fail { worker: &owner, token, failure: failure(kind) };
    let delayed = apply(&held, &fail(FailKind::Retry), NOW, &settings).unwrap();
    let dead = Shard { state: State::Dead, ..pending() };
    let finished = Shard::new(name("bundle"), 10, Some(part.clone()));
    let far = later(NOW, Duration::from_hours(1));
    let events = [
        Event::Claim { worker: &owner, nonce: &nonce, token: LeaseToken(8) },
        Event::Beat { worker: &owner, token, items_done: 1, in_flight: None },
        Event::Expire,
        Event::Promote,
        Event::Complete { worker: &owner, token, part: &part },
        fail(FailKind::Retry),
        fail(FailKind::Host),
        fail(FailKind::OutOfMemory { item: 3, memory: 8 }),
        Event::Release { worker: &owner, token },
        Event::PartFound(&part),
        Event::PartGone,
        Event::RequeueDead,
        Event::RequeueDone,
    ];
    // One column per event above: p, l, D, d, x name the state that follows, - is a refusal.
    let table = [
        (pending(), "l--------d---"),
        (held, "-lp-dDpDpd---"),
        (delayed, "---p-----d---"),
        (finished, "---------dp-p"),
        (dead, "---------d-p-"),
    ];
    for (shard, expected) in table {
        let got: String = events
            .iter()
            .map(|event| match apply(&shard, event, far, &settings).map(|after| after.state.name()) {
                Ok(ShardState::Pending) => 'p',
                Ok(ShardState::Leased) => 'l',
                Ok(ShardState::Delayed) => 'D',
                Ok(ShardState::Done) => 'd',
                Ok(ShardState::Dead) => 'x',
                Err(_) => '-',
            })
            .collect();
        assert_eq!(got, expected, "{:?}", shard.state);
    }
}

#[test]
fn time_not_come_is_nothing_to_do() {
    let settings = QueueSettings::default();
    let held = leased(&pending(), "w", 7);
    assert_eq!(apply(&held, &Event::Expire, NOW, &settings), Err(Refusal::NothingToDo));
    let owner = worker("w");
    let fail = Event::Fail { worker: &owner, token: LeaseToken(7), failure: failure(FailKind::Retry) };
    let delayed = apply(&held, &fail, NOW, &settings).unwrap();
    assert_eq!(apply(&delayed, &Event::Promote, NOW, &settings), Err(Refusal::NothingToDo));
}

#[test]
fn another_token_or_another_worker_changes_nothing() {
    let settings = QueueSettings::default();
    let held = leased(&pending(), "w", 7);
    for (id, token) in [("w", 6), ("v", 7)] {
        let other = worker(id);
        let event = Event::Release { worker: &other, token: LeaseToken(token) };
        assert_eq!(apply(&held, &event, NOW, &settings), Err(Refusal::NotHeld));
    }
}

#[test]
fn backoff_doubles_up_to_its_bound() {
    let settings = QueueSettings::default();
    let seconds: Vec<u64> =
        [0, 1, 2, 3, 7, 8, 40, 100].iter().map(|n| backoff_microseconds(*n, &settings) / 1_000_000).collect();
    assert_eq!(seconds, [5, 5, 10, 20, 320, 600, 600, 600]);
}

/// The shard after failures for memory of item 3, each on a host and with a memory, 8 being the largest.
fn short_of_memory(failures: &[(&'static str, u64)]) -> Shard {
    failures.iter().fold(pending(), |shard, (host, memory)| {
        let kind = FailKind::OutOfMemory { item: 3, memory: *memory };
        let (held, owner) = (leased(&shard, "w", 7), worker("w"));
        let failure = Failure { host, ..failure(kind) };
        let fail = Event::Fail { worker: &owner, token: LeaseToken(7), failure };
        let settings = QueueSettings::default();
        let failed = apply(&held, &fail, NOW, &settings).unwrap();
        apply(&failed, &Event::Promote, later(NOW, settings.longest_backoff), &settings).unwrap_or(failed)
    })
}

#[test]
fn smaller_machines_count_no_attempt() {
    let small = short_of_memory(&[("a", 4), ("b", 4), ("c", 4), ("d", 4), ("e", 4)]);
    assert_eq!((small.state, small.trouble.attempts, small.trouble.waived), (State::Pending, 0, 5));
    assert!(small.trouble.shortages.too_large(8).is_empty());
    let once = short_of_memory(&[("a", 4), ("b", 8)]);
    assert_eq!((once.trouble.attempts, once.trouble.waived), (1, 1));
}

#[test]
fn a_second_host_of_the_largest_memory_starts_the_shard_afresh() {
    let same = short_of_memory(&[("a", 8), ("a", 8), ("a", 8), ("a", 8)]);
    assert_eq!((same.state, same.trouble.attempts), (State::Dead, 4));
    let two = short_of_memory(&[("a", 8), ("a", 8), ("a", 8), ("c", 4), ("b", 8)]);
    assert_eq!((&two.state, two.trouble.attempts, two.trouble.waived), (&State::Pending, 0, 0));
    assert_eq!(two.trouble.shortages.too_large(8), [3]);
    let done = apply(&two, &Event::PartFound(&part()), NOW, &QueueSettings::default()).unwrap();
    assert_eq!(done.trouble, Trouble::default());
}

#[test]
fn isolation_needs_two_workers_lost_in_overlapping_batches() {
    let same_worker = lost_in(&lost_in(&pending(), "a", 1, Some((0, 8))), "a", 2, Some((0, 8)));
    assert_eq!(same_worker.trouble.isolate, None);
    let apart = lost_in(&lost_in(&pending(), "a", 1, Some((0, 4))), "b", 2, Some((4, 8)));
    assert_eq!(apart.trouble.isolate, None);
    let between = lost_in(&lost_in(&pending(), "a", 1, Some((0, 4))), "c", 2, None);
    let overlapping = lost_in(&between, "b", 3, Some((2, 8)));
    assert_eq!(overlapping.trouble.isolate, Some(ItemRange { first: 2, end: 4 }));
    assert_eq!(overlapping.trouble.lost_leases, 3);
    assert_eq!(overlapping.trouble.attempts, 0);
}

#[test]
fn messages_are_cut_between_characters() {
    let long = "한".repeat(400);
    assert_eq!(cap_message(&long).len(), 999);
    assert_eq!(cap_message("short"), "short");
}
