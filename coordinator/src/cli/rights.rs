//! `plan --signed-urls`: what a worker needs to know, in a file that only its owner can read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use shared::exit::ExitCode;
use shared::model::ModelRecord;
use shared::plan::{Plan, ShardRecord};
use shared::settings::{environment, parse_duration};
use shared::store::Store;
use shared::store::signing::{LONGEST_RIGHTS, SHORTEST_RIGHTS, Signing};

use super::private_file;
use crate::access::{Grant, grant, model_store};
use crate::failure::Failure;

/// Reads the time that rights last.
pub fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = parse_duration(text)?;
    if (SHORTEST_RIGHTS..=LONGEST_RIGHTS).contains(&lasts) {
        Ok(lasts)
    } else {
        Err(format!("{text} is not between 1m and 7d, which is how long a signature may hold"))
    }
}

/// Refuses, before anything is written, a store that nothing can be signed for.
pub fn check_store(store_url: &str, lasts: Duration) -> Result<(), Failure> {
    Ok(Signing::open(store_url, lasts).map(drop)?)
}

/// The same for the store that the model lies in.
pub fn check_model(model: &ModelRecord, lasts: Duration) -> Result<(), Failure> {
    model_signing(model, lasts).map(drop)
}

fn model_signing(model: &ModelRecord, lasts: Duration) -> Result<Option<Signing>, Failure> {
    let Some(url) = model_store(model) else {
        return Ok(None);
    };
    Signing::open(&url, lasts)
        .map(Some)
        .map_err(|error| Failure::from(error).context("the model cannot be signed for"))
}

/// Signs for a planned run: the environment that makes its store of it, and when it ends.
pub async fn sign(
    store: &Store,
    store_url: &str,
    plan: &Plan,
    shards: &[ShardRecord],
    lasts: Duration,
) -> Result<(BTreeMap<String, String>, String), Failure> {
    let signing = Signing::open(store_url, lasts)?;
    if signing.is_temporary().await? {
        eprintln!(
            "warning: these credentials are temporary: what they sign ends with them, even before {}",
            signing.expires_at()
        );
    }
    let model_signing = model_signing(&plan.model, lasts)?;
    let granted = Grant { store, plan, shards, signing: &signing, model_signing: model_signing.as_ref() };
    let url = grant(&granted).await.map_err(|error| Failure::new(error.exit_code(), error))?;
    let mut variables = BTreeMap::from([(environment::STORE.to_owned(), url.expose().to_string())]);
    if url.expose().scheme() == "http" {
        variables.insert("AWS_ALLOW_HTTP".to_owned(), "true".to_owned());
    }
    Ok((variables, signing.expires_at()))
}

/// The same into `<run>.worker.env` of the working folder.
pub async fn write(
    store: &Store,
    store_url: &str,
    plan: &Plan,
    shards: &[ShardRecord],
    lasts: Duration,
) -> Result<(), Failure> {
    let (mut variables, expires_at) = sign(store, store_url, plan, shards, lasts).await?;
    variables.insert(environment::RUN.to_owned(), plan.run.to_string());
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let content = lines.concat();
    let path = PathBuf::from(format!("{}.worker.env", plan.run));
    private_file::replace(&path, &content).map_err(|error| {
        Failure::new(ExitCode::Unexpected, anyhow::anyhow!("cannot write {}: {error}", path.display()))
    })?;
    eprintln!(
        "signed for workers until {}: give them {} as their environment, and keep it to yourself otherwise",
        expires_at,
        path.display()
    );
    Ok(())
}
