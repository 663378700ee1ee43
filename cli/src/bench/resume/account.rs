//! What one client that resumes is owed, and what it got or was told.
//!
//! A topic has one publisher, so its publications are 1, 2, 3, ..., and lie as far apart as their offsets do.
//! *Invariant:* what is neither received nor told to be missed is lost.
//! Leaves out: sockets and clocks.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::wire::Expected;

/// A place in a topic's sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// Of all clients together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    /// By a gap, or because the join did not recover.
    pub(crate) told_missed: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) misrouted: u64,
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    pub(crate) gaps: u64,
}

/// What one frame was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The join was answered with ok.
    Joined,
    /// It was refused, and why.
    Refused(String),
    /// The channel ended.
    Ended(&'static str),
    /// Something else.
    Other,
}

/// One client's.
#[derive(Debug)]
pub(crate) struct Account {
    position: Option<Position>,
    /// By number, from 1 on.
    received: Vec<bool>,
    received_count: u64,
    highest: u64,
    /// An offset and the number of the publication there, in the epoch in which all began.
    anchor: Option<(u64, u64)>,
    /// Offsets that it was told it will not get, both ends included.
    told: Vec<(u64, u64)>,
    sums: Sums,
}

#[derive(Deserialize)]
struct Answer<'a> {
    status: &'a str,
    #[serde(borrow)]
    response: &'a RawValue,
}

#[derive(Deserialize)]
struct Start {
    epoch: String,
    offset: u64,
    recovered: bool,
}

#[derive(Deserialize)]
struct Gap {
    epoch: String,
    from: u64,
    to: u64,
}

impl Account {
    /// Of so many publications.
    pub(crate) fn new(count: u64) -> Account {
        Account {
            position: None,
            received: vec![false; count as usize],
            received_count: 0,
            highest: 0,
            anchor: None,
            told: Vec::new(),
            sums: Sums::default(),
        }
    }

    /// Whether no join was answered with a place.
    pub(crate) fn has_no_position(&self) -> bool {
        self.position.is_none()
    }

    /// What its next join asks for.
    pub(crate) fn join(&self, topic: &str) -> String {
        match &self.position {
            None => format!(r#"["1","1","{topic}","phx_join",{{"resume":true}}]"#),
            Some(Position { epoch, offset }) => {
                format!(
                    r#"["1","1","{topic}","phx_join",{{"resume":{{"epoch":"{epoch}","offset":{offset}}}}}]"#
                )
            }
        }
    }

    /// Takes a frame.
    pub(crate) fn take(&mut self, frame: &[u8], topic: &str, expected: &Expected) -> Event {
        if let Some((offset, number)) = expected.read_placed(frame) {
            self.receive(offset, number);
            return Event::Other;
        }
        type Parts<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);
        let Ok((_, reference, name, event, payload)) = serde_json::from_slice::<Parts<'_>>(frame) else {
            self.sums.misrouted += 1;
            return Event::Other;
        };
        match (name == topic, event) {
            (true, "phx_reply") if reference == Some("1") => self.answer(payload),
            (true, "gap") => {
                self.gap(payload);
                Event::Other
            }
            (true, "phx_error") => Event::Ended("phx_error"),
            (true, "phx_close") => Event::Ended("phx_close"),
            _ => {
                self.sums.misrouted += 1;
                Event::Other
            }
        }
    }

    fn answer(&mut self, payload: &RawValue) -> Event {
        let Ok(answer) = serde_json::from_str::<Answer<'_>>(payload.get()) else {
            return Event::Refused(payload.get().to_owned());
        };
        let Some(start) = (answer.status == "ok")
            .then(|| serde_json::from_str::<Start>(answer.response.get()).ok())
            .flatten()
        else {
            return match answer.status {
                "ok" => Event::Joined, // without a place: it keeps no positions
                _ => Event::Refused(answer.response.get().to_owned()),
            };
        };
        if let Some(position) = &self.position {
            if start.recovered {
                self.sums.recovered += 1;
                return Event::Joined;
            }
            self.sums.not_recovered += 1;
            let to = match start.epoch == position.epoch {
                true => start.offset,
                false => u64::MAX, // of the old one nothing more comes
            };
            self.told.push((position.offset.saturating_add(1), to));
        }
        self.position = Some(Position {
            epoch: start.epoch,
            offset: start.offset,
        });
        Event::Joined
    }

    fn gap(&mut self, payload: &RawValue) {
        let (Ok(gap), Some(position)) = (serde_json::from_str::<Gap>(payload.get()), &mut self.position)
        else {
            self.sums.misrouted += 1;
            return;
        };
        self.sums.gaps += 1;
        if gap.epoch != position.epoch {
            self.told.push((position.offset.saturating_add(1), u64::MAX));
            position.epoch = gap.epoch;
            position.offset = gap.to;
        } else {
            self.told.push((gap.from, gap.to));
            position.offset = position.offset.max(gap.to);
        }
    }

    fn receive(&mut self, offset: u64, number: u64) {
        let Some(received) = number
            .checked_sub(1)
            .and_then(|index| self.received.get_mut(usize::try_from(index).ok()?))
        else {
            self.sums.misrouted += 1;
            return;
        };
        if std::mem::replace(received, true) {
            self.sums.doubled += 1;
        } else {
            self.received_count += 1;
            self.sums.reordered += u64::from(number < self.highest);
        }
        self.highest = self.highest.max(number);
        self.anchor.get_or_insert((offset, number));
        if let Some(position) = &mut self.position {
            position.offset = position.offset.max(offset);
        }
    }

    /// Whether all of the first `count` publications came, or were told to be missed.
    pub(crate) fn is_complete(&self, count: u64) -> bool {
        self.received_count >= count
            || (!self.told.is_empty() && (1..=count).all(|number| self.has(number) || self.is_told(number)))
    }

    fn has(&self, number: u64) -> bool {
        let index = usize::try_from(number - 1).ok();
        index
            .and_then(|index| self.received.get(index))
            .is_some_and(|received| *received)
    }

    fn is_told(&self, number: u64) -> bool {
        let Some((offset, anchored)) = self.anchor else {
            return false;
        };
        let Some(offset) = (offset + number).checked_sub(anchored) else {
            return false;
        };
        self.told.iter().any(|&(from, to)| (from..=to).contains(&offset))
    }

    /// Adds what it was owed after publication `first`, and what became of that.
    pub(crate) fn add_to(&self, sums: &mut Sums, first: u64, last: u64) {
        for number in first + 1..=last {
            sums.owed += 1;
            match (self.has(number), self.is_told(number)) {
                (true, _) => sums.delivered += 1,
                (false, true) => sums.told_missed += 1,
                (false, false) => sums.lost += 1,
            }
        }
        sums.doubled += self.sums.doubled;
        sums.reordered += self.sums.reordered;
        sums.misrouted += self.sums.misrouted;
        sums.recovered += self.sums.recovered;
        sums.not_recovered += self.sums.not_recovered;
        sums.gaps += self.sums.gaps;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::Plan;
    use super::*;

    /// A client of one topic, to which things are said.
    struct Told {
        plan: Plan,
        account: Account,
    }

    impl Told {
        /// It was in, got number 1 at offset 5, and five more were published while it was away.
        fn away() -> Told {
            let plan = Plan {
                run: 7,
                prefix: "room:bench".to_owned(),
                payload_bytes: 64,
            };
            let mut told = Told {
                plan,
                account: Account::new(6),
            };
            assert_eq!(told.say(&told.reply("e", 4, false)), Event::Joined);
            told.event(5, 1);
            assert!(told.account.is_complete(1) && !told.account.is_complete(2));
            told
        }

        fn say(&mut self, frame: &[u8]) -> Event {
            let (topic, expected) = (self.plan.topic(0), self.plan.expected(0));
            self.account.take(frame, &topic, &expected)
        }

        fn reply(&self, epoch: &str, offset: u64, recovered: bool) -> Vec<u8> {
            let response = format!(r#"{{"epoch":"{epoch}","offset":{offset},"recovered":{recovered}}}"#);
            let topic = self.plan.topic(0);
            format!(r#"["1","1","{topic}","phx_reply",{{"status":"ok","response":{response}}}]"#).into_bytes()
        }

        fn event(&mut self, offset: u64, number: u64) {
            let mut frame = Vec::new();
            self.plan.publish(0, number, 0, &mut frame);
            let placed = String::from_utf8(frame).unwrap();
            let placed = placed.replacen(&format!("\"0:{number}\""), &format!("\"@{offset}\""), 1);
            assert_eq!(self.say(placed.as_bytes()), Event::Other);
        }

        fn gap(&mut self, epoch: &str, from: u64, to: u64) {
            let topic = self.plan.topic(0);
            let gap = format!(
                r#"["1",null,"{topic}","gap",{{"epoch":"{epoch}","from":{from},"to":{to},"reason":"overload"}}]"#
            );
            assert_eq!(self.say(gap.as_bytes()), Event::Other);
        }

        fn sums(&self) -> Sums {
            let mut sums = Sums::default();
            self.account.add_to(&mut sums, 1, 6);
            sums
        }
    }

    const OWED: Sums = Sums {
        owed: 5,
        delivered: 0,
        told_missed: 0,
        lost: 0,
        doubled: 0,
        reordered: 0,
        misrouted: 0,
        recovered: 0,
        not_recovered: 0,
        gaps: 0,
    };

    #[test]
    fn a_client_that_gets_everything_is_complete_and_says_where_it_is() {
        let mut told = Told::away();
        let topic = told.plan.topic(0);
        let asked = told.account.join(&topic);
        assert!(
            asked.ends_with(r#""phx_join",{"resume":{"epoch":"e","offset":5}}]"#),
            "{asked}"
        );
        told.say(&told.reply("e", 5, true));
        for number in 2..=6 {
            assert!(!told.account.is_complete(6));
            told.event(number + 4, number);
        }
        assert!(told.account.is_complete(6));
        let expected = Sums {
            delivered: 5,
            recovered: 1,
            ..OWED
        };
        assert_eq!(told.sums(), expected);
        assert!(told.account.join(&topic).contains(r#""offset":10"#));
    }

    #[test]
    fn what_is_told_is_not_lost_and_what_is_not_is() {
        let mut told = Told::away();
        told.say(&told.reply("e", 5, true));
        told.event(7, 3); // 2 is missing, without a word
        told.gap("e", 8, 9);
        told.event(10, 6);
        assert!(!told.account.is_complete(6));
        let expected = Sums {
            delivered: 2,
            told_missed: 2,
            lost: 1,
            recovered: 1,
            gaps: 1,
            ..OWED
        };
        assert_eq!(told.sums(), expected);
    }

    #[test]
    fn a_join_that_did_not_recover_has_told_all_up_to_where_it_begins() {
        let mut told = Told::away();
        told.say(&told.reply("e", 9, false));
        assert!(!told.account.is_complete(6), "number 6 is behind that");
        told.event(10, 6);
        assert!(told.account.is_complete(6));
        let expected = Sums {
            delivered: 1,
            told_missed: 4,
            not_recovered: 1,
            ..OWED
        };
        assert_eq!(told.sums(), expected);
        let mut other = Told::away();
        other.say(&other.reply("f", 1, false));
        assert!(
            other.account.is_complete(6),
            "of the old epoch nothing more comes"
        );
        let mut third = Told::away();
        third.say(&third.reply("e", 5, true));
        third.gap("f", 0, 0);
        assert!(third.account.is_complete(6) && third.sums().gaps == 1);
    }

    #[test]
    fn what_comes_twice_late_or_from_elsewhere_is_counted() {
        let mut told = Told::away();
        told.say(&told.reply("e", 5, true));
        told.event(7, 3);
        told.event(6, 2);
        told.event(6, 2);
        told.event(99, 99);
        told.say(b"[1");
        told.say(br#"["1","@3","room:other","m",{}]"#);
        let expected = Sums {
            delivered: 2,
            lost: 3,
            doubled: 1,
            reordered: 1,
            misrouted: 3,
            recovered: 1,
            ..OWED
        };
        assert_eq!(told.sums(), expected);
        let topic = told.plan.topic(0);
        let refused =
            format!(r#"["1","1","{topic}","phx_reply",{{"status":"error","response":{{"reason":"x"}}}}]"#);
        assert_eq!(
            told.say(refused.as_bytes()),
            Event::Refused(r#"{"reason":"x"}"#.to_owned())
        );
        let ended = format!(r#"["1","1","{topic}","phx_error",{{}}]"#);
        assert_eq!(told.say(ended.as_bytes()), Event::Ended("phx_error"));
    }
}
