//! The admin commands. They need only `--store`: the ring comes from the store, topics from the nodes it names.

pub(crate) mod config;
pub(crate) mod conn;
pub(crate) mod health;
pub(crate) mod node;
pub(crate) mod plans;
pub(crate) mod ring;
pub(crate) mod topic;
