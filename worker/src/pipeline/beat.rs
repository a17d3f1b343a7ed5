//! The worker's sign of life: one beat for all leases, every quarter of a lease, and at once where a step
//! waits for the queue to know of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use shared::queue::Beat;

use super::Member;
use super::lease::Leases;
use super::talk::Contact;

/// The pause between beats while nothing is held.
const IDLE: Duration = Duration::from_secs(15);

/// How often the held leases are looked at for one that is shorter than the pause in progress.
const STEP: Duration = Duration::from_millis(500);

/// The pause after a beat that failed: each was repeated for some time already.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Beats until dropped. A beat that fails moves no fence; the next one is tried in time.
pub async fn beat_forever(member: Member, leases: Arc<Leases>, contact: Arc<Contact>) {
    loop {
        let last = Instant::now();
        let shards = leases.beat();
        let beat = Beat { worker: member.id.clone(), info: member.info_now(), shards };
        match member.queue.beat(&beat).await {
            // An unknown run says nothing of our leases: a rebuilt queue will answer for them.
            Ok(reply) if reply.run.is_none() => {
                tracing::warn!("the queue has lost the run; `coordinator resume` rebuilds it");
            }
            Ok(reply) => {
                contact.made();
                leases.answer(&reply.shards, &beat.shards, last);
            }
            Err(error) => {
                tracing::warn!(%error, "a beat failed");
                // A step that waits for the queue asks for a beat again and again.
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
        pause(&member, &leases, last).await;
    }
}

/// Waits until the next beat is due.
async fn pause(member: &Member, leases: &Leases, last: Instant) {
    let jitter = rand::rng().random_range(0.8..1.0);
    loop {
        // Often enough also to notice in time that the queue is there.
        let longest = member.give_up_after / 4;
        let quarter = leases.shortest().map_or(IDLE, |lease| lease / 4).min(longest).mul_f64(jitter);
        let left = quarter.saturating_sub(last.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = leases.hurried() => return,
            () = tokio::time::sleep(left.min(STEP)) => {}
        }
    }
}
