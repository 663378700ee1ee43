//! A client that remembers its position as X4 says, and minds whatever it is not told.

use serde_json::Value;

use crate::owner::payload;

#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The epoch's number, and the offset.
    pub(crate) position: Option<(u64, u64)>,
    pub(crate) joined: bool,
    /// What it asked for while it is joining.
    pub(crate) asked: Option<(u64, u64)>,
    pub(crate) recovered: usize,
    /// Publications it was told it would not get.
    pub(crate) missed: u64,
    /// Of its present join.
    pub(crate) reference: u64,
    /// It left the channel, and listens no more.
    pub(crate) left: bool,
}

fn epoch_number(value: &Value) -> u64 {
    let name = value.as_str().expect("an epoch is a string");
    name.strip_prefix("epoch")
        .and_then(|number| number.parse().ok())
        .expect("an epoch of the owner's")
}

impl Client {
    pub(crate) fn take(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("frames are JSON");
        if self.left || frame[0] != self.reference.to_string().as_str() {
            return;
        }
        let (reference, event, body) = (&frame[1], frame[3].as_str().expect("an event"), &frame[4]);
        match event {
            "phx_reply" => {
                assert_eq!(body["status"], "ok", "{text}");
                assert!(!self.joined, "a second reply: {text}");
                let response = &body["response"];
                let position = (
                    epoch_number(&response["epoch"]),
                    response["offset"].as_u64().expect("an offset"),
                );
                if response["recovered"] == true {
                    assert_eq!(Some(position), self.asked, "it goes on where it was: {text}");
                    self.recovered += 1;
                }
                (self.position, self.joined) = (Some(position), true);
            }
            "gap" => {
                let (epoch, offset) = self.position.expect("a gap comes after the reply");
                let to = (
                    epoch_number(&body["epoch"]),
                    body["to"].as_u64().expect("an offset"),
                );
                let from = body["from"].as_u64().expect("an offset");
                if to.0 == epoch {
                    assert_eq!(from, offset + 1, "it goes on from {offset}: {text}");
                    assert!(to.1 >= from, "{text}");
                } else {
                    assert!(to.0 > epoch && from == 1, "{text} after {:?}", self.position);
                    assert_eq!(body["reason"], "epoch_changed");
                }
                self.missed += to.1 - if to.0 == epoch { offset } else { 0 };
                self.position = Some(to);
            }
            "event" => {
                let (epoch, offset) = self.position.expect("what is published comes after the reply");
                let at: u64 = reference
                    .as_str()
                    .and_then(|at| at.strip_prefix('@'))
                    .and_then(|at| at.parse().ok())
                    .expect("an offset in the place of the ref");
                assert_eq!(at, offset + 1, "after {offset} of epoch {epoch}: {text}");
                assert_eq!(
                    body.to_string(),
                    payload(epoch, at),
                    "another publication under this offset"
                );
                self.position = Some((epoch, at));
            }
            other => panic!("unexpected {other}: {text}"),
        }
    }
}
