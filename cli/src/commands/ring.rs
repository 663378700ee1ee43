//! `ringcast ring ...`: who owns what, and how that is changed.

mod owner;
mod status;

use clap::Subcommand;
use ringcast_proto::Topic;

use crate::args;

pub(crate) use owner::owner;
pub(crate) use status::status;

#[derive(Debug, Subcommand)]
pub(crate) enum RingCommand {
    /// Version, slots, and every node's share
    Status,
    /// The slot and the owner of a topic
    Owner {
        /// The topic
        #[arg(value_parser = args::topic)]
        topic: Topic,
    },
}
