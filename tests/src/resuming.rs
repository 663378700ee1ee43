//! Clients that keep their position: they say where they were when they join again, and write down what they were told.
//!
//! A [`Crew`] of them joins topics with `resume`, publishes with ids of its own, comes back through another gateway when
//! it loses one, and sends again, under the same id, what was not answered. At the end its [`Story`] is
//! [judged](Story::judge): what was acknowledged, against what every subscriber holds.
//! *Invariant:* a publication that a subscriber does not hold was announced to it by a gap or by `recovered: false`, or
//! the [`Verdict`] names it.
//! Leaves out: what is done to the cluster meanwhile (`scenario`), and clients that did not ask for positions (`load`).

mod backoff;
mod channel;
mod crew;
mod judge;
#[cfg(test)]
mod judge_tests;
mod pacer;
mod socket;
mod story;
mod verdict;
mod waits;

pub use self::crew::{Crew, Shape, number, topic};
pub use self::story::{Answer, Asked, Position, Publish, Seen, Story, SubscriberNumber, Trail};
pub use self::verdict::{Missed, Verdict};
pub use self::waits::Waits;
