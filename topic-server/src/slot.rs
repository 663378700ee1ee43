//! A slot's task: takes all that waits, applies it, flushes once, and passes on what comes out.
//!
//! *Invariant:* it never waits for a peer, so whoever waits for room in its mailbox waits for work, not for a network.

mod mail;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringcast_proto::{Incarnation, NodeRef, Slot as SlotNumber, Topic, v1};
use ringcast_ring_store::clock;
use ringcast_topic_server_core::slot::{Counts, Slot};
use ringcast_topic_server_core::{Cursor, Effect, Input, Moment, Publishes, Role, TapId, Token};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use mail::{Answer, Asker, TapSender};
pub(crate) use mail::{Mail, SlotHandle};

use crate::moves::{self, Haste};
use crate::shared::Shared;

/// Inputs that wait for a slot. A question that finds it full is answered `overloaded` at once.
const MAILBOX_LEN: usize = 1024;

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
    /// Of the next page of the move at hand.
    haste: Haste,
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
        haste: Haste::Paced,
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
                let Some(input) = self.open(mail) else { continue };
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

    /// Notes who asks, and makes the question an input; none where there is nothing to apply.
    fn open(&mut self, mail: Mail) -> Option<Input> {
        Some(match mail {
            Mail::Tell(Input::Record { me, .. }) if me.incarnation < self.life => {
                // How a swap of an earlier life ended. What it led to has been told to this life already.
                return None;
            }
            Mail::Tell(input) => {
                self.note(&input);
                input
            }
            Mail::Publish {
                from,
                owner_epoch,
                publishes,
                held_ms,
                answer,
            } => {
                let token = self.asker(Asker::Publish(answer));
                Input::Publish(Publishes {
                    token,
                    from,
                    owner_epoch,
                    publishes,
                    held_ms,
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
            Mail::Fetch {
                from,
                owner_epoch,
                topic,
                after,
                answer,
            } => Input::Fetch {
                token: self.asker(Asker::Fetch(answer)),
                from,
                owner_epoch,
                topic,
                after,
            },
            Mail::Pull { from, pull, answer } => Input::Pull {
                token: self.asker(Asker::Pull(answer)),
                from,
                pull,
            },
            Mail::Stats(answer) => {
                // Who no longer waits needs no answer.
                answer.send(self.stat()).ok();
                return None;
            }
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
        })
    }

    fn note(&mut self, input: &Input) {
        if let Input::Record { me, .. } = input {
            self.life = me.incarnation;
        }
        if let Input::Pulled(_, Some(answer)) = input {
            // The page came out of a sealed slot: publishers wait for the rest of it, and for its confirmation.
            let sealed = answer.sealed_ms > 0;
            self.haste = if sealed { Haste::AtOnce } else { Haste::Paced };
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
                Effect::Fetched(token, outcome) => self.answer(token, Answer::Fetch(outcome)),
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
                Effect::PullAnswered(token, answer) => self.answer(token, Answer::Pull(answer)),
                Effect::Pull(_, page) if page.page == 0 && self.shared.leaving.load(Ordering::Relaxed) => {
                    consequences.push(Input::Pulled(page, None));
                }
                Effect::Pull(owner, page) => {
                    moves::pull(self.slot.number(), owner, page, self.haste, &self.shared);
                }
                Effect::Swap(swap) => moves::swap(self.slot.number(), swap, &self.shared),
                Effect::Moved(ended) => self.moved(ended),
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
        let asker = self.askers.remove(&token);
        debug_assert!(asker.is_some(), "an answer to a question nobody asked");
        if let Some(asker) = asker {
            asker.answer(answer);
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

    fn moved(&self, ended: v1::EndedMove) {
        let ended = v1::EndedMove {
            slot: self.slot.number().0.into(),
            ..ended
        };
        tracing::debug!(
            slot = ended.slot,
            id = ended.id,
            from = ended.from,
            pause_ms = ended.pause_ms,
            copy_ms = ended.copy_ms,
            topics = ended.topics,
            members = ended.members,
            bytes = ended.bytes,
            "slot moved here"
        );
        self.shared
            .metrics
            .moved(Duration::from_millis(ended.pause_ms.into()));
        self.shared.moves.ended.push(ended);
    }

    fn stat(&self) -> Option<v1::SlotStat> {
        let counts = self.slot.counts();
        is_owner(self.slot.role()).then(|| v1::SlotStat {
            slot: self.slot.number().0.into(),
            topics: counts.topics as u64,
            members: counts.members as u64,
            history_bytes: counts.history_bytes as u64,
        })
    }

    /// Tells what changed since the last time.
    fn count(&mut self) {
        let counts = self.slot.counts();
        if counts != self.counted {
            let topics = &self.shared.topics;
            topics.fetch_add(counts.topics, Ordering::Relaxed);
            topics.fetch_sub(self.counted.topics, Ordering::Relaxed);
            let history_bytes = &self.shared.history_bytes;
            history_bytes.fetch_add(counts.history_bytes, Ordering::Relaxed);
            history_bytes.fetch_sub(self.counted.history_bytes, Ordering::Relaxed);
            self.shared.metrics.counted(self.counted, counts);
            self.counted = counts;
        }
        let owner = is_owner(self.slot.role());
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

fn is_owner(role: &Role) -> bool {
    match role {
        Role::Owner(_) | Role::Sealed(_) => true,
        Role::None(_) | Role::Learner(..) | Role::Fenced(_) => false,
    }
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
