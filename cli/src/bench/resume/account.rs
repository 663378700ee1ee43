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
mod tests;
