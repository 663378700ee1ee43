//! Scripts of inputs to one slot, and what comes out: the answers, then what each gateway is handed.
//!
//! A script is a list of steps separated by `|`; the words are those of `Desk::step`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps nothing fails as it should"
)]

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use expect_test::{Expect, expect};
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::{
    Epoch, Incarnation, Millis, NodeId, NodeRef, Offset, OwnerEpoch, SessionId, Slot as Number, Topic, v1,
};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{
    Bind, Cursor, Effect, Input, Limits, Moment, Publishes, Slot, TapId, Token,
};

fn node(text: &str) -> NodeRef {
    let (id, incarnation) = text.split_once('#').unwrap_or((text, "1"));
    NodeRef {
        node: NodeId::parse(id).unwrap(),
        incarnation: Incarnation(incarnation.parse().unwrap()),
    }
}

/// Epochs are random; in a transcript they are e1, e2, ... in the order they are seen.
#[derive(Default)]
struct Names(Vec<Bytes>);

impl Names {
    fn name(&mut self, epoch: &[u8]) -> String {
        let known = self.0.iter().position(|known| known == epoch);
        let index = known.unwrap_or_else(|| {
            self.0.push(Bytes::copy_from_slice(epoch));
            self.0.len() - 1
        });
        format!("e{}", index + 1)
    }
}

struct Desk {
    slot: Slot,
    me: NodeRef,
    now: Millis,
    lease_valid: bool,
    topics_free: usize,
    asked: u64,
    revision: u64,
    names: Names,
    out: String,
}

impl Desk {
    fn new(limits: Limits) -> Desk {
        let slot = Slot::new(Number(7), limits);
        let (me, now, names, out) = (node("ts-1"), Millis(1_000), Names::default(), String::new());
        let mut desk = Desk {
            slot,
            me,
            now,
            lease_valid: true,
            topics_free: 100,
            asked: 0,
            revision: 0,
            names,
            out,
        };
        desk.step("own 1");
        desk
    }

    fn step(&mut self, step: &str) {
        let words: Vec<&str> = step.split_whitespace().collect();
        let (verb, words) = words.split_first().expect("an empty step");
        let number = |word: &str| word.parse::<u64>().unwrap();
        let input = match *verb {
            // own EPOCH [BASE]: the record names this life.
            "own" => self.record(
                self.me.clone(),
                number(words[0]),
                words.get(1).unwrap_or(&words[0]),
            ),
            // other NODE EPOCH: the record names somebody else.
            "other" => self.record(node(words[0]), number(words[1]), words[1]),
            "confirmed" => Input::Confirmed(OwnerEpoch(number(words[0]))),
            "fenced" => Input::Fenced,
            // life N: this node registered anew.
            "life" => return self.me.incarnation = Incarnation(number(words[0])),
            "lease" => return self.lease_valid = words[0] == "valid",
            "room" => return self.topics_free = words[0].parse().unwrap(),
            // pass N: seconds go by.
            "pass" => {
                self.now = self.now + Duration::from_secs(number(words[0]));
                Input::Tick
            }
            "flush" => return self.flush(),
            // bind GATEWAY seq[<prev][@OFFSET|@?] +SESSION -SESSION ...: `@?` is a cursor of an unknown epoch.
            "bind" => self.bind(node(words[0]), words[1], &words[2..]),
            // publish PAYLOAD ... [by GATEWAY NUMBER] [knowing OWNER_EPOCH]
            "publish" => self.publish(words),
            "need" => {
                let cursor = Cursor {
                    epoch: self.epoch(),
                    offset: Offset(number(words[1])),
                };
                Input::NeedFrom {
                    gateway: node(words[0]),
                    topic: topic(),
                    cursor,
                }
            }
            "no-interest" => Input::NoInterest {
                gateway: node(words[0]),
                topic: topic(),
                bind_seq: number(words[1]),
            },
            "stale" => Input::Stale(OwnerEpoch(number(words[0]))),
            "dropped" => {
                let from = Cursor {
                    epoch: self.epoch(),
                    offset: Offset(number(words[1])),
                };
                Input::Dropped {
                    gateway: node(words[0]),
                    topic: topic(),
                    from,
                }
            }
            "room-for" => Input::LaneRoom(node(words[0])),
            "gone" => Input::GatewayGone(node(words[0])),
            "tap" => Input::Tap(TapId(number(words[0])), topic()),
            "untap" => Input::Untap(TapId(number(words[0]))),
            "show" => Input::ShowTopic(Token(0), topic()),
            "list" => Input::ListTopics {
                token: Token(0),
                prefix: "t".into(),
                limit: 10,
            },
            "members" => {
                let (after, limit) = (SessionId(number(words[0])), words[1].parse().unwrap());
                Input::ListMembers {
                    token: Token(0),
                    topic: topic(),
                    after,
                    limit,
                }
            }
            other => panic!("no such step: {other}"),
        };
        let moment = Moment {
            now: self.now,
            lease_valid: self.lease_valid,
            topics_free: self.topics_free,
        };
        let mut effects = Vec::new();
        self.slot.apply(input, moment, &mut effects);
        self.write(effects);
    }

    fn record(&mut self, owner: NodeRef, owner_epoch: u64, base: &str) -> Input {
        self.revision += 1;
        let record = SlotRecord {
            owner_epoch: OwnerEpoch(owner_epoch),
            base: OwnerEpoch(base.parse().unwrap()),
            owner,
            replica: None,
            moving: None,
            cause: Cause::Fresh,
            rest: Default::default(),
        };
        let (revision, me) = (Revision(self.revision), self.me.clone());
        Input::Record {
            revision,
            record,
            me,
            entropy: u128::from(self.revision),
        }
    }

    fn bind(&mut self, from: NodeRef, seq: &str, members: &[&str]) -> Input {
        let (seq, cursor) = seq
            .split_once('@')
            .map_or((seq, None), |(seq, cursor)| (seq, Some(cursor)));
        let (seq, prev_seq) = seq.split_once('<').unwrap_or((seq, "0"));
        let epoch = self
            .names
            .0
            .first()
            .cloned()
            .unwrap_or(Bytes::from_static(b"none"));
        let session = |word: &&&str| word[1..].parse::<u64>().unwrap();
        let bind = v1::Bind {
            slot: 7,
            owner_epoch: 0,
            topic: Bytes::from_static(b"t"),
            seq: seq.parse().unwrap(),
            prev_seq: prev_seq.parse().unwrap(),
            joined: (members.iter().filter(|word| word.starts_with('+')))
                .map(|word| v1::Member {
                    session: session(&word),
                    subject: Bytes::new(),
                })
                .collect(),
            left: members
                .iter()
                .filter(|word| word.starts_with('-'))
                .map(|word| session(&word))
                .collect(),
            cursor: cursor.map(|offset| match offset {
                "?" => v1::Position {
                    epoch: Bytes::from_static(b"unknown"),
                    offset: 3,
                },
                offset => v1::Position {
                    epoch,
                    offset: offset.parse().unwrap(),
                },
            }),
        };
        self.asked += 1;
        Input::Bind {
            token: Token(self.asked),
            from,
            owner_epoch: OwnerEpoch(0),
            bind: Bind::parse(bind).unwrap(),
        }
    }

    fn publish(&mut self, words: &[&str]) -> Input {
        let by = words.iter().position(|word| *word == "by");
        let knowing = words.iter().position(|word| *word == "knowing");
        let payloads = &words[..by.or(knowing).unwrap_or(words.len())];
        let from = node(by.map_or("gw-9", |by| words[by + 1]));
        let first: u64 = by.map_or(0, |by| words[by + 2].parse().unwrap());
        let publish = |(index, payload): (usize, &&str)| v1::Publish {
            number: if first == 0 { 0 } else { first + index as u64 },
            topic: Bytes::from_static(b"t"),
            event: Bytes::from_static(b"e"),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            session: 5,
            target: 0,
        };
        let owner_epoch = OwnerEpoch(knowing.map_or(0, |at| words[at + 1].parse().unwrap()));
        self.asked += 1;
        let publishes = payloads.iter().enumerate().map(publish).collect();
        Input::Publish(Publishes {
            token: Token(self.asked),
            from,
            owner_epoch,
            publishes,
        })
    }

    fn epoch(&self) -> Epoch {
        Epoch::parse(self.names.0.first().map_or(&b"none"[..], |epoch| epoch)).unwrap()
    }

    fn flush(&mut self) {
        let mut effects = Vec::new();
        self.slot.flush(self.now, &mut effects);
        self.write(effects);
    }

    fn write(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Published(_, answer) => self.published(&answer),
                Effect::Bound(_, outcome) => self.bound(&outcome),
                Effect::Deliver(gateway, entry) => format!("{} <- {}", gateway.node, self.entry(&entry)),
                Effect::Tapped(TapId(tap), event) => {
                    let payload = String::from_utf8_lossy(&event.payload);
                    format!("tap {tap}: @{} {} {payload}", event.offset, event.event)
                }
                Effect::TapEnded(TapId(tap)) => format!("tap {tap} ended"),
                Effect::Shown(_, reply) => match reply.topic {
                    Some(topic) => format!(
                        "shown: @{} members {} history {}",
                        topic.offset, topic.members, topic.history_len
                    ),
                    None if reply.not_owner => "not owner".to_owned(),
                    None => "no such topic".to_owned(),
                },
                Effect::Listed(_, reply) => format!("listed {}", reply.topics.len()),
                Effect::Members(_, reply) => {
                    let member = |member: &v1::TopicMember| format!("{}@{}", member.session, member.gateway);
                    let members: Vec<String> = reply.members.iter().map(member).collect();
                    format!(
                        "members {}{}",
                        members.join(" "),
                        if reply.truncated { " ..." } else { "" }
                    )
                }
                Effect::Behind => "behind".to_owned(),
            };
            writeln!(self.out, "{line}").unwrap();
        }
    }

    fn published(&mut self, answer: &v1::SlotPublishAnswer) -> String {
        let mut line = String::from("->");
        for outcome in &answer.outcomes {
            match &outcome.outcome {
                Some(Outcome::Committed(position)) => {
                    write!(line, " {}@{}", self.names.name(&position.epoch), position.offset).unwrap();
                }
                Some(Outcome::Refused(why)) => {
                    let why = v1::Refusal::try_from(*why).unwrap();
                    write!(line, " {}", why.as_str_name().trim_start_matches("REFUSAL_")).unwrap();
                }
                None => panic!("an outcome without one"),
            }
        }
        if answer.rest() != v1::SlotStatus::Ok {
            write!(
                line,
                " {}",
                answer.rest().as_str_name().trim_start_matches("SLOT_STATUS_")
            )
            .unwrap();
        }
        if let Some(owner) = &answer.owner {
            write!(
                line,
                " {}#{} under {}",
                owner.node, owner.incarnation, owner.owner_epoch
            )
            .unwrap();
        }
        line
    }

    fn bound(&mut self, outcome: &v1::BindOutcome) -> String {
        let status = outcome.status().as_str_name().trim_start_matches("BIND_STATUS_");
        match &outcome.cursor {
            Some(cursor) => {
                format!(
                    "bound {status} {}@{} head {}",
                    self.names.name(&cursor.epoch),
                    cursor.offset,
                    outcome.head
                )
            }
            None => format!("bound {status}"),
        }
    }

    fn entry(&mut self, entry: &v1::DeliverEntry) -> String {
        let mut parts = Vec::new();
        if let Some(gap) = &entry.gap {
            let reason = gap
                .reason()
                .as_str_name()
                .trim_start_matches("GAP_REASON_")
                .to_lowercase();
            parts.push(format!("gap {}-{} {reason}", gap.from, gap.to));
        }
        let publication = |publication: &v1::Publication| {
            format!(
                "@{} {}",
                publication.offset,
                String::from_utf8_lossy(&publication.payload)
            )
        };
        parts.extend(entry.publications.iter().map(publication));
        format!("after {}: {}", entry.prev_offset, parts.join(", "))
    }
}

fn topic() -> Topic {
    Topic::parse(b"t").unwrap()
}

fn check_with(limits: Limits, script: &str, expected: Expect) {
    let mut desk = Desk::new(limits);
    for step in script.split('|') {
        desk.step(step);
    }
    expected.assert_eq(&desk.out);
}

fn check(script: &str, expected: Expect) {
    check_with(Limits::default(), script, expected);
}

#[test]
fn a_newcomer_does_not_see_what_was_published_before_it_joined() {
    check(
        "bind gw-1 1 +1 +2 | publish a | bind gw-2 1 +3 | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            bound OK e1@1 head 1
            -> e1@2
            gw-1 <- after 0: @1 a, @2 b
            gw-2 <- after 1: @2 b
        "#]],
    );
}

#[test]
fn a_gateway_without_members_gets_nothing() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2 | bind gw-2 2<1 -2 | publish a | flush | bind gw-1 3 | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            bound OK e1@1 head 1
            -> e1@2
        "#]],
    );
}

#[test]
fn a_repeated_publish_is_appended_once_and_gets_its_first_outcome() {
    check(
        "publish a b by gw-1 1 | publish a b c by gw-1 1 | publish d by gw-1 9 | publish e by gw-1 5 | publish f by gw-2 1",
        expect![[r#"
            -> e1@1 e1@2
            -> e1@1 e1@2 e1@3
            -> e1@4
            -> STALE_NUMBER
            -> e1@5
        "#]],
    );
}

#[test]
fn a_publish_that_cannot_be_is_refused_in_its_place() {
    let limits = Limits {
        payload_bytes_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a long b by gw-1 1 | publish a long b by gw-1 1",
        expect![[r#"
            -> e1@1 TOO_LARGE e1@2
            -> e1@1 TOO_LARGE e1@2
        "#]],
    );
}

#[test]
fn nothing_is_appended_without_the_lease_and_binding_goes_on() {
    check(
        "bind gw-1 1 +1 | lease lost | publish a by gw-1 1 | bind gw-2 1 +2 | lease valid | publish a by gw-1 1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> OWNER_LEASE_LOST
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
        "#]],
    );
}

#[test]
fn who_asks_the_wrong_node_is_told_the_owner() {
    check(
        "other ts-2#4 2 | publish a | bind gw-1 1 +1 | show",
        expect![[r#"
            -> NOT_OWNER ts-2#4 under 2
            bound NOT_OWNER
            not owner
        "#]],
    );
}

#[test]
fn a_higher_owner_epoch_stops_everything_until_the_store_has_spoken() {
    check(
        "bind gw-1 1 +1 | publish a knowing 2 | publish b | flush | confirmed 1 | publish c | flush | stale 3 | publish d | own 3 | publish e",
        expect![[r#"
            bound OK e1@0 head 0
            behind
            -> NOT_OWNER
            -> NOT_OWNER
            -> e1@1
            gw-1 <- after 0: @1 c
            behind
            -> NOT_OWNER
            -> e2@1
        "#]],
    );
}

#[test]
fn a_bind_that_does_not_follow_the_last_asks_for_everything() {
    check(
        "bind gw-1 4<3 +1 | bind gw-1 5 +1 +2 | bind gw-1 7<6 +3 | bind gw-1 8<5 +3 -1 | bind gw-1 8<5 +3 -1 | members 0 9",
        expect![[r#"
            bound NEED_FULL
            bound OK e1@0 head 0
            bound NEED_FULL
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            members 2@gw-1 3@gw-1
        "#]],
    );
}

#[test]
fn a_cursor_gets_the_missing_tail() {
    check(
        "publish a b c | bind gw-1 1@1 +1 | flush | bind gw-2 1@9 +2 | flush | publish d | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            bound OK e1@1 head 3
            gw-1 <- after 1: @2 b, @3 c
            bound OK e1@3 head 3
            -> e1@4
            gw-1 <- after 3: @4 d
            gw-2 <- after 3: @4 d
        "#]],
    );
}

#[test]
fn a_cursor_of_another_epoch_gets_everything_or_a_gap() {
    let limits = Limits {
        history_len_max: 2,
        ..Limits::default()
    };
    check(
        "publish a b | bind gw-1 1@? +1 | flush",
        expect![[r#"
        -> e1@1 e1@2
        bound OK e1@0 head 2
        gw-1 <- after 0: @1 a, @2 b
    "#]],
    );
    check_with(
        limits,
        "publish a b c | flush | bind gw-1 1@? +1 | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            bound OK e1@0 head 3
            gw-1 <- after 0: gap 1-1 epoch_changed, @2 b, @3 c
        "#]],
    );
}

#[test]
fn what_history_no_longer_has_is_a_gap() {
    let limits = Limits {
        history_len_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a b c d | flush | bind gw-1 1@1 +1 | flush | pass 400 | flush | bind gw-2 1@3 +2 | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3 e1@4
            bound OK e1@1 head 4
            gw-1 <- after 1: gap 2-2 history_trimmed, @3 c, @4 d
            bound OK e1@3 head 4
            gw-2 <- after 3: gap 4-4 history_trimmed
        "#]],
    );
}

#[test]
fn a_burst_larger_than_the_history_reaches_those_who_keep_up() {
    let limits = Limits {
        history_len_max: 2,
        entry_publications_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "bind gw-1 1 +1 | publish a b c d e | flush | show",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2 e1@3 e1@4 e1@5
            gw-1 <- after 0: @1 a, @2 b, @3 c
            gw-1 <- after 3: @4 d, @5 e
            shown: @5 members 1 history 2
        "#]],
    );
}

#[test]
fn a_full_lane_is_left_alone_until_it_has_room_and_then_gets_everything() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2 | publish a | flush | dropped gw-1 0 | publish b | flush | room-for gw-1 | flush | room-for gw-1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
            -> e1@2
            gw-2 <- after 1: @2 b
            gw-1 <- after 0: @1 a, @2 b
        "#]],
    );
}

#[test]
fn a_gateway_that_missed_something_gets_it_again() {
    check(
        "bind gw-1 1 +1 | publish a b | flush | publish c | need gw-1 1 | flush | no-interest gw-1 0 | publish d | flush | no-interest gw-1 1 | publish e | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            -> e1@3
            gw-1 <- after 1: @2 b, @3 c
            -> e1@4
            gw-1 <- after 3: @4 d
            -> e1@5
        "#]],
    );
}

#[test]
fn a_gateway_that_is_gone_stays_gone_and_its_next_life_begins_anew() {
    check(
        "bind gw-1#1 1 +1 | gone gw-1#1 | publish a | flush | bind gw-1#1 2 +1 | bind gw-1#5 1 +2 | publish b by gw-1#5 1 | flush | publish c by gw-1#1 1",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            bound NOT_OWNER
            bound OK e1@1 head 1
            -> e1@2
            gw-1 <- after 1: @2 b
            -> NOT_OWNER
        "#]],
    );
    check(
        "bind gw-1#1 9 +1 | bind gw-1#5 1 +2 | publish b | flush | members 0 9",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 b
            members 2@gw-1
        "#]],
    );
}

#[test]
fn a_claim_keeps_epochs_and_a_fresh_start_makes_new_ones() {
    check(
        "bind gw-1 1 +1 | publish a by gw-1 1 | fenced | publish b by gw-1 2 | life 8 | own 2 1 | publish a b by gw-1 1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            -> NOT_OWNER
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
        "#]],
    );
    check(
        "publish a | fenced | life 8 | own 2 2 | publish b",
        expect![[r#"
            -> e1@1
            -> e2@1
        "#]],
    );
    check(
        "publish a | other ts-2 2 | own 3 1 | publish b",
        expect![[r#"
        -> e1@1
        -> e2@1
    "#]],
    );
}

#[test]
fn an_idle_topic_is_forgotten_when_its_history_is() {
    check(
        "bind gw-1 1 +1 | bind gw-1 2<1 -1 | flush | list | publish a | flush | pass 299 | flush | list | pass 2 | flush | list | publish b",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            listed 0
            -> e2@1
            listed 1
            listed 0
            -> e3@1
        "#]],
    );
    check(
        "bind gw-1 1 +1 | publish a | flush | pass 400 | flush | list | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            listed 1
            -> e1@2
            gw-1 <- after 1: @2 b
        "#]],
    );
}

#[test]
fn a_node_that_holds_enough_topics_takes_no_more() {
    check(
        "room 0 | publish a by gw-1 1 | bind gw-1 1 +1 | tap 3 | room 1 | publish a by gw-1 2 | bind gw-1 1 +1",
        expect![[r#"
            -> TOO_MANY_TOPICS
            bound TOO_MANY_TOPICS
            tap 3 ended
            -> e1@1
            bound OK e1@1 head 1
        "#]],
    );
}

#[test]
fn a_tap_shows_what_is_published_while_it_is_there() {
    let limits = Limits {
        taps_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "tap 1 | publish a | tap 2 | tap 3 | untap 1 | publish b | other ts-2 2 | publish c",
        expect![[r#"
            tap 1: @1 e a
            -> e1@1
            tap 3 ended
            tap 2: @2 e b
            -> e1@2
            tap 2 ended
            -> NOT_OWNER ts-2#1 under 2
        "#]],
    );
}

#[test]
fn members_come_in_pages_by_session() {
    check(
        "bind gw-1 1 +4 +1 | bind gw-2 1 +2 +3 | members 0 3 | members 3 3",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            members 1@gw-1 2@gw-2 3@gw-2 ...
            members 4@gw-1
        "#]],
    );
}

#[test]
fn an_older_record_than_the_last_is_ignored() {
    let mut desk = Desk::new(Limits::default());
    desk.step("own 5");
    desk.revision = 0;
    desk.step("other ts-2 1");
    desk.step("publish a");
    expect![[r#"
        -> e1@1
    "#]]
    .assert_eq(&desk.out);
}
