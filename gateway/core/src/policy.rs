//! Who may do what. Authentication fills the subject; a policy judges it.

use ringcast_proto::Topic;

/// Asked before every join and publish of a client. It decides at once, from what it holds in memory.
pub trait Policy: Send {
    /// May `subject` (empty: anonymous) join `topic`?
    fn may_join(&self, subject: &[u8], topic: &Topic) -> bool;
    /// May `subject` publish to `topic`, which it has joined?
    fn may_publish(&self, subject: &[u8], topic: &Topic) -> bool;
}

/// Lets everybody do everything: what a gateway without authentication does.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn may_join(&self, _subject: &[u8], _topic: &Topic) -> bool {
        true
    }

    fn may_publish(&self, _subject: &[u8], _topic: &Topic) -> bool {
        true
    }
}
