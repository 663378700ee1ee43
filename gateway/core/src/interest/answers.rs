//! What owners answer to binds.
//!
//! *Invariant:* a join is confirmed only by the present owner; whatever is not a clear yes is told again.

use ringcast_proto::v1::{self, BindStatus};
use ringcast_proto::{Millis, Offset, OwnerEpoch, Slot, Topic};

use super::wanted::{Bound, From, InFlight, Wanted};
use super::{Event, Interest, position};
use crate::backoff::{Jitter, sealed_pause};
use crate::gateway::{CallFailed, CallId};
use crate::owners::Owners;

/// When the next bind of a slot may leave.
enum Next {
    /// At once: all is well.
    Well,
    /// At once, and not because all is well.
    Now,
    /// Soon: the slot is on the move, and some milliseconds may settle it.
    Soon,
    /// After a while that grows with every failure in a row.
    Later,
    /// After so many milliseconds, as the owner said.
    After(u32),
}

/// What an answer is judged by.
struct Context<'a> {
    slot: Slot,
    owners: &'a mut Owners,
    events: &'a mut Vec<Event>,
}

impl Interest {
    /// Takes the answer to a Bind call.
    pub(crate) fn bound(
        &mut self,
        call: CallId,
        answer: Result<v1::BindAnswer, CallFailed>,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
    ) -> Vec<Event> {
        let Some(sent) = self.calls.remove(&call) else {
            return Vec::new();
        };
        let outcomes = match answer {
            // An answer that does not fit the call tells nothing.
            Ok(answer) if answer.outcomes.len() == sent.topics.len() => {
                self.lanes.done(&sent.to, call);
                answer.outcomes.into_iter().map(Some).collect()
            }
            Ok(_) | Err(_) => {
                self.lanes.failed(&sent.to, call, now, jitter);
                vec![None; sent.topics.len()]
            }
        };
        let mut events = Vec::new();
        for ((slot, topic), outcome) in sent.topics.into_iter().zip(outcomes) {
            let Some(wanted) = self
                .slots
                .get_mut(&slot)
                .and_then(|topics| topics.get_mut(&topic))
            else {
                continue;
            };
            let Some(in_flight) = wanted.in_flight.take_if(|sent| sent.call == call) else {
                continue;
            };
            let context = Context {
                slot,
                owners,
                events: &mut events,
            };
            let next = wanted.settle(&topic, in_flight, outcome, context);
            // What another node than the owner says is no reason to make the owner wait.
            if owners.owner(slot).is_none_or(|(owner, _)| owner == sent.to) {
                self.pause(slot, next, now, jitter);
            }
            self.queue(slot, &topic, now);
        }
        events
    }

    fn pause(&mut self, slot: Slot, next: Next, now: Millis, jitter: &mut Jitter) {
        if let Next::Well = next {
            self.not_before.remove(&slot);
        }
        if let Next::Well | Next::Now = next {
            return;
        }
        let (not_before, failures) = self.not_before.entry(slot).or_default();
        // Topics of one call share one pause.
        if *not_before > now {
            return;
        }
        *not_before = now
            + match next {
                Next::After(ms) => sealed_pause(ms),
                Next::Soon => jitter.soon(*failures),
                Next::Well | Next::Now | Next::Later => jitter.delay(*failures),
            };
        if !matches!(next, Next::After(_)) {
            *failures = failures.saturating_add(1);
        }
    }
}

impl Wanted {
    fn settle(
        &mut self,
        topic: &Topic,
        sent: InFlight,
        outcome: Option<v1::BindOutcome>,
        context: Context<'_>,
    ) -> Next {
        // No answer, or a status of a later build: it may have been applied. Then the number of the change to come tells
        // the owner that it is none.
        let Some((status, outcome)) =
            outcome.and_then(|outcome| Some((BindStatus::try_from(outcome.status).ok()?, outcome)))
        else {
            self.tell_again(sent.told);
            return Next::Later;
        };
        match status {
            BindStatus::Ok => self.confirmed(topic, sent, &outcome, context),
            BindStatus::TooManyTopics | BindStatus::BadRequest => self.refused(topic, context.events),
            BindStatus::NeedFull => {
                self.bound = None;
                self.tell_again(sent.told);
                Next::Now
            }
            BindStatus::NotOwner => {
                self.tell_again(sent.told);
                if context.owners.hint(context.slot, outcome.owner.as_ref()) {
                    Next::Now
                } else {
                    Next::Soon
                }
            }
            BindStatus::Sealed => {
                self.tell_again(sent.told);
                Next::After(outcome.retry_after_ms)
            }
            BindStatus::Overloaded => {
                self.tell_again(sent.told);
                Next::Later
            }
        }
    }

    fn confirmed(
        &mut self,
        topic: &Topic,
        sent: InFlight,
        outcome: &v1::BindOutcome,
        context: Context<'_>,
    ) -> Next {
        let Context { slot, owners, events } = context;
        let owner_epoch = OwnerEpoch(outcome.owner_epoch);
        let fenced = !owners.see(slot, owner_epoch);
        // Of a group without members an owner keeps nothing that a change could be made to.
        self.bound = (!sent.empty).then_some(Bound {
            seq: sent.seq,
            at: None,
        });
        if fenced {
            // It went with the slot or it did not; the present owner knows, and is told the change to it.
            return Next::Soon;
        }
        self.owner_knows = !sent.empty;
        let stands = outcome.cursor.as_ref().and_then(position);
        // The slot may have moved on while the answer was on its way.
        let still_there = owners.owner(slot).is_some_and(|(owner, _)| owner == sent.to);
        let goes_on = match (sent.from, &stands, &self.cursor) {
            // A delivery for an earlier bind came in between, and what follows it is not on its way.
            (From::Head, Some((epoch, from)), Some((known, passed))) => epoch != known || from <= passed,
            (From::Head, ..) | (From::Cursor, ..) => true,
            // The slot was elsewhere in between: the group stands where another owner left it.
            (From::Group(before), ..) => before == owner_epoch,
        };
        if let Some(bound) = self.bound.as_mut().filter(|_| still_there && goes_on) {
            bound.at = Some((sent.to, owner_epoch));
        }
        let head = stands
            .as_ref()
            .map(|(epoch, _)| (epoch.clone(), Offset(outcome.head)));
        if let Some((epoch, offset)) = stands {
            match &self.cursor {
                Some((known, _)) if *known == epoch => {}
                Some(_) => {
                    self.begin_anew(epoch.clone(), offset);
                    events.push(Event::Anew(topic.clone(), epoch, offset));
                }
                None => self.cursor = Some((epoch, offset)),
            }
        }
        if sent.empty {
            // Nobody was left: who joins now begins at the head, not where the others stopped.
            self.cursor = None;
        }
        let admitted = self.admit(sent.seq);
        let joined = admitted.joined.into_iter();
        events.extend(joined.map(|session| Event::Joined(topic.clone(), session)));
        let known = admitted.known.into_iter();
        events.extend(known.map(|session| Event::Known(topic.clone(), session, head.clone())));
        Next::Well
    }

    fn refused(&mut self, topic: &Topic, events: &mut Vec<Event>) -> Next {
        for (session, _) in std::mem::take(&mut self.joining) {
            self.members.remove(&session);
            events.push(Event::Refused(topic.clone(), session));
        }
        // It made nothing of it. Those who were joined before are told again, at a pace; those who were refused come
        // again by themselves, and must not slow the slot's other topics.
        self.bound = None;
        self.untold = Default::default();
        self.owner_knows = false;
        if self.members.is_empty() {
            Next::Now
        } else {
            Next::Later
        }
    }
}
