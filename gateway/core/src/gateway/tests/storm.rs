//! A reconnect storm: what thousands of joins at once cost the owners.
//!
//! A lane has one Bind call in flight, and what clients want meanwhile is the next call's batch. A topic is in a call once,
//! with who came and who went since the last: the owner is told of every member, and no member has a bind of its own.

use std::ops::RangeInclusive;

use super::*;

const TOPICS: u64 = 20;
const CLIENTS: u64 = 500;

/// What one round of answers found in flight.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    calls: usize,
    /// One for each topic of each call.
    binds: usize,
    /// Members told of as new.
    joined: usize,
    /// Members told of as gone.
    left: usize,
}

/// Clients may join as fast as they like.
fn world() -> World {
    let mut world = World::new();
    world.gateway.limits.joins = None;
    world
}

impl World {
    /// Each of them connects and joins every topic, and the gateway may send after each message.
    fn storm(&mut self, sessions: RangeInclusive<u64>) {
        for session in sessions {
            self.open(session, Serializer::V2);
            for topic in 0..TOPICS {
                self.say(
                    session,
                    &format!("['{topic}','{topic}','topics:t{topic}x','phx_join',{{}}]"),
                );
            }
        }
    }

    /// The owner answers what is in flight, which is one call with each topic once.
    fn round(&mut self) -> Sent {
        let mut sent = Sent::default();
        for (_, binds) in &self.binds {
            sent.calls += 1;
            sent.binds += binds.len();
            sent.joined += binds.iter().map(|bind| bind.joined.len()).sum::<usize>();
            sent.left += binds.iter().map(|bind| bind.left.len()).sum::<usize>();
            let topics: BTreeSet<&Bytes> = binds.iter().map(|bind| &bind.topic).collect();
            assert_eq!(topics.len(), binds.len(), "a call has a topic twice");
        }
        assert!(sent.calls <= 1, "{} calls in flight to one owner", sent.calls);
        self.bound();
        sent
    }
}

/// What a round found: one call with so many topics, and so many who came and went in them.
fn one_call(binds: u64, joined: u64, left: u64) -> Sent {
    Sent {
        calls: 1,
        binds: binds as usize,
        joined: joined as usize,
        left: left as usize,
    }
}

#[test]
fn a_reconnect_storm_is_one_bind_a_topic_for_each_call_however_many_clients_join() {
    let mut world = world();
    world.storm(1..=CLIENTS);
    // The first join found the lane idle. While its answer is out, everything else gathers.
    assert_eq!(world.round(), one_call(1, 1, 0));
    assert_eq!(world.round(), one_call(TOPICS, TOPICS * CLIENTS - 1, 0));
    assert_eq!(world.round(), Sent::default(), "all is told");
    assert_eq!(world.gateway.joined() as u64, TOPICS * CLIENTS);

    // All of them lose their connections and come back, to topics that are bound: the owner is told the change.
    world.transcript.clear();
    (1..=CLIENTS).for_each(|session| world.close(session));
    world.storm(CLIENTS + 1..=2 * CLIENTS);
    // The first who went, which takes one from every topic.
    assert_eq!(world.round(), one_call(TOPICS, 0, TOPICS));
    let rest = one_call(TOPICS, TOPICS * CLIENTS, TOPICS * (CLIENTS - 1));
    assert_eq!(world.round(), rest);
    assert_eq!(world.round(), Sent::default(), "all is told");
    assert_eq!(world.gateway.joined() as u64, TOPICS * CLIENTS);
    assert!(!world.gateway.interest.busy());
}

#[test]
fn the_binds_of_a_storm_that_lasts_are_as_many_as_its_round_trips_and_tell_of_each_member_once() {
    let mut world = world();
    // The owner takes as long as 25 clients need to say all they want.
    let (rounds, clients) = (20, 25);
    let mut all = Sent::default();
    for round in 0..rounds {
        world.transcript.clear();
        world.storm(round * clients + 1..=(round + 1) * clients);
        let sent = world.round();
        all.binds += sent.binds;
        all.joined += sent.joined;
        all.left += sent.left;
    }
    let last = world.round();
    assert_eq!(world.round(), Sent::default(), "all is told");
    // A topic once a round trip, but in the first, which had the first join only.
    let (binds, joined) = (1 + rounds * TOPICS, rounds * clients * TOPICS);
    assert_eq!((all.binds + last.binds) as u64, binds);
    assert_eq!((all.joined + last.joined) as u64, joined);
    assert_eq!(all.left, 0);
    assert_eq!(world.gateway.joined() as u64, joined);
}
