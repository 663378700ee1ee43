//! A session that asks for much is not read for a while, and nothing puts deadlines off.

use super::*;

#[test]
fn a_session_with_128_unanswered_publishes_is_not_read_until_half_are_answered() {
    let mut world = joined_world();
    world.gateway.limits.pushes = None;
    for _ in 0..128 {
        world.say(1, PUBLISH);
    }
    assert!(world.transcript.ends_with("1 paused\n"));
    world.transcript.clear();
    while !world.publishes.is_empty() {
        world.published();
    }
    assert_eq!(world.transcript.matches("resumed").count(), 1);
    assert_eq!(world.transcript.matches("phx_reply").count(), 128);
}

/// Found by the kill tests: inputs every few milliseconds kept all deadlines away.
#[test]
fn a_steady_stream_of_inputs_does_not_put_the_next_tick_off() {
    let mut world = joined_world();
    world.wait(0);
    world.say(1, PUBLISH);
    let due = world.gateway.deadline().expect("a publish waits for its answer");
    for _ in 0..10 {
        world.now = Millis(world.now.0 + 5);
        world.say(1, "[null,'9','phoenix','heartbeat',{}]");
        assert_eq!(world.gateway.deadline(), Some(due));
    }
    world.wait(0);
    assert!(world.gateway.deadline().is_some_and(|next| next > due));
}

#[test]
fn large_messages_that_wait_for_a_join_stop_the_reading_by_their_bytes() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, JOIN);
    let large = "a".repeat(60 * 1024);
    for _ in 0..5 {
        world.say(
            1,
            &format!("['1','2','topics:matrix','publish',['event',{{'text':'{large}'}}]]"),
        );
    }
    assert!(world.transcript.ends_with("1 paused\n"));
    world.bound();
    while !world.publishes.is_empty() {
        world.published();
    }
    assert_eq!(world.transcript.matches("1 resumed").count(), 1);
}
