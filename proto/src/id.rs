//! Names and numbers that cannot be confused with each other.

use std::borrow::Borrow;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A topic is 1 to 255 bytes.
    #[error("topic of {0} bytes, must be 1 to 255")]
    TopicLength(usize),
    /// A topic is UTF-8.
    #[error("topic is not UTF-8")]
    TopicUtf8,
    /// A node id is 1 to 63 bytes of letters, digits, `-`, `_` and `.`.
    #[error("node id {0:?}, must be 1 to 63 characters of a-z, A-Z, 0-9, '-', '_', '.'")]
    NodeId(String),
    /// An epoch is 1 to 64 bytes of letters, digits, `-` and `_`.
    #[error("epoch {0:?}, must be 1 to 64 characters of a-z, A-Z, 0-9, '-', '_'")]
    Epoch(String),
}

/// A topic's name: 1 to 255 bytes of UTF-8, compared as bytes, never normalised. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// How many bytes a name has.
    pub const BYTES: RangeInclusive<usize> = 1..=255;

    /// Checks the bounds and copies the name out of whatever buffer it came in.
    ///
    /// # Errors
    /// [`Error::TopicLength`] or [`Error::TopicUtf8`].
    pub fn parse(bytes: &[u8]) -> Result<Topic, Error> {
        if !Topic::BYTES.contains(&bytes.len()) {
            return Err(Error::TopicLength(bytes.len()));
        }
        let name = std::str::from_utf8(bytes).map_err(|_| Error::TopicUtf8)?;
        Ok(Topic(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's bytes, as they are hashed and sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's id: 1 to 63 of `[A-Za-z0-9._-]`, unique in the cluster while its lease lives. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Checks the alphabet and the length.
    ///
    /// # Errors
    /// [`Error::NodeId`].
    pub fn parse(id: &str) -> Result<NodeId, Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > 63 || !id.bytes().all(legal) {
            return Err(Error::NodeId(id.chars().take(80).collect()));
        }
        Ok(NodeId(Arc::from(id)))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for NodeId {
    type Err = Error;

    fn from_str(id: &str) -> Result<NodeId, Error> {
        NodeId::parse(id)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        let id = String::deserialize(deserializer)?;
        NodeId::parse(&id).map_err(serde::de::Error::custom)
    }
}

/// Identity of a topic's offset sequence, shown to clients: 1 to 64 of `[A-Za-z0-9_-]`, only ever compared for
/// equality. Not to be confused with [`OwnerEpoch`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(bytes::Bytes);

impl Epoch {
    /// Checks the alphabet and the length, and copies: an epoch outlives the message that brought it.
    ///
    /// # Errors
    /// [`Error::Epoch`].
    pub fn parse(epoch: &[u8]) -> Result<Epoch, Error> {
        Epoch::check(epoch).map(|()| Epoch(bytes::Bytes::copy_from_slice(epoch)))
    }

    /// The same without a copy, where it does not outlive the message for long.
    ///
    /// # Errors
    /// [`Error::Epoch`].
    pub fn share(epoch: &bytes::Bytes) -> Result<Epoch, Error> {
        Epoch::check(epoch).map(|()| Epoch(epoch.clone()))
    }

    fn check(epoch: &[u8]) -> Result<(), Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if epoch.is_empty() || epoch.len() > 64 || !epoch.iter().copied().all(legal) {
            return Err(Error::Epoch(
                String::from_utf8_lossy(&epoch[..epoch.len().min(80)]).into_owned(),
            ));
        }
        Ok(())
    }

    /// As it goes into a message; shares the bytes.
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        self.0.clone()
    }

    /// As it is compared.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an epoch is ASCII, parse checked it")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A slot: the unit of ownership. Below the birth record's `slots`, at most 65,535.
    Slot(u16)
}
number! {
    /// Fencing token of a slot: +1 at every change of owner, never shown to clients. 0 is before the first owner.
    OwnerEpoch(u64)
}
number! {
    /// A publication's place in its topic's epoch: 1, 2, 3, ...; 0 is before the first.
    Offset(u64)
}
number! {
    /// One life of a node: the store revision at which it registered.
    Incarnation(u64)
}
number! {
    /// One client connection, unique in the cluster: its gateway's incarnation `<< 32 |` a counter. Never 0.
    SessionId(u64)
}

impl OwnerEpoch {
    /// The next owner's.
    #[must_use]
    pub fn next(self) -> OwnerEpoch {
        OwnerEpoch(self.0.saturating_add(1))
    }
}

impl Offset {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }
}

/// A node in one of its lives. A restarted process is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeRef {
    /// Which node.
    pub node: NodeId,
    /// Which of its lives.
    #[serde(rename = "inc")]
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}
