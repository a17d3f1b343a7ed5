//! `dashboard`: the run on a page, and for Prometheus.

use std::net::SocketAddr;

use clap::Args;
use shared::exit::ExitCode;
use shared::settings::FileSettings;
use tokio::net::TcpListener;

use super::args::{QueueArgs, StoreArgs};
use crate::dashboard::access::{Access, SHORT_TOKEN, Token};
use crate::dashboard::router;
use crate::failure::Failure;
use crate::status::look::Look;
use crate::watch::feed::Feed;

/// The environment variable that holds the token.
const TOKEN_VARIABLE: &str = "FLEET_DASHBOARD_TOKEN";

/// Where the page is, and who may do what.
#[derive(Args)]
pub struct DashboardArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Where to listen; other machines can reach it only with a token
    ///
    /// On a loopback address reading takes no token, but for what a proxy passes on. A proxy must pass on the name that
    /// was asked for (nginx: `proxy_set_header Host $host;`), or whom it forwards for (X-Forwarded-For, Forwarded, Via):
    /// what it sends by default looks as if it came from this machine.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Who says this may pause, resume and drain; better in the environment, since arguments are seen by everybody
    #[arg(long, env = TOKEN_VARIABLE, value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// The token is not shown.
impl std::fmt::Debug for DashboardArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { store, queue, listen, token } = self;
        let token = token.as_ref().map(|_| "***");
        f.debug_struct("DashboardArgs")
            .field("store", store)
            .field("queue", queue)
            .field("listen", listen)
            .field("token", &token)
            .finish()
    }
}

/// Serves the run until a signal ends it.
pub async fn dashboard(args: DashboardArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let token = args.token.as_deref().map(Token::new).transpose()?;
    let is_short = token.as_ref().is_some_and(Token::is_short);
    let access = Access::new(args.listen, token)?;
    let look = Look::open(args.store.open(file)?, args.store.run(file), args.queue.address(file)?).await?;
    let run = look.plan().run.clone();
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(
            ExitCode::Unexpected,
            anyhow::anyhow!("cannot listen on {}: {error}; --listen names another address", args.listen),
        )
    })?;
    let address = listener.local_addr()?;
    let feed = Feed::start(look).await?;
    if is_short {
        eprintln!("warning: a token of fewer than {SHORT_TOKEN} characters can be guessed");
    }
    if !address.ip().is_loopback() {
        eprintln!(
            "warning: the token crosses the network as it is: put TLS in front (the proxy must pass Host on), or use ssh -L"
        );
    }
    println!("run {run}: http://{address}/");
    axum::serve(listener, router(feed, access)).await?;
    Ok(ExitCode::Done)
}
