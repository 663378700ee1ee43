//! The end, at which everything must be at rest: every slot has an owner that serves, every operation an outcome, every
//! client everything.

use std::collections::BTreeMap;

use ringcast_proto::Slot;
use ringcast_topic_server_core::{Effect, Input, Role, Token};

use super::{Process, SERVING, Sim};
use crate::client::Place;

impl Sim {
    /// Every slot has an owner that serves, every operation an outcome, every client everything.
    pub(super) fn at_rest(&mut self) {
        let now = self.env.now;
        let mut heads = BTreeMap::new();
        let mut members = BTreeMap::new();
        for number in 0..self.swarm.slots {
            let slot = Slot(number);
            let record = self.store.snapshot().slot(slot).map(|(_, record)| record.clone());
            let Some(record) = record else {
                return self
                    .env
                    .check
                    .fail(now, "I16", format!("slot {slot} has no record"));
            };
            if record.moving.is_some() {
                let what = format!("slot {slot} still moves: {record:?}");
                return self.env.check.fail(now, "I16", what);
            }
            let owner = self.env.check.ownership.peer(&record.owner);
            let server = owner.and_then(|peer| match &mut self.nodes[peer.0 - 1].process {
                Process::Server(server) => Some(server),
                _ => None,
            });
            let Some(server) = server else {
                return self
                    .env
                    .check
                    .fail(now, "I16", format!("slot {slot} has no owner: {record:?}"));
            };
            let role = server
                .slots()
                .nth(usize::from(number))
                .map(|slot| slot.role().clone());
            if role != Some(Role::Owner(record.owner_epoch)) {
                let what = format!("{} is {role:?} to slot {slot}: {record:?}", record.owner);
                return self.env.check.fail(now, "I16", what);
            }
            let list = Input::ListTopics {
                token: Token(u64::MAX),
                prefix: String::new(),
                limit: usize::MAX,
            };
            for effect in server.look(&self.env, slot, list) {
                let Effect::Listed(_, reply) = effect else {
                    continue;
                };
                for topic in reply.topics {
                    members.insert(topic.topic.clone(), topic.members);
                    heads.insert(topic.topic, (bytes::Bytes::from(topic.epoch), topic.offset));
                }
            }
        }
        if let Some(plan) = self.store.snapshot().ring().and_then(|ring| ring.plan.clone()) {
            return self
                .env
                .check
                .fail(now, "I16", format!("plan {} still runs", plan.0));
        }
        let serving_since = self.heal_at + SERVING;
        self.env.check.at_rest(now, &heads, serving_since);
        self.clients_at_rest(&heads, members);
    }

    fn clients_at_rest(
        &mut self,
        heads: &BTreeMap<String, (bytes::Bytes, u64)>,
        mut members: BTreeMap<String, u64>,
    ) {
        let (now, check) = (self.env.now, &mut self.env.check);
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Some(what) = client.unanswered().next() {
                return check.fail(now, "I16", format!("client {number} still waits: {what}"));
            }
            let gateway = client.gateway.map(|life| life.peer);
            let session = check.session_of(number, client.connection);
            for (topic, joined, place) in client.joined() {
                match members.get_mut(&topic) {
                    Some(left) if *left > 0 => *left -= 1,
                    _ => return check.fail(now, "I16", format!("client {number} is no member of {topic}")),
                }
                let Some((epoch, offset)) = heads.get(&topic) else {
                    continue;
                };
                let whole = match place {
                    Place::At(view) => check.is_whole(session, &topic, view, (epoch, *offset)),
                    Place::Last(last) => match check.head(&topic, epoch, *offset) {
                        Some(head) => check
                            .complete(gateway, (joined, session), *last, head)
                            .map_err(|why| ("I11", why)),
                        None => Ok(()),
                    },
                };
                if let Err((of, why)) = whole {
                    return check.fail(now, of, format!("client {number} on {topic}: {why}"));
                }
            }
        }
        if let Some((topic, ghosts)) = members.iter().find(|(_, left)| **left > 0) {
            check.fail(
                now,
                "I15",
                format!("{ghosts} member(s) of {topic} are joined nowhere"),
            );
        }
    }
}
