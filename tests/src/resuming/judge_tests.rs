//! A hand-made bad trace for every fault the judge must find, and good ones it must not complain about.

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Topic 7; publishes 1..=5, from subscriber 0, answered with a@1..=5. Nobody was told anything yet.
fn published() -> Story {
    let mut story = Story::default();
    for number in 1..=5 {
        answer(&mut story, number, "a", number, false);
    }
    story
}

fn answer(story: &mut Story, number: u64, epoch: &str, offset: u64, is_dup: bool) {
    let sent = MS * (number as u32 * 100);
    let publish = story.publishes.entry((7, number)).or_default();
    publish.sent = sent;
    publish.senders.insert(0);
    let position = Position::new(epoch, offset);
    let at = sent + MS * publish.answers.len() as u32;
    publish.answers.push((at, Answer::Committed { position, is_dup }));
}

/// What subscriber 1 is told, in words: `join a@0`, `@1` (publish 1), `@1=3` (publish 3), `lost`, `resume a@2 a@2`
/// (recovered), `anew a@2 a@5` (not recovered), `gap a 3..4 slow_consumer`.
fn told(mut story: Story, words: &str) -> Story {
    let trail = story.trails.entry((7, 1)).or_default();
    let position = |text: &str| {
        let (epoch, offset) = text.split_once('@').unwrap();
        Position::new(epoch, offset.parse().unwrap())
    };
    for (step, told) in words.split(" | ").enumerate() {
        let words: Vec<&str> = told.split(' ').collect();
        let joined = |asked, now: &str, is_recovered| Seen::Joined {
            asked,
            position: position(now),
            is_recovered,
        };
        let seen = match words[..] {
            ["join", now] => joined(Asked::FromNow, now, false),
            ["resume", before, now] => joined(Asked::After(position(before)), now, true),
            ["anew", before, now] => joined(Asked::After(position(before)), now, false),
            ["lost"] => Seen::Lost(None),
            ["gap", epoch, range, reason] => {
                let (from, to) = range.split_once("..").unwrap();
                Seen::Gap {
                    epoch: epoch.into(),
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                    reason: reason.to_owned(),
                }
            }
            [got] => {
                let (offset, number) = got[1..].split_once('=').unwrap_or((&got[1..], &got[1..]));
                Seen::Got {
                    offset: offset.parse().unwrap(),
                    number: number.parse().unwrap(),
                }
            }
            _ => panic!("{told}?"),
        };
        trail.seen.push((MS * step as u32, seen));
    }
    story
}

fn judged(words: &str) -> Verdict {
    told(published(), words).judge()
}

#[test]
fn what_came_once_and_in_order_is_whole_across_resumes() {
    let verdict = judged("join a@0 | @1 | @2 | lost | resume a@2 a@2 | @3 | @4 | @5");
    assert!(verdict.is_whole(), "{verdict}");
    assert_eq!(
        (verdict.acknowledged, verdict.deliveries, verdict.recovered),
        (5, 5, 1)
    );
    assert_eq!((verdict.reconnects, verdict.replayed), (1, 0));
}

#[test]
fn a_hole_is_a_loss_also_across_a_resume_and_at_the_end() {
    for words in [
        "join a@0 | @1 | @3 | @4 | @5",
        "join a@0 | @1 | lost | resume a@1 a@1 | @3 | @4 | @5",
    ] {
        assert_eq!(judged(words).lost, ["7/2 at a@2 at subscriber 1"]);
    }
    assert_eq!(
        judged("join a@3 | @4 | lost | resume a@4 a@4").lost,
        ["7/5 at a@5 at subscriber 1"]
    );
}

#[test]
fn an_offset_nobody_knows_is_a_loss_if_others_follow() {
    let mut story = published();
    answer(&mut story, 6, "a", 7, false);
    let verdict = told(story, "join a@5 | @7=6").judge();
    assert_eq!(verdict.lost, ["topic 7 a@6, which nobody knows, at subscriber 1"]);
}

#[test]
fn a_gap_explains_what_it_names_and_nothing_else() {
    let verdict = judged("join a@0 | @1 | gap a 2..3 slow_consumer | @4 | @5");
    assert!(verdict.is_right(), "{verdict}");
    assert_eq!(verdict.missed.len(), 1);
    assert_eq!(
        (verdict.missed[0].reason.as_str(), verdict.missed[0].publications),
        ("slow_consumer", 2)
    );
    assert_eq!(
        judged("join a@0 | @1 | gap a 3..3 slow_consumer | @4 | @5").lost,
        ["7/2 at a@2 at subscriber 1"]
    );
    // Told after what came next: too late.
    assert_eq!(
        judged("join a@0 | @1 | @4 | gap a 2..3 slow_consumer | @5")
            .lost
            .len(),
        2
    );
}

#[test]
fn gaps_that_go_back_or_hold_nothing_are_wrong() {
    for gap in [
        "gap a 1..2 slow_consumer",
        "gap a 3..2 overload",
        "gap a 3..3 epoch_changed",
    ] {
        assert_eq!(
            judged(&format!("join a@0 | @1 | @2 | {gap}")).wrong.len(),
            1,
            "{gap}"
        );
    }
}

#[test]
fn what_comes_again_is_doubled_and_what_comes_late_is_reordered() {
    let verdict = judged("join a@0 | @1 | @2 | lost | resume a@2 a@2 | @2 | @3 | @4 | @5");
    assert_eq!(verdict.doubled, ["7/2 at a@2 after @2 at subscriber 1"]);
    let verdict = judged("join a@0 | @1 | @3 | @2 | @4 | @5");
    assert_eq!(verdict.reordered, ["7/2 at a@2 after @3 at subscriber 1"]);
    assert_eq!(verdict.lost.len(), 1);
}

#[test]
fn a_join_that_did_not_recover_explains_everything_up_to_the_head_and_no_more() {
    let verdict = judged("join a@0 | @1 | lost | anew a@1 a@4 | @5");
    assert!(verdict.is_right(), "{verdict}");
    assert_eq!(
        (verdict.missed[0].reason.as_str(), verdict.missed[0].publications),
        ("recovered: false", 3)
    );
    assert_eq!(judged("join a@0 | @1 | lost | anew a@1 a@3 | @5").lost.len(), 1);
}

#[test]
fn a_recovery_that_says_another_position_or_was_needless_to_fail_is_wrong() {
    assert_eq!(
        judged("join a@0 | @1 | lost | resume a@1 a@2 | @3 | @4 | @5")
            .wrong
            .len(),
        1
    );
    assert_eq!(
        judged("join a@0 | @1 | lost | anew a@1 a@1 | @2 | @3 | @4 | @5")
            .wrong
            .len(),
        1
    );
}

#[test]
fn a_change_of_epoch_must_be_told_and_never_goes_back() {
    let story = || {
        let mut story = published();
        answer(&mut story, 6, "b", 1, false);
        answer(&mut story, 7, "b", 2, false);
        story
    };
    let verdict = told(story(), "join a@0 | @1 | gap b 1..1 epoch_changed | @2=7").judge();
    assert!(verdict.is_right(), "{verdict}");
    // 2..=5 of the old epoch, 1 of the new one.
    assert_eq!(verdict.missed[0].publications, 5);
    let verdict = told(story(), "join a@0 | @1 | lost | anew a@1 b@0 | @1=6 | @2=7").judge();
    assert!(
        verdict.is_right() && verdict.missed[0].publications == 4,
        "{verdict}"
    );

    assert_eq!(
        told(story(), "join a@0 | gap b 2..2 overload")
            .judge()
            .wrong
            .len(),
        1
    );
    let back = "join a@5 | gap b 1..2 epoch_changed | gap a 1..5 epoch_changed";
    assert_eq!(told(story(), back).judge().reordered.len(), 1);
    // It was never told that the topic is in another epoch.
    assert_eq!(told(story(), "join a@5").judge().lost.len(), 1);
}

#[test]
fn ones_own_publish_to_others_may_be_missing_and_may_be_replayed() {
    let story = |sender| {
        let mut story = published();
        let publish = story.publishes.get_mut(&(7, 3)).unwrap();
        publish.is_to_others = true;
        publish.senders = [sender].into();
        story
    };
    for words in [
        "join a@0 | @1 | @2 | @4 | @5",
        "join a@0 | @1 | @2 | lost | resume a@2 a@2 | @3 | @4 | @5",
    ] {
        let verdict = told(story(1), words).judge();
        assert!(verdict.is_whole(), "{verdict}");
    }
    assert_eq!(
        told(story(0), "join a@0 | @1 | @2 | @4 | @5").judge().lost.len(),
        1
    );
}

#[test]
fn a_publish_at_two_offsets_is_doubled_whoever_saw_it() {
    let verdict = judged("join a@0 | @1 | @2 | @3 | @4 | @5 | @6=2");
    assert_eq!(verdict.doubled, ["7/2 at a@2 and @6"]);
    let mut story = published();
    answer(&mut story, 2, "a", 6, true);
    assert_eq!(story.judge().doubled.len(), 2);
}

#[test]
fn answers_agree_and_one_of_them_was_the_first() {
    let mut story = published();
    answer(&mut story, 2, "a", 2, true);
    answer(&mut story, 2, "a", 2, true);
    let verdict = story.judge();
    assert!(verdict.is_right() && verdict.dups == 2, "{verdict}");
    answer(&mut story, 2, "a", 2, false);
    assert_eq!(story.judge().wrong.len(), 1);
    // In a new epoch the ids of the old one are forgotten.
    let mut story = published();
    answer(&mut story, 5, "b", 1, false);
    assert!(story.judge().is_right());
}

#[test]
fn two_publishes_at_one_place_divide_the_topic() {
    let verdict = judged("join a@0 | @1 | @2=3 | @3 | @4 | @5");
    assert_eq!(verdict.divided, ["topic 7 a@2 is 2, and 3 at subscriber 1"]);
}

#[test]
fn publishes_of_one_session_stay_in_order_unless_one_was_put_off() {
    let mut story = Story::default();
    for (number, offset) in [(1, 1), (2, 3), (3, 2)] {
        answer(&mut story, number, "a", offset, false);
    }
    assert_eq!(story.judge().reordered, ["7/2 at a@3 comes after 7/3"]);
    let answers = &mut story.publishes.get_mut(&(7, 2)).unwrap().answers;
    answers.insert(0, (MS, Answer::Refused("overloaded".to_owned())));
    assert!(story.judge().is_right());
}

#[test]
fn what_nobody_published_or_what_was_refused_must_not_come() {
    assert_eq!(
        judged("join a@0 | @1 | @2 | @3 | @4 | @5 | @6=9").invented,
        ["7/9 at a@6"]
    );
    let refused = |reason: &str| {
        let mut story = published();
        let refused = Answer::Refused(reason.to_owned());
        story.publishes.entry((7, 6)).or_default().answers = vec![(MS, refused)];
        told(story, "join a@5 | @6").judge()
    };
    assert_eq!(refused("owner_lease_lost").invented.len(), 1);
    let verdict = refused("timeout");
    assert!(
        verdict.invented.is_empty() && verdict.unanswered.len() == 1,
        "{verdict}"
    );
}

#[test]
fn who_is_away_at_the_end_owes_nothing_that_came_later() {
    let mut story = told(published(), "join a@0 | @1 | lost");
    assert_eq!(story.judge().lost.len(), 4);
    story.away.insert(1);
    assert!(story.judge().is_whole());
}

#[test]
fn waits_are_from_when_a_publish_was_due_and_of_those_that_were_joined() {
    let mut story = published();
    answer(&mut story, 2, "a", 2, true);
    let waits = story.answers();
    assert_eq!((waits.count(), waits.within(1.0)), (5, Duration::ZERO));
    let trail = story.trails.entry((7, 1)).or_default();
    let joined = Seen::Joined {
        asked: Asked::FromNow,
        position: Position::new("a", 0),
        is_recovered: false,
    };
    trail.seen = vec![(MS * 150, joined)];
    for number in 1..=3 {
        let seen = Seen::Got {
            offset: number,
            number,
        };
        trail.seen.push((MS * 310, seen));
    }
    let waits = story.deliveries();
    assert_eq!((waits.count(), waits.within(1.0)), (2, MS * 110));
}
