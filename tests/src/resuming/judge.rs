//! Goes through a story: what was acknowledged and seen makes each topic's log, and every subscriber is held to it.
//!
//! *Invariant:* an offset between a subscriber's position and what it is told next is a loss, unless a gap or a join that
//! did not recover said so before, or it is the subscriber's own publish to others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::story::{Answer, Asked, Position, Publish, Seen, Story, SubscriberNumber, Trail};
use super::verdict::{Missed, Verdict};
use crate::ledger::TopicNumber;

/// Offset to number, by epoch.
type Log = BTreeMap<Arc<str>, BTreeMap<u64, u64>>;

impl Story {
    /// What it comes to.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let logs = self.logs(&mut verdict);
        self.judge_publishes(&mut verdict);
        for (&topic, log) in &logs {
            self.judge_log(topic, log, &mut verdict);
        }
        let ends = self.ends();
        let nothing = Log::new();
        for (&(topic, subscriber), trail) in &self.trails {
            let mut reader = Reader {
                story: self,
                topic,
                subscriber,
                log: logs.get(&topic).unwrap_or(&nothing),
                position: None,
                joined: Duration::ZERO,
                held: BTreeSet::new(),
                left: BTreeSet::new(),
                verdict: &mut verdict,
            };
            reader.read(trail);
            if !self.away.contains(&subscriber) {
                reader.end(ends.get(&topic));
            }
        }
        verdict
    }

    /// What lies where, by what was acknowledged and by what subscribers saw.
    fn logs(&self, verdict: &mut Verdict) -> BTreeMap<TopicNumber, Log> {
        let mut logs: BTreeMap<TopicNumber, Log> = BTreeMap::new();
        let mut enter = |topic, position: &Position, number: u64, who: &dyn Fn() -> String| {
            let log = logs.entry(topic).or_default();
            let epoch = log.entry(Arc::clone(&position.epoch)).or_default();
            let there = *epoch.entry(position.offset).or_insert(number);
            if there != number {
                verdict.divided.push(format!(
                    "topic {topic} {position} is {there}, and {number} {}",
                    who()
                ));
            }
        };
        for (&(topic, number), publish) in &self.publishes {
            for (_, answer) in &publish.answers {
                if let Answer::Committed { position, .. } = answer {
                    enter(topic, position, number, &|| "by its reply".to_owned());
                }
            }
        }
        for (&(topic, subscriber), trail) in &self.trails {
            for (epoch, offset, number) in trail.publications() {
                enter(topic, &Position { epoch, offset }, number, &|| {
                    format!("at subscriber {subscriber}")
                });
            }
        }
        logs
    }

    fn judge_publishes(&self, verdict: &mut Verdict) {
        for (&(topic, number), publish) in &self.publishes {
            let mut places: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
            let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, answer) in &publish.answers {
                if let Answer::Committed { position, is_dup } = answer {
                    places.entry(&position.epoch).or_default().insert(position.offset);
                    *firsts.entry(&position.epoch).or_default() += usize::from(!is_dup);
                    verdict.dups += usize::from(*is_dup);
                }
            }
            if places.is_empty() {
                let last = publish.answers.last();
                verdict
                    .unanswered
                    .push(format!("{topic}/{number}, last answer {last:?}"));
                continue;
            }
            verdict.acknowledged += 1;
            for (epoch, offsets) in places.iter().filter(|(_, offsets)| offsets.len() > 1) {
                verdict
                    .doubled
                    .push(format!("{topic}/{number} answered with {epoch}@{offsets:?}"));
            }
            for (epoch, count) in firsts.into_iter().filter(|(_, count)| *count > 1) {
                verdict.wrong.push(format!(
                    "{topic}/{number} in {epoch}: {count} answers without dup"
                ));
            }
        }
    }

    /// A topic's log: each publish once an epoch, and in the order sent.
    fn judge_log(&self, topic: TopicNumber, log: &Log, verdict: &mut Verdict) {
        for (epoch, places) in log {
            let mut place_of: BTreeMap<u64, u64> = BTreeMap::new();
            let mut highest = 0;
            for (&offset, &number) in places {
                if let Some(before) = place_of.insert(number, offset) {
                    verdict
                        .doubled
                        .push(format!("{topic}/{number} at {epoch}@{before} and @{offset}"));
                    continue;
                }
                let Some(publish) = self.publishes.get(&(topic, number)) else {
                    verdict
                        .invented
                        .push(format!("{topic}/{number} at {epoch}@{offset}"));
                    continue;
                };
                if publish.is_refused() {
                    verdict
                        .invented
                        .push(format!("{topic}/{number} (refused) at {epoch}@{offset}"));
                }
                // Sent again after an error, it may come after what was sent meanwhile.
                if publish.was_put_off() {
                    continue;
                }
                if number < highest {
                    verdict.reordered.push(format!(
                        "{topic}/{number} at {epoch}@{offset} comes after {topic}/{highest}"
                    ));
                }
                highest = highest.max(number);
            }
        }
    }

    /// By topic: the epoch it ended in, by the last answer.
    fn ends(&self) -> BTreeMap<TopicNumber, Arc<str>> {
        let mut ends: BTreeMap<TopicNumber, (Duration, Arc<str>)> = BTreeMap::new();
        for (&(topic, _), publish) in &self.publishes {
            for (at, answer) in &publish.answers {
                if let Answer::Committed { position, .. } = answer
                    && ends.get(&topic).is_none_or(|(latest, _)| at >= latest)
                {
                    ends.insert(topic, (*at, Arc::clone(&position.epoch)));
                }
            }
        }
        ends.into_iter()
            .map(|(topic, (_, epoch))| (topic, epoch))
            .collect()
    }
}

impl Publish {
    /// The last word was an error after which nothing can have happened.
    fn is_refused(&self) -> bool {
        let unknown = |answer: &Answer| !matches!(answer, Answer::Refused(reason) if reason != "timeout");
        !self.answers.is_empty() && !self.answers.iter().any(|(_, answer)| unknown(answer))
    }

    fn was_put_off(&self) -> bool {
        self.answers
            .iter()
            .any(|(_, answer)| matches!(answer, Answer::Refused(_)))
    }
}

impl Trail {
    /// What came: epoch, offset, number. Before the first join there is no epoch, which the reader complains about.
    pub(super) fn publications(&self) -> impl Iterator<Item = (Arc<str>, u64, u64)> {
        let mut now: Option<Arc<str>> = None;
        self.seen.iter().filter_map(move |(_, seen)| match seen {
            Seen::Joined { position, .. } => {
                now = Some(Arc::clone(&position.epoch));
                None
            }
            Seen::Gap { epoch, .. } => {
                now = Some(Arc::clone(epoch));
                None
            }
            Seen::Got { offset, number } => Some((now.clone()?, *offset, *number)),
            Seen::Lost(_) => None,
        })
    }
}

/// Follows one trail.
struct Reader<'a> {
    story: &'a Story,
    topic: TopicNumber,
    subscriber: SubscriberNumber,
    log: &'a Log,
    position: Option<Position>,
    /// When it last joined.
    joined: Duration,
    held: BTreeSet<(Arc<str>, u64)>,
    /// Epochs that are over for it.
    left: BTreeSet<Arc<str>>,
    verdict: &'a mut Verdict,
}

impl Reader<'_> {
    fn read(&mut self, trail: &Trail) {
        for (at, seen) in &trail.seen {
            match seen {
                Seen::Joined {
                    asked,
                    position,
                    is_recovered,
                } => {
                    self.joined = *at;
                    self.join(asked, position, *is_recovered);
                }
                Seen::Got { offset, number } => self.get(*offset, *number),
                Seen::Gap {
                    epoch,
                    from,
                    to,
                    reason,
                } => self.gap(epoch, *from, *to, reason),
                Seen::Lost(_) => self.verdict.reconnects += 1,
            }
        }
    }

    fn join(&mut self, asked: &Asked, now: &Position, is_recovered: bool) {
        let before = match asked {
            Asked::FromNow if is_recovered => return self.wrong(format!("recovered {now} from nothing")),
            Asked::FromNow => {
                self.position = Some(now.clone());
                return;
            }
            Asked::After(before) => before,
        };
        if self.position.as_ref() != Some(before) {
            self.wrong(format!("asked for {before}, standing at {:?}", self.position));
        }
        match (is_recovered, now.epoch == before.epoch) {
            (true, _) if now != before => self.wrong(format!("recovered {before}, and stands at {now}")),
            (true, _) => self.verdict.recovered += 1,
            (false, true) if now.offset <= before.offset => {
                self.wrong(format!("did not recover {before}, and the head is {now}"));
            }
            (false, true) => {
                let missed = self.publications(&now.epoch, before.offset + 1, now.offset).len();
                self.missed("recovered: false", missed);
            }
            (false, false) => self.change_epoch(now, "recovered: false"),
        }
        self.position = Some(now.clone());
    }

    fn get(&mut self, offset: u64, number: u64) {
        let Some(position) = self.position.clone() else {
            return self.wrong(format!("got {number} at @{offset} before it joined"));
        };
        self.verdict.deliveries += 1;
        let publish = self.story.publishes.get(&(self.topic, number));
        self.verdict.replayed += usize::from(publish.is_some_and(|publish| publish.sent < self.joined));
        let epoch = Arc::clone(&position.epoch);
        if offset <= position.offset {
            let what = format!(
                "{}/{number} at {epoch}@{offset} after @{} at subscriber {}",
                self.topic, position.offset, self.subscriber
            );
            if self.held.contains(&(epoch, offset)) {
                self.verdict.doubled.push(what);
            } else {
                self.verdict.reordered.push(what);
            }
            return;
        }
        self.hole(&epoch, position.offset + 1, offset - 1);
        self.held.insert((Arc::clone(&epoch), offset));
        self.position = Some(Position { epoch, offset });
    }

    fn gap(&mut self, epoch: &Arc<str>, from: u64, to: u64, reason: &str) {
        let Some(position) = self.position.clone() else {
            return self.wrong(format!("a gap {from}..{to} before it joined"));
        };
        let now = Position {
            epoch: Arc::clone(epoch),
            offset: to,
        };
        if *epoch == position.epoch {
            if reason == "epoch_changed" || from <= position.offset || to < from {
                return self.wrong(format!("gap {from}..{to} of {epoch}, {reason}, at {position}"));
            }
            self.hole(epoch, position.offset + 1, from - 1);
            let missed = self.publications(epoch, from, to).len();
            self.missed(reason, missed);
        } else {
            if reason != "epoch_changed" || from != 1 {
                self.wrong(format!("gap {from}..{to} of {epoch}, {reason}, at {position}"));
            }
            self.change_epoch(&now, reason);
        }
        self.position = Some(now);
    }

    fn end(&mut self, ended_in: Option<&Arc<str>>) {
        let Some(position) = self.position.clone() else {
            return self.wrong("never joined".to_owned());
        };
        if ended_in.is_some_and(|epoch| *epoch != position.epoch) {
            self.verdict.lost.push(format!(
                "topic {} ended in {ended_in:?}, subscriber {} at {position}",
                self.topic, self.subscriber
            ));
        }
        self.hole(&position.epoch, position.offset + 1, u64::MAX);
    }

    /// The old epoch is over, and what it still had is missed, as is the new one up to `now`.
    fn change_epoch(&mut self, now: &Position, reason: &str) {
        let mut missed = self.publications(&now.epoch, 1, now.offset).len();
        if let Some(before) = &self.position {
            missed += self
                .publications(&before.epoch, before.offset + 1, u64::MAX)
                .len();
            self.left.insert(Arc::clone(&before.epoch));
        }
        if self.left.contains(&now.epoch) {
            self.verdict.reordered.push(format!(
                "topic {} went back to {now} at subscriber {}",
                self.topic, self.subscriber
            ));
        }
        self.missed(reason, missed);
    }

    /// Nothing explains `from..=to`, so each of them is a loss. Offsets nobody knows of are, too, if others followed.
    fn hole(&mut self, epoch: &Arc<str>, from: u64, to: u64) {
        let known = self.publications(epoch, from, to);
        for (offset, number) in &known {
            self.verdict.lost.push(format!(
                "{}/{number} at {epoch}@{offset} at subscriber {}",
                self.topic, self.subscriber
            ));
        }
        if to == u64::MAX {
            return;
        }
        let places = self.log.get(epoch);
        let is_unknown = |offset: &u64| places.is_none_or(|places| !places.contains_key(offset));
        if let Some(offset) = (from..=to).find(is_unknown) {
            self.verdict.lost.push(format!(
                "topic {} {epoch}@{offset}, which nobody knows, at subscriber {}",
                self.topic, self.subscriber
            ));
        }
    }

    /// What lies in `from..=to` and is for this subscriber.
    fn publications(&self, epoch: &Arc<str>, from: u64, to: u64) -> Vec<(u64, u64)> {
        let Some(places) = self.log.get(epoch).filter(|_| from <= to) else {
            return Vec::new();
        };
        let is_for_it = |number: &u64| {
            let publish = self.story.publishes.get(&(self.topic, *number));
            !publish.is_some_and(|publish| publish.is_to_others && publish.senders.contains(&self.subscriber))
        };
        let all = places.range(from..=to).filter(|(_, number)| is_for_it(number));
        all.map(|(offset, number)| (*offset, *number)).collect()
    }

    fn missed(&mut self, reason: &str, publications: usize) {
        self.verdict.missed.push(Missed {
            topic: self.topic,
            subscriber: self.subscriber,
            reason: reason.to_owned(),
            publications,
        });
    }

    fn wrong(&mut self, what: String) {
        self.verdict.wrong.push(format!(
            "topic {} subscriber {}: {what}",
            self.topic, self.subscriber
        ));
    }
}
