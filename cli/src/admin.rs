//! The admin listener: `/healthz`, `/readyz` and `/metrics` over HTTP.
//!
//! `/healthz` says that the process answers, `/readyz` whether it can do its work, with the reasons why not.
//! *Invariant:* at most [`CONNECTIONS_MAX`] connections, each with a deadline for its request and for its whole life.
//! Leaves out: admin commands, which go to the nodes by gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen;

/// Prometheus, a health check and a person or two.
const CONNECTIONS_MAX: usize = 64;
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// A kept-alive connection is closed after this, so that a forgotten one does not hold a place for ever.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);
/// Histograms and idle metrics are folded together this often.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Why a node cannot do its work now; empty when it can.
pub(crate) type Reasons = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What `/readyz` says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Whether it can do its work.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
}

/// A bound admin listener.
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct Served {
    metrics: PrometheusHandle,
    reasons: Reasons,
}

impl Admin {
    /// Binds it.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Admin> {
        let (listener, address) = listen::bind(address, "--admin-listen").await?;
        Ok(Admin { listener, address })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `token` ends it.
    pub(crate) async fn run(self, metrics: PrometheusHandle, reasons: Reasons, token: CancellationToken) {
        let tasks = TaskTracker::new();
        tasks.spawn(upkeep(metrics.clone(), token.clone()));
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(rendered_metrics))
            .with_state(Served { metrics, reasons });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let next = async {
                let place = Arc::clone(&places)
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                (place, self.listener.accept().await)
            };
            let Some((place, accepted)) = token.run_until_cancelled(next).await else {
                break;
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin listener cannot accept");
                    // No file descriptors, most likely: again when some may be free, not in a busy loop.
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(router.clone());
            let ended = token.clone();
            tasks.spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST_DEADLINE)
                    .max_headers(64)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    biased;
                    () = ended.cancelled() => {}            // the process ends
                    _ = tokio::time::timeout(CONNECTION_DEADLINE, connection) => {} // a broken client is its own affair
                }
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn upkeep(metrics: PrometheusHandle, token: CancellationToken) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    while token.run_until_cancelled(interval.tick()).await.is_some() {
        metrics.run_upkeep();
    }
}

async fn readyz(State(served): State<Served>) -> Response {
    let reasons = (served.reasons)();
    let readiness = Readiness {
        ready: reasons.is_empty(),
        reasons,
    };
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

async fn rendered_metrics(State(served): State<Served>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        served.metrics.render(),
    )
        .into_response()
}
