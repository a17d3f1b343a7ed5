//! What boxes get along: a worker, and rights that are theirs alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use shared::digest::Hasher;
use shared::exit::ExitCode;
use shared::model::RecordKind;
use shared::settings::{QueueAddress, environment};
use shared::store::layout;
use shared::store::signing::{LONGEST_RIGHTS, Signing};

use super::ProviderName;
use crate::cli::rights;
use crate::failure::Failure;
use crate::fleet::rights::{Rights, Users, variable};
use crate::merge::Run;

/// Rights hold so much longer than the boxes that have them.
const MARGIN: Duration = Duration::from_secs(30 * 60);

/// Where a box's worker comes from.
#[derive(Debug, Clone)]
pub enum WorkerSource {
    /// A program of this machine, put into the store.
    Program(PathBuf),
    /// A packed program elsewhere.
    Url(url::Url, String),
    /// The container image has it.
    Image,
}

/// What is to be given along.
pub struct Equipment<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its store, as it was named.
    pub store_url: &'a str,
    /// The queue, as its administrator reaches it.
    pub queue: &'a QueueAddress,
    /// Which provider the boxes are of.
    pub provider: ProviderName,
    /// Where their worker comes from.
    pub worker: WorkerSource,
    /// Their hard end.
    pub until: Timestamp,
    /// What a person gives along, which goes before everything else.
    pub given: BTreeMap<String, String>,
    /// Whether to write nothing: for `--dry-run`.
    pub dry: bool,
}

impl Equipment<'_> {
    /// Makes everything ready that boxes need.
    pub async fn prepare(self) -> Result<Rights, Failure> {
        if self.provider == ProviderName::Local {
            return self.local();
        }
        self.check_model()?;
        let mut common = BTreeMap::new();
        if !self.given.contains_key(environment::STORE) {
            common.extend(self.store().await?);
        }
        common.extend(self.program().await?);
        let users = if self.given.contains_key(environment::QUEUE) {
            None
        } else {
            self.check_queue();
            Some(Users::open(self.queue, &self.run.plan.run)?)
        };
        common.extend(self.given);
        Ok(Rights { common, users })
    }

    /// Boxes of this machine use what the launcher uses.
    fn local(self) -> Result<Rights, Failure> {
        let mut common = BTreeMap::new();
        let store = if self.store_url.contains(':') {
            self.store_url.to_owned()
        } else {
            std::path::absolute(self.store_url)?.display().to_string()
        };
        common.insert(environment::STORE.to_owned(), store);
        common.insert(environment::QUEUE.to_owned(), self.queue.url().expose().to_owned());
        if let Some(authority) = self.queue.authority() {
            let pem = String::from_utf8_lossy(authority.pem()).into_owned();
            common.insert(environment::QUEUE_CA.to_owned(), pem);
        }
        common.extend(self.given);
        Ok(Rights { common, users: None })
    }

    /// A model that boxes cannot fetch would fail on every one of them.
    fn check_model(&self) -> Result<(), Failure> {
        let model = &self.run.plan.model;
        if let RecordKind::Folder(folder) = model.kind()
            && model.stored.is_none()
        {
            return Err(Failure::usage(format!(
                "the run's model is the folder {}, which boxes do not see: plan it with --push-model",
                folder.display()
            )));
        }
        Ok(())
    }

    /// Warns of a queue that the whole way to it can read.
    fn check_queue(&self) {
        let url = self.queue.url();
        let parsed = url::Url::parse(url.expose()).ok();
        let host = parsed.as_ref().and_then(|parsed| parsed.host_str()).unwrap_or_default();
        if url.expose().starts_with("redis://") && !matches!(host, "127.0.0.1" | "localhost") {
            eprintln!(
                "warning: {url} is spoken to without TLS: whoever is on the way reads passwords and may change the queue"
            );
        }
    }

    /// The store without credentials.
    async fn store(&self) -> Result<BTreeMap<String, String>, Failure> {
        let hint = "boxes need a store on S3, whose rights can be signed for them; or give them a FLEET_STORE and \
                    credentials of yours by --worker-env";
        if self.dry {
            let signing = Signing::open(self.store_url, self.lasting())
                .map_err(|error| Failure::from(error).context(hint))?;
            let url = signing.read(&layout::plan_key(&self.run.plan.run)).await?;
            return Ok(BTreeMap::from([(environment::STORE.to_owned(), url.expose().to_string())]));
        }
        let (variables, _) =
            rights::sign(&self.run.store, self.store_url, &self.run.plan, self.run.shards(), self.lasting())
                .await
                .map_err(|failure| failure.context(hint))?;
        Ok(variables)
    }

    fn lasting(&self) -> Duration {
        let left = self.until.duration_since(Timestamp::now()).as_secs_f64().max(60.0);
        (Duration::from_secs_f64(left) + MARGIN).min(LONGEST_RIGHTS)
    }

    /// Where the box finds its worker.
    async fn program(&self) -> Result<BTreeMap<String, String>, Failure> {
        let (url, sha256) = match &self.worker {
            WorkerSource::Image => return Ok(BTreeMap::new()),
            WorkerSource::Url(url, sha256) => (url.to_string(), sha256.clone()),
            WorkerSource::Program(path) => {
                let sha256 = sha256_of(path)?;
                let key = layout::worker_key(&sha256);
                if !self.dry && self.run.store.size(&key).await?.is_none() {
                    eprintln!("putting {} into {}", path.display(), self.run.store.url_of(&key));
                    let packed = pack(path)?;
                    self.run.store.put_new_file(&key, packed.path()).await?;
                }
                let signing = Signing::open(self.store_url, self.lasting())?;
                (signing.read(&key).await?.expose().to_string(), sha256)
            }
        };
        Ok(BTreeMap::from([
            (variable::WORKER_URL.to_owned(), url),
            (variable::WORKER_SHA256.to_owned(), sha256),
        ]))
    }
}

fn sha256_of(path: &Path) -> Result<String, Failure> {
    let mut hasher = Hasher::new();
    let mut file = open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer) {
            Ok(0) => return Ok(hasher.finish_hex()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) => return Err(unusable(path, error)),
        }
    }
}

/// The program, gzipped, in a file that goes with the process.
fn pack(path: &Path) -> Result<tempfile::NamedTempFile, Failure> {
    let mut encoder = GzEncoder::new(tempfile::NamedTempFile::new()?, Compression::default());
    std::io::copy(&mut open(path)?, &mut encoder).map_err(|error| unusable(path, error))?;
    let mut file = encoder.finish()?;
    file.flush()?;
    Ok(file)
}

fn open(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::File::open(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(ExitCode::Usage, error).context(format!("cannot read the worker {}", path.display()))
}

/// Reads `NAME=VALUE` lines; empty ones and those that begin with `#` say nothing.
pub fn read_environment(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(ExitCode::Usage, error).context(format!("cannot read {}", path.display()))
    })?;
    let mut variables = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{}: line {} is not NAME=VALUE", path.display(), number + 1))
        })?;
        variables.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(variables)
}
