//! A topic's owner, as simple as can be: what it appended, what it still has, and one gateway's group.

use bytes::Bytes;
use ringcast_proto::v1;

pub(crate) const TOPIC: &[u8] = b"topics:matrix";

#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) owner_epoch: u64,
    /// The number of the topic's epoch.
    pub(crate) epoch: u64,
    pub(crate) head: u64,
    /// Offsets after this one are still there.
    pub(crate) trimmed_to: u64,
    group: Option<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    seq: u64,
    members: Vec<u64>,
    sent: u64,
    /// Where it began: what came before is not for it.
    began: u64,
    anew: bool,
}

pub(crate) fn epoch_name(epoch: u64) -> String {
    format!("epoch{epoch}")
}

/// What was published under this offset: nothing else ever may be.
pub(crate) fn payload(epoch: u64, offset: u64) -> String {
    format!("{{\"epoch\":{epoch},\"n\":{offset}}}")
}

impl Owner {
    pub(crate) fn new() -> Owner {
        Owner {
            owner_epoch: 1,
            epoch: 1,
            head: 0,
            trimmed_to: 0,
            group: None,
        }
    }

    pub(crate) fn position(&self, offset: u64) -> v1::Position {
        v1::Position {
            epoch: epoch_name(self.epoch).into(),
            offset,
        }
    }

    fn publications(&self, after: u64, to: u64) -> Vec<v1::Publication> {
        let publication = |offset| v1::Publication {
            offset,
            event: Bytes::from_static(b"event"),
            payload: payload(self.epoch, offset).into(),
            ..v1::Publication::default()
        };
        (after + 1..=to).map(publication).collect()
    }

    /// Begins empty, as after the loss of its only copy.
    pub(crate) fn fresh(&mut self) {
        self.owner_epoch += 1;
        self.epoch += 1;
        (self.head, self.trimmed_to, self.group) = (0, 0, None);
    }

    /// Goes elsewhere with all it has.
    pub(crate) fn moved(&mut self) {
        self.owner_epoch += 1;
        let head = self.head;
        if let Some(group) = &mut self.group {
            group.sent = head;
        }
    }

    pub(crate) fn bind(&mut self, bind: &v1::Bind) -> v1::BindOutcome {
        let ok = |owner: &Owner, stands| v1::BindOutcome {
            owner_epoch: owner.owner_epoch,
            cursor: Some(owner.position(stands)),
            head: owner.head,
            ..v1::BindOutcome::default()
        };
        let cursor = bind.cursor.as_ref();
        let same = cursor.is_none_or(|cursor| cursor.epoch == epoch_name(self.epoch).as_bytes());
        let asked = match cursor {
            Some(_) if !same => 0,
            Some(cursor) => cursor.offset.min(self.head),
            None => self.head,
        };
        let held = self.group.as_ref().map(|group| group.seq);
        if held.is_some_and(|held| bind.seq <= held) {
            let sent = self.group.as_ref().map_or(self.head, |group| group.sent);
            return ok(self, asked.min(sent));
        }
        if bind.prev_seq != 0 && held != Some(bind.prev_seq) {
            return v1::BindOutcome {
                status: v1::BindStatus::NeedFull.into(),
                owner_epoch: self.owner_epoch,
                ..v1::BindOutcome::default()
            };
        }
        let before = self.group.take();
        let (mut members, mut sent, mut began) = (Vec::new(), asked, asked);
        if let Some(before) = before.filter(|_| bind.prev_seq != 0) {
            if same {
                sent = sent.min(before.sent);
            }
            began = before.began;
            members = before.members;
            members.retain(|member| !bind.left.contains(member));
        }
        members.extend(bind.joined.iter().map(|member| member.session));
        if !members.is_empty() {
            self.group = Some(Group {
                seq: bind.seq,
                members,
                sent,
                began,
                anew: !same,
            });
        }
        ok(self, asked.min(sent))
    }

    /// The next entry for the gateway, of at most `most` publications.
    pub(crate) fn deliver(&mut self, most: u64) -> Option<v1::DeliverEntry> {
        let (head, first) = (self.head, self.trimmed_to + 1);
        let group = self.group.as_mut().filter(|group| group.sent < head)?;
        let (prev_offset, bind_seq) = (group.sent, group.seq);
        let reason = if group.anew && prev_offset == 0 {
            v1::GapReason::EpochChanged
        } else {
            v1::GapReason::HistoryTrimmed
        };
        let gap = (prev_offset + 1 < first).then(|| v1::Gap {
            from: prev_offset + 1,
            to: first - 1,
            reason: reason.into(),
        });
        let after = prev_offset.max(first - 1);
        let to = head.min(after + most);
        group.sent = to;
        Some(v1::DeliverEntry {
            slot: 0,
            owner_epoch: self.owner_epoch,
            topic: Bytes::from_static(TOPIC),
            epoch: epoch_name(self.epoch).into(),
            prev_offset,
            gap,
            publications: self.publications(after, to),
            bind_seq,
            ..v1::DeliverEntry::default()
        })
    }

    pub(crate) fn forget_group(&mut self) {
        self.group = None;
    }

    pub(crate) fn exception(&mut self, exception: &v1::DeliverException, bind_seq: u64, prev_offset: u64) {
        let group = self.group.as_mut();
        match (exception.status(), group) {
            (v1::DeliverStatus::NeedFrom, Some(group)) => {
                let cursor = exception.cursor.clone().unwrap_or_default();
                let same = cursor.epoch == epoch_name(self.epoch).as_bytes();
                (group.sent, group.anew) = if same { (cursor.offset, false) } else { (0, true) };
            }
            (v1::DeliverStatus::NoInterest, Some(group)) if group.seq <= bind_seq => self.group = None,
            (v1::DeliverStatus::NoInterest, Some(group)) => {
                group.sent = group.sent.min(prev_offset.max(group.began));
            }
            _ => {}
        }
    }

    /// At most `most` of the last, as a join may recover no more than 300.
    pub(crate) fn fetch(&self, fetch: &v1::Fetch, most: u64) -> v1::FetchOutcome {
        let after = fetch.after.clone().unwrap_or_default();
        let same = after.epoch == epoch_name(self.epoch).as_bytes();
        let from = after
            .offset
            .max(self.trimmed_to)
            .max(self.head.saturating_sub(most));
        v1::FetchOutcome {
            owner_epoch: self.owner_epoch,
            head: Some(self.position(self.head)),
            publications: if same {
                self.publications(from, self.head)
            } else {
                Vec::new()
            },
            ..v1::FetchOutcome::default()
        }
    }
}
