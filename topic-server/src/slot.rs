//! A slot's task: takes all that waits, applies it, flushes once, and passes on what comes out.
//!
//! *Invariant:* it never waits for a peer, so whoever waits for room in its mailbox waits for work, not for a network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, SessionId, Slot as SlotNumber, Topic, v1};
use ringcast_ring_store::clock;
use ringcast_topic_server_core::slot::{Counts, Slot};
use ringcast_topic_server_core::{Bind, Cursor, Effect, Input, Moment, Publishes, Role, TapId, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};
use tonic::Status;

use crate::shared::Shared;

/// Inputs that wait for a slot. A question that finds it full is answered `overloaded` at once.
const MAILBOX_LEN: usize = 1024;

/// What a tap is told.
pub(crate) type TapSender = mpsc::Sender<Result<v1::TapEvent, Status>>;

/// What comes into a mailbox.
pub(crate) enum Mail {
    Tell(Input),
    Publish {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        publishes: Vec<v1::Publish>,
        answer: oneshot::Sender<v1::SlotPublishAnswer>,
    },
    Bind {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        bind: Bind,
        answer: oneshot::Sender<v1::BindOutcome>,
    },
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
    mailbox: mpsc::Sender<Mail>,
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
enum Asker {
    Publish(oneshot::Sender<v1::SlotPublishAnswer>),
    Bind(oneshot::Sender<v1::BindOutcome>),
    ListTopics(oneshot::Sender<v1::ListTopicsReply>),
    ShowTopic(oneshot::Sender<v1::ShowTopicReply>),
    ListMembers(oneshot::Sender<v1::ListMembersReply>),
}

pub(crate) struct SlotTask {
    slot: Slot,
    shared: Arc<Shared>,
    /// The life of this node in which the slot's role was taken: a later life's lease does not carry it.
    life: Incarnation,
    askers: BTreeMap<Token, Asker>,
    asked: u64,
    taps: BTreeMap<TapId, TapSender>,
    counted: Counts,
    owner: bool,
}

/// Makes a slot: the way in, and the task to run.
pub(crate) fn slot(
    number: SlotNumber,
    shared: &Arc<Shared>,
) -> (SlotHandle, impl Future<Output = ()> + use<>) {
    let (mailbox, mails) = mpsc::channel(MAILBOX_LEN);
    let task = SlotTask {
        slot: Slot::new(number, shared.limits.clone()),
        shared: shared.clone(),
        life: Incarnation(0),
        askers: BTreeMap::new(),
        asked: 0,
        taps: BTreeMap::new(),
        counted: Counts::default(),
        owner: false,
    };
    (SlotHandle { mailbox }, task.run(mails))
}

impl SlotTask {
    async fn run(mut self, mut mails: mpsc::Receiver<Mail>) {
        let stop = self.shared.stop.clone();
        let mut waiting = Vec::new();
        let mut effects = Vec::new();
        loop {
            tokio::select! {
                biased;
                // The server ends.
                () = stop.cancelled() => return,
                // Something waits.
                taken = mails.recv_many(&mut waiting, MAILBOX_LEN) => if taken == 0 { return },
                // A publication may have become too old.
                () = until(self.slot.deadline()) => waiting.push(Mail::Tell(Input::Tick)),
            }
            for mail in waiting.drain(..) {
                let input = self.open(mail);
                if let Input::Record { me, .. } = &input {
                    self.life = me.incarnation;
                }
                let moment = self.moment();
                self.slot.apply(input, moment, &mut effects);
            }
            self.slot.flush(clock::now(), &mut effects);
            self.perform(&mut effects);
            self.count();
        }
    }

    fn moment(&self) -> Moment {
        let now = clock::now();
        let others = self.shared.topics.load(Ordering::Relaxed);
        Moment {
            now,
            lease_valid: self.shared.lease.valid_for(self.life, now),
            topics_free: self.shared.limits.topics_max.saturating_sub(others),
        }
    }

    /// Notes who asks, and makes the question an input.
    fn open(&mut self, mail: Mail) -> Input {
        match mail {
            Mail::Tell(input) => input,
            Mail::Publish {
                from,
                owner_epoch,
                publishes,
                answer,
            } => {
                let token = self.asker(Asker::Publish(answer));
                Input::Publish(Publishes {
                    token,
                    from,
                    owner_epoch,
                    publishes,
                    held_ms: 0,
                })
            }
            Mail::Bind {
                from,
                owner_epoch,
                bind,
                answer,
            } => Input::Bind {
                token: self.asker(Asker::Bind(answer)),
                from,
                owner_epoch,
                bind,
            },
            Mail::Tap(tap, topic, events) => {
                self.taps.insert(tap, events);
                Input::Tap(tap, topic)
            }
            Mail::ListTopics {
                prefix,
                limit,
                answer,
            } => Input::ListTopics {
                token: self.asker(Asker::ListTopics(answer)),
                prefix,
                limit,
            },
            Mail::ShowTopic(topic, answer) => Input::ShowTopic(self.asker(Asker::ShowTopic(answer)), topic),
            Mail::ListMembers {
                topic,
                after,
                limit,
                answer,
            } => Input::ListMembers {
                token: self.asker(Asker::ListMembers(answer)),
                topic,
                after,
                limit,
            },
        }
    }

    fn asker(&mut self, asker: Asker) -> Token {
        self.asked += 1;
        self.askers.insert(Token(self.asked), asker);
        Token(self.asked)
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        let mut consequences = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Published(token, answer) => self.answer(token, Answer::Publish(answer)),
                Effect::Bound(token, outcome) => self.answer(token, Answer::Bind(outcome)),
                Effect::Listed(token, reply) => self.answer(token, Answer::ListTopics(reply)),
                Effect::Shown(token, reply) => self.answer(token, Answer::ShowTopic(reply)),
                Effect::Members(token, reply) => self.answer(token, Answer::ListMembers(reply)),
                Effect::Deliver(gateway, entry) => {
                    if let Some(dropped) = self.deliver(gateway, entry) {
                        consequences.push(dropped);
                    }
                }
                Effect::Tapped(tap, event) => {
                    let sent = self.taps.get(&tap).map(|events| events.try_send(Ok(event)));
                    // Too slow, or gone: the tap is dropped, never waited for.
                    if !matches!(sent, Some(Ok(()))) {
                        self.taps.remove(&tap);
                        consequences.push(Input::Untap(tap));
                    }
                }
                Effect::TapEnded(tap) => {
                    self.taps.remove(&tap);
                }
                Effect::PullAnswered(..) | Effect::Pull(..) | Effect::Swap(_) | Effect::Moved(_) => {}
                Effect::Behind => self.shared.touches.ask(self.slot.number()),
            }
        }
        let moment = self.moment();
        for input in consequences {
            if let Input::Untap(tap) = &input {
                self.taps.remove(tap);
            }
            self.slot.apply(input, moment, effects);
        }
        debug_assert!(effects.is_empty(), "dropping something asks for nothing");
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        // Who no longer waits needs no answer.
        match (self.askers.remove(&token), answer) {
            (Some(Asker::Publish(asker)), Answer::Publish(answer)) => drop(asker.send(answer)),
            (Some(Asker::Bind(asker)), Answer::Bind(outcome)) => drop(asker.send(outcome)),
            (Some(Asker::ListTopics(asker)), Answer::ListTopics(reply)) => drop(asker.send(reply)),
            (Some(Asker::ShowTopic(asker)), Answer::ShowTopic(reply)) => drop(asker.send(reply)),
            (Some(Asker::ListMembers(asker)), Answer::ListMembers(reply)) => drop(asker.send(reply)),
            (_, _) => debug_assert!(false, "an answer to a question nobody asked"),
        }
    }

    /// Puts an entry on the lane; what to tell the slot if it does not fit.
    fn deliver(&self, gateway: NodeRef, entry: v1::DeliverEntry) -> Option<Input> {
        let (topic, epoch, prev_offset) = (entry.topic.clone(), entry.epoch.clone(), entry.prev_offset);
        if self.shared.lanes.push(&gateway, entry) {
            return None;
        }
        let topic = Topic::parse(&topic).ok()?;
        let from = Cursor::parse(&v1::Position {
            epoch,
            offset: prev_offset,
        })
        .ok()?;
        Some(Input::Dropped { gateway, topic, from })
    }

    /// Tells what changed since the last time.
    fn count(&mut self) {
        let counts = self.slot.counts();
        if counts != self.counted {
            let topics = &self.shared.topics;
            topics.fetch_add(counts.topics, Ordering::Relaxed);
            topics.fetch_sub(self.counted.topics, Ordering::Relaxed);
            self.shared.metrics.counted(self.counted, counts);
            self.counted = counts;
        }
        let owner = matches!(self.slot.role(), Role::Owner(_));
        if owner != self.owner {
            self.owner = owner;
            let owned = &self.shared.owned;
            let before = if owner {
                owned.fetch_add(1, Ordering::Relaxed)
            } else {
                owned.fetch_sub(1, Ordering::Relaxed)
            };
            self.shared
                .metrics
                .slots_owned(if owner { before + 1 } else { before - 1 });
            tracing::debug!(slot = self.slot.number().0, role = ?self.slot.role(), "role");
        }
    }
}

enum Answer {
    Publish(v1::SlotPublishAnswer),
    Bind(v1::BindOutcome),
    ListTopics(v1::ListTopicsReply),
    ShowTopic(v1::ShowTopicReply),
    ListMembers(v1::ListMembersReply),
}

/// Sleeps until the clock shows `deadline`; for ever without one.
pub(crate) async fn until(deadline: Option<ringcast_proto::Millis>) {
    match deadline {
        // A timer counts in milliseconds and is never early; one more and the deadline has passed for certain.
        Some(deadline) => {
            sleep_until(Instant::now() + deadline.since(clock::now()) + Duration::from_millis(1)).await
        }
        None => std::future::pending().await,
    }
}
