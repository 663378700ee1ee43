mod model;

use ringcast_proto::{Epoch, Topic};

use super::*;
use crate::phoenix::{Json, Serializer};
use crate::route::SlowConsumer;

const NOW: Millis = Millis(1);

fn stream(topic: &str, slow_consumer: SlowConsumer) -> Arc<Stream> {
    Arc::new(Stream {
        topic: Topic::parse(topic.as_bytes()).unwrap(),
        join_ref: Json::string("4"),
        serializer: Serializer::V2,
        epoch: Epoch::parse(b"k7q2m4td").unwrap(),
        slow_consumer,
    })
}

fn place(stream: &Arc<Stream>, offset: u64) -> Option<Place> {
    Some(Place {
        stream: Arc::clone(stream),
        offset: Offset(offset),
        sort: Sort::Live,
    })
}

fn fleeting(stream: &Arc<Stream>) -> Option<Place> {
    place(stream, 0).map(|place| Place {
        sort: Sort::Fleeting,
        ..place
    })
}

fn replayed(stream: &Arc<Stream>, offset: u64) -> Option<Place> {
    place(stream, offset).map(|place| Place {
        sort: Sort::Missed,
        ..place
    })
}

/// A socket that takes `takes` bytes a write, then blocks.
fn write_into(out: &mut Vec<u8>, takes: &mut Vec<usize>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let Some(take) = takes.pop() else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    let bytes: Vec<u8> = slices
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .take(take)
        .collect();
    out.extend_from_slice(&bytes);
    Ok(bytes.len())
}

/// Writes at most so many bytes.
fn write(outbox: &mut Outbox, bytes_max: usize) -> String {
    let (mut out, mut left) = (Vec::new(), bytes_max);
    let flushed = outbox.flush(|slices| {
        let before = out.len();
        let wrote = write_into(&mut out, &mut Vec::from_iter((left > 0).then_some(left)), slices)?;
        left -= out.len() - before;
        Ok(wrote)
    });
    flushed.unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

/// The gap of a stream, as it is written.
fn gap(stream: &Stream, from: u64, to: u64) -> String {
    let frame = stream.gap(Offset(from), Offset(to), GapReason::SlowConsumer);
    String::from_utf8_lossy(&frame.0).into_owned()
}

/// Writes everything.
fn rest(outbox: &mut Outbox) -> String {
    write(outbox, usize::MAX)
}

#[test]
fn a_burst_is_one_write_and_a_larger_one_leaves_no_memory() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push("a".into(), None, NOW), Pushed::First);
    for _ in 1..64 {
        assert_eq!(outbox.push("b".into(), None, NOW), Pushed::Queued);
    }
    let mut writes = 0;
    let flushed = outbox.flush(|slices| {
        writes += 1;
        Ok(slices.iter().map(|slice| slice.len()).sum())
    });
    assert_eq!((flushed.unwrap(), writes), (Flushed::All, 1));
    assert_eq!(outbox.live.bytes, 0);
    assert!(outbox.slow.is_none());
    for _ in 0..=FRAMES_KEPT {
        outbox.push("c".into(), None, NOW);
    }
    rest(&mut outbox);
    assert_eq!(outbox.waiting.capacity(), 0);
}

#[test]
fn the_room_for_few_frames_is_kept_while_it_is_used_and_given_back_after() {
    let mut outbox = Outbox::default();
    let room = |outbox: &Outbox| outbox.waiting.capacity();
    for _ in 0..3 {
        outbox.push("a".into(), None, NOW);
        assert_eq!(rest(&mut outbox), "a");
        assert!((1..=FRAMES_KEPT).contains(&room(&outbox)));
        // Once a second, and it was used in this one.
        assert_eq!(outbox.tick(NOW), Ticked::Fine);
        assert_ne!(room(&outbox), 0);
    }
    assert_eq!(outbox.tick(NOW), Ticked::Fine);
    assert_eq!(room(&outbox), 0);
}

#[test]
fn bytes_leave_in_order_however_little_the_socket_takes() {
    for take in 1..12 {
        let (mut outbox, mut out) = (Outbox::default(), Vec::new());
        for frame in ["one", "", "two", "three"] {
            outbox.push(frame.into(), None, NOW);
        }
        loop {
            let mut takes = vec![take];
            let flushed = outbox.flush(|slices| write_into(&mut out, &mut takes, slices));
            if flushed.unwrap() == Flushed::All {
                break;
            }
        }
        assert_eq!(out, b"onetwothree");
        assert_eq!((outbox.live.bytes, outbox.begun), (0, 0));
        assert_eq!(outbox.stats().sent_bytes, 11);
    }
}

#[test]
fn c12_without_positions_both_bounds_end_the_connection() {
    let mut outbox = Outbox::default();
    for _ in 0..FRAMES_MAX {
        assert!(matches!(
            outbox.push("x".into(), None, NOW),
            Pushed::First | Pushed::Queued
        ));
    }
    assert_eq!(outbox.push("x".into(), None, NOW), Pushed::Slow(Why::Full));
    assert_eq!(outbox.stats().frames, FRAMES_MAX);
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(vec![0; BYTES_MAX].into(), None, NOW), Pushed::First);
    assert_eq!(outbox.push("x".into(), None, NOW), Pushed::Slow(Why::Full));
}

#[test]
fn c12_a_frame_that_was_begun_is_finished_before_the_close() {
    let mut outbox = Outbox::default();
    outbox.push("begun".into(), None, NOW);
    outbox.push("dropped".into(), None, NOW);
    assert_eq!(write(&mut outbox, 2), "be");
    outbox.drop_waiting();
    outbox.close("close".into(), NOW);
    outbox.close("another".into(), NOW);
    assert_eq!(outbox.push("late".into(), None, NOW), Pushed::Closing);
    assert_eq!(write(&mut outbox, 100), "gunclose");
}

#[test]
fn c12_without_positions_a_frame_waits_ten_seconds() {
    let mut outbox = Outbox::default();
    outbox.push("old".into(), None, NOW);
    outbox.push("new".into(), None, NOW + AGE_MAX);
    assert_eq!(outbox.tick(NOW + AGE_MAX), Ticked::Fine);
    let late = NOW + AGE_MAX + Duration::from_millis(1);
    assert_eq!(outbox.tick(late), Ticked::Slow(Why::Late));
}

#[test]
fn x7_at_the_bound_the_oldest_publications_become_one_gap_and_replies_stay() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    outbox.push("<1>".into(), place(&a, 11), NOW);
    outbox.push("<reply>".into(), None, NOW);
    for offset in 12..11 + FRAMES_MAX as u64 - 1 {
        let pushed = outbox.push(format!("<{offset}>").into(), place(&a, offset), NOW);
        assert_eq!(pushed, Pushed::Queued);
    }
    assert_eq!(outbox.push("<last>".into(), place(&a, 1010), NOW), Pushed::Shed);
    let lost = outbox.take_lost().unwrap();
    assert!(lost.begins);
    assert_eq!((lost.publications, lost.gaps), (501, 1));
    assert_eq!((lost.from, lost.to), (Offset(11), Offset(511)));
    assert_eq!(outbox.take_lost(), None);
    let text = rest(&mut outbox);
    let begins = format!("{}<reply><512><513>", gap(&a, 11, 511));
    assert!(text.starts_with(&begins), "{}", &text[..200]);
    assert!(text.ends_with("<1009><last>"), "{text}");
    assert_eq!((outbox.stats().dropped, outbox.stats().gaps), (501, 1));
}

#[test]
fn x7_a_gap_that_was_not_written_grows_and_one_that_was_begun_does_not() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    let mut offset = 0;
    let mut fill = |outbox: &mut Outbox| loop {
        offset += 1;
        if outbox.push("x".into(), place(&a, offset), NOW) == Pushed::Shed {
            return;
        }
    };
    fill(&mut outbox);
    fill(&mut outbox);
    assert!(!write(&mut outbox, 8).is_empty());
    fill(&mut outbox);
    let text = rest(&mut outbox);
    assert!(text.contains(r#""from":1,"to":1002,"#), "{text}");
    assert!(text.contains(&gap(&a, 1003, 1503)), "{text}");
    assert_eq!(text.matches("\"from\"").count(), 2);
}

#[test]
fn each_channel_is_told_its_own_gap() {
    let mut outbox = Outbox::default();
    let (a, b) = (stream("a", SlowConsumer::Gap), stream("b", SlowConsumer::Gap));
    for offset in 1..=FRAMES_MAX as u64 / 2 {
        outbox.push("a".into(), place(&a, offset), NOW);
        outbox.push("b".into(), place(&b, offset), NOW);
    }
    assert_eq!(outbox.push("reply".into(), None, NOW), Pushed::Shed);
    let text = rest(&mut outbox);
    assert!(text.starts_with(&(gap(&a, 1, 251) + &gap(&b, 1, 250))), "{text}");
    assert!(text.ends_with("reply"));
}

#[test]
fn a_channel_that_wants_only_the_newest_keeps_it() {
    let mut outbox = Outbox::default();
    let (a, b) = (
        stream("a", SlowConsumer::Latest),
        stream("b", SlowConsumer::Latest),
    );
    outbox.push("<b>".into(), place(&b, 7), NOW);
    for offset in 1..FRAMES_MAX as u64 {
        outbox.push(format!("<{offset}>").into(), place(&a, offset), NOW);
    }
    assert_eq!(outbox.push("<1000>".into(), place(&a, 1000), NOW), Pushed::Shed);
    assert_eq!(outbox.take_lost().unwrap().policy, SlowConsumer::Latest);
    assert_eq!(rest(&mut outbox), format!("<b>{}<1000>", gap(&a, 1, 999)));
}

#[test]
fn a_channel_that_wants_only_the_newest_is_closed_when_its_client_reads_nothing_for_ten_seconds() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Latest));
    let mut now = NOW;
    outbox.push(vec![b'x'; 100].into(), place(&a, 1), now);
    write(&mut outbox, 1);
    for second in 2..90 {
        now = now + Duration::from_secs(1);
        outbox.push("y".into(), place(&a, second), now);
        // A byte a second is something.
        assert_eq!(write(&mut outbox, 1), "x");
        assert!(!matches!(outbox.tick(now), Ticked::Slow(_)), "second {second}");
    }
    assert!(outbox.stats().slow);
    for second in 0..11 {
        assert!(!matches!(outbox.tick(now), Ticked::Slow(_)), "second {second}");
        now = now + Duration::from_secs(1);
    }
    assert_eq!(outbox.tick(now), Ticked::Slow(Why::Stuck));
}

#[test]
fn a_channel_that_wants_to_be_closed_loses_nothing() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Close));
    for offset in 1..=FRAMES_MAX as u64 {
        outbox.push("x".into(), place(&a, offset), NOW);
    }
    assert_eq!(
        outbox.push("x".into(), place(&a, 1001), NOW),
        Pushed::Slow(Why::Full)
    );
    assert_eq!(outbox.stats().dropped, 0);
    let mut outbox = Outbox::default();
    outbox.push("x".into(), place(&a, 1), NOW);
    assert_eq!(outbox.tick(NOW + AGE_MAX * 2), Ticked::Slow(Why::Late));
}

#[test]
fn x7_what_waited_ten_seconds_becomes_a_gap_and_after_thirty_the_connection_ends() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    outbox.push("<begun>".into(), place(&a, 1), NOW);
    write(&mut outbox, 1);
    let mut slow_since = None;
    for second in 2..100 {
        let now = NOW + Duration::from_secs(second);
        outbox.push(format!("<{second}>").into(), place(&a, second), now);
        if second % 4 == 0 {
            // It reads, and never to the end.
            write(&mut outbox, 7);
        }
        match outbox.tick(now) {
            Ticked::Fine => {}
            Ticked::Shed => _ = slow_since.get_or_insert(now),
            Ticked::Slow(why) => {
                assert_eq!(why, Why::StillSlow);
                let slow = now.since(slow_since.unwrap());
                assert!(
                    slow > SLOW_MAX && slow < SLOW_MAX + Duration::from_secs(2),
                    "{slow:?}"
                );
                return;
            }
        }
    }
    panic!("a client that never catches up is never closed");
}

#[test]
fn a_client_that_catches_up_is_given_the_whole_time_again() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    let mut now = NOW;
    for round in 0..8_u64 {
        for offset in 1..=1001 {
            outbox.push("x".into(), place(&a, round * 2000 + offset), now);
        }
        let lost = outbox.take_lost().unwrap();
        assert!(lost.begins, "round {round}");
        now = now + Duration::from_secs(9);
        assert_ne!(outbox.tick(now), Ticked::Slow(Why::StillSlow));
        write(&mut outbox, usize::MAX);
        assert!(!outbox.stats().slow);
    }
}

#[test]
fn a_replay_goes_beyond_the_bound_and_has_one_of_its_own() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    let kib = vec![b'x'; 1024];
    for offset in 1..=3 * 1024 {
        let pushed = outbox.push(kib.clone().into(), replayed(&a, offset), NOW);
        assert_ne!(pushed, Pushed::Shed, "{offset}");
    }
    assert_eq!(outbox.push("reply".into(), None, NOW), Pushed::Queued);
    let pushed = outbox.push(kib.into(), replayed(&a, 3 * 1024 + 1), NOW);
    assert_eq!(pushed, Pushed::Shed);
    assert!(rest(&mut outbox).starts_with(&gap(&a, 1, 1537)));
}

#[test]
fn a_publication_without_an_offset_goes_without_a_gap() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    for _ in 0..FRAMES_MAX {
        outbox.push("x".into(), fleeting(&a), NOW);
    }
    assert_eq!(outbox.push("reply".into(), None, NOW), Pushed::Shed);
    assert_eq!(rest(&mut outbox), "x".repeat(499) + "reply");
}

#[test]
fn replies_that_fill_an_outbox_end_the_connection_although_something_could_go() {
    let (mut outbox, a) = (Outbox::default(), stream("a", SlowConsumer::Gap));
    outbox.push("x".into(), place(&a, 1), NOW);
    for _ in 1..FRAMES_MAX {
        outbox.push("reply".into(), None, NOW);
    }
    // Else every frame from now on would look through a thousand for room.
    assert_eq!(outbox.push("reply".into(), None, NOW), Pushed::Slow(Why::Full));
}

#[test]
fn x7_what_is_left_out_on_both_sides_of_a_gap_of_the_owners_is_told_on_both_sides() {
    let stream = stream("topics:matrix", SlowConsumer::Latest);
    let mut outbox = Outbox::default();
    outbox.push("begun".into(), None, NOW);
    write(&mut outbox, 1);
    for offset in [5, 6] {
        outbox.push("x".into(), place(&stream, offset), NOW);
    }
    let owners = stream.gap(Offset(7), Offset(9), GapReason::HistoryTrimmed);
    let told = place(&stream, 9).map(|place| Place {
        sort: Sort::Gap,
        ..place
    });
    outbox.push(owners.0.clone(), told, NOW);
    let mut offset = 10;
    while outbox.push("x".into(), place(&stream, offset), NOW) != Pushed::Shed {
        offset += 1;
    }
    let owners = String::from_utf8_lossy(&owners.0).into_owned();
    let told = format!(
        "egun{}{owners}{}x",
        gap(&stream, 5, 6),
        gap(&stream, 10, offset - 1)
    );
    assert_eq!(rest(&mut outbox), told);
}

#[test]
fn what_has_no_offset_makes_room_and_is_told_by_no_gap() {
    for policy in [SlowConsumer::Gap, SlowConsumer::Latest] {
        let (mut outbox, a) = (Outbox::default(), stream("a", policy));
        outbox.push("<7>".into(), place(&a, 7), NOW);
        while outbox.push("<typing>".into(), fleeting(&a), NOW) != Pushed::Shed {}
        let lost = outbox.take_lost().unwrap();
        outbox.push("<8>".into(), place(&a, 8), NOW);
        let text = rest(&mut outbox);
        assert_eq!((lost.gaps, text.matches("gap").count()), (0, 0), "{text}");
        assert!(text.starts_with("<7>"), "{text}");
        assert!(text.ends_with("<8>"));
    }
}
