//! A stand-in for S3 on loopback that takes objects in parts, forgets their bytes and knows which uploads are open.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures::StreamExt as _;

/// What came in.
#[derive(Debug, Default)]
pub struct Seen {
    /// Uploads that were neither completed nor aborted.
    pub open: HashSet<usize>,
    pub begun: usize,
    pub parts: usize,
    pub completed: usize,
    /// Whether no part is taken any more.
    pub refuses: bool,
}

/// A server that runs until the process ends.
pub struct Uploads {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Uploads {
    pub fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { port, seen }
    }

    /// The environment that points a program at it.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    pub fn refuse(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refuses = true;
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn answer(State(seen): State<Arc<Mutex<Seen>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let mut body = body.into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
    let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let upload = field("uploadId").and_then(|number| number.parse::<usize>().ok());
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, text) = match (head.method, upload) {
        (Method::POST, None) => {
            let number = seen.begun;
            seen.begun += 1;
            seen.open.insert(number);
            let result = "InitiateMultipartUploadResult";
            (StatusCode::OK, format!("<{result}><UploadId>{number}</UploadId></{result}>"))
        }
        (Method::PUT, Some(_)) if seen.refuses => (StatusCode::FORBIDDEN, String::new()),
        (Method::PUT, Some(_)) => {
            seen.parts += 1;
            (StatusCode::OK, String::new())
        }
        (Method::POST, Some(number)) => {
            seen.open.remove(&number);
            seen.completed += 1;
            let result = "CompleteMultipartUploadResult";
            (StatusCode::OK, format!("<{result}><ETag>a</ETag></{result}>"))
        }
        (Method::DELETE, Some(number)) => {
            seen.open.remove(&number);
            (StatusCode::NO_CONTENT, String::new())
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    Response::builder().status(status).header("ETag", "a").body(Body::from(text)).unwrap()
}
