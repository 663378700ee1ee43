//! Whatever is pushed and however little is taken: what comes out is held against all that was pushed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::websocket::{Opcode, write_header};

#[derive(Debug, Clone)]
enum Step {
    /// Replies and stock frames.
    Kept { count: usize, len: usize },
    /// Publications of one stream.
    Publications {
        stream: usize,
        count: usize,
        len: usize,
        replay: bool,
        /// Offsets between are the client's own, which it is not sent.
        stride: u64,
    },
    /// The socket takes so many bytes.
    Write(usize),
    /// Time passes.
    Tick(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![4 => 0_usize..100, 1 => 1000_usize..60_000];
    let count = prop_oneof![3 => 1_usize..20, 1 => 100_usize..700];
    let step = prop_oneof![
        1 => (1_usize..40, len.clone()).prop_map(|(count, len)| Step::Kept { count, len }),
        4 => (0..STREAMS.len(), count, len, prop::bool::weighted(0.2), 1_u64..3).prop_map(
            |(stream, count, len, replay, stride)| Step::Publications { stream, count, len, replay, stride }
        ),
        2 => prop_oneof![0_usize..50, 0_usize..5_000, 0_usize..2_000_000].prop_map(Step::Write),
        2 => (0_u64..6_000).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..50)
}

const STREAMS: [(&str, SlowConsumer); 5] = [
    ("gap:a", SlowConsumer::Gap),
    ("gap:b", SlowConsumer::Gap),
    ("latest:a", SlowConsumer::Latest),
    ("latest:b", SlowConsumer::Latest),
    ("close:a", SlowConsumer::Close),
];

/// One that was written.
#[derive(Debug, PartialEq)]
enum Read {
    Kept { nth: usize },
    Publication { nth: usize, stream: usize, offset: u64 },
    Gap { stream: usize, from: u64, to: u64 },
    Close,
}

/// Everything that was pushed and written.
struct World {
    outbox: Outbox,
    streams: Vec<Arc<Stream>>,
    now: Millis,
    pushed: usize,
    kept: Vec<usize>,
    offsets: BTreeMap<usize, Vec<u64>>,
    out: Vec<u8>,
}

impl World {
    fn new() -> World {
        World {
            outbox: Outbox::default(),
            streams: STREAMS
                .iter()
                .map(|(topic, policy)| stream(topic, *policy))
                .collect(),
            now: NOW,
            pushed: 0,
            kept: Vec::new(),
            offsets: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// `true`: the connection is to be closed.
    fn step(&mut self, step: &Step) -> bool {
        let closes = self.take(step);
        self.check_bounds();
        closes
    }

    fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Kept { count, len } => (0..count).any(|_| {
                self.pushed += 1;
                let pushed = self.push(&format!("K {}", self.pushed), len, None);
                if !pushed {
                    self.kept.push(self.pushed);
                }
                pushed
            }),
            Step::Publications {
                stream,
                count,
                len,
                replay,
                stride,
            } => (0..count).any(|_| {
                self.pushed += 1;
                let offsets = self.offsets.entry(stream).or_default();
                let offset = offsets.last().unwrap_or(&0) + stride;
                let place = Place {
                    stream: Arc::clone(&self.streams[stream]),
                    offset: Offset(offset),
                    sort: if replay { Sort::Missed } else { Sort::Live },
                };
                let text = format!("P {} {stream} {offset}", self.pushed);
                let pushed = self.push(&text, len, Some(place));
                self.offsets.entry(stream).or_default().push(offset);
                pushed
            }),
            Step::Write(bytes_max) => {
                self.write(bytes_max);
                false
            }
            Step::Tick(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                let ticked = self.outbox.tick(self.now);
                let closes = matches!(ticked, Ticked::Slow(_));
                if !closes {
                    self.check_ages();
                }
                closes
            }
        }
    }

    fn push(&mut self, text: &str, len: usize, place: Option<Place>) -> bool {
        let text = format!("{text} {}", ".".repeat(len));
        let mut frame = Vec::new();
        write_header(&mut frame, Opcode::Text, text.len());
        frame.extend_from_slice(text.as_bytes());
        let had_room = self.outbox.has_room(frame.len(), place.as_ref());
        let was_empty = self.outbox.is_empty();
        let pushed = self.outbox.push(frame.into(), place, self.now);
        match pushed {
            Pushed::First => assert!(had_room && was_empty),
            Pushed::Queued => assert!(had_room && !was_empty),
            Pushed::Shed => {
                assert!(!had_room);
                let lost = self.outbox.take_lost().expect("something was lost");
                assert!(lost.publications > 0 && lost.from <= lost.to);
            }
            Pushed::Slow(why) => assert!(!had_room && why == Why::Full),
            Pushed::Closing => panic!("nobody has closed"),
        }
        assert!(self.outbox.live.is_within(LIVE) && self.outbox.replay.is_within(REPLAY));
        matches!(pushed, Pushed::Slow(_))
    }

    fn write(&mut self, mut bytes_max: usize) {
        let out = &mut self.out;
        let flushed = self.outbox.flush(|slices| {
            let before = out.len();
            write_into(
                out,
                &mut Vec::from_iter((bytes_max > 0).then_some(bytes_max)),
                slices,
            )?;
            bytes_max -= out.len() - before;
            Ok(out.len() - before)
        });
        assert_eq!(flushed.unwrap() == Flushed::All, self.outbox.is_empty());
        assert_eq!(self.outbox.stats().sent_bytes, self.out.len() as u64);
    }

    fn check_bounds(&self) {
        let (mut live, mut replay, mut gaps) = (Held::default(), Held::default(), BTreeMap::new());
        for waiting in &self.outbox.waiting {
            match &waiting.what {
                What::Publication(place) if place.sort == Sort::Missed => replay.add(waiting.bytes.len()),
                What::Kept | What::Told(_) | What::Publication(_) => live.add(waiting.bytes.len()),
                What::Gap(gap) => *gaps.entry(gap.stream.topic.clone()).or_insert(0) += 1,
            }
        }
        assert!(
            live.is_within(LIVE) && replay.is_within(REPLAY),
            "{live:?} {replay:?}"
        );
        let counted = (self.outbox.live, self.outbox.replay);
        assert_eq!((counted.0.frames, counted.0.bytes), (live.frames, live.bytes));
        assert_eq!((counted.1.frames, counted.1.bytes), (replay.frames, replay.bytes));
        // Two more gaps of a stream have publications of it between them.
        let publications = |topic: &Topic| {
            let of = |waiting: &&Waiting| matches!(&waiting.what, What::Publication(place) if place.stream.topic == *topic);
            self.outbox.waiting.iter().filter(of).count()
        };
        for (topic, gaps) in &gaps {
            assert!(*gaps <= publications(topic) + 2, "{gaps} gaps of {topic}");
        }
    }

    fn check_ages(&self) {
        for (index, waiting) in self.outbox.waiting.iter().enumerate() {
            let age = self.now.since(waiting.since);
            match &waiting.what {
                What::Publication(place) if place.stream.slow_consumer == SlowConsumer::Gap => {
                    assert!(age <= AGE_MAX || (index == 0 && self.outbox.begun > 0), "{age:?}");
                }
                What::Kept | What::Told(_) => assert!(age <= SLOW_MAX, "{age:?}"),
                _ => {}
            }
        }
    }

    /// Holds what was written against what was pushed. `whole`: nothing was forgotten.
    fn check_written(&self, whole: bool) {
        let read = read(&self.out);
        let mut kept = self.kept.iter();
        let mut last = 0;
        let mut positions: BTreeMap<usize, u64> = BTreeMap::new();
        let next = |stream: usize, position: u64| {
            let offsets = &self.offsets[&stream];
            offsets[offsets.partition_point(|offset| *offset <= position)]
        };
        for read in &read {
            match *read {
                Read::Kept { nth } => {
                    assert_eq!(Some(&nth), kept.next(), "no reply is left out");
                    assert!(nth > last);
                    last = nth;
                }
                Read::Publication { nth, stream, offset } => {
                    let position = positions.entry(stream).or_default();
                    assert_eq!(offset, next(stream, *position), "after {position} of {stream}");
                    *position = offset;
                    assert!(nth > last);
                    last = nth;
                }
                Read::Gap { stream, from, to } => {
                    assert_ne!(STREAMS[stream].1, SlowConsumer::Close);
                    let position = positions.entry(stream).or_default();
                    assert_eq!(
                        from,
                        next(stream, *position),
                        "a gap after {position} of {stream}"
                    );
                    assert!(to >= from && self.offsets[&stream].contains(&to));
                    *position = to;
                }
                Read::Close => {}
            }
        }
        if whole {
            assert_eq!(kept.next(), None, "every reply was written");
            for (stream, offsets) in &self.offsets {
                assert_eq!(positions.get(stream), offsets.last(), "the end of {stream}");
            }
        } else {
            assert_eq!(read.last(), Some(&Read::Close));
        }
    }
}

/// The frames that were written, each of them whole.
fn read(mut bytes: &[u8]) -> Vec<Read> {
    let mut found = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let (len, head) = match rest[0] {
            126 => (usize::from(u16::from_be_bytes([rest[1], rest[2]])), 3),
            127 => panic!("no frame here is so long"),
            short => (usize::from(short), 1),
        };
        let text = std::str::from_utf8(&rest[head..head + len]);
        bytes = &rest[head + len..];
        if *first == 0x88 {
            found.push(Read::Close);
            continue;
        }
        let text = text.unwrap();
        let number = |nth: usize| text.split(' ').nth(nth).unwrap().parse().unwrap();
        found.push(match text.as_bytes()[0] {
            b'K' => Read::Kept { nth: number(1) },
            b'P' => Read::Publication {
                nth: number(1),
                stream: number(2),
                offset: number(3) as u64,
            },
            _ => {
                let of = |(topic, _): &(&str, SlowConsumer)| text.contains(&format!("\"{topic}\""));
                let field = |name: &str| {
                    let after = text.split_once(&format!("\"{name}\":")).unwrap().1;
                    after.split([',', '}']).next().unwrap().parse().unwrap()
                };
                Read::Gap {
                    stream: STREAMS.iter().position(of).unwrap(),
                    from: field("from"),
                    to: field("to"),
                }
            }
        });
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_cut_nothing_is_reordered_and_whatever_is_missing_is_told(steps in steps()) {
        let mut world = World::new();
        let closed = steps.iter().any(|step| world.step(step));
        if closed {
            world.outbox.drop_waiting();
            world.outbox.close(crate::websocket::close(Some(4008), ""), world.now);
        }
        world.write(usize::MAX);
        world.check_written(!closed);
    }
}
