//! What the checks find that hold clients with positions, ids and aims to their promises.

use super::log::Append;
use super::*;

const TOPIC: &str = "topics:t0";
const SESSION: SessionId = SessionId(7);
const NOW: Time = Time(1_000_000);

fn id(number: u64) -> PubId {
    PubId { client: 1, number }
}

/// A checker in which these were published, each with its aim and id, and appended in this order.
fn checker(published: &[(Aim, Option<&str>)]) -> Checker {
    let mut check = Checker::default();
    check.expect((100, Duration::from_secs(60)), [("topics:", 300), ("room:", 300)]);
    check.opened(1, 70, SESSION);
    for (number, (aim, msg_id)) in (1..).zip(published) {
        let invoked = Invoked {
            id: id(number),
            topic: TOPIC,
            aim: aim.clone(),
            key: msg_id.map(|msg_id| ("me", msg_id)),
        };
        check.invoked(NOW, invoked);
        check.sent(id(number), 70, number);
        append(&mut check, NOW, "e", number, id(number));
    }
    check
}

fn append(check: &mut Checker, now: Time, epoch: &'static str, offset: u64, id: PubId) {
    let append = Append {
        slot: Slot(0),
        owner_epoch: OwnerEpoch(1),
        topic: bytes::Bytes::from_static(TOPIC.as_bytes()),
        epoch: bytes::Bytes::from_static(epoch.as_bytes()),
        offset,
        id,
        session: SESSION,
        connection: Some(70),
    };
    let held = check.log.append(now, append, &Ownership::default());
    check.hold_broken(now, held);
}

fn found(check: &Checker) -> Option<&'static str> {
    check.violation().map(|violation| violation.of)
}

fn three() -> Checker {
    checker(&[(Aim::All, None), (Aim::Others, None), (Aim::All, None)])
}

#[test]
fn p8_a_hole_is_found_unless_it_is_ones_own_publish_to_others() {
    let pass = |session: u64, offset: u64| {
        let mut view = View::new("e", 1);
        let passed = three().passes(SessionId(session), TOPIC, &mut view, offset, id(offset));
        passed.map(|()| view.offset).map_err(|(of, _)| of)
    };
    assert_eq!(pass(8, 2), Ok(2));
    assert_eq!(pass(8, 3), Err("P8"));
    assert_eq!(pass(SESSION.0, 3), Ok(3), "its own to others is no hole");
    assert_eq!(pass(SESSION.0, 2), Err("X6"), "nor does it come back");
    assert_eq!(pass(8, 1), Err("P2"), "a repeat");
}

#[test]
fn i4_another_publication_at_an_offset_is_found() {
    let passed = three().passes(SessionId(8), TOPIC, &mut View::new("e", 0), 1, id(2));
    assert_eq!(passed.map_err(|(of, _)| of), Err("I4"));
}

#[test]
fn x7_a_gap_explains_what_follows_the_position_and_nothing_else() {
    let tell = |epoch, from, to, reason| {
        let mut view = View::new("e", 1);
        let gap = Gap {
            epoch,
            from,
            to,
            reason,
        };
        let told = three().gap(SessionId(8), TOPIC, &mut view, &gap, false);
        told.map(|()| (view.epoch.clone(), view.offset))
            .map_err(|(of, _)| of)
    };
    let at = |epoch: &'static str, offset| Ok((bytes::Bytes::from_static(epoch.as_bytes()), offset));
    assert_eq!(tell("e", 2, 3, "history_trimmed"), at("e", 3));
    assert_eq!(tell("e", 1, 3, "history_trimmed"), Err("X7"), "it has the first");
    assert_eq!(
        tell("e", 3, 3, "history_trimmed"),
        Err("P8"),
        "the second is not in it"
    );
    assert_eq!(tell("e", 2, 3, "slow_consumer"), Err("X7"), "it was never slow");
    assert_eq!(tell("f", 1, 0, "epoch_changed"), at("f", 0));
    assert_eq!(tell("e", 1, 3, "epoch_changed"), Err("X7"), "the same epoch");
}

#[test]
fn p7_a_position_is_recovered_where_it_was_or_not_at_all() {
    let join = |asked: u64, told: u64, recovered| {
        let asked = View::new("e", asked);
        let held = three().resumed(TOPIC, (Some(&asked), true), &mut View::new("e", told), recovered);
        held.map_err(|(of, _)| of)
    };
    assert_eq!(join(1, 1, true), Ok(()));
    assert_eq!(join(1, 2, true), Err("P7"), "not where it was");
    assert_eq!(join(1, 3, false), Err("P7"), "all of it is there");
    assert_eq!(join(3, 1, false), Err("P7"), "it has been further");
    let mut check = three();
    assert!(
        check
            .resumed(TOPIC, (None, false), &mut View::new("e", 3), false)
            .is_ok()
    );
    assert!(
        check
            .resumed(TOPIC, (None, false), &mut View::new("e", 3), true)
            .is_err()
    );
}

#[test]
fn p8_who_is_not_at_the_head_in_the_end_is_found() {
    let whole = |offset: u64, head: (&[u8], u64)| {
        let held = three().is_whole(SessionId(8), TOPIC, &mut View::new("e", offset), head);
        held.is_ok()
    };
    assert!(whole(3, (b"e", 3)));
    assert!(!whole(2, (b"e", 3)) && !whole(3, (b"f", 3)));
}

#[test]
fn p6_an_id_that_takes_effect_twice_in_its_window_is_found() {
    let with_id = (Aim::All, Some("a"));
    assert_eq!(found(&checker(&[with_id.clone(), (Aim::All, Some("b"))])), None);
    assert_eq!(found(&checker(&[with_id.clone(), with_id.clone()])), Some("P6"));
    // The same publish again, as soon as its id may be forgotten.
    let again = |after: Duration| {
        let mut check = checker(std::slice::from_ref(&with_id));
        append(&mut check, NOW + after, "e", 2, id(1));
        found(&check)
    };
    assert_eq!(again(Duration::from_secs(50)), Some("P6"));
    assert_eq!(again(Duration::from_secs(60)), None);
}

#[test]
fn p6_a_repeat_is_held_to_the_place_of_the_first() {
    let repeat = |place: u64| {
        let mut check = checker(&[(Aim::All, Some("a")), (Aim::All, Some("b"))]);
        let at = v1::Position {
            epoch: bytes::Bytes::from_static(b"e"),
            offset: place,
        };
        let held = check.repeats(id(1), TOPIC.as_bytes(), Some(&at));
        held.map_err(|(of, _)| of)
    };
    assert_eq!(repeat(1), Ok(()));
    assert_eq!(repeat(2), Err("P6"));
    assert_eq!(repeat(3), Err("P6"), "nothing is there");
}

#[test]
fn p3_what_a_client_is_told_of_its_publish_is_where_it_stands() {
    let told = |offset: u64, dup| {
        let outcome = Outcome {
            epoch: "e".to_owned(),
            offset: Some(offset),
            dup,
            ..Outcome::default()
        };
        three().answered(id(1), TOPIC, true, Some(&outcome)).is_ok()
    };
    assert!(told(1, false));
    assert!(!told(2, false) && !told(2, true) && !told(9, false));
}
