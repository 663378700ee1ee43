//! What became of what a gateway was handed: it came whole, or the gateway said what it needs, or its lane had no room.
//!
//! *Invariant:* a group's cursor only ever goes back to where the gateway stands, so that nothing is skipped.

use ringcast_proto::{NodeRef, Topic as TopicName};

use crate::Cursor;
use crate::handoff::Piece;
use crate::slot::Slot;

impl Slot {
    pub(crate) fn need_from(&mut self, gateway: &NodeRef, name: &TopicName, cursor: &Cursor) {
        let Some(topic) = self.touch(name.as_str()) else {
            return;
        };
        let (sent, from_other_epoch) = topic.resume_after(cursor);
        if let Some(group) = topic.groups.get_mut(gateway) {
            group.sent = sent;
            group.from_other_epoch = from_other_epoch;
        }
    }

    /// What followed `from` did not arrive. It goes out again under the owner_epoch this node serves under by then.
    pub(crate) fn unsent(&mut self, gateway: &NodeRef, name: &TopicName, from: &Cursor) {
        let Some(topic) = self
            .touch(name.as_str())
            .filter(|topic| topic.epoch == from.epoch)
        else {
            return;
        };
        if let Some(group) = topic.groups.get_mut(gateway) {
            group.back_to(from.offset);
        }
    }

    pub(crate) fn no_interest(&mut self, gateway: &NodeRef, name: &TopicName, bind_seq: u64, from: &Cursor) {
        let Some(topic) = self.touch(name.as_str()) else {
            return;
        };
        let Some(group) = topic.groups.get(gateway) else {
            return;
        };
        if group.seq > bind_seq {
            // It was overtaken by a bind, whose members are owed what the gateway had nobody for.
            self.unsent(gateway, name, from);
        } else {
            // Not `bind_seq`: binds of other topics with lower numbers may be on their way.
            let (seq, bytes) = (group.seq, topic.name.clone());
            let dropped = topic.groups.remove(gateway);
            self.gateways.unbind(gateway, seq);
            if let Some(group) = dropped {
                self.tell_target(name, || Piece::unbound(bytes, gateway, &group));
            }
        }
    }

    pub(crate) fn dropped(&mut self, gateway: NodeRef, name: TopicName, from: &Cursor) {
        let Some(topic) = self.topics.get_mut(&name) else {
            return;
        };
        let Some(group) = topic
            .groups
            .get_mut(&gateway)
            .filter(|_| topic.epoch == from.epoch)
        else {
            return;
        };
        group.back_to(from.offset);
        group.lagging = true;
        self.lagging.entry(gateway).or_default().insert(name);
    }

    pub(crate) fn lane_room(&mut self, gateway: &NodeRef) {
        for name in self.lagging.remove(gateway).unwrap_or_default() {
            if let Some(group) = self
                .touch(name.as_str())
                .and_then(|topic| topic.groups.get_mut(gateway))
            {
                group.lagging = false;
            }
        }
    }

    /// Drops the groups of this life of a gateway and of those before it.
    pub(crate) fn forget(&mut self, gateway: &NodeRef) {
        let over = |node: &NodeRef| node.node == gateway.node && node.incarnation <= gateway.incarnation;
        self.lagging.retain(|node, _| !over(node));
        for (name, topic) in &mut self.topics {
            let before = topic.groups.len();
            topic.groups.retain(|node, _| !over(node));
            if topic.groups.len() != before && !std::mem::replace(&mut topic.touched, true) {
                self.touched.push(name.clone());
            }
        }
    }
}
