//! Requests under signed rights: repeated as the other stores repeat theirs, resumed in the middle of a
//! body, bounded, and never shown with a signature.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::RetryConfig;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::Instant;

use super::super::open;
use super::document::{SignedUrl, Upload};
use super::refusal::Refusal;

/// The most of an error's body that is read.
const MOST_ERROR_BYTES: usize = 16 << 10;

/// The most that is quoted of it.
const MOST_QUOTED: usize = 300;

/// Sends requests.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    retry: RetryPolicy,
}

/// The numbers of [`RetryConfig`].
#[derive(Debug, Clone)]
struct RetryPolicy {
    most: usize,
    within: Duration,
    first: Duration,
    longest: Duration,
    base: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let RetryConfig { backoff, max_retries, retry_timeout } = open::retries();
        Self {
            most: max_retries,
            within: retry_timeout,
            first: backoff.init_backoff,
            longest: backoff.max_backoff,
            base: backoff.base,
        }
    }
}

/// One request with its repetitions.
struct Tries<'a> {
    policy: &'a RetryPolicy,
    started: Instant,
    made: usize,
    pause: Duration,
}

impl<'a> Tries<'a> {
    fn start(policy: &'a RetryPolicy) -> Self {
        Self { policy, started: Instant::now(), made: 0, pause: policy.first }
    }

    /// Waits before another try; `false` where there is none.
    async fn again(&mut self) -> bool {
        self.made += 1;
        if self.made > self.policy.most || self.started.elapsed() >= self.policy.within {
            return false;
        }
        tokio::time::sleep(self.pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        self.pause = self.pause.mul_f64(self.policy.base).min(self.policy.longest);
        true
    }
}

impl Http {
    pub(super) fn new(request_timeout: Duration, read_timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("embed-fleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .timeout(request_timeout)
            .read_timeout(read_timeout)
            // A signature holds for one host alone.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, retry: RetryPolicy::default() })
    }

    #[cfg(test)]
    pub(super) fn with_retries(mut self, most: usize, pause: Duration) -> Self {
        self.retry = RetryPolicy { most, first: pause, longest: pause, ..self.retry };
        self
    }

    /// The whole object, which must have `bytes` bytes.
    pub(super) async fn get(&self, url: &SignedUrl, bytes: u64) -> Result<Bytes, Refusal> {
        let mut chunks = self.stream(url, 0..bytes).await?;
        let mut whole = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        while let Some(chunk) = chunks.try_next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    /// The whole of an object of an unknown size of at most `most` bytes.
    pub(super) async fn get_small(&self, url: &SignedUrl, most: u64) -> Result<Bytes, Refusal> {
        let mut tries = Tries::start(&self.retry);
        loop {
            let response = self.send(url, || self.client.get(url.expose().clone())).await?;
            match read_at_most(response, most).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if !matches!(error, Refusal::Connection { .. }) || !tries.again().await => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    /// Bytes `range` of an object that has at least so many. A body that breaks off is asked for again
    /// from there; the first answer is waited for here.
    pub(super) async fn stream(
        &self,
        url: &SignedUrl,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Refusal>>, Refusal> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let body = self.open(url, range.clone()).await?;
        let reading = Reading { http: self.clone(), url: url.clone(), range, body, broken: 0 };
        Ok(futures::stream::try_unfold(reading, Reading::next).boxed())
    }

    async fn open(&self, url: &SignedUrl, range: Range<u64>) -> Result<Response, Refusal> {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let ask = || self.client.get(url.expose().clone()).header(RANGE, header.clone());
        let response = self.send(url, ask).await?;
        let length = header_number(&response, CONTENT_LENGTH.as_str());
        let starts_right = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_start(&response) == Some(range.start),
            _ => range.start == 0,
        };
        if !starts_right || length.is_some_and(|length| length != range.end - range.start) {
            return Err(Refusal::OtherSize(length.unwrap_or(0), range.end - range.start));
        }
        Ok(response)
    }

    /// Sends a form with the file until it is taken or refused.
    pub(super) async fn post(&self, upload: &Upload, key: &str, body: Bytes) -> Result<(), Refusal> {
        let place = SignedUrl::new(upload.url.clone());
        let ask = || {
            let form =
                upload.fields.iter().fold(Form::new().text("key", key.to_owned()), |form, (name, value)| {
                    form.text(name.clone(), value.expose().to_owned())
                });
            // The file comes last: a server does not read fields after it.
            let length = body.len() as u64;
            let file = Part::stream_with_length(body.clone(), length).file_name("part");
            self.client.post(upload.url.clone()).multipart(form.part("file", file))
        };
        match self.send(&place, ask).await {
            Ok(_) => Ok(()),
            Err(Refusal::Server { status: status @ (405 | 501), .. }) => {
                Err(Refusal::NoPostPolicy { status })
            }
            Err(error) => Err(error),
        }
    }

    /// A request until it succeeds, or is refused, or the tries are used up.
    async fn send(&self, url: &SignedUrl, ask: impl Fn() -> RequestBuilder) -> Result<Response, Refusal> {
        let mut tries = Tries::start(&self.retry);
        loop {
            let refusal = match ask().send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => refused(url, response).await,
                Err(error) => connection(url, error),
            };
            let passing = match &refusal {
                Refusal::Connection { .. } => true,
                Refusal::Server { status, .. } => *status == 408 || *status == 429 || *status >= 500,
                _ => false,
            };
            // 501 is for ever.
            let passing = passing && !matches!(refusal, Refusal::Server { status: 501, .. });
            if !passing || !tries.again().await {
                return Err(refusal);
            }
            tracing::debug!(%url, %refusal, "trying again");
        }
    }
}

/// A body that is being read.
struct Reading {
    http: Http,
    url: SignedUrl,
    /// What is still to come.
    range: Range<u64>,
    body: Response,
    /// Breaks since the last byte.
    broken: usize,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Refusal> {
        while !self.range.is_empty() {
            let failed = match self.body.chunk().await {
                Ok(Some(chunk)) => {
                    let left = self.range.end - self.range.start;
                    if chunk.len() as u64 > left {
                        return Err(Refusal::OtherSize(chunk.len() as u64, left));
                    }
                    self.range.start += chunk.len() as u64;
                    self.broken = 0;
                    return Ok(Some((chunk, self)));
                }
                Ok(None) => Refusal::OtherSize(0, self.range.end - self.range.start),
                Err(error) => connection(&self.url, error),
            };
            self.broken += 1;
            if self.broken > self.http.retry.most {
                return Err(failed);
            }
            self.body = self.http.open(&self.url, self.range.clone()).await?;
        }
        Ok(None)
    }
}

fn connection(url: &SignedUrl, error: reqwest::Error) -> Refusal {
    let host = url.expose().host_str().unwrap_or_default().to_owned();
    Refusal::Connection { host, source: error.without_url() }
}

/// What an answer that is no success says.
async fn refused(url: &SignedUrl, response: Response) -> Refusal {
    let status = response.status().as_u16();
    let body = error_body(response).await;
    let code = element(&body, "Code").unwrap_or_default();
    let message = element(&body, "Message").unwrap_or_else(|| "no reason given".to_owned());
    let says_expired = [&code, &message].iter().any(|text| text.to_lowercase().contains("expired"));
    if (400..404).contains(&status) && (says_expired || is_past(url)) {
        return Refusal::Expired;
    }
    Refusal::Server { status, code, message }
}

/// Whether the URL's own time is over by this machine's clock; a server that refuses it says so less
/// clearly at times.
fn is_past(url: &SignedUrl) -> bool {
    expiry(url).is_some_and(|end| end < Timestamp::now())
}

/// When a signed URL ends.
pub(super) fn expiry(url: &SignedUrl) -> Option<Timestamp> {
    let signed_at = url.parameter("X-Amz-Date")?;
    let lasts: i64 = url.parameter("X-Amz-Expires")?.parse().ok()?;
    let signed_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &signed_at).ok()?;
    let signed_at = jiff::tz::TimeZone::UTC.to_timestamp(signed_at).ok()?;
    signed_at.checked_add(jiff::SignedDuration::from_secs(lasts)).ok()
}

async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MOST_ERROR_BYTES - body.len())]);
        if body.len() >= MOST_ERROR_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The text of an element of S3's error answers, in one line.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.chars().filter(|c| !c.is_control()).take(MOST_QUOTED).collect())
}

async fn read_at_most(mut response: Response, most: u64) -> Result<Bytes, Refusal> {
    let url = SignedUrl::new(response.url().clone());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| connection(&url, error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > most {
            return Err(Refusal::OtherSize(bytes.len() as u64, most));
        }
    }
    Ok(bytes.into())
}

fn header_number(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// The first byte of a `Content-Range: bytes 0-9/10`.
fn content_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
