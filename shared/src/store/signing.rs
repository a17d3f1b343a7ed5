//! Signs what a worker without credentials may do: GETs of single objects and POSTs below one prefix
//! (S3's signature of the fourth version).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};
use serde_json::json;
use sha2::Sha256;
use url::Url;

use super::signed::{Secret, SignedUrl, Upload};
use super::{Store, StoreError, StoreErrorKind, open};

/// The shortest time that rights are signed for.
pub const SHORTEST_RIGHTS: Duration = Duration::from_secs(60);

/// The longest: signatures of the fourth version hold for seven days.
pub const LONGEST_RIGHTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// S3 takes no larger upload in one POST.
const LARGEST_POST: u64 = 5 << 30;

/// The name of the signature in forms.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Signs for the objects of one store, until one moment.
pub struct Signing {
    s3: AmazonS3,
    bucket: String,
    prefix: Path,
    shown: String,
    lasts: Duration,
    expires_at: Timestamp,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signing({} until {})", self.shown, self.expires_at)
    }
}

impl Signing {
    /// Signs for a store on S3, with the credentials of the environment. Other stores are refused.
    pub fn open(url: &str, lasts: Duration) -> Result<Self, StoreError> {
        Self::with_builder(url, lasts, AmazonS3Builder::from_env())
    }

    /// The same with settings by name (`aws_access_key_id`, `aws_endpoint`, ...) in place of the
    /// environment.
    pub fn open_with<'a>(
        url: &str,
        lasts: Duration,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, StoreError> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in settings {
            let key = name
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| StoreError::bad_url(format!("{name} is not a setting of S3")))?;
            builder = builder.with_config(key, value);
        }
        Self::with_builder(url, lasts, builder)
    }

    fn with_builder(url: &str, lasts: Duration, builder: AmazonS3Builder) -> Result<Self, StoreError> {
        let Some(parsed) = open::s3_url(url)? else {
            return Err(StoreError::bad_url(
                "signed URLs are for stores on S3 (s3://...): for another store give workers credentials of their own \
                 that reach this run alone (README, Rights)"
                    .to_owned(),
            ));
        };
        let shown = open::printable(&parsed).trim_end_matches('/').to_owned();
        let prefix = Path::from_url_path(parsed.path())
            .map_err(|error| StoreError::bad_url(format!("{shown}: the path is not legal: {error}")))?;
        let s3 = builder.with_url(parsed.as_str()).build().map_err(|error| StoreError {
            kind: StoreErrorKind::BadUrl,
            message: format!(
                "cannot open {shown}; check the URL and the store's settings in the environment"
            ),
            source: Some(Box::new(error)),
        })?;
        let bucket = parsed.host_str().unwrap_or_default().to_owned();
        let expires_at = Timestamp::now()
            .checked_add(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX);
        Ok(Self { s3, bucket, prefix, shown, lasts, expires_at })
    }

    /// When everything signed here ends, RFC 3339 in UTC.
    pub fn expires_at(&self) -> String {
        format!("{:.0}", self.expires_at)
    }

    /// Whether the credentials are temporary: what they signed ends with them, maybe earlier.
    pub async fn is_temporary(&self) -> Result<bool, StoreError> {
        Ok(self.credential().await?.token.is_some())
    }

    /// The right to read one object.
    pub async fn read(&self, key: &str) -> Result<SignedUrl, StoreError> {
        let path = Store::path_below(&self.prefix, key);
        self.sign(&path).await
    }

    /// The right to add objects whose key starts with `folder` and a slash, of at most `most_bytes` bytes.
    pub async fn upload(&self, folder: &str, most_bytes: u64) -> Result<Upload, StoreError> {
        let credential = self.credential().await?;
        // The signer knows the region and how the server is addressed; its URL of a key that is not there
        // tells both.
        let probe = self.sign(&Path::from("key")).await?;
        let scope = probe.parameter("X-Amz-Credential").unwrap_or_default();
        let signed_at = probe.parameter("X-Amz-Date").unwrap_or_default();
        let mut url = probe.expose().clone();
        url.set_query(None);
        let place = url.path().strip_suffix("/key").unwrap_or_default().to_owned();
        url.set_path(&place);
        let key_prefix = format!("{}/", Store::path_below(&self.prefix, folder));
        let most_bytes = most_bytes.min(LARGEST_POST);
        let mut fields = BTreeMap::from([
            ("x-amz-algorithm", ALGORITHM.to_owned()),
            ("x-amz-credential", scope.clone()),
            ("x-amz-date", signed_at),
            ("success_action_status", "201".to_owned()),
        ]);
        if let Some(token) = &credential.token {
            fields.insert("x-amz-security-token", token.clone());
        }
        let policy = self.policy(&key_prefix, most_bytes, &fields);
        let signature = signature(&credential.secret_key, &scope, &policy)
            .ok_or_else(|| self.unsigned("its credentials have no scope"))?;
        fields.insert("policy", policy);
        fields.insert("x-amz-signature", signature);
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        Ok(Upload { url, key_prefix, most_bytes, fields })
    }

    /// What an upload must be, in base64. Every field of the form stands there, or S3 refuses the form.
    fn policy(&self, key_prefix: &str, most_bytes: u64, fields: &BTreeMap<&str, String>) -> String {
        let mut conditions = vec![
            json!({"bucket": self.bucket}),
            json!(["starts-with", "$key", key_prefix]),
            json!(["content-length-range", 1, most_bytes]),
        ];
        conditions.extend(fields.iter().map(|(name, value)| json!({*name: value})));
        let policy = json!({"expiration": format!("{:.3}", self.expires_at), "conditions": conditions});
        BASE64_STANDARD.encode(policy.to_string())
    }

    async fn sign(&self, path: &Path) -> Result<SignedUrl, StoreError> {
        let options = SignedUrlOptions::default();
        let signed = self.s3.signed_url_opts(Method::GET, path, self.lasts, &options).await;
        let url: Url =
            signed.map_err(|error| StoreError::backend("sign a URL of", self.shown.clone(), error))?;
        let url = SignedUrl::new(url);
        if url.is_signed() { Ok(url) } else { Err(self.unsigned("it is used without credentials")) }
    }

    async fn credential(&self) -> Result<std::sync::Arc<AwsCredential>, StoreError> {
        let credential = self.s3.credentials().get_credential().await;
        credential.map_err(|error| StoreError::backend("find credentials for", self.shown.clone(), error))
    }

    fn unsigned(&self, why: &str) -> StoreError {
        StoreError::bad_url(format!(
            "nothing can be signed for {}: {why}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            self.shown
        ))
    }
}

/// The signature of a text under a scope `KEY/date/region/service/aws4_request`; `None` where it is no scope.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html>
fn signature(secret_key: &str, scope: &str, text: &str) -> Option<String> {
    // A key id may hold slashes, the rest does not.
    let mut words = scope.rsplitn(5, '/');
    let (end, service, region, date) = (words.next()?, words.next()?, words.next()?, words.next()?);
    words.next()?;
    let key = [date, region, service, end]
        .iter()
        .try_fold(format!("AWS4{secret_key}").into_bytes(), |key, word| hmac(&key, word.as_bytes()))?;
    Some(hex::encode(hmac(&key, text.as_bytes())?))
}

fn hmac(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text);
    Some(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [(&str, &str); 3] = [
        ("aws_access_key_id", "AKIAIOSFODNN7EXAMPLE"),
        ("aws_secret_access_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("aws_region", "us-east-1"),
    ];

    /// The example of S3's documentation.
    #[test]
    fn a_policy_is_signed_as_s3_does() {
        let scope = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request";
        let policy = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
        let signed = signature(SETTINGS[1].1, scope, policy).unwrap();
        assert_eq!(signed, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
        assert_eq!(signature("k", "no scope", policy), None);
    }

    #[tokio::test]
    async fn the_rights_name_prefix_size_and_end() {
        let settings = SETTINGS.into_iter().chain([("aws_session_token", "hunter2")]);
        let signing = Signing::open_with("s3://bucket/a/b", Duration::from_secs(3600), settings).unwrap();
        assert!(signing.is_temporary().await.unwrap());
        let url = signing.read("runs/r/plan.json").await.unwrap();
        assert!(url.to_string().ends_with("/bucket/a/b/runs/r/plan.json"), "{url}");
        assert_eq!(url.parameter("X-Amz-Expires").as_deref(), Some("3600"));
        let upload = signing.upload("runs/r/parts", 7).await.unwrap();
        assert_eq!(upload.key_prefix, "a/b/runs/r/parts/");
        assert!(upload.url.path().ends_with("/bucket") && upload.url.query().is_none(), "{}", upload.url);
        let policy = BASE64_STANDARD.decode(upload.fields["policy"].expose()).unwrap();
        let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
        let conditions = policy["conditions"].as_array().unwrap();
        for condition in [
            json!({"bucket": "bucket"}),
            json!(["starts-with", "$key", "a/b/runs/r/parts/"]),
            json!(["content-length-range", 1, 7]),
            json!({"x-amz-security-token": "hunter2"}),
        ] {
            assert!(conditions.contains(&condition), "{condition}");
        }
        // "2026-01-01T00:00:00.000Z", as S3 wants it.
        let end = policy["expiration"].as_str().unwrap();
        assert!(end.len() == 24 && end.ends_with('Z'), "{end}");
        assert!(!format!("{signing:?} {upload:?} {url:?}").contains("hunter2"));
    }

    #[test]
    fn other_stores_are_told_what_to_use() {
        for url in ["gs://bucket", "az://container", "/folder", "memory:"] {
            let error = Signing::open_with(url, SHORTEST_RIGHTS, SETTINGS).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::BadUrl);
            assert!(error.message.contains("credentials of their own"), "{error}");
        }
    }
}
