//! The object store answers errors, stalls, tells half of it, or is another one than we think.

use std::time::Duration;

use tests::chaos::fault::{Fault, Rule, http_error};
use tests::chaos::world::{Missing, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    store_answers_500_to_uploads,
    store_answers_503_to_downloads,
    store_is_slow,
    store_cuts_uploads,
    store_ends_downloads_early,
    store_keeps_an_upload_and_answers_an_error,
    store_keeps_an_upload_and_says_nothing,
    store_answers_errors_to_a_merge,
    store_falls_silent,
    store_refuses_a_worker,
];

const GET_BUNDLE: [&str; 2] = ["GET ", "/inputs/"];
const PUT_PART: [&str; 2] = ["PUT ", "/parts/"];

fn store_answers_500_to_uploads(seed: u64) -> Result<(), Missing> {
    struck(seed, "put-500", &PUT_PART, Fault::Answer(http_error("500 Internal Server Error")))
}

fn store_answers_503_to_downloads(seed: u64) -> Result<(), Missing> {
    struck(seed, "get-503", &GET_BUNDLE, Fault::Answer(http_error("503 Slow Down")))
}

fn store_is_slow(seed: u64) -> Result<(), Missing> {
    struck(seed, "slow", &["/runs/"], Fault::Delay(Duration::from_millis(1500)))
}

fn store_cuts_uploads(seed: u64) -> Result<(), Missing> {
    struck(seed, "put-cut", &PUT_PART, Fault::CutAfter)
}

fn store_ends_downloads_early(seed: u64) -> Result<(), Missing> {
    struck(seed, "get-early", &GET_BUNDLE, Fault::TruncateReply(700))
}

/// The put landed; repeated, it meets itself.
fn store_keeps_an_upload_and_answers_an_error(seed: u64) -> Result<(), Missing> {
    struck(seed, "put-landed", &PUT_PART, Fault::ReplaceReply(http_error("500 Internal Server Error")))
}

fn store_keeps_an_upload_and_says_nothing(seed: u64) -> Result<(), Missing> {
    struck(seed, "put-lost", &PUT_PART, Fault::LoseReply)
}

fn struck(seed: u64, name: &str, request: &[&str], fault: Fault) -> Result<(), Missing> {
    let world = World::on_s3(seed, name)?;
    let proxy = world.store_proxy();
    proxy.add(Rule::new(request, fault).after(world.between(0, 4)).times(3));
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_strike(proxy, 3);
    world.finish_with(workers);
    Ok(())
}

fn store_answers_errors_to_a_merge(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "merge-errors")?;
    for mut worker in [world.worker(), world.worker()] {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    let proxy = world.store_proxy();
    for fault in [Fault::Answer(http_error("503 Slow Down")), Fault::TruncateReply(900), Fault::CutBefore] {
        proxy.add(Rule::new(&["GET ", "/parts/"], fault).after(world.between(0, 3)));
    }
    world.check_end();
    assert_eq!(proxy.struck(), 3);
    Ok(())
}

/// Packets are lost in silence in the middle of requests; the worker gives such a connection up by itself.
fn store_falls_silent(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "store-silent")?;
    let proxy = world.store_proxy();
    for request in [GET_BUNDLE, PUT_PART] {
        proxy.add(Rule::new(&request, Fault::Silence).after(world.between(0, 3)));
    }
    let impatient = || world.worker_command().env("AWS_READ_TIMEOUT", "3 seconds");
    let workers = vec![world.start(impatient()), world.start(impatient())];
    world.wait_for_strike(proxy, 2);
    world.finish_with(workers);
    Ok(())
}

/// Wrong credentials, a bucket that is gone: the shard goes back and is counted against nobody.
fn store_refuses_a_worker(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "refused")?;
    let refused = Fault::Answer(http_error("403 Forbidden"));
    world.store_proxy().add(Rule::new(&GET_BUNDLE, refused).times(3));
    let worker = world.worker();
    worker.says("given back");
    assert!(world.status()["failures"].as_array().unwrap().is_empty(), "no attempt is counted");
    world.finish_with(vec![worker]);
    Ok(())
}
