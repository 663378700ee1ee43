//! Calls of gateways and of other topic servers. Mirrors `topic-server/src/grpc.rs` and `header.rs`.
//!
//! *Invariant:* no commit is acknowledged unless the lease is still certain when the answer leaves.

use std::time::Duration;

use ringcast_proto::v1::{
    self, BindOutcome, BindStatus, FetchOutcome, FetchStatus, SlotPublishAnswer, SlotStatus,
};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot, Topic};
use ringcast_topic_server_core::{Bind, Cursor, PullPage};

use super::Server;
use super::mail::Mail;
use crate::env::Env;
use crate::wire::{Answer, CallNumber, Life, Timer};

const ANSWER_DEADLINE: Duration = Duration::from_millis(20);
const BIND_DEADLINE: Duration = Duration::from_millis(500);
const RETRY_AFTER_MS: u32 = 25;
/// What a handler takes by itself.
const HANDLING: Duration = Duration::from_micros(40);

/// A call that waits for its slots.
#[derive(Debug)]
pub(super) struct Answering {
    caller: Life,
    call: CallNumber,
    /// The life in which it came.
    life: Incarnation,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Publish(Vec<(u32, Option<SlotPublishAnswer>)>),
    Bind(Vec<Option<BindOutcome>>),
    Fetch(Vec<Option<FetchOutcome>>),
}

impl Server {
    /// Who calls.
    fn caller(&self, header: Option<&v1::CallHeader>) -> Result<NodeRef, Answer> {
        let header = header.ok_or(Answer::Refused("no header"))?;
        let table = self.table.as_ref().ok_or(Answer::Unavailable)?;
        if header.birth_digest != table.birth_digest() {
            return Err(Answer::Refused("birth digests differ"));
        }
        if header.to_incarnation != self.base.node().incarnation.0 {
            return Err(Answer::Refused("for another incarnation"));
        }
        let node = NodeId::parse(&header.from).map_err(|_| Answer::Refused("no node id"))?;
        let from = NodeRef {
            node,
            incarnation: Incarnation(header.from_incarnation),
        };
        if table.address(&from).is_some() {
            return Ok(from);
        }
        if from.incarnation.0 > table.revision().0 {
            return Err(Answer::Unavailable);
        }
        Err(Answer::Refused("not registered any more"))
    }

    pub(super) fn publish_call(
        &mut self,
        env: &mut Env,
        caller: Life,
        call: CallNumber,
        publish: v1::PublishCall,
    ) {
        let from = match self.caller(publish.header.as_ref()) {
            Ok(from) => from,
            Err(refused) => return self.send(env, caller, call, refused),
        };
        let parts = publish.slots.iter().map(|slot| (slot.slot, None)).collect();
        let number = self.answering(caller, call, Parts::Publish(parts));
        env.timer(
            self.base.life,
            self.base.clock,
            ANSWER_DEADLINE,
            Timer::AnswerCall(number),
        );
        for (part, publishes) in publish.slots.into_iter().enumerate() {
            let slot = publishes.slot;
            let Some(asked) = self.slot(slot) else {
                self.part_published(env, number, part, rest(slot, SlotStatus::NotOwner));
                continue;
            };
            let mail = Mail::Publish {
                from: from.clone(),
                owner_epoch: OwnerEpoch(publishes.owner_epoch),
                publishes,
                asker: (number, part),
            };
            if !self.ask(env, asked, mail) {
                let overloaded = SlotPublishAnswer {
                    retry_after_ms: RETRY_AFTER_MS,
                    ..rest(slot, SlotStatus::Overloaded)
                };
                self.part_published(env, number, part, overloaded);
            }
        }
        self.answer_if_whole(env, number);
    }

    pub(super) fn bind_call(&mut self, env: &mut Env, caller: Life, call: CallNumber, binds: v1::BindCall) {
        let from = match self.caller(binds.header.as_ref()) {
            Ok(from) => from,
            Err(refused) => return self.send(env, caller, call, refused),
        };
        let number = self.answering(caller, call, Parts::Bind(vec![None; binds.binds.len()]));
        env.timer(
            self.base.life,
            self.base.clock,
            BIND_DEADLINE,
            Timer::AnswerCall(number),
        );
        for (part, bind) in binds.binds.into_iter().enumerate() {
            let owner_epoch = OwnerEpoch(bind.owner_epoch);
            let (Some(slot), parsed) = (self.slot(bind.slot), Bind::parse(bind)) else {
                self.part_bound(env, number, part, unbound(BindStatus::NotOwner));
                continue;
            };
            let Ok(bind) = parsed else {
                env.check.fail(
                    env.now,
                    "I12",
                    "a gateway sent a bind that cannot be read".to_owned(),
                );
                return;
            };
            let mail = Mail::Bind {
                from: from.clone(),
                owner_epoch,
                bind,
                asker: (number, part),
            };
            if !self.ask(env, slot, mail) {
                let overloaded = BindOutcome {
                    retry_after_ms: RETRY_AFTER_MS,
                    ..unbound(BindStatus::Overloaded)
                };
                self.part_bound(env, number, part, overloaded);
            }
        }
        self.answer_if_whole(env, number);
    }

    pub(super) fn fetch_call(
        &mut self,
        env: &mut Env,
        caller: Life,
        call: CallNumber,
        fetches: v1::FetchCall,
    ) {
        let from = match self.caller(fetches.header.as_ref()) {
            Ok(from) => from,
            Err(refused) => return self.send(env, caller, call, refused),
        };
        // An answer may be a prefix of what was asked for.
        let mut asked = fetches.fetches;
        if asked.len() > 1 && env.random.chance(200_000) {
            asked.truncate(asked.len() / 2);
        }
        let number = self.answering(caller, call, Parts::Fetch(vec![None; asked.len()]));
        env.timer(
            self.base.life,
            self.base.clock,
            BIND_DEADLINE,
            Timer::AnswerCall(number),
        );
        for (part, fetch) in asked.into_iter().enumerate() {
            let Some(slot) = self.slot(fetch.slot) else {
                self.part_fetched(env, number, part, unfetched(FetchStatus::NotOwner));
                continue;
            };
            let after = fetch.after.as_ref().and_then(|after| Cursor::parse(after).ok());
            let (Ok(topic), Some(after)) = (Topic::parse(&fetch.topic), after) else {
                env.check.fail(
                    env.now,
                    "I12",
                    "a gateway sent a fetch that cannot be read".to_owned(),
                );
                return;
            };
            let mail = Mail::Fetch {
                from: from.clone(),
                owner_epoch: OwnerEpoch(fetch.owner_epoch),
                topic,
                after,
                asker: (number, part),
            };
            if !self.ask(env, slot, mail) {
                let overloaded = FetchOutcome {
                    retry_after_ms: RETRY_AFTER_MS,
                    ..unfetched(FetchStatus::Overloaded)
                };
                self.part_fetched(env, number, part, overloaded);
            }
        }
        self.answer_if_whole(env, number);
    }

    pub(super) fn pull_call(&mut self, env: &mut Env, caller: Life, call: CallNumber, pull: v1::PullCall) {
        let from = match self.caller(pull.header.as_ref()) {
            Ok(from) => from,
            Err(refused) => return self.send(env, caller, call, refused),
        };
        let Some(slot) = self.slot(pull.slot) else {
            return self.send(env, caller, call, Answer::Refused("no such slot"));
        };
        let page = PullPage {
            owner_epoch: OwnerEpoch(pull.owner_epoch),
            move_id: pull.move_id,
            attempt: pull.attempt,
            page: pull.page,
        };
        let mail = Mail::Pull {
            from,
            pull: page,
            asker: (caller, call),
        };
        if !self.ask(env, slot, mail) {
            self.send(env, caller, call, Answer::Unavailable);
        }
    }

    pub(super) fn pull_answered(
        &mut self,
        env: &mut Env,
        caller: Life,
        call: CallNumber,
        answer: v1::PullAnswer,
    ) {
        self.send(env, caller, call, Answer::Pulled(answer));
    }

    pub(super) fn part_published(
        &mut self,
        env: &mut Env,
        number: u64,
        part: usize,
        answer: SlotPublishAnswer,
    ) {
        if let Some(Answering {
            parts: Parts::Publish(parts),
            ..
        }) = self.answering.get_mut(&number)
            && let Some((_, waiting)) = parts.get_mut(part)
        {
            *waiting = Some(answer);
        }
        self.answer_if_whole(env, number);
    }

    pub(super) fn part_bound(&mut self, env: &mut Env, number: u64, part: usize, outcome: BindOutcome) {
        if let Some(Answering {
            parts: Parts::Bind(parts),
            ..
        }) = self.answering.get_mut(&number)
            && let Some(waiting) = parts.get_mut(part)
        {
            *waiting = Some(outcome);
        }
        self.answer_if_whole(env, number);
    }

    pub(super) fn part_fetched(&mut self, env: &mut Env, number: u64, part: usize, outcome: FetchOutcome) {
        if let Some(Answering {
            parts: Parts::Fetch(parts),
            ..
        }) = self.answering.get_mut(&number)
            && let Some(waiting) = parts.get_mut(part)
        {
            *waiting = Some(outcome);
        }
        self.answer_if_whole(env, number);
    }

    fn answering(&mut self, caller: Life, call: CallNumber, parts: Parts) -> u64 {
        self.asked += 1;
        let answering = Answering {
            caller,
            call,
            life: self.base.node().incarnation,
            parts,
        };
        self.answering.insert(self.asked, answering);
        self.asked
    }

    fn answer_if_whole(&mut self, env: &mut Env, number: u64) {
        let whole = self
            .answering
            .get(&number)
            .is_some_and(|answering| match &answering.parts {
                Parts::Publish(parts) => parts.iter().all(|(_, answer)| answer.is_some()),
                Parts::Bind(parts) => parts.iter().all(Option::is_some),
                Parts::Fetch(parts) => parts.iter().all(Option::is_some),
            });
        if whole {
            self.answer_now(env, number);
        }
    }

    /// The answer leaves, with what is decided by now.
    pub(super) fn answer_now(&mut self, env: &mut Env, number: u64) {
        let Some(answering) = self.answering.remove(&number) else {
            return;
        };
        let Answering {
            caller,
            call,
            life,
            parts,
        } = answering;
        let answer = match parts {
            Parts::Publish(parts) => {
                let certain = self.base.valid_for(life, self.base.now(env));
                let slots: Vec<_> = parts
                    .into_iter()
                    .map(|(slot, answer)| answer.unwrap_or_else(|| rest(slot, SlotStatus::Pending)))
                    .map(|answer| leaves(answer, certain))
                    .collect();
                let node = self.base.as_of(life);
                for slot in &slots {
                    env.check.acknowledged(env.now, &node, slot);
                }
                Answer::Published(v1::PublishAnswer {
                    incarnation: life.0,
                    slots,
                })
            }
            Parts::Bind(parts) => {
                let outcomes = parts
                    .into_iter()
                    .map(|outcome| outcome.unwrap_or_else(|| unbound(BindStatus::Overloaded)))
                    .collect();
                Answer::Bound(v1::BindAnswer {
                    incarnation: life.0,
                    outcomes,
                })
            }
            Parts::Fetch(parts) => {
                let outcomes = parts
                    .into_iter()
                    .map(|outcome| outcome.unwrap_or_else(|| unfetched(FetchStatus::Overloaded)))
                    .collect();
                Answer::Fetched(v1::FetchAnswer {
                    incarnation: life.0,
                    outcomes,
                })
            }
        };
        self.send(env, caller, call, answer);
    }

    fn send(&mut self, env: &mut Env, caller: Life, call: CallNumber, answer: Answer) {
        env.answer(self.base.life.peer, caller, call, answer, HANDLING);
    }

    fn slot(&self, number: u32) -> Option<Slot> {
        let number = u16::try_from(number).ok()?;
        (usize::from(number) < self.slots.len()).then_some(Slot(number))
    }
}

/// The answer as it leaves: without the lease nothing that was committed is acknowledged.
fn leaves(answer: SlotPublishAnswer, certain: bool) -> SlotPublishAnswer {
    if certain || answer.outcomes.is_empty() {
        return answer;
    }
    SlotPublishAnswer {
        owner_epoch: answer.owner_epoch,
        ..rest(answer.slot, SlotStatus::OwnerLeaseLost)
    }
}

fn rest(slot: u32, status: SlotStatus) -> SlotPublishAnswer {
    SlotPublishAnswer {
        slot,
        rest: status.into(),
        ..SlotPublishAnswer::default()
    }
}

fn unbound(status: BindStatus) -> BindOutcome {
    BindOutcome {
        status: status.into(),
        ..BindOutcome::default()
    }
}

fn unfetched(status: FetchStatus) -> FetchOutcome {
    FetchOutcome {
        status: status.into(),
        ..FetchOutcome::default()
    }
}
