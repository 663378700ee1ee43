//! What the log finds, and what it lets pass.

use super::*;

const FIRST: PubId = PubId { client: 1, number: 1 };
const SECOND: PubId = PubId { client: 1, number: 2 };
const JOINED: Time = Time(10);
const SESSION: SessionId = SessionId(7);
const OTHER: SessionId = SessionId(1);
const CONNECTION: u64 = 70;

/// A log in which both were published after somebody joined.
fn log() -> Log {
    let mut log = Log::default();
    for (at, id) in [(20, FIRST), (30, SECOND)] {
        let invoked = Invoked {
            id,
            topic: "a",
            aim: Aim::All,
            key: None,
        };
        log.invoked(Time(at), invoked);
        log.sent(id, CONNECTION, at);
    }
    log
}

fn append(log: &mut Log, epoch: &'static str, offset: u64, id: PubId) -> Result<(), &'static str> {
    let append = Append {
        slot: Slot(0),
        owner_epoch: OwnerEpoch(1),
        topic: Bytes::from_static(b"a"),
        epoch: Bytes::from_static(epoch.as_bytes()),
        offset,
        id,
        session: SESSION,
        connection: Some(CONNECTION),
    };
    log.append(Time(40), append, &Ownership::default())
        .map_err(|(of, _)| of)
}

fn at(log: u32, offset: u64) -> Place {
    Place { log, offset }
}

fn follows(log: &Log, last: Option<Place>, next: Place) -> bool {
    log.follows((JOINED, OTHER), last, next, |_, _| false, &Ownership::default())
        .is_ok()
}

#[test]
fn a_payload_is_read_as_it_was_written() {
    assert_eq!(PubId::parse(SECOND.payload().as_bytes()), Some(SECOND));
    assert_eq!(PubId::parse(b"{\"p\":\"1\"}"), None);
}

#[test]
fn two_values_at_one_offset_one_value_at_two_and_a_wrong_order_are_found() {
    let mut log = log();
    assert_eq!(append(&mut log, "e", 1, FIRST), Ok(()));
    assert_eq!(append(&mut log, "e", 1, SECOND), Err("I4"));
    assert_eq!(append(&mut log, "e", 3, SECOND), Err("I4"), "a hole");
    assert_eq!(append(&mut log, "e", 2, FIRST), Err("I5"));
    assert_eq!(append(&mut log, "f", 1, FIRST), Err("I5"), "no slot began empty");
    let mut log = self::log();
    assert_eq!(append(&mut log, "e", 1, SECOND), Ok(()));
    assert_eq!(append(&mut log, "e", 2, FIRST), Err("I6"));
}

#[test]
fn a_hole_a_repeat_and_a_step_back_are_found() {
    let mut log = log();
    append(&mut log, "e", 1, FIRST).unwrap();
    append(&mut log, "e", 2, SECOND).unwrap();
    assert!(follows(&log, None, at(0, 1)) && follows(&log, Some(at(0, 1)), at(0, 2)));
    assert!(
        !follows(&log, None, at(0, 2)),
        "the first was published after the join"
    );
    assert!(!follows(&log, Some(at(0, 1)), at(0, 3)), "a hole");
    assert!(!follows(&log, Some(at(0, 2)), at(0, 2)), "a repeat");
    assert!(!follows(&log, Some(at(1, 1)), at(0, 1)), "an older epoch");
    let gap = |_, offset| offset == 1;
    let explained = log.follows((JOINED, OTHER), None, at(0, 2), gap, &Ownership::default());
    assert_eq!(explained, Ok(()));
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_found() {
    let mut log = log();
    assert!(log.answered(SECOND, true).is_err(), "committed nowhere");
    append(&mut log, "e", 1, FIRST).unwrap();
    log.answered(FIRST, true).unwrap();
    let mut log = self::log();
    append(&mut log, "e", 1, FIRST).unwrap();
    log.answered(FIRST, true).unwrap();
    let lost = |epoch: &'static str, head| {
        let heads = [("a".to_owned(), (Bytes::from_static(epoch.as_bytes()), head))].into();
        let broken = log.at_rest(&heads, &Ownership::default(), Time(u64::MAX));
        broken.map(|(of, _)| of)
    };
    assert_eq!(lost("e", 1), None);
    assert_eq!(lost("e", 0), Some("P5"));
    assert_eq!(lost("f", 9), Some("P5"));
}
