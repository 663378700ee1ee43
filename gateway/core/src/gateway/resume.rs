//! Sessions that come back to where they were (X1, X2).

use ringcast_proto::v1;

use super::{CallFailed, CallId, Effect, Gateway};

impl Gateway {
    pub(super) fn fetched(
        &mut self,
        _call: CallId,
        _answer: Result<v1::FetchAnswer, CallFailed>,
        _effects: &mut Vec<Effect>,
    ) {
    }
}
