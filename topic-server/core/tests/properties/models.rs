//! Ids and fetches against what they should be: a list of ids, and a list of everything ever appended.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::{Epoch, Millis, Offset, OwnerEpoch, Slot as Number, Topic, v1};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{Cursor, Effect, Input, Limits, Moment, Publishes, Slot, Token};

use crate::world::{gateway, node, topic};

const IDS_MAX: usize = 6;
const IDS_AGE: Duration = Duration::from_secs(20);
const HISTORY_LEN: usize = 5;
const HISTORY_AGE: Duration = Duration::from_secs(10);
const RECOVERY_LEN: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    /// To a topic, by a subject, with one of some ids or none; some to one member, and so without an offset.
    Publish {
        topic: usize,
        subject: u8,
        id: Option<u8>,
        once: bool,
    },
    Fetch {
        topic: usize,
        back: u64,
    },
    Flush,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..2_usize, 0..2_u8, prop::option::weighted(0.8, 0..8_u8), prop::bool::weighted(0.2))
            .prop_map(|(topic, subject, id, once)| Op::Publish { topic, subject, id, once }),
        4 => (0..2_usize, 0..8_u64).prop_map(|(topic, back)| Op::Fetch { topic, back }),
        2 => Just(Op::Flush),
        3 => (1..4_000_u64).prop_map(Op::Pass),
        1 => (4_000..25_000_u64).prop_map(Op::Pass),
    ]
}

/// A topic as it should be.
#[derive(Default)]
struct Model {
    epoch: Bytes,
    /// When each publication was appended, and what it says.
    appended: Vec<(Millis, Bytes)>,
    /// Subject and id, when they came first, and what became of them.
    ids: Vec<((u8, u8), Millis, Outcome)>,
}

impl Model {
    fn known(&self, key: (u8, u8), now: Millis) -> Option<&Outcome> {
        let window = self.ids.len().saturating_sub(IDS_MAX);
        let young = |(_, at, _): &&((u8, u8), Millis, Outcome)| now.since(*at) < IDS_AGE;
        let mut newest = self.ids[window..].iter().rev().filter(young);
        newest
            .find(|(known, ..)| *known == key)
            .map(|(.., outcome)| outcome)
    }

    /// A topic nobody would miss is forgotten, and begins anew under another epoch.
    fn begin_anew(&mut self, epoch: &Bytes, now: Millis) {
        if self.epoch == *epoch {
            return;
        }
        assert!(
            self.ids.iter().all(|(_, at, _)| now.since(*at) >= IDS_AGE),
            "ids were forgotten early"
        );
        let kept = |(at, _): &(Millis, Bytes)| now.since(*at) < HISTORY_AGE;
        assert!(!self.appended.iter().any(kept), "a history was forgotten early");
        *self = Model {
            epoch: epoch.clone(),
            ..Model::default()
        };
    }
}

struct World {
    slot: Slot,
    now: Millis,
    models: BTreeMap<usize, Model>,
    published: u64,
}

impl World {
    fn new() -> World {
        let limits = Limits {
            history_len_max: HISTORY_LEN,
            history_age_max: HISTORY_AGE,
            ids_max: IDS_MAX,
            ids_age_max: IDS_AGE,
            recovery_len_max: RECOVERY_LEN,
            ..Limits::default()
        };
        let mut world = World {
            slot: Slot::new(Number(0), limits),
            now: Millis(5_000),
            models: BTreeMap::new(),
            published: 0,
        };
        let (me, owner_epoch) = (node("ts-1"), OwnerEpoch(1));
        let record = SlotRecord {
            owner_epoch,
            base: owner_epoch,
            owner: me.clone(),
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        world.apply(Input::Record {
            revision: Revision(1),
            record,
            me,
            entropy: 1,
        });
        world
    }

    fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let moment = Moment {
            now: self.now,
            lease_valid: true,
            topics_free: 100,
        };
        self.slot.apply(input, moment, &mut effects);
        effects
    }

    fn publish(&mut self, name: usize, subject: u8, id: Option<u8>, once: bool) {
        self.published += 1;
        let payload = Bytes::from(self.published.to_string());
        let publish = v1::Publish {
            topic: topic(name),
            event: Bytes::from_static(b"e"),
            payload: payload.clone(),
            target: if once { v1::Target::One } else { v1::Target::All }.into(),
            subject: Bytes::copy_from_slice(&[subject]),
            msg_id: id.map_or(Bytes::new(), |id| Bytes::copy_from_slice(&[id])),
            ..v1::Publish::default()
        };
        let request = Publishes {
            token: Token(1),
            from: gateway(0),
            owner_epoch: OwnerEpoch(1),
            publishes: vec![publish],
            held_ms: 0,
        };
        let effects = self.apply(Input::Publish(request));
        let Some(Effect::Published(_, answer)) = effects.last() else {
            panic!("{effects:?}")
        };
        let [decided] = &answer.outcomes[..] else {
            panic!("{answer:?}")
        };
        let outcome = decided.outcome.clone().unwrap();
        let (epoch, offset) = match &outcome {
            Outcome::Committed(position) => (&position.epoch, Some(position.offset)),
            Outcome::Unsequenced(sent) => (&sent.epoch, None),
            Outcome::Refused(why) => panic!("refused: {why}"),
        };
        let now = self.now;
        let model = self.models.entry(name).or_default();
        model.begin_anew(epoch, now);
        let first = id.and_then(|id| model.known((subject, id), now));
        assert_eq!(decided.dup, first.is_some());
        if let Some(first) = first {
            assert_eq!(outcome, *first, "a repeat gets the first outcome");
            return;
        }
        assert_eq!(offset.is_none(), once);
        if let Some(offset) = offset {
            model.appended.push((now, payload));
            assert_eq!(offset, model.appended.len() as u64);
        }
        if let Some(id) = id {
            model.ids.push(((subject, id), now, outcome));
        }
    }

    fn fetch(&mut self, name: usize, back: u64) {
        let now = self.now;
        let Some(model) = self.models.get(&name) else {
            return;
        };
        let head = model.appended.len() as u64;
        let after = head.saturating_sub(back);
        let Ok(epoch) = Epoch::parse(&model.epoch) else {
            return;
        };
        let effects = self.apply(Input::Fetch {
            token: Token(2),
            from: gateway(0),
            owner_epoch: OwnerEpoch(1),
            topic: Topic::parse(&topic(name)).unwrap(),
            after: Cursor {
                epoch,
                offset: Offset(after),
            },
        });
        let [Effect::Fetched(_, outcome)] = &effects[..] else {
            panic!("{effects:?}")
        };
        let model = &self.models[&name];
        let kept = model
            .appended
            .iter()
            .rev()
            .take(HISTORY_LEN)
            .take_while(|(at, _)| now.since(*at) < HISTORY_AGE);
        let due = kept.count().min(RECOVERY_LEN).min((head - after) as usize);
        let Some(position) = &outcome.head else {
            assert_eq!(due, 0, "a topic with something to fetch is gone");
            return;
        };
        assert_eq!((&position.epoch, position.offset), (&model.epoch, head));
        let got = &outcome.publications;
        assert!(
            got.len() >= due && got.len() <= RECOVERY_LEN,
            "{} of {due}",
            got.len()
        );
        let first = head + 1 - got.len() as u64;
        assert!(got.is_empty() || first > after);
        for (offset, publication) in (first..).zip(got) {
            assert_eq!(publication.offset, offset, "contiguous, and up to the head");
            assert_eq!(publication.payload, model.appended[offset as usize - 1].1);
        }
    }

    fn flush(&mut self) {
        self.slot.flush(self.now, &mut Vec::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repeat_gets_the_first_outcome_and_a_fetch_the_tail_of_what_was_appended(
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Publish { topic, subject, id, once } => world.publish(topic, subject, id, once),
                Op::Fetch { topic, back } => world.fetch(topic, back),
                Op::Flush => world.flush(),
                Op::Pass(millis) => {
                    world.flush();
                    world.now = world.now + Duration::from_millis(millis);
                    world.apply(Input::Tick);
                    world.flush();
                }
            }
        }
    }
}
