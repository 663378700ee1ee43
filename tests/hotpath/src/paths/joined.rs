//! A gateway with clients that have joined.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use ringcast_gateway_core::gateway::{CallId, Config, Effect, Gateway, Input};
use ringcast_gateway_core::limits::Limits;
use ringcast_gateway_core::phoenix::{Serializer, decode_text};
use ringcast_proto::{Millis, SessionId, v1};

use crate::cluster::{OWNER_EPOCH, bytes, table};

/// The epoch of every topic.
pub(super) fn epoch() -> Bytes {
    bytes("0123456789abcdef")
}

/// The time of everything: nothing here is ever due.
pub(super) const NOW: Millis = Millis(1_000);

type Apply = fn(&mut Gateway, Input, Millis, &mut Vec<Effect>);
type Flush = fn(&mut Gateway, Millis, &mut Vec<Effect>);

/// `Gateway::apply` and `Gateway::flush`, as they are compiled in their crate.
pub(super) fn calls() -> (Apply, Flush) {
    black_box((Gateway::apply as Apply, Gateway::flush as Flush))
}

/// The gateway, whose owners have said yes to everybody.
pub(super) struct Joined {
    pub(super) gateway: Gateway,
    effects: Vec<Effect>,
}

/// Who joins.
#[derive(Clone, Copy)]
pub(super) struct Join<'a> {
    pub(super) session: u64,
    pub(super) topic: &'a str,
    /// As text; without the quotes.
    pub(super) join_ref: &'a str,
    pub(super) resume: bool,
}

impl Joined {
    pub(super) fn new() -> Joined {
        let config = Config {
            namespaces: Vec::new(),
            limits: Limits::BENCH,
        };
        let mut joined = Joined {
            gateway: Gateway::new(config, 1),
            effects: Vec::new(),
        };
        joined.apply(Input::Table(Arc::new(table())));
        joined
    }

    /// Applies, and lets the calls leave that it causes.
    pub(super) fn apply(&mut self, input: Input) -> Vec<Effect> {
        self.gateway.apply(input, NOW, &mut self.effects);
        self.gateway.flush(NOW, &mut self.effects);
        std::mem::take(&mut self.effects)
    }

    /// All of them are joined, each on a connection of its own.
    pub(super) fn join<'a>(&mut self, joins: impl Iterator<Item = Join<'a>>) {
        let (mut binds, mut count) = (Vec::new(), 0);
        for Join {
            session,
            topic,
            join_ref,
            resume,
        } in joins
        {
            let id = SessionId(session);
            let open = Input::Open {
                session: id,
                serializer: Serializer::V2,
                subject: Bytes::new(),
            };
            self.apply(open);
            let payload = if resume { r#"{"resume":true}"# } else { "{}" };
            let text = format!(r#"["{join_ref}","{join_ref}","{topic}","phx_join",{payload}]"#);
            let message = decode_text(Serializer::V2, text.into()).expect("a join as clients send it");
            let effects = self.apply(Input::Message { session: id, message });
            binds.extend(effects.into_iter().filter_map(bind));
            count += 1;
        }
        // Binds leave one call at a time to each owner; the answer to one lets the next go.
        while let Some((call, bound)) = binds.pop() {
            let outcomes = bound.iter().map(|_| confirmed()).collect();
            let answer = v1::BindAnswer {
                incarnation: 1,
                outcomes,
            };
            let effects = self.apply(Input::Bound(call, Ok(answer)));
            binds.extend(effects.into_iter().filter_map(bind));
        }
        assert_eq!(self.gateway.joined(), count, "not everybody is joined");
    }
}

fn bind(effect: Effect) -> Option<(CallId, Vec<v1::Bind>)> {
    match effect {
        Effect::Bind(call, _, binds) => Some((call, binds)),
        _ => None,
    }
}

fn confirmed() -> v1::BindOutcome {
    v1::BindOutcome {
        owner_epoch: OWNER_EPOCH.0,
        cursor: Some(v1::Position {
            epoch: epoch(),
            offset: 0,
        }),
        ..v1::BindOutcome::default()
    }
}
