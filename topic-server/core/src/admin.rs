//! What people ask a slot, and taps.

use ringcast_proto::v1::{self, ListMembersReply, ListTopicsReply, ShowTopicReply, TopicGroup, TopicSummary};
use ringcast_proto::{OwnerEpoch, SessionId, Topic as TopicName};

use crate::slot::Slot;
use crate::topic::Topic;
use crate::{Effect, Moment, TapId, Token};

impl Slot {
    pub(crate) fn list_topics(&self, token: Token, prefix: &str, limit: usize, effects: &mut Vec<Effect>) {
        let mut reply = ListTopicsReply::default();
        if let Some(mine) = self.serving() {
            let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
            let mut matching = self.topics.range::<str, _>(from).map(|(_, topic)| &**topic);
            let begins_so = |topic: &&Topic| topic.key.as_str().starts_with(prefix);
            let listed = matching
                .by_ref()
                .take_while(begins_so)
                .take(limit.saturating_add(1));
            reply.topics = listed.map(|topic| self.summary(topic, mine)).collect();
            reply.truncated = reply.topics.len() > limit;
            reply.topics.truncate(limit);
        }
        effects.push(Effect::Listed(token, reply));
    }

    pub(crate) fn show_topic(&self, token: Token, name: &TopicName, effects: &mut Vec<Effect>) {
        let reply = match self.serving() {
            Some(mine) => {
                let topic = self.topics.get(name).map(|topic| self.summary(topic, mine));
                ShowTopicReply {
                    topic,
                    ..ShowTopicReply::default()
                }
            }
            None => ShowTopicReply {
                topic: None,
                owner: self.owner(),
                not_owner: true,
            },
        };
        effects.push(Effect::Shown(token, reply));
    }

    pub(crate) fn list_members(
        &self,
        token: Token,
        name: &TopicName,
        after: SessionId,
        limit: usize,
        effects: &mut Vec<Effect>,
    ) {
        let mut reply = ListMembersReply::default();
        if self.serving().is_none() {
            (reply.owner, reply.not_owner) = (self.owner(), true);
        } else if let Some(topic) = self.topics.get(name) {
            for (gateway, group) in &topic.groups {
                // No group has more to give than the whole page.
                for (session, subject) in group.members.after(&after).take(limit.saturating_add(1)) {
                    let subject = String::from_utf8_lossy(subject).into_owned();
                    let gateway = gateway.node.to_string();
                    reply.members.push(v1::TopicMember {
                        session: session.0,
                        gateway,
                        subject,
                    });
                }
            }
            reply.members.sort_unstable_by_key(|member| member.session);
            reply.truncated = reply.members.len() > limit;
            reply.members.truncate(limit);
        }
        effects.push(Effect::Members(token, reply));
    }

    pub(crate) fn tap(&mut self, tap: TapId, name: TopicName, moment: Moment, effects: &mut Vec<Effect>) {
        let room = self.serving().is_some() && self.taps.len() < self.limits.taps_max;
        let topic = if room {
            self.touch_or_create(name.as_str(), moment)
        } else {
            None
        };
        match topic {
            Some(topic) => {
                topic.taps.push(tap);
                self.taps.insert(tap, name);
            }
            None => effects.push(Effect::TapEnded(tap)),
        }
    }

    pub(crate) fn untap(&mut self, tap: TapId) {
        if let Some(name) = self.taps.remove(&tap)
            && let Some(topic) = self.touch(name.as_str())
        {
            topic.taps.retain(|other| *other != tap);
        }
    }

    /// The slot is no longer ours to show.
    pub(crate) fn end_taps(&mut self, effects: &mut Vec<Effect>) {
        while let Some((tap, _)) = self.taps.first_key_value() {
            let tap = *tap;
            self.untap(tap);
            effects.push(Effect::TapEnded(tap));
        }
    }

    fn summary(&self, topic: &Topic, OwnerEpoch(owner_epoch): OwnerEpoch) -> TopicSummary {
        let groups = topic.groups.iter().map(|(gateway, group)| TopicGroup {
            gateway: gateway.node.to_string(),
            members: group.members.len() as u64,
        });
        TopicSummary {
            topic: topic.key.to_string(),
            slot: self.number().0.into(),
            owner_epoch,
            epoch: topic.epoch.to_string(),
            offset: topic.head.0,
            members: topic.share().members as u64,
            groups: groups.collect(),
            history_len: topic.history.len() as u64,
            history_bytes: topic.history.bytes() as u64,
            ids: topic.ids.as_ref().map_or(0, |ids| ids.len() as u64),
        }
    }
}
