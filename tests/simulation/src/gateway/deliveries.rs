//! Deliver calls as they come: in the order of their stream, answered together where they may be. Mirrors the handling end of
//! `proto/src/deliveries.rs`, and `gateway/src/rpc.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_gateway_core::gateway::{CallId, Input};
use ringcast_proto::v1;

use super::{Gateway, HANDLING};
use crate::env::Env;
use crate::wire::{Answer, CallNumber, Event, Life, Place, Request, StreamNumber, Timer};

const ANSWER_WAITS_MAX: Duration = Duration::from_millis(200);

/// The calls of one topic server.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: StreamNumber,
    /// Calls that were handled.
    handled: u64,
    /// Calls that came before those they follow.
    early: BTreeMap<u64, (CallNumber, v1::DeliverCall)>,
    /// What has been handled and not been answered, and what the last call of it would be answered.
    owed: Option<(CallNumber, v1::DeliverAnswer)>,
}

/// A call that the core is to answer.
#[derive(Debug)]
pub(super) struct Handled {
    from: Life,
    call: CallNumber,
    may_wait: bool,
    /// None for a call that comes again, of which nobody waits for the answer.
    stream: Option<StreamNumber>,
}

impl Gateway {
    /// A call arrives.
    pub(super) fn deliver_call(
        &mut self,
        env: &mut Env,
        from: Life,
        place: Place,
        call: CallNumber,
        deliver: v1::DeliverCall,
    ) {
        let incoming = self
            .incoming
            .entry(from)
            .or_insert_with(|| Incoming::new(place.stream));
        if incoming.stream < place.stream {
            *incoming = Incoming::new(place.stream);
        }
        // What was on its way when a stream broke is never handled without what was before it.
        if place.stream < incoming.stream {
            return;
        }
        if place.index < incoming.handled {
            return self.handle(env, from, None, call, deliver);
        }
        if incoming.handled < place.index {
            incoming.early.insert(place.index, (call, deliver));
            return;
        }
        incoming.handled += 1;
        // An event of its own, as every call that is handled.
        if let Some((call, deliver)) = incoming.early.remove(&incoming.handled) {
            let place = Place {
                index: incoming.handled,
                ..place
            };
            let request = Box::new(Request::Deliver(place, deliver));
            env.at(env.now, Event::Request(from, self.base.life.peer, call, request));
        }
        self.handle(env, from, Some(place.stream), call, deliver);
    }

    fn handle(
        &mut self,
        env: &mut Env,
        from: Life,
        stream: Option<StreamNumber>,
        call: CallNumber,
        deliver: v1::DeliverCall,
    ) {
        let peer = self.base.life.peer;
        if let Err(why) = self.check(deliver.header.as_ref()) {
            return env.answer(peer, from, call, Answer::Refused(why), HANDLING);
        }
        self.last_call += 1;
        let number = CallId(self.last_call);
        let handled = Handled {
            from,
            call,
            may_wait: deliver.may_wait,
            stream,
        };
        self.delivering.insert(number, handled);
        env.check.arrives(peer, &deliver.entries);
        self.seen.deliver(deliver.entries.clone());
        self.take(env, Input::Deliver(number, deliver.entries));
    }

    /// The core has handled one.
    pub(super) fn delivered(&mut self, env: &mut Env, number: CallId, mut answer: v1::DeliverAnswer) {
        self.seen.delivered(env.now, &answer, &mut env.check);
        answer.incarnation = self.base.node().incarnation.0;
        let Some(handled) = self.delivering.remove(&number) else {
            return;
        };
        let incoming = self.incoming.get_mut(&handled.from);
        let Some(incoming) = incoming.filter(|incoming| Some(incoming.stream) == handled.stream) else {
            return;
        };
        let before = incoming.owed.take();
        answer.calls = 1 + before.as_ref().map_or(0, |(_, answer)| answer.calls);
        if handled.may_wait && answer.exceptions.is_empty() {
            if before.is_none() {
                let timer = Timer::Owed(handled.from, incoming.stream);
                env.timer(self.base.life, self.base.clock, ANSWER_WAITS_MAX, timer);
            }
            incoming.owed = Some((handled.call, answer));
            return;
        }
        let peer = self.base.life.peer;
        env.answer(
            peer,
            handled.from,
            handled.call,
            Answer::Delivered(answer),
            HANDLING,
        );
    }

    /// Answers have been kept back for long enough.
    pub(super) fn answer_owed(&mut self, env: &mut Env, from: Life, stream: StreamNumber) {
        let incoming = self.incoming.get_mut(&from);
        let incoming = incoming.filter(|incoming| incoming.stream == stream);
        if let Some((call, answer)) = incoming.and_then(|incoming| incoming.owed.take()) {
            let peer = self.base.life.peer;
            env.answer(peer, from, call, Answer::Delivered(answer), HANDLING);
        }
    }
}

impl Incoming {
    fn new(stream: StreamNumber) -> Incoming {
        Incoming {
            stream,
            handled: 0,
            early: BTreeMap::new(),
            owed: None,
        }
    }
}
