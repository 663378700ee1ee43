//! What a gateway says while a slot changes hands.

use expect_test::expect;
use ringcast_proto::v1::{BindStatus, SlotStatus};

use super::*;

fn owner(node: &str, owner_epoch: u64) -> Option<v1::Owner> {
    Some(v1::Owner {
        node: node.into(),
        incarnation: 1,
        owner_epoch,
    })
}

impl World {
    /// The open publishes are answered: nothing is decided, and this is why.
    fn held_back(&mut self, status: SlotStatus, owner: Option<v1::Owner>) {
        for (call, slots) in std::mem::take(&mut self.publishes) {
            let answers = slots.iter().map(|slot| v1::SlotPublishAnswer {
                slot: slot.slot,
                rest: status.into(),
                owner: owner.clone(),
                ..Default::default()
            });
            let slots = answers.collect();
            self.input(Input::Published(
                call,
                Ok(v1::PublishAnswer {
                    incarnation: 1,
                    slots,
                }),
            ));
        }
    }

    /// The open binds get this answer.
    fn bind_answered(&mut self, status: BindStatus, owner_epoch: u64, owner: Option<v1::Owner>) {
        for (call, binds) in std::mem::take(&mut self.binds) {
            let outcome = v1::BindOutcome {
                status: status.into(),
                owner_epoch,
                owner: owner.clone(),
                ..Default::default()
            };
            let outcomes = vec![outcome; binds.len()];
            self.input(Input::Bound(
                call,
                Ok(v1::BindAnswer {
                    incarnation: 1,
                    outcomes,
                }),
            ));
        }
    }

    fn join(&mut self, session: u64) {
        self.open(session, Serializer::V2);
        self.say(session, JOIN);
    }

    /// How long until the gateway looks again by itself, up to which nothing is sent.
    fn pause(&mut self) -> u64 {
        self.wait(0);
        let due = self.gateway.deadline().expect("something waits");
        let pause = due.0 - self.now.0;
        self.wait(pause - 1);
        assert!(self.publishes.is_empty() && self.binds.is_empty(), "not yet");
        self.wait(1);
        pause
    }

    fn held_ms(&self) -> u32 {
        self.publishes[0].1[0].held_ms
    }
}

#[test]
fn a_new_owner_is_told_who_came_and_went_since_the_last_bind_and_the_cursor() {
    let mut world = joined_world();
    for session in [2, 3] {
        world.join(session);
        world.bound();
    }
    world.deliver("topics:matrix", 1, vec![publication(1)]);
    // Told to the old owner, which does not take it any more.
    world.join(4);
    world.close(2);
    world.join(5);
    world.transcript.clear();
    world.bind_answered(BindStatus::NotOwner, 0, owner("ts-2", 2));
    world.close(5);
    world.bind_answered(BindStatus::Ok, 2, None);
    world.bind_answered(BindStatus::Ok, 2, None);
    assert!(!world.gateway.interest.busy());
    world.check(expect![[r#"
        ts-2 bind topics:matrix change joined [4, 5] left [2] cursor 1
        4 < ["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        ts-2 bind topics:matrix change joined [] left [5]
    "#]]);
}

#[test]
fn a_new_owner_without_the_members_is_told_all_of_them() {
    let mut world = joined_world();
    world.deliver("topics:matrix", 1, vec![publication(1)]);
    world.transcript.clear();
    world.input(Input::Table(table("ts-2", 2)));
    world.bind_answered(BindStatus::NeedFull, 2, None);
    world.bind_answered(BindStatus::Ok, 2, None);
    world.check(expect![[r#"
        ts-2 bind topics:matrix change joined [] left [] cursor 1
        ts-2 bind topics:matrix all joined [1] left [] cursor 1
    "#]]);
}

#[test]
fn a_join_that_the_old_owner_confirms_late_is_confirmed_by_the_new_one() {
    let mut world = joined_world();
    world.join(2);
    world.input(Input::Table(table("ts-2", 2)));
    world.transcript.clear();
    world.bind_answered(BindStatus::Ok, 1, None);
    world.bind_answered(BindStatus::Ok, 2, None);
    world.check(expect![[r#"
        ts-2 bind topics:matrix change joined [] left [] cursor 0
        2 < ["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn two_moves_in_a_row_and_one_back_need_no_member_list() {
    let mut world = joined_world();
    for (node, owner_epoch) in [("ts-2", 2), ("ts-1", 3), ("ts-2", 4)] {
        world.input(Input::Table(table(node, owner_epoch)));
        // The second comes while the first is being told.
        if owner_epoch == 3 {
            world.bind_answered(BindStatus::NotOwner, 0, owner("ts-1", 3));
        }
    }
    world.bind_answered(BindStatus::NotOwner, 0, owner("ts-2", 4));
    world.bind_answered(BindStatus::Ok, 4, None);
    assert!(!world.gateway.interest.busy());
    assert!(!world.transcript.contains("all"), "{}", world.transcript);
}

#[test]
fn an_owner_known_by_a_refusal_is_not_bound_to_again_when_the_table_says_the_same() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    world.held_back(SlotStatus::NotOwner, owner("ts-2", 2));
    world.bind_answered(BindStatus::Ok, 2, None);
    world.transcript.clear();
    world.input(Input::Table(table("ts-1", 1)));
    world.input(Input::Table(table("ts-2", 2)));
    assert_eq!(world.transcript, "");
    assert!(!world.gateway.interest.busy());
}

#[test]
fn a_sealed_slot_is_asked_again_after_what_it_says_however_often() {
    let mut world = joined_world();
    world.join(2);
    world.wait(0);
    for _ in 0..20 {
        world.bind_answered(BindStatus::Sealed, 1, None);
        assert_eq!(world.pause(), 5);
        assert_eq!(world.binds.len(), 1);
    }
    world.bind_answered(BindStatus::Ok, 1, None);
    world.say(1, PUBLISH);
    for _ in 0..20 {
        world.held_back(SlotStatus::Sealed, None);
        assert_eq!(world.pause(), 5);
        assert_eq!(world.publishes.len(), 1);
    }
}

#[test]
fn an_owner_that_has_not_heard_yet_is_asked_again_soon_and_then_less_often() {
    let mut world = joined_world();
    world.input(Input::Table(table("ts-2", 2)));
    world.bind_answered(BindStatus::Ok, 2, None);
    world.say(1, PUBLISH);
    let mut waited = 0;
    for asked in 0..20 {
        world.held_back(SlotStatus::NotOwner, owner("ts-1", 1));
        let mut pause = 0;
        while world.publishes.is_empty() {
            pause += world.pause();
        }
        assert!(asked >= 4 || pause == 5, "{pause} ms at {asked}");
        waited += pause;
    }
    assert!((500..5_000).contains(&waited), "{waited} ms");
}

#[test]
fn news_of_the_owner_end_every_pause() {
    for by_table in [true, false] {
        let mut world = joined_world();
        world.say(1, PUBLISH);
        world.held_back(SlotStatus::Sealed, None);
        world.join(2);
        assert!(world.publishes.is_empty());
        world.transcript.clear();
        if by_table {
            world.input(Input::Table(table("ts-2", 2)));
            world.bind_answered(BindStatus::Sealed, 1, None);
        } else {
            world.bind_answered(BindStatus::NotOwner, 0, owner("ts-2", 2));
        }
        assert_eq!(world.publishes.len(), 1, "sent at once");
        assert!(
            world.transcript.contains("ts-2 publish topics:matrix #1"),
            "{}",
            world.transcript
        );
    }
}

#[test]
fn the_new_owner_is_told_for_how_long_its_first_publish_was_held_back() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    assert_eq!(world.held_ms(), 0);
    world.wait(7);
    world.held_back(SlotStatus::Sealed, None);
    world.wait(5);
    assert_eq!(world.held_ms(), 5);
    world.wait(2);
    world.held_back(SlotStatus::NotOwner, owner("ts-2", 2));
    assert_eq!(world.held_ms(), 7, "since the first refusal");
    world.say(1, PUBLISH);
    world.owner_epoch = 2;
    world.published();
    assert_eq!(world.held_ms(), 0, "what follows was not held back");
    world.published();

    world.say(1, PUBLISH);
    world.held_back(SlotStatus::NotOwner, owner("ts-1", 3));
    assert_eq!(world.held_ms(), 1, "held back, if only for a moment");
}

#[test]
fn what_the_old_owner_says_late_counts_for_nothing() {
    let mut world = joined_world();
    world.deliver("topics:matrix", 1, vec![publication(1)]);
    world.say(1, PUBLISH);
    let late = world.publishes.clone();
    world.input(Input::Table(table("ts-2", 2)));
    world.transcript.clear();
    // Its delivery, and its answer to a publish that it took before the slot went.
    world.deliver("topics:matrix", 1, vec![publication(2)]);
    world.offset = 1;
    world.published();
    assert_eq!(world.publishes[0].1[0].publishes, late[0].1[0].publishes);
    // The new owner got the number along with the slot.
    let own = v1::Publication {
        session: 1,
        number: 1,
        ..publication(2)
    };
    world.deliver("topics:matrix", 2, vec![own]);
    world.check(expect![[r#"
        deliver: Stale 0
        ts-2 publish topics:matrix #1 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1",null,"topics:matrix","event",{"n":2}]
    "#]]);
}

#[test]
fn an_owner_epoch_that_a_refusal_or_a_delivery_named_fences_before_the_table_does() {
    let mut by_refusal = joined_world();
    by_refusal.say(1, PUBLISH);
    by_refusal.held_back(SlotStatus::NotOwner, owner("ts-2", 2));
    let mut by_delivery = joined_world();
    by_delivery.deliver("topics:matrix", 2, vec![publication(1)]);
    for mut world in [by_refusal, by_delivery] {
        world.transcript.clear();
        world.deliver("topics:matrix", 1, vec![publication(2)]);
        assert_eq!(world.transcript, "deliver: Stale 0\n");
        world.input(Input::Table(table("ts-1", 1)));
        world.deliver("topics:matrix", 1, vec![publication(2)]);
        assert!(world.transcript.ends_with("deliver: Stale 0\n"), "it never falls");
    }
}

#[test]
fn the_wait_for_a_lane_is_that_of_the_first_that_leaves_for_the_first_time() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    let (first, made_at) = (world.publishes[0].0, world.now);
    assert_eq!(world.gateway.waiting_since(first), Some(made_at));
    world.wait(3);
    let queued_at = world.now;
    world.say(1, PUBLISH);
    world.wait(4);
    world.published();
    assert_eq!(world.gateway.waiting_since(first), None, "it is answered");
    let second = world.publishes[0].0;
    assert_eq!(world.gateway.waiting_since(second), Some(queued_at));
    world.held_back(SlotStatus::Sealed, None);
    world.wait(5);
    let again = world.publishes[0].0;
    assert_eq!(world.gateway.waiting_since(again), None, "it left before");
}
