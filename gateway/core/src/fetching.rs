//! What was published while sessions were away: asked of the owners, for all sessions of a topic at once.
//!
//! *Invariant:* a node has one such call in flight at most, and an answer counts only for the sessions that waited when it
//! was asked for: whoever came later may know more than it says.
//! Leaves out: what a session makes of the answer (`gateway::resume`), and deadlines, which are the joins'.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use ringcast_proto::v1::{self, FetchStatus, Publication};
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, OwnerEpoch, SessionId, Slot, Topic};

use crate::backoff::{Jitter, sealed_pause};
use crate::gateway::{CallFailed, CallId, Effect};
use crate::interest::position;
use crate::lanes::Lanes;
use crate::owners::Owners;

/// Topics in one call. An answer holds as many as one message has room for.
const CALL_TOPICS_MAX: usize = 64;

/// Sessions of a topic that one call is for: each is written hundreds of frames at once when the answer is there, and while
/// thousands come back to one topic these must not all be made before the first is sent.
const CALL_SESSIONS_MAX: usize = 32;

/// A place in a topic's sequence.
pub(crate) type Position = (Epoch, Offset);

/// The end of a topic's sequence, as an owner told it.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) slot: Slot,
    pub(crate) topic: Topic,
    /// Of the epoch that was asked for, and up to the head; none where there is no such topic.
    pub(crate) head: Option<Position>,
    /// Without a hole and up to the head.
    pub(crate) publications: Vec<Publication>,
    /// Who waited for it, and what each has.
    pub(crate) sessions: BTreeMap<SessionId, Position>,
}

/// What is asked and what is to be asked.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    topics: BTreeMap<Slot, BTreeMap<Topic, Waiting>>,
    /// Topics to ask for that are not asked for already.
    ready: BTreeSet<(Slot, Topic)>,
    /// The last one that was told of. The next round begins behind it, since an answer has room for a few that are popular and
    /// the others must have their turn.
    last: Option<(Slot, Topic)>,
    not_before: BTreeMap<Slot, (Millis, u32)>,
    calls: BTreeMap<CallId, Call>,
    lanes: Lanes,
    retry_at: Option<Millis>,
}

/// The sessions that wait for one topic.
#[derive(Debug, Default)]
struct Waiting {
    /// The call in flight.
    call: Option<CallId>,
    /// Whom it is for.
    asked: BTreeMap<SessionId, Position>,
    /// Whom the next one is for.
    next: BTreeMap<SessionId, Position>,
}

#[derive(Debug)]
struct Call {
    id: CallId,
    to: NodeRef,
    topics: Vec<(Slot, Topic)>,
}

impl Fetching {
    /// Whether anybody waits.
    pub(crate) fn busy(&self) -> bool {
        !self.topics.is_empty()
    }

    /// When the next thing that waits for its time may leave.
    pub(crate) fn retry_at(&self) -> Option<Millis> {
        self.retry_at
    }

    /// Whether anybody waits for this topic.
    pub(crate) fn waits(&self, slot: Slot, topic: &Topic) -> bool {
        self.topics
            .get(&slot)
            .is_some_and(|topics| topics.contains_key(topic))
    }

    /// A session wants what follows `after`.
    pub(crate) fn want(&mut self, slot: Slot, topic: &Topic, session: SessionId, after: Position) {
        let waiting = self
            .topics
            .entry(slot)
            .or_default()
            .entry(topic.clone())
            .or_default();
        waiting.next.insert(session, after);
        self.requeue(slot, topic);
    }

    /// A session wants nothing any more.
    pub(crate) fn forget(&mut self, slot: Slot, topic: &Topic, session: SessionId) {
        let Some(waiting) = self
            .topics
            .get_mut(&slot)
            .and_then(|topics| topics.get_mut(topic))
        else {
            return;
        };
        waiting.asked.remove(&session);
        waiting.next.remove(&session);
        self.requeue(slot, topic);
    }

    /// The slots' owners changed: the new ones may be asked at once.
    pub(crate) fn moved(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.not_before.remove(slot);
        }
    }

    /// This gateway is another incarnation: answers to the old one no longer count.
    pub(crate) fn forget_calls(&mut self) {
        self.lanes.clear();
        self.not_before.clear();
        for call in std::mem::take(&mut self.calls).into_values() {
            for (slot, topic) in call.topics {
                self.ask_again(call.id, slot, &topic);
            }
        }
    }

    /// Asks every owner whose lane is idle.
    pub(crate) fn flush(
        &mut self,
        owners: &Owners,
        now: Millis,
        next_call: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        self.retry_at = None;
        if self.ready.is_empty() {
            return;
        }
        let mut batches: BTreeMap<NodeRef, (Call, Vec<v1::Fetch>)> = BTreeMap::new();
        let last = self.last.as_ref();
        let behind = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let first = self.ready.range::<(Slot, Topic), _>(behind);
        let up_to = |last| {
            self.ready
                .range::<(Slot, Topic), _>((Bound::Unbounded, Bound::Included(last)))
        };
        let then = last.into_iter().flat_map(up_to);
        let mut asked = Vec::new();
        for (slot, topic) in first.chain(then) {
            let Some((to, owner_epoch)) = owners.owner(*slot) else {
                continue;
            };
            let Some(free_at) = self.lanes.free_at(&to) else {
                continue;
            };
            let pause = self.not_before.get(slot).map_or(Millis(0), |(at, _)| *at);
            let at = free_at.max(pause);
            if at > now {
                self.retry_at = Some(self.retry_at.map_or(at, |first| first.min(at)));
                continue;
            }
            let (call, fetches) = batches.entry(to.clone()).or_insert_with(|| {
                *next_call += 1;
                let id = CallId(*next_call);
                (
                    Call {
                        id,
                        to,
                        topics: Vec::new(),
                    },
                    Vec::new(),
                )
            });
            if fetches.len() >= CALL_TOPICS_MAX {
                continue;
            }
            let waiting = self.topics.get_mut(slot).and_then(|topics| topics.get_mut(topic));
            asked.push((*slot, topic.clone()));
            let Some(after) = waiting.and_then(|waiting| waiting.ask(call.id)) else {
                continue;
            };
            fetches.push(v1::Fetch {
                slot: u32::from(slot.0),
                owner_epoch: owner_epoch.0,
                topic: Bytes::copy_from_slice(topic.as_bytes()),
                after: Some(after),
            });
            call.topics.push((*slot, topic.clone()));
        }
        for topic in asked {
            self.ready.remove(&topic);
        }
        for (call, fetches) in batches.into_values().filter(|(_, fetches)| !fetches.is_empty()) {
            self.lanes.take(&call.to, call.id);
            effects.push(Effect::Fetch(call.id, call.to.clone(), fetches));
            self.calls.insert(call.id, call);
        }
        self.lanes.retain(now, |node| owners.knows(node));
    }

    /// Takes the answer to a Fetch call, and hands out what it tells.
    pub(crate) fn answered(
        &mut self,
        call: CallId,
        answer: Result<v1::FetchAnswer, CallFailed>,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
    ) -> Vec<Fetched> {
        let Some(Call { to, topics, .. }) = self.calls.remove(&call) else {
            return Vec::new();
        };
        let outcomes = match answer {
            // Nothing at all for what was asked would be asked again for ever.
            Ok(answer) if !answer.outcomes.is_empty() => {
                self.lanes.done(&to, call);
                answer.outcomes
            }
            Ok(_) | Err(_) => {
                self.lanes.failed(&to, call, now, jitter);
                Vec::new()
            }
        };
        let mut fetched = Vec::new();
        let mut outcomes = outcomes.into_iter();
        for (slot, topic) in topics {
            // Beyond the answers there was no room in the message.
            let told = outcomes
                .next()
                .and_then(|outcome| self.judge(slot, &to, outcome, owners, now, jitter));
            match told {
                Some((head, publications)) => {
                    let sessions = self.take_asked(call, slot, &topic);
                    self.requeue(slot, &topic);
                    self.last = Some((slot, topic.clone()));
                    fetched.push(Fetched {
                        slot,
                        topic,
                        head,
                        publications,
                        sessions,
                    });
                }
                None => self.ask_again(call, slot, &topic),
            }
        }
        fetched
    }

    /// What an outcome tells, if it counts.
    fn judge(
        &mut self,
        slot: Slot,
        asked: &NodeRef,
        outcome: v1::FetchOutcome,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
    ) -> Option<(Option<Position>, Vec<Publication>)> {
        let pause = match FetchStatus::try_from(outcome.status) {
            Ok(FetchStatus::Ok) if owners.see(slot, OwnerEpoch(outcome.owner_epoch)) => {
                self.not_before.remove(&slot);
                return Some((outcome.head.as_ref().and_then(position), outcome.publications));
            }
            Ok(FetchStatus::NotOwner) if owners.hint(slot, outcome.owner.as_ref()) => return None,
            Ok(FetchStatus::Sealed) => Some(sealed_pause(outcome.retry_after_ms)),
            // Of an owner that has been superseded, of a later build, or too busy.
            Ok(_) | Err(_) => None,
        };
        // What another node than the owner says is no reason to make the owner wait.
        if owners.owner(slot).is_none_or(|(owner, _)| owner == *asked) {
            let (not_before, failures) = self.not_before.entry(slot).or_default();
            if *not_before <= now {
                *not_before = now + pause.unwrap_or_else(|| jitter.soon(*failures));
                *failures = failures.saturating_add(u32::from(pause.is_none()));
            }
        }
        None
    }

    /// Those for whom this call was made, and who wait no more.
    fn take_asked(&mut self, call: CallId, slot: Slot, topic: &Topic) -> BTreeMap<SessionId, Position> {
        let waiting = self
            .topics
            .get_mut(&slot)
            .and_then(|topics| topics.get_mut(topic))
            .filter(|waiting| waiting.call == Some(call));
        let Some(waiting) = waiting else {
            return BTreeMap::new();
        };
        waiting.call = None;
        std::mem::take(&mut waiting.asked)
    }

    /// What was asked by this call came to nothing.
    fn ask_again(&mut self, call: CallId, slot: Slot, topic: &Topic) {
        let asked = self.take_asked(call, slot, topic);
        let waiting = self
            .topics
            .get_mut(&slot)
            .and_then(|topics| topics.get_mut(topic));
        if let Some(waiting) = waiting {
            for (session, after) in asked {
                waiting.next.entry(session).or_insert(after);
            }
        }
        self.requeue(slot, topic);
    }

    /// Puts the topic where it belongs by who waits for it: among those to ask for, with its call, or nowhere.
    fn requeue(&mut self, slot: Slot, topic: &Topic) {
        let Some(topics) = self.topics.get_mut(&slot) else {
            return;
        };
        let Some(waiting) = topics.get(topic) else { return };
        if !waiting.next.is_empty() {
            if waiting.call.is_none() {
                self.ready.insert((slot, topic.clone()));
            }
            return;
        }
        self.ready.remove(&(slot, topic.clone()));
        if waiting.asked.is_empty() {
            topics.remove(topic);
            if topics.is_empty() {
                self.topics.remove(&slot);
            }
        }
    }
}

impl Waiting {
    /// From where on this call asks, for all who wait for the same epoch. Those of another are next: one of the two is over,
    /// and an answer speaks of one only.
    fn ask(&mut self, call: CallId) -> Option<v1::Position> {
        let (epoch, _) = self.next.values().next()?.clone();
        let same = self.next.iter().filter(|(_, (of, _))| *of == epoch);
        let asked: Vec<SessionId> = same
            .map(|(session, _)| *session)
            .take(CALL_SESSIONS_MAX)
            .collect();
        for session in asked {
            if let Some(after) = self.next.remove(&session) {
                self.asked.insert(session, after);
            }
        }
        self.call = Some(call);
        let offset = self.asked.values().map(|(_, offset)| *offset).min()?;
        Some(v1::Position {
            epoch: epoch.to_bytes(),
            offset: offset.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::{server, table_of};

    #[test]
    fn a_topic_that_few_wait_for_has_its_turn_while_others_fill_every_answer() {
        let mut owners = Owners::default();
        owners.replace(Arc::new(table_of(4, &server("ts-1"), 1)));
        let (mut fetching, mut jitter, mut calls) = (Fetching::default(), Jitter::new(1), 0);
        let at = || (Epoch::parse(b"e").unwrap(), Offset(0));
        let topic = |name: &str| Topic::parse(name.as_bytes()).unwrap();
        for (number, popular) in ["a", "b", "c"].into_iter().enumerate() {
            for session in 0..1_000 {
                let session = SessionId(number as u64 * 1_000 + session);
                fetching.want(Slot(0), &topic(popular), session, at());
            }
        }
        fetching.want(Slot(3), &topic("quiet"), SessionId(1_000_000), at());
        let mut told = Vec::new();
        while fetching.busy() {
            let mut effects = Vec::new();
            fetching.flush(&owners, Millis(1), &mut calls, &mut effects);
            let Some(Effect::Fetch(call, _, fetches)) = effects.pop() else {
                panic!("sessions wait, and nothing is asked")
            };
            // One message has room for three of these.
            let outcomes = fetches.iter().take(3).map(|_| v1::FetchOutcome {
                owner_epoch: 1,
                ..v1::FetchOutcome::default()
            });
            let answer = v1::FetchAnswer {
                incarnation: 1,
                outcomes: outcomes.collect(),
            };
            let fetched = fetching.answered(call, Ok(answer), &mut owners, Millis(1), &mut jitter);
            told.extend(fetched.into_iter().map(|fetched| fetched.topic));
        }
        let turn = told.iter().position(|told| *told == topic("quiet"));
        assert!(turn.is_some_and(|turn| turn < 8), "{turn:?}");
        assert_eq!(told.len(), 1 + 3 * 1_000_usize.div_ceil(CALL_SESSIONS_MAX));
    }
}
