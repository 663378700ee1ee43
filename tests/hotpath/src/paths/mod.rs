//! The hot paths: what happens to every publish and every delivery, in the order in which it happens to one.
//!
//! *Invariant:* a path is the same every time: its inputs are made of constants, its time is an argument, and whatever it
//! does is checked as it goes, so that none can become cheap by doing nothing.
//! Leaves out: the shells, whose cost is the kernel's and the runtime's (`ringcast bench`).

mod decode;
mod deliver;
mod joined;
mod lane;
mod outbox;
mod publish;
mod route;
mod slot;

use crate::meter::Meter;

/// One hot path.
#[derive(Debug)]
pub struct Path {
    /// As in `counts.json`.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Operations before the counted ones.
    warm_up: u32,
    /// Counted operations.
    pub operations: u32,
    /// Frames that one operation hands to somebody; 0 where it does something else.
    pub deliveries: u32,
    run: fn(&mut Meter),
}

/// All of them.
pub const PATHS: &[Path] = &[
    path(
        "decode/websocket",
        "a frame of a client: header, mask, UTF-8",
        decode::websocket,
    ),
    path(
        "decode/phoenix",
        "a publish in Phoenix V2 out of that frame",
        decode::phoenix,
    ),
    path("route/100", "topic to slot to owner, 100 topics", route::owners).with(10, 100),
    path(
        "publish/take",
        "a publish taken from a session, numbered, and on its lane",
        publish::take,
    ),
    path("publish/answer", "its answer, made the reply", publish::answer),
    path(
        "slot/publish-1",
        "1 publish appended by the owner",
        slot::publish_one,
    )
    .with(400, 200),
    path(
        "slot/publish-100",
        "100 publishes of one topic appended by the owner",
        slot::publish_hundred,
    )
    .with(40, 20),
    path(
        "slot/flush-1",
        "1 publication handed to 1 gateway",
        slot::flush_one,
    )
    .with(400, 200),
    path(
        "slot/flush-16",
        "1 publication handed to 16 gateways",
        slot::flush_sixteen,
    )
    .with(400, 50),
    path(
        "slot/flush-100x16",
        "100 publications of one topic handed to 16 gateways",
        slot::flush_many,
    )
    .with(40, 20),
    path(
        "lane/topics-64",
        "64 topics on a lane, called and answered",
        lane::topics,
    )
    .with(10, 50),
    path(
        "lane/one-topic-16",
        "16 entries of one topic, made one, called and answered",
        lane::one_topic,
    )
    .with(10, 50),
    path("deliver/1000", "1 publication to 1,000 members", deliver::members)
        .with(2, 10)
        .delivers(1_000),
    path(
        "deliver/join-refs",
        "the same in `topics:*`, with 10 join_refs among the members",
        deliver::join_refs,
    )
    .with(2, 10)
    .delivers(1_000),
    path(
        "deliver/resuming",
        "the same to members with positions",
        deliver::resuming,
    )
    .with(2, 10)
    .delivers(1_000),
    path(
        "deliver/16x100",
        "16 publications in one entry to 100 members",
        deliver::batch,
    )
    .with(2, 10)
    .delivers(1_600),
    path(
        "deliver/topics-100x5",
        "1 publication each of 100 topics to their 5 members",
        deliver::topics,
    )
    .with(2, 10)
    .delivers(500),
    path(
        "outbox/burst-8",
        "8 frames into an outbox and out in one write",
        outbox::burst,
    )
    .delivers(8),
];

const fn path(name: &'static str, what: &'static str, run: fn(&mut Meter)) -> Path {
    Path {
        name,
        what,
        warm_up: 100,
        operations: 200,
        deliveries: 0,
        run,
    }
}

impl Path {
    const fn with(self, warm_up: u32, operations: u32) -> Path {
        Path {
            warm_up,
            operations,
            ..self
        }
    }

    const fn delivers(self, deliveries: u32) -> Path {
        Path { deliveries, ..self }
    }

    /// The path of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Path> {
        PATHS.iter().find(|path| path.name == name)
    }

    /// Runs it, counted if callgrind looks on. `planted`: with an allocation more for each delivery.
    pub fn run(&self, planted: bool) {
        let planted = if planted { self.deliveries } else { 0 };
        self.run_with(Meter::new(self.warm_up, self.operations).plant(planted));
    }

    fn run_with(&self, mut meter: Meter) {
        (self.run)(&mut meter);
        assert!(meter.is_complete(), "{} did not measure every round", self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_does_what_it_says_in_every_round() {
        for path in PATHS {
            path.run_with(Meter::new(2, 3).plant(1));
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = PATHS.iter().map(|path| path.name).collect();
        assert_eq!(names.len(), PATHS.len());
        assert!(names.iter().all(|name| Path::find(name).is_some()));
        assert!(Path::find("deliver").is_none());
    }
}
