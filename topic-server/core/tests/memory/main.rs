//! What a topic costs in memory, counted at the allocator: a million of them have to fit in a GiB.
//!
//! *Invariant:* every allocation counts for what glibc takes for it, and only those of the test's own thread count.
//! Leaves out: what the shell and fragmentation add (`scripts/soak memory` looks at processes).

mod counting;

use bytes::Bytes;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef, OwnerEpoch, Slot as Number, v1};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{Bind, Effect, Input, Limits, Moment, Publishes, Slot, Token};

const TOPICS: usize = 10_000;

/// Freshly parsed, as the header of every call is.
fn node(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).expect("the id of a node"),
        incarnation: Incarnation(1_000),
    }
}

fn name(topic: usize) -> Bytes {
    Bytes::from(format!("topics:room-{topic:08}"))
}

fn apply(slot: &mut Slot, input: Input) -> Vec<Effect> {
    let moment = Moment {
        now: Millis(1_000),
        lease_valid: true,
        topics_free: usize::MAX,
    };
    let mut effects = Vec::new();
    slot.apply(input, moment, &mut effects);
    effects
}

/// A slot that this node owns.
fn owned() -> Slot {
    let mut slot = Slot::new(Number(0), Limits::default());
    let me = node("ts-1");
    let record = SlotRecord {
        owner_epoch: OwnerEpoch(1),
        base: OwnerEpoch(1),
        owner: me.clone(),
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: Default::default(),
    };
    apply(
        &mut slot,
        Input::Record {
            revision: Revision(1),
            record,
            me,
            entropy: 7,
        },
    );
    slot
}

/// `sessions` join the topic on the gateway.
fn join(slot: &mut Slot, topic: usize, gateway: &str, sessions: std::ops::RangeInclusive<u64>) {
    let seq = topic as u64 * 100 + sessions.start();
    let member = |session| v1::Member {
        session,
        subject: Bytes::new(),
    };
    let bind = v1::Bind {
        topic: name(topic),
        seq,
        joined: sessions.map(member).collect(),
        ..v1::Bind::default()
    };
    let effects = apply(
        slot,
        Input::Bind {
            token: Token(0),
            from: node(gateway),
            owner_epoch: OwnerEpoch(1),
            bind: Bind::parse(bind).expect("a bind as a gateway sends it"),
        },
    );
    let bound =
        |effect: &Effect| matches!(effect, Effect::Bound(_, bound) if bound.status() == v1::BindStatus::Ok);
    assert!(effects.iter().all(bound), "{effects:?}");
    slot.flush(Millis(1_000), &mut Vec::new());
}

/// 100 publications of 200 bytes, each delivered before the next.
fn publish(slot: &mut Slot, topic: usize) {
    for number in 1..=100 {
        let publish = v1::Publish {
            number: topic as u64 * 100 + number,
            topic: name(topic),
            event: Bytes::from_static(b"event"),
            payload: Bytes::from(vec![b'x'; 200]),
            ..v1::Publish::default()
        };
        apply(
            slot,
            Input::Publish(Publishes {
                token: Token(0),
                from: node("gw-1"),
                owner_epoch: OwnerEpoch(1),
                publishes: vec![publish],
                held_ms: 0,
            }),
        );
        slot.flush(Millis(1_000), &mut Vec::new());
    }
}

/// The bytes a topic takes once `fill` has been done to each of `topics`.
fn cost(topics: usize, mut fill: impl FnMut(&mut Slot, usize)) -> usize {
    let mut slot = owned();
    fill(&mut slot, 0);
    let before = counting::live();
    for topic in 1..=topics {
        fill(&mut slot, topic);
    }
    let taken = counting::live() - before;
    assert_eq!(slot.counts().topics, topics + 1);
    taken / topics
}

#[test]
fn a_topic_with_one_member_takes_little_more_than_half_a_kib() {
    let bytes = cost(TOPICS, |slot, topic| join(slot, topic, "gw-1", 1..=1));
    println!("{bytes} bytes a topic with one member");
    assert!(bytes <= 600, "{bytes} bytes a topic");
}

#[test]
fn a_topic_with_members_on_three_gateways_takes_a_kib() {
    let bytes = cost(TOPICS, |slot, topic| {
        for gateway in ["gw-1", "gw-2", "gw-3"] {
            join(slot, topic, gateway, 1..=2);
        }
    });
    println!("{bytes} bytes a topic with six members on three gateways");
    assert!(bytes <= 1024, "{bytes} bytes a topic");
}

#[test]
fn a_hundred_publications_take_no_more_than_twice_their_bytes() {
    let bytes = cost(200, |slot, topic| {
        join(slot, topic, "gw-1", 1..=1);
        publish(slot, topic);
    });
    println!("{bytes} bytes a topic with 100 publications of 200 bytes");
    assert!(bytes <= 40_000, "{bytes} bytes a topic");
}
