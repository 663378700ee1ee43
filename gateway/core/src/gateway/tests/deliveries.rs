//! What an owner delivers, and whom the gateway asks when it does not.

use expect_test::expect;

use super::*;

#[test]
fn after_a_takeover_the_gateway_binds_anew_with_its_cursor_and_resends() {
    let mut world = joined_world();
    world.deliver("topics:matrix", 1, vec![publication(1), publication(2)]);
    world.say(1, PUBLISH);
    world.input(Input::Table(table("ts-2", 2)));
    let (call, _) = world.publishes.remove(0);
    world.input(Input::Published(call, Err(CallFailed::Unknown("gone".into()))));
    // What the old owner still says is fenced.
    world.deliver("topics:matrix", 1, vec![publication(3)]);
    world.deliver("topics:matrix", 2, vec![publication(3)]);
    world.check(expect![[r#"
        1 < ["1",null,"topics:matrix","event",{"n":1}]
        1 < ["1",null,"topics:matrix","event",{"n":2}]
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        ts-2 bind topics:matrix change joined [] left [] cursor 2
        ts-2 publish topics:matrix #1 event
        deliver: Stale 0
        1 < ["1",null,"topics:matrix","event",{"n":3}]
    "#]]);
}

#[test]
fn o4_a_delivery_is_passed_on_once_and_a_hole_is_asked_for() {
    let mut world = joined_world();
    world.deliver("topics:matrix", 1, vec![publication(1), publication(2)]);
    world.deliver("topics:matrix", 1, vec![publication(2), publication(3)]);
    world.deliver("topics:matrix", 1, vec![publication(5)]);
    world.deliver("topics:other", 1, vec![publication(1)]);
    world.check(expect![[r#"
        1 < ["1",null,"topics:matrix","event",{"n":1}]
        1 < ["1",null,"topics:matrix","event",{"n":2}]
        1 < ["1",null,"topics:matrix","event",{"n":3}]
        deliver: NeedFrom 3
        deliver: NoInterest 0
    "#]]);
}

#[test]
fn an_owner_that_a_refusal_named_first_is_bound_to_for_every_topic_of_the_slot() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    let (call, slots) = world.publishes.remove(0);
    let slot = slots[0].slot;
    let owner = v1::Owner {
        node: "ts-2".into(),
        incarnation: 1,
        owner_epoch: 2,
    };
    let part = v1::SlotPublishAnswer {
        slot,
        rest: v1::SlotStatus::NotOwner.into(),
        owner: Some(owner),
        ..Default::default()
    };
    let answer = v1::PublishAnswer {
        incarnation: 1,
        slots: vec![part],
    };
    world.input(Input::Published(call, Ok(answer)));
    world.input(Input::Table(table("ts-2", 2)));
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        ts-2 bind topics:matrix change joined [] left [] cursor 0
        ts-2 publish topics:matrix #1 event
    "#]]);
}

#[test]
fn x7_an_epoch_changes_once_and_what_is_missing_of_its_beginning_is_history() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','topics:matrix','phx_join',{'resume':true}]");
    world.bound();
    let gap = |epoch: &'static [u8]| v1::DeliverEntry {
        slot: u32::from(table("ts-1", 1).slot_of(b"topics:matrix").0),
        owner_epoch: 1,
        topic: Bytes::from_static(b"topics:matrix"),
        epoch: Bytes::from_static(epoch),
        gap: Some(v1::Gap {
            from: 1,
            to: 4,
            reason: v1::GapReason::EpochChanged.into(),
        }),
        ..Default::default()
    };
    for epoch in [b"e1", b"e2"] {
        world.input(Input::Deliver(CallId(999), vec![gap(epoch)]));
    }
    world.check(expect![[r#"
        1 > ["1","1","topics:matrix","phx_join",{"resume":true}]
        ts-1 bind topics:matrix all joined [1] left []
        1 < ["1","1","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":0,"recovered":false}}]
        1 < ["1",null,"topics:matrix","gap",{"epoch":"e1","from":1,"to":4,"reason":"history_trimmed"}]
        1 < ["1",null,"topics:matrix","gap",{"epoch":"e2","from":1,"to":4,"reason":"epoch_changed"}]
    "#]]);
}
