//! The way to the hub: a bounded mailbox, and what can be put there.
//!
//! *Invariant:* whoever sends waits at the bound, or is told; nothing is dropped in silence.

use std::sync::Arc;

use bytes::Bytes;
use ringcast_gateway_core::gateway::{CallFailed, CallId, Published, ServerPublish};
use ringcast_gateway_core::phoenix::Message;
use ringcast_proto::{Incarnation, Millis, SessionId, v1};
use ringcast_ring::SlotTable;
use tokio::sync::{mpsc, oneshot};

use crate::connection::Connection;

/// What waits for the hub; at the bound whoever sends waits, which is how a flood stays in its sockets.
const MAILBOX_LEN: usize = 4096;

/// What the answer to a publish by the server's own API is.
pub(crate) type ServerPublished = Result<Published, &'static str>;

/// The hub's task is gone: the gateway is ending.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is shutting down")]
pub(crate) struct HubGone;

pub(super) enum Command {
    Open {
        connection: Arc<Connection>,
        subject: Bytes,
    },
    Message {
        session: SessionId,
        message: Message,
    },
    Closed {
        session: SessionId,
    },
    Retire {
        sessions: Vec<SessionId>,
        until: Millis,
    },
    Table(Arc<SlotTable>),
    Registered(Incarnation),
    Bound(CallId, Result<v1::BindAnswer, CallFailed>),
    Published(CallId, Result<v1::PublishAnswer, CallFailed>),
    Fetched(CallId, Result<v1::FetchAnswer, CallFailed>),
    Deliver {
        entries: Vec<v1::DeliverEntry>,
        answer: oneshot::Sender<v1::DeliverAnswer>,
    },
    ServerPublish {
        publish: ServerPublish,
        answer: oneshot::Sender<ServerPublished>,
    },
    Top {
        order: v1::ConnectionOrder,
        limit: usize,
        answer: oneshot::Sender<v1::ListConnectionsReply>,
    },
}

/// A handle on the hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    mailbox: mpsc::Sender<Command>,
}

/// Room in the hub's mailbox for one message. A message that waited itself would be memory that every connection has
/// to have ready.
pub(crate) struct Place<'a>(mpsc::Permit<'a, Command>);

impl Place<'_> {
    pub(crate) fn message(self, session: SessionId, message: Message) {
        self.0.send(Command::Message { session, message });
    }
}

/// The hub's end of its mailbox.
pub(crate) struct Inbox(pub(super) mpsc::Receiver<Command>);

/// A hub's mailbox, both ends.
pub(crate) fn mailbox() -> (Hub, Inbox) {
    let (mailbox, inbox) = mpsc::channel(MAILBOX_LEN);
    (Hub { mailbox }, Inbox(inbox))
}

impl Hub {
    pub(crate) async fn open(&self, connection: Arc<Connection>, subject: Bytes) -> Result<(), HubGone> {
        self.send(Command::Open { connection, subject }).await
    }

    /// Waits until the hub takes one more message.
    pub(crate) async fn place(&self) -> Result<Place<'_>, HubGone> {
        self.mailbox.reserve().await.map(Place).map_err(|_| HubGone)
    }

    pub(crate) async fn closed(&self, session: SessionId) {
        // A hub that is gone has no sessions to close.
        self.send(Command::Closed { session }).await.ok();
    }

    pub(crate) async fn table(&self, table: Arc<SlotTable>) -> Result<(), HubGone> {
        self.send(Command::Table(table)).await
    }

    pub(crate) async fn registered(&self, incarnation: Incarnation) -> Result<(), HubGone> {
        self.send(Command::Registered(incarnation)).await
    }

    pub(crate) async fn bound(&self, call: CallId, answer: Result<v1::BindAnswer, CallFailed>) {
        self.send(Command::Bound(call, answer)).await.ok();
    }

    pub(crate) async fn published(&self, call: CallId, answer: Result<v1::PublishAnswer, CallFailed>) {
        self.send(Command::Published(call, answer)).await.ok();
    }

    pub(crate) async fn fetched(&self, call: CallId, answer: Result<v1::FetchAnswer, CallFailed>) {
        self.send(Command::Fetched(call, answer)).await.ok();
    }

    pub(crate) async fn deliver(&self, entries: Vec<v1::DeliverEntry>) -> Result<v1::DeliverAnswer, HubGone> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Deliver { entries, answer }).await?;
        answered.await.map_err(|_| HubGone)
    }

    pub(crate) async fn publish(&self, publish: ServerPublish) -> Result<ServerPublished, HubGone> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::ServerPublish { publish, answer }).await?;
        answered.await.map_err(|_| HubGone)
    }

    pub(crate) async fn top(
        &self,
        order: v1::ConnectionOrder,
        limit: usize,
    ) -> Result<v1::ListConnectionsReply, HubGone> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Top { order, limit, answer }).await?;
        answered.await.map_err(|_| HubGone)
    }

    /// Ends these sessions when all that was sent before has been taken; they come back where there is no room.
    pub(super) fn retire(&self, sessions: Vec<SessionId>, until: Millis) -> Result<(), Vec<SessionId>> {
        let sent = self.mailbox.try_send(Command::Retire { sessions, until });
        sent.map_err(|refused| match refused.into_inner() {
            Command::Retire { sessions, .. } => sessions,
            _ => Vec::new(),
        })
    }

    async fn send(&self, command: Command) -> Result<(), HubGone> {
        self.mailbox.send(command).await.map_err(|_| HubGone)
    }
}
