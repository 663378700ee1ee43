//! The ids clients gave their publishes, when the slot of their topic moves.

use std::time::Duration;

use ringcast_topic_server_core::Limits;

use crate::pair::{Pair, committed};
use crate::{A, B};

#[test]
fn ids_go_along_also_of_publications_that_are_gone_and_of_those_without_an_offset() {
    let mut pair = Pair::new(&Limits {
        history_age_max: Duration::from_secs(5),
        ..Limits::default()
    });
    pair.publish_id(A, "gw-1", 1, "t1", "a", "old");
    pair.pass(Duration::from_secs(60));
    pair.publish_id(A, "gw-1", 2, "t1", "b", "young");
    // More than a slot is sealed with.
    for number in 3..=102 {
        pair.publish(A, "gw-1", number, "t0", "c");
    }
    pair.wish();
    let packet = pair.network.pop_front().unwrap();
    pair.arrive(packet);
    // Everything is handed out. What happens is told one by one from here on.
    assert_eq!(
        committed(&pair.publish_id(A, "gw-1", 103, "t1", "d", "late")),
        Some(3)
    );
    assert_eq!(
        committed(&pair.publish_id(A, "gw-1", 104, "new", "e", "first")),
        Some(1)
    );
    let nobody = pair.publish_once(A, "gw-1", 105, "t1", "unseen");
    pair.run();
    assert!(pair.make_swap());
    let all = [
        ("t1", "old", 1),
        ("t1", "young", 2),
        ("t1", "late", 3),
        ("new", "first", 1),
    ];
    for (number, (topic, id, offset)) in (1..).zip(all) {
        let again = pair.publish_id(B, "gw-2", number, topic, "again", id);
        assert_eq!(
            (committed(&again), again.outcomes[0].dup),
            (Some(offset), true),
            "{id}"
        );
    }
    let again = pair.publish_once(B, "gw-2", 5, "t1", "unseen");
    assert!(
        again.outcomes[0].dup && again.outcomes[0].outcome == nobody.outcomes[0].outcome,
        "{again:?}"
    );
    // Their time goes on where it was.
    pair.pass(Duration::from_secs(61));
    let again = pair.publish_id(B, "gw-2", 9, "t1", "again", "old");
    assert_eq!((committed(&again), again.outcomes[0].dup), (Some(4), false));
    let again = pair.publish_id(B, "gw-2", 10, "t1", "again", "young");
    assert_eq!((committed(&again), again.outcomes[0].dup), (Some(2), true));
}

#[test]
fn a_window_of_ids_that_is_full_goes_along_and_stays_as_large() {
    let mut pair = Pair::new(&Limits::default());
    for number in 1..=10_001 {
        pair.publish_id(A, "gw-1", number, "t1", "a", &number.to_string());
    }
    let before = pair.see(A);
    assert_eq!(before.topics[0].ids, 10_000);
    pair.wish();
    pair.run();
    assert!(pair.make_swap());
    assert_eq!(pair.see(B), before);
    for (number, id, offset) in [(10_002, "2", 2), (10_003, "1", 10_002), (10_004, "10001", 10_001)] {
        let again = pair.publish_id(B, "gw-1", number, "t1", "b", id);
        assert_eq!(committed(&again), Some(offset), "{id}");
    }
}
