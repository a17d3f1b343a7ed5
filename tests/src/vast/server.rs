//! The market over HTTP on loopback, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::answer::{Answer, Body, Request};
use super::held::Held;
use super::listener::{CuttableListener, Scissors};

/// The longest body that is read.
const LONGEST_BODY: usize = 4 << 20;

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves a market on a listener of the standard library.
    pub fn start(listener: std::net::TcpListener, held: Arc<Held>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let served = serve(listener, held);
                // Connections that are still open are cut with the runtime.
                tokio::select! {
                    _ = served => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, held: Arc<Held>) -> io::Result<()> {
    let listener = CuttableListener(TcpListener::from_std(listener)?);
    let router = Router::new().fallback(handle).with_state(held);
    axum::serve(listener, router.into_make_service_with_connect_info::<Scissors>()).await
}

async fn handle(
    State(held): State<Arc<Held>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: HttpRequest,
) -> Response<HttpBody> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, LONGEST_BODY).await.unwrap_or_default();
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: query.into_owned().collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        key: bearer(&head.headers),
    };
    let answer = held.with(|market, boxes, now| {
        let answer = market.answer(&request, now);
        match answer.body {
            Body::Log { instance, lines } => {
                let text = last_lines(&boxes.log(instance), lines);
                Answer { body: Body::Text("text/plain", text), ..answer }
            }
            _ => answer,
        }
    });
    tokio::time::sleep(answer.delay).await;
    write(answer, &scissors)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(count)..].concat()
}

fn write(answer: Answer, scissors: &Scissors) -> Response<HttpBody> {
    let Some(status) = answer.status.and_then(|status| StatusCode::from_u16(status).ok()) else {
        scissors.cut();
        return Response::default();
    };
    let (content_type, text) = match answer.body {
        Body::Json(value) => ("application/json", value.to_string()),
        Body::Text(content_type, text) => (content_type, text),
        Body::Log { .. } => ("text/plain", String::new()),
    };
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    if let Some(seconds) = answer.retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(HttpBody::from(text)).unwrap_or_default()
}

/// The address of a listener as a URL.
pub fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}
