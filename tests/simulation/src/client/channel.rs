//! One join of one client, and what it has received of it.

use crate::check::{self, PubId, View};
use crate::time::Time;

/// See the module.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) join_ref: u64,
    /// Since when it is joined; none while it is joining.
    pub(super) joined: Option<Time>,
    /// A newer join that is not answered.
    pub(super) rejoining: Option<u64>,
    pub(super) place: Place,
}

/// How far a channel is.
#[derive(Debug)]
pub(crate) enum Place {
    /// A stock channel: the last one received, which only the simulation knows.
    Last(Option<check::Place>),
    /// It has a position.
    At(View),
}

impl Channel {
    pub(super) fn joining(reference: u64) -> Channel {
        Channel {
            join_ref: reference,
            joined: None,
            rejoining: None,
            place: Place::Last(None),
        }
    }
}

/// What a join asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// What stock Phoenix asks for.
    Nothing,
    /// Positions from now on.
    Now,
    /// What follows a position.
    After {
        view: View,
        /// It has been there.
        genuine: bool,
    },
}

impl Asked {
    /// The payload of the join.
    pub(super) fn payload(&self) -> String {
        match self {
            Asked::Nothing => "{}".to_owned(),
            Asked::Now => "{\"resume\":true}".to_owned(),
            Asked::After { view, .. } => {
                let (epoch, offset) = (String::from_utf8_lossy(&view.epoch), view.offset);
                format!("{{\"resume\":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}}}")
            }
        }
    }
}

/// What a reply is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    Join(usize, Asked),
    Leave(usize),
    Publish(usize, PubId),
}
