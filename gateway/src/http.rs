//! The clients' listener: WebSockets, and the HTTP API.
//!
//! *Invariant:* a request has a deadline for its head and one for its body, and bounds for both; a connection that is
//! neither a WebSocket nor busy with a request is closed.
//! Leaves out: TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Json as JsonBody, Response};
use axum::routing::{any, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringcast_gateway_core::gateway::ServerPublish;
use ringcast_gateway_core::origin::OriginCheck;
use ringcast_gateway_core::phoenix::{Json, Payload, json_payload, publish_body};
use ringcast_proto::{SessionId, Topic};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::authenticate::{Authenticate, ConnectRequest};
use crate::connection::{Connection, Holds, Reader};
use crate::descriptors::Descriptors;
use crate::handshake::{Refusal, judge};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::poller::Pollers;
use ringcast_proto::accept::Acceptor;

/// Connections that are no WebSocket: handshakes under way, and users of the HTTP API.
const HTTP_CONNECTIONS_MAX: usize = 4096;
/// For one of them to be done. In a storm one is within a millisecond, so longer means that they only sit there.
const PLACE_DEADLINE: Duration = Duration::from_millis(100);
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// What a publish's event, id, names (100 of 255 bytes) and braces may take beside its payload.
const BODY_EXTRA_BYTES: usize = 32 * 1024;
/// The core answers a publish within its own deadline; this is for a hub that is stuck.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
const UPGRADE_DEADLINE: Duration = Duration::from_secs(5);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) hub: Hub,
    pub(crate) pollers: Pollers,
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) origin: OriginCheck,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) message_bytes_max: usize,
    /// Places for WebSockets.
    pub(crate) places: Arc<Semaphore>,
    /// The next connection's id.
    pub(crate) next_session: AtomicU64,
    pub(crate) draining: CancellationToken,
}

/// The socket a request came by.
#[derive(Debug, Clone)]
struct Socket {
    peer: SocketAddr,
    /// Held as long as the socket is.
    descriptor: Arc<OwnedSemaphorePermit>,
}

/// Accepts and serves until the draining begins.
pub(crate) async fn serve(mut acceptor: Acceptor, edge: Arc<Edge>) {
    let router = router(Arc::clone(&edge));
    let pending = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut descriptors = Descriptors::for_clients();
    loop {
        let next = async {
            let descriptor = descriptors.take().await;
            let (stream, peer) = acceptor.accept().await;
            (stream, Socket { peer, descriptor })
        };
        let Some((stream, socket)) = edge.draining.run_until_cancelled(next).await else {
            return;
        };
        // The others of a storm wait where they are, in the system's backlog.
        let place = tokio::time::timeout(PLACE_DEADLINE, Arc::clone(&pending).acquire_owned());
        match place.await {
            Ok(Ok(permit)) => {
                edge.tasks.spawn(serve_connection(
                    stream,
                    socket,
                    router.clone(),
                    edge.draining.clone(),
                    permit,
                ));
            }
            Ok(Err(_)) | Err(_) => {
                edge.metrics.handshake_refused(&Refusal::Full);
                refuse(stream);
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    socket: Socket,
    router: Router,
    draining: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(socket.clone());
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        // It ended by itself, or became a WebSocket.
        ended = connection.as_mut() => ended,
        // The request under way is the last one.
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "http connection");
    }
}

/// Says 503 without reading anything, as far as the socket takes it.
fn refuse(stream: TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    if let Ok(mut stream) = stream.into_std() {
        // A client that does not get it finds the connection closed, which says as much.
        std::io::Write::write(&mut stream, answer).ok();
    }
}

fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/socket/websocket", any(websocket))
        .route("/realtime/v1/websocket", any(websocket))
        .route("/api/topics/{topic}/publish", post(publish))
        .with_state(edge)
}

async fn websocket(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    match edge.admit(request) {
        Ok(response) => response,
        Err(refusal) => {
            edge.metrics.handshake_refused(&refusal);
            tracing::debug!(%refusal, "handshake refused");
            refusal.response()
        }
    }
}

impl Edge {
    /// Lets a client in, if it may; the rest happens when the answer has been written.
    fn admit(self: &Arc<Edge>, request: Request) -> Result<Response, Refusal> {
        let (mut head, _) = request.into_parts();
        if self.draining.is_cancelled() {
            return Err(Refusal::Draining);
        }
        let accepted = judge(&head, &self.origin)?;
        let Some(Socket { peer, descriptor }) = head.extensions.remove() else {
            return Err(Refusal::Request);
        };
        let asked = ConnectRequest {
            token: accepted.token.as_deref(),
            peer,
        };
        let subject = self
            .authenticate
            .authenticate(&asked)
            .map_err(|_| Refusal::Subject)?;
        let upgrade = head
            .extensions
            .remove::<OnUpgrade>()
            .ok_or(Refusal::Upgrade("cannot be upgraded"))?;
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Full)?;
        let (edge, serializer) = (Arc::clone(self), accepted.serializer);
        self.tasks.spawn(async move {
            let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_DEADLINE, upgrade).await else {
                return;
            };
            let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
                return;
            };
            let session = SessionId(edge.next_session.fetch_add(1, Ordering::Relaxed));
            // It never blocks, and is not for the runtime to poll any more.
            let Ok(stream) = parts.io.into_inner().into_std() else {
                return;
            };
            let poller = edge.pollers.of(session);
            let connection = Arc::new(Connection::new(session, serializer, stream, poller.clone()));
            if edge.hub.open(Arc::clone(&connection), subject).await.is_err() {
                return;
            }
            let holds = Holds {
                place,
                descriptor,
                client: edge.tasks.token(),
            };
            let reader = Reader::new(connection, edge.message_bytes_max, parts.read_buf, holds);
            poller.add(reader);
        });
        Ok(accepted.response())
    }
}

/// Why a publish over HTTP was refused: the reason, and the status that fits it.
struct PublishRefused(&'static str);

impl IntoResponse for PublishRefused {
    fn into_response(self) -> Response {
        let PublishRefused(reason) = self;
        let status = match reason {
            "bad_request" => StatusCode::BAD_REQUEST,
            "unauthorized" => StatusCode::FORBIDDEN,
            "unmatched topic" => StatusCode::NOT_FOUND,
            "request timeout" => StatusCode::REQUEST_TIMEOUT,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "timeout" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, JsonBody(json!({ "reason": reason }))).into_response()
    }
}

async fn publish(
    State(edge): State<Arc<Edge>>,
    topic: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, PublishRefused> {
    let bad_request = PublishRefused("bad_request");
    let Ok(Path(topic)) = topic else {
        return Err(bad_request);
    };
    let Ok(topic) = Topic::parse(topic.as_bytes()) else {
        return Err(bad_request);
    };
    let body = read_body(request.into_body(), edge.message_bytes_max + BODY_EXTRA_BYTES).await?;
    let Some(Payload::Json(body)) = Json::parse(body).map(json_payload) else {
        return Err(bad_request);
    };
    let body = publish_body(&body).map_err(|_| bad_request)?;
    if body.payload.as_bytes().len() > edge.message_bytes_max {
        return Err(PublishRefused("too_large"));
    }
    // `others` needs a sender to be other than: here everybody is another one.
    let publish = ServerPublish {
        topic,
        event: body.event,
        payload: body.payload.0,
        msg_id: body.msg_id,
        target: body.target,
        names: body.names,
    };
    match tokio::time::timeout(PUBLISH_DEADLINE, edge.hub.publish(publish)).await {
        Ok(Ok(Ok(published))) => {
            Ok(([(CONTENT_TYPE, "application/json")], published.to_json()).into_response())
        }
        Ok(Ok(Err(reason))) => Err(PublishRefused(reason)),
        Ok(Err(_)) => Err(PublishRefused("shutting_down")),
        Err(_) => Err(PublishRefused("timeout")),
    }
}

async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, PublishRefused> {
    match tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        // Too much, or cut off; whoever cut it off does not read the answer.
        Ok(Err(_)) => Err(PublishRefused("too_large")),
        Err(_) => Err(PublishRefused("request timeout")),
    }
}
