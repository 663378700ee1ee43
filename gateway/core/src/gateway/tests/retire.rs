//! What clients see of a gateway that ends.

use expect_test::expect;

use super::*;

impl World {
    fn retire(&mut self, session: u64) {
        let until = Millis(self.now.0 + 1_000);
        self.input(Input::Retire {
            session: SessionId(session),
            until,
        });
    }
}

#[test]
fn a_client_with_nothing_under_way_is_closed_at_once_and_told_it_may_return() {
    let mut world = joined_world();
    world.retire(1);
    world.retire(1);
    world.retire(7);
    world.wait(2_000);
    world.check(expect![[r#"
        1 paused
        1 closed 1012 shutting down
    "#]]);
}

#[test]
fn publishes_under_way_are_answered_before_the_close() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    world.say(1, PUBLISH);
    world.transcript.clear();
    world.retire(1);
    // Read before, handed on only now.
    world.say(1, "['1','5','topics:matrix','publish',['event',{}]]");
    while !world.publishes.is_empty() {
        world.published();
    }
    world.close(1);
    world.wait(2_000);
    world.check(expect![[r#"
        1 paused
        1 > ["1","5","topics:matrix","publish",["event",{}]]
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        ts-1 publish topics:matrix #2 event
        ts-1 publish topics:matrix #3 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","5","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 closed 1012 shutting down
        ts-1 bind topics:matrix all joined [] left []
    "#]]);
}

#[test]
fn a_client_whose_answers_do_not_come_is_closed_in_time() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    world.retire(1);
    world.transcript.clear();
    world.wait(999);
    assert_eq!(world.transcript, "");
    assert_eq!(world.gateway.deadline(), Some(Millis(world.now.0 + 1)));
    world.wait(1);
    // What comes later finds it closing, and is not a second close.
    world.published();
    world.check(expect![[r#"
        1 closed 1012 shutting down
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn a_paused_client_that_is_to_go_is_not_resumed() {
    let mut world = joined_world();
    world.gateway.limits.pushes = None;
    for _ in 0..128 {
        world.say(1, PUBLISH);
    }
    world.transcript.clear();
    world.retire(1);
    while !world.publishes.is_empty() {
        world.published();
    }
    assert!(!world.transcript.contains("paused") && !world.transcript.contains("resumed"));
    assert_eq!(world.transcript.matches("phx_reply").count(), 128);
    assert!(world.transcript.ends_with("1 closed 1012 shutting down\n"));
}
