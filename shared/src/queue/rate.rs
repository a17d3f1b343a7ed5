//! Items a second from buckets of one minute each, the same in every queue.

use super::ServerTime;

/// One bucket: a minute.
pub const BUCKET_MICROSECONDS: u64 = 60_000_000;

/// The rate looks back over the running minute and this many before it.
pub const BUCKETS_BACK: u64 = 5;

/// Buckets older than this many minutes are dropped.
pub const BUCKETS_KEPT: u64 = 10;

/// The bucket a moment falls into.
pub fn bucket_of(time: ServerTime) -> u64 {
    time.0 / BUCKET_MICROSECONDS
}

/// Items a second at `now`, from `(bucket, items)` pairs in any order: the items of the last buckets
/// over the time from the first of them that holds any (but not before the run was made) to `now`,
/// at least one second. 0 where nothing was embedded lately.
pub fn items_per_second(
    buckets: impl IntoIterator<Item = (u64, u64)>,
    run_made_at: ServerTime,
    now: ServerTime,
) -> f64 {
    let oldest = bucket_of(now).saturating_sub(BUCKETS_BACK);
    let mut first = u64::MAX;
    let mut items = 0u64;
    for (bucket, count) in buckets {
        if bucket >= oldest && count > 0 {
            first = first.min(bucket);
            items += count;
        }
    }
    if items == 0 {
        return 0.0;
    }
    let since = first.saturating_mul(BUCKET_MICROSECONDS).max(run_made_at.0);
    let microseconds = now.0.saturating_sub(since).max(1_000_000);
    items as f64 / (microseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_buckets_do_not_count_and_the_window_starts_with_the_run() {
        let minute = |n: u64| ServerTime(n * BUCKET_MICROSECONDS);
        let rate = |buckets: &[(u64, u64)], made, now| items_per_second(buckets.to_vec(), made, now);
        assert!(rate(&[], minute(0), minute(10)).abs() < 1e-12);
        assert!(rate(&[(4, 100)], minute(0), minute(10)).abs() < 1e-12, "six minutes old");
        assert!((rate(&[(5, 300), (9, 300)], minute(0), minute(10)) - 2.0).abs() < 1e-12);
        let made = ServerTime(minute(9).0 + 30_000_000);
        assert!((rate(&[(9, 300)], made, minute(10)) - 10.0).abs() < 1e-12, "made half a minute ago");
        assert!((rate(&[(10, 7)], minute(10), minute(10)) - 7.0).abs() < 1e-12, "at least a second");
    }
}
