//! What comes into a slot's mailbox, and who waits for what comes out.

use ringcast_proto::{NodeRef, OwnerEpoch, SessionId, Topic, v1};
use ringcast_topic_server_core::{Bind, Cursor, Input, PullPage, TapId};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// What a tap is told.
pub(crate) type TapSender = mpsc::Sender<Result<v1::TapEvent, Status>>;

/// What comes into a mailbox.
pub(crate) enum Mail {
    Tell(Input),
    Publish {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        publishes: Vec<v1::Publish>,
        held_ms: u32,
        answer: oneshot::Sender<v1::SlotPublishAnswer>,
    },
    Bind {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        bind: Bind,
        answer: oneshot::Sender<v1::BindOutcome>,
    },
    Fetch {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        topic: Topic,
        after: Cursor,
        answer: oneshot::Sender<v1::FetchOutcome>,
    },
    Pull {
        from: NodeRef,
        pull: PullPage,
        answer: oneshot::Sender<v1::PullAnswer>,
    },
    /// What it holds, if this node owns it.
    Stats(oneshot::Sender<Option<v1::SlotStat>>),
    Tap(TapId, Topic, TapSender),
    ListTopics {
        prefix: String,
        limit: usize,
        answer: oneshot::Sender<v1::ListTopicsReply>,
    },
    ShowTopic(Topic, oneshot::Sender<v1::ShowTopicReply>),
    ListMembers {
        topic: Topic,
        after: SessionId,
        limit: usize,
        answer: oneshot::Sender<v1::ListMembersReply>,
    },
}

/// The way into a slot.
#[derive(Clone)]
pub(crate) struct SlotHandle {
    pub(super) mailbox: mpsc::Sender<Mail>,
}

impl SlotHandle {
    /// For what may be refused: `false` if there is no room.
    pub(crate) fn try_ask(&self, mail: Mail) -> bool {
        self.mailbox.try_send(mail).is_ok()
    }

    /// For what must not be lost. Waits for room, which the slot makes by itself.
    pub(crate) async fn tell(&self, input: Input) {
        // A slot that has ended needs to be told nothing.
        drop(self.mailbox.send(Mail::Tell(input)).await);
    }
}

/// Somebody who waits for an answer.
pub(super) enum Asker {
    Publish(oneshot::Sender<v1::SlotPublishAnswer>),
    Bind(oneshot::Sender<v1::BindOutcome>),
    Fetch(oneshot::Sender<v1::FetchOutcome>),
    Pull(oneshot::Sender<v1::PullAnswer>),
    ListTopics(oneshot::Sender<v1::ListTopicsReply>),
    ShowTopic(oneshot::Sender<v1::ShowTopicReply>),
    ListMembers(oneshot::Sender<v1::ListMembersReply>),
}

/// What somebody waited for.
pub(super) enum Answer {
    Publish(v1::SlotPublishAnswer),
    Bind(v1::BindOutcome),
    Fetch(v1::FetchOutcome),
    Pull(v1::PullAnswer),
    ListTopics(v1::ListTopicsReply),
    ShowTopic(v1::ShowTopicReply),
    ListMembers(v1::ListMembersReply),
}

impl Asker {
    /// Who no longer waits needs no answer.
    pub(super) fn answer(self, answer: Answer) {
        match (self, answer) {
            (Asker::Publish(asker), Answer::Publish(answer)) => drop(asker.send(answer)),
            (Asker::Bind(asker), Answer::Bind(outcome)) => drop(asker.send(outcome)),
            (Asker::Fetch(asker), Answer::Fetch(outcome)) => drop(asker.send(outcome)),
            (Asker::Pull(asker), Answer::Pull(answer)) => drop(asker.send(answer)),
            (Asker::ListTopics(asker), Answer::ListTopics(reply)) => drop(asker.send(reply)),
            (Asker::ShowTopic(asker), Answer::ShowTopic(reply)) => drop(asker.send(reply)),
            (Asker::ListMembers(asker), Answer::ListMembers(reply)) => drop(asker.send(reply)),
            (_, _) => debug_assert!(false, "an answer to another question"),
        }
    }
}
