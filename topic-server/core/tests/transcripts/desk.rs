//! The words of a script, and how what comes out is written down.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::{
    Epoch, Incarnation, Millis, NodeId, NodeRef, Offset, OwnerEpoch, SessionId, Slot as Number, Topic, v1,
};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{
    Bind, Cursor, Effect, Input, Limits, Moment, Publishes, Shed, Slot, TapId, Token,
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

pub(crate) struct Desk {
    slot: Slot,
    me: NodeRef,
    now: Millis,
    lease_valid: bool,
    topics_free: usize,
    asked: u64,
    pub(crate) revision: u64,
    names: Names,
    pub(crate) out: String,
}

impl Desk {
    pub(crate) fn new(limits: Limits) -> Desk {
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

    pub(crate) fn step(&mut self, step: &str) {
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
            // shed idle|older|ids SECONDS: the node's memory is full.
            "shed" => {
                let age = Duration::from_secs(number(words[1]));
                Input::Shed(match words[0] {
                    "idle" => Shed::Idle(age),
                    "older" => Shed::Older(age),
                    _ => Shed::Ids(age),
                })
            }
            // bind GATEWAY seq[<prev][@OFFSET|@?] +SESSION[:SUBJECT] -SESSION ...: `@?` is a cursor of an unknown epoch.
            "bind" => self.bind(node(words[0]), words[1], &words[2..]),
            // publish PAYLOAD ... [by GATEWAY NUMBER] [knowing OWNER_EPOCH] [id [SUBJECT/]ID] [to all|others|one|NAME,...]
            // [from SESSION] [ephemeral] [binary]
            "publish" => self.publish(words),
            // fetch OFFSET [knowing OWNER_EPOCH]: what follows it; `?` is a cursor of an unknown epoch.
            "fetch" => self.fetch(words),
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
            // no-interest GATEWAY BIND_SEQ OFFSET: it had nobody for what followed the offset, as of that bind.
            "no-interest" => Input::NoInterest {
                gateway: node(words[0]),
                topic: topic(),
                bind_seq: number(words[1]),
                from: Cursor {
                    epoch: self.epoch(),
                    offset: Offset(number(words[2])),
                },
            },
            // stale GATEWAY OFFSET OWNER_EPOCH: it refused what followed the offset, for it has seen the owner_epoch.
            "stale" => {
                let from = Cursor {
                    epoch: self.epoch(),
                    offset: Offset(number(words[1])),
                };
                Input::Stale {
                    gateway: node(words[0]),
                    topic: topic(),
                    from,
                    owner_epoch: OwnerEpoch(number(words[2])),
                }
            }
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
        let parts = |word: &&&str| {
            word[1..]
                .split_once(':')
                .map_or((word[1..].to_owned(), "".to_owned()), |(session, subject)| {
                    (session.to_owned(), subject.to_owned())
                })
        };
        let session = |word: &&&str| parts(word).0.parse::<u64>().unwrap();
        let bind = v1::Bind {
            slot: 7,
            owner_epoch: 0,
            topic: Bytes::from_static(b"t"),
            seq: seq.parse().unwrap(),
            prev_seq: prev_seq.parse().unwrap(),
            joined: (members.iter().filter(|word| word.starts_with('+')))
                .map(|word| v1::Member {
                    session: session(&word),
                    subject: bytes(&parts(&word).1),
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

    fn fetch(&mut self, words: &[&str]) -> Input {
        let unknown = words[0] == "?";
        let after = Cursor {
            epoch: if unknown {
                Epoch::parse(b"unknown").unwrap()
            } else {
                self.epoch()
            },
            offset: Offset(if unknown { 1 } else { words[0].parse().unwrap() }),
        };
        self.asked += 1;
        Input::Fetch {
            token: Token(self.asked),
            from: node("gw-9"),
            owner_epoch: OwnerEpoch(words.get(2).map_or(0, |word| word.parse().unwrap())),
            topic: topic(),
            after,
        }
    }

    fn publish(&mut self, words: &[&str]) -> Input {
        const KEYWORDS: [&str; 7] = ["by", "knowing", "id", "to", "from", "ephemeral", "binary"];
        let at = |keyword: &str| words.iter().position(|word| *word == keyword);
        let after = |keyword, distance| at(keyword).map(|at| words[at + distance]);
        let payloads = words.iter().take_while(|word| !KEYWORDS.contains(*word));
        let from = node(after("by", 1).unwrap_or("gw-9"));
        let first: u64 = after("by", 2).map_or(0, |number| number.parse().unwrap());
        let (subject, msg_id) = after("id", 1).map_or(("", ""), |id| id.split_once('/').unwrap_or(("", id)));
        let to = after("to", 1).unwrap_or("all");
        let (target, names) = match to {
            "all" => (v1::Target::All, Vec::new()),
            "others" => (v1::Target::Others, Vec::new()),
            "one" => (v1::Target::One, Vec::new()),
            names => (v1::Target::Members, names.split(',').map(bytes).collect()),
        };
        let publish = |(index, payload): (usize, &&str)| v1::Publish {
            number: if first == 0 { 0 } else { first + index as u64 },
            topic: Bytes::from_static(b"t"),
            event: Bytes::from_static(b"e"),
            payload: bytes(payload),
            session: after("from", 1).map_or(5, |session| session.parse().unwrap()),
            target: target.into(),
            names: names.clone(),
            msg_id: bytes(msg_id),
            subject: bytes(subject),
            ephemeral: at("ephemeral").is_some(),
            binary: at("binary").is_some(),
            topic_id: 0,
        };
        let owner_epoch = OwnerEpoch(after("knowing", 1).map_or(0, |epoch| epoch.parse().unwrap()));
        let publishes = payloads.enumerate().map(publish).collect();
        self.asked += 1;
        Input::Publish(Publishes {
            token: Token(self.asked),
            from,
            owner_epoch,
            publishes,
            held_ms: 0,
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
                Effect::Fetched(_, outcome) => self.fetched(&outcome),
                Effect::Deliver(gateway, entry) => format!("{} <- {}", gateway.node, self.entry(&entry)),
                Effect::Tapped(TapId(tap), event) => {
                    let payload = String::from_utf8_lossy(&event.payload);
                    format!("tap {tap}: @{} {} {payload}", event.offset, event.event)
                }
                Effect::TapEnded(TapId(tap)) => format!("tap {tap} ended"),
                Effect::Shown(_, reply) => match reply.topic {
                    Some(topic) => format!(
                        "shown: @{} members {} history {} ids {}",
                        topic.offset, topic.members, topic.history_len, topic.ids
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
                Effect::PullAnswered(..) | Effect::Pull(..) | Effect::Swap(_) | Effect::Moved(_) => {
                    panic!("moves have tests of their own: {effect:?}")
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
                Some(Outcome::Unsequenced(unsequenced)) => {
                    let name = self.names.name(&unsequenced.epoch);
                    write!(line, " {name} matched {}", unsequenced.matched).unwrap();
                }
                None => panic!("an outcome without one"),
            }
            if outcome.dup {
                line.push_str(" dup");
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

    fn fetched(&mut self, outcome: &v1::FetchOutcome) -> String {
        let status = outcome.status().as_str_name().trim_start_matches("FETCH_STATUS_");
        let mut line = format!("fetched {status}");
        match &outcome.head {
            Some(head) => {
                let name = self.names.name(&head.epoch);
                write!(line, " head {name}@{}:", head.offset).unwrap();
            }
            None if outcome.status() == v1::FetchStatus::Ok => line.push_str(" no topic"),
            None => {}
        }
        for one in &outcome.publications {
            write!(line, " @{} {}", one.offset, String::from_utf8_lossy(&one.payload)).unwrap();
        }
        if let Some(owner) = &outcome.owner {
            write!(line, " {}#{}", owner.node, owner.incarnation).unwrap();
        }
        line
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
            let binary = if publication.binary { " (binary)" } else { "" };
            format!(
                "@{} {}{binary}",
                publication.offset,
                String::from_utf8_lossy(&publication.payload)
            )
        };
        parts.extend(entry.publications.iter().map(publication));
        for unsequenced in &entry.unsequenced {
            let one = unsequenced.publication.as_ref().unwrap();
            assert!(one.offset == 0 && entry.publications.is_empty() && entry.gap.is_none());
            let mut part = format!("once {}", String::from_utf8_lossy(&one.payload));
            if !unsequenced.to.is_empty() {
                write!(part, " to {:?}", unsequenced.to).unwrap();
            }
            parts.push(part);
        }
        format!("after {}: {}", entry.prev_offset, parts.join(", "))
    }
}

fn bytes(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

fn topic() -> Topic {
    Topic::parse(b"t").unwrap()
}
