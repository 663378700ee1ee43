//! What comes into a slot's mailbox, and who waits for an answer. Mirrors `topic-server/src/slot/mail.rs`.

use std::collections::{BTreeMap, VecDeque};

use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, Topic, v1};
use ringcast_topic_server_core::{Bind, Cursor, Input, Publishes, PullPage, Slot, Token};

use crate::wire::{CallNumber, Life};

/// What comes into a mailbox.
#[derive(Debug)]
pub(super) enum Mail {
    Tell(Input),
    Publish {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        publishes: v1::SlotPublishes,
        asker: (u64, usize),
    },
    Bind {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        bind: Bind,
        asker: (u64, usize),
    },
    Fetch {
        from: NodeRef,
        owner_epoch: OwnerEpoch,
        topic: Topic,
        after: Cursor,
        asker: (u64, usize),
    },
    Pull {
        from: NodeRef,
        pull: PullPage,
        asker: (Life, CallNumber),
    },
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// A part of a call.
    Part(u64, usize),
    /// A pull.
    Pull(Life, CallNumber),
}

#[derive(Debug)]
pub(super) struct SlotTask {
    pub(super) slot: Slot,
    /// The life of this node in which its role was taken.
    pub(super) life: Incarnation,
    pub(super) mailbox: VecDeque<Mail>,
    /// It is to run later.
    pub(super) due: bool,
    pub(super) askers: BTreeMap<Token, Asker>,
    asked: u64,
    pub(super) timer: u64,
    pub(super) timer_at: Option<ringcast_proto::Millis>,
}

impl SlotTask {
    pub(super) fn new(slot: Slot) -> SlotTask {
        SlotTask {
            slot,
            life: Incarnation(0),
            mailbox: VecDeque::new(),
            due: false,
            askers: BTreeMap::new(),
            asked: 0,
            timer: 0,
            timer_at: None,
        }
    }

    pub(super) fn asker(&mut self, asker: Asker) -> Token {
        self.asked += 1;
        self.askers.insert(Token(self.asked), asker);
        Token(self.asked)
    }

    /// Notes who asks, and makes the question an input; none where there is nothing to apply.
    pub(super) fn open(&mut self, mail: Mail) -> Option<Input> {
        Some(match mail {
            // How a swap of an earlier life ended.
            Mail::Tell(Input::Record { me, .. }) if me.incarnation < self.life => return None,
            Mail::Tell(input) => input,
            Mail::Publish {
                from,
                owner_epoch,
                publishes,
                asker: (call, part),
            } => Input::Publish(Publishes {
                token: self.asker(Asker::Part(call, part)),
                from,
                owner_epoch,
                publishes: publishes.publishes,
                held_ms: publishes.held_ms,
            }),
            Mail::Bind {
                from,
                owner_epoch,
                bind,
                asker: (call, part),
            } => Input::Bind {
                token: self.asker(Asker::Part(call, part)),
                from,
                owner_epoch,
                bind,
            },
            Mail::Fetch {
                from,
                owner_epoch,
                topic,
                after,
                asker: (call, part),
            } => Input::Fetch {
                token: self.asker(Asker::Part(call, part)),
                from,
                owner_epoch,
                topic,
                after,
            },
            Mail::Pull {
                from,
                pull,
                asker: (life, call),
            } => Input::Pull {
                token: self.asker(Asker::Pull(life, call)),
                from,
                pull,
            },
        })
    }
}
