//! What is owed to a client, and what is said to it.

use super::*;
use crate::bench::wire::Plan;

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
