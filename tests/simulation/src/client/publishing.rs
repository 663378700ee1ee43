//! What a client publishes: to whom, with or without an id, and again when it was not answered.

use super::channel::Waiting;
use super::{Client, is_topics, topic_name};
use crate::check::{Aim, Invoked, PubId};
use crate::env::Env;

/// Publishes it has under way at most.
const UNANSWERED_MAX: usize = 48;

/// Ids of a topic it remembers having used.
const USED_MAX: usize = 1_000;

/// Clients of one subject use one id in the same half second.
const SHARED_ID_US: u64 = 500_000;

/// The event of `room:*` that takes no offset.
pub(crate) const EPHEMERAL: &str = "typing";

/// A publish with an id, which may be sent more than once.
#[derive(Debug)]
pub(super) struct Draft {
    topic: usize,
    id: PubId,
    event: &'static str,
    payload: String,
}

impl Client {
    pub(super) fn publish(&mut self, env: &mut Env, topic: usize) {
        let Some(join_ref) = self.may_publish(topic) else {
            return;
        };
        self.published += 1;
        let name = topic_name(topic);
        let id = PubId {
            client: u32::try_from(self.number).unwrap_or(u32::MAX),
            number: self.published,
        };
        let aim = self.aim(topic);
        let msg_id = self.msg_id(env, topic);
        let (event, payload) = push(topic, id, &aim, msg_id.as_deref());
        env.check.invoked(
            env.now,
            Invoked {
                id,
                topic: &name,
                aim,
                key: msg_id.as_deref().map(|msg_id| (self.subject.as_str(), msg_id)),
            },
        );
        if msg_id.is_some() && self.resumes {
            let draft = Draft {
                topic,
                id,
                event,
                payload: payload.clone(),
            };
            self.drafts.insert(id.number, draft);
        }
        self.push(env, topic, join_ref, id, event, &payload);
    }

    /// Sends a publish again, if it is still wanted and its topic is joined.
    pub(super) fn repeat(&mut self, env: &mut Env, number: u64) {
        let Some(draft) = self.drafts.get(&number) else {
            return;
        };
        let topic = draft.topic;
        if !self.wanted.contains(&topic) {
            // It left: it does not want to know any more.
            self.drafts.remove(&number);
            return;
        }
        let joined = self
            .channels
            .get(&topic)
            .is_some_and(|channel| channel.joined.is_some());
        let Some(join_ref) = self.may_publish(topic).filter(|_| joined) else {
            self.again.push_back(number);
            return;
        };
        let (id, event, payload) = (draft.id, draft.event, draft.payload.clone());
        self.push(env, topic, join_ref, id, event, &payload);
    }

    /// Nobody answered it, or not well: it is sent again if it has an id.
    pub(super) fn send_again(&mut self, id: PubId) {
        if self.drafts.contains_key(&id.number) {
            self.again.push_back(id.number);
        }
    }

    /// The join_ref to publish under.
    fn may_publish(&self, topic: usize) -> Option<u64> {
        let ends =
            |waiting: &Waiting| matches!(waiting, Waiting::Join(of, _) | Waiting::Leave(of) if *of == topic);
        // What is pushed behind a leave is for no channel; that is the gateway's own tests' matter.
        if self.waiting.len() >= UNANSWERED_MAX || self.waiting.values().any(ends) {
            return None;
        }
        Some(self.channels.get(&topic)?.join_ref)
    }

    fn push(&mut self, env: &mut Env, topic: usize, join_ref: u64, id: PubId, event: &str, payload: &str) {
        self.last_ref += 1;
        let (reference, name) = (self.last_ref, topic_name(topic));
        self.waiting.insert(reference, Waiting::Publish(topic, id));
        env.check.sent(id, self.connection, self.sent);
        self.sent += 1;
        self.text(
            env,
            format!("[\"{join_ref}\",\"{reference}\",\"{name}\",\"{event}\",{payload}]"),
        );
    }

    fn aim(&mut self, topic: usize) -> Aim {
        if !self.random.chance(self.habits.aims) {
            return Aim::All;
        }
        // Of `topics:*` nothing but the two that all families have is open.
        match self.random.below(if is_topics(topic) { 1 } else { 4 }) {
            0 => Aim::Others,
            1 => Aim::One,
            2 if !self.subject.is_empty() => {
                let first = self.random.below(6);
                Aim::Members((first..first + 2).map(|user| format!("user-{user}")).collect())
            }
            _ => Aim::Fleeting,
        }
    }

    fn msg_id(&mut self, env: &Env, topic: usize) -> Option<String> {
        if !self.random.chance(self.habits.ids) {
            return None;
        }
        let used = self.used.entry(topic).or_default();
        if self.random.chance(self.habits.repeats)
            && let Some(before) = self.random.pick(used)
        {
            return Some(before.clone());
        }
        let id = if self.habits.shared_subjects && self.random.chance(300_000) {
            format!("shared-{}", env.now.0 / SHARED_ID_US)
        } else {
            format!("{}-{}", self.number, self.published)
        };
        if used.len() < USED_MAX {
            used.push(id.clone());
        }
        Some(id)
    }
}

/// Event and payload of the push that publishes it: the plain one where that can say it.
fn push(topic: usize, id: PubId, aim: &Aim, msg_id: Option<&str>) -> (&'static str, String) {
    let payload = id.payload();
    let target = match aim {
        Aim::All | Aim::Fleeting => None,
        Aim::Others => Some("\"others\"".to_owned()),
        Aim::One => Some("\"one\"".to_owned()),
        Aim::Members(names) => Some(format!("{{\"members\":{names:?}}}")),
    };
    let event = if *aim == Aim::Fleeting { EPHEMERAL } else { "msg" };
    if target.is_none() && msg_id.is_none() {
        return if is_topics(topic) {
            ("publish", format!("[\"{event}\",{payload}]"))
        } else {
            (event, payload)
        };
    }
    let msg_id = msg_id.map_or_else(String::new, |msg_id| format!(",\"msg_id\":\"{msg_id}\""));
    let target = target.map_or_else(String::new, |target| format!(",\"target\":{target}"));
    let body = format!("{{\"event\":\"{event}\",\"payload\":{payload}{msg_id}{target}}}");
    ("publish", body)
}
