//! `ringcast conn ...`: the clients' connections, as their gateways see them.

mod ask;
mod top;

use clap::{Args, Subcommand, ValueEnum};
use ringcast_proto::v1::{ConnectionOrder, ConnectionSummary};

pub(crate) use top::top;

#[derive(Debug, Subcommand)]
pub(crate) enum ConnCommand {
    /// The connections that stand out: slow readers, or who sends, receives or joins most
    Top(TopArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// What to compare
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Waiting)]
    pub(crate) by: By,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only those of this gateway
    #[arg(long, value_name = "ID")]
    pub(crate) gateway: Option<String>,
    /// Ask again every 2 s, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
}

/// What connections are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Bytes that wait to be written to it; those that lose publications first
    Waiting,
    /// Publications left out because it reads too slowly
    Dropped,
    /// Bytes written to it
    Sent,
    /// Messages received from it
    Received,
    /// Channels it has joined
    Channels,
}

impl By {
    fn order(self) -> ConnectionOrder {
        match self {
            By::Waiting => ConnectionOrder::Waiting,
            By::Dropped => ConnectionOrder::Dropped,
            By::Sent => ConnectionOrder::Sent,
            By::Received => ConnectionOrder::Received,
            By::Channels => ConnectionOrder::Channels,
        }
    }

    /// What the gateways order by, for the lists of several to become one.
    fn key(self, connection: &ConnectionSummary) -> (bool, u64) {
        match self {
            By::Waiting => (connection.slow, connection.outbox_bytes),
            By::Dropped => (false, connection.dropped),
            By::Sent => (false, connection.sent_bytes),
            By::Received => (false, connection.received_messages),
            By::Channels => (false, connection.channels),
        }
    }
}
